"""How fast exams become batches: preparing, building more than 1,000 MiB in one split, reading from disk and memory.

    python benchmarks/data.py --folder=NEW --output=data.json

writes one JSON object. Exams have the paper's size (128 x 128, 21 slices, 80 frames of noise around a bolus); all
subjects share the files of one, through hard links, because only sizes matter here. The folder is removed at the end.
"""

import argparse
import itertools
import os
import pathlib
import platform
import resource
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from records import keep

from dscgan_jax.configs import temp_tmax
from dscgan_jax.data import batches, dataset, exams, grid, layouts, nifti, preparation, subject_files
from dscgan_jax.maps import MAP_NAMES

SHAPE, FRAMES, FRAME_SECONDS = (128, 128, 21), 80, 1.5
BATCH = 4


def write_cohort(root: pathlib.Path, subjects: int) -> None:
    """Training subjects and one each for validation and test; the first is written, the others are links to it."""
    random = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = (x / 0.6) ** 2 + (y / 0.75) ** 2 < 1
    since = np.maximum((np.arange(FRAMES) - 15) / 5, 1e-9)
    curve = np.exp(-0.4 * since**2 * np.exp(2 * (1 - since)))
    series = np.where(brain, 1000, 20)[..., None] * curve + random.normal(0, 20, (*SHAPE, FRAMES))
    affine = np.diag([-1.8, 1.8, 5.0, 1.0])
    splits = {}
    for number in range(subjects + 2):
        subject = f"sub-{number:04d}"
        folder = root / subject / "perf"
        folder.mkdir(parents=True)
        splits[subject] = "validation" if number == subjects else "test" if number > subjects else "train"
        if number == 0:
            nifti.write_volume(
                folder / f"{subject}_dsc.nii.gz",
                np.abs(series),
                affine,
                dtype=np.int16,
                frame_seconds=FRAME_SECONDS,
                sidecar={"RepetitionTime": FRAME_SECONDS, "EchoTime": 0.03},
            )
            for name in MAP_NAMES:
                nifti.write_volume(folder / f"{subject}_{name}.nii.gz", np.where(brain, 3 + x, 0), affine)
            nifti.write_volume(folder / f"{subject}_mask.nii.gz", brain, affine, dtype=np.uint8)
        else:
            for path in (root / "sub-0000" / "perf").iterdir():
                os.link(path, folder / path.name.replace("sub-0000", subject))
    layouts.write_participants(root, splits)


def seconds_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """The quickest of a few runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def slices_per_second(builder: Any, n_batches: int, **options: Any) -> dict[str, float]:
    """Rate of `train_batches` after the first batch, and the time to that first batch."""
    begun = time.perf_counter()
    reader = batches.train_batches(builder, batch_size=BATCH, seed=0, **options)
    next(reader)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in itertools.islice(reader, n_batches):
        pass
    rate = n_batches * BATCH / (time.perf_counter() - begun)
    return {"slices_per_second": round(rate, 1), "first_batch_seconds": round(first, 2)}


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="a new folder; needs about 4 GB")
    parser.add_argument(
        "--subjects", type=int, default=40, help="training subjects of 21 slices; 38 pass 1,000 MiB on disk"
    )
    parser.add_argument("--batches", type=int, default=100, help="batches of 4 to read in each mode")
    parser.add_argument(
        "--consumption", type=float, default=0.0, help="slices/s that a training step takes, to compare with"
    )
    parser.add_argument("--output", type=pathlib.Path, help="where the JSON goes; default: only printed")
    arguments = parser.parse_args()
    flags.FLAGS(["benchmark"])  # Grain's threads read absl flags
    arguments.folder.mkdir(parents=True)
    try:
        record = measure(arguments)
    finally:
        shutil.rmtree(arguments.folder)
    keep(record, arguments.output)


def measure_exam(files: subject_files.SubjectFiles, settings: preparation.PreparationSettings) -> dict:
    """Seconds to read, prepare and restore one exam."""
    exam = exams.load_exam(files)
    prepared = preparation.prepare(exam, settings)
    return {
        "shape": list(exam.series.shape),
        "load_seconds": seconds_of(lambda: exams.load_exam(files)),
        "prepare_seconds": seconds_of(lambda: preparation.prepare(exam, settings)),
        "restore_five_maps_seconds": seconds_of(lambda: grid.restore(prepared.maps, prepared.grid)),
    }


def measure(arguments: argparse.Namespace) -> dict:
    """Everything, as plain numbers."""
    root = arguments.folder / "exams"
    write_cohort(root, arguments.subjects)
    config = temp_tmax.get_config()
    config.data.update(root=str(root), cache_dir=str(arguments.folder / "cache"))
    settings = preparation.PreparationSettings.from_config(config)
    record = {
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "python": platform.python_version()},
        "exam": measure_exam(layouts.find_subjects(root, "bids")[0], settings),
    }
    begun = time.perf_counter()
    builder = dataset.prepared(config)
    seconds = time.perf_counter() - begun
    train = builder.info.splits["train"]
    n_slices = sum(split.num_examples for split in builder.info.splits.values())
    example_bytes = sum(
        array.nbytes for array in builder.as_data_source("train")[0].values() if isinstance(array, np.ndarray)
    )
    record["build"] = {
        "train_slices": train.num_examples,
        "train_shards": train.num_shards,
        "train_mib": round(train.num_examples * example_bytes / 2**20, 1),
        "train_mib_on_disk": round(train.num_bytes / 2**20, 1),
        "seconds": round(seconds, 1),
        "slices_per_second": round(n_slices / seconds, 1),
        "peak_mib": peak_mib(),
    }
    record["open_again_seconds"] = seconds_of(lambda: dataset.prepared(config))
    record["disk"] = {
        f"{threads} threads": slices_per_second(builder, arguments.batches, read_threads=threads)
        for threads in (1, 2, 4)
    }
    record["disk"]["peak_mib"] = peak_mib()
    record["memory"] = slices_per_second(builder, arguments.batches, memory_mib=1e6) | {"peak_mib": peak_mib()}
    if arguments.consumption:
        best = max(rate["slices_per_second"] for rate in record["disk"].values() if isinstance(rate, dict))
        record["consumption"] = {
            "slices_per_second": arguments.consumption,
            "disk_over_consumption": round(best / arguments.consumption, 1),
            "memory_over_consumption": round(record["memory"]["slices_per_second"] / arguments.consumption, 1),
        }
    return record


if __name__ == "__main__":
    main()
