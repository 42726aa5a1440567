"""Speed of training: the step, larger batches, and the batches that feed it."""

import math
import pathlib
import time
from typing import Any

import jax
import ml_collections

from dscgan_jax.data import dataset
from dscgan_jax.models.flops import traced_flops
from dscgan_jax.models.networks import parameter_count
from dscgan_jax.phantom import cohort
from dscgan_jax.speed import inputs, machine, timing
from dscgan_jax.speed.records import Record
from dscgan_jax.training import sharding
from dscgan_jax.training.feed import data_feed
from dscgan_jax.training.memory import compiled_within_memory

PAPER_EXAMS, PAPER_EPOCHS = 142, 100  # of the paper's training set
PIPELINE_SUBJECTS, PIPELINE_SLICES = 3, 8
WORTHWHILE = 1.02  # growth of the rate below which a larger batch no longer pays
PLACES: dict[str, dict[str, Any]] = {  # where slices may be kept, and the fields that keep them there
    "device": {"data.on_device": "always"},
    "memory": {"data.on_device": "never", "data.memory_mib": 1 << 20},
    "disk": {"data.on_device": "never", "data.memory_mib": 0},
}


def measure_step(config: ml_collections.ConfigDict, repeats: int) -> Record:
    """One training step, repeated on one batch that is on the device, in turns with the yardsticks."""
    mesh = sharding.data_mesh()
    networks, optimisers, current = inputs.untrained(config)
    parameters = {name: parameter_count(getattr(current, name)) for name in ("generator", "discriminator")}
    current = sharding.place_state(current, mesh)
    batch = sharding.place_batch(inputs.synthetic_batch(config), mesh)
    jitted = inputs.training_step(config, networks, optimisers)
    begin = time.perf_counter()
    compiled = compiled_within_memory(jitted, current, batch)
    compile_seconds = time.perf_counter() - begin
    # Before compilation: a compiled program calls libraries for its products, which the analysis cannot look into.
    lowered, traced = jitted.lower(current, batch).cost_analysis() or {}, traced_flops(jitted, current, batch)

    def step() -> Any:
        nonlocal current
        current, scalars = compiled(current, batch)
        return scalars

    jax.block_until_ready(step())
    memory = _memory_of(compiled)  # before the yardsticks, which take some of their own
    seconds, peaks = timing.beside_yardsticks(step, repeats)
    n, n_flops = config.train.batch_size, config.train.batch_size * inputs.count(config).training
    xla = {"flops": lowered.get("flops"), "bytes": (compiled.cost_analysis() or {}).get("bytes accessed")}
    return {
        "batch_size": n,
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "slices_per_second": n / seconds["median"],
        "parameters": parameters,
        **_operations(n_flops, traced, xla["flops"], seconds["median"]),
        "fraction_of_peak": timing.fractions_of_peak(n_flops / seconds["median"], peaks, mesh.size),
        **_traffic(xla["bytes"], seconds["median"], peaks["bandwidth"]),
        **memory,
        "peaks": peaks,
        "minutes_of_paper": _minutes_of_paper(n, seconds["median"]),
    }


def _memory_of(compiled: Any) -> Record:
    """Memory of a compiled program that has run once, and of this process, bytes."""
    return {
        "temporary_bytes": getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
        "device_peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        "resident_peak_bytes": machine.peak_resident_bytes(),
    }


def _operations(counted: int, traced: int, by_xla: float | None, seconds: float) -> Record:
    """Operations of a step by three counts, and their rate."""
    return {
        "counted_flops": counted,
        "traced_flops": traced,
        "counted_over_traced": counted / traced,
        "xla_flops": by_xla,
        "counted_over_xla": counted / by_xla if by_xla else None,
        "flops_per_second": counted / seconds,
    }


def _traffic(n_bytes: float | None, seconds: float, bandwidth: float) -> Record:
    """Bytes of a step, and their rate; None where XLA does not count them."""
    return {
        "xla_bytes": n_bytes,
        "bytes_per_second": n_bytes / seconds if n_bytes else None,
        "fraction_of_bandwidth": n_bytes / seconds / bandwidth if n_bytes else None,
    }


def _minutes_of_paper(batch_size: int, seconds: float) -> float:
    """Minutes of the paper's training, steps alone."""
    return PAPER_EPOCHS * math.ceil(PAPER_EXAMS * inputs.EXAM_SLICES / batch_size) * seconds / 60


def measure_best_batch(config: ml_collections.ConfigDict, repeats: int) -> list[Record]:
    """Steps of doubled batches, until slices/s grows by less than 2 % or memory runs out."""
    rows: list[Record] = []
    n = config.train.batch_size
    while len(rows) < 2 or rows[-1]["slices_per_second"] > WORTHWHILE * rows[-2]["slices_per_second"]:
        try:
            rows.append(measure_step(inputs.with_fields(config, **{"train.batch_size": n}), repeats))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            break
        n *= 2
    return rows


def measure_pipeline(config: ml_collections.ConfigDict, folder: pathlib.Path, n_batches: int) -> Record:
    """Slices/s of the training batches, on the device where the step needs them, from each place slices are kept in."""
    config = inputs.with_fields(
        config,
        **{
            "data.cache_dir": str(folder / "cache"),
            "data.slices": inputs.own_slices(config),
            "data.layout": "bids",
            "phantom.preset": "acute",
            "phantom.subjects": PIPELINE_SUBJECTS,
            "phantom.slices": PIPELINE_SLICES,
            "phantom.size": max(config.data.size, inputs.LEAST_SIZE),
        },
    )
    config.data.root = str(cohort.phantom_folder(config, folder))
    builder = dataset.prepared(config, progress=False)
    rates = {
        place: _batch_rate(inputs.with_fields(config, **fields), builder, n_batches) for place, fields in PLACES.items()
    }
    return {"slices_per_second": rates, "batches": n_batches}


def _batch_rate(config: ml_collections.ConfigDict, builder: Any, n_batches: int) -> float:
    """Slices/s after those that were read ahead before anybody asked for them."""
    feed = data_feed(config, builder, sharding.data_mesh(), 0)
    for _ in range(2 * config.data.read_threads):
        jax.block_until_ready(next(feed))
    begin = time.perf_counter()
    for _ in range(n_batches):
        jax.block_until_ready(next(feed))
    return n_batches * config.train.batch_size / (time.perf_counter() - begin)
