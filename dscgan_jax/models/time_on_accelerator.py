"""The temporal stack with statistics of its own input, and its derivative, on an accelerator, where memory is slow.

Of a block the derivative keeps the raw values alone, of the first not even those, of a lean stack's first three none:
norms, activations and windows are computed again. The pixels come in parts that are taken one after the other, so that
no second array as large as all values of a block stands beside the first. The derivative of a norm needs sums over all
pixels; they are made as soon as the derivative of its output is there.

`jax.lax.optimization_barrier` says here what XLA may not see or move: that two values are the same (it would keep the
first for the second instead of computing it again), or that something could be done earlier. What the compiled program
moves and keeps is measured by `benchmarks/gpu_program.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dscgan_jax.models import blocks
from dscgan_jax.models.time_blocks import BlockWeights, activated, added, convolved, joined, split, spread
from dscgan_jax.models.time_convolution import input_derivative, kernel_derivative, single_windows, window_sums

Array = jax.Array

SAMPLED = 409  # every so many pixels say about where a mean is; no row or column of an image is hit more than others
KEPT_FROM, LEAN_KEPT_FROM = 1, 3  # first block whose raw values wait for the derivative; in a lean one
PARTS, LEAN_PARTS = 2, 8  # of the pixels, at most: as many as divide them


class Kept(NamedTuple):
    """What waits for the derivative; a tuple of arrays holds the pixels in equal parts."""

    x: tuple[Array, ...]  # (slice, pixel, time)
    raw: tuple[tuple[Array, ...], ...]  # of the last blocks, each (slice, pixel, time, channel)
    statistics: tuple[blocks.Statistics, ...]
    weights: tuple[BlockWeights, ...]

    @property
    def begin(self) -> int:
        """The first block whose raw values are kept."""
        return len(self.weights) - len(self.raw)

    def norm(self, index: int) -> tuple[Array, Array, Array, Array]:
        """Mean, variance, scale and shift of a block's norm."""
        block = self.weights[index]
        return *spread(self.statistics[index]), block.scale, block.shift


class _Pixels(NamedTuple):
    """A part of the pixels, as the derivative of one block reads them."""

    x: Array  # (slice, pixel, time)
    raw: dict[int, Array]  # of the block and the one before it, (slice, pixel, time, channel), where they are kept


def forward(
    x: Array, weights: tuple[BlockWeights, ...], axes: tuple[int, ...], dtype: Any, lean: bool
) -> tuple[tuple[Array, tuple[blocks.Statistics, ...]], Kept]:
    """As `time_passes.features`, and what its derivative needs."""
    most = LEAN_PARTS if lean else PARTS
    x_parts = split(x, next(parts for parts in range(most, 0, -1) if x.shape[1] % parts == 0))
    raw: list[tuple[Array, ...]] = []
    statistics: list[blocks.Statistics] = []
    begin = min(LEAN_KEPT_FROM if lean else KEPT_FROM, len(weights) - 1)
    inputs = [part[..., None] for part in x_parts]
    sample = x[:, ::SAMPLED, :, None]  # goes through the blocks beside all pixels
    for block in weights:
        raw_sample = convolved(sample, block).astype(dtype)
        # Behind barriers, one after the other: XLA would put the products of one kernel together, and copy their pixels
        # for it, and read the parts twice, all for their mean and all for their variance.
        inputs, near = jax.lax.optimization_barrier((inputs, blocks.near_mean(raw_sample, axes)))
        y: list[Array] = []
        moments: list[blocks.Moments] = []
        for part in inputs:
            of_part, moments = jax.lax.optimization_barrier((part, moments))
            y.append(convolved(of_part, block).astype(dtype))
            moments.append(blocks.moments(y[-1], near, axes))
        of_block = jax.lax.optimization_barrier(blocks.statistics(moments))
        if not raw:
            # The first convolution is cheaper done again than its values are read: here, and by the derivative. Behind
            # barriers: XLA would see that they are the same, and write them.
            inputs, of_block = jax.lax.optimization_barrier((inputs, of_block))
            y = [convolved(part, block).astype(dtype) for part in inputs]
        raw.append(tuple(y))
        statistics.append(of_block)
        inputs, sample = [activated(part, block, of_block) for part in y], activated(raw_sample, block, of_block)
    return (joined(inputs), tuple(statistics)), Kept(x_parts, tuple(raw[begin:]), tuple(statistics), weights)


