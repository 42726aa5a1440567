"""What the temporal stack computes, with few passes over memory: a pure function of series and weights.

Six blocks of convolution over time, norm and leaky ReLU make some thousand values of each pixel, so that memory, not
arithmetic, decides the speed. Therefore

- windows of frames are written out where that is faster, and nowhere else (`time_convolution`);
- the derivative keeps of a block at most what its convolution gave: norms, activations and windows are computed again;
- with known statistics the norms fold into the weights; pixels are then independent, and on a CPU a tile of them, small
  enough for the cache, goes through all six blocks before the next one begins.

Words: the *raw* values of a block are what its convolution gives, before the norm. Statistics and sums are at least
float32 whatever the values are.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from dscgan_jax import platforms
from dscgan_jax.models import blocks, time_on_accelerator, time_on_cpu
from dscgan_jax.models.time_blocks import BlockWeights, with_bias
from dscgan_jax.models.time_convolution import convolve_time

Array = jax.Array

TILE_VALUES = 65536  # pixels times width of a tile on a CPU: the fastest of 16,384 to 131,072 at width 16


# --- The stack with statistics of its own input --------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def features(
    x: Array, weights: tuple[BlockWeights, ...], per_slice: bool, dtype: Any, lean: bool
) -> tuple[Array, tuple[blocks.Statistics, ...]]:
    """All blocks, each normalised by the statistics of what it computes.

    Args:
      x: (slice, pixel, time), at least float32: rounded to 16 bits, a small bolus would be lost among few steps.
      weights: of the blocks, in their order.
      per_slice: each slice's own statistics, not those of the batch.
      dtype: of all values between the blocks.
      lean: the derivative needs less memory and more time: it computes the raw values of the first blocks again instead
        of keeping them, and takes the pixels in parts.

    Returns:
      (slice, pixel, time left, channel), and each block's statistics. Gradients flow through the first alone: the
      statistics are there to be recorded.

    A CPU and an accelerator have each their own way, `time_on_cpu` and `time_on_accelerator`.
    """
    return _features_forward(x, weights, per_slice, dtype, lean)[0]


def _features_forward(
    x: Array, weights: tuple[BlockWeights, ...], per_slice: bool, dtype: Any, lean: bool
) -> tuple[tuple[Array, tuple[blocks.Statistics, ...]], Any]:
    way = time_on_cpu if platforms.on_cpu() else time_on_accelerator
    return way.forward(x, weights, _axes(per_slice), dtype, lean)


def _features_backward(
    per_slice: bool, dtype: Any, lean: bool, kept: Any, cotangents: tuple[Any, ...]
) -> tuple[Array, tuple[BlockWeights, ...]]:
    if platforms.on_cpu():
        return time_on_cpu.derivative(kept, cotangents[0], _axes(per_slice), dtype, lean)
    return time_on_accelerator.derivative(kept, cotangents[0], _axes(per_slice), dtype)


features.defvjp(_features_forward, _features_backward)


def _axes(per_slice: bool) -> tuple[int, ...]:
    """Those that statistics are taken over."""
    return (1, 2) if per_slice else (0, 1, 2)


# --- The stack with known statistics -------------------------------------------------------------------------------


def folded_features(
    x: Array, weights: tuple[BlockWeights, ...], statistics: tuple[blocks.Statistics, ...], dtype: Any, n_tiles: int
) -> Array:
    """All blocks with statistics known beforehand: the norms fold into kernels and biases.

    Pixels are then independent, and each tile goes through the whole stack before the next one begins.

    Args:
      x: (slice, pixel, time), at least float32.
      weights: of the blocks, in their order.
      statistics: theirs, each (1, out).
      dtype: of all values between the blocks.
      n_tiles: parts that the pixels are taken in; it must divide them.

    Returns:
      (slice, pixel, time left, channel).
    """
    folded = []
    for block, (mean, variance) in zip(weights, statistics, strict=True):
        factor = block.scale * jax.lax.rsqrt(variance[0] + blocks.EPSILON)
        bias = -mean[0] if block.bias is None else block.bias - mean[0]
        folded.append((block.kernel * factor[None, None], bias * factor + block.shift))

    def whole_stack(tile: Array) -> Array:
        tile = tile[..., None]
        for kernel, bias in folded:
            tile = with_bias(convolve_time(tile, kernel), bias).astype(dtype)
            tile = jnp.where(tile > 0, tile, blocks.SLOPE * tile)
        return tile

    if n_tiles == 1:
        return whole_stack(x)
    done = jnp.moveaxis(jax.lax.map(whole_stack, _in_parts(x, n_tiles)), 0, 1)
    return done.reshape(*x.shape[:2], *done.shape[3:])


# --- Tiles ---------------------------------------------------------------------------------------------------------


def tile_count(n_slices: int, n_pixels: int, width: int) -> int:
    """Into how many parts to take the pixels: one on an accelerator, cache-sized ones on a CPU."""
    if not platforms.on_cpu():
        return 1
    wanted = -(-n_slices * n_pixels * width // TILE_VALUES)
    return next((count for count in range(wanted, min(2 * wanted, n_pixels) + 1) if n_pixels % count == 0), 1)


def _in_parts(x: Array, parts: int) -> Array:
    """(slice, pixel, ...) -> (part, slice, pixel, ...)."""
    return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)
