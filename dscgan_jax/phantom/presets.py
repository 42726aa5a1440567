"""Protocols and patients that exams are drawn of: the paper's two cohorts, and others."""

import dataclasses

from dscgan_jax.phantom.physiology import DISEASES, DiseaseRange
from dscgan_jax.phantom.tumour import TumourRange
from dscgan_jax.phantom.varied import VARIED_DISEASES


@dataclasses.dataclass(frozen=True)
class Preset:
    """A protocol and its patients: one of the paper's two cohorts, or people with a tumour.

    Attributes:
      frame_seconds, echo_seconds: TR and TE.
      field_of_view_mm: in plane, square.
      slice_mm: thickness, no gap.
      slices, frames: smallest and largest number.
      arrival_frames: range of the bolus' arrival, in frames.
      grey_drop: range of the largest signal drop of healthy grey matter.
      disease: what is drawn.
      truncated_share: share of subjects whose exam ends too early.
      tumour: what is drawn of it; None: there is none.
      matrix: rows and columns.
      field_tesla: of the scanner.
      varied: whether each exam draws its own protocol (`varied.py`); the others here are then nominal.
      difficult: whether something is wrong with each exam (`difficult.py`).
      lowest_mm: lower edge of the slices, head coordinates; None: as `_grid` places them.
      artery_scale: radius of the arteries, of the usual one.
      ends_after_peak_seconds: the scan ends so long after the peak of healthy grey matter; None: as `frames` says.
      contrast_to_noise: largest signal change of healthy grey matter over the noise; None: as `grey_drop` says.
    """

    frame_seconds: float
    echo_seconds: float
    field_of_view_mm: float
    slice_mm: float
    slices: tuple[int, int]
    frames: tuple[int, int]
    arrival_frames: tuple[float, float]
    grey_drop: tuple[float, float]
    disease: DiseaseRange
    truncated_share: float = 0.08
    tumour: TumourRange | None = None
    matrix: int = 128
    field_tesla: float = 3.0
    varied: bool = False
    difficult: bool = False
    lowest_mm: float | None = None
    artery_scale: float = 1.0
    ends_after_peak_seconds: float | None = None
    contrast_to_noise: float | None = None


PRESETS: dict[str, Preset] = {
    "acute": Preset(
        frame_seconds=2.22,
        echo_seconds=0.036,
        field_of_view_mm=240.0,
        slice_mm=5.0,
        slices=(25, 27),
        frames=(50, 75),
        arrival_frames=(8.5, 13.5),
        grey_drop=(0.28, 0.44),
        disease=DISEASES["acute"],
    ),
    "chronic": Preset(
        frame_seconds=1.39,
        echo_seconds=0.029,
        field_of_view_mm=230.4,
        slice_mm=5.0,
        slices=(24, 26),
        frames=(80, 80),
        arrival_frames=(10.0, 17.0),
        grey_drop=(0.24, 0.38),
        disease=DISEASES["chronic"],
    ),
    # 3 T, the recommended protocol for gliomas (Welker et al., AJNR 2015;36:E41): 120 s, one full dose.
    "tumour": Preset(
        frame_seconds=1.5,
        echo_seconds=0.030,
        field_of_view_mm=230.4,
        slice_mm=5.0,
        slices=(24, 26),
        frames=(80, 80),
        arrival_frames=(11.0, 17.0),
        grey_drop=(0.24, 0.38),
        disease=DISEASES["none"],
        truncated_share=0.0,
        tumour=TumourRange(),
    ),
    # Every exam draws its own (`varied.RANGES`): nominal values, from which the room on disk is reckoned.
    "varied": Preset(
        frame_seconds=1.6,
        echo_seconds=0.035,
        field_of_view_mm=230.0,
        slice_mm=5.0,
        slices=(1, 40),
        frames=(30, 130),
        arrival_frames=(3.2, 50.0),
        grey_drop=(0.15, 0.50),
        disease=VARIED_DISEASES["acute"],
        varied=True,
    ),
}
PRESETS["difficult"] = dataclasses.replace(PRESETS["acute"], difficult=True)