def derivative(kept: Kept, d_y: Array, axes: tuple[int, ...], dtype: Any) -> tuple[Array, tuple[BlockWeights, ...]]:
    """D of the stack's output -> d of its input and of its weights.

    Args:
      kept: by the forward pass.
      d_y: (slice, pixel, time left, channel).
      axes: that statistics are taken over: (0, 1, 2), or (1, 2) for each slice's own.
      dtype: of all values between the blocks.

    Returns:
      (slice, pixel, time); as `kept.weights`.
    """
    last, parts = len(kept.weights) - 1, range(len(kept.x))
    (x, raw), d_y = jax.lax.optimization_barrier(((kept.x, kept.raw), d_y))
    kept = kept._replace(x=x, raw=raw)
    d_parts, gradients = split(d_y, len(parts)), []
    of_last = [blocks.norm_sums(kept.raw[-1][i], *kept.norm(last), d_parts[i], axes, blocks.SLOPE) for i in parts]
    sums = jax.tree.map(added, *of_last)
    for index in reversed(range(1, last + 1)):
        means = _over(sums, _count(kept.x, index, axes))
        d_scale, d_shift = (of_all.sum((0, 1, 2)) for of_all in sums)
        done: list[Any] = []
        for i in parts:
            of_part = {j: kept.raw[j - kept.begin][i] for j in (index - 1, index) if j >= kept.begin}
            # A part begins when the one before it is done.
            pixels, d_part, done = jax.lax.optimization_barrier(
                (_Pixels(kept.x[i], of_part), d_y if index == last else d_parts[i], done)
            )
            if index == last:  # taken from the whole behind the barrier, which would write it
                d_part = split(d_part, len(parts))[i]
            done.append(_block_derivative(pixels, kept, index, d_part, means, axes, dtype))
        d_parts = tuple(d_inputs for d_inputs, _ in done)
        d_kernel, d_bias, sums = jax.tree.map(added, *(total for _, total in done))
        gradients.append(BlockWeights(d_kernel, d_bias, d_scale, d_shift))
    d_x, of_first = _first_derivative(kept, d_parts, axes, dtype)
    gradients.append(of_first)
    return d_x, jax.tree.map(lambda d, value: d.astype(value.dtype), tuple(reversed(gradients)), kept.weights)


def _block_derivative(
    pixels: _Pixels,
    kept: Kept,
    index: int,
    d_y: Array,
    means: blocks.NormSums,
    axes: tuple[int, ...],
    dtype: Any,
) -> tuple[Array, tuple[Array, Array | None, blocks.NormSums | None]]:
    """Derivative of a block behind the first, for a part of the pixels.

    Args:
      pixels: that part.
      kept: weights and statistics.
      index: the block's.
      d_y: of the block's output, (slice, pixel, time, channel).
      means: over all pixels, of what `blocks.norm_sums` adds up for this block.
      axes: of the statistics.
      dtype: of raw values.

    Returns:
      d of the block's input; d of kernel and bias, and `norm_sums` of the block before it (None of the first, which
      needs none), of this part.
    """
    block, before = kept.weights[index], index - 1
    raw = dict(enumerate(_raw_again(pixels.x, kept, index, dtype))) | pixels.raw
    d_raw = blocks.norm_derivative(raw[index], *kept.norm(index), d_y, means, blocks.SLOPE)
    if before in pixels.raw:  # the input, which is large, is not made before it is needed
        raw[before], d_raw = jax.lax.optimization_barrier((raw[before], d_raw))
    inputs = activated(raw[before], kept.weights[before], kept.statistics[before])
    d_kernel = kernel_derivative(inputs, d_raw)
    d_bias = None if block.bias is None else blocks.exact(d_raw).sum((0, 1, 2))
    # The kernel first: its derivative is small and lets go of the block's input.
    d_kernel, d_raw = jax.lax.optimization_barrier((d_kernel, d_raw))
    d_inputs = input_derivative(block.kernel, d_raw, inputs.shape[2])
    sums = blocks.norm_sums(raw[before], *kept.norm(before), d_inputs, axes, blocks.SLOPE) if before else None
    return d_inputs, (d_kernel, d_bias, sums)


