"""What a process of `workers` does: `python -m dscgan_jax.methods.worker FD`, whose number is that of an open pipe."""

import contextlib
import os
import sys
from multiprocessing.connection import Connection

from dscgan_jax.files import name_unknown_owners
from dscgan_jax.processes import interrupted_by_signals


def main(ends: Connection) -> None:
    """Takes the work, then task after task, and gives back each result, until the pipe is closed."""
    name_unknown_owners()
    do = ends.recv().begin()
    while True:
        ends.send(do(ends.recv()))


if __name__ == "__main__":
    with (
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt),
        interrupted_by_signals(),
    ):
        main(Connection(int(sys.argv[1])))
    os._exit(0)  # whatever was half-written is removed; threads of libraries would be waited for
