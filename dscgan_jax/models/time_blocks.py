"""One block of the temporal stack: convolution over time, norm, leaky ReLU.

Its *raw* values are what the convolution gives, before the norm.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dscgan_jax.models import blocks
from dscgan_jax.models.time_convolution import convolve_time

Array = jax.Array


class BlockWeights(NamedTuple):
    """What a block has learned; `bias` is None where the norm follows directly."""

    kernel: Array  # (4, in, out)
    bias: Array | None  # (out,)
    scale: Array  # (out,), of the norm
    shift: Array  # (out,)


def convolved(inputs: Array, block: BlockWeights) -> Array:
    """A block's raw values, of the type of its inputs."""
    return with_bias(convolve_time(inputs, block.kernel), block.bias)


def with_bias(y: Array, bias: Array | None) -> Array:
    """(slice, pixel, time, channel) and what is added to each channel, if anything is."""
    return y if bias is None else y + bias.astype(y.dtype)[None, None, None]


def activated(raw: Array, block: BlockWeights, statistics: blocks.Statistics) -> Array:
    """A block's output: its raw values behind norm and leaky ReLU."""
    return blocks.normalised(raw, *spread(statistics), block.scale, block.shift, blocks.SLOPE)


def spread(statistics: blocks.Statistics) -> tuple[Array, Array]:
    """Statistics beside (slice, pixel, time, channel)."""
    return statistics.mean[:, None, None], statistics.variance[:, None, None]


# --- Parts of the pixels ---------------------------------------------------------------------------------------------


def split(x: Array, parts: int) -> tuple[Array, ...]:
    """(slice, pixel, ...) -> so many equal parts of the pixels."""
    return tuple(jnp.split(x, parts, axis=1)) if parts > 1 else (x,)


def joined(parts: Sequence[Array]) -> Array:
    """The reverse of `split`."""
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def added(*parts: Array) -> Array:
    """Their sum."""
    return sum(parts[1:], start=parts[0])
