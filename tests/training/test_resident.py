"""Slices that live on the device: the same batches as from the host, and no device waits for another."""

import itertools
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from exams import config_of, write_fake_cohort, write_fake_exam

from dscgan_jax.data import dataset
from dscgan_jax.data.batches import stacked, train_batches, training_bytes, training_slices
from dscgan_jax.training import resident, sharding

COLLECTIVE = re.compile("all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast")
GIB = 2**30


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Seven training slices, each with its own values."""
    folder = tmp_path_factory.mktemp("resident")
    root = write_fake_cohort(folder / "root", 1, ("train",))
    write_fake_exam(root, "sub-0001", seed=1, shape=(16, 16, 7))
    return dataset.prepared(config_of(root, folder / "cache"), progress=False, for_training=False)


def loaded(data_set, n_devices=4):
    mesh = sharding.data_mesh(jax.devices()[:n_devices])
    return resident.load(training_slices(data_set), mesh, read_threads=2), mesh


def batches(data_set, count, n_devices=4, **changes):
    arrays, mesh = loaded(data_set, n_devices)
    options = {"batch_size": 4, "seed": 0} | changes
    return list(itertools.islice(resident.batches(arrays, mesh, **options), count))


def host_batches(data_set, count, **changes):
    options = {"batch_size": 4, "seed": 0, "read_threads": 2} | changes
    return list(itertools.islice(train_batches(data_set, **options), count))


def assert_equal(first, second):
    first, second = first.to_dict(), second.to_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "count", "n_devices"), [(4, 9, 4), (4, 9, 1), (16, 4, 4), (7, 4, 1), (1, 15, 1)]
)
def test_device_memory_and_disk_give_identical_batches(data_set, batch_size, count, n_devices):
    """Over more than two epochs of seven slices, with batches that straddle one epoch's end, or three."""
    for device, memory, disk in zip(
        batches(data_set, count, n_devices, batch_size=batch_size, seed=5),
        host_batches(data_set, count, batch_size=batch_size, seed=5, memory_mib=100),
        host_batches(data_set, count, batch_size=batch_size, seed=5),
        strict=True,
    ):
        assert_equal(device, memory)
        assert_equal(memory, disk)


def test_a_restart_at_any_step_goes_on_as_if_never_interrupted(data_set):
    arrays, mesh = loaded(data_set, 1)
    whole = list(itertools.islice(resident.batches(arrays, mesh, batch_size=4, seed=0), 8))
    for step in (1, 5, 7):
        resumed = resident.batches(arrays, mesh, batch_size=4, seed=0, start_step=step)
        for expected, batch in zip(whole[step:], resumed):
            assert_equal(expected, batch)


def test_the_slices_arrive_in_blocks_as_they_were_stored(data_set, monkeypatch):
    monkeypatch.setattr(resident, "BLOCK", 3)  # 3 + 3 + 1 slices
    arrays, _ = loaded(data_set)
    slices = training_slices(data_set)
    assert_equal(arrays, stacked(map(slices, range(7))))
    assert arrays.dsc.dtype == np.int16
    placed = [
        (values.sharding.is_fully_replicated, len(values.sharding.device_set)) for values in jax.tree.leaves(arrays)
    ]
    assert set(placed) == {(True, 4)}
    assert sum(values.nbytes for values in jax.tree.leaves(arrays)) == training_bytes(data_set)


def test_a_block_is_written_in_place(data_set):
    arrays, _mesh = loaded(data_set, 1)
    block = jax.tree.map(lambda values: values[:2], arrays)
    memory = (
        jax.jit(resident.fill_block, donate_argnums=0).lower(arrays, block, np.int32(0)).compile().memory_analysis()
    )
    assert memory.alias_size_in_bytes >= training_bytes(data_set)
    assert memory.temp_size_in_bytes < arrays.dsc[0].nbytes


def test_each_device_gathers_its_own_slices_alone(data_set):
    arrays, mesh = loaded(data_set)
    draw, gather = resident.compiled(mesh, batch_size=8, seed=0, n_slices=7)
    order = draw(np.int32(0))
    programs = [
        draw.lower(np.int32(0)).compile().as_text(),
        gather.lower(arrays, order, np.int32(0)).compile().as_text(),
    ]
    assert not any(COLLECTIVE.search(program) for program in programs)
    assert "s16[2,64,16,16]" in programs[1] and "s16[8,64,16,16]" not in programs[1]
    batch = gather(arrays, order, np.int32(0))
    assert batch.dsc.sharding.is_equivalent_to(sharding.split_batch(mesh), 4)


def mesh_of(**stats):
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    return SimpleNamespace(local_devices=[device], devices=np.array([device]), size=1)


def test_the_data_take_half_of_what_is_free_and_leave_the_step_its_own():
    mesh = mesh_of(bytes_limit=20 * GIB, bytes_in_use=4 * GIB)
    assert resident.room_bytes(mesh) == 8 * GIB
    assert resident.room_bytes(mesh, step_bytes=10 * GIB) == 6 * GIB
    assert resident.room_bytes(mesh, step_bytes=30 * GIB) == 0
    assert resident.room_bytes(sharding.data_mesh()) > 0  # a CPU does not say
