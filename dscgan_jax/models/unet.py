"""The U-Net of pix2pix, as the published implementation orders it: activation, convolution, norm."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks

Array = jax.Array


def level_channels(width: int, depth: int) -> tuple[int, ...]:
    """Channels that leave the down convolution of each level: w, 2w, 4w, 8w, then 8w."""
    return tuple(width * min(2**level, 8) for level in range(depth))


class UNet(nnx.Module):
    """Levels 0 (outermost) to depth - 1 (innermost).

    No norm follows the outermost and innermost down convolutions nor the last up-convolution. What the published code
    has as a bias in front of a norm (instance norm, or `resize`) is there only with `bias_before_norm`.
    The published class builds five levels where fewer are asked for; this one builds what is asked.
    """

    def __init__(
        self,
        n_in: int,
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
        if depth < 1:
            raise InputError(f"config.model.depth is {depth}; a U-Net has at least one level (paper: 6).")
        self.depth = depth
        channels = level_channels(width, depth)
        instance = norm == "instance"
        make_up = blocks.ResizeConv if upsample == "resize" else blocks.TransposedConv
        for level in range(depth):
            outermost, innermost = level == 0, level == depth - 1
            source = n_in if outermost else channels[level - 1]
            normed = not (outermost or innermost)
            down = blocks.Conv(
                source,
                channels[level],
                size=4,
                stride=2,
                padding=1,
                bias=instance and (bias_before_norm or not normed),
                scheme=scheme,
                rng=rng,
            )
            setattr(self, f"down{level}", down)
            if normed:
                setattr(self, f"down_norm{level}", blocks.make_norm(norm, channels[level], scheme=scheme, rng=rng))
        for level in reversed(range(depth)):
            joined = channels[level] * (1 if level == depth - 1 else 2)
            target = n_out if level == 0 else channels[level - 1]
            bias = level == 0 or (bias_before_norm and (instance or upsample == "resize"))
            setattr(self, f"up{level}", make_up(joined, target, bias=bias, scheme=scheme, rng=rng))
            if level:
                setattr(self, f"up_norm{level}", blocks.make_norm(norm, target, scheme=scheme, rng=rng))

    def __call__(self, x: Array, mode: str) -> Array:
        """(slice, row, col, in) -> (slice, row, col, out) *before* tanh, at least float32. Sides.

        Multiples of 2**depth.
        """
        skips = []
        for level in range(self.depth):
            x = getattr(self, f"down{level}")(blocks.leaky_relu(x) if level else x)
            if 0 < level < self.depth - 1:
                x = getattr(self, f"down_norm{level}")(x, mode)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(self.depth)):
            x = jax.nn.relu(x)
            x = getattr(self, f"up{level}")(x if level else blocks.exact(x))
            if level:
                x = getattr(self, f"up_norm{level}")(x, mode)
                x = jnp.concatenate([skips.pop(), x], axis=-1)  # the skip first
        return x
