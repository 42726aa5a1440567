"""The temporal stack with statistics of its own input, and its derivative, on a CPU.

The derivative keeps of a block only its raw values, once: norms, activations and windows are computed again. A lean one
computes the raw values of the first blocks again too, and takes the pixels in parts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from dscgan_jax.models import blocks
from dscgan_jax.models.time_blocks import BlockWeights, activated, convolved, spread
from dscgan_jax.models.time_convolution import input_derivative, kernel_derivative

Array = jax.Array
Kept = tuple[list[Array], tuple[blocks.Statistics, ...], tuple[BlockWeights, ...]]  # x and raw values; the rest

LEAN_BLOCKS = 2  # a lean derivative computes the values of the first blocks again
LEAN_PARTS = 8  # and takes the pixels in so many parts, where they divide


def forward(
    x: Array, weights: tuple[BlockWeights, ...], axes: tuple[int, ...], dtype: Any, lean: bool
) -> tuple[tuple[Array, tuple[blocks.Statistics, ...]], Kept]:
    """As `time_passes.features`, and what its derivative needs."""
    raw, statistics, inputs = [x[..., None]], [], x[..., None]
    for block in weights:
        y = convolved(inputs, block).astype(dtype)
        exact = blocks.exact(y)
        mean = exact.mean(axes, keepdims=True)
        variance = jnp.square(exact - mean).mean(axes, keepdims=True)  # two passes: E[x^2] - E[x]^2 loses digits
        raw.append(y)
        # Behind a barrier: else XLA would write x - mean to memory, once for the variance and the norm together.
        mean, variance = jax.lax.optimization_barrier((mean[:, 0, 0], variance[:, 0, 0]))
        statistics.append(blocks.Statistics(mean, variance))
        inputs = activated(y, block, statistics[-1])
    values = raw[:1] + raw[1 + _recomputed(weights, lean) :]
    return (inputs, tuple(statistics)), (values, tuple(statistics), weights)


def derivative(
    kept: Kept, d_y: Array, axes: tuple[int, ...], dtype: Any, lean: bool
) -> tuple[Array, tuple[BlockWeights, ...]]:
    """D of the output -> d of x and of the weights; see `time_on_accelerator.derivative`."""
    values, statistics, weights = kept
    recomputed = _recomputed(weights, lean)
    raw: list[Any] = [values[0], *[None] * recomputed, *values[1:]]
    gradients = []
    for index in reversed(range(len(weights))):
        block = weights[index]
        if recomputed and index == recomputed:
            # Not before the blocks above are done: else XLA would keep the first pass's values after all.
            x, d_y = jax.lax.optimization_barrier((raw[0], d_y))
            raw[: 1 + recomputed] = _raw_again(x, weights[:recomputed], statistics, dtype)
        d_raw, d_scale, d_shift = blocks.normalised_derivative(
            raw[index + 1],
            *spread(statistics[index]),
            block.scale,
            block.shift,
            d_y,
            axes,
            blocks.SLOPE,
        )
        before = (weights[index - 1], statistics[index - 1]) if index else None
        # The inputs' windows are not made before they are needed: they are the largest arrays of all.
        raw[index], d_raw = jax.lax.optimization_barrier((raw[index], d_raw))
        d_y, d_kernel = _convolution_derivative(raw[index], d_raw, block.kernel, before, LEAN_PARTS if lean else 1)
        d_bias = None if block.bias is None else blocks.exact(d_raw).sum((0, 1, 2)).astype(block.bias.dtype)
        gradients.append(BlockWeights(d_kernel, d_bias, d_scale, d_shift))
    return d_y[..., 0].astype(values[0].dtype), tuple(reversed(gradients))


def _recomputed(weights: tuple[BlockWeights, ...], lean: bool) -> int:
    """Of how many blocks the raw values are not kept."""
    return min(LEAN_BLOCKS, len(weights) - 1) if lean else 0


def _convolution_derivative(
    raw: Array, d_y: Array, kernel: Array, before: tuple[BlockWeights, blocks.Statistics] | None, parts: int
) -> tuple[Array, Array]:
    """Derivative of a convolution with respect to its inputs and its kernel, `parts` of the pixels in turn.

    The inputs are the output of the block `before`, whose raw values are given; or, for the first block, `raw` itself.
    """

    def of_part(part: tuple[Array, Array]) -> tuple[Array, Array]:
        raw, d_y = part
        inputs = raw if before is None else activated(raw, *before)
        d_y = d_y.astype(inputs.dtype)
        return input_derivative(kernel, d_y, inputs.shape[2]), kernel_derivative(inputs, d_y).astype(kernel.dtype)

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
        raw.append(convolved(inputs, block).astype(dtype))
        inputs = activated(raw[-1], block, of_block)
    return raw
