"""The quality record of an exam (`data.quality`): whatever doubts are judged by, the same for every method."""

import math
from typing import Any

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.features import ExamFeatures
from dscgan_jax.data.quality import Quality
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.perfusion import signal
from dscgan_jax.perfusion.checks.first_pass import first_pass

MOST_VOXELS = 5_000  # of the brain: a share is known to a hundredth, a mean curve better
MOTION = ("motion", "motion_corrected")  # findings whose value is the largest shift, mm


def quality_of(exam: Exam, maps: ExamMaps, features: ExamFeatures, **known: Any) -> Quality:
    """The record of one exam.

    Args:
      exam: as it was read.
      maps: of it, with all findings.
      features: of the exam.
      known: fields that the method knows: `aif_quality`, `training_distance`, `at_range_ends`, `consistency`.
    """
    curves = signal.curves_in(exam.series, signal.some_of(exam.mask, MOST_VOXELS))
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
