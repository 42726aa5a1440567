"""The temporal stack of temp-pix2pix: each pixel's time course becomes a vector of features; pixels never mix."""

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
        """(slice, pixel, time, in) -> (slice, pixel, time // 2, out).

        Written as one matrix product over four frames: with time and channels last, two frames of one pixel lie side
        by side, so a window is two neighbouring pairs. A general convolution's gradient took twice as long on a CPU.
        """
        n, pixels, frames, n_in = x.shape
        x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 - frames % 2), (0, 0)))  # an odd last frame has no partner behind it
        pairs = x.reshape(n, pixels, frames // 2 + 1, 2 * n_in)
        windows = jnp.concatenate([pairs[:, :, :-1], pairs[:, :, 1:]], axis=-1)
        y = windows @ self.kernel[...].reshape(4 * n_in, -1)
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
        """(slice, time, row, col) scaled -> (slice, row, col, 8 width). Raises `InputError` unless 64 <= time <= 127."""
        check_frames(series.shape[1])
        rows = series.shape[2]
        x = rearrange(series, "slice time row col -> slice (row col) time 1")
        for index in range(len(WIDENING)):
            x = getattr(self, f"block{index + 1}")(x, mode)
        return rearrange(x, "slice (row col) 1 channel -> slice row col channel", row=rows)


def check_frames(frames: int) -> None:
    """Raises `InputError` unless six halvings of `frames` leave one."""
    if not LEAST_FRAMES <= frames <= MOST_FRAMES:
        raise InputError(f"config.data.frames is {frames}; the temporal generator takes {LEAST_FRAMES} to {MOST_FRAMES} "
                         "frames (six halvings must leave one): change it, or set config.model.generator=unet.")
