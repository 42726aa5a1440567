"""The temporal stack of temp-pix2pix: each pixel's time course becomes a vector of features; pixels never mix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks

Array = jax.Array

WIDENING = (1, 2, 4, 8, 8, 8)  # channels of each block over the width
LEAST_FRAMES, MOST_FRAMES = 64, 127  # six halvings leave exactly one frame


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_time(x: Array, kernel: Array, frames: int) -> Array:
    """Convolution over time alone, kernel 4, stride 2, padding 1, as one matrix product per window of four frames.

    Args:
      x: (slice, pixel, time, in).
      kernel: (4, in, out).
      frames: length of the time axis of `x`, which its derivative needs to know.

    Returns:
      (slice, pixel, time // 2, out).

    The derivative reuses the windows, and is written out because the automatic one transposes large arrays.
    """
    return _convolve_time_forward(x, kernel, frames)[0]


def _convolve_time_forward(x, kernel, frames):
    n, pixels, _, n_in = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 - frames % 2), (0, 0)))  # an odd last frame has no partner behind it
    frame_of_window = 2 * np.arange(frames // 2)[:, None] + np.arange(4)
    windows = x[:, :, frame_of_window].reshape(n, pixels, frames // 2, 4 * n_in)
    return windows @ kernel.reshape(4 * n_in, -1), (windows, kernel)


def _convolve_time_backward(frames, saved, d_y):
    windows, kernel = saved
    n_in = kernel.shape[1]
    # As plain matrices, one row per window: contracted over three axes, XLA would transpose the windows first.
    rows = (windows.reshape(-1, 4 * n_in), d_y.reshape(-1, d_y.shape[-1]))
    d_kernel = jax.lax.dot_general(*rows, (((0,), (0,)), ((), ()))).reshape(kernel.shape)
    d_windows = d_y @ kernel.reshape(4 * n_in, -1).T
    # A window is two pairs of frames; each pair but the outermost belongs to two windows.
    nothing = ((0, 0), (0, 0))
    pairs = (jnp.pad(d_windows[..., : 2 * n_in], (*nothing, (0, 1), (0, 0)))
             + jnp.pad(d_windows[..., 2 * n_in :], (*nothing, (1, 0), (0, 0))))
    d_x = pairs.reshape(*pairs.shape[:2], -1, n_in)[:, :, 1 : 1 + frames]
    return d_x, d_kernel


convolve_time.defvjp(_convolve_time_forward, _convolve_time_backward)


class TemporalBlock(nnx.Module):
    """Convolution over time (kernel 4, stride 2, padding 1), norm, leaky ReLU."""

    def __init__(self, n_in: int, n_out: int, *, norm: str, bias: bool, scheme: str, rng: np.random.Generator | None):
        shape = (4, n_in, n_out)
        self.kernel = nnx.Param(blocks.draw_kernel(rng, shape, "temporal", scheme))
        if bias:
            self.bias = nnx.Param(blocks.draw_bias(rng, shape, "temporal", scheme))
        self.has_bias = bias
        self.norm = blocks.make_norm(norm, n_out, scheme=scheme, rng=rng)

    def __call__(self, x: Array, mode: str) -> Array:
        """(slice, pixel, time, in) -> (slice, pixel, time // 2, out)."""
        y = convolve_time(x, self.kernel[...], x.shape[2])
        if self.has_bias:
            y = y + self.bias[...][None, None, None, :]
        return self.norm(y, mode, blocks.SLOPE)


class TemporalStack(nnx.Module):
    """Six blocks that halve time until one frame is left."""

    def __init__(self, width: int, *, norm: str, bias: bool, scheme: str, rng: np.random.Generator | None):
        channels = (1, *(width * factor for factor in WIDENING))
        for index in range(len(WIDENING)):
            block = TemporalBlock(channels[index], channels[index + 1], norm=norm, bias=bias, scheme=scheme, rng=rng)
            setattr(self, f"block{index + 1}", block)

    def __call__(self, series: Array, mode: str) -> Array:
        """(slice, time, row, col) scaled -> (slice, row, col, 8 width); `InputError` unless 64 <= time <= 127."""
        check_frames(series.shape[1])
        rows = series.shape[2]
        x = rearrange(series, "slice time row col -> slice (row col) time 1")
        for index in range(len(WIDENING)):
            x = getattr(self, f"block{index + 1}")(x, mode)
        return rearrange(x, "slice (row col) 1 channel -> slice row col channel", row=rows)


def check_frames(frames: int) -> None:
    """Raises `InputError` unless six halvings of `frames` leave one."""
    if not LEAST_FRAMES <= frames <= MOST_FRAMES:
        raise InputError(f"config.data.frames is {frames}; the temporal generator takes {LEAST_FRAMES} to "
                         f"{MOST_FRAMES} frames (six halvings must leave one): change it, or set "
                         "config.model.generator=unet.")
