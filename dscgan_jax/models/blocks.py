"""The pieces every network is made of: convolutions, norms, activations, and how their weights are drawn.

Words: images are (slice, row, col, channel); kernels are (row, col, in, out), as `jax.lax` wants them. A norm has a
*mode*:

- `train`: statistics of the whole batch, over all devices; the running ones are updated.
- `per_slice`: each slice's own statistics, which is what the published code does at test (batches of one slice). A
  network that sees neighbours hands a norm each exam as one image: they are then each exam's own.
- `running`: the statistics gathered in training.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dscgan_jax.models import products

Array = jax.Array

MODES = ("train", "per_slice", "running")
SLOPE = 0.2  # of every LeakyReLU
EPSILON = 1e-5  # of every norm
MOMENTUM = 0.1  # weight of the new batch in a running statistic


# --- How weights are drawn -----------------------------------------------------------------------------------------


def draw_kernel(rng: np.random.Generator | None, shape: tuple[int, ...], kind: str, scheme: str) -> np.ndarray:
    """Draws one kernel.

    Args:
      rng: random source on the host: compiling a hundred draws for the device took ten seconds. None gives zeros, for
        structures that are filled from elsewhere.
      shape: (..., in, out).
      kind: `image` (2-D convolution), `transposed` or `temporal`.
      scheme: `pix2pix` or `published` (what the released code's default does, layer type by layer type).

    In `pix2pix` temporal kernels keep the variance of their input instead of N(0, 0.02): a fan-in of four frames
    would otherwise leave the first signals as small as the norm's epsilon.
    """
    if scheme == "published":
        return _normal(rng, shape, 0.05) if kind == "image" else _uniform(rng, shape, _default_limit(shape, kind))
    if kind == "temporal":
        fan_in = math.prod(shape[:-1])
        return _normal(rng, shape, math.sqrt(2.0 / ((1.0 + SLOPE**2) * fan_in)))
    return _normal(rng, shape, 0.02)


def draw_bias(rng: np.random.Generator | None, kernel_shape: tuple[int, ...], kind: str, scheme: str) -> np.ndarray:
    """Draws the bias that goes with a kernel: zeros in `pix2pix`; see `draw_kernel` for `published`."""
    shape = kernel_shape[-1:]
    if scheme != "published":
        return np.zeros(shape, np.float32)
    return _normal(rng, shape, 0.05) if kind == "image" else _uniform(rng, shape, _default_limit(kernel_shape, kind))


def draw_scale(rng: np.random.Generator | None, channels: int, scheme: str) -> np.ndarray:
    """Draws the scale of a batch norm: N(1, 0.02), or N(0, 0.05) as in the released code."""
    centre, spread = (0.0, 0.05) if scheme == "published" else (1.0, 0.02)
    return np.float32(centre) + _normal(rng, (channels,), spread)


def _default_limit(shape: tuple[int, ...], kind: str) -> float:
    """PyTorch's default range, 1/sqrt(f); it takes f of a transposed convolution from the *output* channels."""
    *taps, n_in, n_out = shape
    return 1.0 / math.sqrt(math.prod(taps) * (n_out if kind == "transposed" else n_in))


def _normal(rng: np.random.Generator | None, shape: tuple[int, ...], spread: float) -> np.ndarray:
    return np.zeros(shape, np.float32) if rng is None else np.float32(spread) * rng.standard_normal(shape, np.float32)


def _uniform(rng: np.random.Generator | None, shape: tuple[int, ...], limit: float) -> np.ndarray:
    return np.zeros(shape, np.float32) if rng is None else np.float32(limit) * (2 * rng.random(shape, np.float32) - 1)


# --- Activations and precision -------------------------------------------------------------------------------------


def leaky_relu(x: Array) -> Array:
    """Elementwise."""
    return jnp.where(x > 0, x, SLOPE * x)


def exact(x: Array) -> Array:
    """At least float32: what statistics, sums and losses are made of."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


# --- Norms ---------------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Mean and biased variance that a norm divides by, each (1 or slice, channel)."""

    mean: Array
    variance: Array


class Moments(NamedTuple):
    """Means about a value near the mean, each (1 or slice, 1, 1, channel), at least float32."""

    near: Array  # that value
    beside: Array  # of x - near
    square: Array  # of (x - near)^2


def near_mean(sample: Array, axes: tuple[int, ...]) -> Array:
    """The mean of some pixels, which is near that of all, (1 or slice, 1, 1, channel)."""
    return exact(sample).mean(axes, keepdims=True)


def moments(x: Array, near: Array, axes: tuple[int, ...]) -> Moments:
    """Of x (slice, pixel, time, channel) over `axes`, of which 0 may be missing, in one pass where XLA fuses both."""
    beside = exact(x) - near
    return Moments(near, beside.mean(axes, keepdims=True), jnp.square(beside).mean(axes, keepdims=True))


def statistics(parts: Sequence[Moments]) -> Statistics:
    """Of equally large parts, from their moments about one value.

    E[x^2] - E[x]^2 loses digits; about a value near the mean it does not.
    """
    near, beside, square = jax.tree.map(lambda *of_parts: sum(of_parts) / len(of_parts), *parts)
    return Statistics((near + beside)[:, 0, 0], jnp.maximum(square - jnp.square(beside), 0.0)[:, 0, 0])


def normalised(x: Array, mean: Array, variance: Array, scale: Array, shift: Array, slope: float) -> Array:
    """Norm with given statistics and leaky ReLU (slope 1 leaves it out).

    `x` is (slice, ., ., channel), the statistics are (1 or slice, 1, 1, channel), scale and shift (channel,).
    """
    y = received(x, mean, variance, scale, shift)
    if slope != 1.0:
        y = jnp.where(y > 0, y, slope * y)
    return y.astype(x.dtype)


def normalised_derivative(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, d_y: Array, axes: tuple[int, ...], slope: float
) -> tuple[Array, Array, Array]:
    """D of `normalised` -> d of x, scale and shift, where the statistics are those of x itself over `axes`."""
    values, d_y, factor = exact(x), exact(d_y), inverse_sd(variance)
    if slope != 1.0:
        d_y = jnp.where(received(x, mean, variance, scale, shift) > 0, d_y, slope * d_y)
    d_shift = d_y.sum(axes, keepdims=True)
    # The mean is taken off after the sum: a centred copy of x would be one more pass over memory.
    d_scale = ((d_y * values).sum(axes, keepdims=True) - mean * d_shift) * factor
    count = math.prod(x.shape[axis] for axis in axes)
    d_x = _channels_last(scale) * factor * (d_y - (d_shift + (values - mean) * (factor * d_scale)) / count)
    return d_x.astype(x.dtype), d_scale.sum((0, 1, 2)).astype(scale.dtype), d_shift.sum((0, 1, 2)).astype(shift.dtype)


class NormSums(NamedTuple):
    """Derivatives of a norm's scale and shift, each (1 or slice, 1, 1, channel); over the values of a channel, means.

    The derivative of what is normalised needs them of all values before it can say anything of one.
    """

    scale: Array
    shift: Array


def norm_sums(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, d_y: Array, axes: tuple[int, ...], slope: float
) -> NormSums:
    """D of `normalised` -> d of scale and shift, summed over `axes`."""
    d_y = _received_derivative(x, mean, variance, scale, shift, d_y, slope)
    d_shift = d_y.sum(axes, keepdims=True)
    # The mean is taken off after the sum: a centred copy of x would be one more pass over memory.
    return NormSums(((d_y * exact(x)).sum(axes, keepdims=True) - mean * d_shift) * inverse_sd(variance), d_shift)


def norm_derivative(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, d_y: Array, means: NormSums, slope: float
) -> Array:
    """D of `normalised` -> d of x where the statistics are those of x itself; `means` are `norm_sums` over a count."""
    d_y, factor = _received_derivative(x, mean, variance, scale, shift, d_y, slope), inverse_sd(variance)
    d_x = _channels_last(scale) * factor * (d_y - (means.shift + (exact(x) - mean) * (factor * means.scale)))
    return d_x.astype(x.dtype)


def _received_derivative(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, d_y: Array, slope: float
) -> Array:
    """D of `normalised` -> d of what the activation receives, at least float32."""
    d_y = exact(d_y)
    return d_y if slope == 1.0 else jnp.where(received(x, mean, variance, scale, shift) > 0, d_y, slope * d_y)


def received(x: Array, mean: Array, variance: Array, scale: Array, shift: Array) -> Array:
    """What the activation receives."""
    return (exact(x) - mean) * (_channels_last(scale) * inverse_sd(variance)) + _channels_last(shift)


def inverse_sd(variance: Array) -> Array:
    """What a norm multiplies with."""
    return jax.lax.rsqrt(variance + EPSILON)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(x: Array, scale: Array, shift: Array, axes: tuple[int, ...], slope: float) -> tuple[Array, Array, Array]:
    """Normalises by the batch's own statistics and applies a leaky ReLU, in one expression.

    Args:
      x: (slice, ., ., channel).
      scale: (channel,).
      shift: (channel,).
      axes: (0, 1, 2) for statistics of the batch, (1, 2) for each slice's own.
      slope: of the leaky ReLU; 1 leaves it out.

    Returns:
      the result, like `x`; the mean and the biased variance, (1 or slice, 1, 1, channel), at least float32. Gradients
      flow through the result alone: the statistics are there to be recorded.

    The derivative is written out because activations of the temporal stack are large, and automatic differentiation
    passes over them more often.
    """
    return _normalise_forward(x, scale, shift, axes, slope)[0]


def _normalise_forward(
    x: Array, scale: Array, shift: Array, axes: tuple[int, ...], slope: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    values = exact(x)
    mean = values.mean(axes, keepdims=True)
    # Two passes: E[x^2] - E[x]^2 loses digits in float32.
    variance = jnp.square(values - mean).mean(axes, keepdims=True)
    return (normalised(x, mean, variance, scale, shift, slope), mean, variance), (x, mean, variance, scale, shift)


def _normalise_backward(
    axes: tuple[int, ...], slope: float, saved: tuple[Array, ...], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    return normalised_derivative(*saved, cotangents[0], axes, slope)


normalise.defvjp(_normalise_forward, _normalise_backward)


def _channels_last(vector: Array) -> Array:
    return vector[None, None, None, :]


def unbiased(variance: Array, count: int) -> Array:
    """The variance that the published implementation records: divided by count - 1."""
    return variance * (count / max(count - 1, 1))


class BatchNorm(nnx.Module):
    """Batch norm with learned scale and shift; biased variance to normalise, unbiased to record."""

    def __init__(self, channels: int, *, scheme: str, rng: np.random.Generator | None):
        self.scale = nnx.Param(draw_scale(rng, channels, scheme))
        self.shift = nnx.Param(np.zeros((channels,), np.float32))
        self.mean = nnx.BatchStat(np.zeros((channels,), np.float32))
        self.variance = nnx.BatchStat(np.ones((channels,), np.float32))
        self.batches = nnx.BatchStat(np.zeros((), np.int32))  # seen in training

    def __call__(self, x: Array, mode: str, slope: float = 1.0) -> Array:
        """(slice, ., ., channel) -> the same shape, leaky ReLU included where `slope` is not 1."""
        if known := self.known_statistics(mode):
            return normalised(
                x, *map(_channels_last, (known.mean[0], known.variance[0])), *self.scale_and_shift(), slope
            )
        axes = (1, 2) if self.per_slice(mode) else (0, 1, 2)
        y, mean, variance = normalise(x, *self.scale_and_shift(), axes, slope)
        self.record(mode, mean[:, 0, 0], variance[:, 0, 0], x.size // x.shape[-1])
        return y

    def scale_and_shift(self) -> tuple[Array, Array]:
        """What is learned, (channel,) each."""
        return self.scale[...], self.shift[...]

    def known_statistics(self, mode: str) -> Statistics | None:
        """Those of training, each (1, channel), where the mode asks for them."""
        return Statistics(self.mean[...][None], self.variance[...][None]) if mode == "running" else None

    def per_slice(self, mode: str) -> bool:
        """Whether the mode takes each slice's own statistics."""
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
        return mode == "per_slice"

    def record(self, mode: str, mean: Array, variance: Array, count: int) -> None:
        """Adds the statistics of a batch of `count` values a channel, each (1, channel), to the running ones."""
        if mode != "train":
            return
        self.mean[...] = (1.0 - MOMENTUM) * self.mean[...] + MOMENTUM * mean[0]
        self.variance[...] = (1.0 - MOMENTUM) * self.variance[...] + MOMENTUM * unbiased(variance[0], count)
        self.batches[...] = self.batches[...] + 1


class InstanceNorm(nnx.Module):
    """Each slice and channel by its own statistics, in every mode; nothing learned, nothing recorded."""

    def __init__(self, channels: int):
        self.channels = channels

    def __call__(self, x: Array, mode: str, slope: float = 1.0) -> Array:
        """(slice, ., ., channel) -> the same shape, leaky ReLU included where `slope` is not 1."""
        del mode
        return normalise(x, *self.scale_and_shift(), (1, 2), slope)[0]

    def scale_and_shift(self) -> tuple[Array, Array]:
        """Ones and zeros, (channel,) each: nothing is learned."""
        return jnp.ones((self.channels,)), jnp.zeros((self.channels,))

    def known_statistics(self, mode: str) -> None:
        """None: there are none but the slice's own."""
        del mode

    def per_slice(self, mode: str) -> bool:
        """True."""
        del mode
        return True

    def record(self, mode: str, mean: Array, variance: Array, count: int) -> None:
        """Does nothing."""
        del mode, mean, variance, count


def make_norm(norm: str, channels: int, *, scheme: str, rng: np.random.Generator | None) -> nnx.Module:
    """`batch` or `instance`."""
    return InstanceNorm(channels) if norm == "instance" else BatchNorm(channels, scheme=scheme, rng=rng)


# --- Convolutions --------------------------------------------------------------------------------------------------


class Conv(nnx.Module):
    """2-D convolution with zero padding."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        size: int,
        stride: int,
        padding: int,
        bias: bool,
        scheme: str,
        rng: np.random.Generator | None,
        kind: str = "image",
    ):
        shape = (size, size, n_in, n_out)
        self.kernel = nnx.Param(draw_kernel(rng, shape, kind, scheme))
        if bias:
            self.bias = nnx.Param(draw_bias(rng, shape, kind, scheme))
        self.has_bias, self.stride, self.padding = bias, stride, padding

    def __call__(self, *parts: Array) -> Array:
        """(slice, row, col, in) -> (slice, row', col', out).

        Several parts count as concatenated on channels. They are convolved apart and added, so that a gradient asked
        for one part (the map that a discriminator scores) does not cost that of another (the 80 frames beside it).
        """
        y, first = None, 0
        for part in parts:
            kernel = self.kernel[...][:, :, first : first + part.shape[-1]]
            term = products.convolve(part, kernel, self.stride, self.padding)
            y, first = term if y is None else y + term, first + part.shape[-1]
        return products.add_bias(y, self.bias[...]) if self.has_bias else y


class TransposedConv(nnx.Module):
    """Transposed 4x4 convolution, stride 2, padding 1: doubles rows and columns.

    The kernel has the taps of the published one: output row 2i + k - 1 receives input row i times tap k.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: bool, scheme: str, rng: np.random.Generator | None):
        shape = (4, 4, n_in, n_out)
        self.kernel = nnx.Param(draw_kernel(rng, shape, "transposed", scheme))
        if bias:
            self.bias = nnx.Param(draw_bias(rng, shape, "transposed", scheme))
        self.has_bias = bias

    def __call__(self, x: Array) -> Array:
        """(slice, row, col, in) -> (slice, 2 row, 2 col, out).

        Each 2x2 window of the padded input gives the 2x2 output pixels around its centre. As one matrix product it is
        up to 25 times faster on a CPU, gradients included, than a convolution of the dilated input.
        """
        n_in, n_out = self.kernel.shape[-2:]
        n, rows, cols, _ = x.shape
        # Tap k = 2 (1 - window) + parity, for rows and for columns.
        taps = self.kernel[...].reshape(2, 2, 2, 2, n_in, n_out)[::-1, :, ::-1]
        taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(4 * n_in, 4 * n_out)
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = jnp.concatenate([x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]], axis=-1)
        y = products.multiply(windows, taps).reshape(n, rows + 1, cols + 1, 2, 2, n_out)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * rows + 2, 2 * cols + 2, n_out)[:, 1:-1, 1:-1]
        return products.add_bias(y, self.bias[...]) if self.has_bias else y


class ResizeConv(nnx.Module):
    """Nearest-neighbour enlargement by two, reflection padding of one pixel, 3x3 convolution."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool, scheme: str, rng: np.random.Generator | None):
        self.conv = Conv(n_in, n_out, size=3, stride=1, padding=0, bias=bias, scheme=scheme, rng=rng)

    def __call__(self, x: Array) -> Array:
        """(slice, row, col, in) -> (slice, 2 row, 2 col, out)."""
        n, rows, cols, channels = x.shape
        x = jnp.broadcast_to(x[:, :, None, :, None, :], (n, rows, 2, cols, 2, channels))
        x = x.reshape(n, 2 * rows, 2 * cols, channels)
        return self.conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"))
