"""What an exam is worth, in numbers: whatever doubts are judged by, the same for every method."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.features import ExamFeatures, features_of
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.evaluation.consistency import Consistency
from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion.checks.first_pass import first_pass

MOST_VOXELS = 5_000  # of the brain: a share is known to a hundredth, a mean curve better
MOTION = ("motion", "motion_corrected")  # findings whose value is the largest shift, mm

# How pages name them: words and unit.
WORDS = {
    "bolus_seconds": ("arrival of the bolus", "s"),
    "baseline_frames": ("steady frames before it", ""),
    "signal_to_noise": ("signal over noise", ""),
    "fall": ("fall of the brain's signal", "of the baseline"),
    "first_pass_seconds": ("width of the first pass", "s"),
    "frames_in_first_pass": ("frames in the first pass", ""),
    "seconds_after_peak": ("from the lowest signal to the last frame", "s"),
    "unfinished": ("part of the brain not seen to its end", "share"),
    "saturated": ("part of the brain at the highest value of the series", "share"),
    "motion_mm": ("largest shift of the head", "mm"),
    "aif_quality": ("quality of the AIF, 0 to 1", ""),
    "training_distance": ("distance from the training exams, 1 at the limit", ""),
    **{f"{name}_at_range_ends": (f"{spec.title} at the ends of its range", "share") for name, spec in MAPS.items()},
    "central_volume": ("MTT against CBV over CBF, median |ln of their ratio|", ""),
    "ttp_offset_seconds": ("TTP against the time of the lowest signal, median", "s"),
    "ttp_spread_seconds": ("TTP against the time of the lowest signal, median deviation", "s"),
    "cbv_disorder": ("CBV against the area of the first pass, 1 - rank correlation", ""),
    "tmax_disorder": ("Tmax against the time of the lowest signal, 1 - rank correlation", ""),
}


@dataclasses.dataclass(frozen=True)
class Quality:
    """How good an exam is, and how its maps fit it; None: not known.

    Attributes:
      bolus_seconds: from the first frame to the arrival of the bolus.
      baseline_frames: steady frames before it.
      signal_to_noise: baseline signal of a voxel over its noise.
      fall: largest fall of the brain's mean signal, share of its baseline.
      first_pass_seconds: full width at half maximum of the brain's mean ΔR2*.
      frames_in_first_pass: that width in frames.
      seconds_after_peak: from the brain's lowest signal to the last frame.
      unfinished: share of the brain that is above half of its own peak at the end.
      saturated: share of the brain's voxels that reach the highest value of the series.
      motion_mm: largest shift of the head that was found; 0: it lay still; None where too little is bright to see it.
      aif_quality: 0 to 1 (`arterial.ArterialInput`), where there is an AIF.
      training_distance: how far the exam is outside what the network learned from, 1 at the limit of a warning.
      at_range_ends: {map: share of the network's values at the ends of the map's range}.
      consistency: how far the maps are from agreeing with each other and with the series.
    """

    bolus_seconds: float
    baseline_frames: int
    signal_to_noise: float
    fall: float
    first_pass_seconds: float | None
    frames_in_first_pass: float | None
    seconds_after_peak: float
    unfinished: float
    saturated: float
    motion_mm: float | None = None
    aif_quality: float | None = None
    training_distance: float | None = None
    at_range_ends: Mapping[str, float] = dataclasses.field(default_factory=dict)
    consistency: Consistency = dataclasses.field(default_factory=Consistency)

    def to_json(self) -> dict[str, Any]:
        """What the sidecar of each map holds: three digits, four behind the point, without what is not known."""
        values = {**dataclasses.asdict(self), **self.consistency.known()}
        values |= {f"{name}_at_range_ends": share for name, share in self.at_range_ends.items()}
        return {
            name: round(float(f"{value:.3g}"), 4) if isinstance(value, float) else value
            for name, value in values.items()
            if isinstance(value, int | float)
        }


def quality_of(exam: Exam, maps: ExamMaps, features: ExamFeatures | None = None, **known: Any) -> Quality:
    """The record of one exam.

    Args:
      exam: as it was read.
      maps: of it, with all findings.
      features: of the exam, where they are at hand.
      known: fields that the method knows: `aif_quality`, `training_distance`, `at_range_ends`, `consistency`.
    """
    features = features or features_of(exam)
    voxels = np.flatnonzero(exam.mask)
    voxels = voxels[:: max(1, len(voxels) // MOST_VOXELS)]
    curves = exam.series[np.unravel_index(voxels, exam.mask.shape)]
    passed = first_pass(curves, exam.timing, exam.frame_seconds)
    width = passed.width_seconds if math.isfinite(passed.width_seconds) else None
    return Quality(
        bolus_seconds=exam.timing.arrival_seconds(exam.frame_seconds),
        baseline_frames=exam.timing.baseline_end - exam.timing.baseline_begin,
        signal_to_noise=features.signal_to_noise,
        fall=features.fall,
        first_pass_seconds=width,
        frames_in_first_pass=width and width / exam.frame_seconds,
        seconds_after_peak=passed.seconds_after_peak,
        unfinished=passed.unfinished,
        saturated=float((curves.max(axis=1) >= exam.series.max()).mean()),
        motion_mm=_motion_mm(maps),
        **known,
    )


def at_range_ends(maps: ExamMaps, scaling: Scaling) -> dict[str, float]:
    """{map: share of the brain whose value is at an end of what the network can give}; TTP counts from another frame.

    Args:
      maps: of a network, with the mask of the brain.
      scaling: of the network.
    """
    inside = maps.mask
    if inside is None or not inside.any():
        return {}
    names = [name for name in scaling.targets if name != "ttp"]
    return {name: float(scaling.at_ends(name, maps[name][inside]).mean()) for name in names}


def _motion_mm(maps: ExamMaps) -> float | None:
    """The largest shift that a finding tells; None where one says that nobody could look."""
    told = [one.value for one in maps.findings if one.name in MOTION]
    known = [float(value) for value in told if isinstance(value, int | float)]
    return None if len(known) < len(told) else max(known, default=0.0)
