"""Which voxels look arterial: the shape of a curve, and the choice of voxels by it.

Words as in `perfusion.arterial`. Nothing here is random.
"""

import dataclasses

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import signal
from dscgan_jax.perfusion.signal import BolusTiming

# What an artery's curve must be.
MIN_PEAK_OVER_NOISE = 8.0  # peak over the fluctuation before the bolus, of noise and pulsation
MIN_PEAK_OVER_BRAIN = 1.5  # peak over the mean curve's: an artery holds many times the blood of tissue
MAX_DETOUR = 0.2  # of the peak: how far a curve goes back on its way up and down
# Of the peak, level after the first pass: up to 0.42 in 77 patients (CT, linear), more where the peak is flattened; a
# step by motion is higher.
MAX_REMAINDER = 0.6

# Which of them are taken. No criterion is a share or a rank among the candidates, which depend on how many slices there
# are and what they hold: the same slice alone and in a stack gives the same voxels unless the stack holds better ones.
BEST_VOXELS = 5  # by score, set the standard for the others
MIN_SCORE_SHARE = 0.7  # of their mean score: a curve that is lower, later or wider by more holds less blood
FEW_VOXELS = 5  # their mean agrees with them in proportion
MAX_VOXELS = 20  # more would hardly lower the noise, but hold less blood each
MAX_DEVIATIONS = 3.0  # robust standard deviations: a curve further from the median of the chosen ones is an outlier

RETURNED = 0.3  # of the peak: a curve that falls so low has shown its first pass
ARRIVAL = 0.1  # of the peak, on the rising flank: where the bolus counts as arrived

# Of the width: standard deviation of the weights that smooth the averaged curve. Arteries pulsate together, so that
# their mean does too, and the wider the bolus, the more of that a deconvolution takes for blood. A cubic keeps the
# bolus within 3 % of its peak; with 0.2 the onset of a bolus of 20 s is rounded so far that Tmax grows.
SMOOTHING = 0.15

GIVE_CURVE = "give the AIF with --aif=FILE"


class NoArterialInputError(InputError):
    """No usable AIF. The caller adds subject and file."""


# ---------------------------------------------------------------------------------------------- shape of a curve


