"""The two generators: series in, maps out, both scaled to [-1, 1]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.models import temporal, unet

Array = jax.Array

AIR = -1.0  # the lowest scaled value: what the margin of an image holds


class TemporalGenerator(nnx.Module):
    """temp-pix2pix: the temporal stack, then a U-Net on its features."""

    def __init__(
        self,
        n_out: int,
        *,
        width: int,
        unet_width: int,
        depth: int,
        norm: str,
        upsample: str,
        bias_before_norm: bool,
        scheme: str,
        rng: np.random.Generator | None,
        lean: bool = False,
    ):
        self.temporal = temporal.TemporalStack(
            width, norm=norm, bias=bias_before_norm, scheme=scheme, rng=rng, lean=lean
        )
        self.unet = unet.UNet(
            width * temporal.WIDENING[-1],
            n_out,
            width=unet_width,
            depth=depth,
            norm=norm,
            upsample=upsample,
            bias_before_norm=bias_before_norm,
            scheme=scheme,
            rng=rng,
        )

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """(slice, time, row, col) -> (slice, row, col, map) in (-1, 1); `InputError` unless 64 <= time <= 127.

        `dtype` is that of the layers inside (default: the series').
        """
        padded, crop = pad_to_depth(series, self.unet.depth)
        return jnp.tanh(crop(self.unet(self.temporal(padded, mode, dtype), mode)))


class UNetGenerator(nnx.Module):
    """pix2pix: a U-Net whose input channels are the frames."""

    def __init__(
        self,
        frames: int,
        n_out: int,
        *,
        width: int,
        depth: int,
        norm: str,
        upsample: str,
        bias_before_norm: bool,
        scheme: str,
        rng: np.random.Generator | None,
    ):
        self.unet = unet.UNet(
            frames,
            n_out,
            width=width,
            depth=depth,
            norm=norm,
            upsample=upsample,
            bias_before_norm=bias_before_norm,
            scheme=scheme,
            rng=rng,
        )

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """(slice, time, row, col) -> (slice, row, col, map) in (-1, 1); `dtype` as in `TemporalGenerator`."""
        padded, crop = pad_to_depth(series.astype(dtype or series.dtype), self.unet.depth)
        frames_last = rearrange(padded, "slice time row col -> slice row col time")
        return jnp.tanh(crop(self.unet(frames_last, mode)))


def pad_to_depth(series: Array, depth: int):
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
