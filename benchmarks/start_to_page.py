"""Seconds from a command to the maps and the page of one phantom exam, in processes started afresh.

python benchmarks/start_to_page.py --output=docs/benchmarks/start_to_page.json

The exam moves, so that frames are realigned. Each command is given once before; that first time, which depends on what
this machine has compiled already, stands apart. Wants a machine without other work; the load stands in the record.
"""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags
from records import keep

from dscgan_jax.data import nifti
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.exam import PHANTOM_VERSION, draw_phantom
from dscgan_jax.processes import usable_cores

_FRAMES = flags.DEFINE_integer("frames", 74, "Frames of the exam; 80 are drawn.", lower_bound=40, upper_bound=80)
_SIZE = flags.DEFINE_integer("size", 128, "Rows and columns.", lower_bound=32)
_SLICES = flags.DEFINE_integer("slices", 25, "Slices.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed starts of each command.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")
COMMANDS = {"deconvolve": ["deconvolve"], "predict": ["predict"], "both": ["predict", "--beside=parametric"]}


def write_exam(folder: pathlib.Path) -> pathlib.Path:
    """A chronic phantom exam that moves, cut to the frames that were asked for."""
    moving = acquisition.Imperfections(motion=True)
    drawn = draw_phantom("chronic", (2024, 0), size=_SIZE.value, slices=_SLICES.value, imperfections=moving)
    path = folder / "exam_dsc.nii.gz"
    timing = {"RepetitionTime": drawn.frame_seconds, "EchoTime": drawn.echo_seconds}
    series = np.asarray(drawn.series[..., : _FRAMES.value])
    nifti.write_volume(path, series, drawn.affine, dtype=np.int16, frame_seconds=drawn.frame_seconds, sidecar=timing)
    return path


def started(arguments: list[str], exam: pathlib.Path, output: pathlib.Path) -> tuple[float, float]:
    """Wall seconds of one start, and MB of its page."""
    shutil.rmtree(output, ignore_errors=True)
    mode, *others = arguments
    line = [sys.executable, "-m", "dscgan_jax.main", mode, str(exam), str(output), *others]
    begun = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    [page] = output.glob("*.html")
    return seconds, page.stat().st_size / 1e6


def measure(arguments: list[str], exam: pathlib.Path, output: pathlib.Path) -> dict[str, Any]:
    """Seconds of the first start, of the others, and MB of the page."""
    first, megabytes = started(arguments, exam, output)
    seconds = [started(arguments, exam, output)[0] for _ in range(_REPEATS.value)]
    return {
        "first_seconds": round(first, 2),
        "seconds": [round(one, 2) for one in seconds],
        "seconds_median": round(float(np.median(seconds)), 2),
        "page_megabytes": round(megabytes, 2),
    }


def main(_) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        exam = write_exam(pathlib.Path(folder))
        results = {name: measure(line, exam, pathlib.Path(folder) / "maps") for name, line in COMMANDS.items()}
    record = {
        "benchmark": "start_to_page",
        "phantom_version": PHANTOM_VERSION,
        "shape": [_SIZE.value, _SIZE.value, _SLICES.value, _FRAMES.value],
        "cores": usable_cores(),
        "machine": platform.machine(),
        "load_average_before": load,
        **results,
    }
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
