"""What multiplies training slices without breaking the physics: every change is one that another exam could have had.

A mirrored head, noise of the receiver, a bolus that was found a frame earlier or later (but where an AIF says when it
comes), a frame that was spoilt and repaired, a scan that was stopped, a part of the picture (`changes`). A gain is not
among them: networks see signal over baseline.
`augmented` draws what is done, for each slice of a batch, from one key. The slices of an exam that a network sees
together are changed alike, but for the noise.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from dscgan_jax.data.batch import Batch
from dscgan_jax.training import changes

Array = jax.Array

MIRRORED = 0.5  # shares of slices
NOISY, MOST_NOISE = 0.5, 0.03  # and the largest standard deviation that is added, over the brain's signal
SPOILT = 0.2
STOPPED, KEPT_SECONDS = 0.15, 25.0  # after the bolus arrives: a first pass is seen to its end
LATE_FRAMES = 1  # by which the bolus may be found too early or too late
# What makes another exam of one (`more`): the largest factors of time, dose and size, as logarithms; degrees; and the
# longest mean of the exponential that widens a bolus, with the share of slices in which it does.
STRETCH, DOSE, ZOOM, TURN = 0.18, 0.35, 0.16, 20.0
WIDENED, WIDENING_SECONDS = 0.35, (0.4, 3.5)
JITTER = 6  # pixels by which a crop's centre lies beside the brain's


def augmented(
    batch: Batch,
    key: Array,
    *,
    frame_seconds: float,
    crop: int,
    exam_slices: int = 1,
    corners: bool = False,
    more: bool = False,
) -> Batch:
    """Each slice, or each exam, with changes of its own.

    Args:
      batch: of the training.
      key: of this step.
      frame_seconds: length of a network frame.
      crop: rows and columns that are left, around the brain; 0 = all.
      exam_slices: slices in a row that are one exam to the network.
      corners: whether curves lie in the slices' corners (`data.reference_curves`): a crop keeps them, and the bolus is
        where they say.
      more: whether exams become other exams: turned and scaled, with another dose, a slower injection, another pace.

    Returns:
      a batch whose `dsc` is float32.
    """
    n_slices = batch.dsc.shape[0]
    keys, brains, numbers = jax.random.split(key, n_slices // exam_slices), batch.mask, None
    if exam_slices > 1:
        exam = jnp.arange(n_slices) // exam_slices
        seen = brains.reshape(-1, exam_slices, *brains.shape[1:]).any(axis=1)
        keys, brains, numbers = keys[exam], seen[exam], jnp.arange(n_slices) % exam_slices
    change = functools.partial(_changed, frame_seconds=frame_seconds, crop=crop, corners=corners, more=more)
    return jax.vmap(change)(dataclasses.replace(batch, dsc=batch.dsc.astype(jnp.float32)), keys, brains, numbers)


def _changed(
    one: Batch,
    key: Array,
    brain: Array,
    number: Array | None,
    *,
    frame_seconds: float,
    crop: int,
    corners: bool,
    more: bool,
) -> Batch:
    """One slice; `brain` is what a crop is laid around, `number` that of a slice that shares its key with others."""
    chance = functools.partial(_chance, iter(jax.random.split(key, 10)))
    keys = jax.random.split(jax.random.fold_in(key, 1), 6)
    n_frames = one.dsc.shape[0]
    if crop and crop < one.dsc.shape[1]:
        part = changes.cropped(one, *_corner(brain, keys[0], crop), crop)
        one = changes.with_corners_of(part, one) if corners else part
    one = _where(chance(MIRRORED), changes.mirrored(one), one)
    if more:
        one = _another(one, jax.random.fold_in(key, 2), frame_seconds, corners)
    sd = jax.random.uniform(keys[1], maxval=MOST_NOISE) * chance(NOISY)
    one = changes.with_noise(one, keys[2] if number is None else jax.random.fold_in(keys[2], number), sd)
    one = _where(chance(SPOILT), changes.with_spoilt_frame(one, jax.random.randint(keys[3], (), 1, n_frames - 1)), one)
    first = jnp.minimum(one.baseline_end + round(KEPT_SECONDS / frame_seconds), n_frames - 1)
    last = jax.random.randint(keys[4], (), first, n_frames)
    one = changes.stopped(one, jnp.where(chance(STOPPED), last, n_frames - 1), frame_seconds)
    if corners:  # the AIF says when the bolus comes
        return one
    return changes.delayed(one, jax.random.randint(keys[5], (), -LATE_FRAMES, LATE_FRAMES + 1), frame_seconds)


def _another(one: Batch, key: Array, frame_seconds: float, corners: bool) -> Batch:
    """Another exam: the head lies otherwise, more or less agent is given, faster or more slowly, to another person."""
    keys = jax.random.split(key, 3)
    stretch, dose, zoom, turn = jax.random.uniform(keys[0], (4,), minval=-1.0)
    one = changes.turned(one, TURN * turn, jnp.exp(ZOOM * zoom), corners)
    one = changes.stronger(one, jnp.exp(DOSE * dose), corners)
    low, high = WIDENING_SECONDS
    mean = jax.random.uniform(keys[1], minval=low, maxval=high) / frame_seconds
    to = changes.arrival(one, corners)
    one = _where(jax.random.uniform(keys[2]) < WIDENED, changes.widened(one, mean, corners), one)
    return changes.stretched(one, jnp.exp(STRETCH * stretch), frame_seconds, changes.arrival(one, corners), to)


def _corner(mask: Array, key: Array, crop: int) -> tuple[Array, Array]:
    """A corner (row, col) for which the brain lies about the middle of the crop."""
    size = mask.shape[0]
    weight = mask.astype(jnp.float32) + 1e-6  # without any brain: the middle of the picture
    places = jnp.arange(size)
    middle = jnp.stack([(weight.sum(axis=1 - axis) * places).sum() for axis in range(2)]) / weight.sum()
    beside = jax.random.uniform(key, (2,), minval=-JITTER, maxval=JITTER)
    row, col = jnp.clip(jnp.rint(middle + beside - 0.5 * crop), 0, size - crop).astype(jnp.int32)
    return row, col


def _where(yes: Array, changed: Batch, unchanged: Batch) -> Batch:
    return jax.tree.map(lambda a, b: jnp.where(yes, a, b), changed, unchanged)


def _chance(keys: Any, share: float) -> Array:
    """True in that share of cases."""
    return jax.random.uniform(next(keys)) < share
