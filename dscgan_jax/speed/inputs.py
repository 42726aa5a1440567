"""Made-up inputs of what is timed: untrained weights and simulated exams, as fast as real ones."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from dscgan_jax import provenance, settings
from dscgan_jax.data import exams, layouts, subject_files
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods.network import Predictor
from dscgan_jax.models import flops, networks
from dscgan_jax.phantom import cohort, exam
from dscgan_jax.training import losses, sharding, state, steps
from dscgan_jax.training.checkpoints import CheckpointRecord, Checkpoints

SUBJECT = "sub-0001"
EXAM_SLICES, MORE_SLICES = 21, 24  # of the paper's exams; of the simulated one, which three sizes divide
LEAST_SIZE = 32  # of a phantom exam, voxels along a side
SIGNAL_LIMITS = {"raw": Limits(0.0, 2000.0), "relative": Limits(0.0, 2.0), "delta_r2star": Limits(-10.0, 60.0)}
TOTAL_STEPS = 1000  # of the learning rate's schedule


def with_fields(config: ml_collections.ConfigDict, **fields: Any) -> ml_collections.ConfigDict:
    """A copy with some fields changed; `train.batch_size=8` as on the command line."""
    copy = ml_collections.ConfigDict(config.to_dict())
    for path, value in fields.items():
        section, field = path.split(".")
        copy[section][field] = value
    return copy


def own_slices(config: ml_collections.ConfigDict) -> int:
    """`data.slices` that leaves exams theirs: 0, unless the network sees whole exams of a number of its own."""
    return config.data.slices if config.model.neighbours else 0


def count(config: ml_collections.ConfigDict) -> flops.Count:
    """Operations per slice of the config; a training step has its crops, all else whole slices."""
    whole, trained = (
        flops.counted_flops(
            config.model,
            config.data.frames,
            size,
            len(config.target),
            adversarial=config.loss.objective in losses.ADVERSARIAL,
        )
        for size in (config.data.size, config.train.crop or config.data.size)
    )
    return dataclasses.replace(whole, training=trained.training, training_published=trained.training_published)


def scaling_of(config: ml_collections.ConfigDict) -> Scaling:
    """Made-up ranges in place of those of a training split."""
    return Scaling(
        config.data.signal,
        SIGNAL_LIMITS[config.data.signal],
        tuple(config.target),
        tuple(Limits(*map(float, MAPS[name].window)) for name in config.target),
        config.data.ranges == "percentile",
    )


def synthetic_batch(config: ml_collections.ConfigDict) -> Batch:
    """A training batch of noise."""
    random = np.random.default_rng(0)
    n, side = config.train.batch_size, config.data.size
    return Batch(
        dsc=random.integers(500, 1500, (n, config.data.frames, side, side), np.int16),
        dsc_scale=np.ones(n, np.float32),
        baseline_begin=np.zeros(n, np.int32),
        baseline_end=np.full(n, 8, np.int32),
        brain_signal=np.full(n, 1000, np.float32),
        echo_seconds=np.full(n, 0.03, np.float32),
        maps=random.random((n, side, side, len(MAP_NAMES)), np.float32),
        has_map=np.ones((n, len(MAP_NAMES)), bool),
        mask=np.ones((n, side, side), bool),
    )


def untrained(config: ml_collections.ConfigDict) -> tuple[networks.Networks, state.Optimisers, state.GanState]:
    """Networks of the config, their optimisers, and a state at step 0."""
    return state.create(
        config.model,
        config.train,
        frames=config.data.frames,
        n_targets=len(config.target),
        seed=0,
        total_steps=TOTAL_STEPS,
        exam_slices=settings.exam_slices(config),
    )


def training_step(config: ml_collections.ConfigDict, nets: networks.Networks, optimisers: state.Optimisers) -> Any:
    """The step as the training loop compiles it."""
    return steps.jitted_step(config, nets, optimisers, scaling_of(config), sharding.data_mesh())


def predictor_of(
    config: ml_collections.ConfigDict, targets: Sequence[str], folder: pathlib.Path
) -> tuple[Predictor, pathlib.Path]:
    """An untrained predictor of these maps for exams on their own slices (`own_slices`), and its work directory."""
    config = with_fields(config, **{"data.slices": own_slices(config)})
    config.target = tuple(targets)
    workdir = folder / "-".join(targets)
    if not workdir.exists():
        _write_untrained(config, workdir)
    return Predictor.from_run(workdir), workdir


def _write_untrained(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """A checkpoint of random weights."""
    record = CheckpointRecord(config, scaling_of(config), DataRecord(source="none"), provenance.software_versions())
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(untrained(config)[2], record, 1.0)
    checkpoints.close()


def simulated_exam(config: ml_collections.ConfigDict, folder: pathlib.Path) -> subject_files.SubjectFiles:
    """A phantom exam on disk, as large as the network grid."""
    write_exams(folder / "exams", {SUBJECT: "test"}, config, seed=1, slices=MORE_SLICES)
    return layouts.find_subjects(folder / "exams", "bids")[0]


def write_exams(
    root: pathlib.Path, splits: dict[str, str], config: ml_collections.ConfigDict, *, seed: int, slices: int
) -> None:
    """The same phantom exam for each subject of {subject: split}, on the network grid's size."""
    simulated = exam.draw_phantom("acute", (2024, seed), size=max(config.data.size, LEAST_SIZE), slices=slices)
    for subject in splits:
        cohort.write_exam(root, subject, simulated)
    layouts.write_participants(root, splits)


def first_slices(whole: exams.Exam, n: int) -> exams.Exam:
    """The same exam with fewer slices."""
    return dataclasses.replace(
        whole,
        series=whole.series[:, :, :n],
        mask=whole.mask[:, :, :n],
        maps={name: volume[:, :, :n] for name, volume in whole.maps.items()},
    )
