"""From scanner signal to ΔR2* and back: non-steady-state frames, baseline, bolus, peaks.

Words: *non-steady-state frames* are the first ones, before the longitudinal magnetisation is steady; the *baseline* is
the time from then until the bolus arrives; the *peak* is the frame of the lowest signal. Frames count from the first
acquired one.
"""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion.checks.dip import median_of_three

MIN_FRAMES = 10
MAX_NON_STEADY_FRAMES = 6
MIN_BASELINE_FRAMES = 2
MIN_DROP = 0.03  # of the baseline: the mean of a brain falls by 5-40 % in practice
MIN_DROP_OVER_NOISE = 6.0
MIN_RECOVERY = 0.1  # of the drop: a first pass ends, a drift does not
ARRIVAL = 0.05  # of the drop: where the bolus counts as arrived
STEADY = 0.01  # of the baseline: how far from it a frame still counts as steady
FEW_FRAMES = 20  # a shorter series may have been cut anywhere, so its shape does not show the modality
RATIO_LIMITS = (1e-3, 1e3)  # S/S0 before the logarithm
SD_OVER_MEDIAN = 1.4826  # standard deviation of normal noise over the median of its size


class NoBolusError(InputError):
    """The mean curve shows no first pass. The caller adds subject and file."""


@dataclasses.dataclass(frozen=True)
class BolusTiming:
    """Frames of one exam.

    Attributes:
      non_steady_frames: number of frames at the start that are not in steady state.
      baseline_begin, baseline_end: half-open range of steady frames before the bolus.
      peak_frame: frame of the lowest mean signal.
    """

    non_steady_frames: int
    baseline_begin: int
    baseline_end: int
    peak_frame: int

    def arrival_seconds(self, frame_seconds: float) -> float:
        """Time of the first frame after the baseline, s: no tissue fills before it."""
        return self.baseline_end * frame_seconds


