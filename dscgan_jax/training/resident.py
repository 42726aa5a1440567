"""Training slices on the devices: read once, shuffled and gathered there, the same batches as from the host.

Every device holds all slices, series as int16, and gathers its own rows of a batch: no device waits for another, and
the host sends nothing but two numbers a step.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from dscgan_jax.data.batch import Batch
from dscgan_jax.data.batches import Slices, epoch_order, in_order, stacked
from dscgan_jax.phantom.drawn import DrawnExams, chosen_slice
from dscgan_jax.training import sharding

BLOCK = 32  # slices that travel together


def room_bytes(mesh: Mesh, step_bytes: int = 0) -> int:
    """What the data may take on each device of the mesh: what is free beside a training step, half of it at most.

    Args:
      mesh: of all processes, which all ask at once and get one answer.
      step_bytes: what a step needs beside its state.
    """
    free = min(_free_bytes(device) for device in mesh.local_devices)
    if jax.process_count() > 1:
        free_mib = multihost_utils.process_allgather(np.float32(free / 2**20))  # as bytes they would overflow int32
        free = int(free_mib.min()) * 2**20
    return max(0, min(free // 2, free - step_bytes))


def load(slices: Slices, mesh: Mesh, *, read_threads: int) -> Batch:
    """All slices as one batch, on every device of the mesh.

    Neither the host nor a device ever holds a second copy: slices arrive in blocks. Each process reads them all, for
    its own devices.
    """
    whole, fill = None, _fill_of(mesh)
    examples = in_order(slices, read_threads, progress=jax.process_index() == 0)
    for first in range(0, len(slices), BLOCK):
        block = stacked(itertools.islice(examples, BLOCK))
        whole = jax.block_until_ready(whole or _zeros(block, len(slices), mesh))  # at most one block is on its way
        whole = fill(whole, _everywhere(block, mesh), np.int32(first))
    return jax.block_until_ready(whole)


class DrawnSlices:
    """Slices of exams that are still being drawn: each is put on the devices once, when a step may first use it.

    Every exam has places for as many slices as the largest one; a batch is gathered as from `load`.
    """

    def __init__(self, exams: DrawnExams, count: int, most_slices: int, mesh: Mesh, ahead: grain.ReadOptions):
        """Waits for no exam yet.

        Args:
          exams: where they come from.
          count: how many there are.
          most_slices: of an exam.
          mesh: of all processes, each of which reads every exam.
          ahead: how many exams are read ahead.
        """
        self._exams, self._count, self._most_slices, self._mesh = exams, count, most_slices, mesh
        self._arriving = iter(grain.MapDataset.range(count).map(self._read).to_iter_dataset(ahead))
        self._n_slices: list[int] = []  # of each exam that has arrived
        self._whole: Batch | None = None
        self._fill = _fill_of(mesh)

    def batches(self, order: Callable[[int], Sequence[tuple[int, float]]], start_step: int) -> Iterator[Batch]:
        """Batches from number `start_step` on; `order` gives the positions of a step's exams, and which slices."""
        gather = jax.jit(_rows, out_shardings=sharding.split_batch(self._mesh))
        for step in itertools.count(start_step):
            places = np.array([self._place(position, chance) for position, chance in order(step)], np.int32)
            yield gather(self._whole, places)

    def _place(self, position: int, chance: float) -> int:
        """Where a slice lies; an exam that cannot be used stands for the next one."""
        for later in range(self._count):
            exam = (position + later) % self._count
            while exam >= len(self._n_slices):
                self._take_next()
            if n_slices := self._n_slices[exam]:
                return exam * self._most_slices + chosen_slice(n_slices, chance)
        raise self._exams.none_usable()

    def _take_next(self) -> None:
        n_slices, block = next(self._arriving)
        if n_slices:
            self._whole = self._whole or _zeros(block, self._count * self._most_slices, self._mesh)
            first = np.int32(len(self._n_slices) * self._most_slices)
            self._whole = self._fill(self._whole, _everywhere(block, self._mesh), first)
        self._n_slices.append(n_slices)

    def _read(self, position: int) -> tuple[int, Batch | None]:
        """Slices of an exam, the last one repeated where there are fewer than places."""
        slices = self._exams.slices_of(position)
        places = range(self._most_slices if slices else 0)
        block = stacked(slices[min(place, len(slices) - 1)] for place in places) if slices else None
        return len(slices), block


