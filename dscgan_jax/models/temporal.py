"""The temporal stack of temp-pix2pix: each pixel's time course becomes a vector of features; pixels never mix."""

from typing import Any

import jax
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks, time_blocks, time_convolution, time_passes

Array = jax.Array

WIDENING = (1, 2, 4, 8, 8, 8)  # channels of each block over the width
LEAST_FRAMES, MOST_FRAMES = 64, 127  # six halvings leave exactly one frame


class TemporalBlock(nnx.Module):
    """What a block of convolution over time (kernel 4, stride 2, padding 1), norm and leaky ReLU has learned."""

    def __init__(self, n_in: int, n_out: int, *, norm: str, bias: bool, scheme: str, rng: np.random.Generator | None):
        shape = (time_convolution.TAPS, n_in, n_out)
        self.kernel = nnx.Param(blocks.draw_kernel(rng, shape, "temporal", scheme))
        if bias:
            self.bias = nnx.Param(blocks.draw_bias(rng, shape, "temporal", scheme))
        self.has_bias = bias
        self.norm = blocks.make_norm(norm, n_out, scheme=scheme, rng=rng)

    def weights(self) -> time_blocks.BlockWeights:
        """As the passes over time take them."""
        bias = self.bias[...] if self.has_bias else None
        return time_blocks.BlockWeights(self.kernel[...], bias, *self.norm.scale_and_shift())


class TemporalStack(nnx.Module):
    """Six blocks that halve time until one frame is left.

    `lean` takes the derivative that saves memory (`time_passes`).
    """

    def __init__(
        self, width: int, *, norm: str, bias: bool, scheme: str, rng: np.random.Generator | None, lean: bool = False
    ):
        channels = (1, *(width * factor for factor in WIDENING))
        for index in range(len(WIDENING)):
            block = TemporalBlock(channels[index], channels[index + 1], norm=norm, bias=bias, scheme=scheme, rng=rng)
            setattr(self, f"block{index + 1}", block)
        self.width, self.lean = width, lean

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """(slice, time, row, col) scaled -> (slice, row, col, 8 width); `InputError` unless 64 <= time <= 127.

        The series is at least float32; `dtype` is that of everything behind its first convolution (default: the
        series').
        """
        check_frames(series.shape[1])
        rows = series.shape[2]
        x = rearrange(series, "slice time row col -> slice (row col) time")
        stack = [getattr(self, f"block{index + 1}") for index in range(len(WIDENING))]
        weights = tuple(block.weights() for block in stack)
        known = [block.norm.known_statistics(mode) for block in stack]
        if all(known):
            n_tiles = time_passes.tile_count(*x.shape[:2], self.width)
            y = time_passes.folded_features(x, weights, tuple(known), dtype or x.dtype, n_tiles)
        else:
            y, statistics = time_passes.features(x, weights, stack[0].norm.per_slice(mode), dtype or x.dtype, self.lean)
            frames = series.shape[1]
            for block, (mean, variance) in zip(stack, statistics, strict=True):
                frames //= 2
                block.norm.record(mode, mean, variance, x.shape[0] * x.shape[1] * frames)
        return rearrange(y, "slice (row col) 1 channel -> slice row col channel", row=rows)


def check_frames(frames: int) -> None:
    """Raises `InputError` unless six halvings of `frames` leave one."""
    if not LEAST_FRAMES <= frames <= MOST_FRAMES:
        raise InputError(
            f"config.data.frames is {frames}; the temporal generator takes {LEAST_FRAMES} to "
            f"{MOST_FRAMES} frames (six halvings must leave one): change it, or set config.model.generator=unet."
        )
