"""Convolutions and norms against their definitions, computed by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dscgan_jax.models import blocks, light, products


def image(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_normalise_has_mean_and_spread_of_scale_and_shift_and_applies_the_slope():
    x, scale, shift = 3.0 + 5.0 * image((2, 3, 4, 2)), np.float32([2.0, 0.5]), np.float32([0.1, -0.2])

    y, mean, variance = blocks.normalise(x, scale, shift, (0, 1, 2), 0.2)

    by_hand = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * scale + shift
    np.testing.assert_allclose(y, np.where(by_hand > 0, by_hand, 0.2 * by_hand), atol=1e-5)
    np.testing.assert_allclose(mean[0, 0, 0], x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance[0, 0, 0], x.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
def test_the_written_derivative_of_a_norm_is_the_automatic_one(axes):
    def plain(x, scale, shift):
        mean = x.mean(axes, keepdims=True)
        variance = ((x - mean) ** 2).mean(axes, keepdims=True)
        whitened = (x - mean) / jnp.sqrt(variance + 1e-5)
        return blocks.leaky_relu(whitened * scale[None, None, None] + shift[None, None, None])

    x, weight = image((2, 3, 4, 5)), image((2, 3, 4, 5), 1)
    scale, shift = image((5,), 2), image((5,), 3)
    ours = jax.grad(lambda *a: (weight * blocks.normalise(*a, axes, 0.2)[0]).sum(), (0, 1, 2))(x, scale, shift)
    automatic = jax.grad(lambda *a: (weight * plain(*a)).sum(), (0, 1, 2))(x, scale, shift)

    for one, other in zip(ours, automatic, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_variance_survives_a_mean_far_from_zero():
    x = 3000.0 + image((4, 16, 16, 1))

    variance = blocks.normalise(x, jnp.ones(1), jnp.zeros(1), (0, 1, 2), 1.0)[2]

    np.testing.assert_allclose(variance.squeeze(), x.astype(np.float64).var(), rtol=1e-3)


def test_batch_norm_records_the_unbiased_variance_with_a_tenth_of_weight_and_counts_batches():
    norm = blocks.BatchNorm(1, scheme="pix2pix", rng=np.random.default_rng(0))
    x = np.float32([1.0, 2.0, 3.0, 6.0]).reshape(1, 2, 2, 1)  # mean 3, variance 3.5 biased, 14/3 unbiased

    norm(x, "train")

    np.testing.assert_allclose(norm.mean[...], [0.3], rtol=1e-6)
    np.testing.assert_allclose(norm.variance[...], [0.9 + 0.1 * 14.0 / 3.0], rtol=1e-6)
    assert int(norm.batches[...]) == 1


def test_batch_norm_at_test_uses_each_slices_own_or_the_running_statistics():
    norm = blocks.BatchNorm(3, scheme="pix2pix", rng=np.random.default_rng(0))
    x = image((2, 4, 4, 3)) * np.float32([1.0, 10.0]).reshape(2, 1, 1, 1)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat)))

    own = norm(x, "per_slice")
    running = norm(x, "running", 0.2)

    np.testing.assert_allclose(own[1:], norm(x[1:], "per_slice"), rtol=1e-6)
    np.testing.assert_allclose(np.std(own, (1, 2)), np.broadcast_to(norm.scale[...], (2, 3)), rtol=1e-3)
    np.testing.assert_allclose(running, blocks.leaky_relu(x * norm.scale[...][None, None, None]), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat)))


def test_a_misspelt_mode_is_refused():
    with pytest.raises(ValueError, match="train, per_slice, running"):
        blocks.BatchNorm(1, scheme="pix2pix", rng=None)(jnp.ones((1, 2, 2, 1)), "eval")


def test_instance_norm_ignores_the_other_slices_in_every_mode():
    x = image((2, 4, 4, 3))
    for mode in blocks.MODES:
        np.testing.assert_allclose(blocks.InstanceNorm(3)(x, mode)[:1], blocks.InstanceNorm(3)(x[:1], mode), atol=1e-6)


def test_transposed_convolution_adds_each_input_pixel_times_its_taps():
    layer = blocks.TransposedConv(2, 3, bias=True, scheme="published", rng=np.random.default_rng(0))
    x, kernel = image((1, 3, 2, 2)), np.asarray(layer.kernel[...])
    by_hand = np.zeros((1, 3 * 2 + 2, 2 * 2 + 2, 3), np.float32)  # one pixel of margin on each side
    for row in range(3):
        for col in range(2):
            taps = np.einsum("i,klio->klo", x[0, row, col], kernel)
            by_hand[0, 2 * row : 2 * row + 4, 2 * col : 2 * col + 4] += taps

    np.testing.assert_allclose(layer(x), by_hand[:, 1:-1, 1:-1] + np.asarray(layer.bias[...]), atol=1e-5)


def test_resize_convolution_repeats_pixels_then_reflects_the_border():
    layer = blocks.ResizeConv(1, 1, bias=False, scheme="pix2pix", rng=None)
    layer.conv.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[0, 1].set(1.0)  # looks one pixel up

    y = layer(np.float32([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1))[0, :, :, 0]

    # Rows of the enlarged image are 1, 1, 3, 3; above the first row stands, reflected, the second.
    np.testing.assert_array_equal(y[:, 0], [1.0, 1.0, 1.0, 3.0])


def test_parts_are_convolved_as_if_concatenated():
    layer = blocks.Conv(5, 4, size=4, stride=2, padding=1, bias=True, scheme="published", rng=np.random.default_rng(0))
    x = image((2, 8, 6, 5))

    np.testing.assert_allclose(layer(x[..., :4], x[..., 4:]), layer(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_in", [3, 50])  # more channels than values of a tap's output take another way
@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (1, 1), (2, 0)])
def test_of_16_bit_values_the_derivative_of_a_kernel_is_summed_in_float32(n_in, stride, padding):
    x, kernel = jnp.asarray(image((2, 9, 12, n_in)), jnp.bfloat16), image((4, 4, n_in, 2), 1)
    y, pull = jax.vjp(lambda kernel: products.convolve(x, kernel, stride, padding), kernel)
    d_y = jnp.asarray(image(y.shape, 2), jnp.bfloat16)

    (d_kernel,) = pull(d_y)

    _, pull_exact = jax.vjp(lambda kernel: products.convolve(x.astype("float32"), kernel, stride, padding), kernel)
    assert d_kernel.dtype == np.float32
    np.testing.assert_allclose(d_kernel, pull_exact(d_y.astype("float32"))[0], atol=1e-4)


def test_of_16_bit_values_the_derivative_of_an_image_is_that_of_the_library():
    x, kernel = jnp.asarray(image((2, 8, 8, 3)), jnp.bfloat16), image((4, 4, 3, 2), 1)
    y, pull = jax.vjp(lambda x: products.convolve(x, kernel, 2, 1), x)

    def by_library(x):
        return jax.lax.conv_general_dilated(
            x, jnp.asarray(kernel, x.dtype), (2, 2), [(1, 1), (1, 1)], dimension_numbers=products.IMAGE
        )

    expected, pull_library = jax.vjp(by_library, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pull(y)[0], pull_library(y)[0])


def test_of_16_bit_values_the_derivatives_of_a_matrix_and_a_bias_are_summed_in_float32():
    dense = light.Dense(6, 3, scheme="published", rng=np.random.default_rng(0))
    graph, params = nnx.split(dense)
    x = jnp.asarray(image((2, 40, 50, 6)), jnp.bfloat16)
    d_y = jnp.asarray(image((2, 40, 50, 3), 1), jnp.bfloat16)

    def derivatives(x, d_y):
        return jax.vjp(lambda params: nnx.merge(graph, params)(x), params)[1](d_y)[0]

    found, exact = derivatives(x, d_y), derivatives(x.astype("float32"), d_y.astype("float32"))
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(found[name][...], exact[name][...], rtol=1e-5, atol=1e-3, err_msg=name)
