"""Batches: Grain over the prepared data set, from memory or from disk, in an order that seed and step fix.

A batch is a dict of arrays whose first axis is the slice. Series travel as int16; signal conversion and scaling happen
on the device (`scaling.Scaling`). The position in the data is the number of the step and nothing else.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import grain.python as grain
import numpy as np

from dscgan_jax.data.preparation import PreparedExam
from dscgan_jax.errors import InputError

Batch = dict[str, Any]

INPUT_FIELDS = ("dsc", "dsc_scale", "baseline_begin", "baseline_end", "brain_signal", "echo_seconds")
TRAIN_FIELDS = (*INPUT_FIELDS, "maps", "has_map", "mask")
SCALARS = {"dsc_scale": np.float32, "baseline_begin": np.int32, "baseline_end": np.int32, "brain_signal": np.float32,
           "echo_seconds": np.float32, "slice_index": np.int32}  # TFDS hands them out as Python numbers
FLAG_FIELDS = ("has_map", "mask")  # stored as bytes


def check_batch_size(batch_size: int, device_count: int) -> None:
    """Raises `InputError` unless the batch divides over the devices."""
    if batch_size < 1 or batch_size % device_count:
        nearest = max(device_count, batch_size // device_count * device_count)
        raise InputError(f"config.train.batch_size is {batch_size}; it must be a multiple of the {device_count} devices, for "
                         f"example {nearest}.")


def train_batches(
    builder: Any,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    memory_mib: float = 0,
    read_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Training batches without end; the n-th is the same however the run was interrupted.

    Each epoch is a fresh permutation, and batches straddle epochs, so no slice is left out. From memory or from disk
    the batches are identical.

    Args:
      builder: the prepared data set.
      batch_size: slices over all processes.
      seed: of the order.
      start_step: how many batches were consumed before.
      memory_mib: a split that needs no more is read into memory once; 0 = always from disk.
      read_threads: threads that read from disk, each holding one batch ahead.
      process_index, process_count: this process yields its share of each batch.

    Yields:
      `dsc` (slice, time, row, col) int16, `dsc_scale`, `maps` (slice, row, col, map) float32, `has_map` (slice, map)
      bool, `mask` (slice, row, col) bool, `baseline_begin`, `baseline_end`, `brain_signal`, `echo_seconds` (slice,).

    Raises:
      InputError: the training split is empty.
    """
    slices = _Slices.of(builder, "train", TRAIN_FIELDS)
    if len(slices) == 0:
        raise InputError("the training split is empty; correct participants.tsv or config.data.split_fractions.")
    local = _share(batch_size, process_count)
    order = grain.MapDataset.range(len(slices)).seed(seed).shuffle().repeat()[process_index::process_count]
    if _fits(builder, "train", memory_mib):
        arrays = _in_memory(slices, read_threads)
        indices = order.batch(local, drop_remainder=True)
        for step in itertools.count(start_step):
            chosen = indices[step]
            yield {name: values[chosen] for name, values in arrays.items()}
    batches = order.map(slices).batch(local, drop_remainder=True)
    # Without a bound Grain would read 500 batches ahead, gigabytes of them.
    reader = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=read_threads)))
    reader.set_state({"next_index": start_step})
    yield from reader


def evaluation_batches(
    builder: Any,
    split: str,
    *,
    batch_size: int,
    read_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Each slice of a split exactly once, in the order of the data set.

    The last batch is filled up with repeats that `is_padding` marks, so that all batches have one shape.

    Yields:
      What `train_batches` yields, and `subject` (list of names), `slice_index` (slice,), `is_padding` (slice,) bool.
    """
    slices = _Slices.of(builder, split, (*TRAIN_FIELDS, "subject", "slice_index"))
    local = _share(batch_size, process_count)
    n_slices = len(slices)
    n_padded = -(-n_slices // batch_size) * batch_size
    own = grain.MapDataset.range(n_padded)[process_index::process_count]
    batches = own.map(lambda index: {**slices(min(index, n_slices - 1)),
                                     "is_padding": np.bool_(index >= n_slices)}).batch(local)
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=read_threads)
    for batch in batches.to_iter_dataset(options):
        yield {**batch, "subject": [str(subject) for subject in batch["subject"]]}


def network_inputs(batch: Batch) -> Batch:
    """What a network's forward pass needs of a batch."""
    return {name: batch[name] for name in INPUT_FIELDS}


def inputs_of_exam(prepared: PreparedExam, slices: np.ndarray) -> Batch:
    """The same for some slices of one exam that is in no data set."""
    def same(value: float, dtype: Any) -> np.ndarray:
        return np.full(len(slices), value, dtype)

    return {
        "dsc": prepared.dsc[slices],
        "dsc_scale": same(prepared.dsc_scale, np.float32),
        "baseline_begin": same(prepared.baseline_begin, np.int32),
        "baseline_end": same(prepared.baseline_end, np.int32),
        "brain_signal": same(prepared.brain_signal, np.float32),
        "echo_seconds": same(prepared.echo_seconds, np.float32),
    }


def _share(batch_size: int, process_count: int) -> int:
    check_batch_size(batch_size, process_count)
    return batch_size // process_count


@dataclasses.dataclass(frozen=True)
class _Slices:
    """The slices of a split on disk, each as the batches hold it."""

    source: Any
    folder: str
    fields: tuple[str, ...]

    @classmethod
    def of(cls, builder: Any, split: str, fields: tuple[str, ...]) -> "_Slices":
        if builder.info.splits[split].num_examples == 0:
            return cls([], str(builder.data_dir), fields)  # TFDS cannot open a split without files
        try:
            return cls(builder.as_data_source(split), str(builder.data_dir), fields)
        except Exception as error:  # TFDS raises many kinds for files that are gone
            raise _damaged(builder.data_dir, error) from error

    def __len__(self) -> int:
        return len(self.source)

    def __call__(self, index: int) -> dict[str, Any]:
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


def _damaged(folder: Any, error: Exception) -> InputError:
    return InputError(f"{folder}: the prepared data are damaged or gone ({' '.join(str(error).split())[:120]}); remove that "
                      "folder and run again.")


def _fits(builder: Any, split: str, memory_mib: float) -> bool:
    """Whether the arrays of a split need no more memory than that."""
    features = builder.info.features
    one = sum(int(np.prod(features[name].shape)) * np.dtype(features[name].np_dtype).itemsize for name in TRAIN_FIELDS)
    return builder.info.splits[split].num_examples * one <= memory_mib * 2**20


def _in_memory(slices: _Slices, read_threads: int) -> dict[str, np.ndarray]:
    """All slices of a split, one array for each field."""
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=4 * read_threads)
    arrays: dict[str, np.ndarray] = {}
    for index, example in enumerate(grain.MapDataset.range(len(slices)).map(slices).to_iter_dataset(options)):
        for name, value in example.items():
            if name not in arrays:
                arrays[name] = np.empty((len(slices), *value.shape), value.dtype)
            arrays[name][index] = value
    return arrays
