"""What the temporal stack computes, with few passes over memory: a pure function of series and weights.

Six blocks of convolution over time, norm and leaky ReLU make some thousand values of each pixel, so that memory, not
arithmetic, decides the speed. Therefore

- a convolution is one matrix product a window of frames (`time_convolution`);
- the derivative keeps of a block only what its convolution gave, and of the first not even that: norms, activations
  and windows are computed again;
- with known statistics the norms fold into the weights; pixels are then independent, and on a CPU a tile of them, small
  enough for the cache, goes through all six blocks before the next one begins.

Words: the *raw* values of a block are what its convolution gives, before the norm. Statistics and sums are at least
float32 whatever the values are.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dscgan_jax import platforms
from dscgan_jax.models import blocks
from dscgan_jax.models.time_convolution import (
    convolve_time,
    input_derivative,
    kernel_derivative,
    single_windows,
    window_sums,
)

Array = jax.Array
Span = tuple[int, int]  # a part of the pixels: the first, and the one behind the last

SAMPLED = 101  # every so many pixels say about where a mean is; no row or column of an image is hit more than others
KEPT_FROM, LEAN_KEPT_FROM = 1, 3  # first block whose raw values wait for the derivative; in a lean one
PARTS, LEAN_PARTS = 4, 8  # the derivative takes the pixels in so many parts, where they divide; on a CPU a lean one only
TILE_VALUES = 65536  # pixels times width of a tile on a CPU: the fastest of 16,384 to 131,072 at width 16


class BlockWeights(NamedTuple):
    """What a block has learned; `bias` is None where the norm follows directly."""

    kernel: Array  # (4, in, out)
    bias: Array | None  # (out,)
    scale: Array  # (out,), of the norm
    shift: Array  # (out,)


class _Kept(NamedTuple):
    """What waits for the derivative."""

    x: Array  # (slice, pixel, time)
    raw: tuple[Array, ...]  # of the last blocks, each (slice, pixel, time, channel)
    statistics: tuple[blocks.Statistics, ...]
    weights: tuple[BlockWeights, ...]

    @property
    def begin(self) -> int:
        """The first block whose raw values are kept."""
        return len(self.weights) - len(self.raw)

    def norm(self, index: int) -> tuple[Array, Array, Array, Array]:
        """Mean, variance, scale and shift of a block's norm."""
        block = self.weights[index]
        return *_spread(self.statistics[index]), block.scale, block.shift


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

    What the derivative keeps is each block's raw values, once: norms, activations and windows are computed again.
    """
    return _features_forward(x, weights, per_slice, dtype, lean)[0]


def _features_forward(
    x: Array, weights: tuple[BlockWeights, ...], per_slice: bool, dtype: Any, lean: bool
) -> tuple[tuple[Array, tuple[blocks.Statistics, ...]], _Kept]:
    raw, statistics, inputs = [], [], x[..., None]
    sample = inputs[:, ::SAMPLED]  # goes through the blocks beside all pixels
    # Behind a barrier: XLA would put products of one kernel together, and copy all pixels beside the sample for it.
    for block, same in zip(weights, jax.lax.optimization_barrier(weights), strict=True):
        y, raw_sample = _convolved(inputs, block).astype(dtype), _convolved(sample, same).astype(dtype)
        of_block = blocks.statistics(y, raw_sample, _axes(per_slice))
        if not raw:
            # The first convolution is cheaper done again than its values are read: here, and by the derivative. Behind
            # barriers: XLA would see that they are the same, and write them.
            inputs, of_block = jax.lax.optimization_barrier((inputs, of_block))
            y = _convolved(inputs, block).astype(dtype)
        raw.append(y)
        statistics.append(of_block)
        inputs, sample = (_activated(of, block, of_block) for of in (y, raw_sample))
    begin = min(LEAN_KEPT_FROM if lean else KEPT_FROM, len(weights) - 1)
    return (inputs, tuple(statistics)), _Kept(x, tuple(raw[begin:]), tuple(statistics), weights)


def _features_backward(
    per_slice: bool, dtype: Any, lean: bool, kept: _Kept, cotangents: tuple[Any, ...]
) -> tuple[Array, tuple[BlockWeights, ...]]:
    axes, last, spans = _axes(per_slice), len(kept.weights) - 1, _spans(kept.x.shape[1], lean)
    kept, d_y = jax.lax.optimization_barrier((kept, cotangents[0]))
    sums, gradients = blocks.norm_sums(kept.raw[-1], *kept.norm(last), d_y, axes, blocks.SLOPE), []
    d_parts = [_cut(d_y, span) for span in spans]
    for index in reversed(range(1, last + 1)):
        means = _over(sums, _count(kept.x, index, axes))
        d_scale, d_shift = (of_all.sum((0, 1, 2)) for of_all in sums)
        d_inputs, totals = [], []
        for span, d_part in zip(spans, d_parts, strict=True):
            # A part begins when the one before it is done. What is computed again is, behind a barrier, not to XLA what
            # was computed once: else that would be kept.
            held, d_part, d_inputs = jax.lax.optimization_barrier((kept, d_part, d_inputs))  # noqa: PLW2901
            d_of_part, total = _block_derivative(held, index, span, d_part, means, axes, dtype)
            d_inputs.append(d_of_part)
            totals.append(total)
        d_parts = d_inputs
        d_kernel, d_bias, sums = jax.tree.map(_added, *totals)
        gradients.append(BlockWeights(d_kernel, d_bias, d_scale, d_shift))
    d_x, of_first = _first_derivative(kept, d_parts, spans, axes, dtype)
    d_weights = (of_first, *reversed(gradients))
    return d_x, jax.tree.map(lambda d, value: d.astype(value.dtype), d_weights, kept.weights)


features.defvjp(_features_forward, _features_backward)


def _block_derivative(
    kept: _Kept, index: int, span: Span, d_y: Array, means: blocks.NormSums, axes: tuple[int, ...], dtype: Any
) -> tuple[Array, tuple[Array, Array | None, blocks.NormSums | None]]:
    """Derivative of a block behind the first, for a part of the pixels.

    Args:
      kept: of all pixels.
      index: the block's.
      span: the part.
      d_y: of the block's output, (slice, pixel of the part, time, channel).
      means: over all pixels, of what `blocks.norm_sums` adds up for this block.
      axes: of the statistics.
      dtype: of raw values.

    Returns:
      d of the block's input; d of kernel and bias, and `norm_sums` of the block before it (None of the first, which
      needs none), of this part.
    """
    block, before = kept.weights[index], index - 1
    again = _raw_again(_cut(kept.x, span), kept, index, dtype)
    raw = again[index] if index < kept.begin else _cut(kept.raw[index - kept.begin], span)
    d_raw = blocks.norm_derivative(raw, *kept.norm(index), d_y, means, blocks.SLOPE)
    if before < kept.begin:
        raw = again[before]
    else:  # the input, which is large, is not made before it is needed
        whole, d_raw = jax.lax.optimization_barrier((kept.raw[before - kept.begin], d_raw))
        raw = _cut(whole, span)
    inputs = _activated(raw, kept.weights[before], kept.statistics[before])
    d_kernel = kernel_derivative(inputs, d_raw)
    d_bias = None if block.bias is None else blocks.exact(d_raw).sum((0, 1, 2))
    # The kernel first: its derivative is small and lets go of the block's input.
    d_kernel, d_raw = jax.lax.optimization_barrier((d_kernel, d_raw))
    d_inputs = input_derivative(block.kernel, d_raw, inputs.shape[2])
    sums = blocks.norm_sums(raw, *kept.norm(before), d_inputs, axes, blocks.SLOPE) if before else None
    return d_inputs, (d_kernel, d_bias, sums)


def _first_derivative(
    kept: _Kept, d_parts: list[Array], spans: list[Span], axes: tuple[int, ...], dtype: Any
) -> tuple[Array, BlockWeights]:
    """Derivative of the first block -> d of x and of the weights.

    Its raw values are k_1 w_1 + ... + k_4 w_4 + bias, with kernel k and the frames w under its taps. With w less its
    mean and g what the activation receives, all derivatives follow from the sums of g w_i, g and w_i w_j: one pass over
    the derivative of the output, which is large, instead of three.
    """
    (kernel, bias, scale, shift), (mean, variance, *_) = kept.weights[0], kept.norm(0)
    under_taps = jnp.stack(single_windows(kept.x))  # (tap, slice, pixel, time)
    windows = under_taps - under_taps.mean([1 + axis for axis in axes], keepdims=True)
    sums: list[Array] = []
    for span, d_part in zip(spans, d_parts, strict=True):
        of_part, d_y, sums = jax.lax.optimization_barrier((windows[:, :, slice(*span)], d_part, sums))
        centred = _added(*(of_tap[..., None] * kernel[tap, None, None] for tap, of_tap in enumerate(of_part)))
        received = blocks.received_derivative(
            centred, jnp.zeros_like(mean), variance, scale, shift, d_y, blocks.SLOPE
        )
        sums.append(window_sums(of_part, received))
    total = _added(*sums)  # (slice, tap + 1, out)
    squares = jnp.einsum("inpt,jnpt->nij", windows, windows, precision="highest")
    if 0 in axes:
        total, squares = (of_all.sum(0, keepdims=True) for of_all in (total, squares))
    of_taps, d_shift = total[:, :-1], total[:, -1]
    inverse_sd = blocks.inverse_sd(variance)[:, 0]  # (1 or slice, 1, out)
    d_scale = (kernel[None, :, 0] * of_taps).sum(1) * inverse_sd[:, 0]
    means = _over(blocks.NormSums(d_scale[:, None, None], d_shift[:, None, None]), _count(kept.x, 0, axes))
    values = jnp.einsum("nij,jc->nic", squares, kernel[:, 0], precision="highest")
    d_kernel = scale[None, None] * inverse_sd * (of_taps - inverse_sd * means.scale[:, 0] * values)
    d_bias = None if bias is None else jnp.zeros_like(bias)  # the norm takes off what a bias adds

    raw = _convolved(kept.x[..., None], kept.weights[0]).astype(dtype)
    d_raw = blocks.norm_derivative(raw, *kept.norm(0), jnp.concatenate(d_parts, 1), means, blocks.SLOPE)
    d_x = input_derivative(kernel, d_raw.astype(kept.x.dtype), kept.x.shape[2])[..., 0]
    return d_x, BlockWeights(d_kernel.sum(0)[:, None], d_bias, d_scale.sum(0), d_shift.sum(0))


def _raw_again(x: Array, kept: _Kept, index: int, dtype: Any) -> list[Array]:
    """Raw values of the first blocks, as far as the derivative of block `index` needs them and they are not kept."""
    needed = min(index + 1, kept.begin) if index <= kept.begin else 0
    raw, inputs = [], x[..., None]
    for block, statistics in zip(kept.weights[:needed], kept.statistics, strict=False):
        raw.append(_convolved(inputs, block).astype(dtype))
        inputs = _activated(raw[-1], block, statistics)
    return raw


def _convolved(inputs: Array, block: BlockWeights) -> Array:
    """A block's raw values."""
    return _with_bias(convolve_time(inputs, block.kernel), block.bias)


