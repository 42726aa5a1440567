"""Files that are never seen half-written."""

import contextlib
import glob
import grp
import os
import pathlib
import pwd
import re
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from dscgan_jax.errors import DISK_FULL, InputError, brief

IDLE_SECONDS = 86400.0  # what another machine writes and has not touched for so long was left behind


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
        user(os.getuid())
        group(os.getgid())
    except KeyError:
        pwd.getpwuid, grp.getgrgid = user_or_number, group_or_number


def partial_of(path: pathlib.Path) -> pathlib.Path:
    """Where this process writes what is to take the place of `path`; other machines may share the folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_this_machine()}.partial")


def sweep_partial(path: pathlib.Path) -> None:
    """Removes what killed processes left beside `path`."""
    for debris in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        made_by = re.fullmatch(re.escape(f".{path.name}.") + r"(\d+)(?:-([0-9a-f]{8}))?\.partial", debris.name)
        if made_by and _may_go(debris, made_by):
            if debris.is_dir():
                shutil.rmtree(debris, ignore_errors=True)
            else:
                debris.unlink(missing_ok=True)


def _may_go(debris: pathlib.Path, made_by: re.Match[str]) -> bool:
    """Whether the process (group 1) that made it lives no longer; of another machine (group 2), as far as one sees."""
    if made_by[2] in (None, _this_machine()):  # formerly without the machine
        return not _is_alive(int(made_by[1]))
    try:
        return time.time() - debris.stat().st_mtime > IDLE_SECONDS
    except OSError:  # it is gone
        return False


def _this_machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def replacing(path: pathlib.Path | str) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` once it is whole; on failure what stood there before stays.

    Raises:
      InputError: the disk is full or the folder cannot be written.
    """
    path = pathlib.Path(path)
    sweep_partial(path)
    partial = partial_of(path)
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise InputError(f"{path}: the disk is full; free some space or choose another folder.") from error
        raise InputError(f"{path}: cannot be written ({brief(error)}); choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: pathlib.Path | str, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; errors as of `replacing`.

    What is no text, as in the name of a folder that is not UTF-8, is written as its number.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def replacing_folder(path: pathlib.Path | str) -> Iterator[pathlib.Path]:
    """A folder that takes the place of `path` once it is whole; on failure what stood there before stays.

    Raises:
      InputError: the folder cannot be made, or the former one not removed.
    """
    path = pathlib.Path(path)
    sweep_partial(path)
    partial = partial_of(path)
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({brief(error)}); choose another folder.") from error
        yield partial
        try:
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(partial, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be replaced ({brief(error)}); remove it.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep_partial_folders(output: pathlib.Path) -> None:
    """Removes what killed processes left in a folder of `all_or_nothing`; that of a live one stays."""
    for debris in output.glob(".partial-*"):
        made_by = re.fullmatch(r"\.partial-(\d+)-(?:([0-9a-f]{8})-)?.*", debris.name)
        if made_by is None or _may_go(debris, made_by):
            shutil.rmtree(debris, ignore_errors=True)


@contextlib.contextmanager
def all_or_nothing(output: pathlib.Path | str) -> Iterator[pathlib.Path]:
    """A folder whose files move into `output` together; where something fails, `output` stays as it was.

    What a killed process left there is removed.
    """
    output = pathlib.Path(output)
    existed = output.is_dir()
    try:
        output.mkdir(parents=True, exist_ok=True)
        sweep_partial_folders(output)
        prefix = f".partial-{os.getpid()}-{_this_machine()}-"
        folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=output))
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
