"""--mode=benchmark: how fast a config is on this machine."""

import pathlib
import sys
from collections.abc import Sequence

import jax
import ml_collections

from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole
from dscgan_jax.speed import measure, page, records


def run(
    config: ml_collections.ConfigDict,
    parts: Sequence[str],
    repeats: int,
    output: pathlib.Path | None,
    command: str,
) -> None:
    """The benchmark of a config as a table, and its record as a file."""
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output={output}: expected a JSON file in a folder that is there.")
    jax.config.update("jax_enable_compilation_cache", False)  # how long compilation takes is part of the answer

    def keep(record: records.Record) -> None:
        if output is not None:
            write_whole(output, records.to_text(record))

    def measured(part: str, record: records.Record) -> None:
        """Keeps it, for who is cut off, and says so on standard error: the table alone is the output."""
        keep(record)
        print(f"measured: {part}", file=sys.stderr, flush=True)

    record = measure.run(config, tuple(parts) or measure.PARTS, repeats, command, measured)
    print(page.terminal(record), end="")
    keep(record)
