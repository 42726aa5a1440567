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
        neighbours: int = 0,
        dims: int = 2,
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
            neighbours=neighbours,
            dims=dims,
        )

    def __call__(self, series: Array, mode: str, dtype: Any = None, exam_slices: int = 1) -> Array:
        """(slice, time, row, col) -> (slice, row, col, map) in (-1, 1); `InputError` unless 64 <= time <= 127.

        `dtype` is that of the layers inside (default: the series'); `exam_slices` as in `UNet`.
        """
        padded, crop = pad_to_depth(series, self.unet.depth)
        features = self._features(padded, mode, dtype, exam_slices)
        return jnp.tanh(crop(self.unet(features, mode, exam_slices)))

    def _features(self, padded: Array, mode: str, dtype: Any, exam_slices: int) -> Array:
        """The temporal stack's; pixels never mix in it, so that an exam is one image of many rows."""
        if exam_slices == 1:
            return self.temporal(padded, mode, dtype)
        exams = rearrange(padded, "(exam slice) time row col -> exam time (slice row) col", slice=exam_slices)
        features = self.temporal(exams, mode, dtype)
        return rearrange(features, "exam (slice row) col channel -> (exam slice) row col channel", slice=exam_slices)


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
        neighbours: int = 0,
        dims: int = 2,
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
            neighbours=neighbours,
            dims=dims,
        )

    def __call__(self, series: Array, mode: str, dtype: Any = None, exam_slices: int = 1) -> Array:
        """(slice, time, row, col) -> (slice, row, col, map) in (-1, 1); the rest as in `TemporalGenerator`."""
        padded, crop = pad_to_depth(series.astype(dtype or series.dtype), self.unet.depth)
        frames_last = rearrange(padded, "slice time row col -> slice row col time")
        return jnp.tanh(crop(self.unet(frames_last, mode, exam_slices)))
