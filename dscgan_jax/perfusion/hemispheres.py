"""The two halves of the brain, and what is read against the other one: nCBV of tumours, the core of an infarct.

Absolute CBV depends on the AIF and on a scale; its ratio to normal-appearing white matter does not, which is why it is
how CBV of tumours is reported (Wetzel et al., Radiology 2002;224:797). White matter of the tumour's own half may be
infiltrated or swollen.

CBF has no fixed scale either: the core of an infarct is where it is below a share of that of the other half.
"""

import numpy as np
from scipy import ndimage

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import brain, morphology
from dscgan_jax.perfusion.deconvolved import Deconvolved

ONE_SIDE = 0.8  # of the leaking tissue that must lie in one half
LATE_SECONDS = 2.0  # tissue that is later than most is not normal
WHITE_DEPTH_MM = 4.0  # below the surface of the tissue: the cortex is 2-4 mm thick
FROM_MIDDLE_MM = 8.0  # beside the middle lie thalami and corpus callosum
MIN_WHITE_VOXELS = 50
MIN_NORMAL_VOXELS = 50  # whose mean CBF stands for a half
# Of the mean CBF of the other hemisphere: Campbell et al., Stroke 2011;42:3435, who chose 31 % against diffusion.
CORE_FLOW_SHARE = 0.30
MOST_TURNS = 10  # of the rows: each leaves two thirds of the error of the one before
SAME_DIRECTION = np.cos(np.deg2rad(0.1))
WIDE_ROW = 0.5  # of the widest row of the brain: narrower ones, at the poles, do not show the middle well


