"""The temporal stack: each pixel alone, any number of frames from 64 to 127."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax import platforms
from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks, temporal, time_convolution, time_passes

PLATFORMS = (platforms.CPU, platforms.ACCELERATOR)  # each has its own way
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time; the arithmetic stays


@pytest.mark.parametrize("frames", [3, 6, 7, 10, 11])
def test_a_convolution_has_kernel_4_stride_2_padding_1(frames):
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((1, 2, frames, 2), np.float32), rng.standard_normal((4, 2, 3), np.float32)

    y = time_convolution.convolve_time(x, kernel)

    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    by_hand = [np.einsum("spti,tio->spo", padded[:, :, 2 * t : 2 * t + 4], kernel) for t in range(frames // 2)]
    np.testing.assert_allclose(y, np.stack(by_hand, axis=2), atol=1e-5)


@pytest.mark.parametrize("frames", [64, 93, 127])
def test_six_blocks_leave_one_frame(frames):
    stack = temporal.TemporalStack(2, norm="batch", bias=False, scheme="pix2pix", rng=None)

    features = jax.eval_shape(lambda x: stack(x, "per_slice"), jax.ShapeDtypeStruct((3, frames, 5, 7), "float32"))

    assert features.shape == (3, 5, 7, 16)


@pytest.mark.parametrize("frames", [63, 128])
def test_other_numbers_of_frames_are_refused_by_name(frames):
    stack = temporal.TemporalStack(2, norm="batch", bias=False, scheme="pix2pix", rng=None)
    with pytest.raises(InputError, match=f"config.data.frames is {frames}.*64 to 127"):
        stack(np.zeros((1, frames, 2, 2), np.float32), "per_slice")


@pytest.mark.slow
def test_pixels_do_not_mix():
    stack = temporal.TemporalStack(1, norm="batch", bias=False, scheme="pix2pix", rng=np.random.default_rng(0))
    series = np.random.default_rng(1).standard_normal((1, 64, 2, 3)).astype(np.float32)
    other = series.copy()
    other[:, :, 0, 0] += 1.0

    changed = np.abs(np.asarray(stack(series, "running") - stack(other, "running"))).max(-1)[0] > 0

    assert changed.tolist() == [[True, False, False], [False, False, False]]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("frames", [2, 5, 6, 8, 13])
def test_the_written_derivative_of_a_convolution_is_that_of_the_library(frames, platform):
    def by_library(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel[None], (1, 2), [(0, 0), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 3, frames, 2), np.float32), rng.standard_normal((4, 2, 5), np.float32)
    expected, pull_library = jax.vjp(by_library, x, kernel)
    with platforms.tracing_for(platform):
        y, pull = jax.vjp(time_convolution.convolve_time, x, kernel)

        np.testing.assert_allclose(y, expected, atol=1e-5)
        for ours, library in zip(pull(np.cos(y)), pull_library(np.cos(y)), strict=True):
            np.testing.assert_allclose(ours, library, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 5, 13])
def test_of_16_bit_values_an_accelerator_sums_the_derivative_of_a_kernel_in_float32(frames):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 300, frames, 2)), jnp.bfloat16)
    d_y = jnp.asarray(rng.standard_normal((2, 300, frames // 2, 5)), jnp.bfloat16)
    with platforms.tracing_for(platforms.ACCELERATOR):
        of_16_bits = time_convolution.kernel_derivative(x, d_y)
        expected = time_convolution.kernel_derivative(x.astype("float32"), d_y.astype("float32"))

    assert of_16_bits.dtype == np.float32
    np.testing.assert_allclose(of_16_bits, expected, atol=1e-4)  # 16 bits would leave 0.1 of sums about 30


# --- The stack -----------------------------------------------------------------------------------------------------


def small_stack(frames=64, bias=True):
    """Weights of a whole stack of width 2, and series for it, in double precision."""
    stack = temporal.TemporalStack(2, norm="batch", bias=bias, scheme="published", rng=np.random.default_rng(0))
    weights = tuple(getattr(stack, f"block{index}").weights() for index in range(1, 7))
    return (np.random.default_rng(1).standard_normal((3, 16, frames)), jax.tree.map(np.float64, weights))


def plain_features(x, weights, axes):
    """The stack as one would write it: a library's convolution, mean and variance, automatic derivatives."""
    x = x[..., None]
    for kernel, bias, scale, shift in weights:
        x = jax.lax.conv_general_dilated(
            x, kernel[None], (1, 2), [(0, 0), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + bias[None, None, None]
        whitened = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
        x = blocks.leaky_relu(whitened * scale[None, None, None] + shift[None, None, None])
    return x


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("frames", "pixels", "per_slice", "lean"),
    [(64, 16, False, False), (97, 16, False, True), (97, 7, True, False)],  # of 7 pixels there are no equal parts
)
def test_the_stack_and_its_written_derivative_are_the_plain_ones(frames, pixels, per_slice, lean, platform):
    with jax.enable_x64(True), platforms.tracing_for(platform):
        x, weights = small_stack(frames)
        x, weight = x[:, :pixels], np.random.default_rng(2).standard_normal((3, pixels, 1, 16))
        axes = (1, 2) if per_slice else (0, 1, 2)

        def sides(function):
            return jax.jit(
                jax.value_and_grad(lambda x, weights: (weight * function(x, weights)).sum(), (0, 1)),
                compiler_options=FAST,
            )(x, weights)

        ours = sides(lambda x, weights: time_passes.features(x, weights, per_slice, x.dtype, lean)[0])
        plain = sides(lambda x, weights: plain_features(x, weights, axes))

        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), ours, plain)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_statistics_about_a_value_near_the_mean_lose_no_digits(offset):
    values = (offset + np.random.default_rng(0).standard_normal((2, 4096, 1, 3))).astype(np.float32)

    near = blocks.near_mean(values[:, ::409], (1, 2))
    mean, variance = blocks.statistics(
        [blocks.moments(part, near, (1, 2)) for part in (values[:, :2048], values[:, 2048:])]
    )

    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, exact.var((1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_folded_norms_and_tiles_give_what_the_statistics_ask_for():
    with jax.enable_x64(True):
        x, weights = small_stack()
        expected, statistics = time_passes.features(x, weights, False, x.dtype, False)

        for n_tiles in (1, 4):
            folded = time_passes.folded_features(x, weights, statistics, x.dtype, n_tiles)
            np.testing.assert_allclose(folded, expected, atol=1e-10)


@pytest.mark.parametrize("n_pixels", [4096, 4095, 4099])  # 4099 is prime: no tiles, rather than tiles of one pixel
def test_tiles_divide_the_pixels(n_pixels):
    count = time_passes.tile_count(3, n_pixels, 16)

    assert n_pixels % count == 0 and (count == 1) == (n_pixels == 4099)


@pytest.mark.slow
def test_a_lean_derivative_needs_less_memory():
    x, weights = np.zeros((2, 4096, 64), np.float32), jax.tree.map(np.float32, small_stack()[1])

    def bytes_of(lean):
        derivative = jax.grad(lambda weights: time_passes.features(x, weights, False, x.dtype, lean)[0].sum())
        return jax.jit(derivative, compiler_options=FAST).lower(weights).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(lean=True) < 0.85 * bytes_of(lean=False)
