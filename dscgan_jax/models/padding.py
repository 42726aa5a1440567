"""Slices whose sides a U-Net cannot halve often enough."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array

AIR = -1.0  # the lowest scaled value: what the margin of an image holds


def pad_to_depth(series: Array, depth: int) -> tuple[Array, Callable[[Array], Array]]:
    """Pads rows and columns with air, evenly on both sides, to multiples of 2**depth.

    Args:
      series: (slice, time, row, col), scaled.
      depth: levels of the U-Net, each of which halves the grid.

    Returns:
      the padded series, and a function that crops (slice, row, col, channel) back.
    """
    rows, cols = series.shape[2:]
    extra = [-side % 2**depth for side in (rows, cols)]
    top, left = (amount // 2 for amount in extra)
    if any(extra):
        series = jnp.pad(series, ((0, 0), (0, 0), (top, extra[0] - top), (left, extra[1] - left)), constant_values=AIR)
    return series, lambda maps: maps[:, top : top + rows, left : left + cols]
