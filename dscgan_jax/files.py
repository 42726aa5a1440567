"""Files that are never seen half-written."""

import contextlib
import grp
import os
import pathlib
import pwd
import shutil
import tempfile
from collections.abc import Iterator

from dscgan_jax.errors import InputError


def expanded(path: pathlib.Path | str, where: str) -> pathlib.Path:
    """A path with its ~, which shells leave alone in --flag=~/folder.

    Args:
      path: as it was given.
      where: the flag or field, for the error.

    Raises:
      InputError: nobody knows that home folder.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{where}={path}: the home folder is not known (HOME is not set, or there is no such user); give a path "
            "without ~."
        ) from error


def name_unknown_owners() -> None:
    """Gives users and groups without a name, as in containers, their number as one, as long as this process lives.

    Libraries ask for the names of a file's owners, only to forget them, and fail.
    """
    user, group = pwd.getpwuid, grp.getgrgid

    def user_or_number(uid: int) -> pwd.struct_passwd:
        try:
            return user(uid)
        except KeyError:
            return pwd.struct_passwd((str(uid), "x", uid, os.getgid(), "", "~", ""))  # the home folder stays unknown

    def group_or_number(gid: int) -> grp.struct_group:
        try:
            return group(gid)
        except KeyError:
            return grp.struct_group((str(gid), "x", gid, []))

    try:
        user(os.getuid()), group(os.getgid())
    except KeyError:
        pwd.getpwuid, grp.getgrgid = user_or_number, group_or_number


def write_whole(path: pathlib.Path | str, text: str) -> None:
    """Writes a text file in one step; where that fails, what stood there before stays."""
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def all_or_nothing(output: pathlib.Path | str) -> Iterator[pathlib.Path]:
    """A folder whose files move into `output` together; where something fails, `output` stays as it was."""
    output = pathlib.Path(output)
    existed = output.is_dir()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=output))
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); give another --output.") from error
    try:
        yield folder
        for path in folder.iterdir():
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                output.rmdir()  # only where nothing came into it
