"""Convolution of images, matrix product and bias, whose derivatives are summed in float32 even of 16-bit values.

The automatic derivative of weights that were rounded to 16 bits is rounded too, and several devices would then add up
rounded sums.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

IMAGE = ("NHWC", "HWIO", "NHWC")


def convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """2-D convolution: (slice, row, col, in), (row, col, in, out) -> (slice, row', col', out), of the type of `x`.

    Of 16-bit values the derivative of the kernel is summed and given in float32.
    """
    if x.dtype != jnp.bfloat16:
        return _convolution(x, kernel.astype(x.dtype), stride, padding)
    return _convolve_16_bits(x, kernel, stride, padding)


def _convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=IMAGE)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_16_bits(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    return _convolution(x, kernel.astype(x.dtype), stride, padding)


def _convolve_16_bits_forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_16_bits(x, kernel, stride, padding), (x, kernel)


def _convolve_16_bits_backward(
    stride: int, padding: int, saved: tuple[Array, Array], d_y: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    if x.shape[-1] > kernel[:, :, 0].size:
        d_kernel = _kernel_derivative_of_pixels(x, d_y, kernel.shape, stride, padding)
    else:  # XLA has no convolution of 16-bit values that gives float32
        convolution = functools.partial(_convolution, _wide(x), stride=stride, padding=padding)
        (d_kernel,) = jax.linear_transpose(convolution, jax.ShapeDtypeStruct(kernel.shape, _wide(x).dtype))(_wide(d_y))
    # The kernel first: several devices add up its derivative, and would else put that off and keep what it is made of.
    d_kernel, d_y = jax.lax.optimization_barrier((d_kernel.astype(kernel.dtype), d_y))
    of_input = functools.partial(_convolution, kernel=kernel.astype(x.dtype), stride=stride, padding=padding)
    (d_x,) = jax.linear_transpose(of_input, jax.ShapeDtypeStruct(x.shape, x.dtype))(d_y)
    return d_x, d_kernel


_convolve_16_bits.defvjp(_convolve_16_bits_forward, _convolve_16_bits_backward)


def _kernel_derivative_of_pixels(x: Array, d_y: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """Derivative of a kernel of many input channels, float32: a product of the pixels with what lies over them.

    For each tap `d_y` is put where the pixels under it are, with zeros between; `x`, which is larger, stays as it is.
    """
    rows, cols = x.shape[1:3]
    taps = []
    for tap in np.ndindex(*shape[:2]):
        config = [(0, 0, 0)]
        for at, size, left in zip(tap, (rows, cols), d_y.shape[1:3], strict=True):
            first = at - padding
            config.append((first, size - first - (stride * (left - 1) + 1), stride - 1))
        taps.append(jax.lax.pad(d_y, jnp.zeros((), d_y.dtype), [*config, (0, 0, 0)]))
    over = jnp.stack(taps, axis=-2).reshape(-1, len(taps) * shape[-1])
    product = jax.lax.dot_general(
        x.reshape(-1, x.shape[-1]), over, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
    return jnp.moveaxis(product.reshape(shape[2], *shape[:2], shape[3]), 0, 2)


def multiply(x: Array, matrix: Array) -> Array:
    """(..., in), (in, out) -> (..., out), of the type of `x`; the derivative of the matrix as in `convolve`."""
    return x @ matrix.astype(x.dtype) if x.dtype != jnp.bfloat16 else _multiply_16_bits(x, matrix)


@jax.custom_vjp
def _multiply_16_bits(x: Array, matrix: Array) -> Array:
    return x @ matrix.astype(x.dtype)


def _multiply_16_bits_forward(x: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    return _multiply_16_bits(x, matrix), (x, matrix)


def _multiply_16_bits_backward(saved: tuple[Array, Array], d_y: Array) -> tuple[Array, Array]:
    x, matrix = saved
    d_matrix = jax.lax.dot_general(
        x.reshape(-1, x.shape[-1]),
        d_y.reshape(-1, d_y.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    d_matrix, d_y = jax.lax.optimization_barrier((d_matrix.astype(matrix.dtype), d_y))
    return d_y @ matrix.astype(x.dtype).T, d_matrix


_multiply_16_bits.defvjp(_multiply_16_bits_forward, _multiply_16_bits_backward)


def add_bias(y: Array, bias: Array) -> Array:
    """(..., channel) and what is added to each channel, of the type of `y`; the derivative of the bias as above."""
    bias = bias.reshape((1,) * (y.ndim - 1) + (-1,))
    return y + bias.astype(y.dtype) if y.dtype != jnp.bfloat16 else (_wide(y) + bias).astype(y.dtype)


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32)
