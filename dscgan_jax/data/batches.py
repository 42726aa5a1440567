"""Batches: Grain over the prepared data set, from memory or from disk, in an order that seed and step fix.

The position in the data is the number of the step and nothing else; wherever the slices are kept (in
`training.resident`: on the device), the batches are the same.
"""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from dscgan_jax.data.batch import FIELDS, Batch
from dscgan_jax.errors import InputError

Example = dict[str, Any]  # one slice as it is stored: its fields of a `Batch`, perhaps its subject and number

SCALARS = {
    "dsc_scale": np.float32,
    "baseline_begin": np.int32,
    "baseline_end": np.int32,
    "brain_signal": np.float32,
    "echo_seconds": np.float32,
    "slice_index": np.int32,
}  # TFDS hands them out as Python numbers
FLAG_FIELDS = ("has_map", "mask")  # stored as bytes


@dataclasses.dataclass(frozen=True)
class EvaluationBatch:
    """A batch of which one must know whose slices they are.

    Attributes:
      batch: the slices.
      subject: name of each slice's subject.
      slice_index: (slice,) int32, number of the slice in its exam on the network grid.
      is_padding: (slice,) bool; repeats that fill the last batch up, to be left out of every sum.
    """

    batch: Batch
    subject: Sequence[str]
    slice_index: np.ndarray
    is_padding: np.ndarray


def check_batch_size(batch_size: int, device_count: int, accumulate: int = 1, exam_slices: int = 1) -> None:
    """Raises `InputError` unless the batch, and each part it is taken in, divides over the devices.

    Of a network that sees whole exams (`exam_slices` above 1) no exam is split over devices or parts.
    """
    if exam_slices > 1:
        least = exam_slices * accumulate * device_count
        if batch_size < 1 or batch_size % least:
            raise InputError(
                f"config.train.batch_size is {batch_size}; with config.model.neighbours a batch holds whole exams of "
                f"{exam_slices} slices (config.data.slices), on {device_count} devices in {accumulate} parts: it must "
                f"be a multiple of {least}."
            )
    if accumulate > 1 and batch_size % (accumulate * device_count):
        raise InputError(
            f"config.train.accumulate is {accumulate}; on {device_count} devices config.train.batch_size "
            f"({batch_size}) must be a multiple of {accumulate * device_count}."
        )
    if batch_size < 1 or batch_size % device_count:
        nearest = max(device_count, batch_size // device_count * device_count)
        raise InputError(
            f"config.train.batch_size is {batch_size}; it must be a multiple of the {device_count} devices, for "
            f"example {nearest}."
        )


def epoch_order(seed: int, epoch: int | jax.Array, n_slices: int, exam_slices: int = 1) -> jax.Array:
    """The order of an epoch, (n_slices,) int32: the same on every kind of device, under `jit` or not.

    So many slices in a row as `exam_slices` stay together, in their order: with those of an exam, exams are shuffled.
    """
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), epoch)
    order = jax.random.permutation(key, n_slices // exam_slices)
    if exam_slices == 1:
        return order
    return (order[:, None] * exam_slices + jnp.arange(exam_slices)[None]).reshape(-1)


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Which slices a process takes in a step; the shares of all processes, in their order, are the batch."""

    seed: int
    n_slices: int
    batch_size: int
    process_index: int = 0
    process_count: int = 1
    exam_slices: int = 1  # that stay together, as in `epoch_order`

    def __call__(self, step: int) -> np.ndarray:
        """(slice,) indices. Batches straddle epochs, so no slice is left out."""
        local = _share(self.batch_size, self.process_count)
        first = step * self.batch_size + self.process_index * local
        epochs, places = np.divmod(np.arange(first, first + local), self.n_slices)
        return np.array(
            [
                _host_order(self.seed, int(epoch), self.n_slices, self.exam_slices)[place]
                for epoch, place in zip(epochs, places, strict=True)
            ]
        )


def train_batches(
    builder: Any,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    exam_slices: int = 1,
    memory_mib: float = 0,
    read_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Training batches without end; the n-th is the same however the run was interrupted.

    Each epoch is a fresh permutation, and batches straddle epochs, so no slice is left out. From memory, from disk or
    on the device (`training.resident`) the batches are identical.

    Args:
      builder: the prepared data set.
      batch_size: slices over all processes.
      seed: of the order.
      start_step: how many batches were consumed before.
      exam_slices: slices that stay together and in order: all of an exam where the network sees neighbours.
      memory_mib: a split that needs no more is read into memory once; 0 = always from disk.
      read_threads: threads that read from disk, each holding one batch ahead.
      process_index: this process, which yields its share of each batch, a run of its rows.
      process_count: how many share a batch.

    Raises:
      InputError: the training split is empty.
    """
    slices = training_slices(builder)
    order = BatchOrder(seed, len(slices), batch_size, process_index, process_count, exam_slices)
    if fits_in_memory(builder, memory_mib):
        whole = _in_memory(slices, read_threads, progress=process_index == 0)
        for step in itertools.count(start_step):
            yield whole.rows(order(step))
    batches = grain.MapDataset.range(start_step, sys.maxsize).map(lambda step: stacked(map(slices, order(step))))
    # Without a bound Grain would read 500 batches ahead, gigabytes of them.
    yield from batches.to_iter_dataset(grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=read_threads))


