"""Networks that see the slices beside each one: batches then hold whole exams, one behind the other, slices in order.

With that order a neighbour is the next row of the batch, and a network needs to know no more than how many slices an
exam has. Beyond its first and its last slice an exam has none; there the edge is repeated, as nothing is known of what
follows, and zeros would say that there is nothing.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def with_neighbours(x: Array, neighbours: int, exam_slices: int) -> Array:
    """Each slice's channels between those of the slices below and above it.

    A convolution of what this gives is one in three dimensions whose kernel is 2 `neighbours` + 1 slices deep.

    Args:
      x: (slice, row, col, channel) of whole exams.
      neighbours: slices on each side; 0 gives `x` itself.
      exam_slices: slices of an exam.

    Returns:
      (slice, row, col, (2 neighbours + 1) channel), the lowest slice's channels first.
    """
    if not neighbours:
        return x
    exams = x.reshape(-1, exam_slices, *x.shape[1:])
    reaching = jnp.pad(exams, ((0, 0), (neighbours, neighbours), (0, 0), (0, 0), (0, 0)), mode="edge")
    shifted = [reaching[:, first : first + exam_slices] for first in range(2 * neighbours + 1)]
    return jnp.concatenate(shifted, axis=-1).reshape(*x.shape[:-1], -1)


def as_one_image(x: Array, exam_slices: int) -> Array:
    """Slices of an exam one below the other, so that statistics of "each slice" are those of each exam.

    (slice, row, col, channel) -> (exam, slices x row, col, channel); of one slice each, `x` itself.
    """
    return x.reshape(-1, exam_slices * x.shape[1], *x.shape[2:])
