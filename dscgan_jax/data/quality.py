"""What an exam and its maps are worth, in numbers: the record that travels with the maps, whoever made them.

`evaluation.quality` and `evaluation.consistency` measure it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dscgan_jax.maps import MAPS

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
    "cbv_disorder": ("CBV against the blood that passes in the series, 1 - rank correlation", ""),
    "tmax_disorder": ("Tmax against the time of the lowest signal, 1 - rank correlation", ""),
}


@dataclasses.dataclass(frozen=True)
class Consistency:
    """How far maps are from agreeing; the lower, the better. None where a map that it needs is not there.

    True maps agree among themselves (`central_volume` 0), and with a noisy series in part: Tmax counts from the AIF.

    Attributes:
      central_volume: median over the brain of |ln(60 CBV / (CBF MTT))|.
      ttp_offset_seconds: |median of TTP minus the time of the lowest signal|.
      ttp_spread_seconds: median absolute deviation of that difference.
      cbv_disorder: 1 - Spearman's correlation of CBV and the blood that passes (`perfusion.passage.over_mean`).
      tmax_disorder: 1 - Spearman's correlation of Tmax and the time of the lowest signal.
    """

    central_volume: float | None = None
    ttp_offset_seconds: float | None = None
    ttp_spread_seconds: float | None = None
    cbv_disorder: float | None = None
    tmax_disorder: float | None = None

    def known(self) -> dict[str, float]:
        """The values that are there, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


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
      unfinished: share of the brain that has not come half of the way back from its peak at the end.
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
