"""What the temporal stack computes, with few passes over memory: a pure function of series and weights.

Six blocks of convolution over time, norm and leaky ReLU make some thousand values of each pixel, so that memory, not
arithmetic, decides the speed. Therefore

- a convolution is one matrix product a window of frames;
- the derivative keeps of a block only what its convolution gave: norm, activation and windows are computed again;
- with known statistics the norms fold into the weights; pixels are then independent, and on a CPU a tile of them, small
  enough for the cache, goes through all six blocks before the next one begins.

Words: the *raw* values of a block are what its convolution gives, before the norm. Statistics and sums are at least
float32 whatever the values are.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.models import blocks

Array = jax.Array

TAPS = 4  # frames under a kernel; stride 2, padding 1
EXACT_UP_TO = 7  # frames: shorter series are convolved window by window, without the zeros around them
LEAN_BLOCKS = 2  # a lean derivative computes the values of the first blocks again
LEAN_PARTS = 8  # and takes the pixels in so many parts, where they divide
TILE_VALUES = 65536  # pixels times width of a tile on a CPU: the fastest of 16,384 to 131,072 at width 16


class BlockWeights(NamedTuple):
    """What a block has learned; `bias` is None where the norm follows directly."""

    kernel: Array  # (4, in, out)
    bias: Array | None  # (out,)
    scale: Array  # (out,), of the norm
    shift: Array  # (out,)


# --- One convolution -----------------------------------------------------------------------------------------------


@jax.custom_vjp
def convolve_time(x: Array, kernel: Array) -> Array:
    """Convolution over time alone, kernel 4, stride 2, padding 1, as matrix products over windows of four frames.

    Args:
      x: (slice, pixel, time, in).
      kernel: (4, in, out), of the type of `x` or a wider one.

    Returns:
      (slice, pixel, time // 2, out), of the type of `x`.

    The derivative is written out as matrix products too: the automatic one, of a convolution or of windows, is several
    times slower on a CPU.
    """
    n, pixels, frames, n_in = x.shape
    kernel = kernel.astype(x.dtype)
    if n_in == 1:  # too little for a matrix product: four multiplications in the pass that writes the result
        padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
        taps = [padded[:, :, tap : tap + 2 * (frames // 2) : 2] * kernel[tap][None, None] for tap in range(TAPS)]
        return sum(taps[1:], start=taps[0])
    if frames >= TAPS and jax.default_backend() == "cpu":
        # The library's one-dimensional convolution packs the windows while it multiplies: here writing them costs more.
        y = jax.lax.conv_general_dilated(
            x.reshape(n * pixels, frames, n_in),
            kernel,
            (2,),
            [(1, 1 - frames % 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return y.reshape(n, pixels, frames // 2, -1)
    flat = kernel.reshape(-1, kernel.shape[-1])
    y = [part @ flat[rows] for part, rows in zip(_windows(x), _kernel_rows(frames, n_in), strict=True)]
    return y[0] if len(y) == 1 else jnp.concatenate(y, axis=2)


def _convolve_time_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_time(x, kernel), (x, kernel)


def _convolve_time_backward(saved: tuple[Array, Array], d_y: Array) -> tuple[Array, Array]:
    x, kernel = saved
    frames, n_in = x.shape[2:]
    flat = kernel.astype(d_y.dtype).reshape(-1, kernel.shape[-1])
    d_flat, d_windows, first = jnp.zeros(flat.shape, kernel.dtype), [], 0
    for part, rows in zip(_windows(x), _kernel_rows(frames, n_in), strict=True):
        d_part = d_y[:, :, first : first + part.shape[2]]
        # As plain matrices, one row per window: contracted over three axes, XLA would transpose the windows first.
        d_flat = d_flat.at[rows].add(
            jax.lax.dot_general(
                part.reshape(-1, part.shape[-1]),
                d_part.reshape(-1, d_part.shape[-1]),
                (((0,), (0,)), ((), ())),
                preferred_element_type=kernel.dtype,
            )
        )
        d_windows.append(d_part @ flat[rows].T)
        first += part.shape[2]
    return _frames_of_windows(d_windows, frames, n_in), d_flat.reshape(kernel.shape)


convolve_time.defvjp(_convolve_time_forward, _convolve_time_backward)


def _with_bias(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + bias.astype(y.dtype)[None, None, None]


def _exact_windows(frames: int) -> list[tuple[int, int, int]]:
    """First frame, frame behind the last, and first tap of each window."""
    windows = []
    for window in range(frames // 2):
        first = 2 * window - 1
        windows.append((max(first, 0), min(first + TAPS, frames), max(-first, 0)))
    return windows


def _kernel_rows(frames: int, n_in: int) -> list[slice]:
    """Which rows of the flat kernel meet each part of `_windows`."""
    if frames > EXACT_UP_TO:
        return [slice(None)]
    return [slice(tap * n_in, (tap + end - begin) * n_in) for begin, end, tap in _exact_windows(frames)]


def _windows(x: Array) -> list[Array]:
    """(slice, pixel, time, in) -> parts (slice, pixel, windows, rows of the kernel) of consecutive windows."""
    n, pixels, frames, n_in = x.shape
    if frames > EXACT_UP_TO:
        x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 - frames % 2), (0, 0)))  # an odd last frame has no partner behind it
        frame_of_window = 2 * np.arange(frames // 2)[:, None] + np.arange(TAPS)
        return [x[:, :, frame_of_window].reshape(n, pixels, frames // 2, TAPS * n_in)]
    return [x[:, :, begin:end].reshape(n, pixels, 1, (end - begin) * n_in) for begin, end, _ in _exact_windows(frames)]


def _frames_of_windows(d_windows: list[Array], frames: int, n_in: int) -> Array:
    """The transpose of `_windows`: each frame's sum over the windows that hold it."""
    nothing = ((0, 0), (0, 0))
    if frames > EXACT_UP_TO:
        # A window is two pairs of frames; each pair but the outermost belongs to two windows.
        (d,) = d_windows
        pairs = jnp.pad(d[..., : 2 * n_in], (*nothing, (0, 1), (0, 0))) + jnp.pad(
            d[..., 2 * n_in :], (*nothing, (1, 0), (0, 0))
        )
        return pairs.reshape(*pairs.shape[:2], -1, n_in)[:, :, 1 : 1 + frames]
    parts = [
        jnp.pad(d.reshape(*d.shape[:2], end - begin, n_in), (*nothing, (begin, frames - end), (0, 0)))
        for d, (begin, end, _) in zip(d_windows, _exact_windows(frames), strict=True)
    ]
    return sum(parts[1:], start=parts[0])


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
) -> tuple[tuple[Array, tuple[blocks.Statistics, ...]], tuple[Any, ...]]:
    axes = (1, 2) if per_slice else (0, 1, 2)
    raw, statistics, inputs = [x[..., None]], [], x[..., None]
    for block in weights:
        y = _convolved(inputs, block).astype(dtype)
        exact = blocks.exact(y)
        mean = exact.mean(axes, keepdims=True)
        variance = jnp.square(exact - mean).mean(axes, keepdims=True)  # two passes: E[x^2] - E[x]^2 loses digits
        raw.append(y)
        # Behind a barrier: else XLA would write x - mean to memory, once for the variance and the norm together.
        mean, variance = jax.lax.optimization_barrier((mean[:, 0, 0], variance[:, 0, 0]))
        statistics.append(blocks.Statistics(mean, variance))
        inputs = _activated(y, block, statistics[-1])
    kept = raw[:1] + raw[1 + _recomputed(weights, lean) :]
    return (inputs, tuple(statistics)), (kept, tuple(statistics), weights)