def training_slices(builder: Any) -> "Slices":
    """The training split on disk.

    Raises:
      InputError: it is empty, or its files are gone.
    """
    slices = Slices.of(builder, "train", FIELDS)
    if len(slices) == 0:
        raise InputError("the training split is empty; correct participants.tsv or config.data.split_fractions.")
    return slices


def training_bytes(builder: Any) -> int:
    """What the arrays of the training split need, wherever they are kept."""
    return builder.info.splits["train"].num_examples * slice_bytes(builder)


def slice_bytes(builder: Any) -> int:
    """What the arrays of one slice need."""
    features = builder.info.features
    return sum(int(np.prod(features[name].shape)) * np.dtype(features[name].np_dtype).itemsize for name in FIELDS)


def shapes(builder: Any, batch_size: int, sharding: jax.sharding.Sharding) -> Batch:
    """A training batch as shapes, before one is read."""
    features = builder.info.features
    of_fields: dict[str, Any] = {
        name: jax.ShapeDtypeStruct(
            (batch_size, *features[name].shape),
            bool if name in FLAG_FIELDS else features[name].np_dtype,
            sharding=sharding,
        )
        for name in FIELDS
    }
    return Batch(**of_fields)


def fits_in_memory(builder: Any, memory_mib: float) -> bool:
    """Whether the training split needs no more memory than that."""
    return training_bytes(builder) <= memory_mib * 2**20


def in_order(slices: "Slices", read_threads: int, *, progress: bool) -> Iterator[Example]:
    """Every slice once, in the order of the data set, with a progress bar where that takes long."""
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=4 * read_threads)
    examples = grain.MapDataset.range(len(slices)).map(slices).to_iter_dataset(options)
    yield from tqdm.tqdm(
        examples, total=len(slices), unit="slice", desc="reading", delay=3, dynamic_ncols=True, disable=not progress
    )


def stacked(examples: Iterable[Example]) -> Batch:
    """Slices -> a batch."""
    examples = list(examples)
    return Batch(**{name: np.stack([example[name] for example in examples]) for name in FIELDS})


def evaluation_slices(builder: Any, split: str) -> "Slices":
    """What `evaluation_batches` reads, opened.

    Raises:
      InputError: its files are gone.
    """
    return Slices.of(builder, split, (*FIELDS, "subject", "slice_index"))


