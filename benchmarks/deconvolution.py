"""Seconds and memory of the conventional maps after compilation: of many curves, and of a whole exam.

    python benchmarks/deconvolution.py --output=docs/benchmarks/deconvolution.json

The curves: 150,192 voxels x 80 frames, deconvolution and maps by each method. The exam: a phantom of 128 x 128 x 25,
from the file to maps in memory, step by step and as a whole, without and with realignment. Each method and each whole
runs in a process of its own, so that its peak memory is its own. A plain NumPy cSVD of the same curves is timed too, as
a yardstick of the machine.
"""

import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags
from records import keep

from dscgan_jax.data import exams
from dscgan_jax.methods.conventional import deconvolved
from dscgan_jax.perfusion import arterial, brain, conventional, deconvolution, kinetics, motion, parametric, signal
from dscgan_jax.phantom import acquisition, cohort
from dscgan_jax.phantom.exam import draw_phantom

_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed repeats after the first.", lower_bound=1)
_ONLY = flags.DEFINE_string("only", "", "One part in this process; used by the benchmark itself.")
_FOLDER = flags.DEFINE_string("folder", "", "Folder of the phantom exams; used by the benchmark itself.")

SHAPE = (128, 128, 21)  # of the mask that holds the curves
VOXELS, FRAMES, FRAME_SECONDS, ECHO_SECONDS = 150_192, 80, 1.5, 0.03
SIGNAL_TO_NOISE = 50.0
METHODS = ("csvd", "osvd", "parametric")
WHOLES = {"whole_still": ("sub-0001", "none"), "whole_motion": ("sub-0002", "rigid")}


