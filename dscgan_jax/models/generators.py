"""The two generators: series in, maps out, both scaled to [-1, 1]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.models import temporal, unet
from dscgan_jax.models.padding import pad_to_depth

Array = jax.Array


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
