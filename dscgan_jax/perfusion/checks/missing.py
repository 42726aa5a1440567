"""Values that are missing in a series: NaN, zero, negative or constant in a part of a frame, copies, empty frames.

A magnitude of the head is positive. What is missing is interpolated over time, as if it had not been measured, or left
out at the end, so that it never counts as signal.
"""

import dataclasses

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.perfusion.checks.dip import find_dip
from dscgan_jax.perfusion.checks.head import FEWEST_MISSING, HeadCurves

MAX_NEGATIVE = 0.05  # of the values that are not zero: filters leave a few, magnitudes none
MAX_MISSING = 0.2  # of the head's values that may be interpolated over time
# Of the head's voxels of a plane: an artery at its peak may be zero, a twentieth of a slice is not.
MISSING_SHARE = 0.05
MOSTLY = 0.5  # the same, of a plane across another axis than the slices': a line of voxels may be dark
LEAST_LIT = 0.3  # of a voxel's median, in every frame in which it is not zero: noise and bolus leave it brighter
NEAR_MEDIAN = 0.7  # the same of the frames before and after a zero: an artery falls to its peak, and comes back from it
USUAL_BRIGHT, SPIKE = 0.9999, 2.0  # share of the head's values that stay below a level; times that level
MAX_COPIES = 0.1  # of the frames of the first half; more are noise-free data
BEFORE_DIP = 3  # frames: arteries fill before the mean signal shows it
EMPTY_FRAME = 0.9  # of the head missing: the scan had ended


