"""The losses of the two networks. Each keeps the slice axis or returns sums with their counts; means come last."""

import jax
import jax.numpy as jnp

from dscgan_jax.errors import InputError
from dscgan_jax.settings import CHOICES

Array = jax.Array

ADVERSARIAL = tuple(name for name in CHOICES["loss.objective"] if name != "l1")


def adversarial(logits: Array, real: bool, objective: str) -> Array:
    """Binary cross-entropy of "this map is real".

    Args:
      logits: (slice, row, col, 1), from a discriminator.
      real: the label.
      objective: `logits`: the probability is sigmoid(logit). `published`: the released code's double sigmoid, whose
        loss treats sigmoid(logit) as a logit; it keeps the value between 0.31 and 1.31 and weakens the gradient.

    Returns:
      (slice,), mean over each slice's score map.
    """
    if objective == "published":
        logits = jax.nn.sigmoid(logits)
    elif objective != "logits":
        raise InputError(f"config.loss.objective is {objective!r}; it must be one of {', '.join(ADVERSARIAL)}.")
    return jax.nn.softplus(-logits if real else logits).mean(axis=(1, 2, 3))


def accuracy(logits: Array, real: bool) -> Array:
    """(slice, row, col, 1) -> (slice,), share of the score map on the right side of one half."""
    return ((logits > 0) == real).mean(axis=(1, 2, 3))


def abs_error_and_count(fake: Array, target: Array, has_map: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Absolute error where there is something to compare with, background included.

    Args:
      fake: (slice, row, col, map), scaled.
      target: likewise; a missing one may hold anything, NaN included.
      has_map: (slice, map), bool.
      weight: (slice, row, col), how much a pixel counts; None: all count alike.

    Returns:
      sum of |fake - target| and number of compared values, (slice,) each. The L1 loss is one sum over the other.
    """
    present = jnp.broadcast_to(has_map[:, None, None, :], fake.shape)
    # The target is cleaned, not the error: a NaN under `where` would still reach the gradient.
    error = jnp.abs(fake - jnp.where(present, target, 0.0))
    counts = present if weight is None else jnp.where(present, weight[..., None], 0.0)
    return jnp.where(present, error * counts, 0.0).sum(axis=(1, 2, 3)), counts.sum(axis=(1, 2, 3))


def l1(
    fake: Array,
    target: Array,
    has_map: Array,
    expected_count: Array | None = None,
    weight: Array | None = None,
) -> Array:
    """Mean absolute error over all values present in the batch; 0 for a batch without any. Shapes as above.

    `expected_count`, for a part of a batch, is what to divide by: the whole batch's count over the number of parts, so
    that the mean over the parts is the batch's.
    """
    error, count = abs_error_and_count(fake, target, has_map, weight)
    return error.sum() / jnp.maximum(count.sum() if expected_count is None else expected_count, 1)
