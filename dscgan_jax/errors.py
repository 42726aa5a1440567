"""The error that a user can mend."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, or a limit on the size of files


class InputError(ValueError):
    """Bad input: one line that says what was expected, what came, in which file or field, and what to do.

    `main` prints the line and exits with status 1; every other exception is a defect of ours.
    """
