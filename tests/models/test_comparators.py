"""The comparators: what a pixel sees, what it costs, and that each can learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dscgan_jax.configs import comparators as configs
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.models import comparators, flops, networks
from dscgan_jax.settings import has_batch_norm

FRAMES, WIDTH, DEPTH = 24, 4, 2
ALL = ("voxel", "patch", "stunet")


@functools.cache
def built(name, *, frames=FRAMES, n_out=2, width=WIDTH):
    model = configs.get_config(name).model
    model.width, model.depth = width, DEPTH
    return networks.build(model, frames, n_out, 0)[:2]


@functools.partial(jax.jit, static_argnums=(0, 3))
def generated(nets, variables, series, mode):
    return nets.generate(variables, series, mode)[0]


def maps_of(name, series, mode="running"):
    return np.asarray(generated(*built(name), series, mode))


def series(n=2, rows=12, cols=12, frames=FRAMES):
    return jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.9, (n, frames, rows, cols)).astype(np.float32))


def changed_pixels(name, row, col):
    """Rows and columns, from (row, col), of the pixels whose maps change with that pixel's curve."""
    x = series(1, 12, 12)
    other = x.at[:, :, row, col].add(jnp.linspace(0, 0.3, FRAMES)[None])
    difference = maps_of(name, other, "train") - maps_of(name, x, "train")
    return np.argwhere(np.abs(difference[0]).max(axis=-1) > 1e-6) - (row, col)


def boluses(n=2, side=8, frames=FRAMES):
    """Gaussian dips at drawn times (slice, time, row, col), and those times in [-1, 1] (slice, row, col, 1)."""
    peak = np.random.default_rng(2).uniform(0.3, 0.7, (n, side, side)).astype(np.float32)
    time = np.linspace(0, 1, frames, dtype=np.float32)[None, :, None, None]
    dips = 0.5 - 0.8 * np.exp(-0.5 * ((time - peak[:, None]) / 0.08) ** 2)
    return jnp.asarray(dips), jnp.asarray(5.0 * (peak - 0.5))[..., None]


@pytest.mark.parametrize("name", ALL)
def test_a_slice_of_odd_sides_becomes_maps_within_one(name):
    x = series(2, 7, 10)
    maps = maps_of(name, x)
    assert maps.shape == (2, 7, 10, 2) and maps.dtype == np.float32
    assert np.abs(maps).max() <= 1.0 and np.std(maps) > 1e-3
    np.testing.assert_array_equal(maps_of(name, x.at[1].set(-1.0))[0], maps[0])  # no other slice has a say


def test_a_voxel_depends_on_its_own_curve_alone():
    assert changed_pixels("voxel", 4, 9).tolist() == [[0, 0]]


def test_a_patch_depends_on_all_its_pixels_and_on_none_beyond():
    radius = comparators.PATCH_RADIUS
    offsets = [[row, col] for row in range(-radius, radius + 1) for col in range(-radius, radius + 1)]
    assert changed_pixels("patch", 6, 6).tolist() == offsets


def test_a_stunet_sees_far_beyond_a_patch():
    distance = np.abs(changed_pixels("stunet", 6, 6)).max()
    assert distance > 2 * comparators.PATCH_RADIUS


@pytest.mark.parametrize("name", ALL)
def test_every_frame_has_a_say_in_an_odd_number_too(name):
    nets, variables = built(name, frames=31)
    loss = jax.jit(jax.grad(lambda x: jnp.square(nets.generate(variables, x, "train")[0]).sum()))
    gradient = loss(series(1, frames=31))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=(0, 2, 3)) > 1e-9).all()


@pytest.mark.parametrize("name", ALL)
def test_what_lies_beyond_the_ranges_is_cut_off_but_not_in_training(name):
    nets, variables = built(name)
    params = variables["params"]
    loud = {**variables, "params": {**params, "last": {**params["last"], "kernel": 1000 * params["last"]["kernel"]}}}
    free, bounded = (np.asarray(generated(nets, loud, series(), mode)) for mode in ("train", "running"))
    assert np.abs(free).max() > 1
    np.testing.assert_array_equal(bounded, np.clip(free, -1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_short_training_finds_the_time_to_peak_of_boluses(name):
    x, peak = boluses()
    nets, variables = built(name, n_out=1)
    optimiser = optax.adam(1e-2)

    def error(params, mode):
        return jnp.abs(nets.generate({"params": params, "stats": {}}, x, mode)[0] - peak).mean()

    def improve(_, carry):
        params, moments = carry
        updates, moments = optimiser.update(jax.grad(error)(params, "train"), moments, params)
        return optax.apply_updates(params, updates), moments

    start = (variables["params"], optimiser.init(variables["params"]))
    train = jax.jit(lambda carry: error(jax.lax.fori_loop(0, 120, improve, carry)[0], "running"))
    assert train(start) < 0.2 * np.abs(peak - np.median(peak)).mean()


def test_learned_values_are_as_many_as_counted_by_hand():
    w, out = 8, 5
    curves = 4 * w + w + 4 * w * 2 * w + 2 * w + 4 * 2 * w * 4 * w + 4 * w + 4 * 4 * w * 4 * w + 4 * w  # 64 -> 4 frames
    features = 4 * 4 * w + 1
    voxel = curves + features * 8 * w + 8 * w + 8 * w * out + out
    patch = curves + 9 * features * 4 * w + 4 * w + 9 * 4 * w * 8 * w + 8 * w + 8 * w * out + out
    stunet, n_in, projected = 4 * w * out + out + 4 * w, 1, 4 * w  # the last 4w: of a pixel's mean
    for n, frames in ((w, 32), (2 * w, 16), (4 * w, 8)):
        stunet += 4 * n_in * n + n + 9 * n * n + n + frames * n * projected + projected
        n_in = n
    stunet += 2 * (9 * 2 * projected * projected + projected)
    for name, count in (("voxel", voxel), ("patch", patch), ("stunet", stunet)):
        assert networks.parameter_count(built(name, frames=64, n_out=out, width=w)[1]) == count


@pytest.mark.parametrize("name", ALL)
def test_the_trace_counts_what_is_counted_by_hand(name):
    nets, variables = built(name)
    model = configs.get_config(name).model
    model.width, model.depth = WIDTH, DEPTH
    traced = flops.traced_flops(lambda x: nets.generate(variables, x, "running")[0], series(1))
    stack, rest = flops.generator_layers(model, FRAMES, 12, 2)
    first = (stack or rest)[0]  # one channel: no matrix product
    assert traced == sum(layer.flops for layer in (*stack, *rest)) - first.flops


@pytest.mark.parametrize("name", ALL)
def test_a_config_is_of_all_maps_without_norms_or_a_discriminator(name):
    config = configs.get_config(name)
    assert config.target == MAP_NAMES and config.loss.objective == "l1"
    assert config.model.generator == name and not has_batch_norm(config.model)
