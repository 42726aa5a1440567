"""The exam's AIF and its brain's mean curve, shown to a network in the corners of each slice.

Most slices hold no large artery, and a network that sees one slice cannot know when the bolus came into the brain: its
Tmax is then off by one offset for the whole slice. The corners of the network grid never hold brain; what lies there is
the same in every slice of an exam, and mirrored it is still itself.
"""

import dataclasses

import numpy as np

from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.models.padding import CORNER
from dscgan_jax.perfusion import arterial, signal

DEPTH = 0.5  # of the baseline signal: what the peak of the AIF becomes, so that no network's range cuts it off


@dataclasses.dataclass(frozen=True)
class ReferenceCurves:
    """Curves of one exam, ΔR2* over the peak of the AIF (of the brain's mean where there is no AIF).

    Attributes:
      arterial: (time,) the AIF; all 0 where none is found.
      brain: (time,) the mean over the brain.
      arrival_seconds: when the AIF rises above a tenth of its peak, from the first frame; None where that is not known.
    """

    arterial: np.ndarray
    brain: np.ndarray
    arrival_seconds: float | None


def reference_curves(exam: Exam, inside: np.ndarray, found: Findings) -> ReferenceCurves:
    """Finds both in the series; no echo time is needed, for a height alone depends on it.

    Args:
      exam: on its own grid.
      inside: (x, y, z) bool, the brain with its fluid spaces, in which arteries run.
      found: receives a warning where no AIF is found.
    """
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(inside))
    series, inside = exam.series[box], inside[box]
    baseline = signal.baseline_signal(series, exam.timing)
    delta_r2star = np.zeros(series.shape, np.float32)
    curves = signal.delta_r2star(np.float32(signal.curves_in(series, inside)), np.float32(baseline[inside]), 1.0)
    delta_r2star[inside] = curves
    brain = curves.mean(axis=0, dtype=np.float64)
    arrival = None
    try:
        curve = arterial.find_arterial_input(delta_r2star, inside, baseline, exam.timing, exam.frame_seconds, 1.0)
        aif = np.float64(curve.delta_r2star)
        arrival = float(curve.arrival_seconds) if np.isfinite(curve.arrival_seconds) else None
    except InputError as error:
        reason = str(error).partition(";")[0]
        text = f"the network goes without an AIF, since none was found in the series ({reason}): Tmax may be 1 s off"
        found.warning("no_arterial_input", text)
        aif = np.zeros_like(brain)
    peak = max(float((aif if aif.any() else brain).max()), 1e-6)
    return ReferenceCurves(np.float32(aif / peak), np.float32(brain / peak), arrival)


def show(dsc: np.ndarray, curves: ReferenceCurves, weights: np.ndarray | None, level: float) -> None:
    """Writes the curves into the corners: the AIF into the two of the first row, the mean into those of the last.

    Args:
      dsc: (slice, time, row, col) int16, changed in place.
      curves: of the exam.
      weights: (network frame, exam frame), which puts a curve onto the network's frames; None: they are the same.
      level: counts of the brain's signal before the bolus.
    """
    rows = {"first": slice(None, CORNER), "last": slice(-CORNER, None)}
    for row, curve in ((rows["first"], curves.arterial), (rows["last"], curves.brain)):
        shown = curve if weights is None else weights @ curve
        counts = np.rint(np.clip(level * (1.0 - DEPTH * shown), 0, np.iinfo(np.int16).max)).astype(np.int16)
        for col in rows.values():
            dsc[:, :, row, col] = counts[None, :, None, None]
