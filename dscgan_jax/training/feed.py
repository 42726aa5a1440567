"""Where training batches come from: the device, the host's memory, or the disk."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain.python as grain
import jax
import ml_collections
import numpy as np

from dscgan_jax import settings
from dscgan_jax.data import batches
from dscgan_jax.data.batch import Batch
from dscgan_jax.errors import InputError
from dscgan_jax.phantom.drawn import Drawing, DrawnExams
from dscgan_jax.training import resident, sharding

# Exams that are drawn beside the run: the first batches choose from a few, and by this share of the steps from all.
DRAWN_FIRST, DRAWN_BY = 32, 0.75
CORES_FOR_THE_RUN = 2  # where an accelerator takes the steps, the other cores draw


def data_feed(
    config: ml_collections.ConfigDict,
    builder: Any,
    mesh: jax.sharding.Mesh,
    start: int,
    step_bytes: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Batch]:
    """Training batches on the devices, from number `start` on: the same wherever the slices are kept.

    Args:
      config: decides where they may be kept.
      builder: the prepared data set.
      mesh: batches are split over it; each process sends its share.
      start: how many batches were consumed before.
      step_bytes: what a step needs on each device beside its state.
      tell: receives a line about where the slices are kept, in the lead process.

    Raises:
      InputError: the slices shall be on the device, which has no room for them.
    """
    drawing = Drawing.from_config(config)
    if config.phantom.drawn_beside and not config.data.root:  # with it the exams are those of that folder
        return _drawn_feed(config, drawing, builder, mesh, start, step_bytes, tell)
    order = {
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "start_step": start,
        "exam_slices": settings.exam_slices(config),
    }
    if fits_on_device(config, batches.training_bytes(builder), mesh, step_bytes):
        where = _on_device(mesh)
        arrays = resident.load(batches.training_slices(builder), mesh, read_threads=config.data.read_threads)
        feed = resident.batches(arrays, mesh, **order)
    else:
        where = "in memory" if batches.fits_in_memory(builder, config.data.memory_mib) else "on disk"
        from_host = batches.train_batches(
            builder,
            **order,
            memory_mib=config.data.memory_mib,
            read_threads=config.data.read_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        placed = (sharding.place_batch(batch, mesh) for batch in from_host)
        feed = one_ahead(next(placed), placed)
    if jax.process_index() == 0:
        tell(
            f"training slices: {builder.info.splits['train'].num_examples} {where} "
            f"({batches.training_bytes(builder) / 2**20:,.1f} MiB)"
        )
    return feed


def _drawn_feed(
    config: ml_collections.ConfigDict,
    drawing: Drawing,
    builder: Any,
    mesh: jax.sharding.Mesh,
    start: int,
    step_bytes: int,
    tell: Callable[[str], None],
) -> Iterator[Batch]:
    """Batches of exams that are drawn beside the run; which ones, the seed and the step's number say."""
    count = int(config.phantom.drawn_beside)
    folder = drawing.folder(config.data.cache_dir)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    processes = None if on_cpu else max((os.cpu_count() or 1) - CORES_FOR_THE_RUN, 1)
    drawn = DrawnExams(drawing, folder, int(config.phantom.subjects), count, processes)  # those before: the cohort's
    total = settings.total_steps(config, builder.info.splits["train"].num_examples)
    order = DrawnOrder(config.seed, count, config.train.batch_size, total)
    resident_bytes = count * drawing.most_slices * batches.slice_bytes(builder)
    on_device = fits_on_device(config, resident_bytes, mesh, step_bytes)
    if jax.process_index() == 0:
        where = f", kept {_on_device(mesh)} ({resident_bytes / 2**20:,.1f} MiB)" if on_device else ""
        tell(f"training slices: of {count} exams, drawn into {folder} while the run goes on{where}")
    n_threads = config.data.read_threads
    ahead = grain.ReadOptions(num_threads=n_threads, prefetch_buffer_size=n_threads)
    if on_device:
        return resident.DrawnSlices(drawn, count, drawing.most_slices, mesh, ahead).batches(order, start)
    rows = process_rows(config.train.batch_size, jax.process_index(), jax.process_count())
    batch_of = grain.MapDataset.range(start, sys.maxsize).map(
        lambda step: batches.stacked(drawn.slice_of(position, chance) for position, chance in order(step)[rows])
    )
    placed = (sharding.place_batch(batch, mesh) for batch in batch_of.to_iter_dataset(ahead))
    return one_ahead(next(placed), placed)


