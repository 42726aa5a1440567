"""Three learned comparators, after networks that others published: `voxel`, `patch` and `stunet`.

Each class says what is known of the published network and where this one differs. What they have in common differs from
all three: they learn five maps at once, by the same loss, from the same slices as the other generators here, and they
have no norms, so that what they make of a slice depends on nothing else. As in `light`, the last layer is linear and
what lies beyond the maps' ranges is cut off outside training. None is given an arterial input.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from dscgan_jax.models import blocks, light, products, time_convolution
from dscgan_jax.models.padding import pad_to_depth

Array = jax.Array

# Channels of each convolution over time, over the width; of all later ones the last. As the temporal stack of
# temp-pix2pix begins; that goes on to 8 and to a single frame, where a matrix over the frames left follows here.
TIME_WIDENING = (1, 2, 4)
FRAMES_LEFT = 8  # time is halved until fewer are left, and a matrix takes these
DENSE_WIDENING = 8  # channels behind that matrix, over the width
JOINED_WIDENING = 4  # channels between the two spatial convolutions of `patch`, over the width
PROJECTED_WIDENING = 4  # least channels of a projection of `stunet`, over the width: it holds a pixel's whole curve
PATCH_RADIUS = 2  # pixels to each side that `patch` sees: two convolutions of 3 x 3


def time_layers(frames: int, width: int) -> list[tuple[int, int, int]]:
    """Channels in, channels out and frames out of each convolution over time that a pixel's curve goes through."""
    layers, n_in = [], 1
    while frames >= FRAMES_LEFT:
        n_out, frames = width * TIME_WIDENING[min(len(layers), len(TIME_WIDENING) - 1)], frames // 2
        layers.append((n_in, n_out, frames))
        n_in = n_out
    return layers


def curve_features(frames: int, width: int) -> int:
    """Numbers that are left of a pixel's curve: channels times frames behind `time_layers`, and its mean."""
    layers = time_layers(frames, width)
    return 1 + (layers[-1][1] * layers[-1][2] if layers else frames)


def level_channels(width: int, depth: int) -> tuple[tuple[int, int], ...]:
    """Channels of `stunet` at full resolution and each level below it: in its encoder, and projected for its decoder.

    The former are w, 2w, 4w, 8w, then 8w; the latter as many, but at least 4w.
    """
    encoder = [width * min(2**level, 8) for level in range(depth + 1)]
    return tuple((channels, max(channels, PROJECTED_WIDENING * width)) for channels in encoder)


