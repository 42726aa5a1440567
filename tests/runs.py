"""Tiny runs shared by the tests: phantom exams of 32 x 32 x 2 and networks of width 2."""

import contextlib
import os
import pathlib
import subprocess
import sys

TINY = {
    "data.size": 32,
    "model.width": 2,
    "model.unet_width": 2,
    "model.depth": 3,
    "model.discriminator_width": 2,
    "train.steps": 6,
    "train.batch_size": 4,
    "train.log_every_steps": 1,
    "train.checkpoint_every_epochs": 1.0,
    "train.sample_every_epochs": 100.0,
    "evaluate.baselines": (),
}

# What compiles in a third of the time, for tests of anything but the temporal network.
QUICK = {
    **{
        name: value for name, value in TINY.items() if name != "model.unet_width"
    },  # which the plain U-Net does not read
    "model.generator": "unet",
    "model.depth": 2,
    "data.size": 16,
}

# Trains without evaluating: python -c DRIVER '{"train.steps": 2, ...}' WORKDIR
DRIVER = """
import json, pathlib, sys
from dscgan_jax.app.prepare import prepare
from dscgan_jax.app.start import set_up
from dscgan_jax.configs import temp_tmax
from dscgan_jax.training.loop import train
config = temp_tmax.get_config("demo")
config.update_from_flattened_dict(json.loads(sys.argv[1]))
set_up(config)
train(config, pathlib.Path(sys.argv[2]), *prepare(config))
"""


def overrides(root: pathlib.Path, cache: pathlib.Path, tiny: dict = TINY, **changes) -> list[str]:
    """Command-line arguments of a tiny run (`TINY` or `QUICK`) on the exams in `root`."""
    fields = {
        **tiny,
        "data.root": root,
        "data.cache_dir": cache,
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    return ["--config=configs/temp_tmax.py:demo", *[f"--config.{name}={value}" for name, value in fields.items()]]


def exam_overrides(root: pathlib.Path, cache: pathlib.Path, **changes) -> list[str]:
    """Command-line arguments for the same exams on the same grid, without a network.

    Of --mode=prepare and evaluate --maps.
    """
    fields = {
        "data.size": TINY["data.size"],
        "data.root": root,
        "data.cache_dir": cache,
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    return ["--config=configs/temp_tmax.py:demo", *[f"--config.{name}={value}" for name, value in fields.items()]]


def environment(**changes) -> dict[str, str]:
    """Of a process that a test starts."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", **changes}


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "dscgan_jax.main", *map(str, arguments)]


def main(*arguments, check: bool = False, file_limit: int | None = None) -> subprocess.CompletedProcess:
    """Runs the command line as a user does; `file_limit` KiB a file stands for a full disk."""
    line = command(*arguments)
    if file_limit:
        line = ["bash", "-c", f'export PYTHONDONTWRITEBYTECODE=1; ulimit -f {file_limit}; exec "$@"', "bash", *line]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    if check and done.returncode:
        raise AssertionError(f"{arguments}\n{done.stdout}\n{done.stderr}")
    return done


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    with contextlib.suppress(FileNotFoundError):
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
    return {}