def batch_names(config: ml_collections.ConfigDict, builder: Any, step: int) -> str:
    """Subjects and slices of the batch that a step is made from: `sub-0001 (slices 3, 5), sub-0004 (slice 1)`.

    Of drawn exams the number; which of their slices it was, only the exam says.
    """
    n_slices = builder.info.splits["train"].num_examples
    if config.phantom.drawn_beside and not config.data.root:
        count, total = int(config.phantom.drawn_beside), settings.total_steps(config, n_slices)
        first, order = int(config.phantom.subjects), DrawnOrder(config.seed, count, config.train.batch_size, total)
        return ", ".join(f"drawn exam {first + number}" for number in sorted({one for one, _ in order(step - 1)}))
    order = batches.BatchOrder(config.seed, n_slices, config.train.batch_size, exam_slices=settings.exam_slices(config))
    slices = batches.Slices.of(builder, "train", ("subject", "slice_index"))
    found: dict[str, set[int]] = {}
    for index in order(step - 1):
        subject, number = slices.name(int(index))
        found.setdefault(subject, set()).add(number)
    return ", ".join(
        f"{subject} (slice{'s' * (len(numbers) > 1)} {', '.join(map(str, sorted(numbers)))})"
        for subject, numbers in sorted(found.items())
    )


def _on_device(mesh: jax.sharding.Mesh) -> str:
    return "on the device" if mesh.size == 1 else "on each device"


def process_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a batch that a process sends."""
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


class DrawnOrder:
    """Which drawn exams a step takes: any of those that may be there by then, evenly."""

    def __init__(self, seed: int, count: int, batch_size: int, total_steps: int):
        self._seed, self._count, self._batch_size = seed, count, batch_size
        self._per_step = count / (DRAWN_BY * total_steps)

    def there(self, step: int) -> int:
        """How many exams the batch of a step chooses from."""
        return min(DRAWN_FIRST + math.ceil(step * self._per_step), self._count)

    def __call__(self, step: int) -> list[tuple[int, float]]:
        """Position of the exam, and a number in 0..1 that says which of its slices."""
        rng = np.random.default_rng((self._seed, 4211, step))
        positions, chances = rng.integers(self.there(step), size=self._batch_size), rng.random(self._batch_size)
        return [(int(one), float(other)) for one, other in zip(positions, chances, strict=True)]


def fits_on_device(config: ml_collections.ConfigDict, needed: int, mesh: jax.sharding.Mesh, step_bytes: int) -> bool:
    """Whether training slices of so many bytes shall and can be on every device.

    Raises:
      InputError: they shall, and there is no room.
    """
    wish = config.data.on_device
    if wish == "never" or (wish == "auto" and mesh.devices.flat[0].platform == "cpu"):
        return False
    room = resident.room_bytes(mesh, step_bytes)
    if wish == "always" and needed > room:
        raise InputError(
            f"config.data.on_device=always: the training slices need {needed / 2**20:,.1f} MiB, beside a training "
            f"step each device has room for {room / 2**20:,.1f} MiB; set it to auto or never."
        )
    return needed <= room


def one_ahead(first: Any, later: Iterable[Any]) -> Iterator[Any]:
    """`first`, then all of `later`; each leaves only when the next is on its way."""
    for following in later:
        yield first
        first = following
    yield first
