"""Networks that see the slices beside each one: 2.5-D and 3-D, against brute force and against their 2-D selves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.models import blocks
from dscgan_jax.models.networks import build
from dscgan_jax.models.whole_exams import with_neighbours

SLICES, SIDE = 3, 8  # two exams of three slices
FAST = {"xla_backend_optimization_level": 0}
NETWORKS = (
    {"generator": "unet", "neighbours": 1},
    {"generator": "unet", "neighbours": 1, "unet_dims": 3},
    {"generator": "temporal", "neighbours": 1},
)


def built(exam_slices=SLICES, **fields):
    model = default.get_config().model
    model.update({"width": 2, "unet_width": 2, "depth": 2, "upsample": "resize", **fields})
    networks, variables, _ = build(model, 64, 1, 0, exam_slices)
    return networks, variables


def maps_of(networks, variables, series, mode="running"):
    generate = jax.jit(functools.partial(networks.generate, mode=mode), compiler_options=FAST)
    return np.asarray(generate(variables, series)[0])


def two_exams(seed=0):
    shape = (2 * SLICES, 64, SIDE, SIDE)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("neighbours", [1, 2])
def test_a_slice_stands_between_those_of_its_own_exam_and_edges_are_repeated(neighbours):
    x = np.arange(2 * SLICES * 2, dtype=np.float32).reshape(-1, 1, 1, 2)
    seen = np.asarray(with_neighbours(jnp.asarray(x), neighbours, SLICES)).reshape(2 * SLICES, -1, 2)
    for row in range(2 * SLICES):
        exam, own = divmod(row, SLICES)
        beside = np.clip(np.arange(own - neighbours, own + neighbours + 1), 0, SLICES - 1)
        np.testing.assert_array_equal(seen[row], x[exam * SLICES + beside, 0, 0])


def test_a_convolution_of_neighbours_is_one_in_three_dimensions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * SLICES, SIDE, SIDE, 2)).astype(np.float32)
    conv = blocks.Conv(6, 5, size=4, stride=2, padding=1, bias=False, scheme="pix2pix", rng=rng)
    volumes = np.pad(x.reshape(2, SLICES, SIDE, SIDE, 2), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)), mode="edge")
    kernel = np.moveaxis(np.asarray(conv.kernel[...]).reshape(4, 4, 3, 2, 5), 2, 0)
    expected = jax.lax.conv_general_dilated(
        volumes, kernel, (1, 2, 2), [(0, 0), (1, 1), (1, 1)], dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    found = conv(with_neighbours(jnp.asarray(x), 1, SLICES))
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-6)


@pytest.mark.parametrize("fields", NETWORKS)
def test_a_slice_hangs_on_its_neighbours_and_on_nothing_of_another_exam(fields):
    networks, variables = built(**fields)
    series, changed = two_exams(), two_exams()
    changed[0] = two_exams(seed=1)[0]  # the lowest slice of the first exam
    difference = np.abs(maps_of(networks, variables, changed) - maps_of(networks, variables, series))
    differs = difference.reshape(2 * SLICES, -1).max(axis=1) > 0
    reached = 3 if fields.get("unet_dims") == 3 else 2  # in 3-D layer by layer, otherwise the next slice alone
    assert differs.tolist() == [True] * reached + [False] * (2 * SLICES - reached)


@pytest.mark.parametrize(("fields", "norm"), [(NETWORKS[1], "instance"), (NETWORKS[2], "batch")])
def test_own_statistics_are_those_of_the_whole_exam(fields, norm):
    networks, variables = built(norm=norm, **fields)
    series = two_exams() * np.repeat(np.float32([1.0, 0.1]), SLICES).reshape(-1, 1, 1, 1)
    together = maps_of(networks, variables, series, "per_slice")
    alone = [maps_of(networks, variables, exam, "train") for exam in np.split(series, 2)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=2e-6)


def _kernels(variables, change):
    """The U-Net's kernels changed, from (row, col, in, out)."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(path, leaf) if path[-1].key == "kernel" and path[0].key == "unet" else leaf,
        variables["params"],
    )
    return {**variables, "params": params}


@pytest.mark.parametrize("generator", ["unet", "temporal"])
def test_three_dimensions_without_weights_off_centre_are_two(generator):
    flat, variables = built(generator=generator)
    deep, drawn = built(generator=generator, neighbours=1, unet_dims=3)
    inflated = _kernels(variables, lambda _, kernel: jnp.pad(kernel, ((0, 0), (0, 0), (kernel.shape[2],) * 2, (0, 0))))
    assert jax.tree.map(jnp.shape, inflated) == jax.tree.map(jnp.shape, drawn)
    series = two_exams()
    found, expected = (maps_of(*one, series, "train") for one in ((deep, inflated), (flat, variables)))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_an_exam_of_one_slice_is_its_own_neighbour():
    one_slice, variables = built(exam_slices=1, generator="unet", neighbours=1)
    three_alike, _ = built(generator="unet", neighbours=1)
    series = np.repeat(two_exams()[:2], SLICES, axis=0)
    alone, among_equals = maps_of(one_slice, variables, series[::SLICES]), maps_of(three_alike, variables, series)
    np.testing.assert_allclose(np.repeat(alone, SLICES, axis=0), among_equals, atol=1e-6)
    flat, _ = built(generator="unet")
    summed = _kernels(
        variables, lambda path, k: k.reshape(4, 4, 3, -1, k.shape[-1]).sum(2) if path[1].key == "down0" else k
    )
    np.testing.assert_allclose(maps_of(flat, summed, series[::SLICES]), alone, atol=2e-6)


def test_a_network_that_does_not_know_where_an_exam_ends_refuses_to_work():
    networks, variables = built(exam_slices=0, generator="unet", neighbours=1)
    with pytest.raises(ValueError, match="the number of slices of an exam"):
        networks.generate(variables, two_exams(), "running")
