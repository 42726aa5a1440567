"""Where training batches come from: chosen by what fits, and the same from everywhere."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from exams import config_of, write_fake_cohort, write_fake_exam

from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import physics
from dscgan_jax.data import dataset
from dscgan_jax.data.batches import train_batches, training_bytes
from dscgan_jax.errors import InputError
from dscgan_jax.training import feed, sharding

GIB = 2**30


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Seven training slices, each with its own values."""
    folder = tmp_path_factory.mktemp("feed")
    root = write_fake_cohort(folder / "root", 1, ("train",))
    write_fake_exam(root, "sub-0001", seed=1, shape=(16, 16, 7))
    return dataset.prepared(config_of(root, folder / "cache"), progress=False, for_training=False)


def mesh_of(**stats):
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    return SimpleNamespace(local_devices=[device], devices=np.array([device]), size=1)


def settings_of(**fields):
    config = config_of("", "")
    config.update_from_flattened_dict({f"data.{name}": value for name, value in fields.items()})
    return config


def test_the_mode_is_chosen_by_what_fits(data_set):
    room, full = mesh_of(bytes_limit=GIB, bytes_in_use=0), mesh_of(bytes_limit=GIB, bytes_in_use=GIB - 1000)

    def chosen(mesh, wish):
        return feed.fits_on_device(settings_of(on_device=wish), training_bytes(data_set), mesh, 0)

    assert chosen(room, "auto") and chosen(room, "always") and not chosen(room, "never")
    assert not chosen(full, "auto")
    with pytest.raises(
        InputError, match=r"data\.on_device=always: the training slices need 0\.3 MiB, .* room for 0\.0 MiB"
    ):
        chosen(full, "always")
    assert not chosen(sharding.data_mesh(), "auto"), "a CPU's memory is where the slices lie anyway"
    assert chosen(sharding.data_mesh(), "always")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"on_device": "always"}, "7 on each device (0.3 MiB)"),
        ({"on_device": "never"}, "7 in memory (0.3 MiB)"),
        ({"memory_mib": 0}, "7 on disk (0.3 MiB)"),
    ],
)
def test_the_feed_gives_the_same_placed_batches_from_everywhere(data_set, fields, where):
    mesh, said = sharding.data_mesh(), []
    made = feed.data_feed(settings_of(**fields), data_set, mesh, 2, tell=said.append)
    host = train_batches(data_set, batch_size=4, seed=0, read_threads=2, start_step=2)
    for expected, batch in zip(itertools.islice(host, 7), made):
        for values in jax.tree.leaves(batch):
            assert values.sharding.is_equivalent_to(sharding.split_batch(mesh), values.ndim)
        assert jax.tree.map(lambda values: values.dtype, expected) == jax.tree.map(lambda values: values.dtype, batch)
        jax.tree.map(np.testing.assert_array_equal, expected, batch)
    assert said == [f"training slices: {where}"]


def test_the_next_batch_is_on_its_way_before_one_leaves():
    sent = []
    placed = (sent.append(number) or number for number in range(4))
    ahead = feed.one_ahead(next(placed), placed)
    assert next(ahead) == 0 and sent == [0, 1]
    assert list(ahead) == [1, 2, 3]


def test_drawn_exams_come_in_an_order_that_seed_and_step_fix_from_as_many_as_may_be_there():
    order = feed.DrawnOrder(3, 500, 8, 1000)
    assert order(17) == feed.DrawnOrder(3, 500, 8, 1000)(17) != order(18)
    assert order(17) != feed.DrawnOrder(4, 500, 8, 1000)(17)
    for step in (0, 100, 999):
        positions = [position for position, _ in order(step)]
        assert len(positions) == 8 and max(positions) < order.there(step)
        assert all(0 <= chance < 1 for _, chance in order(step))
    assert order.there(0) == feed.DRAWN_FIRST and order.there(375) == feed.DRAWN_FIRST + 250
    assert order.there(750) == order.there(999) == 500, "all are there by three quarters of the run"


def test_processes_share_the_rows_of_a_batch():
    shares = [list(range(8))[feed.process_rows(8, rank, 2)] for rank in range(2)]
    assert shares[0] + shares[1] == list(range(8))


@pytest.fixture(scope="module")
def drawn_beside(tmp_path_factory):
    """A config of two exams that are drawn beside the run, and a data set with slices of its shape."""
    folder = tmp_path_factory.mktemp("drawn")
    config = physics.get_config("demo")
    config.update_from_flattened_dict(
        {
            "data.cache_dir": str(folder),
            "data.size": 32,
            "train.crop": 0,
            "phantom.subjects": 3,
            "phantom.size": 32,
            "phantom.slices": 2,
            "phantom.drawn_beside": 2,
            "train.batch_size": max(2, sharding.data_mesh().size),
            "train.steps": 8,
        }
    )
    return config, prepare(config)[0]


@pytest.mark.slow
@pytest.mark.parametrize("wish", ["never", "always"])
def test_a_feed_of_drawn_exams_goes_on_where_it_was(drawn_beside, wish):
    config, builder = drawn_beside
    config.data.on_device = wish
    mesh, told = sharding.data_mesh(), []
    whole = list(itertools.islice(feed.data_feed(config, builder, mesh, 0, tell=told.append), 3))
    later = next(feed.data_feed(config, builder, mesh, 2))
    jax.tree.map(np.testing.assert_array_equal, later, whole[2])
    assert "of 2 exams, drawn into" in told[0] and ("kept on" in told[0]) == (wish == "always")


@pytest.mark.slow
def test_drawn_exams_on_the_device_make_the_same_batches(drawn_beside):
    config, builder = drawn_beside
    mesh, made = sharding.data_mesh(), {}
    for wish in ("never", "always"):
        config.data.on_device = wish
        made[wish] = list(itertools.islice(feed.data_feed(config, builder, mesh, 0), 4))
    for host, device in zip(made["never"], made["always"], strict=True):
        for values in jax.tree.leaves(device):
            assert values.sharding.is_equivalent_to(sharding.split_batch(mesh), values.ndim)
        assert jax.tree.map(lambda values: values.dtype, host) == jax.tree.map(lambda values: values.dtype, device)
        jax.tree.map(np.testing.assert_array_equal, host, device)
