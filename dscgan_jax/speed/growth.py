"""How cost grows with the size of the work: each measured at three sizes."""

import itertools
import pathlib
from collections.abc import Callable

import ml_collections

from dscgan_jax.data import dataset, exams
from dscgan_jax.speed import inputs, timing, training
from dscgan_jax.speed.records import Record

SLICE_COUNTS, FRAME_COUNTS, SUBJECT_COUNTS = (8, 16, 24), (64, 80, 127), (1, 2, 4)


def measure_linear(config: ml_collections.ConfigDict, exam: exams.Exam, folder: pathlib.Path, repeats: int) -> Record:
    """Seconds at three sizes each: slices of a predicted exam, frames of a step (both warm), exams to prepare."""
    rows = {
        "slices": _by_slices(config, exam, folder, repeats),
        "frames": _by_frames(config, repeats),
        "subjects": _by_subjects(config, folder, repeats),
    }
    return {what: [{**row, "seconds_each": row["seconds"] / row["n"]} for row in of] for what, of in rows.items()}


def _by_slices(config: ml_collections.ConfigDict, exam: exams.Exam, folder: pathlib.Path, repeats: int) -> list[Record]:
    predictor, _ = inputs.predictor_of(config, tuple(config.target)[:1], folder)
    parts = {n: inputs.first_slices(exam, n) for n in SLICE_COUNTS}
    return [
        {"n": n, "seconds": timing.timed(lambda part=part: predictor.predict(part).volumes, repeats)["median"]}
        for n, part in parts.items()
    ]


def _by_frames(config: ml_collections.ConfigDict, repeats: int) -> list[Record]:
    measured = {
        frames: training.measure_step(inputs.with_fields(config, **{"data.frames": frames}), repeats)
        for frames in FRAME_COUNTS
    }
    return [
        {"n": frames, "seconds": step["seconds"]["median"], "counted_flops": step["counted_flops"]}
        for frames, step in measured.items()
    ]


def _by_subjects(config: ml_collections.ConfigDict, folder: pathlib.Path, repeats: int) -> list[Record]:
    rows = []
    for n in SUBJECT_COUNTS:
        root = folder / f"{n}-exams"
        splits = {f"sub-{number:04d}": "train" for number in range(n)}
        inputs.write_exams(root, splits, config, seed=2, slices=training.PIPELINE_SLICES)
        rows.append({"n": n, "seconds": timing.timed(_preparation(config, root), repeats)["median"]})
    return rows


def _preparation(config: ml_collections.ConfigDict, root: pathlib.Path) -> Callable[[], None]:
    """Work that prepares the exams of a folder, into a new cache at each call."""
    fields = {"data.root": str(root), "data.layout": "bids", "data.slices": 0}
    numbers = itertools.count()

    def prepare() -> None:
        cache = root.with_name(f"{root.name}-prepared-{next(numbers)}")
        fresh = inputs.with_fields(config, **fields, **{"data.cache_dir": str(cache)})
        dataset.prepared(fresh, for_training=False, progress=False)

    return prepare
