"""Masks grown, shrunk and cleaned by millimetres, slice by slice: slices are too far apart to be neighbours.

Masks are (x, y, z) bool, `voxel_mm` is (3,) edge lengths. `largest`, and `at_least` with such `neighbours` (a structure
of `scipy.ndimage`), look for parts through all slices.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def depth_mm(mask: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Distance to the nearest voxel outside, within the slice, mm; the border of the image is no border."""
    depth = np.zeros(mask.shape)
    inside = _window(mask, (1, 1))  # the nearest voxel outside is within it
    padded = np.pad(mask[inside], ((1, 1), (1, 1), (0, 0)), mode="edge")
    if padded.all():
        return np.full(mask.shape, np.inf)
    apart = 1e3 * (np.array(mask.shape) * voxel_mm).sum()  # slices are so far apart that none sees another
    depth[inside] = ndimage.distance_transform_edt(padded, (voxel_mm[0], voxel_mm[1], apart))[1:-1, 1:-1]
    return depth


def _window(mask: np.ndarray, margin: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns that a mask has voxels in, and so many more on each side."""
    window = []
    for axis, more in enumerate(margin):
        there = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        first, last = (there[0], there[-1]) if len(there) else (0, -1)
        window.append(slice(max(first - more, 0), last + 1 + more))
    return window[0], window[1]


def box_of(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box that holds all voxels of a mask (x, y, z); an empty one where there are none."""
    there = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    x, y, z = (slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0) for places in there)
    return x, y, z


def eroded(mask: np.ndarray, radius_mm: float, voxel_mm: np.ndarray) -> np.ndarray:
    """Where `depth_mm` is above a radius."""
    return mask & ~_reached(~mask, radius_mm, voxel_mm)


def dilated(mask: np.ndarray, radius_mm: float, voxel_mm: np.ndarray) -> np.ndarray:
    """A mask (x, y, z) and all that is within a radius of it in its slice."""
    dilated = np.zeros(mask.shape, bool)
    window = _window(mask, np.ceil(radius_mm / voxel_mm[:2]).astype(int) + 1)
    dilated[window] = _reached(mask[window], radius_mm, voxel_mm)
    return dilated


def _reached(mask: np.ndarray, radius_mm: float, voxel_mm: np.ndarray) -> np.ndarray:
    """Voxels whose distance to a mask (x, y, z) within the slice is at most a radius.

    The disc is put together from rows: shifting whole images takes a twentieth of the time in which distances are
    measured.
    """
    rows = np.arange(mask.shape[0])[: int(radius_mm / voxel_mm[0]) + 2]
    columns = np.arange(mask.shape[1])[: int(radius_mm / voxel_mm[1]) + 2]
    within = np.sqrt((rows[:, None] * voxel_mm[0]) ** 2 + (columns * voxel_mm[1]) ** 2) <= radius_mm
    reached, wider = np.zeros(mask.shape, bool), mask.copy()
    for column in range(int(within[0].sum())):  # the disc is narrower in rows further away from its middle
        if column:
            wider[:, column:] |= mask[:, :-column]
            wider[:, :-column] |= mask[:, column:]
        for row in np.flatnonzero(within.sum(axis=1) == column + 1):
            reached[row:] |= wider[: len(mask) - row]
            reached[: len(mask) - row] |= wider[row:]
    return reached


def opened(mask: np.ndarray, radius_mm: float, voxel_mm: np.ndarray) -> np.ndarray:
    """The part of a mask that discs of this radius fill, slice by slice."""
    return dilated(eroded(mask, radius_mm, voxel_mm), radius_mm, voxel_mm)


def closed(mask: np.ndarray, radius_mm: float, voxel_mm: np.ndarray) -> np.ndarray:
    """A mask and what discs of this radius cannot enter from outside, slice by slice."""
    return eroded(dilated(mask, radius_mm, voxel_mm), radius_mm, voxel_mm)


def filled(mask: np.ndarray) -> np.ndarray:
    """Holes of each slice filled."""
    return np.stack([ndimage.binary_fill_holes(mask[:, :, z]) for z in range(mask.shape[2])], axis=2)


def at_least(mask: np.ndarray, volume_ml: float, voxel_mm: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Connected parts of at least this volume."""
    labels, _ = ndimage.label(mask, neighbours)
    sizes_ml = np.bincount(labels.ravel()) * np.prod(voxel_mm) / 1000.0
    sizes_ml[0] = 0.0
    return (sizes_ml >= volume_ml)[labels]


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    labels, n_labels = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if n_labels else mask