def find_bolus(mean_curve: np.ndarray) -> BolusTiming:
    """Finds baseline and first pass in the mean signal of a brain.

    Args:
      mean_curve: (time,), scanner units, finite.

    Raises:
      NoBolusError: fewer than 10 frames, or no fall and recovery that stands out from the noise.
    """
    curve = np.asarray(mean_curve, dtype=np.float64)
    n_frames = curve.shape[0]
    if n_frames < MIN_FRAMES:
        raise NoBolusError(f"expected at least {MIN_FRAMES} frames, the series has {n_frames}; give the whole series.")
    if not np.isfinite(curve).all() or curve.max() <= 0:
        raise NoBolusError("the mean signal is zero or not finite; check the file.")

    calm = median_of_three(curve)
    first = _leading(calm < 0.5 * np.median(calm), MAX_NON_STEADY_FRAMES)  # empty dummy frames are no bolus
    first = max(first, MIN_BASELINE_FRAMES)
    reason, last = None, n_frames
    while last >= MIN_FRAMES:
        peak, arrival, noise, no_bolus = _first_pass(curve[:last], calm[:last], first)
        if no_bolus is None:
            break
        # The head may have moved for good after the first pass: look again before the fall that never comes back.
        reason, last = reason or no_bolus, min(arrival, last - 1)
    else:
        raise NoBolusError(reason)

    level = float(np.median(curve[arrival // 2 : arrival]))
    tolerance = max(STEADY * level, 4 * noise)
    most = min(MAX_NON_STEADY_FRAMES, arrival - MIN_BASELINE_FRAMES)
    non_steady = _leading(np.abs(curve[:arrival] - level) > tolerance, max(most, 0))
    if arrival - non_steady < MIN_BASELINE_FRAMES:
        raise NoBolusError(
            f"the bolus arrives in frame {arrival}: expected at least {MIN_BASELINE_FRAMES} steady frames "
            "before it; give the series from its first frame."
        )
    # Arteries fill before the mean shows it: the last frame before arrival is left out where there are enough.
    end = arrival - 1 if arrival - non_steady > 4 else arrival
    return BolusTiming(non_steady, non_steady, end, peak)


def _first_pass(curve: np.ndarray, calm: np.ndarray, first: int) -> tuple[int, int, float, str | None]:
    """Frame of the lowest signal, arrival, noise, and why this is no bolus (None if it is one)."""
    peak = first + int(np.argmin(calm[first:]))
    near = slice(max(peak - 1, first), peak + 2)
    peak = near.start + int(np.argmin(curve[near]))
    level, arrival = _level_and_arrival(curve, peak)
    noise = min(_noise(curve[1:arrival]), _noise(curve)) if arrival > 4 else _noise(curve)
    drop = level - calm[peak]
    recovery = calm[peak:].max() - calm[peak]
    if drop >= max(MIN_DROP * level, MIN_DROP_OVER_NOISE * noise) and recovery >= max(MIN_RECOVERY * drop, 4 * noise):
        return peak, arrival, noise, None
    return peak, arrival, noise, _why_no_bolus(curve, level, drop, recovery, noise)


def _why_no_bolus(curve: np.ndarray, level: float, drop: float, recovery: float, noise: float) -> str:
    """A sentence about the mean signal (time,): level before the peak, fall, recovery and noise, scanner units."""
    if np.quantile(curve, 0.95) - level > 2 * max(drop, MIN_DROP * level):
        if curve.shape[0] < FEW_FRAMES:
            return (
                f"no bolus in {curve.shape[0]} frames: the mean signal rises instead of falling; give the whole series."
            )
        return "no bolus: the mean signal rises instead of falling (CT or DCE?); give a DSC-MRI series."
    return (
        f"no bolus: the mean signal falls by {100 * max(drop, 0) / level:.1f} % and comes back by "
        f"{100 * max(recovery, 0) / level:.1f} %, with noise of {100 * noise / level:.1f} %; check that this is the "
        "perfusion series and not cut short."
    )


def _leading(condition: np.ndarray, most: int) -> int:
    """How many of the first `most` frames fulfil the condition without interruption."""
    count = 0
    while count < min(most, condition.shape[0]) and condition[count]:
        count += 1
    return count


def robust_sd(values: np.ndarray, centre: float | None = None) -> float:
    """Standard deviation of normal noise, from the median distance to `centre` (None: the median).

    Outliers hardly count.
    """
    centre = np.median(values) if centre is None else centre
    return float(SD_OVER_MEDIAN * np.median(np.abs(values - centre)))


def _noise(curve: np.ndarray) -> float:
    """Standard deviation of the noise from differences of neighbours, which drift does not touch."""
    return float(robust_sd(np.diff(curve)) / np.sqrt(2))


def _level_and_arrival(curve: np.ndarray, peak: int) -> tuple[float, int]:
    """Baseline signal and the frame in which the bolus arrives, each from the other until they agree."""
    arrival, noise = peak, _noise(curve)
    for _ in range(10):
        level = float(np.median(curve[:arrival]))
        drop = level - curve[peak]
        below = curve[:peak] < level - min(max(ARRIVAL * drop, 2 * noise), 0.25 * drop)
        steps_back = _leading(below[::-1], peak)
        found = max(peak - steps_back, 1)
        if found == arrival:
            break
        arrival = found
    return level, arrival


def curves_in(series: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`series[inside]`, (voxel, time), in a quarter of the time where the series lies frame by frame in memory.

    Args:
      series: (x, y, z, time).
      inside: (x, y, z) bool.
    """
    if not series.flags.f_contiguous:
        return series[inside]
    frames, where = _frames_and_places(series, inside)
    curves = np.empty((len(frames), len(where)), series.dtype)
    for frame, chosen in zip(frames, curves, strict=True):
        np.take(frame, where, out=chosen, mode="clip")  # any mode but "raise" writes where it is told to at once
    return np.ascontiguousarray(curves.T)


def mean_curve(series: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(time,) float64, the mean of `curves_in`, of which it makes none where the series lies frame by frame in memory.

    Args:
      series: (x, y, z, time).
      inside: (x, y, z) bool.
    """
    if not series.flags.f_contiguous:
        return series[inside].mean(axis=0, dtype=np.float64)
    frames, where = _frames_and_places(series, inside)
    return np.array([frame.take(where, mode="clip").mean(dtype=np.float64) for frame in frames])


def some_of(inside: np.ndarray, most: int) -> np.ndarray:
    """Part of a mask (x, y, z), bool: every n-th of its voxels, so that about `most` are left of many."""
    voxels = np.flatnonzero(inside)
    chosen = np.zeros(inside.size, bool)
    chosen[voxels[:: max(1, len(voxels) // most)]] = True
    return chosen.reshape(inside.shape)


def _frames_and_places(series: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A series in Fortran's order as (time, x * y * z), and where in it the voxels are, in C's order."""
    where = np.ravel_multi_index(np.nonzero(inside), inside.shape, order="F")
    return series.reshape(-1, series.shape[-1], order="F").T, where


def baseline_signal(series: np.ndarray, timing: BolusTiming) -> np.ndarray:
    """S0: mean of the baseline frames of (..., time), scanner units."""
    return series[..., timing.baseline_begin : timing.baseline_end].mean(axis=-1)


def delta_r2star(series: np.ndarray, baseline: np.ndarray, echo_seconds: float) -> np.ndarray:
    """ΔR2* = -ln(S/S0)/TE in 1/s; 0 where there is no baseline signal.

    S/S0 is kept within 0.001 and 1000, so that a frame without signal stays finite.

    Args:
      series: (..., time) S, scanner units, of a floating type, which the result keeps.
      baseline: (...) S0, scanner units.
      echo_seconds: TE.
    """
    in_tissue = baseline > 0
    changes = np.asarray(series / np.where(in_tissue, baseline, 1.0)[..., None])
    np.clip(changes, *RATIO_LIMITS, out=changes)
    np.log(changes, out=changes)
    changes /= -echo_seconds
    if not in_tissue.all():
        changes[~in_tissue] = 0.0
    return changes.astype(series.dtype, copy=False)


def signal_after(baseline: np.ndarray | float, delta_r2star: np.ndarray, echo_seconds: float) -> np.ndarray:
    """S = S0 exp(-TE ΔR2*), in the unit of `baseline`: the inverse of `delta_r2star`; the two shapes broadcast."""
    return baseline * np.exp(-echo_seconds * delta_r2star)


# ----------------------------------------------------------------------------------------------------- peaks


def parabola_top(left: Any, centre: Any, right: Any, xp: ModuleType = np) -> tuple[Any, Any]:
    """Top of the parabola through a highest value and its two neighbours.

    Args:
      left: (curve,) values before the highest ones, NumPy or JAX.
      centre: (curve,) the highest values.
      right: (curve,) values after them, as far away as those before.
      xp: the array module, `jax.numpy` for JAX arrays.

    Returns:
      (curve,) place of the top in steps from the middle, at most half a step and 0 where there is no top; and its
      height.
    """
    bend = left - 2.0 * centre + right
    shift = 0.5 * (left - right) / xp.where(bend < 0, bend, 1.0)
    shift = xp.where(bend < 0, xp.clip(shift, -0.5, 0.5), 0.0)
    return shift, centre - 0.25 * (left - right) * shift


def peak_frames(curves: np.ndarray) -> np.ndarray:
    """(curve,) float64, place of the highest value of (curve, time), finer than a frame; a peak at either end stays."""
    index = curves.argmax(axis=1)
    middle = np.clip(index, 1, curves.shape[1] - 2)
    rows = np.arange(len(curves))
    left, centre, right = (curves[rows, middle + step] for step in (-1, 0, 1))
    shift, _ = parabola_top(left, centre, right)
    return np.where(index == middle, middle + shift, index)


def peak_seconds(curves: np.ndarray, frame_seconds: float) -> np.ndarray:
    """TTP: time of the highest value of (voxel, time), s from the first frame, (voxel,) float32, finer than a frame.

    Curves are smoothed over three frames (1/4, 1/2, 1/4); the parabola through the highest frame and its neighbours has
    its top at the peak.
    """
    smooth = curves.astype(np.float32)
    smooth[:, 1:-1] = 0.5 * curves[:, 1:-1] + 0.25 * (curves[:, :-2] + curves[:, 2:])
    return (peak_frames(smooth) * frame_seconds).astype(np.float32)
