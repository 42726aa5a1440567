"""What training and prediction are on an H100, kernel by kernel, on a machine without one. Extra `gpu_program`.

    python benchmarks/gpu_program.py --what=train --batch=4 --config.model.compute=bfloat16 --output=step.json
    python benchmarks/gpu_program.py --all --output=docs/benchmarks/gpu_program.json

XLA compiles ahead of time for a chip that is described to it (`chip.py`); the programs are those of `programs.py`.
Read from the optimised text (`hlo.py`, `kernels.py`): kernels, bytes that they move, matrix operations, memory,
messages between devices. None of it is a time. At full size a compilation takes up to a minute and 5 GB.

Two things are not as on the chip. Without a device nobody can try tiles, so that matrix products are the library's
(Triton's are off), and cuDNN's algorithms and workspaces are not chosen: temporary memory is without the latter.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import ml_collections
import programs
from absl import app, flags
from chip import H100
from ml_collections import config_flags
from records import keep

from dscgan_jax import settings
from dscgan_jax.errors import InputError
from dscgan_jax.speed import machine
from dscgan_jax.speed.measure import sizes
from dscgan_jax.speed.records import PROGRAM, Record

_CONFIG = config_flags.DEFINE_config_file("config", "configs/temp_tmax.py", "Config file; fields as for the program.")
_WHAT = flags.DEFINE_enum("what", "train", ["train", "predict"], "The training step, or the prediction of a call.")
_DEVICES = flags.DEFINE_integer("devices", 1, "GPUs of a training step.", lower_bound=1, upper_bound=8)
_BATCH = flags.DEFINE_integer(
    "batch",
    None,
    "Slices on each device; default: config.train.batch_size, or those of one call of predict.",
    lower_bound=1,
)
_NORM = flags.DEFINE_enum(
    "norm", None, list(settings.CHOICES["evaluate.norm_at_test"]), "Statistics in predict; default: the config's."
)
_ALL = flags.DEFINE_bool("all", False, "All rows of the page, one after the other, each in a process of its own.")
_HLO = flags.DEFINE_string("hlo", "", "File for the optimised program's text; empty: none.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")

LIBRARIES = ("jax-cuda13-plugin", "nvidia-cudnn-cu13", "nvidia-cublas")  # whose versions are kept beside JAX's
OF_ROWS = ("config.model.compute", "config.model.lean", "config.train.batch_size")  # what `--all` decides


def one_row() -> Record:
    """The record of the command line's row."""
    row = programs.row_of(_CONFIG.value, _WHAT.value, _DEVICES.value, _BATCH.value, _NORM.value)
    config = programs.config_of(row, _CONFIG.value)
    program = programs.compiled(row, config, programs.described_h100s(row.devices))
    if _HLO.value:
        pathlib.Path(_HLO.value).write_text(program.as_text(), encoding="utf-8")
    return record_of(config, programs.entry_of(row, program))


def record_of(config: ml_collections.ConfigDict, row: Record) -> Record:
    """A row with what it was made of."""
    setting = sizes(config)
    for name in OF_ROWS:
        _, section, field = name.split(".")
        del setting[section][field]
    return {
        "schema": PROGRAM,
        "command": command(),
        "versions": machine.versions() | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "chip": dataclasses.asdict(H100),
        "config": setting,
        "rows": [row],
    }


def command() -> str:
    return " ".join(["python benchmarks/gpu_program.py", *sys.argv[1:]])


def all_rows() -> Record:
    """The record of `programs.ROWS`; each process gives XLA's memory back to the system.

    Raises:
      InputError: a flag or a field is given that the rows decide, or a row fails.
    """
    fields = [f"config.{path}" for path in config_flags.get_override_values(flags.FLAGS["config"])]
    given = [name for name in ("what", "devices", "batch", "norm", "hlo") if flags.FLAGS[name].present]
    if decided := [*given, *(name for name in fields if name in OF_ROWS)]:
        raise InputError(f"--{decided[0]}: --all has rows of its own; leave it out.")
    programs.described_h100s(1)
    others = [argument for argument in sys.argv[1:] if not argument.startswith(("--all", "--output"))]
    found: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "row.json"
        for row in programs.ROWS:
            line = [sys.executable, __file__, *others, *row.flags(), f"--output={path}"]
            if subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode:
                raise InputError(f"{' '.join(row.flags())}: failed; nothing is written.")
            found.append(json.loads(path.read_text(encoding="utf-8")))
            print(f"{len(found)} of {len(programs.ROWS)}: {' '.join(row.flags())}", file=sys.stderr, flush=True)
    return found[0] | {"command": command(), "rows": [row for record in found for row in record["rows"]]}


def check_files() -> None:
    """Raises `InputError` where a file could not be written in the end."""
    for name, given in (("output", _OUTPUT.value), ("hlo", _HLO.value)):
        path = pathlib.Path(given)
        if given and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise InputError(f"--{name}={given}: expected a file in a folder that is there.")


def main(_) -> None:
    # Before JAX looks for devices: the first of them would be this machine's.
    jax.config.update("jax_platforms", programs.SURROUNDINGS["JAX_PLATFORMS"])
    jax.config.update("jax_enable_compilation_cache", False)  # whose programs are for devices that are there
    try:
        check_files()
        record = all_rows() if _ALL.value else one_row()
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    own_flags = f"{os.environ.get('XLA_FLAGS', '')} {programs.SURROUNDINGS['XLA_FLAGS']}".strip()
    os.environ.update(programs.SURROUNDINGS | {"XLA_FLAGS": own_flags})
    app.run(main)
