"""Convolution over time: kernel 4, stride 2, padding 1, each pixel alone.

Forward it is the library's. Its derivatives have two forms, of which the one for the machine is compiled. A CPU takes
matrix products over windows of four frames that are written out: the library's derivatives are several times slower
there. An accelerator is bound by memory, and its library multiplies windows that are nowhere written.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax import platforms

Array = jax.Array

TAPS = 4  # frames under a kernel; stride 2, padding 1
ALL_PAIRS_UP_TO = 5  # frames: of so few their products with all windows cost less than windows
EXACT_UP_TO = 7  # frames: the windows of shorter series are written one by one, without the zeros around them

MOST_IN_A_THREAD = 31  # values that XLA sums in one thread of a GPU; more go another way


@jax.custom_vjp
def convolve_time(x: Array, kernel: Array) -> Array:
    """Convolution over time alone.

    Args:
      x: (slice, pixel, time, in).
      kernel: (4, in, out), of the type of `x` or a wider one.

    Returns:
      (slice, pixel, time // 2, out), of the type of `x`.
    """
    n, pixels, frames, n_in = x.shape
    kernel = kernel.astype(x.dtype)
    if n_in == 1:  # too little for a matrix product: four multiplications in the pass that writes the result
        padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
        taps = [padded[:, :, tap : tap + 2 * (frames // 2) : 2] * kernel[tap][None, None] for tap in range(TAPS)]
        return sum(taps[1:], start=taps[0])
    if frames // 2 == 1:  # one window that lies there already
        return x.reshape(n, pixels, 1, frames * n_in) @ _of_one_window(kernel, frames)
    # A zero behind an odd last frame changes nothing; a GPU's library asks for as many as before the first one.
    behind = 1 - frames % 2 if platforms.on_cpu() else 1
    y = jax.lax.conv_general_dilated(
        x.reshape(n * pixels, frames, n_in), kernel, (2,), [(1, behind)], dimension_numbers=("NWC", "WIO", "NWC")
    )
    return y.reshape(n, pixels, frames // 2, -1)


def _convolve_time_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_time(x, kernel), (x, kernel)


def _convolve_time_backward(saved: tuple[Array, Array], d_y: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return input_derivative(kernel, d_y, x.shape[2]), kernel_derivative(x, d_y).astype(kernel.dtype)


convolve_time.defvjp(_convolve_time_forward, _convolve_time_backward)


def kernel_derivative(x: Array, d_y: Array) -> Array:
    """Derivative of the kernel, (4, in, out), at least float32: what devices add up is not rounded before.

    Args:
      x: (slice, pixel, time, in), what was convolved.
      d_y: (slice, pixel, time // 2, out), of what came out.
    """
    if platforms.on_cpu():
        return _kernel_derivative_of_windows(x, d_y, EXACT_UP_TO)
    if x.shape[2] <= ALL_PAIRS_UP_TO:
        return _kernel_derivative_of_pairs(x, d_y)
    if x.dtype == jnp.bfloat16:  # of which the library makes 16-bit sums
        return _kernel_derivative_of_windows(x, d_y, 0)
    return _kernel_derivative_of_library(x, d_y)


def input_derivative(kernel: Array, d_y: Array, frames: int) -> Array:
    """Derivative of what was convolved, (slice, pixel, frames, in), of the type of `d_y`.

    Args:
      kernel: (4, in, out).
      d_y: (slice, pixel, frames // 2, out), of what came out.
      frames: of the input.
    """
    kernel = kernel.astype(d_y.dtype)
    if platforms.on_cpu() or frames // 2 == 1:
        return _input_derivative_of_windows(kernel, d_y, frames)
    return _input_derivative_of_library(kernel, d_y, frames)


def _summed_in(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def single_windows(x: Array) -> list[Array]:
    """(slice, pixel, time) -> for each tap the values under it, (slice, pixel, time // 2)."""
    frames = x.shape[2]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1)))
    return [padded[:, :, tap : tap + 2 * (frames // 2) : 2] for tap in range(TAPS)]


def window_sums(windows: Array, received: Sequence[Array], d_y: Array, slope: float) -> Array:
    """Sums over pixels and time of the derivative behind a leaky ReLU times what is under each tap, and of it alone.

    A GPU sums a few values in one thread, whatever the number of sums; of all of them two sums at a time.

    Args:
      windows: (slice, pixel, time, tap), of one channel.
      received: what the activation receives, (slice, pixel, time, out), once for each sum: where XLA does not know that
        they are the same, it computes each in the pass that sums it, instead of writing them to memory.
      d_y: derivative of what the activation gives; sums are at least float32.
      slope: of the activation.

    Returns:
      (slice, tap + 1, out).
    """
    windows = jnp.concatenate([windows, jnp.ones_like(windows[..., :1])], axis=-1)
    d_y = d_y.astype(_summed_in(d_y))
    n, pixels, frames, n_out = d_y.shape
    few = next(count for count in range(MOST_IN_A_THREAD, 0, -1) if pixels * frames % count == 0)
    sums = []
    for tap, of_tap in enumerate(received):
        product = windows[..., tap, None] * jnp.where(of_tap > 0, d_y, slope * d_y)
        sums.append(product.reshape(n, pixels * frames // few, few, n_out).sum(2))
    return jnp.stack([of_tap.sum(1) for of_tap in jax.lax.optimization_barrier(sums)], axis=1)


def _of_one_window(kernel: Array, frames: int) -> Array:
    """Rows of the flat kernel over two or three frames, which begin under its second tap."""
    return kernel[1 : 1 + frames].reshape(-1, kernel.shape[-1])


# --- The library's derivatives ---------------------------------------------------------------------------------------


def _kernel_derivative_of_library(x: Array, d_y: Array) -> Array:
    """As `kernel_derivative`: the input convolved with `d_y`, the pixels being the channels that are summed over."""
    frames, left = x.shape[2], d_y.shape[2]
    return jax.lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        d_y.reshape(-1, *d_y.shape[2:]),
        (1,),
        [(1, 1 + 2 * left - frames)],
        rhs_dilation=(2,),
        dimension_numbers=("CWN", "IWO", "WNC"),
    )


def _input_derivative_of_library(kernel: Array, d_y: Array, frames: int) -> Array:
    """As `input_derivative`: `d_y` with zeros between its frames, convolved with the kernel turned round."""
    n, pixels, left, n_out = d_y.shape
    d_x = jax.lax.conv_general_dilated(
        d_y.reshape(n * pixels, left, n_out),
        kernel[::-1],
        (1,),
        [(TAPS - 2, TAPS - 2 + frames - 2 * left)],
        lhs_dilation=(2,),
        dimension_numbers=("NWC", "WOI", "NWC"),
    )
    return d_x.reshape(n, pixels, frames, -1)


# --- Products of written values --------------------------------------------------------------------------------------


def _kernel_derivative_of_pairs(x: Array, d_y: Array) -> Array:
    """As `kernel_derivative`, of few frames: all of them times all of `d_y`, of which those under a tap are picked."""
    (n, pixels, frames, n_in), (left, n_out) = x.shape, d_y.shape[2:]
    of_pairs = jax.lax.dot_general(
        x.reshape(n * pixels, frames * n_in),
        d_y.reshape(n * pixels, left * n_out),
        (((0,), (0,)), ((), ())),
        preferred_element_type=_summed_in(x),
    ).reshape(frames, n_in, left, n_out)
    taps = [
        [of_pairs[frame, :, window] for window in range(left) if 0 <= (frame := 2 * window - 1 + tap) < frames]
        for tap in range(TAPS)
    ]
    return jnp.stack(
        [sum(of_tap[1:], start=of_tap[0]) if of_tap else jnp.zeros((n_in, n_out), of_pairs.dtype) for of_tap in taps]
    )


# --- Windows that are written out ------------------------------------------------------------------------------------


def _kernel_derivative_of_windows(x: Array, d_y: Array, exact_up_to: int) -> Array:
    frames, n_in = x.shape[2:]
    n_out, wide = d_y.shape[-1], _summed_in(x)
    d_flat, first = jnp.zeros((TAPS * n_in, n_out), wide), 0
    for part, rows in zip(_windows(x, exact_up_to), _kernel_rows(frames, n_in, exact_up_to), strict=True):
        d_part = d_y[:, :, first : first + part.shape[2]]
        # As plain matrices, one row per window: contracted over three axes, XLA would transpose the windows first.
        d_flat = d_flat.at[rows].add(
            jax.lax.dot_general(
                part.reshape(-1, part.shape[-1]),
                d_part.reshape(-1, n_out),
                (((0,), (0,)), ((), ())),
                preferred_element_type=wide,
            )
        )
        first += part.shape[2]
    return d_flat.reshape(TAPS, n_in, n_out)


def _input_derivative_of_windows(kernel: Array, d_y: Array, frames: int) -> Array:
    n_in, n_out = kernel.shape[1:]
    flat, d_windows, first = kernel.reshape(-1, n_out), [], 0
    for rows, n_windows in zip(_kernel_rows(frames, n_in, EXACT_UP_TO), _window_counts(frames), strict=True):
        d_windows.append(d_y[:, :, first : first + n_windows] @ flat[rows].T)
        first += n_windows
    return _frames_of_windows(d_windows, frames, n_in)


def _exact_windows(frames: int) -> list[tuple[int, int, int]]:
    """First frame, frame behind the last, and first tap of each window."""
    windows = []
    for window in range(frames // 2):
        first = 2 * window - 1
        windows.append((max(first, 0), min(first + TAPS, frames), max(-first, 0)))
    return windows


def _window_counts(frames: int) -> list[int]:
    """How many windows each part of `_windows` holds."""
    return [frames // 2] if frames > EXACT_UP_TO else [1] * (frames // 2)


def _kernel_rows(frames: int, n_in: int, exact_up_to: int) -> list[slice]:
    """Which rows of the flat kernel meet each part of `_windows`."""
    if frames > exact_up_to:
        return [slice(None)]
    return [slice(tap * n_in, (tap + end - begin) * n_in) for begin, end, tap in _exact_windows(frames)]


def _windows(x: Array, exact_up_to: int) -> list[Array]:
    """(slice, pixel, time, in) -> parts (slice, pixel, windows, rows of the kernel) of consecutive windows."""
    n, pixels, frames, n_in = x.shape
    if frames > exact_up_to:
        x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 - frames % 2), (0, 0)))  # an odd last frame has no partner behind it
        if platforms.on_cpu():  # the same values; each machine fuses one form of them with what makes x
            windows = x[:, :, 2 * np.arange(frames // 2)[:, None] + np.arange(TAPS)]
        else:
            windows = jnp.stack([x[:, :, tap : tap + 2 * (frames // 2) : 2] for tap in range(TAPS)], axis=3)
        return [windows.reshape(n, pixels, frames // 2, TAPS * n_in)]
    return [x[:, :, begin:end].reshape(n, pixels, 1, (end - begin) * n_in) for begin, end, _ in _exact_windows(frames)]


def _frames_of_windows(d_windows: list[Array], frames: int, n_in: int) -> Array:
    """The transpose of `_windows`: each frame's sum over the windows that hold it."""
    nothing = ((0, 0), (0, 0))
    if frames > EXACT_UP_TO:
        # A window is two pairs of frames; each pair but the outermost belongs to two windows.
        (d,) = d_windows
        pairs = jnp.pad(d[..., : 2 * n_in], (*nothing, (0, 1), (0, 0))) + jnp.pad(
            d[..., 2 * n_in :], (*nothing, (1, 0), (0, 0))
        )
        return pairs.reshape(*pairs.shape[:2], -1, n_in)[:, :, 1 : 1 + frames]
    parts = [
        jnp.pad(d.reshape(*d.shape[:2], end - begin, n_in), (*nothing, (begin, frames - end), (0, 0)))
        for d, (begin, end, _) in zip(d_windows, _exact_windows(frames), strict=True)
    ]
    return sum(parts[1:], start=parts[0])
