"""The discriminators: a series beside a map, to logits of "this map is real". No sigmoid inside."""

import math

import jax
import numpy as np
from flax import nnx

from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks

Array = jax.Array

WHOLE_SIDES = (113, 128)  # four halvings of these leave the eight pixels that the last convolution covers


class PatchDiscriminator(nnx.Module):
    """PatchGAN: each logit sees a patch (34 pixels with two layers, 70 with three)."""

    def __init__(
        self,
        n_frames: int,
        n_maps: int,
        *,
        width: int,
        layers: int,
        norm: str,
        bias_before_norm: bool,
        scheme: str,
        rng: np.random.Generator | None,
    ):
        if layers < 1:
            raise InputError(f"config.model.discriminator_layers is {layers}; it must be at least 1 (paper: 2).")
        self.layers = layers
        common = {"size": 4, "padding": 1, "scheme": scheme, "rng": rng}
        self.conv0 = blocks.Conv(n_frames + n_maps, width, stride=2, bias=True, **common)
        if scheme == "pix2pix":
            # One map among 80 frames is hardly heard: drawn alike, the scores settle at one half before the network has
            # found where real and fake differ. So the maps begin with as much say as all frames together.
            kernel = self.conv0.kernel[...]
            self.conv0.kernel[...] = np.concatenate(
                [kernel[:, :, :n_frames], math.sqrt(n_frames / n_maps) * kernel[:, :, n_frames:]], axis=2
            )
        channels = width
        for layer in range(1, layers + 1):
            wider = width * min(2**layer, 8)
            conv = blocks.Conv(
                channels,
                wider,
                stride=2 if layer < layers else 1,
                bias=norm == "instance" and bias_before_norm,
                **common,
            )
            setattr(self, f"conv{layer}", conv)
            setattr(self, f"norm{layer}", blocks.make_norm(norm, wider, scheme=scheme, rng=rng))
            channels = wider
        self.last = blocks.Conv(channels, 1, stride=1, bias=True, **common)

    def __call__(self, series: Array, maps: Array, mode: str) -> Array:
        """(slice, row, col, time) and (slice, row, col, map), scaled -> logits (slice, row', col', 1)."""
        smallest = 3 * 2**self.layers  # two stride-1 convolutions take one pixel each
        if min(maps.shape[1:3]) < smallest:
            raise InputError(
                f"config.data.size gives {maps.shape[1]} x {maps.shape[2]} pixels; the patch "
                f"discriminator with {self.layers} layers needs {smallest}: use a larger grid or fewer "
                "config.model.discriminator_layers."
            )
        x = blocks.leaky_relu(self.conv0(series, maps))
        for layer in range(1, self.layers + 1):
            x = getattr(self, f"norm{layer}")(getattr(self, f"conv{layer}")(x), mode, blocks.SLOPE)
        return blocks.exact(self.last(x))


class WholeDiscriminator(nnx.Module):
    """The released code's alternative: one logit per slice. Its norms stand *behind* the activations."""

    def __init__(self, n_in: int, *, width: int, norm: str, scheme: str, rng: np.random.Generator | None):
        channels = n_in
        common = {"bias": True, "scheme": scheme, "rng": rng}
        for pair in range(4):
            wider = width * 2**pair
            for half, stride in enumerate((1, 2)):
                conv = blocks.Conv(channels, wider, size=3, stride=stride, padding=1, **common)
                setattr(self, f"conv{2 * pair + half}", conv)
                setattr(self, f"norm{2 * pair + half}", blocks.make_norm(norm, wider, scheme=scheme, rng=rng))
                channels = wider
        self.last = blocks.Conv(channels, 1, size=8, stride=1, padding=0, **common)

    def __call__(self, series: Array, maps: Array, mode: str) -> Array:
        """(slice, row, col, time) and (slice, row, col, map), scaled -> logits (slice, 1, 1, 1)."""
        least, most = WHOLE_SIDES
        if not all(least <= side <= most for side in maps.shape[1:3]):
            raise InputError(
                f"config.data.size gives {maps.shape[1]} x {maps.shape[2]} pixels; the whole-image "
                f"discriminator takes sides of {least} to {most}: change it, or set config.model.discriminator=patch."
            )
        parts = (series, maps)
        for index in range(8):
            x = blocks.leaky_relu(getattr(self, f"conv{index}")(*parts))
            parts = (getattr(self, f"norm{index}")(x, mode),)
        return blocks.exact(self.last(*parts))