def _with_bias(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + bias.astype(y.dtype)[None, None, None]


def _activated(raw: Array, block: BlockWeights, statistics: blocks.Statistics) -> Array:
    """A block's output: its raw values behind norm and leaky ReLU."""
    return blocks.normalised(raw, *_spread(statistics), block.scale, block.shift, blocks.SLOPE)


def _spread(statistics: blocks.Statistics) -> tuple[Array, Array]:
    """Statistics beside (slice, pixel, time, channel)."""
    return statistics.mean[:, None, None], statistics.variance[:, None, None]


def _axes(per_slice: bool) -> tuple[int, ...]:
    """Those that statistics are taken over."""
    return (1, 2) if per_slice else (0, 1, 2)


def _count(x: Array, index: int, axes: tuple[int, ...]) -> int:
    """Values of a channel that the statistics of a block are of."""
    n, pixels, frames = x.shape
    return (n if 0 in axes else 1) * pixels * (frames // 2 ** (index + 1))


def _over(sums: blocks.NormSums, count: int) -> blocks.NormSums:
    return blocks.NormSums(sums.scale / count, sums.shift / count)


def _added(*parts: Array) -> Array:
    return sum(parts[1:], start=parts[0])


def _spans(n_pixels: int, lean: bool) -> list[Span]:
    """The parts that the derivative takes the pixels in."""
    parts = LEAN_PARTS if lean else PARTS if platforms.traced_for() != platforms.CPU else 1
    length = n_pixels // parts if n_pixels % parts == 0 else n_pixels
    return [(begin, begin + length) for begin in range(0, n_pixels, length)]


def _cut(x: Array, span: Span) -> Array:
    """A part of the pixels, axis 1."""
    return x[:, slice(*span)]


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
            tile = _with_bias(convolve_time(tile, kernel), bias).astype(dtype)
            tile = jnp.where(tile > 0, tile, blocks.SLOPE * tile)
        return tile

    if n_tiles == 1:
        return whole_stack(x)
    done = jnp.moveaxis(jax.lax.map(whole_stack, _in_parts(x, n_tiles)), 0, 1)
    return done.reshape(*x.shape[:2], *done.shape[3:])


# --- Tiles ---------------------------------------------------------------------------------------------------------


def tile_count(n_slices: int, n_pixels: int, width: int) -> int:
    """Into how many parts to take the pixels: one on an accelerator, cache-sized ones on a CPU."""
    if platforms.traced_for() != platforms.CPU:
        return 1
    wanted = -(-n_slices * n_pixels * width // TILE_VALUES)
    return next((count for count in range(wanted, min(2 * wanted, n_pixels) + 1) if n_pixels % count == 0), 1)


def _in_parts(x: Array, parts: int) -> Array:
    """(slice, pixel, ...) -> (part, slice, pixel, ...)."""
    return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)
