"""Regions of one exam's maps, and how the maps of one differ from those of another.

Words: *late tissue* is where Tmax exceeds 6 s; its *mirror* is the same place of the other hemisphere, less what is
late there too; *white matter opposite* is normal-appearing white matter of the hemisphere without the late tissue, as
CBV of tumours is normalised with (`perfusion.hemispheres`). Ratios need no scale of CBF and CBV, which is what an AIF
of MR does not give.
"""

import dataclasses

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.evaluation.agreement import HYPOPERFUSED_SECONDS, Number
from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import hemispheres
from dscgan_jax.perfusion.brain import most_frequent
from dscgan_jax.perfusion.deconvolved import Deconvolved

SMALLEST_CLUSTER_ML = 1.0  # of trials' software: what is smaller is noise or a vessel more often than tissue at risk
LEAST_OF_BRAIN = 0.2  # of the tissue on either side of the middle: with less there are no two hemispheres to compare
LEAST_MIRRORED = 0.5  # of a region must have tissue opposite that stands for it

LEFT, RIGHT, LATE, MIRROR, WHITE = (
    "left hemisphere",
    "right hemisphere",
    "late tissue",
    "mirror of late tissue",
    "white matter opposite",
)
PAIRS = ((LEFT, RIGHT), (LATE, MIRROR), (LATE, WHITE), (MIRROR, WHITE), (LEFT, WHITE), (RIGHT, WHITE))


@dataclasses.dataclass(frozen=True)
class Contrast:
    """How the maps of one region differ from those of another, by the means over the tissue of each.

    Attributes:
      region, against: of the names above.
      cbf_ratio, cbv_ratio: region over the other; None where a region or map is missing, or the other's mean is 0.
      mtt_difference_seconds, tmax_difference_seconds, ttp_difference_seconds: region minus the other; None likewise.
    """

    region: str
    against: str
    cbf_ratio: Number = None
    cbv_ratio: Number = None
    mtt_difference_seconds: Number = None
    tmax_difference_seconds: Number = None
    ttp_difference_seconds: Number = None


@dataclasses.dataclass(frozen=True)
class Regions:
    """Where the regions of one exam are.

    Attributes:
      masks: region -> (x, y, z) bool; what is not known is absent.
      from_middle: (x, y, z) mm from the plane between the hemispheres, positive on the right; None: not known.
      reasons: why regions are absent, a sentence each.
    """

    masks: dict[str, np.ndarray]
    from_middle: np.ndarray | None
    reasons: tuple[str, ...]


def tissue_of(maps: ExamMaps) -> np.ndarray:
    """Where an exam has maps, (x, y, z) bool: its mask, as far as some map has a value."""
    valued = np.any([np.isfinite(volume) & (volume != 0) for volume in maps.volumes.values()], axis=0)
    return valued if maps.mask is None else valued & maps.mask


