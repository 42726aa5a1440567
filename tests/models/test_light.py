"""The light generator: a slice is its own affair, air decides nothing, any side fits."""

import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.models import light


def generator(width=8, depth=2, frames=20, **features):
    rng, sizes = np.random.default_rng(0), {"width": width, "depth": depth}
    return light.LightGenerator(frames, 3, **sizes, **features, scheme="pix2pix", rng=rng)


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


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(16, 16), (13, 18)])
def test_a_slice_becomes_as_many_maps_of_its_size_within_one(sides):
    maps = generator()(series(2, *sides), "train")
    assert maps.shape == (2, *sides, 3) and maps.dtype == jnp.float32
    assert np.abs(maps).max() < 1.0 and np.std(maps) > 0.01


@pytest.mark.slow
def test_a_slice_does_not_change_because_its_neighbours_do():
    x = series(3)
    together = generator()(x, "train")
    np.testing.assert_allclose(generator()(x[:1], "running")[0], together[0], atol=1e-6)


@pytest.mark.slow
def test_looks_begin_silent_and_then_are_heard():
    x = series(2)
    np.testing.assert_array_equal(generator(looks=2)(x, "train"), generator()(x, "train"))
    assert np.abs(speaking()(x, "train") - generator()(x, "train")).max() > 1e-3


@pytest.mark.slow
def test_looks_see_neither_other_slices_nor_air():
    x, net = series(3, 32, 32), speaking(depth=1)
    np.testing.assert_allclose(net(x[:1], "running")[0], net(x, "running")[0], atol=1e-6)
    wider = jnp.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=-1.0)
    inner = np.s_[:, 10:-10, 10:-10]
    np.testing.assert_allclose(net(wider, "train")[:, 8:-8, 8:-8][inner], net(x, "train")[inner], atol=1e-5)
    assert np.isfinite(net(jnp.full((1, 20, 16, 16), -1.0), "train")).all()


def with_aif(x, curve):
    """Slices whose corners show an AIF in the first row, and a mean curve in the last."""
    for col in (slice(None, 4), slice(-4, None)):
        x = x.at[:, :, :4, col].set(curve[None, :, None, None]).at[:, :, -4:, col].set(0.5 * curve[None, :, None, None])
    return x


@pytest.mark.slow
def test_the_aif_in_the_corners_is_heard_and_is_no_pixel():
    x, net = series(2, 32, 32), speaking(arterial_input=True)
    curves = [jnp.asarray(np.sin(np.arange(20) / pace), jnp.float32) for pace in (3.0, 4.0)]
    maps = [net(with_aif(x, curve), "train") for curve in curves]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    np.testing.assert_allclose(
        net(with_aif(x[:1], curves[0]), "running")[0], net(with_aif(x, curves[0]), "running")[0], atol=1e-6
    )
    deaf = speaking()  # to which the corners are pixels as others are
    of_air = with_aif(x, jnp.full(20, -1.0)).at[:, :, -4:].set(x[:, :, -4:])
    assert np.abs(deaf(with_aif(x, curves[0]), "train") - deaf(of_air, "train")).max() > 1e-3


def test_an_aif_needs_looks():
    with pytest.raises(ValueError, match="looks"):
        generator(arterial_input=True)


def test_the_lowest_moment_of_a_parabola_is_its_vertex_and_air_has_none():
    frame, tops = np.arange(20.0), np.array([4.3, 11.0, 15.6])
    curves = (frame[:, None] - tops) ** 2 / 50 - 0.8
    x = jnp.asarray(curves[None, :, :, None], jnp.float32)  # three rows of one pixel
    found = np.asarray(light.lowest(x))[0, :, 0]
    np.testing.assert_allclose((found[:, 0] + 1) * 19 / 2, tops, atol=1e-3)
    brute = [min(np.convolve(curve, [0.25, 0.5, 0.25], "valid")) for curve in curves.T]
    np.testing.assert_allclose(found[:, 1], brute, atol=1e-6)
    flat = np.asarray(light.lowest(jnp.zeros((1, 20, 1, 1))))
    assert np.isfinite(flat).all() and (np.abs(flat) <= 1).all()


@pytest.mark.slow
def test_a_generator_that_is_told_when_signal_is_lowest_still_sees_no_air():
    net, x = generator(depth=1, peak_time=True), series(1, 32, 32)
    np.testing.assert_array_equal(net(x, "train"), generator(depth=1)(x, "train"))  # silent at first
    net.peak.kernel[...] = jnp.asarray(np.random.default_rng(0).normal(0, 0.5, net.peak.kernel[...].shape), jnp.float32)
    assert np.abs(net(x, "train") - generator(depth=1)(x, "train")).max() > 1e-3
    wider = jnp.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=-1.0)
    inner = np.s_[0, 10:-10, 10:-10]
    np.testing.assert_allclose(net(wider, "train")[:, 8:-8, 8:-8][inner], net(x, "train")[inner], atol=1e-5)


def test_what_lies_beyond_the_ranges_is_cut_off_but_not_in_training():
    net, x = generator(), series(2)
    net.last.kernel[...] *= 200
    assert np.abs(net(x, "train")).max() > 1
    np.testing.assert_array_equal(net(x, "running"), np.clip(net(x, "train"), -1, 1))


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_slice_of_air_alone_is_finite():
    assert np.isfinite(generator()(jnp.full((1, 20, 16, 16), -1.0), "train")).all()


def test_channels_are_multiples_of_four_that_widen_and_then_stay():
    assert light.level_channels(32, 6) == (32, 48, 64, 96, 128, 128, 128)
    assert all(channels % 4 == 0 for channels in light.level_channels(20, 4))
