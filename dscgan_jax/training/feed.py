"""Where training batches come from: the device, the host's memory, or the disk."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import ml_collections

from dscgan_jax.data import batches
from dscgan_jax.data.batch import Batch
from dscgan_jax.errors import InputError
from dscgan_jax.training import resident, sharding


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
    order = {"batch_size": config.train.batch_size, "seed": config.seed, "start_step": start}
    if fits_on_device(config, builder, mesh, step_bytes):
        where = "on the device" if mesh.size == 1 else "on each device"
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


def fits_on_device(config: ml_collections.ConfigDict, builder: Any, mesh: jax.sharding.Mesh, step_bytes: int) -> bool:
    """Whether the training slices shall and can be on every device.

    Raises:
      InputError: they shall, and there is no room.
    """
    wish = config.data.on_device
    if wish == "never" or (wish == "auto" and mesh.devices.flat[0].platform == "cpu"):
        return False
    needed, room = batches.training_bytes(builder), resident.room_bytes(mesh, step_bytes)
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