def _features_backward(
    per_slice: bool, dtype: Any, lean: bool, saved: tuple[Any, ...], cotangents: tuple[Any, ...]
) -> tuple[Array, tuple[BlockWeights, ...]]:
    kept, statistics, weights = saved
    recomputed = _recomputed(weights, lean)
    raw = [kept[0], *[None] * recomputed, *kept[1:]]
    d_y, gradients = cotangents[0], []
    for index in reversed(range(len(weights))):
        block = weights[index]
        if recomputed and index == recomputed:
            # Not before the blocks above are done: else XLA would keep the first pass's values after all.
            x, d_y = jax.lax.optimization_barrier((raw[0], d_y))
            raw[: 1 + recomputed] = _raw_again(x, weights[:recomputed], statistics, dtype)
        d_raw, d_scale, d_shift = blocks.normalised_derivative(
            raw[index + 1],
            *_spread(statistics[index]),
            block.scale,
            block.shift,
            d_y,
            (1, 2) if per_slice else (0, 1, 2),
            blocks.SLOPE,
        )
        before = (weights[index - 1], statistics[index - 1]) if index else None
        # The inputs' windows are not made before they are needed: they are the largest arrays of all.
        raw[index], d_raw = jax.lax.optimization_barrier((raw[index], d_raw))
        d_y, d_kernel = _convolution_derivative(raw[index], d_raw, block.kernel, before, LEAN_PARTS if lean else 1)
        d_bias = None if block.bias is None else blocks.exact(d_raw).sum((0, 1, 2)).astype(block.bias.dtype)
        gradients.append(BlockWeights(d_kernel, d_bias, d_scale, d_shift))
    return d_y[..., 0].astype(kept[0].dtype), tuple(reversed(gradients))


