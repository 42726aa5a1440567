"""A randomly deformed head: which share of each voxel is which tissue, and where the large vessels run.

Everything is a closed expression of the position in millimetres, so that the same head can be drawn on any grid, in
three dimensions. Head coordinates are those of a brain atlas: x to the right, y to the front, z up, origin at the
anterior commissure; a random affine map and a smooth random displacement take scanner coordinates to them.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

BRAIN_CENTRE = np.array([0.0, -17.0, 8.0])  # mm, head coordinates
BRAIN_HALF_AXES = np.array([69.0, 86.0, 69.0])  # mm
FOLD_CENTRE = np.array([0.0, -17.0, 5.0])  # mm; folds and sulci are oriented towards it
SKULL_MM, SCALP_MM, MENINGES_MM = 6.0, 6.0, 2.5


class SmoothField:
    """A random smooth function of position with mean 0 and standard deviation 1: a sum of plane waves.

    Unlike filtered noise it does not depend on a grid.
    """

    def __init__(self, rng: np.random.Generator, wavelength_mm: float, waves: int = 32):
        directions = rng.standard_normal((waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = wavelength_mm * rng.uniform(0.75, 1.35, (waves, 1))
        self.wave_vectors = (2 * np.pi * directions / lengths).astype(np.float32)  # (wave, 3), rad/mm
        self.phases = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
        self.height = np.float32(np.sqrt(2.0 / waves))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) positions in mm -> (...) float32."""
        return self._sum(points, gradient=False)[0]

    def with_slope(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and the length of the gradient, 1/mm."""
        return self._sum(points, gradient=True)

    def _sum(self, points: np.ndarray, gradient: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Values (...) of positions (..., 3), and the length of the gradient where it is wanted."""
        flat = points.reshape(-1, 3)
        values, slopes = np.empty(len(flat), np.float32), np.empty(len(flat) if gradient else 0, np.float32)
        for begin in range(0, len(flat), 4096):  # the phases of one block stay in the processor's cache
            rows = slice(begin, begin + 4096)
            phase = flat[rows] @ self.wave_vectors.T + self.phases
            values[rows] = np.cos(phase).sum(axis=1) * self.height
            if gradient:
                slopes[rows] = np.linalg.norm(np.sin(phase) @ self.wave_vectors, axis=1) * self.height
        shape = points.shape[:-1]
        return values.reshape(shape), slopes.reshape(shape) if gradient else None


@dataclasses.dataclass(frozen=True)
class Grid:
    """The places of the voxels: axis-parallel, RAS, the centre of the volume at the world's origin.

    Attributes:
      shape: (x, y, z) voxels.
      voxel_mm: (x, y, z) spacing.
      centre_mm: head coordinates of the centre of the volume, before pose and deformation.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float]

    def affine(self) -> np.ndarray:
        """(4, 4), voxel index -> world mm."""
        affine = np.diag([*self.voxel_mm, 1.0])
        affine[:3, 3] = -0.5 * (np.array(self.shape) - 1) * self.voxel_mm
        return affine

    def points(self) -> np.ndarray:
        """(x, y, z, 3) world positions, mm, float32."""
        axes = [(np.arange(n) - 0.5 * (n - 1)) * step for n, step in zip(self.shape, self.voxel_mm, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)

    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return float(np.prod(self.voxel_mm)) / 1000.0

    def blur_mm(self) -> float:
        """Width over which a tissue border spreads: a voxel in plane, and the slice that cuts it at an angle."""
        return float(np.hypot(self.voxel_mm[0], 0.35 * self.voxel_mm[2]))


class Head:
    """One person's shape. Draws its parameters at once, so that they do not depend on the grid."""

    def __init__(self, rng: np.random.Generator):
        self.scale = 1.0 + 0.035 * rng.standard_normal(3).clip(-2, 2)  # head coordinates per mm of scanner
        self.angles_degrees = rng.standard_normal(3).clip(-2, 2) * (3.0, 1.5, 2.5)
        self.shift_mm = rng.standard_normal(3).clip(-2, 2) * (2.0, 2.0, 2.0)
        self.warp_mm = 1.7
        self.warp = [SmoothField(rng, 95.0) for _ in range(3)]
        self.folds = SmoothField(rng, rng.uniform(22.0, 25.0), waves=48)
        self.fold_depth = SmoothField(rng, 40.0)
        self.cortex_mm = rng.uniform(2.8, 3.4)
        self.sulcus_mm = rng.uniform(0.5, 0.9)  # half width
        self.sulcus_depth_mm = rng.uniform(16.0, 20.0)
        self.ventricle_scale = rng.uniform(0.75, 1.5)
        self.turn(self.angles_degrees)
        self.vessel_jitter = rng.standard_normal((64, 3)).clip(-2, 2) * 1.5

    def turn(self, angles_degrees: Sequence[float] | np.ndarray) -> None:
        """Poses the head: pitch, roll and yaw about x, y and z."""
        self.angles_degrees = np.array(angles_degrees)
        self.rotation = rotation_matrix(self.angles_degrees)

    def parameters(self) -> dict[str, object]:
        """What was drawn, as plain values."""
        return {
            "scale": self.scale.tolist(),
            "angles_degrees": self.angles_degrees.tolist(),
            "shift_mm": self.shift_mm.tolist(),
            "cortex_mm": float(self.cortex_mm),
            "sulcus_half_width_mm": float(self.sulcus_mm),
            "sulcus_depth_mm": float(self.sulcus_depth_mm),
            "ventricle_scale": float(self.ventricle_scale),
        }

    def from_scanner(self, points: np.ndarray, grid: Grid) -> np.ndarray:
        """World mm of the scanner (..., 3) -> head coordinates, mm, float32."""
        matrix = (self.rotation * self.scale[:, None]).astype(np.float32)
        rigid = points @ matrix.T + (np.array(grid.centre_mm) + self.shift_mm).astype(np.float32)
        return rigid + self._displacement(rigid)

    def to_scanner(self, points: np.ndarray, grid: Grid) -> np.ndarray:
        """Inverse of `from_scanner`, by fixed-point iteration (the displacement is smooth and small)."""
        points = np.asarray(points, np.float32)
        rigid = points
        for _ in range(4):
            rigid = points - self._displacement(rigid)
        matrix = (self.rotation * self.scale[:, None]).astype(np.float32)
        return (rigid - (np.array(grid.centre_mm) + self.shift_mm).astype(np.float32)) @ np.linalg.inv(matrix).T

    def _displacement(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) mm of positions (..., 3)."""
        return self.warp_mm * np.stack([field(points) for field in self.warp], axis=-1)


def rotation_matrix(angles_degrees: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z (fixed axes): Rz Ry Rx."""
    x, y, z = np.deg2rad(angles_degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rz @ ry @ rx


@dataclasses.dataclass(frozen=True)
class Tissues:
    """Shares of each voxel in 0..1, (voxel,), of the voxels in the head; with air they add up to 1.

    `depth_mm` is the depth below the smooth surface of the brain (negative outside). `grey` includes the deep nuclei,
    whose share is `deep_grey`; arterial blood is not part of this table (`vessels.py` puts it on top).
    """

    grey: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    sinus: np.ndarray
    skull: np.ndarray
    scalp: np.ndarray
    deep_grey: np.ndarray
    depth_mm: np.ndarray

    def with_fluid(self, share: np.ndarray) -> "Tissues":
        """With CSF in the place of that share (voxel,) of the tissue."""
        keep = 1.0 - share
        return dataclasses.replace(
            self,
            grey=self.grey * keep,
            white=self.white * keep,
            deep_grey=self.deep_grey * keep,
            csf=self.csf + share * (self.grey + self.white),
        )


def hull_depth(points: np.ndarray) -> np.ndarray:
    """Depth below the smooth inner surface of the skull, mm, positive inside."""
    offset = points - BRAIN_CENTRE.astype(np.float32)
    narrow = 1.0 - 0.0011 * offset[..., 1]  # narrower in front than behind
    scaled = np.abs(offset) / BRAIN_HALF_AXES.astype(np.float32)
    scaled[..., 0] /= narrow
    radius = (scaled**2.25).sum(axis=-1) ** (1 / 2.25)
    return (1.0 - radius) * np.linalg.norm(offset, axis=-1) / np.maximum(radius, 0.05)


def tissues_of(head: Head, points: np.ndarray, blur_mm: float) -> Tissues:
    """Tissue shares at head coordinates (voxel, 3); borders as wide as a voxel make partial volumes."""
    x, y, z = points.T
    lateral = np.abs(x)
    hull = hull_depth(points)

    cerebrum = np.minimum(hull, z - _base(lateral, y))
    cerebellum = _ellipsoid(points, (0.0, -63.0, -36.0), (50.0, 31.0, 22.0))
    stem = _chain(points, np.array([[0, -20, -8], [0, -26, -25], [0, -34, -60]]), (13.0, 13.0, 9.0))
    depth = np.maximum(cerebrum, np.maximum(np.minimum(cerebellum, hull), np.minimum(stem, hull)))
    in_stem = stem > np.maximum(cerebrum, cerebellum)

    # Sheets of CSF that the cortex follows: sulci, lateral (Sylvian) fissures, the cleft between the hemispheres.
    sulci = _sulci(head, points, cerebrum, cerebellum)
    fissures = np.minimum(_lateral_fissure(lateral, y, z), _midline_cleft(x, y, z))
    csf = np.maximum.reduce(
        [
            _inside(-depth, blur_mm),
            _sheet(sulci, head.sulcus_mm, blur_mm),
            _sheet(fissures, head.sulcus_mm + 0.5, blur_mm),
        ]
    )
    rim = np.maximum.reduce(
        [
            _inside(head.cortex_mm - depth, blur_mm),
            _sheet(sulci, head.sulcus_mm + head.cortex_mm, blur_mm),
            _sheet(fissures, head.sulcus_mm + 0.5 + head.cortex_mm, blur_mm),
        ]
    )
    rim = np.where(in_stem, csf, rim)  # the brain stem has no cortex
    grey = np.clip(rim - csf, 0.0, None)

    ventricles = _inside(_ventricles(points, lateral, head.ventricle_scale), blur_mm)
    deep = _inside(_nuclei(lateral, y, z), blur_mm)
    csf = np.maximum(csf, ventricles)
    grey *= 1.0 - ventricles
    white = np.clip(1.0 - csf - grey, 0.0, None)
    deep = np.minimum(deep, white + grey)
    grey, white = np.maximum(grey, deep), white - np.clip(deep - grey, 0.0, None)

    # Outside the brain: CSF within a few millimetres, then bone; outside the hull: meninges, skull, scalp.
    inside_skull = _inside(hull + MENINGES_MM, blur_mm)
    near_brain = _inside(depth + 6.0, 2 * blur_mm)
    csf_inside = np.where(depth < 0, csf * near_brain, csf)
    bone_inside = np.clip(1.0 - csf_inside - grey - white, 0.0, None)
    in_skull = _inside(hull + MENINGES_MM + SKULL_MM, blur_mm)
    in_head = _inside(hull + MENINGES_MM + SKULL_MM + SCALP_MM, blur_mm)
    sinus = _inside(_sinuses(points, hull), blur_mm) * in_skull
    skull = (in_skull - inside_skull) + bone_inside * inside_skull
    keep = 1.0 - sinus
    return Tissues(
        grey=grey * inside_skull * keep,
        white=white * inside_skull * keep,
        csf=csf_inside * inside_skull * keep,
        sinus=sinus,
        skull=skull * keep,
        scalp=(in_head - in_skull) * keep,
        deep_grey=deep * inside_skull * keep,
        depth_mm=depth,
    )


# --------------------------------------------------------------------------------------------- shapes


def _inside(depth: np.ndarray, blur_mm: float) -> np.ndarray:
    """Share of a voxel inside a surface, from the depth of its centre below that surface."""
    return np.clip(0.5 + depth / blur_mm, 0.0, 1.0)


def _sheet(distance: np.ndarray, half_width_mm: float, blur_mm: float) -> np.ndarray:
    """Share of a voxel inside a sheet, from the distance of its centre to the sheet's middle."""
    return _inside(distance + half_width_mm, blur_mm) - _inside(distance - half_width_mm, blur_mm)


def _ellipsoid(points: np.ndarray, centre: Sequence[float], half_axes: Sequence[float]) -> np.ndarray:
    """Approximate depth below an ellipsoid's surface, mm."""
    offset = (points - np.array(centre, np.float32)) / np.array(half_axes, np.float32)
    radius = np.linalg.norm(offset, axis=-1)
    return (1.0 - radius) * min(half_axes)


def _chain(points: np.ndarray, knots: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """Depth below the surface of a chain of tapering rods through `knots`, mm."""
    best = np.full(points.shape[:-1], -np.inf, np.float32)
    for (start, end), (first, last) in zip(itertools.pairwise(knots), itertools.pairwise(radii), strict=True):
        axis = (end - start).astype(np.float32)
        offset = points - start.astype(np.float32)
        along = np.clip(offset @ axis / (axis @ axis), 0.0, 1.0)
        distance = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
        best = np.maximum(best, first + (last - first) * along - distance)
    return best


def _base(lateral: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the cerebrum's lower surface: deep temporal lobes, vessels in the middle, the tentorium behind."""
    temporal = np.exp(-(((lateral - 44) / 19) ** 2) - ((y + 6) / 30) ** 2)
    middle = np.exp(-((lateral / 15) ** 2) - ((y + 2) / 18) ** 2)
    behind = 1.0 / (1.0 + np.exp((y + 42) / 7))
    return -24.0 - 19.0 * temporal + 12.0 * middle + behind * (12.0 - 0.15 * lateral)


def _sulci(head: Head, points: np.ndarray, cerebrum: np.ndarray, cerebellum: np.ndarray) -> np.ndarray:
    """Distance to the nearest sulcus: zero sheets of a smooth field, down to some depth.

    In the cerebrum the field runs towards the centre, so that its sheets stand upright on the surface; in the
    cerebellum it is squeezed along z, so that its sheets are flat and close.
    """
    offset = points - FOLD_CENTRE.astype(np.float32)
    radius = np.linalg.norm(offset, axis=-1)
    in_cerebellum = cerebellum > cerebrum
    pull = np.where(in_cerebellum, 1.3, 0.25 + 0.75 * 70.0 / np.maximum(radius, 30.0)).astype(np.float32)
    stretched = offset * pull[:, None]
    stretched[:, 2] *= np.where(in_cerebellum, 1.8, 1.0)
    value, slope = head.folds.with_slope(stretched)
    distance = np.abs(value) / np.maximum(slope * pull, 0.06)
    bottom = head.sulcus_depth_mm * (1.0 + 0.35 * head.fold_depth(points))
    below = np.clip(np.maximum(cerebrum, cerebellum) - bottom, 0.0, None)
    central = np.where(in_cerebellum, 0.0, np.clip(40.0 - np.hypot(radius, 0.6 * offset[:, 2]), 0.0, None))
    return np.hypot(distance, np.hypot(below, central))


def _lateral_fissure(lateral: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance to the lateral fissure and to the cistern before the insula."""
    height = 2.0 - 0.30 * (y + 5.0)  # rises backwards
    cleft = np.hypot(z - height, np.hypot(np.clip(39.0 - lateral, 0, None), np.clip(np.abs(y + 8) - 30.0, 0, None)))
    island = np.hypot(
        lateral - 39.5,
        np.hypot(np.clip(np.abs(y - 1) - 20.0, 0, None), np.clip(np.abs(z - 4 + 0.2 * y) - 12.0, 0, None)),
    )
    return np.minimum(cleft, island)


def _midline_cleft(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance to the cleft between the hemispheres, which ends at the corpus callosum."""
    radius = np.hypot((y + 16.0) / 47.0, (z - 2.0) / 25.0)
    return np.hypot(x, np.clip((1.0 - radius) * 25.0, 0.0, None))


def _ventricles(points: np.ndarray, lateral: np.ndarray, scale: float) -> np.ndarray:
    """Depth inside the ventricles, mm."""
    mirrored = np.stack([lateral, points[..., 1], points[..., 2]], axis=-1)
    body = _chain(
        mirrored,
        np.array([[12, 27, 3], [9, 12, 17], [12, -16, 23], [22, -37, 15], [25, -62, 6]]),
        np.array([3.6, 4.2, 4.4, 5.4, 2.2]) * scale,
    )
    temporal = _chain(mirrored, np.array([[23, -37, 13], [33, -22, -11]]), np.array([3.5, 1.8]) * scale)
    third = np.minimum(
        1.9 * scale - lateral, np.minimum(14.0 - np.abs(points[..., 1] + 13.0), 8.0 - np.abs(points[..., 2]))
    )
    fourth = _ellipsoid(points, (0.0, -46.0, -33.0), (6.0, 4.5, 8.0))
    return np.maximum.reduce([body, temporal, third, fourth])


def _nuclei(lateral: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Depth inside the deep grey nuclei, mm."""
    mirrored = np.stack([lateral, y, z], axis=-1)
    lentiform = _ellipsoid(
        mirrored - np.stack([0.25 * np.abs(y - 2.0), 0 * y, 0 * z], axis=-1) * -0.35,
        (26.5, 2.0, 1.0),
        (6.5, 17.0, 11.0),
    )
    caudate = _chain(mirrored, np.array([[15.5, 22, 3], [15, 9, 15], [19, -15, 23]]), (5.2, 4.2, 2.6))
    thalamus = _ellipsoid(mirrored, (11.5, -18.0, 6.0), (8.5, 14.0, 9.0))
    return np.maximum.reduce([lentiform, caudate, thalamus])


def _sinuses(points: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Depth inside the large venous sinuses: sagittal, straight and transverse."""
    x, y, z = points.T
    radius = 2.6 + 2.2 / (1.0 + np.exp((y + 20.0) / 25.0))  # collects blood towards the back
    ends = np.minimum(np.where(y < -40, z + 18.0, z - 25.0), 60.0 - y)
    sagittal = np.minimum(radius - np.hypot(x, hull + 1.0), ends)
    straight = _chain(points, np.array([[0, -48, 8], [0, -88, -10]]), (2.3, 3.0))
    transverse = np.minimum(3.8 - np.hypot(hull + 1.0, z + 15.0), -45.0 - y)
    return np.maximum.reduce([sagittal, straight, transverse])