def signed_distance_mm(tissue: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Distance from the plane between the hemispheres, (x, y, z) mm, positive on the right.

    The plane goes through the middles of all rows of the brain from side to side: a head may be turned and tilted. Rows
    that are not perpendicular to the plane show a part of the turn alone (midpoints of parallel chords of an ellipse
    lie on the conjugate diameter), so that they are laid again across the plane that was found.

    Args:
      tissue: (x, y, z) bool, RAS.
      voxel_mm: (3,) edge lengths.
    """
    whole = np.argwhere(brain.with_fluid_spaces(tissue, voxel_mm))
    normal, offset = np.array([1.0, 0.0, 0.0]), 0.0
    for _ in range(MOST_TURNS):
        before = normal
        normal, offset = _plane_across(whole, normal, voxel_mm)
        if before @ normal > SAME_DIRECTION:
            break
    return np.moveaxis(np.indices(tissue.shape), 0, -1) * voxel_mm @ normal - offset


def _plane_across(whole: np.ndarray, normal: np.ndarray, voxel_mm: np.ndarray) -> tuple[np.ndarray, float]:
    """The plane through the middles of the rows along a direction: its normal and its offset, mm.

    Args:
      whole: (voxel, 3) indices of the brain.
      normal: (3,) direction of the rows, of length 1.
      voxel_mm: (3,) edge lengths.
    """
    along = np.array([-normal[1], normal[0], 0.0]) / np.hypot(normal[0], normal[1])
    across = whole @ (voxel_mm * normal)
    row = np.rint(whole @ (voxel_mm * along) / voxel_mm[1]).astype(int)
    lowest, slices = row.min(), whole[:, 2].max() + 1
    place = (row - lowest) * slices + whole[:, 2]  # a row of a slice
    first, last = np.full(place.max() + 1, np.inf), np.full(place.max() + 1, -np.inf)
    np.minimum.at(first, place, across)
    np.maximum.at(last, place, across)
    wide = np.flatnonzero(last - first >= WIDE_ROW * (last - first).max())
    middle, ones = 0.5 * (first[wide] + last[wide]), np.ones(len(wide))
    columns = np.column_stack([ones, (wide // slices + lowest) * voxel_mm[1], (wide % slices) * voxel_mm[2]])
    plane = np.linalg.lstsq(columns, middle, rcond=None)[0]
    straight = np.abs(middle - columns @ plane)
    near = straight <= np.percentile(straight, 80)  # a lobe that a slice cuts off is no row
    plane = np.linalg.lstsq(columns[near], middle[near], rcond=None)[0]
    turned = normal - plane[1] * along - plane[2] * np.array([0.0, 0.0, 1.0])
    length = float(np.linalg.norm(turned))
    return turned / length, float(plane[0]) / length


def mirrored(region: np.ndarray, from_middle: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """The mirror image of a region across the plane between the hemispheres, (x, y, z) bool, by nearest voxels.

    Args:
      region: (x, y, z) bool, RAS.
      from_middle: (x, y, z) of `signed_distance_mm`, which is linear in the indices.
      voxel_mm: (3,) edge lengths.
    """
    steps = np.array([float(np.diff(_edge(from_middle, axis)).sum()) for axis in range(3)]) / voxel_mm
    away = 2.0 * steps / (steps**2).sum() / voxel_mm  # voxels on the way to the mirror image, for each mm
    index = [one - from_middle * step for one, step in zip(np.indices(region.shape), away, strict=True)]
    return ndimage.map_coordinates(region.astype(np.uint8), index, order=0, mode="grid-constant").astype(bool)


def _edge(values: np.ndarray, axis: int) -> np.ndarray:
    """The first two values along one axis; one where there is no second."""
    return np.moveaxis(values, axis, 0)[:2, 0, 0]


def white_matter_opposite(
    result: Deconvolved,
    tissue: np.ndarray,
    leaking: np.ndarray,
    voxel_mm: np.ndarray,
    healthy_tmax: float,
    found: Findings,
    from_middle: np.ndarray | None = None,
) -> np.ndarray | None:
    """White matter of the half that does not leak, (voxel,) bool; None where that is not known.

    It is the lower class of CBF (Otsu 1979) of tissue that is neither late, nor at the surface, nor in the middle.

    Args:
      result: in the tissue, of any scale.
      tissue: (x, y, z) bool.
      leaking: (x, y, z) bool, which shows the half that is ill.
      voxel_mm: (3,) edge lengths.
      healthy_tmax: most frequent Tmax, s.
      found: receives a note that says why there is none.
      from_middle: of `signed_distance_mm`, where it is known already.
    """

    def missing(reason: str) -> None:
        found.note("normalised_cbv_missing", f"CBV could not be normalised to white matter: {reason}")

    if not leaking.any():
        return missing("no tissue leaks that would show which hemisphere is ill")
    if from_middle is None:
        from_middle = signed_distance_mm(tissue, voxel_mm)
    right = float((from_middle[leaking] > 0).mean())
    if 1.0 - ONE_SIDE < right < ONE_SIDE:
        return missing("tissue of both hemispheres leaks")
    opposite = from_middle[tissue] * (-1.0 if right > 0.5 else 1.0)
    white = (opposite > FROM_MIDDLE_MM) & (morphology.depth_mm(tissue, voxel_mm)[tissue] > WHITE_DEPTH_MM)
    white &= (result.cbf > 0) & (result.cbv > 0) & (result.tmax < healthy_tmax + LATE_SECONDS)
    flow = result.cbf[white]
    if len(flow) and np.ptp(flow) > 0:
        flow = np.minimum(flow, np.percentile(flow, 99))
        white[white] = flow < brain.otsu_threshold(flow)
    if white.sum() < MIN_WHITE_VOXELS:
        return missing(f"only {white.sum()} voxels of the other hemisphere could be normal white matter")
    return white


def low_flow_core(
    cbf: np.ndarray,
    late: np.ndarray,
    tissue: np.ndarray,
    voxel_mm: np.ndarray,
    from_middle: np.ndarray | None = None,
) -> np.ndarray | None:
    """Late tissue whose CBF is below 30 % of that of the other half, (x, y, z) bool; None where that is not known.

    That of the other half is the mean over its tissue that is not late, grey and white matter together. Only what is
    late can be core (as in Chen et al., Front Neurol 2021;11:590766): white matter, and voxels with fluid in them, have
    a low CBF in health too. Within late white matter the core is still too large for that reason (Campbell et al.
    2011). This is how CT reads a core; in MR it is read from diffusion.

    Args:
      cbf: (x, y, z), of any scale.
      late: (x, y, z) bool, such as Tmax > 6 s.
      tissue: (x, y, z) bool, RAS; what lies outside is never read.
      voxel_mm: (3,) edge lengths.
      from_middle: of `signed_distance_mm`, where it is known already.
    """
    core = np.zeros(tissue.shape, bool)
    if not (late & tissue).any():
        return core
    right = (signed_distance_mm(tissue, voxel_mm) if from_middle is None else from_middle) > 0
    for half in (right, ~right):
        ill, normal = tissue & late & half, tissue & ~late & ~half
        if not ill.any():
            continue
        if normal.sum() < MIN_NORMAL_VOXELS:
            return None
        core |= ill & (cbf < CORE_FLOW_SHARE * cbf[normal].mean(dtype=np.float64))
    return core
