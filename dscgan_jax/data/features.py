"""A few numbers for how an exam was acquired, and whether a network was trained on exams like it.

They are gathered over the training exams, kept with the data set and in the checkpoint, and compared when the network
is given another exam: far outside what it learned from, a network gives a plausible map and says nothing.

Words: the *likeness* of a feature is the range of the training exams, widened by a factor: all features are positive
and compared as ratios.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dscgan_jax.data.exams import Exam
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion import brain, morphology, signal

MAX_VOXELS = 2000  # of the brain: the mean of 2000 voxels of noise 1/30 is known to 0.1 %
MAX_SLICES = 5  # in which the surroundings are looked at
SHELL_MM = (4.0, 15.0)  # around the brain: skull, scalp and air; nearer lies CSF of which the mask may hold some
QUANTILES = (0.01, 0.99)  # of the training exams: of a hundred, one with a wrong header must not widen the range
# A value this factor beyond the range is still alike; a wide range is widened by half its own width instead. A demo
# network that knew frames of 2.2 s and signal over noise of 34-73 alone erred by 0.37 s in Tmax, by 0.41 s with frames
# of 1.1-2.8 s and by 0.43 s with signal over noise of 20: a factor of 2 in these two does little harm.
FACTOR = 1.5
FACTORS = {"frame_seconds": 2.0, "signal_to_noise": 2.0}
# Of the peak, at which the first pass is measured: recirculation and leakage can hold a brain's mean at half.
PASS_HEIGHT = 0.7
LEAST = 1e-3  # smaller values count as this, so that ratios exist

NAMES = {
    "frame_seconds": "frame length in s",
    "duration_seconds": "duration in s",
    "before_bolus_seconds": "time before the bolus in s",
    "fall": "fall of the brain's signal",
    "pass_seconds": "width of the first pass in s",
    "signal_to_noise": "signal over noise",
    "voxel_mm": "voxel size in the slice in mm",
    "brain_cm2": "area of brain in a slice in cm²",
    "surroundings": "signal around the brain over the brain's (near 0: the skull was stripped)",
}


@dataclasses.dataclass(frozen=True)
class ExamFeatures:
    """How one exam was taken; plain numbers above zero.

    Attributes:
      frame_seconds: frame length.
      duration_seconds: of the series.
      before_bolus_seconds: frames before the bolus, non-steady-state ones included.
      fall: largest fall of the brain's mean signal, share of its baseline.
      pass_seconds: width of the mean ΔR2* at 0.7 of its peak; to the end of the series where that comes first.
      signal_to_noise: baseline signal of a voxel over the standard deviation of its noise.
      voxel_mm: edge of a voxel in the slice.
      brain_cm2: area of the brain in the slices that hold some.
      surroundings: mean baseline signal 4-15 mm outside the brain over that of the brain.
    """

    frame_seconds: float
    duration_seconds: float
    before_bolus_seconds: float
    fall: float
    pass_seconds: float
    signal_to_noise: float
    voxel_mm: float
    brain_cm2: float
    surroundings: float


def features_of(exam: Exam) -> ExamFeatures:
    """The features of an exam, from some voxels and slices of it."""
    curves = _curves(exam)  # (voxel, time)
    timing, mean = exam.timing, curves.mean(axis=0)
    steady = slice(timing.baseline_begin, timing.baseline_end)
    level = max(float(mean[steady].mean()), 1e-6)
    voxel_mm = exam.voxel_mm
    in_slice_mm2 = float(voxel_mm[0] * voxel_mm[1])
    areas = exam.mask.sum(axis=(0, 1))
    return ExamFeatures(
        frame_seconds=float(exam.frame_seconds),
        duration_seconds=float(exam.frame_seconds * curves.shape[1]),
        before_bolus_seconds=float(exam.frame_seconds * timing.baseline_end),
        fall=float(1 - mean[steady.start :].min() / level),
        pass_seconds=float(
            exam.frame_seconds
            * _width_frames(-np.log(np.clip(mean / level, *signal.RATIO_LIMITS)), steady.stop, timing.peak_frame)
        ),
        signal_to_noise=_signal_to_noise(curves[:, steady]),
        voxel_mm=math.sqrt(in_slice_mm2),
        brain_cm2=float(areas[areas > 0].mean() * in_slice_mm2 / 100),
        surroundings=_surroundings(exam),
    )


def likeness(features: Sequence[ExamFeatures]) -> dict[str, list[float]]:
    """The range of each feature over the training exams, {name: [low, high]}; empty without exams."""
    if not features:
        return {}
    return {
        name: [float(value) for value in np.quantile([getattr(one, name) for one in features], QUANTILES)]
        for name in NAMES
    }


def unlike(
    features: ExamFeatures, known: Mapping[str, Sequence[float]], unseen: Collection[str] = ()
) -> tuple[Finding, ...]:
    """A warning that names the features in which an exam is unlike the training exams; nothing if it is like them.

    Args:
      features: of the exam.
      known: from `likeness`; features that it lacks are not compared.
      unseen: features that do not reach the network.
    """
    far = [
        f"{NAMES[name]} {getattr(features, name):.3g} (training {known[name][0]:.3g} to {known[name][1]:.3g})"
        for name, distance in distances(features, known, unseen).items()
        if distance > 1
    ]
    if not far:
        return ()
    return (
        Finding(
            "unlike_training",
            "warning",
            f"the network was trained on exams unlike this one: {', '.join(far)}; its maps may be wrong",
            len(far),
        ),
    )


def distances(
    features: ExamFeatures, known: Mapping[str, Sequence[float]], unseen: Collection[str] = ()
) -> dict[str, float]:
    """{feature: how far it is outside the training exams' range}: 0 in it, above 1 unlike them; arguments as `unlike`.

    Of each feature alone; features that depend on each other are not taken together.
    """
    return {
        name: _distance(getattr(features, name), low, high, FACTORS.get(name, FACTOR))
        for name, (low, high) in known.items()
        if name not in unseen
    }


def _distance(value: float, low: float, high: float, factor: float) -> float:
    """Of a value to a range, over the margin within which it is still alike."""
    value, low, high = (math.log(max(number, LEAST)) for number in (value, low, high))
    margin = max(math.log(factor), 0.5 * (high - low))
    return max(low - value, value - high, 0.0) / margin


def _curves(exam: Exam) -> np.ndarray:
    """(voxel, time) float64 of some voxels of the brain."""
    return signal.curves_in(exam.series, signal.some_of(exam.mask, MAX_VOXELS)).astype(np.float64)


def _width_frames(curve: np.ndarray, first: int, peak: int) -> float:
    """Width of a curve (time,) at 0.7 of its height at `peak`, in frames, read between them."""
    height = PASS_HEIGHT * curve[peak]
    before = next((frame for frame in range(peak, first - 1, -1) if curve[frame] < height), None)
    after = next((frame for frame in range(peak, len(curve)) if curve[frame] < height), None)
    left = first if before is None else before + (height - curve[before]) / (curve[before + 1] - curve[before])
    right = len(curve) - 1 if after is None else after - (height - curve[after]) / (curve[after - 1] - curve[after])
    return max(float(right - left), 0.0)


def _signal_to_noise(baseline: np.ndarray) -> float:
    """From the differences of neighbouring frames of the baseline (voxel, time); without noise it counts as 1000."""
    level = np.maximum(baseline.mean(axis=1, keepdims=True), 1e-6)
    noise = signal.robust_sd(np.diff(baseline, axis=1) / level, centre=0.0) / math.sqrt(2)
    return 1 / max(noise, 1e-3)


def _surroundings(exam: Exam) -> float:
    """Mean baseline signal around the brain over the brain's, in some slices that hold brain.

    0 where there is no room.
    """
    mask, voxel_mm = exam.mask, exam.voxel_mm
    with_brain = np.flatnonzero(mask.any(axis=(0, 1)))
    chosen = with_brain[np.unique(np.linspace(0, len(with_brain) - 1, MAX_SLICES).round().astype(int))]
    steady = slice(exam.timing.baseline_begin, min(exam.timing.baseline_end, exam.timing.baseline_begin + 4))
    baseline_signal = exam.series[:, :, chosen, steady].mean(axis=-1, dtype=np.float32)
    inside = brain.with_fluid_spaces(mask[:, :, chosen], voxel_mm)
    away = morphology.depth_mm(~inside, voxel_mm)
    shell = (away > SHELL_MM[0]) & (away <= SHELL_MM[1])
    level = float(baseline_signal[mask[:, :, chosen]].mean())
    return float(baseline_signal[shell].mean()) / level if shell.any() and level > 0 else 0.0
