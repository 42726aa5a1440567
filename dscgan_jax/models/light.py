"""A generator for a CPU: each pixel's frames become features by two small matrices, a U-Net of full resolution follows.

It has no norms: what it makes of a slice depends on that slice alone, in training as afterwards, but for two curves of
the exam that may lie in its corners (`data.reference_curves`): its AIF and its brain's mean. Of a pixel it
takes the mean over time (its *level*) and what differs from it, the latter over its strength in the whole slice: so the
dose and the echo time, which say nothing of perfusion, change little. What the slice has in common - when the bolus
comes, how wide it is - reaches each pixel as the mean features of all pixels that show anything (the *context*), and as
what a few *looks* at chosen pixels find.
Its last layer is linear, and what lies beyond the maps' ranges is cut off afterwards: where tanh ends there is no
gradient, and without norms a few steps can lead there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.models import blocks, products
from dscgan_jax.models.padding import AIR, pad_to_depth
from dscgan_jax.settings import CORNER, CORNERS

Array = jax.Array

WIDENING = (1.0, 1.5, 2.0, 3.0, 4.0)  # channels of each level over the width; the last also of deeper ones
FRAME_FEATURES = 2  # of a pixel's frames over the width
LOOK_PENALTY = -1e9  # of a pixel that shows nothing, before the softmax
FAINTEST = 1e-3  # of the scaled signal's standard deviation over time, which a slice of air has not
SEEN = 1e-4  # scaled signal above the lowest: a pixel that was set to zero has none in any frame


def level_channels(width: int, depth: int) -> tuple[int, ...]:
    """Channels of full resolution and of each level below it, multiples of four."""
    return tuple(4 * round(width * WIDENING[min(level, len(WIDENING) - 1)] / 4) for level in range(depth + 1))


class Dense(nnx.Module):
    """A matrix for each pixel, with bias."""

    def __init__(self, n_in: int, n_out: int, *, scheme: str, rng: np.random.Generator | None, kind: str = "temporal"):
        self.kernel = nnx.Param(blocks.draw_kernel(rng, (n_in, n_out), kind, scheme))
        self.bias = nnx.Param(blocks.draw_bias(rng, (n_in, n_out), kind, scheme))

    def __call__(self, x: Array) -> Array:
        """(..., in) -> (..., out)."""
        return products.add_bias(products.multiply(x, self.kernel[...]), self.bias[...])


class LightGenerator(nnx.Module):
    """Frames -> features with the slice's context -> U-Net without norms."""

    def __init__(
        self,
        frames: int,
        n_out: int,
        *,
        width: int,
        depth: int,
        looks: int = 0,
        arterial_input: bool = False,
        peak_time: bool = False,
        scheme: str,
        rng: np.random.Generator | None,
    ):
        if arterial_input and not looks:
            raise ValueError("arterial_input needs looks above 0.")
        channels = level_channels(width, depth)
        wide = FRAME_FEATURES * channels[0]
        self.depth, self.n_looks, self.arterial_input, self.peak_time = depth, looks, arterial_input, peak_time
        self.frames = Dense(frames + 1, wide, scheme=scheme, rng=rng)
        self.context = Dense(wide, channels[0], scheme=scheme, rng=rng)
        self.pixel = Dense(wide, channels[0], scheme=scheme, rng=rng)
        for level, n_channels in enumerate(channels):
            source = channels[max(level - 1, 0)]
            setattr(self, f"down{level}", _conv(source, n_channels, scheme, rng))
            if level:
                setattr(self, f"narrow{level}", Dense(n_channels, source, scheme=scheme, rng=rng))
            if level < depth:
                setattr(self, f"up{level}", _conv(n_channels, n_channels, scheme, rng))
        self.last = Dense(channels[0], n_out, scheme=scheme, rng=rng, kind="image")
        if looks:  # drawn last, and silent at first: a network without looks goes on from where it was
            self.looks = Dense(wide, looks, scheme=scheme, rng=rng, kind="image")
            self.summary = Dense((looks + arterial_input) * wide, wide, scheme=scheme, rng=rng)
            self.said = Dense(wide, channels[0], scheme=scheme, rng=None)
            self.filters = Dense(wide, (frames + 1) * channels[0], scheme=scheme, rng=None)
        if arterial_input:
            self.reference = Dense(2 * frames, wide, scheme=scheme, rng=rng)
        if peak_time:
            self.peak = Dense(2, channels[0], scheme=scheme, rng=None)  # silent at first, too

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """(slice, time, row, col) scaled -> (slice, row, col, map) in -1..1; in training (`mode` "train") unbounded.

        `dtype` is that of the layers inside (default: the series').
        """
        reference = None
        if self.arterial_input:
            reference, series = in_corners(series)
        padded, crop = pad_to_depth(series, self.depth)
        seen = (padded > AIR + SEEN).any(axis=1)[..., None]  # (slice, row, col, 1)
        count = jnp.maximum(seen.sum(axis=(1, 2), keepdims=True), 1)
        level = padded.mean(axis=1, keepdims=True)  # (slice, 1, row, col)
        change = padded - level
        strength = jnp.sqrt(jnp.square(change).mean(axis=1, keepdims=True).sum(axis=(2, 3), keepdims=True) / count)
        x = jnp.concatenate([change / jnp.maximum(strength, FAINTEST), level], axis=1).astype(dtype or series.dtype)
        frames = rearrange(x, "slice time row col -> slice row col time")
        x = blocks.leaky_relu(self.frames(frames))
        context = jnp.where(seen, blocks.exact(x), 0.0).sum(axis=(1, 2), keepdims=True) / count
        mixed = self.pixel(x) + self.context(context.astype(x.dtype))
        if self.peak_time:
            mixed += self.peak(jnp.where(seen, lowest(change / jnp.maximum(strength, FAINTEST)), 0.0).astype(x.dtype))
        x = blocks.leaky_relu(mixed + self._looked(x, frames, seen, reference) if self.n_looks else mixed)
        skips = []
        for stage in range(self.depth + 1):
            x = blocks.leaky_relu(getattr(self, f"down{stage}")(halved(x) if stage else x))
            skips.append(x)
        x = skips.pop()
        for stage in reversed(range(self.depth)):
            x = _sum(skips.pop(), doubled(getattr(self, f"narrow{stage + 1}")(x)))
            x = _sum(x, blocks.leaky_relu(getattr(self, f"up{stage}")(x)))
        maps = crop(self.last(blocks.exact(x)))
        return maps if mode == "train" else jnp.clip(maps, -1.0, 1.0)

    def _looked(self, x: Array, frames: Array, seen: Array, reference: Array | None) -> Array:
        """What the slice's looks add to each pixel, (slice, row, col, channel).

        Each look weighs the pixels, as an arterial input is chosen, and takes the mean features of what it chose.
        From these come a term that all pixels share and filters for the frames, the slice's own: a deconvolution is
        such a filter, and depends on the arterial input: that of the exam, (slice, 2 x time), is looked at too.
        """
        pixels = rearrange(blocks.exact(x), "slice row col feature -> slice (row col) feature")
        there = rearrange(seen, "slice row col 1 -> slice (row col) 1")
        scores = rearrange(blocks.exact(self.looks(x)), "slice row col look -> slice (row col) look")
        weights = jnp.where(there, jax.nn.softmax(jnp.where(there, scores, LOOK_PENALTY), axis=1), 0.0)
        chosen = jnp.einsum("spl,spf->slf", weights, pixels)
        summary = rearrange(chosen, "slice look feature -> slice (look feature)").astype(x.dtype)
        if reference is not None:
            of_exam = blocks.leaky_relu(self.reference(reference.astype(x.dtype)))
            summary = jnp.concatenate([summary, of_exam], axis=1)
        summary = self.summary(summary)
        summary = blocks.leaky_relu(summary)
        filters = rearrange(self.filters(summary), "slice (time out) -> slice time out", time=frames.shape[-1])
        return self.said(summary)[:, None, None] + jnp.einsum("srct,sto->srco", frames, filters)


