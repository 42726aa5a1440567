"""Changes of a training slice that keep its physics true: each makes of it what another exam could have been.

Functions take one slice, a `Batch` without its first axis, with what is done to it; truth changes along. Curves of the
exam may lie in its corners (`data.reference_curves`); where it matters, `corners` says so.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dscgan_jax.data.batch import Batch
from dscgan_jax.maps import MAP_NAMES, TTP
from dscgan_jax.settings import CORNER, CORNERS

Array = jax.Array

LEAST_SHARE = 0.02  # of the baseline's signal: what lies below it is the noise floor
_ONE_EACH = ((0, 0), (-1, 0))  # a pixel of the corners that show the AIF, and one of those that show the mean


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


def turned(one: Batch, degrees: Array, zoom: Array, corners: bool) -> Batch:
    """The head turned about the middle of the picture and scaled; each pixel is one that there was, truth and all.

    Curves in the corners stay there.
    """
    rows, cols = one.dsc.shape[1:]
    sides = jnp.array([rows, cols])
    middle = 0.5 * (sides - 1.0)
    row, col = jnp.meshgrid(jnp.arange(rows) - middle[0], jnp.arange(cols) - middle[1], indexing="ij")
    cosine, sine = jnp.cos(jnp.deg2rad(degrees)) / zoom, jnp.sin(jnp.deg2rad(degrees)) / zoom
    source = jnp.stack([cosine * row + sine * col, cosine * col - sine * row]) + middle[:, None, None]
    place = jnp.rint(source).astype(jnp.int32)  # (axis, row, col)
    beside_end = jnp.minimum(place, sides[:, None, None] - 1 - place)
    within = (beside_end >= 0).all(axis=0)
    if corners:
        within &= ~(beside_end < CORNER).all(axis=0)
    place = jnp.clip(place, 0, sides[:, None, None] - 1)

    def taken(array: Array, axis: int) -> Array:
        """With rows in that axis and columns in the next."""
        flat = array.reshape(*array.shape[:axis], rows * cols, *array.shape[axis + 2 :])
        moved = jnp.take(flat, (place[0] * cols + place[1]).ravel(), axis=axis).reshape(array.shape)
        kept = within.reshape((1,) * axis + (rows, cols) + (1,) * (array.ndim - axis - 2))
        return jnp.where(kept, moved, jnp.zeros((), array.dtype))

    changed = dataclasses.replace(one, dsc=taken(one.dsc, 1), maps=taken(one.maps, 0), mask=taken(one.mask, 0))
    return with_corners_of(changed, one) if corners else changed


def stretched(one: Batch, factor: Array, frame_seconds: float, source: Array, to: Array) -> Batch:
    """Everything takes `factor` times as long: MTT and Tmax with it, flow is slower, and volumes stay.

    Blood and tissue obey the same equations in any unit of time. Frames between two that there were are interpolated,
    as those of an exam are; the ends are held.

    Args:
      one: a slice; curves in its corners change like pixels.
      factor: of all times.
      frame_seconds: length of a network frame.
      source: the frame, a fraction, ...
      to: ... that becomes this one: when the bolus arrives.
    """
    n_frames = one.dsc.shape[0]
    at = jnp.clip(source + (jnp.arange(n_frames) - to) / factor, 0, n_frames - 1)
    weights = jnp.maximum(1.0 - jnp.abs(at[:, None] - jnp.arange(n_frames)[None]), 0.0)  # (frame, source frame)

    def later(frame: Array) -> Array:
        return to + factor * (frame - source)

    begin = jnp.clip(jnp.ceil(later(one.baseline_begin)), 0, n_frames - 2).astype(jnp.int32)
    end = jnp.clip(jnp.floor(later(one.baseline_end)), begin + 1, n_frames).astype(jnp.int32)
    by = {"cbf": 1.0 / factor, "mtt": factor, "tmax": factor}
    factors = jnp.stack([jnp.asarray(by.get(name, 1.0), one.maps.dtype) for name in MAP_NAMES])[None, None]
    changed = dataclasses.replace(
        one,
        dsc=_over_time(weights, one.dsc),
        baseline_begin=begin,
        baseline_end=end,
        maps=one.maps * factors,
    )
    ttp = frame_seconds * later(one.maps[..., TTP] / frame_seconds)
    return _with_ttp(changed, jnp.clip(ttp, 0.0, frame_seconds * (n_frames - 1)))


def stronger(one: Batch, dose: Array, corners: bool) -> Batch:
    """`dose` times the agent: ΔR2* of all pixels is so many times as high. Curves in the corners have no height."""
    before = baseline(one)
    changed = dataclasses.replace(one, dsc=_signal(before, dose * _drop(one, before)))
    return with_corners_of(changed, one) if corners else changed


def widened(one: Batch, frames: Array, corners: bool) -> Batch:
    """A slower injection: the AIF, and with it each curve, convolved with an exponential of that mean.

    Flow, volume, MTT and Tmax stay. When each curve is highest, only the curve without noise could say: TTP is not
    known any more.

    Args:
      one: a slice.
      frames: mean of the exponential, above 0, in network frames.
      corners: whether curves lie in the corners; they are given their height again.
    """
    n_frames = one.dsc.shape[0]
    later = jnp.arange(n_frames)[:, None] - jnp.arange(n_frames)[None]
    kernel = jnp.where(later >= 0, jnp.exp(-jnp.maximum(later, 0) / frames), 0.0)
    kernel = kernel / kernel[-1].sum()
    before = baseline(one)
    dsc = _signal(before, _over_time(kernel, _drop(one, before)))
    if corners:
        depths = _depths(one, before)
        slower = jnp.einsum("ts,cs->ct", kernel, depths, precision="highest")
        shown = jnp.where(_has_aif(depths), 0, 1)  # the curve that has its full height
        slower = slower * depths[shown].max() / jnp.maximum(slower[shown].max(), 1e-6)
        for band, corner, curve in zip(CORNERS, _ONE_EACH, slower, strict=True):
            for col in CORNERS:
                dsc = dsc.at[:, band, col].set((before[corner] - curve)[:, None, None])
    return dataclasses.replace(one, dsc=dsc, has_map=one.has_map.at[TTP].set(False))


def arrival(one: Batch, corners: bool) -> Array:
    """The frame, a fraction, in which the AIF in the corners arrives; without one, the frame after the baseline."""
    end = one.baseline_end.astype(jnp.float32)
    if not corners:
        return end
    depths = _depths(one, baseline(one))
    return jnp.where(_has_aif(depths), _crossing(depths[0]), end)


def baseline(one: Batch) -> Array:
    """(row, col) mean of the frames before the bolus."""
    frame = jnp.arange(one.dsc.shape[0])
    there = (frame >= one.baseline_begin) & (frame < one.baseline_end)
    return _over_time(there[None] / jnp.maximum(there.sum(), 1), one.dsc)[0]


def _drop(one: Batch, before: Array) -> Array:
    """ΔR2* times the echo time, (time, row, col); 0 where there was no signal."""
    before = before[None]
    share = jnp.where(before > 0, one.dsc / jnp.where(before > 0, before, 1.0), 1.0)
    return -jnp.log(jnp.clip(share, LEAST_SHARE, None))


def _signal(before: Array, drop: Array) -> Array:
    """Inverse of `_drop`."""
    return before[None] * jnp.exp(-drop)


def _over_time(weights: Array, series: Array) -> Array:
    """(frame, source frame) and (source frame, row, col) -> (frame, row, col), exact on accelerators too."""
    return jnp.einsum("ts,src->trc", weights, series, precision="highest")


def _depths(one: Batch, before: Array) -> Array:
    """(curve, time): how far the curves in the corners, AIF and mean, lie below their baseline."""
    return jnp.stack([before[corner] - one.dsc[:, *corner] for corner in _ONE_EACH])


def _has_aif(depths: Array) -> Array:
    return depths[0].max() > 0.01 * depths[1].max()


def _crossing(curve: Array) -> Array:
    """Where the rising flank of a curve (time,) crosses a tenth of its peak."""
    frame, level = jnp.arange(curve.shape[0]), 0.1 * curve.max()
    below = (frame < jnp.argmax(curve)) & (curve < level)
    last = jnp.minimum(jnp.max(jnp.where(below, frame, 0)), curve.shape[0] - 2)
    low, high = curve[last], curve[last + 1]
    return last + jnp.clip((level - low) / jnp.maximum(high - low, 1e-6), 0.0, 1.0)


def _with_ttp(one: Batch, ttp: Array) -> Batch:
    """Another TTP where there is one."""
    known = one.maps[..., TTP] != 0
    return dataclasses.replace(one, maps=one.maps.at[..., TTP].set(jnp.where(known, ttp, 0.0)))
