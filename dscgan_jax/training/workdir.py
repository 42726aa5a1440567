"""A work directory belongs to one run: one config, one set of exams, one process at a time."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

import ml_collections

from dscgan_jax import settings
from dscgan_jax.data.record import DataRecord
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole
from dscgan_jax.training import distributed
from dscgan_jax.training.checkpoints import FOLDER, STOPPED_FOLDER

CONFIG_FILE = "config.json"
LOCK_FILE = "run.lock"  # holds host, process and time of the run that trains here
LOCK_TRIES = 10  # a file system on which the open file is never the file of that name has no locks to rely on

_locked: set[pathlib.Path] = set()  # work directories that this process has to itself


def check_workdir(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a work directory that holds another run.

    An absent one is fine, and one of a run that was killed before its first checkpoint.

    Raises:
      InputError: names what differs.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        if has_finished_step(workdir):
            raise InputError(
                f"{workdir} holds checkpoints but no {CONFIG_FILE}; give another --workdir, or put the run's "
                f"{CONFIG_FILE} back."
            )
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        if has_finished_step(workdir):
            raise InputError(
                f"{path}: damaged ({error}); give another --workdir, or put the run's config back."
            ) from error
        return  # nothing was learned yet: it is written again
    settings.check_same_run(stored, config, workdir)


def has_finished_step(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint was written to its end; until then its folder's name is no number."""
    folders = [folder for folder in (workdir / FOLDER, workdir / STOPPED_FOLDER) if folder.is_dir()]
    return any(path.name.isdigit() for folder in folders for path in folder.iterdir())


def write_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """The config of the run, by the lead process."""
    if distributed.is_lead():
        write_whole(workdir / CONFIG_FILE, json.dumps(settings.to_json(config), indent=2) + "\n")


def check_same_data(stored: DataRecord, data: DataRecord, workdir: pathlib.Path) -> None:
    """Refuses to continue on other exams, whose order and ranges would differ.

    Raises:
      InputError: names what differs.
    """
    for name in ("splits", "ranges"):
        if getattr(stored, name) != getattr(data, name):
            raise InputError(
                f"{workdir} was trained on exams with other {name}; resume with the exams it began with, or "
                "give another --workdir."
            )


@contextlib.contextmanager
def only_run(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps a work directory for this run; made if it is absent, and removed again if nothing came into it.

    The lock is the system's and ends with this process, however that ends: a file that a killed run left is no
    obstacle. Of several processes the lead takes it; within itself it does nothing. Where the file system has no locks,
    the run goes on without.

    Raises:
      InputError: another run has it; says where and since when.
    """
    workdir = workdir.absolute()
    if not distributed.is_lead() or workdir in _locked:
        yield
        return
    existed = workdir.is_dir()
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / LOCK_FILE
    try:
        with _locked_file(path) as file:
            _locked.add(workdir)
            try:
                _sign(file)
                yield
            finally:
                _locked.discard(workdir)
                path.unlink(missing_ok=True)
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                workdir.rmdir()  # only where it is empty


def _sign(file: IO[str]) -> None:
    """Writes host, process and time into a lock file."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since}) + "\n")
    file.flush()


def _locked_file(path: pathlib.Path) -> IO[str]:
    """The file, open and locked.

    Raises:
      InputError: another process holds the lock.
    """
    for _ in range(LOCK_TRIES):
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InputError(
                f"{path.parent}: a run is going on here ({_holder(path)}); wait for its end or stop it, or give "
                "another --workdir."
            ) from error
        except OSError:
            break  # a file system without locks
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # a run that ended in this moment removed it: a lock on it would lock nobody out
    return path.open("a", encoding="utf-8") if file.closed else file


def _holder(path: pathlib.Path) -> str:
    """Who wrote a lock file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return f"on {record['host']}, process {record['process']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process has not written more yet"