def evaluation_batches(
    builder: Any,
    split: str,
    *,
    batch_size: int,
    read_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    slices: "Slices | None" = None,
) -> Iterator[EvaluationBatch]:
    """Each slice of a split exactly once, in the order of the data set.

    The last batch is filled up with repeats that `is_padding` marks, so that all batches have one shape. A process
    takes a run of each batch's rows, as in training.

    `slices` are those of `evaluation_slices`, where somebody comes again and again: files that are opened for each time
    are closed when the garbage collector comes by, which may be late.
    """
    slices = evaluation_slices(builder, split) if slices is None else slices
    local = _share(batch_size, process_count)
    n_slices = len(slices)
    n_padded = -(-n_slices // batch_size) * batch_size

    def padded(place: int) -> Example:
        index = place // local * batch_size + process_index * local + place % local
        return {**slices(min(index, n_slices - 1)), "is_padding": np.bool_(index >= n_slices)}

    batches = grain.MapDataset.range(n_padded // process_count).map(padded).batch(local)
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=read_threads)
    for stored in batches.to_iter_dataset(options):
        yield EvaluationBatch(
            Batch(**{name: stored[name] for name in FIELDS}),
            [str(subject) for subject in stored["subject"]],
            stored["slice_index"],
            stored["is_padding"],
        )


def _share(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise InputError(
            f"config.train.batch_size is {batch_size}; it must be a multiple of the {process_count} processes."
        )
    return batch_size // process_count


@functools.lru_cache(maxsize=16)
def _host_order(seed: int, epoch: int, n_slices: int, exam_slices: int) -> np.ndarray:
    """`epoch_order`, drawn beside the accelerator so as not to wait for its queue."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS may leave the CPU out
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        draw = jax.jit(epoch_order, static_argnames=("n_slices", "exam_slices"))
        return np.asarray(draw(seed, epoch, n_slices, exam_slices))


@dataclasses.dataclass(frozen=True)
class Slices:
    """The slices of a split on disk, each as the batches hold it."""

    source: Any
    folder: str
    fields: tuple[str, ...]

    @classmethod
    def of(cls, builder: Any, split: str, fields: tuple[str, ...]) -> "Slices":
        """Those of a split; none where it is empty.

        Raises:
          InputError: its files are gone.
        """
        if builder.info.splits[split].num_examples == 0:
            return cls([], str(builder.data_dir), fields)  # TFDS cannot open a split without files
        try:
            return cls(builder.as_data_source(split), str(builder.data_dir), fields)
        except Exception as error:  # TFDS raises many kinds for files that are gone
            raise _damaged(builder.data_dir, error) from error

    def __len__(self) -> int:
        return len(self.source)

    def __call__(self, index: int) -> Example:
        """One slice.

        Raises:
          InputError: its record is damaged.
        """
        try:
            stored = self.source[int(index)]
        except (RuntimeError, ValueError, OSError) as error:  # the records carry checksums
            raise _damaged(self.folder, error) from error
        example = {name: np.asarray(stored[name], SCALARS.get(name)) for name in self.fields}
        for name in FLAG_FIELDS:
            example[name] = example[name].astype(bool)
        if "subject" in example:
            example["subject"] = np.asarray(stored["subject"].decode(), dtype=object)
        return example

    def name(self, index: int) -> tuple[str, int]:
        """Subject and number of one slice."""
        stored = self.source[index]
        return stored["subject"].decode(), int(stored["slice_index"])


def _damaged(folder: Any, error: Exception) -> InputError:
    return InputError(
        f"{folder}: the prepared data are damaged or gone ({' '.join(str(error).split())[:120]}); remove that "
        "folder and run again."
    )


def _in_memory(slices: Slices, read_threads: int, *, progress: bool) -> Batch:
    """All slices of a split, as one batch."""
    arrays: dict[str, np.ndarray] = {}
    for index, example in enumerate(in_order(slices, read_threads, progress=progress)):
        for name, value in example.items():
            if name not in arrays:
                arrays[name] = np.empty((len(slices), *value.shape), value.dtype)
            arrays[name][index] = value
    return Batch(**arrays)