def curves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue (voxel, time) and AIF (time,) in mM, and the noise of each voxel; delays of 0 to 6 s."""
    rng = np.random.default_rng(0)
    kind = rng.choice(4, VOXELS, p=[0.45, 0.40, 0.10, 0.05])
    cbf = np.array([60.0, 25.0, 20.0, 8.0])[kind] * (1 + 0.12 * rng.standard_normal(VOXELS))
    cbv = np.array([4.0, 2.0, 3.5, 1.2])[kind] * (1 + 0.08 * rng.standard_normal(VOXELS))
    seconds = np.arange(FRAMES) * FRAME_SECONDS
    perfusion = kinetics.Perfusion(
        cbf[:, None], 60 * (cbv / cbf)[:, None], rng.uniform(0, 6, VOXELS), np.full(VOXELS, 0.3)
    )
    unit = kinetics.ArterialCurve(16.0, 1.0)
    tissue = kinetics.tissue_concentration(unit, perfusion, seconds)
    height = 13.0 / (kinetics.TISSUE_RELAXIVITY * np.percentile(tissue.max(axis=1)[kind == 0], 50))
    decay = np.exp(-ECHO_SECONDS * kinetics.TISSUE_RELAXIVITY * height * tissue)
    noisy = np.hypot(
        *(np.array([decay, np.zeros_like(decay)]) + rng.standard_normal((2, *decay.shape)) / SIGNAL_TO_NOISE)
    )
    baseline = noisy[:, :10].mean(axis=1)
    delta_r2star = signal.delta_r2star(noisy.astype(np.float32), baseline.astype(np.float32), ECHO_SECONDS)
    noise = 1.0 / (SIGNAL_TO_NOISE * ECHO_SECONDS * kinetics.TISSUE_RELAXIVITY * baseline)
    return kinetics.concentration_of(delta_r2star), height * unit(seconds), noise


def timed(work: Callable[[], Any]) -> dict[str, object]:
    """First call, then the median of the repeats, s."""
    times = []
    for _ in range(1 + _REPEATS.value):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return {"first_seconds": times[0], "seconds_median": statistics.median(times[1:]), "seconds": times[1:]}


def invert(method: str) -> dict[str, object]:
    """One method on the curves."""
    tissue, artery, noise = curves()
    mask = np.zeros(np.prod(SHAPE), bool)
    mask[:VOXELS] = True
    mask, voxel_mm = mask.reshape(SHAPE), np.array([1.9, 1.9, 5.0])

    def work():
        if method == "parametric":
            parametric.fit(
                tissue,
                artery,
                FRAME_SECONDS,
                noise,
                mask=mask,
                voxel_mm=voxel_mm,
                neighbourhood_mm=conventional.Settings().neighbourhood_mm,
            )
        else:
            deconvolution.deconvolve_svd(tissue, artery, FRAME_SECONDS, method)

    before = resident_mib()
    return timed(work) | {"resident_before_mib": before, "peak_mib": peak_mib()}


def numpy_yardstick() -> dict[str, object]:
    """Plain NumPy: the cSVD as one matrix product, its largest value and where it is."""
    tissue, artery, _ = curves()
    inverse = deconvolution.circulant_inverse(artery, FRAME_SECONDS, 0.1).T.astype(np.float32)

    def work():
        response = tissue @ inverse
        return response.max(axis=1), response.argmax(axis=1)

    return timed(work)


def parts(folder: pathlib.Path) -> dict[str, object]:
    """The steps before deconvolution, on a still exam in memory."""
    exam = load(folder, "sub-0001")
    found = brain.brain_mask(exam.series, exam.affine)
    timing = signal.find_bolus(exam.series[found.tissue].mean(axis=0, dtype=np.float64))
    baseline = signal.baseline_signal(exam.series, timing)
    delta_r2star = signal.delta_r2star(exam.series, baseline, exam.echo_seconds)
    return {
        "exam": [*exam.series.shape],
        "tissue_voxels": int(found.tissue.sum()),
        "load": timed(lambda: load(folder, "sub-0001")),
        "brain_mask": timed(lambda: brain.brain_mask(exam.series, exam.affine)),
        "arterial_input": timed(
            lambda: arterial.find_arterial_input(
                delta_r2star, found.brain, baseline, timing, exam.frame_seconds, exam.echo_seconds
            )
        ),
        "realignment_still": timed(lambda: motion.realign(exam.series, exam.affine)),
    }


def whole(folder: pathlib.Path, part: str) -> dict[str, object]:
    """From the file to five maps in memory."""
    subject, realign = WHOLES[part]
    settings = conventional.Settings(motion=realign)

    def work():
        deconvolved(load(folder, subject), settings)

    return timed(work) | {"peak_mib": peak_mib()}


def load(folder: pathlib.Path, subject: str) -> exams.Exam:
    """A lone series, as --mode=deconvolve --input reads it."""
    return exams.load_exam(folder / subject / "perf" / f"{subject}_dsc.nii.gz")


def peak_mib() -> float:
    """Largest resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Resident memory."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def apart(part: str, folder: pathlib.Path) -> dict[str, object]:
    """A part in its own process."""
    done = subprocess.run(
        [sys.executable, __file__, f"--only={part}", f"--folder={folder}", f"--repeats={_REPEATS.value}"],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"{part}: {done.stdout.strip()}", file=sys.stderr)
    return json.loads(done.stdout)


def measured_here(part: str, folder: pathlib.Path) -> dict[str, object]:
    """A part in this process."""
    if part in WHOLES:
        return whole(folder, part)
    if part == "parts":
        return parts(folder)
    return numpy_yardstick() if part == "numpy_csvd" else invert(part)


def main(_) -> None:
    folder = pathlib.Path(_FOLDER.value)
    if _ONLY.value:
        print(json.dumps(measured_here(_ONLY.value, folder)))
        return
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for subject, moves in (("sub-0001", False), ("sub-0002", True)):
            cohort.write_exam(
                folder,
                subject,
                draw_phantom("acute", (2024, 1), slices=25, imperfections=acquisition.Imperfections(motion=moves)),
            )
        measured = {part: apart(part, folder) for part in ("numpy_csvd", *METHODS, "parts", *WHOLES)}
    record = {
        "benchmark": "deconvolution",
        "voxels": VOXELS,
        "frames": FRAMES,
        "cores": os.cpu_count(),
        "load_average": load_average,
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        **measured,
    }
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
