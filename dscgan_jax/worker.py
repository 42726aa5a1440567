"""What a process of `workers` does: `python -m dscgan_jax.worker FD`, whose number is that of an open pipe."""

import contextlib
import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection

from dscgan_jax.files import name_unknown_owners
from dscgan_jax.processes import interrupted_by_signals

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's sys/prctl.h


def main(ends: Connection) -> None:
    """Takes the work, then task after task, and gives back each result, until the pipe is closed."""
    name_unknown_owners()
    _end_with_parent()
    do = ends.recv().begin()
    while True:
        ends.send(do(ends.recv()))


def _end_with_parent() -> None:
    """Asks the system for a polite end where the process that started this one is killed.

    Else this one would finish its task first, with the lock of the output, which refuses the next start. Linux alone
    can do it; elsewhere that is what happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    with (
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt),
        interrupted_by_signals(),
    ):
        main(Connection(int(sys.argv[1])))
    os._exit(0)  # whatever was half-written is removed; threads of libraries would be waited for
