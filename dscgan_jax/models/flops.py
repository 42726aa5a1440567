"""Floating-point operations of the networks, counted by hand from shapes.

A multiplication and an addition count as two; taps that meet zero padding count like others; norms, activations, losses
and Adam are left out (together a few per mille of the arithmetic, though not of the time). Everything is per slice.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.interpreters import partial_eval

from dscgan_jax.models import comparators, light, temporal, unet
from dscgan_jax.settings import WITHOUT_LEVELS


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution: `positions` applications of a (taps x n_in, n_out) matrix."""

    name: str
    taps: int
    n_in: int
    n_out: int
    positions: int

    @property
    def flops(self) -> int:
        """Operations of one application to a slice."""
        return 2 * self.taps * self.n_in * self.n_out * self.positions


@dataclasses.dataclass(frozen=True)
class Count:
    """Operations per slice.

    Attributes:
      temporal, unet, discriminator: of one forward pass; `temporal` is 0 for a plain U-Net.
      training: of a training step as `steps` does it: forward and backward through the generator once; the
        discriminator forward and backward on real and on fake, then on fake again, backward to the maps alone.
        Gradients that nobody needs do not count: those of the series.
      training_published: of the same step as released: backward through the generator twice, and all gradients of each
        discriminator pass.
    """

    temporal: int
    unet: int
    discriminator: int
    training: int
    training_published: int

    @property
    def generator(self) -> int:
        """Of one forward pass of the whole generator."""
        return self.temporal + self.unet


def counted_flops(model: Any, frames: int, size: int, n_targets: int, *, adversarial: bool = True) -> Count:
    """Counts a step of the networks that `model` (as `config.model`) describes, on slices of `size` x `size` pixels.

    Without `adversarial` (`config.loss.objective` is `l1`) no step asks the discriminator.
    """
    stack, image = generator_layers(model, frames, size, n_targets)
    scorer = discriminator_layers(model, frames, size, n_targets)
    forward_g, forward_d = _sum(stack) + _sum(image), _sum(scorer)
    backward_g = 2 * forward_g - (stack or image)[0].flops  # the series needs no gradient
    if not adversarial:
        training = forward_g + backward_g
        return Count(_sum(stack), _sum(image), forward_d, training, training_published=training)
    first = scorer[0].flops
    of_maps = first * n_targets // scorer[0].n_in
    updates = 2 * (3 * forward_d - first)
    return Count(
        temporal=_sum(stack),
        unet=_sum(image),
        discriminator=forward_d,
        training=forward_g + backward_g + updates + 2 * forward_d - first + of_maps,
        # Real: no gradient of the input. Fake, twice: of all channels, since they are concatenated first.
        training_published=forward_g + 2 * backward_g + 9 * forward_d - first,
    )


def generator_layers(model: Any, frames: int, size: int, n_targets: int) -> tuple[list[Layer], list[Layer]]:
    """Layers of the temporal stack (in a light one: of the pixels; none in a plain U-Net) and of the U-Net.

    Of `voxel` and `patch`: layers over time, and those behind them. A stU-Net is one list.
    """
    if model.generator in WITHOUT_LEVELS:
        return curve_layers(model.generator, frames, n_targets, model.width, size)
    side = size + -size % 2**model.depth
    if model.generator == "light":
        return light_layers(
            frames, n_targets, model.width, model.depth, model.looks, side, model.arterial_input, model.peak_time
        )
    if model.generator == "stunet":
        return [], stunet_layers(frames, n_targets, model.width, model.depth, side)
    if model.generator == "unet":
        return [], unet_layers(frames, n_targets, model.width, model, side)
    stack, n_in = [], 1
    for index, factor in enumerate(temporal.WIDENING):
        frames, n_out = frames // 2, factor * model.width
        stack.append(Layer(f"block{index + 1}", 4, n_in, n_out, frames * side**2))
        n_in = n_out
    return stack, unet_layers(n_in, n_targets, model.unet_width, model, side)


def light_layers(
    frames: int, n_out: int, width: int, depth: int, looks: int, side: int, arterial_input: bool, peak_time: bool
) -> tuple[list[Layer], list[Layer]]:
    """Layers of the light generator on `side` x `side` pixels: those of each pixel alone, and the U-Net's.

    What looks do with numbers that the network has made itself, 4 % of it all, is left out.
    """
    channels = light.level_channels(width, depth)
    wide, pixels = light.FRAME_FEATURES * channels[0], side**2
    alone = [
        Layer("frames", 1, frames + 1, wide, pixels),
        Layer("context", 1, wide, channels[0], 1),
        Layer("pixel", 1, wide, channels[0], pixels),
    ]
    if looks:
        alone += [
            Layer("looks", 1, wide, looks, pixels),
            Layer("summary", 1, (looks + arterial_input) * wide, wide, 1),
            Layer("said", 1, wide, channels[0], 1),
            Layer("filters", 1, wide, (frames + 1) * channels[0], 1),
        ]
    if arterial_input:
        alone.append(Layer("reference", 1, 2 * frames, wide, 1))
    if peak_time:
        alone.append(Layer("peak", 1, 2, channels[0], pixels))
    image = []
    for level, n_channels in enumerate(channels):
        source, positions = channels[max(level - 1, 0)], pixels // 4**level
        image.append(Layer(f"down{level}", 9, source, n_channels, positions))
        if level:
            image.append(Layer(f"narrow{level}", 1, n_channels, source, positions))
        if level < depth:
            image.append(Layer(f"up{level}", 9, n_channels, n_channels, positions))
    return alone, [*image, Layer("last", 1, channels[0], n_out, pixels)]