def without_holes(series: np.ndarray, found: Findings) -> np.ndarray:
    """The series (x, y, z, time) with NaN and infinite values interpolated over time.

    Frames of nothing else at the end are left out; voxels that never have a value become 0.

    Raises:
      InputError: too many are missing.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(series.sum(dtype=np.float64)):
            return series
    finite = np.isfinite(series)
    shown = np.flatnonzero(finite.any(axis=(0, 1, 2)))
    if not len(shown):
        raise InputError("100 % of the values are NaN or infinite; export the series again.")
    n_left_out = finite.shape[-1] - 1 - int(shown[-1])
    if n_left_out:
        _note_left_out(n_left_out, finite.shape[-1], found)
        series, finite = series[..., : shown[-1] + 1], finite[..., : shown[-1] + 1]
    some = finite.any(axis=-1)
    holes = some & ~finite.all(axis=-1)
    n_holes = int((~finite[holes]).sum())
    if n_holes > MAX_MISSING * some.sum() * series.shape[-1]:
        raise InputError(f"{100 * (~finite).mean():.0f} % of the values are NaN or infinite; export the series again.")
    series = np.where(some[..., None], series, np.float32(0))
    series[holes] = _over_time(series[holes].T, ~finite[holes].T).T
    n_missing = int((~finite).sum())
    if n_missing:
        found.note(
            "signal_missing",
            f"{n_missing} values of the series are NaN or infinite; they were interpolated over time",
            n_missing,
        )
    return series


def tell_empty_slices(series: np.ndarray, slice_axis: int, found: Findings) -> None:
    """Warns of slices that are zero in every frame, between others with signal: nothing can be said of their tissue.

    At the ends of a stack they are usual, where the brain was cut out.
    """
    slices = np.moveaxis(series, slice_axis, 0)
    middle = series.shape[-1] // 2  # first one frame, since the whole takes long to look at
    lit = np.flatnonzero([bool(one[..., middle].any() or one.any()) for one in slices])
    empty = np.setdiff1d(np.arange(lit[0], lit[-1]), lit) if lit.size else lit
    if empty.size:
        found.warning(
            "signal_missing",
            f"{len(empty)} of {len(slices)} slices are zero in every frame, between slices with signal (the first is "
            f"number {empty[0] + 1}); no map of them means anything: export the series again",
            int(empty.size),
        )


def not_negative(series: np.ndarray, found: Findings) -> np.ndarray:
    """The series with negative values set to zero."""
    if not series.min() < 0:  # quicker than counting, and there are none in most series
        return series
    n_negative = int((series < 0).sum())
    found.note("signal_negative", f"{n_negative} values of the series are negative; they were set to zero", n_negative)
    return np.maximum(series, 0)


def is_normalised(series: np.ndarray, found: Findings) -> bool:
    """A magnitude has no negative values; where many are, the values are not the scanner's."""
    some = series.reshape(-1, order="A")[:: max(1, series.size // 2_000_000)]
    lit = np.count_nonzero(some)
    share = np.count_nonzero(some < 0) / max(lit, 1)
    if share > MAX_NEGATIVE:
        found.error(
            "signal_normalised",
            f"{100 * share:.0f} % of the values are negative: the series was normalised, subtracted or "
            "shifted; give the scanner's values (magnitudes)",
            round(share, 3),
        )
    return share > MAX_NEGATIVE


def filled(series: np.ndarray, head: HeadCurves, found: Findings) -> tuple[np.ndarray, HeadCurves]:
    """The series with missing values interpolated over time, without empty frames and copies at the end.

    Raises:
      InputError: too many are missing.
    """
    missing = _missing(head) | _copies(head, found)[:, None]
    n_left_out = _empty_end(missing)
    if n_left_out:
        n_kept = len(missing) - n_left_out
        _note_left_out(n_left_out, len(missing), found)
        series, missing = series[..., :n_kept], missing[:n_kept]
        head = dataclasses.replace(head, values=head.values[:n_kept])
    if not missing.any():
        return series, head
    share = float(missing.mean())
    if share > MAX_MISSING:
        raise InputError(
            f"{100 * share:.0f} % of the head's values are missing (NaN, zero or constant), at most "
            f"{100 * MAX_MISSING:.0f} % can be filled; export the series again."
        )
    values = _over_time(head.values, missing)
    _note_filled(missing, values, found)
    frames = np.flatnonzero(missing.any(axis=1))
    series = np.array(series, order="K")
    planes = np.moveaxis(series.T, 1 + head.axis, 1)  # (time, slice, ..., ...)
    empty = _empty_planes(missing, head)
    for plane in np.flatnonzero(empty.any(axis=0)):  # whole slices: their background is missing too
        for frame in np.flatnonzero(empty[:, plane]):
            before, after, share = _around(int(frame), empty[:, plane])
            planes[frame, plane] = (1 - share) * planes[before, plane] + share * planes[after, plane]
    for frame in frames:
        lost = missing[frame]
        volume = series.T[frame]
        volume[np.unravel_index(head.where[lost], volume.shape)] = values[frame, lost]
    return series, dataclasses.replace(head, values=values)


def without_spikes(series: np.ndarray, head: HeadCurves, found: Findings) -> tuple[np.ndarray, HeadCurves]:
    """The series with single values that are far brighter than anything else in the head interpolated over time.

    One flipped bit of an unpacked file makes one; in an arterial voxel it changes every map.
    """
    usual = float(np.quantile(head.some(), USUAL_BRIGHT))
    spikes = head.values > SPIKE * usual
    if not spikes.any() or spikes.mean() > 1 - USUAL_BRIGHT:
        return series, head
    values = _over_time(head.values, spikes)
    series = np.array(series, order="K")
    for frame in np.flatnonzero(spikes.any(axis=1)):
        volume = series.T[frame]
        volume[np.unravel_index(head.where[spikes[frame]], volume.shape)] = values[frame, spikes[frame]]
    found.note(
        "signal_missing",
        f"{int(spikes.sum())} values of the head are more than {SPIKE:g} times as bright as all others; they were "
        "interpolated over time",
        int(spikes.sum()),
    )
    return series, dataclasses.replace(head, values=values)


def _note_filled(missing: np.ndarray, values: np.ndarray, found: Findings) -> None:
    """That values were filled, (time, voxel) each: a warning where whole frames of the first pass are guessed."""
    text = (
        f"{int(missing.sum())} values of the head are missing (NaN, zero or constant) in "
        f"{_frames_named(np.flatnonzero(missing.any(axis=1)))}; they were interpolated over time"
    )
    dip = find_dip(values.mean(axis=1, dtype=np.float64))
    lost = np.flatnonzero(missing.mean(axis=1) >= EMPTY_FRAME)
    if dip is not None and ((lost > dip.begin - BEFORE_DIP) & (lost < dip.end)).any():
        found.warning(
            "signal_missing",
            f"{text}, some of them within the first pass: times may be off by half a frame",
            int(missing.sum()),
        )
    else:
        found.note("signal_missing", text, int(missing.sum()))


def _copies(head: HeadCurves, found: Findings) -> np.ndarray:
    """(time,) bool: frames that are copies of the frame before, which noise never makes."""
    some = head.some()
    copies = np.concatenate([[False], (some[1:] == some[:-1]).all(axis=1)])
    # Where many are, the series has hardly any noise, or none.
    if not copies.any() or copies[: len(copies) // 2].mean() > MAX_COPIES:
        return np.zeros(len(copies), bool)
    shown = np.flatnonzero(~copies)[-1]
    inner = np.flatnonzero(copies[:shown])
    if inner.size:
        found.warning(
            "frames_repeated",
            f"{_frames_named(inner)} of {len(copies)}: a copy of the frame before; taken as a lost frame and "
            "interpolated over time. If it was added to the others, all later times are too late",
            int(inner.size),
        )
    if shown < len(copies) - 1:
        found.note(
            "frames_repeated",
            f"the last {len(copies) - 1 - shown} of {len(copies)} frames are copies of the one before",
            int(len(copies) - 1 - shown),
        )
    return copies


def _note_left_out(n_left_out: int, n_frames: int, found: Findings) -> None:
    found.note(
        "frames_missing", f"the last {n_left_out} of {n_frames} frames are empty; they were left out", n_left_out
    )


def _missing(head: HeadCurves) -> np.ndarray:
    """(time, voxel) bool: values that are not positive in a large part of a frame or plane, and planes of one value."""
    edges, sizes = head.planes()
    constant = np.maximum.reduceat(head.values, edges, axis=1) == np.minimum.reduceat(head.values, edges, axis=1)
    constant &= sizes >= FEWEST_MISSING
    constant &= constant.mean(axis=0, keepdims=True) <= 0.5  # otherwise it is no plane of a scan
    empty = ~(head.values > 0)
    if empty.any():
        empty &= _in_large_parts(empty, head) | _of_bright_voxels(empty, head)
    return empty | np.repeat(constant, sizes, axis=1)


def _in_large_parts(empty: np.ndarray, head: HeadCurves) -> np.ndarray:
    """(time, voxel) bool: whether a large part of the frame, or of a plane across any axis, is empty in that frame."""
    large = np.repeat(empty.mean(axis=1, keepdims=True) >= MISSING_SHARE, empty.shape[1], axis=1)
    for frame in np.flatnonzero(empty.any(axis=1) & ~large[:, 0]):
        for position in np.unravel_index(head.where, head.shape):
            sizes, counts = np.bincount(position), np.bincount(position, empty[frame])
            large[frame] |= (counts >= np.maximum(FEWEST_MISSING, MOSTLY * sizes))[position]
        own = np.bincount(head.plane, empty[frame]) >= np.maximum(
            FEWEST_MISSING, MISSING_SHARE * np.bincount(head.plane)
        )
        large[frame] |= own[head.plane]
    return large


def _of_bright_voxels(empty: np.ndarray, head: HeadCurves) -> np.ndarray:
    """(time, voxel) bool: single holes, between bright frames, of voxels that are never dark else."""
    at = np.flatnonzero(empty.any(axis=0))
    lit = np.where(empty[:, at], np.nan, head.values[:, at])
    few = empty[:, at].mean(axis=0) <= MAX_MISSING
    at, lit = at[few], lit[:, few]
    holes = np.zeros(empty.shape, bool)
    with np.errstate(invalid="ignore"):
        median = np.nanmedian(lit, axis=0)
        bright = np.pad(lit > NEAR_MEDIAN * median, ((1, 1), (0, 0)), constant_values=True)
        holes[:, at] = bright[:-2] & bright[2:] & (np.nanmin(lit, axis=0) > LEAST_LIT * median)
    return holes


def _empty_end(missing: np.ndarray) -> int:
    """How many frames at the end show nothing."""
    shown = np.flatnonzero(missing.mean(axis=1) < EMPTY_FRAME)
    return len(missing) - 1 - int(shown[-1]) if len(shown) else 0


def _empty_planes(missing: np.ndarray, head: HeadCurves) -> np.ndarray:
    """(time, plane) bool: where all voxels of the head are missing."""
    edges, _ = head.planes()
    whole = np.zeros((len(missing), head.shape[head.axis]), bool)
    whole[:, head.plane[edges]] = np.logical_and.reduceat(missing, edges, axis=1)
    return whole


def _around(frame: int, bad: np.ndarray) -> tuple[int, int, float]:
    """The nearest good frames before and after, and how far between them this one lies; `bad` is (time,) bool."""
    good = np.flatnonzero(~bad)
    place = int(np.searchsorted(good, frame))
    before, after = good[max(place - 1, 0)], good[min(place, len(good) - 1)]
    return int(before), int(after), (frame - before) / (after - before) if after > before else 0.0


def _over_time(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """(time, voxel) with missing values filled from the neighbours in time; at the ends the nearest one is held.

    A single frame between two known ones on either side is filled by the cubic through these four, which keeps a peak;
    longer gaps are filled linearly.
    """
    filled = values.copy()
    holes = np.flatnonzero(missing.any(axis=0))
    lost, curves = missing[:, holes], values[:, holes]
    n_frames, frame = len(values), np.arange(len(values))[:, None]
    before = np.maximum.accumulate(np.where(lost, -1, frame), axis=0)
    after = np.minimum.accumulate(np.where(lost, n_frames, frame)[::-1], axis=0)[::-1]
    first, last = before < 0, after >= n_frames
    before, after = np.where(first, after, before), np.where(last, before, after)
    before, after = np.clip(before, 0, n_frames - 1), np.clip(after, 0, n_frames - 1)
    share = (frame - before) / np.maximum(after - before, 1)
    low, high = (np.take_along_axis(curves, index, axis=0) for index in (before, after))
    linear = (1 - share) * low + share * high
    padded, known = np.pad(curves, ((2, 2), (0, 0)), mode="edge"), np.pad(~lost, ((2, 2), (0, 0)))
    cubic = (9 * (padded[1:-3] + padded[3:-1]) - (padded[:-4] + padded[4:])) / 16
    single = known[:-4] & known[1:-3] & known[3:-1] & known[4:]
    best = np.where(single, np.clip(cubic, 0.5 * linear, 1.5 * linear), linear)
    filled[:, holes] = np.where(lost, best, curves)
    return filled


def _frames_named(frames: np.ndarray) -> str:
    """In words, the first four at most."""
    names = ", ".join(str(frame) for frame in frames[:4])
    return f"frame {names}" if len(frames) == 1 else f"frames {names}{', …' if len(frames) > 4 else ''}"