features.defvjp(_features_forward, _features_backward)


def _recomputed(weights: tuple[BlockWeights, ...], lean: bool) -> int:
    """Of how many blocks the raw values are not kept."""
    return min(LEAN_BLOCKS, len(weights) - 1) if lean else 0


def _convolved(inputs: Array, block: BlockWeights) -> Array:
    """A block's raw values."""
    return _with_bias(convolve_time(inputs, block.kernel), block.bias)


def _convolution_derivative(
    raw: Array, d_y: Array, kernel: Array, before: tuple[BlockWeights, blocks.Statistics] | None, parts: int
) -> tuple[Array, Array]:
    """Derivative of a convolution with respect to its inputs and its kernel, `parts` of the pixels in turn.

    The inputs are the output of the block `before`, whose raw values are given; or, for the first block, `raw` itself.
    """

    def of_part(part: tuple[Array, Array]) -> tuple[Array, Array]:
        raw, d_y = part
        inputs = raw if before is None else _activated(raw, *before)
        _, pull = jax.vjp(convolve_time, inputs, kernel)
        return pull(d_y.astype(inputs.dtype))

    n_pixels = raw.shape[1]
    if parts == 1 or n_pixels % parts:
        return of_part((raw, d_y))

    def step(part: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        d_inputs, d_kernel = sums
        begin, length = part * (n_pixels // parts), n_pixels // parts
        d_part, d_kernel_part = of_part(tuple(jax.lax.dynamic_slice_in_dim(x, begin, length, 1) for x in (raw, d_y)))
        return jax.lax.dynamic_update_slice_in_dim(d_inputs, d_part, begin, 1), d_kernel + d_kernel_part

    return jax.lax.fori_loop(0, parts, step, (jnp.zeros_like(raw), jnp.zeros_like(kernel)))


def _raw_again(
    x: Array, weights: tuple[BlockWeights, ...], statistics: tuple[blocks.Statistics, ...], dtype: Any
) -> list[Array]:
    """`x` and the raw values of the first blocks, from statistics that are known by now."""
    raw, inputs = [x], x
    for block, of_block in zip(weights, statistics, strict=False):
        raw.append(_convolved(inputs, block).astype(dtype))
        inputs = _activated(raw[-1], block, of_block)
    return raw


def _activated(raw: Array, block: BlockWeights, statistics: blocks.Statistics) -> Array:
    """A block's output: its raw values behind norm and leaky ReLU."""
    return blocks.normalised(raw, *_spread(statistics), block.scale, block.shift, blocks.SLOPE)


def _spread(statistics: blocks.Statistics) -> tuple[Array, Array]:
    """Statistics beside (slice, pixel, time, channel)."""
    return statistics.mean[:, None, None], statistics.variance[:, None, None]


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
    if jax.default_backend() != "cpu":
        return 1
    wanted = -(-n_slices * n_pixels * width // TILE_VALUES)
    return next((count for count in range(wanted, min(2 * wanted, n_pixels) + 1) if n_pixels % count == 0), 1)


def _in_parts(x: Array, parts: int) -> Array:
    """(slice, pixel, ...) -> (part, slice, pixel, ...)."""
    return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)
