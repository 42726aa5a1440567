"""The U-Net of pix2pix, as the published implementation orders it: activation, convolution, norm."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks
from dscgan_jax.models.whole_exams import as_one_image, with_neighbours

Array = jax.Array


def level_channels(width: int, depth: int) -> tuple[int, ...]:
    """Channels that leave the down convolution of each level: w, 2w, 4w, 8w, then 8w."""
    return tuple(width * min(2**level, 8) for level in range(depth))


class UNet(nnx.Module):
    """Levels 0 (outermost) to depth - 1 (innermost).

    No norm follows the outermost and innermost down convolutions nor the last up-convolution. What the published code
    has as a bias in front of a norm (instance norm, or `resize`) is there only with `bias_before_norm`.
    The published class builds five levels where fewer are asked for; this one builds what is asked.

    With `neighbours` the first convolution sees so many slices on each side of each one (2.5-D); with `dims` = 3 every
    convolution does, which makes it a 3-D U-Net (Cicek et al. 2016) with kernels of 2 `neighbours` + 1 slices. It never
    halves the slices: they are three times as thick as a pixel is wide and some twenty, which the kernels of all levels
    together span.
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
        neighbours: int = 0,
        dims: int = 2,
    ):
        if depth < 1:
            raise InputError(f"config.model.depth is {depth}; a U-Net has at least one level (paper: 6).")
        self.depth = depth
        self.neighbours, self.neighbours_inside = neighbours, neighbours if dims == 3 else 0
        seen = 1 + 2 * self.neighbours_inside  # slices under the kernels behind the first one
        channels = level_channels(width, depth)
        instance = norm == "instance"
        make_up = blocks.ResizeConv if upsample == "resize" else blocks.TransposedConv
        for level in range(depth):
            outermost, innermost = level == 0, level == depth - 1
            source = n_in * (1 + 2 * neighbours) if outermost else channels[level - 1] * seen
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
            setattr(self, f"up{level}", make_up(joined * seen, target, bias=bias, scheme=scheme, rng=rng))
            if level:
                setattr(self, f"up_norm{level}", blocks.make_norm(norm, target, scheme=scheme, rng=rng))

    def __call__(self, x: Array, mode: str, exam_slices: int = 1) -> Array:
        """(slice, row, col, in) -> (slice, row, col, out) *before* tanh, at least float32.

        Sides are multiples of 2**depth. With `exam_slices` above 1 the slices are those of whole exams, in order, and
        what norms take of each slice they take of each exam.
        """
        skips = []
        for level in range(self.depth):
            neighbours = self.neighbours_inside if level else self.neighbours
            x = with_neighbours(blocks.leaky_relu(x) if level else x, neighbours, exam_slices)
            x = getattr(self, f"down{level}")(x)
            if 0 < level < self.depth - 1:
                x = self._normed(f"down_norm{level}", x, mode, exam_slices)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(self.depth)):
            x = with_neighbours(jax.nn.relu(x), self.neighbours_inside, exam_slices)
            x = getattr(self, f"up{level}")(x if level else blocks.exact(x))
            if level:
                x = self._normed(f"up_norm{level}", x, mode, exam_slices)
                x = jnp.concatenate([skips.pop(), x], axis=-1)  # the skip first
        return x

    def _normed(self, name: str, x: Array, mode: str, exam_slices: int) -> Array:
        return getattr(self, name)(as_one_image(x, exam_slices), mode).reshape(x.shape)
