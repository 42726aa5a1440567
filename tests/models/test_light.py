"""The light generator: a slice is its own affair, air decides nothing, any side fits."""

import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.models import light


def generator(width=8, depth=2, frames=20, looks=0):
    rng = np.random.default_rng(0)
    return light.LightGenerator(frames, 3, width=width, depth=depth, looks=looks, scheme="pix2pix", rng=rng)


def speaking(looks=2, **sizes):
    """A generator whose looks say something: what they add begins with zeros."""
    net = generator(looks=looks, **sizes)
    for number, layer in enumerate((net.said, net.filters)):
        values = np.random.default_rng(number).normal(0, 0.1, layer.kernel[...].shape)
        layer.kernel[...] = jnp.asarray(values, jnp.float32)
    return net


def series(n=3, rows=16, cols=16, frames=20):
    values = np.random.default_rng(1).uniform(-0.5, 0.9, (n, frames, rows, cols)).astype(np.float32)
    values[:, :, :4] = -1.0
    return jnp.asarray(values)


@pytest.mark.parametrize("sides", [(16, 16), (13, 18)])
def test_a_slice_becomes_as_many_maps_of_its_size_within_one(sides):
    maps = generator()(series(2, *sides), "train")
    assert maps.shape == (2, *sides, 3) and maps.dtype == jnp.float32
    assert np.abs(maps).max() < 1.0 and np.std(maps) > 0.01


def test_a_slice_does_not_change_because_its_neighbours_do():
    x = series(3)
    together = generator()(x, "train")
    np.testing.assert_allclose(generator()(x[:1], "running")[0], together[0], atol=1e-6)


def test_looks_begin_silent_and_then_are_heard():
    x = series(2)
    np.testing.assert_array_equal(generator(looks=2)(x, "train"), generator()(x, "train"))
    assert np.abs(speaking()(x, "train") - generator()(x, "train")).max() > 1e-3


def test_looks_see_neither_other_slices_nor_air():
    x, net = series(3, 32, 32), speaking(depth=1)
    np.testing.assert_allclose(net(x[:1], "running")[0], net(x, "running")[0], atol=1e-6)
    wider = jnp.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=-1.0)
    inner = np.s_[:, 10:-10, 10:-10]
    np.testing.assert_allclose(net(wider, "train")[:, 8:-8, 8:-8][inner], net(x, "train")[inner], atol=1e-5)
    assert np.isfinite(net(jnp.full((1, 20, 16, 16), -1.0), "train")).all()


def test_what_lies_beyond_the_ranges_is_cut_off_but_not_in_training():
    net, x = generator(), series(2)
    net.last.kernel[...] *= 200
    assert np.abs(net(x, "train")).max() > 1
    np.testing.assert_array_equal(net(x, "running"), np.clip(net(x, "train"), -1, 1))


def test_air_around_a_slice_does_not_change_its_context():
    net, x = generator(depth=1), series(1, 32, 32)
    wider = jnp.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=-1.0)
    inner = np.s_[0, 10:-10, 10:-10]  # away from the border, which zeros outside the picture reach
    np.testing.assert_allclose(net(wider, "train")[:, 8:-8, 8:-8][inner], net(x, "train")[inner], atol=1e-5)


def test_half_the_dose_changes_no_map():
    x = series(2)
    level = x.mean(axis=1, keepdims=True)
    half = jnp.where(x > -1, level + 0.5 * (x - level), x)
    np.testing.assert_allclose(generator()(half, "train"), generator()(x, "train"), atol=1e-5)


def test_a_slice_of_air_alone_is_finite():
    assert np.isfinite(generator()(jnp.full((1, 20, 16, 16), -1.0), "train")).all()


def test_channels_are_multiples_of_four_that_widen_and_then_stay():
    assert light.level_channels(32, 6) == (32, 48, 64, 96, 128, 128, 128)
    assert all(channels % 4 == 0 for channels in light.level_channels(20, 4))
