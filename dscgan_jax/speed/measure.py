"""How fast a config is on this machine, as one JSON record.

Measured are the training step, the batches, whole exams, conventional maps, and how cost grows. `page` turns records
into tables. What cannot be measured here is null, never estimated.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections

from dscgan_jax import settings
from dscgan_jax.data import batches, exams
from dscgan_jax.errors import InputError
from dscgan_jax.speed import growth, inputs, machine, prediction, timing, training
from dscgan_jax.speed.records import BENCHMARK, Record
from dscgan_jax.training.memory import out_of_memory_named

PARTS = ("step", "pipeline", "inference", "deconvolution", "linear")
OPTIONAL_PARTS = ("best_batch",)  # doubles the batch until it no longer pays: minutes


def run(
    config: ml_collections.ConfigDict,
    parts: Sequence[str] = PARTS,
    repeats: int = 20,
    command: str = "",
    progress: Callable[[str, Record], object] = lambda *_: None,
) -> Record:
    """Measures.

    Args:
      config: its sizes, networks and batch size count; its data do not.
      parts: of `PARTS` and `OPTIONAL_PARTS`.
      repeats: timed steps; exams are repeated a quarter as often.
      command: the command line that the record names.
      progress: called with the name of each part that is done, and the record so far.

    Raises:
      InputError: the config could not work, a part is unknown, or memory runs out.
    """
    settings.check(config)
    known = (*PARTS, *OPTIONAL_PARTS)
    if unknown := set(parts) - set(known):
        raise InputError(f"--parts={','.join(sorted(unknown))}: unknown; known are {', '.join(known)}.")
    batches.check_batch_size(
        config.train.batch_size, jax.device_count(), config.train.accumulate, settings.exam_slices(config)
    )
    record = {
        "schema": BENCHMARK,
        "command": command,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "load_before": os.getloadavg()[0],
        "config": sizes(config),
        "counted": dataclasses.asdict(inputs.count(config)),
    }
    with out_of_memory_named(config), tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, work in _works(config, set(parts), folder, repeats):
            record[name] = work()
            progress(name.replace("_", " "), record)
    if "step" in record:
        record["peaks"] = record["step"]["peaks"]
    record["load_after"] = os.getloadavg()[0]
    record["peak_resident_bytes"] = machine.peak_resident_bytes()
    return record


def sizes(config: ml_collections.ConfigDict) -> Record:
    """The fields of a config that decide its speed."""
    return {
        "model": settings.to_json(config.model),
        "train": settings.to_json(config.train),
        "size": config.data.size,
        "frames": config.data.frames,
        "signal": config.data.signal,
        "target": list(config.target),
    }


def _works(
    config: ml_collections.ConfigDict, parts: set[str], folder: pathlib.Path, repeats: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Entries of the record and the work that measures each, in the order in which they are to run.

    The step comes first, so that the peak of the device's memory is its own.
    """
    few = max(2, repeats // 4)
    if "step" in parts:
        yield "step", lambda: training.measure_step(config, repeats)
    else:
        yield "peaks", timing.measure_peaks
    if "best_batch" in parts:
        yield "best_batch", lambda: training.measure_best_batch(config, few)
    if "pipeline" in parts:
        yield "pipeline", lambda: training.measure_pipeline(config, folder, 2 * repeats)
    if not parts & {"inference", "deconvolution", "linear"}:
        return
    files = inputs.simulated_exam(config, folder)
    exam = exams.load_exam(files)
    if "inference" in parts:
        yield "inference", lambda: prediction.measure_inference(config, exam, folder, few)
        yield "start_to_files", lambda: prediction.measure_start(config, files, folder)
        yield "temporal_stack", lambda: prediction.measure_temporal_stack(config, few)
    if "deconvolution" in parts:
        yield "deconvolution", lambda: prediction.measure_deconvolution(exam, files, few)
    if "linear" in parts:
        yield "linear", lambda: growth.measure_linear(config, exam, folder, few)
