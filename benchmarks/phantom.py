"""Seconds that one phantom exam of 128 x 128 x 21 x 80 takes to simulate, without writing it.

python benchmarks/phantom.py --exams=5 --output=phantom.json
"""

import dataclasses
import os
import platform
import time

import numpy as np
from absl import app, flags
from records import keep

from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.exam import PHANTOM_VERSION, draw_phantom

_EXAMS = flags.DEFINE_integer(
    "exams", 5, "Exams to simulate; the first one also warms up and is listed apart.", lower_bound=2
)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")


def measure(exams: int, moving: bool) -> list[float]:
    """Wall seconds of each exam; `chronic` has 80 frames."""
    imperfections = dataclasses.replace(acquisition.REAL, motion=moving)
    seconds = []
    for seed in range(exams):
        begin = time.perf_counter()
        phantom = draw_phantom("chronic", (2024, seed), size=128, slices=21, imperfections=imperfections)
        seconds.append(time.perf_counter() - begin)
    shape = phantom.series.shape
    if shape[:3] != (128, 128, 21):
        raise AssertionError(f"simulated {shape} instead of 128 x 128 x 21")
    return seconds


def main(_) -> None:
    still, moving = measure(_EXAMS.value, moving=False), measure(_EXAMS.value, moving=True)
    record = {
        "benchmark": "phantom",
        "phantom_version": PHANTOM_VERSION,
        "shape": [128, 128, 21, 80],
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "first_seconds": still[0],
        "seconds": still[1:],
        "seconds_median": float(np.median(still[1:])),
        "moving_seconds": moving[1:],
        "moving_seconds_median": float(np.median(moving[1:])),
    }
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
