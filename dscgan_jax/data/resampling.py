"""From one grid in space onto another, by the affines alone: nothing is registered.

Maps are interpolated linearly over the voxels that have values, so that none is mixed with the 0 outside; masks take
the nearest voxel. Both reach half a voxel beyond the centres of the outermost voxels, as voxels do.
"""

import numpy as np
from scipy import ndimage

LEAST_WEIGHT = 0.5  # of the interpolation must come from voxels with a value


def way(affine: np.ndarray, to_affine: np.ndarray) -> np.ndarray:
    """(4, 4) voxel index on the grid `to_affine` -> voxel index on the grid `affine`."""
    return np.linalg.inv(affine) @ to_affine


def mask_onto(mask: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], to_affine: np.ndarray) -> np.ndarray:
    """A mask (x, y, z) on another grid, bool of `shape`, by the nearest voxel; False outside its own grid."""
    matrix = way(affine, to_affine)
    moved = ndimage.affine_transform(
        mask.astype(np.uint8), matrix[:3, :3], matrix[:3, 3], shape, order=0, mode="grid-constant", prefilter=False
    )
    return moved.astype(bool)


def weights_onto(inside: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], to_affine: np.ndarray) -> np.ndarray:
    """How much of each voxel of another grid comes from voxels with a value, 0 to 1: the same for maps of one mask."""
    return _linear(inside, affine, shape, to_affine)


def map_onto(
    volume: np.ndarray,
    inside: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    to_affine: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """A map on another grid: the mean of the voxels with a value, weighted as linear interpolation weights them.

    Args:
      volume: (x, y, z).
      inside: (x, y, z) bool, where it has values.
      affine: (4, 4) of its grid.
      shape: of the other grid.
      to_affine: (4, 4) of the other grid.
      weights: of `weights_onto`, where they are known already.

    Returns:
      float32 of `shape`, 0 where voxels without a value have more than half of the weight.
    """
    total = _linear(np.where(inside, volume, 0), affine, shape, to_affine)
    weight = weights_onto(inside, affine, shape, to_affine) if weights is None else weights
    known = weight >= LEAST_WEIGHT
    return np.where(known, total / np.where(known, weight, 1), 0).astype(np.float32)


def covered_share(mask: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], to_affine: np.ndarray) -> float:
    """Share of a mask's voxels whose centres lie inside another grid; 0 of an empty mask."""
    index = np.argwhere(mask)
    if not len(index):
        return 0.0
    matrix = way(to_affine, affine)
    there = index @ matrix[:3, :3].T + matrix[:3, 3]
    return float(((there >= -0.5) & (there <= np.array(shape) - 0.5)).all(axis=1).mean())


def _linear(values: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], to_affine: np.ndarray) -> np.ndarray:
    matrix = way(affine, to_affine)
    return ndimage.affine_transform(
        values.astype(np.float32), matrix[:3, :3], matrix[:3, 3], shape, order=1, mode="grid-constant", prefilter=False
    )
