"""Changes of a training slice that keep its physics true: each makes of it what another exam could have been.

Functions take one slice, a `Batch` without its first axis, with what is done to it; truth changes along. Curves of the
exam may lie in its corners (`data.reference_curves`); where it matters, `corners` says so.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dscgan_jax.data.batch import Batch
from dscgan_jax.maps import TTP
from dscgan_jax.settings import CORNERS

Array = jax.Array


def mirrored(one: Batch) -> Batch:
    """Left and right exchanged."""
    return dataclasses.replace(one, dsc=one.dsc[:, :, ::-1], maps=one.maps[:, ::-1], mask=one.mask[:, ::-1])


def with_noise(one: Batch, key: Array, sd: Array) -> Batch:
    """Gaussian noise of that standard deviation over the brain's signal, where there is signal at all."""
    noise = sd * one.brain_signal / one.dsc_scale * jax.random.normal(key, one.dsc.shape, one.dsc.dtype)
    seen = (one.dsc != 0).any(axis=0)
    return dataclasses.replace(one, dsc=jnp.where(seen, jnp.abs(one.dsc + noise), one.dsc))


def delayed(one: Batch, frames: Array, frame_seconds: float) -> Batch:
    """Everything comes that many frames later, TTP and the baseline with it; the ends are held."""
    n_frames = one.dsc.shape[0]
    at = jnp.clip(jnp.arange(n_frames) - frames, 0, n_frames - 1)
    begin = jnp.clip(one.baseline_begin + frames, 0, n_frames - 1)
    end = jnp.clip(one.baseline_end + frames, begin + 1, n_frames)
    shifted = dataclasses.replace(one, dsc=one.dsc[at], baseline_begin=begin, baseline_end=end)
    return _with_ttp(shifted, one.maps[..., TTP] + frames * frame_seconds)


def stopped(one: Batch, last: Array, frame_seconds: float) -> Batch:
    """The scan ends with frame `last`, which is held; TTP lies within what was acquired."""
    at = jnp.minimum(jnp.arange(one.dsc.shape[0]), last)
    return _with_ttp(dataclasses.replace(one, dsc=one.dsc[at]), jnp.minimum(one.maps[..., TTP], last * frame_seconds))


def with_spoilt_frame(one: Batch, frame: Array) -> Batch:
    """A frame (neither the first nor the last) is the mean of its neighbours, as a spoilt one is repaired."""
    return dataclasses.replace(one, dsc=one.dsc.at[frame].set(0.5 * (one.dsc[frame - 1] + one.dsc[frame + 1])))


def cropped(one: Batch, row: Array, col: Array, size: int) -> Batch:
    """`size` x `size` pixels from that corner on."""

    def cut(array: Array, axis: int) -> Array:
        array = jax.lax.dynamic_slice_in_dim(array, row, size, axis)
        return jax.lax.dynamic_slice_in_dim(array, col, size, axis + 1)

    return dataclasses.replace(one, dsc=cut(one.dsc, 1), maps=cut(one.maps, 0), mask=cut(one.mask, 0))


def with_corners_of(one: Batch, whole: Batch) -> Batch:
    """A crop with the corners of the slice that it was cut from, where curves of the exam lie."""
    dsc = one.dsc
    for row in CORNERS:
        for col in CORNERS:
            dsc = dsc.at[:, row, col].set(whole.dsc[:, row, col])
    return dataclasses.replace(one, dsc=dsc)


def _with_ttp(one: Batch, ttp: Array) -> Batch:
    """Another TTP where there is one."""
    known = one.maps[..., TTP] != 0
    return dataclasses.replace(one, maps=one.maps.at[..., TTP].set(jnp.where(known, ttp, 0.0)))