@dataclasses.dataclass(frozen=True)
class CurveShape:
    """Measures of each curve, (curve,) each. Times in frames; NaN where a flank is not seen.

    Attributes:
      peak: height.
      peak_frame, half_rise, half_fall, arrival: finer than a frame.
      noise: standard deviation before the bolus.
      detour: sum of the steps down before the peak and up before the last frame above half of it, of the peak.
      remainder: median level behind the first pass, of the peak; that of the last frame where the exam ends before.
      lowest_after: lowest level behind the peak, of the peak.
      falls_shown: time from the peak to the end of the exam over that from the peak to the half-fall; 0 where the exam
        does not show the half-fall.
    """

    peak: np.ndarray
    peak_frame: np.ndarray
    half_rise: np.ndarray
    half_fall: np.ndarray
    arrival: np.ndarray
    noise: np.ndarray
    detour: np.ndarray
    remainder: np.ndarray
    lowest_after: np.ndarray
    falls_shown: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "CurveShape":
        return CurveShape(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    @property
    def width(self) -> np.ndarray:
        """FWHM, frames."""
        return self.half_fall - self.half_rise

    def stands_out(self) -> np.ndarray:
        """Whether a curve rises above the fluctuation before it and comes back."""
        return (self.peak > MIN_PEAK_OVER_NOISE * self.noise) & (np.abs(self.remainder) < MAX_REMAINDER)

    def smoothness(self) -> float:
        """Of the first curve, 0..1."""
        return float(np.clip(1.0 - self.detour[0], 0.0, 1.0))

    def returned(self) -> float:
        """How much of the first curve's fall the exam shows, 0..1."""
        if self.falls_shown[0] >= 2.0:  # what is left then is no first pass, however high it is
            return 1.0
        return float(np.clip((1.0 - self.lowest_after[0]) / (1.0 - RETURNED), 0.0, 1.0))


def describe(curves: np.ndarray, timing: BolusTiming) -> CurveShape:
    """Shapes of (curve, time) whose peak lies between the end of the baseline and the frame after the mean's peak."""
    n_curves, n_frames = curves.shape
    rows, frames = np.arange(n_curves), np.arange(n_frames)
    last = min(timing.peak_frame + 1, n_frames - 1)
    top = timing.baseline_end + curves[:, timing.baseline_end : last + 1].argmax(axis=1)
    middle = np.clip(top, 1, n_frames - 2)
    left, centre, right = (curves[rows, middle + step] for step in (-1, 0, 1))
    shift, height = signal.parabola_top(left, centre, right)
    inside = middle == top
    shift, peak = np.where(inside, shift, 0.0), np.where(inside, height, curves[rows, top])
    half_rise = _crossing(curves, top, 0.5 * peak, -1)
    half_fall = _crossing(curves, top, 0.5 * peak, +1)

    step, scale = np.diff(curves, axis=1), np.where(peak > 0, peak, np.inf)
    up = (frames[:-1] >= timing.baseline_end) & (frames[:-1] < top[:, None])
    last_high = n_frames - 1 - (curves >= 0.5 * peak[:, None])[:, ::-1].argmax(axis=1)
    down = (frames[:-1] >= top[:, None]) & (frames[:-1] < last_high[:, None])
    detour = (np.where(up, np.maximum(-step, 0), 0) + np.where(down, np.maximum(step, 0), 0)).sum(axis=1) / scale
    fallen = np.where(np.isfinite(half_fall), half_fall, n_frames)
    behind = frames >= (2 * fallen - top)[:, None]  # as long again as it took to fall by half
    behind |= frames == n_frames - 1
    remainder = np.nanmedian(np.where(behind, curves, np.nan), axis=1) / scale
    lowest = np.where(frames > top[:, None], curves, np.inf).min(axis=1) / scale
    begin, end = timing.baseline_begin, timing.baseline_end
    calm = curves[:, begin : max(end - (end - begin) // 4, begin + 2)]  # arteries fill before the mean curve shows it
    return CurveShape(
        peak=peak,
        peak_frame=top + shift,
        half_rise=half_rise,
        half_fall=half_fall,
        arrival=_crossing(curves, top, ARRIVAL * peak, -1),
        noise=calm.std(axis=1) if end > begin else np.zeros(n_curves),
        detour=detour,
        remainder=remainder,
        lowest_after=np.minimum(lowest, 1.0),
        falls_shown=np.where(half_fall > top, (n_frames - 1 - top) / np.maximum(half_fall - top, 1e-9), 0.0),
    )


def _crossing(curves: np.ndarray, top: np.ndarray, level: np.ndarray, direction: int) -> np.ndarray:
    """(curve,) frame where each curve, followed from its peak back (-1) or on (+1), falls below the level, or NaN."""
    n_frames = curves.shape[1]
    frames = np.arange(n_frames)
    below = (curves < level[:, None]) & (direction * (frames - top[:, None]) > 0)
    found = below.any(axis=1)
    first = below.argmax(axis=1) if direction > 0 else n_frames - 1 - below[:, ::-1].argmax(axis=1)
    first = np.where(found, first, top)
    rows, inner = np.arange(len(curves)), np.where(found, first - direction, top)
    low, high = curves[rows, first], curves[rows, inner]
    share = np.where(found, (high - level) / np.where(found, high - low, 1.0), np.nan)
    return inner + direction * share


def signal_noise(curves: np.ndarray, baseline: np.ndarray, timing: BolusTiming, echo_seconds: float) -> float:
    """Standard deviation of the noise, scanner units, from neighbouring baseline frames of all voxels.

    Args:
      curves: (voxel, time) ΔR2*.
      baseline: (voxel,) S0, scanner units.
      timing: baseline and bolus.
      echo_seconds: TE.
    """
    calm = signal.signal_after(baseline[:, None], curves[:, timing.baseline_begin : timing.baseline_end], echo_seconds)
    return float(signal.robust_sd(np.diff(calm, axis=1), 0.0) / np.sqrt(2))


# ------------------------------------------------------------------------------------------------ choice of voxels


def check_brain(brain: CurveShape, n_frames: int) -> None:
    """Refuses an exam whose mean curve shows no first pass."""
    if not brain.peak[0] > MIN_PEAK_OVER_NOISE * brain.noise[0]:
        raise NoArterialInputError(f"no AIF: the brain's mean curve shows no bolus; {GIVE_CURVE}.")
    if not np.isfinite(brain.width[0]):
        raise NoArterialInputError(
            f"no AIF: the brain's mean curve does not rise and fall to half of its peak within the {n_frames} frames; "
            f"give the whole series, or {GIVE_CURVE}."
        )


def high_of(
    curves: np.ndarray, bright: np.ndarray, brain: CurveShape, timing: BolusTiming, first_pass: slice
) -> np.ndarray:
    """Rows of the curves (voxel, time) that are high, of voxels that are bright and whose curve returns."""
    height = curves[:, timing.baseline_end : timing.peak_frame + 2].max(axis=1)
    behind = curves[:, min(first_pass.stop, curves.shape[1] - 1) :].mean(axis=1)
    high = height > MIN_PEAK_OVER_BRAIN * brain.peak
    return np.flatnonzero(bright & high & (np.abs(behind) < MAX_REMAINDER * height))  # not where a border has moved


def is_early(shape: CurveShape, brain: CurveShape) -> np.ndarray:
    """(curve,) bool, whether a curve comes before the brain's mean curve."""
    return (shape.half_rise <= brain.half_rise) & (shape.peak_frame <= brain.peak_frame)


def usable_of(shape: CurveShape, brain: CurveShape, saturated: np.ndarray) -> np.ndarray:
    """Rows of the curves that are like an artery's and stay above the noise floor.

    Args:
      shape: of the curves.
      brain: of the brain's mean curve.
      saturated: (curve,) whether the signal falls to the noise floor.

    Raises:
      NoArterialInputError: there is none.
    """
    early = is_early(shape, brain)
    narrow = early & (shape.width < brain.width)
    clean = narrow & shape.stands_out() & (shape.detour < MAX_DETOUR) & (shape.peak > MIN_PEAK_OVER_BRAIN * brain.peak)
    if not clean.any():
        raise NoArterialInputError(
            f"no AIF: of the {len(early)} highest curves (at least {MIN_PEAK_OVER_BRAIN:g} times the brain's mean) "
            f"{early.sum()} come before that mean, {narrow.sum()} of these are narrower, and none of these is smooth "
            f"and returns; {GIVE_CURVE}."
        )
    usable = np.flatnonzero(clean & ~saturated)
    if not len(usable):
        raise NoArterialInputError(
            f"no AIF: in all {clean.sum()} voxels with an arterial curve the signal falls to the noise floor; "
            f"{GIVE_CURVE}."
        )
    return usable


def choose(
    curves: np.ndarray, shape: CurveShape, brain: CurveShape, timing: BolusTiming, first_pass: slice
) -> np.ndarray:
    """Rows of the curves to average: those whose score comes near the best ones', without outliers.

    The lead over the brain's mean curve counts twice: a curve of a distal artery is as high and narrow as that of a
    proximal one, but later, and lateness of the AIF is missing in every Tmax.
    """
    lead = brain.half_rise - shape.half_rise
    within = curves[:, first_pass].sum(axis=1) / np.abs(curves[:, timing.baseline_end :]).sum(axis=1)
    score = shape.peak * lead**2 / shape.width * within
    rows = np.argsort(-score, kind="stable")
    rows = rows[score[rows] >= MIN_SCORE_SHARE * score[rows[:BEST_VOXELS]].mean()][:MAX_VOXELS]
    return np.sort(rows[_agreeing(curves[rows, timing.baseline_begin :] / shape.peak[rows, None])])


def _agreeing(unit: np.ndarray) -> np.ndarray:
    """(curve,) bool: curves of height 1 that are no further from their median than noise makes the others."""
    distance = np.sqrt(((unit - np.median(unit, axis=0)) ** 2).mean(axis=1))
    return distance <= np.median(distance) + MAX_DEVIATIONS * signal.robust_sd(distance)


def agreement(curves: np.ndarray, mean: np.ndarray, begin: int) -> float:
    """0..1: 1 - median over the curves of the area between each and the mean, both with area 1 from `begin` on."""
    unit = curves[:, begin:] / np.maximum(
        np.abs(curves[:, begin:]).sum(axis=1, keepdims=True), np.finfo(np.float32).tiny
    )
    between = np.abs(unit - mean[begin:] / np.abs(mean[begin:]).sum()).sum(axis=1)
    return float(np.clip(1.0 - np.median(between), 0.0, 1.0)) * min(len(curves) / FEW_VOXELS, 1.0)


def smoothed(curve: np.ndarray, width: float, begin: int) -> np.ndarray:
    """Local cubic regression (Cleveland 1979, J Am Stat Assoc 74:829) with Gaussian weights `SMOOTHING` widths wide.

    Where few frames show the bolus, this is the curve itself.

    Args:
      curve: (time,) of an artery.
      width: FWHM, frames; NaN where it is not known: the curve stays.
      begin: first frame in the steady state; the frames before stay.

    Returns:
      (time,), the smoothed curve.
    """
    if not np.isfinite(width):
        return curve
    frames, result = np.arange(begin, len(curve)), np.array(curve, np.float64)
    for frame in frames:
        apart = (frames - frame) / (SMOOTHING * width)
        weights = np.exp(-0.25 * np.minimum(apart**2, 80.0))  # square roots; the least keeps the cubic defined
        terms = weights[:, None] * np.vander(apart, 4, increasing=True)
        result[frame] = np.linalg.lstsq(terms, weights * curve[begin:], rcond=None)[0][0]
    return result