def _first_derivative(
    kept: Kept, d_parts: tuple[Array, ...], axes: tuple[int, ...], dtype: Any
) -> tuple[Array, BlockWeights]:
    """Derivative of the first block -> d of x and of the weights.

    Its raw values are k_1 w_1 + ... + k_4 w_4 + bias, with kernel k and the frames w under its taps. With w less its
    mean and g what the activation receives, all derivatives follow from the sums of g w_i, g and w_i w_j: one pass over
    the derivative of the output, which is large, instead of three.
    """
    (kernel, bias, scale, shift), (_, variance, *_) = kept.weights[0], kept.norm(0)
    under_taps = [jnp.stack(single_windows(part), axis=-1) for part in kept.x]  # (slice, pixel, time, tap)
    middle = added(*(part.mean(axes, keepdims=True) for part in under_taps)) / len(under_taps)
    windows = [part - middle for part in under_taps]
    sums: list[Array] = []
    for part, d_part in zip(windows, d_parts, strict=True):
        of_part, d_y, sums = jax.lax.optimization_barrier((part, d_part, sums))
        same = jax.lax.optimization_barrier([(kernel, variance, scale, shift)] * (len(kernel) + 1))
        sums.append(window_sums(of_part, [_received(of_part, *norm) for norm in same], d_y, blocks.SLOPE))
    total = added(*sums)  # (slice, tap + 1, out)
    squares = added(*(jnp.einsum("npti,nptj->nij", part, part, precision="highest") for part in windows))
    if 0 in axes:
        total, squares = (of_all.sum(0, keepdims=True) for of_all in (total, squares))
    of_taps, d_shift = total[:, :-1], total[:, -1]
    inverse_sd = blocks.inverse_sd(variance)[:, 0]  # (1 or slice, 1, out)
    d_scale = (kernel[None, :, 0] * of_taps).sum(1) * inverse_sd[:, 0]
    means = _over(blocks.NormSums(d_scale[:, None, None], d_shift[:, None, None]), _count(kept.x, 0, axes))
    values = jnp.einsum("nij,jc->nic", squares, kernel[:, 0], precision="highest")
    d_kernel = scale[None, None] * inverse_sd * (of_taps - inverse_sd * means.scale[:, 0] * values)
    d_bias = None if bias is None else jnp.zeros_like(bias)  # the norm takes off what a bias adds

    x = joined(kept.x)
    raw = convolved(x[..., None], kept.weights[0]).astype(dtype)
    d_raw = blocks.norm_derivative(raw, *kept.norm(0), joined(d_parts), means, blocks.SLOPE)
    d_x = input_derivative(kernel, d_raw.astype(x.dtype), x.shape[2])[..., 0]
    return d_x, BlockWeights(d_kernel.sum(0)[:, None], d_bias, d_scale.sum(0), d_shift.sum(0))


def _received(windows: Array, kernel: Array, variance: Array, scale: Array, shift: Array) -> Array:
    """What the activation of the first block receives, of its windows less their mean (slice, pixel, time, tap)."""
    centred = added(*(windows[..., tap, None] * kernel[None, None, None, tap, 0] for tap in range(len(kernel))))
    return blocks.received(centred, jnp.zeros_like(variance), variance, scale, shift)


def _raw_again(x: Array, kept: Kept, index: int, dtype: Any) -> list[Array]:
    """Raw values of the first blocks, as far as the derivative of block `index` needs them and they are not kept."""
    needed = min(index + 1, kept.begin) if index <= kept.begin else 0
    raw, inputs = [], x[..., None]
    for block, statistics in zip(kept.weights[:needed], kept.statistics, strict=False):
        raw.append(convolved(inputs, block).astype(dtype))
        inputs = activated(raw[-1], block, statistics)
    return raw


def _count(x: tuple[Array, ...], index: int, axes: tuple[int, ...]) -> int:
    """Values of a channel that the statistics of a block are of."""
    n, pixels, frames = x[0].shape
    return (n if 0 in axes else 1) * len(x) * pixels * (frames // 2 ** (index + 1))


def _over(sums: blocks.NormSums, count: int) -> blocks.NormSums:
    return blocks.NormSums(sums.scale / count, sums.shift / count)
