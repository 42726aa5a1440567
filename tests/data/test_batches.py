"""Batches: the same from memory and from disk, from the start and from any step, each slice as often as due."""

import inspect
import itertools
import pathlib
from collections import Counter

import jax
import numpy as np
import pytest
from exams import config_of, write_fake_cohort, write_fake_exam

from dscgan_jax.data import batches, dataset, exams, layouts, preparation
from dscgan_jax.errors import InputError


def prepared_of(root, cache):
    """Prepared without a validation split, as exams are that are only read."""
    return dataset.prepared(config_of(root, cache), progress=False, for_training=False)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Seven training slices and five test slices, each with its own values."""
    folder = tmp_path_factory.mktemp("pipeline")
    root = write_fake_cohort(folder / "root", 2, ("train", "test"))
    write_fake_exam(root, "sub-0001", seed=1, shape=(16, 16, 7))
    write_fake_exam(root, "sub-0002", seed=2, shape=(16, 16, 5))
    return prepared_of(root, folder / "cache")


def _batches(built, count, **changes):
    options = {"batch_size": 4, "seed": 0, "read_threads": 2} | changes
    return list(itertools.islice(batches.train_batches(built, **options), count))


def _names(built, split="train"):
    """Slice number by content."""
    return {example["dsc"].tobytes(): example["slice_index"] for example in built.as_data_source(split)}


def _order(built, made):
    names = _names(built)
    return [names[dsc.tobytes()] for batch in made for dsc in batch.dsc]


def _assert_equal(first, second):
    first, second = first.to_dict(), second.to_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_batch_holds_the_fields_of_the_contract(data_set):
    (batch,) = _batches(data_set, 1)
    shapes = {name: (values.shape, values.dtype.name) for name, values in batch.to_dict().items()}
    assert shapes == {
        "dsc": ((4, 64, 16, 16), "int16"),
        "dsc_scale": ((4,), "float32"),
        "maps": ((4, 16, 16, 5), "float32"),
        "has_map": ((4, 5), "bool"),
        "mask": ((4, 16, 16), "bool"),
        "baseline_begin": ((4,), "int32"),
        "baseline_end": ((4,), "int32"),
        "brain_signal": ((4,), "float32"),
        "echo_seconds": ((4,), "float32"),
    }
    assert set(batch.to_dict()) - set(batch.inputs.to_dict()) == {"maps", "has_map", "mask"}
    expected = batches.shapes(data_set, 4, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    assert jax.tree.map(lambda one: (one.shape, one.dtype), batch) == jax.tree.map(
        lambda one: (one.shape, one.dtype), expected
    )


def test_memory_and_disk_give_identical_batches(data_set):
    for disk, memory in zip(_batches(data_set, 9), _batches(data_set, 9, memory_mib=100), strict=True):
        _assert_equal(disk, memory)


def test_memory_is_used_only_where_the_split_fits(data_set, monkeypatch):
    monkeypatch.setattr(batches, "_in_memory", lambda *_: pytest.fail("read into memory"))
    _batches(data_set, 1, memory_mib=0.2)  # 7 slices of 38 KiB


@pytest.mark.parametrize("memory_mib", [0, 100])
def test_a_restart_at_any_step_goes_on_as_if_never_interrupted(data_set, memory_mib):
    whole = _batches(data_set, 8, memory_mib=memory_mib)
    for step in (1, 2, 5):  # the second batch straddles an epoch
        resumed = _batches(data_set, 8 - step, start_step=step, memory_mib=memory_mib)
        for expected, batch in zip(whole[step:], resumed, strict=True):
            _assert_equal(expected, batch)


def test_each_epoch_sees_every_slice_once_in_a_fresh_order(data_set):
    order = _order(data_set, _batches(data_set, 7))  # 28 slices, four epochs of seven
    epochs = [order[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert order == _order(data_set, _batches(data_set, 7))
    assert order != _order(data_set, _batches(data_set, 7, seed=1))


@pytest.mark.parametrize("memory_mib", [0, 100])
@pytest.mark.parametrize("process_count", [2, 4])
def test_the_shares_of_all_processes_one_behind_the_other_are_the_batch(data_set, process_count, memory_mib):
    whole = _batches(data_set, 6, memory_mib=memory_mib)
    shares = [
        _batches(data_set, 6, memory_mib=memory_mib, process_index=index, process_count=process_count)
        for index in range(process_count)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        _assert_equal(batch, jax.tree.map(lambda *values: np.concatenate(values), *parts))


@pytest.mark.parametrize(("n_slices", "batch_size"), [(7, 4), (3, 8), (8, 8), (12, 4), (5, 24)])
@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_no_slice_is_lost_or_doubled_in_any_epoch(n_slices, batch_size, process_count):
    orders = [batches.BatchOrder(3, n_slices, batch_size, index, process_count) for index in range(process_count)]
    seen = np.concatenate([order(step) for step in range(4 * n_slices) for order in orders])
    epochs = seen[: len(seen) // n_slices * n_slices].reshape(-1, n_slices)
    assert len(epochs) >= 3
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n_slices), (len(epochs), 1)))


def test_the_order_is_fixed_for_good():
    """Another order would make another run of every run that resumes."""
    assert [batches.BatchOrder(0, 7, 4)(step).tolist() for step in (0, 1, 1000)] == [
        [0, 2, 4, 1],
        [5, 3, 6, 0],
        [4, 2, 6, 5],
    ]
    assert batches.BatchOrder(1, 7, 4)(0).tolist() == [6, 1, 2, 4]


@pytest.mark.parametrize("process_count", [1, 2])
def test_exams_that_stay_together_are_shuffled_whole_and_none_is_split_over_processes(process_count):
    orders = [batches.BatchOrder(3, 12, 8, index, process_count, exam_slices=4) for index in range(process_count)]
    seen = np.concatenate([order(step) for step in range(6) for order in orders]).reshape(-1, 4)
    np.testing.assert_array_equal(seen, seen[:, :1] + np.arange(4))
    np.testing.assert_array_equal(np.sort(seen[:, 0].reshape(-1, 3)), np.tile([0, 4, 8], (4, 1)))
    assert len({tuple(epoch) for epoch in seen[:, 0].reshape(-1, 3)}) > 1


def test_a_batch_of_whole_exams_divides_over_devices_and_parts():
    batches.check_batch_size(16, 2, 2, exam_slices=4)
    with pytest.raises(InputError, match=r"batch_size is 8; .* exams of 4 slices .* a multiple of 16"):
        batches.check_batch_size(8, 4, exam_slices=4)


def test_evaluation_sees_each_slice_exactly_once_and_marks_the_padding(data_set):
    made = list(batches.evaluation_batches(data_set, "test", batch_size=4, read_threads=2))
    assert [len(one.batch.dsc) for one in made] == [4, 4]
    seen = Counter(
        (subject, int(number))
        for one in made
        for subject, number, padding in zip(one.subject, one.slice_index, one.is_padding, strict=True)
        if not padding
    )
    assert seen == {("sub-0002", number): 1 for number in range(5)}
    assert made[1].is_padding.tolist() == [False, True, True, True]
    shares = [
        list(batches.evaluation_batches(data_set, "test", batch_size=4, process_index=index, process_count=2))
        for index in (0, 1)
    ]
    assert sorted(int(n) for share in shares for b in share for n in b.slice_index[~b.is_padding]) == list(range(5))


def test_evaluation_reads_each_slice_once_and_keeps_nothing(data_set):
    assert set(inspect.signature(batches.evaluation_batches).parameters) == {
        "builder",
        "split",
        "batch_size",
        "read_threads",
        "process_index",
        "process_count",
        "slices",
    }


def test_an_empty_split_has_no_evaluation_batches_and_no_training(data_set, monkeypatch):
    assert list(batches.evaluation_batches(data_set, "validation", batch_size=4)) == []
    monkeypatch.setattr(batches.Slices, "of", lambda *_: batches.Slices([], "", ()))
    with pytest.raises(InputError, match="the training split is empty"):
        next(batches.train_batches(data_set, batch_size=4, seed=0))


def test_a_batch_must_divide_over_the_devices():
    batches.check_batch_size(8, 4)
    with pytest.raises(InputError, match=r"batch_size is 6; it must be a multiple of the 4 devices, for example 4"):
        batches.check_batch_size(6, 4)
    with pytest.raises(InputError, match=r"batch_size is 2; .* for example 8"):
        batches.check_batch_size(2, 8)


def test_slices_of_an_exam_are_the_input_of_its_batches(data_set, tmp_path):
    config_root = write_fake_cohort(tmp_path / "root", 1, ("train",))
    exam = exams.load_exam(layouts.find_subjects(config_root, "bids")[0])
    settings = preparation.PreparationSettings(16, 0, 64, "stretch", 1.5, "keep", outside_brain="zero")
    alone = preparation.prepare(exam, settings).inputs(np.array([2, 0]))
    built = prepared_of(config_root, tmp_path / "cache")
    (batch,) = _batches(built, 1, batch_size=3)
    where = [int(np.flatnonzero((batch.dsc == dsc).all(axis=(1, 2, 3)))[0]) for dsc in alone.dsc]
    _assert_equal(alone, batch.rows(where).inputs)


@pytest.mark.parametrize("memory_mib", [0, 100])
def test_flipped_bytes_in_the_prepared_data_are_noticed(tmp_path, memory_mib):
    built = prepared_of(write_fake_cohort(tmp_path / "root", 1, ("train",)), tmp_path / "cache")
    (shard,) = pathlib.Path(built.data_dir).glob("*train*")
    content = bytearray(shard.read_bytes())
    for position in range(5000, 5100):
        content[position] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"the prepared data are damaged or gone .*; remove that folder"):
        _batches(built, 1, batch_size=3, memory_mib=memory_mib)


def test_a_deleted_shard_is_noticed(tmp_path):
    built = prepared_of(write_fake_cohort(tmp_path / "root", 1, ("train",)), tmp_path / "cache")
    next(pathlib.Path(built.data_dir).glob("*train*")).unlink()
    with pytest.raises(InputError, match="the prepared data are damaged or gone"):
        _batches(built, 1, batch_size=3)
