"""The error that a user can mend."""


class InputError(ValueError):
    """Bad input: one line that says what was expected, what came, in which file or field, and what to do.

    `main` prints the line and exits with status 1; every other exception is a defect of ours.
    """
