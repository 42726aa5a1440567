"""Speed of maps of whole exams: by a network, from program start to files, and by deconvolution."""

import functools
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from dscgan_jax.data import aif, exams, preparation, subject_files
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods import conventional
from dscgan_jax.models.networks import Variables, build
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.settings import has_batch_norm
from dscgan_jax.speed import inputs, timing
from dscgan_jax.speed.records import Record
from dscgan_jax.training.inference import compiler_options

DECONVOLUTIONS = ("csvd", "osvd", "parametric")


def norms_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """How a network's norms may work in prediction; without batch norm there is one way."""
    return ("per_slice", "running") if has_batch_norm(config.model) else ("per_slice",)


def measure_inference(
    config: ml_collections.ConfigDict, exam: exams.Exam, folder: pathlib.Path, repeats: int
) -> Record:
    """An exam of 21 slices: series in memory -> maps in memory, cold (with compilation) and warm; one map, five maps.

    `preparation` is the part of it that the host does before the network.
    """
    exam = inputs.first_slices(exam, inputs.EXAM_SLICES)
    rows: Record = {"slices": inputs.EXAM_SLICES, "size": config.data.size}
    one, _ = inputs.predictor_of(config, tuple(config.target)[:1], folder)
    five, _ = inputs.predictor_of(config, MAP_NAMES, folder)
    for name, predictor in (("one_map", one), ("five_maps", five)):
        rows[name] = {
            norm: timing.timed(lambda p=predictor, n=norm: p.predict(exam, n).volumes, repeats)
            for norm in norms_of(config)
        }
    rows["preparation"] = timing.timed(lambda: preparation.prepare(exam, five.preparation).dsc, repeats)
    return rows


def measure_start(config: ml_collections.ConfigDict, files: subject_files.SubjectFiles, folder: pathlib.Path) -> Record:
    """`--mode=predict` with five maps from its start to files on disk, in a process of its own.

    With an empty cache of compiled programs, then with the one that it left.
    """
    _, workdir = inputs.predictor_of(config, MAP_NAMES, folder)
    command = [
        sys.executable,
        "-m",
        "dscgan_jax.main",
        "--mode=predict",
        f"--workdir={workdir}",
        f"--input={files.series}",
        f"--output={folder / 'maps'}",
        f"--config.data.cache_dir={folder / 'predict_cache'}",
    ]
    return {"slices": inputs.MORE_SLICES, "first": _process_seconds(command), "again": _process_seconds(command)}


def _process_seconds(command: Sequence[str]) -> float:
    """Seconds of a process from start to end.

    Raises:
      InputError: it failed.
    """
    begin = time.perf_counter()
    # This process may hold most of a GPU's memory already.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise InputError(f"--mode=predict failed: {' '.join(done.stderr.split())[-300:]}")
    return seconds


def measure_temporal_stack(config: ml_collections.ConfigDict, repeats: int) -> Record | None:
    """The temporal stack alone, without gradients, on one batch, in turns with the yardsticks.

    None for generators without one: a plain U-Net, a light one.
    """
    if config.model.generator != "temporal":
        return None
    counted = config.train.batch_size * inputs.count(config).temporal
    networks, variables, _ = build(config.model, config.data.frames, len(config.target), 0)
    shape = (config.train.batch_size, config.data.frames, config.data.size, config.data.size)
    series = jax.random.uniform(jax.random.key(0), shape, minval=-1.0)

    @functools.partial(jax.jit, static_argnames="mode", compiler_options=compiler_options())
    def features(variables: Variables, series: jax.Array, mode: str) -> jax.Array:
        return nnx.merge(networks.generator, variables["params"], variables["stats"]).temporal(
            series, mode, jnp.dtype(networks.compute)
        )

    rows: Record = {"batch_size": config.train.batch_size, "counted_flops": counted}
    for norm in norms_of(config):
        seconds, peaks = timing.beside_yardsticks(lambda norm=norm: features(variables, series, norm), repeats)
        fraction = timing.fractions_of_peak(counted / seconds["median"], peaks)
        rows[norm] = {"seconds": seconds, "peaks": peaks, "fraction_of_peak": fraction}
    return rows


def measure_deconvolution(
    exam: exams.Exam, files: subject_files.SubjectFiles, repeats: int, methods: Sequence[str] = DECONVOLUTIONS
) -> Record:
    """Series in memory -> conventional maps in memory, with the exam's own AIF; with and without compilation."""
    given = aif.given_of(exam, aif.FROM_FOLDER, files.aif)

    def maps(method: str) -> list[np.ndarray]:
        return list(conventional.deconvolved(exam, Settings(method=method), given).maps.volumes.values())

    return {
        "exam": list(exam.series.shape),
        "methods": {method: timing.timed(lambda method=method: maps(method), repeats) for method in methods},
    }
