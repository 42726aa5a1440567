"""The command line in this process: what `main` makes of it, without starting the program."""

import contextlib
import sys

from absl import flags

from dscgan_jax import main
from dscgan_jax.app import options


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
