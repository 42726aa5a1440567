"""Seconds that a cohort of phantom exams takes with one process and with several, from start to page.

python benchmarks/cohort.py --mode=deconvolve --exams=40 --workers=2 --output=cohort.json

Compiled programs are there before the clock runs: the exams are made once untimed. Wants a machine without other
work; the load before and after stands in the record.
"""

import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from records import keep

from dscgan_jax.evaluation import exam_rows
from dscgan_jax.phantom import cohort
from dscgan_jax.processes import usable_cores

_MODE = flags.DEFINE_enum("mode", "deconvolve", ["deconvolve", "predict"], "What is made of the exams.")
_EXAMS = flags.DEFINE_integer("exams", 40, "Exams of the cohort.", lower_bound=2)
_SIZE = flags.DEFINE_integer("size", 64, "Rows and columns.", lower_bound=32)
_SLICES = flags.DEFINE_integer("slices", 8, "Slices.", lower_bound=1)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that are compared with one.", lower_bound=2)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")
MOST_FAILED = 0.1  # of the exams


def made(exams: pathlib.Path, output: pathlib.Path, workers: int) -> tuple[float, int]:
    """Wall seconds of the program, and how many exams got no maps: at this size some have no usable artery."""
    line = [sys.executable, "-m", "dscgan_jax.main", _MODE.value, str(exams), str(output), f"--workers={workers}"]
    begun = time.perf_counter()
    done = subprocess.run(line, check=False, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    rows = exam_rows.read(output / "summary.csv")
    failed = sum(row.status != exam_rows.MADE for row in rows)
    if done.returncode != (failed > 0) or len(rows) != _EXAMS.value or failed > MOST_FAILED * len(rows):
        raise AssertionError(f"{len(rows)} exams instead of {_EXAMS.value}, {failed} of them failed")
    return seconds, failed


def main(_) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        size = {"size": _SIZE.value, "slices": _SLICES.value}
        cohort.write_cohort(root / "exams", preset="acute", subjects=_EXAMS.value, seed=2024, **size)
        made(root / "exams", root / "warm", 1)
        one, failed = made(root / "exams", root / "one", 1)
        several, also_failed = made(root / "exams", root / "several", _WORKERS.value)
        if failed != also_failed:
            raise AssertionError(f"{failed} exams failed with one process, {also_failed} with several")
    record = {
        "benchmark": "cohort",
        "mode": _MODE.value,
        "exams": _EXAMS.value,
        **size,
        "failed": failed,
        "workers": _WORKERS.value,
        "cores": usable_cores(),
        "machine": platform.machine(),
        "load_average_before": load,
        "load_average_after": os.getloadavg()[0],
        "seconds_of_one": one,
        "seconds_of_several": several,
        "times_as_fast": one / several,
    }
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