def _fill_of(mesh: Mesh) -> Callable[[Batch, Batch, np.int32], Batch]:
    return jax.jit(fill_block, donate_argnums=0, out_shardings=sharding.replicated(mesh))


def _everywhere(block: Batch, mesh: Mesh) -> Batch:
    """A block of the host on every device."""
    place = functools.partial(jax.make_array_from_process_local_data, sharding.replicated(mesh))
    return jax.tree.map(lambda values: place(values, np.shape(values)), block)


def fill_block(whole: Batch, block: Batch, first: jax.Array) -> Batch:
    """Writes a block of slices at `first`, in place where `whole` is donated."""
    return jax.tree.map(lambda into, part: jax.lax.dynamic_update_slice_in_dim(into, part, first, 0), whole, block)


def batches(
    whole: Batch, mesh: Mesh, *, batch_size: int, seed: int, start_step: int = 0, exam_slices: int = 1
) -> Iterator[Batch]:
    """What `data.batches.train_batches` yields, split over the mesh; the host waits for nothing.

    Args:
      whole: of `load`.
      mesh: the same.
      batch_size: slices over all devices.
      seed: of the order.
      start_step: how many batches were consumed before.
      exam_slices: slices that stay together and in order.
    """
    n_slices = whole.dsc.shape[0]
    draw, gather = compiled(mesh, batch_size=batch_size, seed=seed, n_slices=n_slices, exam_slices=exam_slices)
    drawn = None
    for step in itertools.count(start_step):
        epoch, first = divmod(step * batch_size, n_slices)
        if epoch != drawn:
            order, drawn = draw(np.int32(epoch)), epoch
        yield gather(whole, order, np.int32(first))


def compiled(
    mesh: Mesh, *, batch_size: int, seed: int, n_slices: int, exam_slices: int = 1
) -> tuple[Callable[..., jax.Array], Callable[..., Batch]]:
    """The two programs behind `batches`, jitted.

    `draw(epoch)` gives the orders, one after the other, of this epoch and of all that a batch beginning in it reaches.
    `gather(whole, order, first)` gives the batch whose first row is `order[first]`.
    """
    n_epochs = (n_slices + batch_size - 2) // n_slices + 1

    def draw(epoch: jax.Array) -> jax.Array:
        return jnp.concatenate([epoch_order(seed, epoch + later, n_slices, exam_slices) for later in range(n_epochs)])

    def gather(whole: Batch, order: jax.Array, first: jax.Array) -> Batch:  # each device gathers its own rows
        return _rows(whole, jax.lax.dynamic_slice_in_dim(order, first, batch_size))

    return jax.jit(draw, out_shardings=sharding.replicated(mesh)), jax.jit(
        gather, out_shardings=sharding.split_batch(mesh)
    )


def _rows(whole: Batch, places: jax.Array) -> Batch:
    return jax.tree.map(lambda values: values.at[places].get(mode="promise_in_bounds"), whole)


def _zeros(block: Batch, n_slices: int, mesh: Mesh) -> Batch:
    def zeros() -> Batch:
        return jax.tree.map(lambda values: jnp.zeros((n_slices, *values.shape[1:]), values.dtype), block)

    return jax.jit(zeros, out_shardings=sharding.replicated(mesh))()


def _free_bytes(device: jax.Device) -> int:
    """What a device has left; devices that do not say, CPUs, share the machine's memory."""
    stats = device.memory_stats()
    if stats is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count(device.platform)
    return stats["bytes_limit"] - stats["bytes_in_use"]
