"""Large vessels of the phantom: arteries as points that bring their volume into the voxels they run through."""

import dataclasses

import numpy as np

from dscgan_jax.phantom.anatomy import Grid, Head

LARGEST_BLOOD_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Artery:
    """One artery of the right or left side, or of the middle.

    Attributes:
      name: e.g. `mca_m1`.
      side: +1 right, -1 left.
      knots: (knot, 3), head coordinates, mm, for the right side.
      radius_mm: inner radius.
      delay_seconds: of the bolus after the M1 segment, in a healthy subject.
      downstream_of: territory whose occlusion delays it, e.g. `mca`; empty if none does.
    """

    name: str
    side: int
    knots: np.ndarray
    radius_mm: float
    delay_seconds: float
    downstream_of: str


_COURSES = (
    # name, knots of the right side in head coordinates, radius in mm, delay in s, territory whose occlusion delays it
    ("ica", [(7, -4, -40), (8, -2, -24), (8, 1, -15)], 2.0, 0.0, ""),
    ("mca_m1", [(8, 1, -15), (16, 3, -14), (25, 3, -12), (34, 1, -8)], 1.7, 0.0, "mca"),
    (
        "mca_m2_front",
        [(34, 1, -8), (39, 12, -2), (41, 16, 8), (46, 18, 10), (55, 20, 12), (58, 18, 24)],
        1.2,
        0.3,
        "mca_front",
    ),
    (
        "mca_m2_middle",
        [(34, 1, -8), (40, 0, 2), (41, -4, 14), (48, -6, 14), (60, -8, 16), (62, -12, 30), (56, -16, 44)],
        1.1,
        0.3,
        "mca_front",
    ),
    (
        "mca_m2_back",
        [(34, 1, -8), (39, -12, -2), (41, -22, 10), (50, -28, 12), (60, -34, 14), (58, -48, 22)],
        1.2,
        0.3,
        "mca_back",
    ),
    (
        "aca",
        [(8, 1, -15), (3, 8, -13), (2, 22, -8), (2, 36, 2), (2, 34, 18), (2, 16, 30), (2, -10, 36), (2, -36, 42)],
        1.1,
        0.2,
        "aca",
    ),
    ("pca", [(2, -22, -14), (12, -24, -12), (20, -34, -6), (18, -50, -2), (12, -68, 2), (8, -84, 6)], 1.1, 0.5, "pca"),
    ("basilar", [(0.5, -18, -45), (0.5, -15, -30), (0.5, -20, -14)], 1.6, 0.2, ""),
)


def arteries_of(head: Head, scale: float = 1.0) -> list[Artery]:
    """The arteries of one person, their knots a little displaced, their radii `scale` times the usual ones."""
    arteries, jitter = [], 0
    for side in (1, -1):
        for name, knots, radius, delay, territory in _COURSES:
            displaced = head.vessel_jitter[(jitter + np.arange(len(knots))) % len(head.vessel_jitter)]
            jitter += len(knots)
            if name == "basilar" and side < 0:  # in the middle: once
                continue
            arteries.append(
                Artery(name, side, np.array(knots, np.float64) + displaced, scale * radius, delay, territory)
            )
    return arteries


def blood_shares(arteries: list[Artery], head: Head, grid: Grid) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each artery the flat voxel indices it touches and the share of blood in them, 0..1.

    An artery is laid down as points half a millimetre apart, each with its piece of volume, spread over the eight
    nearest voxels.
    """
    return [_deposit(_smooth(artery.knots) * (artery.side, 1, 1), artery.radius_mm, head, grid) for artery in arteries]


def _smooth(knots: np.ndarray) -> np.ndarray:
    """(point, 3): a rounded course through the neighbourhood of the knots, about 0.5 mm between points."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    at = np.arange(0.0, length[-1], 0.5)
    course = np.stack([np.interp(at, length, knots[:, axis]) for axis in range(3)], axis=1)
    window = np.hanning(19)
    padded = np.concatenate([np.repeat(course[:1], 9, axis=0), course, np.repeat(course[-1:], 9, axis=0)])
    return np.stack([np.convolve(padded[:, axis], window / window.sum(), mode="valid") for axis in range(3)], axis=1)


def _deposit(course: np.ndarray, radius_mm: float, head: Head, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Flat voxel indices and shares of blood of one artery along the points (point, 3) of `course`, head mm."""
    world = head.to_scanner(course, grid)
    step = np.linalg.norm(np.gradient(world, axis=0), axis=1)
    volume = np.pi * radius_mm**2 * step  # mm^3 of each point's piece
    position = world / grid.voxel_mm + 0.5 * (np.array(grid.shape) - 1)
    corner = np.floor(position).astype(np.int64)
    fraction = position - corner
    indices, shares = [], []
    for offset in np.ndindex(2, 2, 2):
        voxel = corner + offset
        weight = np.prod(np.where(offset, fraction, 1 - fraction), axis=1)
        inside = ((voxel >= 0) & (voxel < grid.shape)).all(axis=1)
        indices.append(np.ravel_multi_index(voxel[inside].T, grid.shape))
        shares.append((weight * volume)[inside])
    unique, where = np.unique(np.concatenate(indices), return_inverse=True)
    share = np.bincount(where, np.concatenate(shares), minlength=len(unique)) / np.prod(grid.voxel_mm)
    return unique, np.clip(share, 0.0, LARGEST_BLOOD_SHARE).astype(np.float32)