def curve_layers(generator: str, frames: int, n_out: int, width: int, size: int) -> tuple[list[Layer], list[Layer]]:
    """Layers of `voxel` or `patch` on `size` x `size` pixels: those over time, and those behind them."""
    pixels, features = size**2, comparators.curve_features(frames, width)
    between, wide = comparators.JOINED_WIDENING * width, comparators.DENSE_WIDENING * width
    alone = [
        Layer(f"time{index + 1}", 4, n_in, n_time, left * pixels)
        for index, (n_in, n_time, left) in enumerate(comparators.time_layers(frames, width))
    ]
    last = Layer("last", 1, wide, n_out, pixels)
    if generator == "voxel":
        return alone, [Layer("dense", 1, features, wide, pixels), last]
    return alone, [Layer("space1", 9, features, between, pixels), Layer("space2", 9, between, wide, pixels), last]


def stunet_layers(frames: int, n_out: int, width: int, depth: int, side: int) -> list[Layer]:
    """Layers of `stunet` on `side` x `side` pixels."""
    channels, layers, up = comparators.level_channels(width, depth), [], []
    for level, (inside, projected) in enumerate(channels):
        frames, pixels = frames // 2, side**2 // 4**level
        layers += [
            Layer(f"time{level}", 4, channels[level - 1][0] if level else 1, inside, frames * pixels),
            Layer(f"space{level}", 9, inside, inside, frames * pixels),
            Layer(f"skip{level}", 1, frames * inside + (level == 0), projected, pixels),
        ]
        if level < depth:
            up.insert(0, Layer(f"up{level}", 9, projected + channels[level + 1][1], projected, pixels))
    return [*layers, *up, Layer("last", 1, channels[0][1], n_out, side**2)]


def unet_layers(n_in: int, n_out: int, width: int, model: Any, side: int) -> list[Layer]:
    """Layers of the U-Net of `config.model` on `side` x `side` pixels, in the order in which they are computed."""
    depth, upsample = model.depth, model.upsample
    channels = unet.level_channels(width, depth)
    around = 1 + 2 * model.neighbours  # slices that the first convolution sees, and in 3-D every one
    inside = around if model.unet_dims == 3 else 1
    down, up = [], []
    for level in range(depth):
        small = (side // 2 ** (level + 1)) ** 2  # pixels on the inner side of this level
        source = channels[level - 1] * inside if level else n_in * around
        target = channels[level - 1] if level else n_out
        joined = channels[level] * inside * (1 if level == depth - 1 else 2)
        down.append(Layer(f"down{level}", 16, source, channels[level], small))
        # Transposed: each input pixel meets all 16 taps. Resized: 3 x 3 on the enlarged image.
        taps, positions = (9, 4 * small) if upsample == "resize" else (16, small)
        up.insert(0, Layer(f"up{level}", taps, joined, target, positions))
    return down + up


def discriminator_layers(model: Any, frames: int, size: int, n_targets: int) -> list[Layer]:
    """Layers of the patch discriminator, or of the whole-image one."""
    layers, n_in, side, width = [], frames + n_targets, size, model.discriminator_width

    def add(name: str, kernel: int, stride: int, padding: int, n_out: int) -> None:
        nonlocal n_in, side
        side = (side + 2 * padding - kernel) // stride + 1
        layers.append(Layer(name, kernel**2, n_in, n_out, side**2))
        n_in = n_out

    if model.discriminator == "whole":
        for index in range(8):
            add(f"conv{index}", 3, 1 + index % 2, 1, width * 2 ** (index // 2))
        add("last", 8, 1, 0, 1)
        return layers
    depth = model.discriminator_layers
    add("conv0", 4, 2, 1, width)
    for layer in range(1, depth + 1):
        add(f"conv{layer}", 4, 2 if layer < depth else 1, 1, width * min(2**layer, 8))
    add("last", 4, 1, 1, 1)
    return layers


def _sum(layers: Sequence[Layer]) -> int:
    return sum(layer.flops for layer in layers)


# --- The same from a program ---------------------------------------------------------------------------------------


def traced_flops(work: Callable[..., Any], *arguments: Any) -> int:
    """Operations of all matrix products and convolutions that a function does, loops and all, from its trace alone.

    What no result needs does not count: written-out derivatives trace more than is asked of them. XLA's cost analysis
    takes the body of a loop once; this takes it as often as it runs. Of a conditional the dearest branch counts.
    Arguments may be abstract; `work` may be jitted.
    """
    traced = (
        work if hasattr(work, "trace") else jax.jit(work)
    )  # options of a compiler forbid it to be traced inside another
    program = traced.trace(*arguments).jaxpr.jaxpr
    needed, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return _traced(needed)


def _traced(program: Any) -> int:
    return sum(_equation_flops(equation) for equation in program.eqns)


def _equation_flops(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return (
            2
            * math.prod(equation.outvars[0].aval.shape)
            * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        )
    if name == "conv_general_dilated":
        return _convolution_flops(equation)
    programs = [
        getattr(part, "jaxpr", part)
        for value in parameters.values()
        for part in (value if isinstance(value, (tuple, list)) else (value,))
    ]
    inner = [_traced(part) for part in programs if hasattr(part, "eqns")]
    if name == "cond":
        return max(inner)
    return parameters.get("length", 1) * sum(inner) if name == "scan" else sum(inner)


def _convolution_flops(equation: Any) -> int:
    """Each kernel weight at each output value; the zeros that dilation puts between input values do not count."""
    kernel, output = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    n_out = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(output) * math.prod(kernel) // n_out // math.prod(equation.params["lhs_dilation"])
