"""Which of the files of an exam are there."""

import pathlib
from collections.abc import Sequence

from dscgan_jax.errors import InputError


def is_there(path: pathlib.Path) -> bool:
    """A link that leads nowhere is there too, and an error once it is read.

    Its place must not be taken by another file.
    """
    return path.is_file() or path.is_symlink()


def leads_nowhere(path: pathlib.Path) -> bool:
    """A link to a folder that is not there: its subject must not vanish."""
    return path.is_symlink() and not path.exists()


def only_one(paths: Sequence[pathlib.Path]) -> pathlib.Path | None:
    """The one of these files that is there; None where none is.

    Raises:
      InputError: several are.
    """
    present = [path for path in paths if is_there(path)]
    if len(present) > 1:
        raise InputError(
            f"{present[1]}: expected one such file of a subject, {present[0].name} is there too; remove one."
        )
    return present[0] if present else None
