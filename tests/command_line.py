"""The command line in this process: what `main` makes of it, without starting the program."""

import contextlib
import io
import resource
import sys
import threading
import warnings
from typing import NamedTuple

from absl import flags

from dscgan_jax import main
from dscgan_jax.app import options
from dscgan_jax.figures import ink


class Done(NamedTuple):
    """What is left of a program that has ended."""

    returncode: int
    stdout: str
    stderr: str


@contextlib.contextmanager
def parsed(*arguments):
    """Within it, the flags of the program are those of these arguments."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])
    argv = sys.argv
    try:
        main.parse_flags(["dscgan_jax", *map(str, arguments)])
        yield
    finally:
        sys.argv = argv
        for name in [
            name for name in flags.FLAGS if name.startswith("config.")
        ]:  # of the overrides, defined while parsing
            delattr(flags.FLAGS, name)
        for name in options.FLAGS:  # no others: libraries define theirs while a mode runs
            flags.FLAGS[name].unparse()


def read(*arguments):
    """What is given, and the config, once all of it was found to be read.

    Raises:
      InputError: as the program.
    """
    with parsed(*arguments):
        given = main.read_command(flags.FLAGS.mode)
        return given, main.read_config(given)


def program(*arguments, check: bool = False, file_limit: int | None = None) -> Done:
    """What the program does with these arguments, as status and texts; it costs no start of a process.

    Args:
      arguments: after the name of the program.
      check: whether any other status than 0 is a failure of the test.
      file_limit: KiB that a file may have, which stands for a full disk.
    """
    ink.load_matplotlib()  # where it is imported, no process is started to draw
    out, error, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), _as_it_was(), limited_files(file_limit):
        try:
            with parsed(*arguments):
                main.main(sys.argv[:1])
        except SystemExit as end:  # as the interpreter does: a text is shown, and the status is 1
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                error.write(f"{end.code}\n")
    done = Done(status, out.getvalue(), error.getvalue())
    if check and done.returncode:
        raise AssertionError(f"{arguments}\n{done.stdout}\n{done.stderr}")
    return done


@contextlib.contextmanager
def _as_it_was():
    """Takes back what the program sets for a process of its own."""
    hooks = threading.excepthook, sys.unraisablehook
    try:
        with warnings.catch_warnings():
            yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks


@contextlib.contextmanager
def limited_files(kib: int | None):
    """Within it, no file can grow beyond that size; Python keeps no bytecode, which it would cut off in silence."""
    if kib is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    keeps, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = keeps