def clusters(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The connected parts of a mask (x, y, z) that have at least 1 mL.

    Voxels are connected through their faces, in all three dimensions: through edges and corners, scattered late voxels
    of a noisy map would soon hang together.
    """
    found = np.zeros(mask.shape, bool)
    for box in ndimage.find_objects(mask.astype(np.uint8)):  # one, around all of it, or none
        labels, _ = ndimage.label(mask[box])
        least = SMALLEST_CLUSTER_ML * (1 - 1e-6) / voxel_ml(affine)  # rounding must not decide about exactly 1 mL
        large = np.bincount(labels.ravel()) >= least
        large[0] = False
        found[box] = large[labels]
    return found


def late_tissue(maps: ExamMaps, tissue: np.ndarray, seconds: float) -> np.ndarray:
    """Clusters of tissue whose Tmax exceeds a threshold, (x, y, z) bool."""
    return clusters(tissue & (maps["tmax"] > seconds), maps.affine)


def regions_of(maps: ExamMaps, tissue: np.ndarray) -> Regions:
    """The regions of an exam.

    Args:
      maps: of the exam.
      tissue: (x, y, z) bool, of `tissue_of`.
    """
    from_middle = _from_middle(tissue, voxel_sizes(maps.affine))
    if from_middle is None:
        return Regions({}, None, ("the two hemispheres cannot be told apart",))
    masks, reasons = {}, []
    if any(finding.name == "orientation_unknown" for finding in maps.findings):
        reasons.append("the header has no orientation: left and right are not known")
    else:
        masks |= {LEFT: tissue & (from_middle < 0), RIGHT: tissue & (from_middle > 0)}
    if "tmax" in maps.volumes:
        _add_late(masks, reasons, maps, tissue, from_middle)
    return Regions(masks, from_middle, tuple(reasons))


def contrasts_of(maps: ExamMaps, regions: Regions) -> tuple[Contrast, ...]:
    """Every pair of regions, also those that are not known."""
    return tuple(_contrast(maps, regions, *pair) for pair in PAIRS)


def _from_middle(tissue: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray | None:
    if not tissue.any():
        return None
    from_middle = hemispheres.signed_distance_mm(tissue, voxel_mm)
    right = float((from_middle[tissue] > 0).mean())
    return from_middle if LEAST_OF_BRAIN <= right <= 1 - LEAST_OF_BRAIN else None


def _add_late(
    masks: dict[str, np.ndarray], reasons: list[str], maps: ExamMaps, tissue: np.ndarray, from_middle: np.ndarray
) -> None:
    """Late tissue, what mirrors it, and white matter opposite."""
    late, voxel_mm = late_tissue(maps, tissue, HYPOPERFUSED_SECONDS), voxel_sizes(maps.affine)
    if not late.any():
        reasons.append(f"no tissue has a Tmax above {HYPOPERFUSED_SECONDS:g} s")
        return
    masks[LATE] = late
    mirror = hemispheres.mirrored(late, from_middle, voxel_mm) & tissue & (maps["tmax"] <= HYPOPERFUSED_SECONDS)
    if mirror.sum() >= LEAST_MIRRORED * late.sum():
        masks[MIRROR] = mirror
    else:
        reasons.append("less than half of the late tissue has normal tissue opposite")
    if not {"cbf", "cbv", "mtt"} <= set(maps.volumes):
        reasons.append("white matter is found by the maps of CBF, CBV and MTT")
        return
    found = Findings()
    values = Deconvolved(*(maps[name][tissue] for name in ("cbf", "cbv", "mtt", "tmax")))
    usual = most_frequent(values.tmax)
    white = hemispheres.white_matter_opposite(values, tissue, late, voxel_mm, usual, found, from_middle)
    if white is None:
        reasons.append("white matter opposite is not known: the late tissue is on both sides, or too little is normal")
        return
    masks[WHITE] = np.zeros(tissue.shape, bool)
    masks[WHITE][tissue] = white


def _contrast(maps: ExamMaps, regions: Regions, region: str, against: str) -> Contrast:
    if not {region, against} <= regions.masks.keys():
        return Contrast(region, against)
    pair = regions.masks[region], regions.masks[against]
    ratios = {f"{name}_ratio": _ratio(maps, name, *pair) for name in ("cbf", "cbv")}
    differences = {f"{name}_difference_seconds": _difference(maps, name, *pair) for name in ("mtt", "tmax", "ttp")}
    return Contrast(region, against, **ratios, **differences)


def _mean(maps: ExamMaps, name: str, region: np.ndarray) -> Number:
    """None where there is no such map, or no voxel has a value."""
    if name not in maps.volumes:
        return None
    values = maps[name][region]
    values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if values.size else None


def _ratio(maps: ExamMaps, name: str, region: np.ndarray, against: np.ndarray) -> Number:
    above, below = _mean(maps, name, region), _mean(maps, name, against)
    return None if above is None or below is None or below <= 0 else above / below


def _difference(maps: ExamMaps, name: str, region: np.ndarray, against: np.ndarray) -> Number:
    one, other = _mean(maps, name, region), _mean(maps, name, against)
    return None if one is None or other is None else one - other