class TimeConv(nnx.Module):
    """Convolution over time alone (kernel 4, stride 2, padding 1) with bias, and leaky ReLU."""

    def __init__(self, n_in: int, n_out: int, *, scheme: str, rng: np.random.Generator | None):
        shape = (time_convolution.TAPS, n_in, n_out)
        self.kernel = nnx.Param(blocks.draw_kernel(rng, shape, "temporal", scheme))
        self.bias = nnx.Param(blocks.draw_bias(rng, shape, "temporal", scheme))

    def of_curves(self, x: Array, dtype: Any) -> Array:
        """(slice, pixel, time, in) -> (slice, pixel, time // 2, out), of type `dtype`."""
        return self._activated(time_convolution.convolve_time(x, self.kernel[...]), dtype)

    def of_frames(self, x: Array, dtype: Any) -> Array:
        """(slice, time, row, col, in) -> (slice, time // 2, row, col, out), of type `dtype`."""
        half = 2 * (x.shape[1] // 2)
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        kernel = self.kernel[...]
        taps = [padded[:, tap : tap + half : 2] for tap in range(time_convolution.TAPS)]
        if x.shape[-1] == 1:  # four multiplications are faster than a matrix product of so little
            terms = [part * kernel[tap].astype(x.dtype)[None, None, None] for tap, part in enumerate(taps)]
        else:
            terms = [products.multiply(part, kernel[tap]) for tap, part in enumerate(taps)]
        return self._activated(sum(terms[1:], start=terms[0]), dtype)

    def _activated(self, y: Array, dtype: Any) -> Array:
        return blocks.leaky_relu(products.add_bias(y, self.bias[...])).astype(dtype)


class CurveStack(nnx.Module):
    """Convolutions over time until fewer than `FRAMES_LEFT` frames are left; each pixel alone."""

    def __init__(self, frames: int, width: int, *, scheme: str, rng: np.random.Generator | None):
        self.layers = len(time_layers(frames, width))
        for index, (n_in, n_out, _) in enumerate(time_layers(frames, width)):
            setattr(self, f"time{index + 1}", TimeConv(n_in, n_out, scheme=scheme, rng=rng))

    def __call__(self, series: Array, dtype: Any) -> Array:
        """(slice, time, row, col) scaled -> (slice, row, col, feature), `curve_features` of them.

        The first convolution computes in the series' type, as in the temporal stack: rounded to 16 bits, a small bolus
        would be lost.
        """
        change, level = _change_and_level(series)
        x = rearrange(change, "slice time row col -> slice (row col) time 1")
        for index in range(self.layers):
            x = getattr(self, f"time{index + 1}").of_curves(x, dtype)
        x = rearrange(x, "slice (row col) time channel -> slice row col (time channel)", row=series.shape[2])
        return jnp.concatenate([x.astype(dtype), level.astype(dtype)], axis=-1)


class VoxelGenerator(nnx.Module):
    """Each voxel's curve alone becomes its maps, after Hess et al. 2019.

    'Synthetic Perfusion Maps', doi 10.1007/978-3-030-11723-8_45, arXiv:1806.03848.
    Known of the published network: a convolutional one, trained end to end, which is given the raw series alone and no
    arterial input; Kossen et al. 2023 call it voxel-wise. Not known here: its layers, their number and width, loss and
    learning rate, which its abstract and introduction do not give. So the layers are ours: convolutions that halve
    time, a matrix over the frames left, a matrix to the maps. Other differences: five maps in one network instead of a
    network for each; the input as `config.data` prepares it.
    """

    def __init__(self, frames: int, n_out: int, *, width: int, scheme: str, rng: np.random.Generator | None):
        self.curves = CurveStack(frames, width, scheme=scheme, rng=rng)
        wide = DENSE_WIDENING * width
        self.dense = light.Dense(curve_features(frames, width), wide, scheme=scheme, rng=rng)
        self.last = light.Dense(wide, n_out, scheme=scheme, rng=rng, kind="image")

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """(slice, time, row, col) scaled -> (slice, row, col, map) in -1..1; in training (`mode` "train") unbounded.

        `dtype` is that of the layers inside (default: the series').
        """
        x = self.curves(series, dtype or series.dtype)
        return _bounded(self.last(blocks.exact(blocks.leaky_relu(self.dense(x)))), mode)


class PatchGenerator(nnx.Module):
    """A voxel's curve and its neighbours' become its maps, after Ho et al. 2016.

    'A Temporal Deep Learning Approach for MR Perfusion Parameter Estimation in Stroke', ICPR 2016.
    Known of the published network, from its abstract and the authors' patent application (US 2019/0150764 A1): a CNN
    with two inputs, a patch of the series (two spatial dimensions and time) around the voxel and a patch of the
    arterial input, which estimates perfusion parameters (four in the paper) of the voxel in the middle. Not known here:
    its layers, the patch's size, loss and learning rate.
    Differences: no arterial input, since no generator here is given one; patches of 5 x 5 pixels, the size that
    McKinley et al. 2018 found best of those they tried (doi 10.3389/fneur.2018.00717); neighbours join after time is
    reduced, not before, which costs less; all patches of a slice at once, as convolutions (zeros beyond the border),
    not drawn ones; five maps.
    """

    def __init__(self, frames: int, n_out: int, *, width: int, scheme: str, rng: np.random.Generator | None):
        self.curves = CurveStack(frames, width, scheme=scheme, rng=rng)
        features, between, wide = curve_features(frames, width), JOINED_WIDENING * width, DENSE_WIDENING * width
        self.space1 = _conv(features, between, scheme, rng)
        self.space2 = _conv(between, wide, scheme, rng)
        self.last = light.Dense(wide, n_out, scheme=scheme, rng=rng, kind="image")

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """As `VoxelGenerator`; each pixel depends on those at most `PATCH_RADIUS` rows and columns away."""
        x = self.curves(series, dtype or series.dtype)
        x = blocks.leaky_relu(self.space2(blocks.leaky_relu(self.space1(x))))
        return _bounded(self.last(blocks.exact(x)), mode)


class SpatioTemporalUNet(nnx.Module):
    """stU-Net, a U-Net in space and time, after Vialard et al. 2021.

    'Going beyond voxel-wise deconvolution in perfusion MRI: learning and leveraging spatio-temporal regularities with
    the stU-Net', 2021.
    Known of the published network, from its title and a patent application that is probably of it (Guerbet,
    US 2024/0062061 A1): the encoder keeps space and time at several scales; each skip connection projects its level's
    features onto space alone; the decoder, in space alone, joins them from the smallest scale to the largest, from
    which the map is made. It was trained for CBV, on patches. Not known here: number of levels, layers, widths, loss
    and learning rate.
    Differences: slices, so 2 + 1 dimensions instead of 3 + 1; each convolution over space and time is one over time
    (kernel 4, stride 2), then one over space (3 x 3); the projection is a matrix over all frames and channels of a
    pixel, at full resolution its mean besides; whole slices, not patches; five maps.
    """

    def __init__(
        self, frames: int, n_out: int, *, width: int, depth: int, scheme: str, rng: np.random.Generator | None
    ):
        channels = level_channels(width, depth)
        self.depth = depth
        for level, (inside, projected) in enumerate(channels):
            source, frames = (channels[level - 1][0] if level else 1), frames // 2
            setattr(self, f"time{level}", TimeConv(source, inside, scheme=scheme, rng=rng))
            setattr(self, f"space{level}", _conv(inside, inside, scheme, rng))
            features = frames * inside + (level == 0)  # the last of full resolution is the pixel's mean
            setattr(self, f"skip{level}", light.Dense(features, projected, scheme=scheme, rng=rng))
        for level in reversed(range(depth)):
            (_, here), (_, below) = channels[level : level + 2]
            setattr(self, f"up{level}", _conv(here + below, here, scheme, rng))
        self.last = light.Dense(channels[0][1], n_out, scheme=scheme, rng=rng, kind="image")

    def __call__(self, series: Array, mode: str, dtype: Any = None) -> Array:
        """As `VoxelGenerator`; at least 2**(depth + 1) frames, which `settings.check` sees to."""
        padded, crop = pad_to_depth(series, self.depth)
        n, dtype = padded.shape[0], dtype or series.dtype
        change, mean = _change_and_level(padded)
        x, skips = change[..., None], []  # (slice, time, row, col, channel)
        for level in range(self.depth + 1):
            x = getattr(self, f"time{level}").of_frames(light.halved(x) if level else x, dtype)
            frames = rearrange(x, "slice time row col channel -> (slice time) row col channel")
            frames = blocks.leaky_relu(getattr(self, f"space{level}")(frames))
            x = rearrange(frames, "(slice time) row col channel -> slice time row col channel", slice=n)
            pixels = rearrange(x, "slice time row col channel -> slice row col (time channel)")
            if not level:
                pixels = jnp.concatenate([pixels, mean.astype(dtype)], axis=-1)
            skips.append(blocks.leaky_relu(getattr(self, f"skip{level}")(pixels)))
        y = skips.pop()
        for level in reversed(range(self.depth)):
            y = blocks.leaky_relu(getattr(self, f"up{level}")(skips.pop(), light.doubled(y)))
        return _bounded(crop(self.last(blocks.exact(y))), mode)


def _change_and_level(series: Array) -> tuple[Array, Array]:
    """What differs from each pixel's mean over time (slice, time, row, col), and that mean (slice, row, col, 1).

    Most of a value is baseline, the contrast agent a small part: so the convolutions over time see that part alone.
    """
    level = series.mean(axis=1, keepdims=True)
    return series - level, rearrange(level, "slice 1 row col -> slice row col 1")


def _conv(n_in: int, n_out: int, scheme: str, rng: np.random.Generator | None) -> blocks.Conv:
    return blocks.Conv(n_in, n_out, size=3, stride=1, padding=1, bias=True, scheme=scheme, rng=rng, kind="temporal")


def _bounded(maps: Array, mode: str) -> Array:
    return maps if mode == "train" else jnp.clip(maps, -1.0, 1.0)