def lowest(series: Array) -> Array:
    """When each pixel's signal is lowest, -1 in the first frame and 1 in the last, and how low.

    Args:
      series: (slice, time, row, col), which is smoothed over three frames.

    Returns:
      (slice, row, col, 2); the time between two frames is that of a parabola's top.
    """
    n_frames = series.shape[1]
    smooth = 0.25 * series[:, :-2] + 0.5 * series[:, 1:-1] + 0.25 * series[:, 2:]  # of all frames but the ends
    number = jnp.arange(1, n_frames - 1, dtype=series.dtype)[None, :, None, None]
    inner = smooth[:, 1:-1]  # which have neighbours on both sides
    here = inner.min(axis=1)
    # Reductions of this kind are fast on a CPU, `argmin` and gathering are not.
    frame = jnp.where(inner == here[:, None], number[:, 1:-1], n_frames).min(axis=1)
    before, after = (jnp.where(number == frame[:, None] + step, smooth, 0.0).sum(axis=1) for step in (-1, 1))
    bend = before - 2.0 * here + after
    offset = jnp.where(bend > 0, 0.5 * (before - after) / jnp.where(bend > 0, bend, 1.0), 0.0)
    time = (frame + jnp.clip(offset, -0.5, 0.5)) * 2.0 / (n_frames - 1) - 1.0
    return jnp.stack([time, here], axis=-1)


def _conv(n_in: int, n_out: int, scheme: str, rng: np.random.Generator | None) -> blocks.Conv:
    return blocks.Conv(n_in, n_out, size=3, stride=1, padding=1, bias=True, scheme=scheme, rng=rng, kind="temporal")


def _sum(x: Array, y: Array) -> Array:
    """Of two values of like spread, with that spread: without norms it would grow from level to level."""
    return float(np.sqrt(0.5)) * (x + y)


def in_corners(series: Array) -> tuple[Array, Array]:
    """(slice, time, row, col) -> the curves in its corners, (slice, 2 x time), and the slice with air there."""
    near, far = CORNERS
    curves = [
        0.5 * (series[:, :, row, near].mean(axis=(2, 3)) + series[:, :, row, far].mean(axis=(2, 3))) for row in CORNERS
    ]
    row, col = (jnp.minimum(jnp.arange(side), side - 1 - jnp.arange(side)) for side in series.shape[2:])
    corner = (row[:, None] < CORNER) & (col[None] < CORNER)
    return jnp.concatenate(curves, axis=1), jnp.where(corner, AIR, series)


def halved(x: Array) -> Array:
    """(..., row, col, channel): means of 2 x 2 pixels; as a sum of four parts faster on a CPU than a pooling window."""
    return 0.25 * (x[..., ::2, ::2, :] + x[..., 1::2, ::2, :] + x[..., ::2, 1::2, :] + x[..., 1::2, 1::2, :])


def doubled(x: Array) -> Array:
    """Each pixel becomes 2 x 2."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
