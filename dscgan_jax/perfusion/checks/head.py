"""Curves of the head, from which a series is judged before anything is measured in it.

Words: the *head* is what is bright in the median frame; a *plane* is one slice of one frame.
"""

import dataclasses

import numpy as np
from nibabel.affines import voxel_sizes

LONGER = 1.2  # times the other steps: slices are thicker than pixels are wide
MEDIAN_FRAMES = 7  # of the series, evenly spaced: enough for the level of a voxel
HEAD_SHARE = 0.25  # of the bright signal: a background of an eighth of the brain's signal stays out
MOST_VOXELS = 20_000  # show the courses as well as all
FEWEST_MISSING = 20  # voxels
DARKEST = 0.4  # of a voxel's median: the bolus takes tissue to 0.5
FEWEST_BRIGHT = 300  # voxels


@dataclasses.dataclass(frozen=True)
class HeadCurves:
    """Curves of the voxels of the head.

    Attributes:
      values: (time, voxel) float32, scanner units, ordered by plane.
      where: (voxel,) index into the ravelled (z, y, x) volume.
      plane: (voxel,) index along the slice axis, ascending.
      axis: of (z, y, x), along which the slices follow.
      shape: (z, y, x) of the volume.
    """

    values: np.ndarray
    where: np.ndarray
    plane: np.ndarray
    axis: int
    shape: tuple[int, int, int]

    def planes(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the voxels of each plane begin, and how many there are."""
        edges = np.flatnonzero(np.r_[True, np.diff(self.plane) > 0])
        return edges, np.diff(np.r_[edges, len(self.plane)])

    def some(self) -> np.ndarray:
        """(time, voxel) of at most `MOST_VOXELS` voxels."""
        return self.values[:, :: max(1, self.values.shape[1] // MOST_VOXELS)]

    def always_bright(self) -> np.ndarray:
        """(time, voxel) of voxels that are bright in every frame: motion into the air is unlike any change of gain."""
        some = self.some()
        typical = np.median(some[:: max(1, len(some) // 15)], axis=0)
        bright = some.min(axis=0) > DARKEST * typical
        return some[:, bright] if bright.sum() >= FEWEST_BRIGHT else some


def slice_axis(affine: np.ndarray) -> int:
    """The axis of (x, y, z) along which the slices follow: the one with clearly the longest step, else the last."""
    voxel_mm = voxel_sizes(np.asarray(affine))
    longest = int(np.argmax(voxel_mm))
    return longest if voxel_mm[longest] > LONGER * np.delete(voxel_mm, longest).max() else 2


def head_curves(series: np.ndarray, axis: int) -> HeadCurves | None:
    """Curves of the head; None where nothing is brighter than the rest.

    Args:
      series: (x, y, z, time), scanner units.
      axis: of (z, y, x), along which the slices follow.
    """
    frames = series.T  # (time, z, y, x), the order of a NIfTI file in memory
    chosen = np.unique(np.linspace(0, len(frames) - 1, MEDIAN_FRAMES).round().astype(int))
    middle = len(chosen) // 2  # of an even number the upper one of two; half the time of `np.median`
    level = np.partition(frames[chosen], middle, axis=0)[middle]
    lit = level[level > 0]
    if lit.size < FEWEST_MISSING:
        return None
    head = level > HEAD_SHARE * np.quantile(lit, 0.95)
    where = np.flatnonzero(head)
    plane = np.unravel_index(where, head.shape)[axis]
    order = np.argsort(plane, kind="stable")
    where, plane = where[order], plane[order]
    values = np.empty((len(frames), len(where)), np.float32)
    for frame, curve in zip(frames, values, strict=True):
        curve[:] = frame.ravel()[where]
    return HeadCurves(values, where, plane, axis, head.shape)
