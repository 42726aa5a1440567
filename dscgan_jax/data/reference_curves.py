"""The exam's AIF and its brain's mean curve, shown to a network in the corners of each slice.

Most slices hold no large artery, and a network that sees one slice cannot know when the bolus came into the brain: its
Tmax is then off by one offset. Corners hold no brain; what is shown there is the same in every slice of an exam, and
mirrored it is still itself. Who changes what is shown (`settings.CORNER`, `DEPTH`, how an AIF is found) has to raise
`dataset.VERSION`, and to train again the networks that learned from it.
"""

import dataclasses

import numpy as np

from dscgan_jax.data.exams import Exam
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion import morphology, signal
from dscgan_jax.perfusion.arterial import MOSTLY_PEAK_OVER_BRAIN, ArterialInput, find_arterial_input
from dscgan_jax.perfusion.arterial_voxels import NoArterialInputError
from dscgan_jax.settings import CORNERS

DEPTH = 0.5  # of the baseline signal: what the peak of the AIF becomes, so that no network's range cuts it off


@dataclasses.dataclass(frozen=True)
class ReferenceCurves:
    """Curves of one exam, of ΔR2* times the echo time, which needs no echo time.

    Attributes:
      artery: the AIF; None where none is found.
      brain: (time,) the mean over the brain.
    """

    artery: ArterialInput | None
    brain: np.ndarray

    @property
    def arrival_seconds(self) -> float | None:
        """When the AIF rises above a tenth of its peak, from the first frame; None where that is not known."""
        arrival = np.nan if self.artery is None else self.artery.arrival_seconds
        return float(arrival) if np.isfinite(arrival) else None

    @property
    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """AIF (all 0 where there is none) and mean, (time,) each, over the peak of the AIF, or else of the mean."""
        aif = np.zeros_like(self.brain) if self.artery is None else self.artery.delta_r2star
        peak = max(float((self.brain if self.artery is None else aif).max()), 1e-6)
        return aif / peak, self.brain / peak


def reference_curves(exam: Exam, inside: np.ndarray, found: Findings) -> ReferenceCurves:
    """Finds both in the series as it is, by the search that conventional maps use (`arterial.find_arterial_input`).

    Args:
      exam: on its own grid.
      inside: (x, y, z) bool, the brain with its fluid spaces, in which arteries run.
      found: receives a warning where no AIF is found, or one that is mostly tissue's.
    """
    box = morphology.box_of(inside)
    within, baseline = inside[box], signal.baseline_signal(exam.series[box], exam.timing)
    series = signal.curves_in(exam.series, inside).astype(np.float32)
    curves = signal.delta_r2star(series, baseline[within].astype(np.float32), 1.0)
    delta_r2star = np.zeros((*within.shape, curves.shape[-1]), np.float32)
    delta_r2star[within] = curves
    artery = None
    try:
        artery = find_arterial_input(
            delta_r2star, within, baseline, exam.timing, exam.frame_seconds, 1.0, noise_floor=exam.modality != "ct"
        )
    except NoArterialInputError as error:
        reason = str(error).partition(";")[0].removeprefix("no AIF: ")
        text = f"no AIF was found in the series, and the network goes without ({reason}): Tmax may be off by an offset"
        found.warning("no_arterial_input", text)
    else:
        mask = np.zeros(inside.shape, bool)
        mask[box] = artery.mask
        artery = dataclasses.replace(artery, mask=mask)
        found.extend(_doubts(artery))
    return ReferenceCurves(artery, curves.mean(axis=0, dtype=np.float64).astype(np.float32))


def _doubts(artery: ArterialInput) -> list[Finding]:
    """A warning where its voxels are mostly tissue; of the other doubts about an AIF a network makes little."""
    heights = [one.value for one in artery.findings if (one.name, one.severity) == ("arterial_low", "warning")]
    return [
        Finding(
            "arterial_low",
            "warning",
            f"the AIF that the network was shown is only {height:.1f} times as high as the brain's mean curve: its "
            "voxels are mostly tissue, and Tmax may be 1 s off",
            height,
        )
        for height in heights
        if isinstance(height, float) and height < MOSTLY_PEAK_OVER_BRAIN
    ]


def tell_hidden(seen: np.ndarray, found: Findings) -> None:
    """A warning where the brain, (slice, row, col) bool, lies in a corner, and is hidden by what is shown there."""
    if hidden := sum(int(seen[:, row, col].sum()) for row in CORNERS for col in CORNERS):
        found.warning(
            "brain_in_corner",
            "the brain reaches into corners of the picture, where this network is shown the AIF: it does not see "
            f"{hidden} pixels there, and their maps mean nothing",
            hidden,
        )


def show(dsc: np.ndarray, curves: ReferenceCurves, time_matrix: np.ndarray | None, brain_counts: float) -> None:
    """Writes the curves into the corners: the AIF into the two of the first row, the mean into those of the last.

    Args:
      dsc: (slice, time, row, col) int16, changed in place.
      curves: of the exam.
      time_matrix: (network frame, exam frame), which puts a curve onto the network's frames; None: they are the same.
      brain_counts: median of the brain before the bolus, in the unit of `dsc`.
    """
    for row, curve in zip(CORNERS, curves.shown, strict=True):
        at_frames = curve if time_matrix is None else time_matrix @ curve
        counts = np.rint(np.clip(brain_counts * (1.0 - DEPTH * at_frames), 0, np.iinfo(np.int16).max)).astype(np.int16)
        for col in CORNERS:
            dsc[:, :, row, col] = counts[None, :, None, None]
