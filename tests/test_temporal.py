"""The temporal stack: each pixel alone, any number of frames from 64 to 127."""

import jax
import numpy as np
import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.models import temporal


def block(n_in, n_out):
    return temporal.TemporalBlock(n_in, n_out, norm="instance", bias=True, scheme="published",
                                  rng=np.random.default_rng(0))


@pytest.mark.parametrize("frames", [6, 7])
def test_a_block_is_a_convolution_of_kernel_4_stride_2_padding_1(frames):
    layer = block(2, 3)
    layer.norm = lambda y, mode, slope: y
    x = np.random.default_rng(1).standard_normal((1, 2, frames, 2)).astype(np.float32)

    y = layer(x, "train")

    kernel, padded = np.asarray(layer.kernel[...]), np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    by_hand = np.stack([np.einsum("spti,tio->spo", padded[:, :, 2 * t : 2 * t + 4], kernel) for t in range(3)], axis=2)
    np.testing.assert_allclose(y, by_hand + np.asarray(layer.bias[...]), atol=1e-5)


@pytest.mark.parametrize("frames", [64, 93, 127])
def test_six_blocks_leave_one_frame(frames):
    stack = temporal.TemporalStack(2, norm="batch", bias=False, scheme="pix2pix", rng=None)

    features = jax.eval_shape(lambda x: stack(x, "batch"), jax.ShapeDtypeStruct((3, frames, 5, 7), "float32"))

    assert features.shape == (3, 5, 7, 16)


@pytest.mark.parametrize("frames", [63, 128])
def test_other_numbers_of_frames_are_refused_by_name(frames):
    stack = temporal.TemporalStack(2, norm="batch", bias=False, scheme="pix2pix", rng=None)
    with pytest.raises(InputError, match=f"config.data.frames is {frames}.*64 to 127"):
        stack(np.zeros((1, frames, 2, 2), np.float32), "batch")


def test_pixels_do_not_mix():
    stack = temporal.TemporalStack(1, norm="batch", bias=False, scheme="pix2pix", rng=np.random.default_rng(0))
    series = np.random.default_rng(1).standard_normal((1, 64, 2, 3)).astype(np.float32)
    other = series.copy()
    other[:, :, 0, 0] += 1.0

    changed = np.abs(np.asarray(stack(series, "running") - stack(other, "running"))).max(-1)[0] > 0

    assert changed.tolist() == [[True, False, False], [False, False, False]]


@pytest.mark.parametrize("frames", [2, 5, 6])
def test_the_written_derivative_of_a_convolution_is_that_of_the_library(frames):
    def by_library(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel[None], (1, 2), [(0, 0), (1, 1)],
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 3, frames, 2), np.float32), rng.standard_normal((4, 2, 5), np.float32)
    y, pull = jax.vjp(lambda x, kernel: temporal.convolve_time(x, kernel, frames), x, kernel)
    expected, pull_library = jax.vjp(by_library, x, kernel)

    np.testing.assert_allclose(y, expected, atol=1e-5)
    for ours, library in zip(pull(np.cos(y)), pull_library(np.cos(y)), strict=True):
        np.testing.assert_allclose(ours, library, atol=1e-5)
