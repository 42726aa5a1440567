"""From the exam's grid onto the network grid and back: space alone.

Words: the *network grid* is (slice, row, col), `size` x `size` pixels over the square field of view, row 0 at the front
of the head, col 0 at the patient's right (on the left of the picture, as radiologists look). Between it and the exam's
RAS axes are three small matrices, one for each axis; both grids share their centre.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from einops import rearrange
from nibabel.affines import voxel_sizes

from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.threads import in_threads


@dataclasses.dataclass(frozen=True)
class NetworkGrid:
    """How an exam comes onto the network grid and back.

    Attributes:
      shape: (x, y, z) of the exam, RAS.
      voxel_mm: voxel size along these axes.
      size: rows and columns of the network grid.
      slices: of the network grid.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    size: int
    slices: int

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: np.ndarray, size: int, slices: int = 0) -> "NetworkGrid":
        """The grid over an exam of `shape` (x, y, z, ...) with `affine` (4, 4), RAS; 0 slices: those of the exam."""
        x, y, z = (int(count) for count in shape[:3])
        by_x, by_y, by_z = (float(edge) for edge in voxel_sizes(affine))
        return cls((x, y, z), (by_x, by_y, by_z), size, slices or z)

    @property
    def field_of_view_mm(self) -> float:
        """Side of the square field of view: the longer in-plane side of the exam."""
        return max(self.shape[axis] * self.voxel_mm[axis] for axis in (0, 1))

    def axes(self) -> tuple["_Axis", "_Axis", "_Axis"]:
        """The x, y and z axes, each with the exam's own step and the network's."""
        pixel_mm = self.field_of_view_mm / self.size
        z_mm = self.shape[2] * self.voxel_mm[2]
        return (
            _Axis(self.shape[0], self.voxel_mm[0], self.size, pixel_mm),
            _Axis(self.shape[1], self.voxel_mm[1], self.size, pixel_mm),
            _Axis(self.shape[2], self.voxel_mm[2], self.slices, z_mm / self.slices),
        )


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of exam and network grid, which share their centre: counts, and steps in mm."""

    n_exam: int
    exam_mm: float
    n_network: int
    network_mm: float

    def to_network(self) -> np.ndarray | None:
        """(network, exam) interpolation matrix; None where the grids agree."""
        return resampling_matrix(self.n_exam, self.exam_mm, self.n_network, self.network_mm)

    def to_exam(self) -> np.ndarray | None:
        """(exam, network) interpolation matrix; None where the grids agree."""
        return resampling_matrix(self.n_network, self.network_mm, self.n_exam, self.exam_mm)

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """For each network position the exam voxel that contains it, and whether there is one."""
        centre = _centres(self.n_network, self.network_mm) / self.exam_mm + self.n_exam / 2
        index = np.floor(centre + 1e-6).astype(int)  # a centre on the border of two voxels must not depend on rounding
        return np.clip(index, 0, self.n_exam - 1), (index >= 0) & (index < self.n_exam)


def _centres(count: int, step_mm: float) -> np.ndarray:
    """Positions of `count` samples around their common centre, mm."""
    return (np.arange(count) - (count - 1) / 2) * step_mm


def resampling_matrix(n_from: int, from_mm: float, n_to: int, to_mm: float) -> np.ndarray | None:
    """(to, from) matrix of linear interpolation, widened against aliasing where it samples down.

    Weights are a triangle over the distance, as wide as the coarser of both steps. A position outside the input's
    extent has zero weights: padding is zero, not the repeated edge. None is the identity.
    """
    if n_from == n_to and abs(from_mm - to_mm) < 1e-6 * from_mm:
        return None
    to, source = _centres(n_to, to_mm), _centres(n_from, from_mm)
    reach = max(from_mm, to_mm)
    weights = np.maximum(0.0, 1.0 - np.abs(to[:, None] - source[None, :]) / reach)
    weights[weights < 1e-6] = 0.0  # where grids agree up to an offset, copying stays exact
    inside = np.abs(to) <= n_from * from_mm / 2 * (1 + 1e-6)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(inside[:, None], weights / np.maximum(total, 1e-12), 0.0).astype(np.float32)


def maps_on_network(
    maps: Mapping[str, np.ndarray], mask: np.ndarray, grid: NetworkGrid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps alone onto the network grid.

    A map is averaged over the voxels where it has values, so that the zeros outside the brain do not pull its rim down.

    Args:
      maps: (x, y, z) by name, RAS.
      mask: (x, y, z) bool, RAS.
      grid: of their exam.

    Returns:
      maps (slice, row, col, map) in the order of `MAP_NAMES`, 0 where absent; has_map (map,); mask (slice, row, col).
    """
    network_mask = nearest_on_network(mask, grid)
    stacked = np.zeros((*network_mask.shape, len(MAP_NAMES)), np.float32)
    for index, name in enumerate(MAP_NAMES):
        if name not in maps:
            continue
        support = mask | (maps[name] != 0)
        total = _linear_on_network(np.where(support, maps[name], 0).astype(np.float32), grid)
        weight = _linear_on_network(support.astype(np.float32), grid)
        inside = nearest_on_network(support, grid) & (weight > 0)
        # Dividing by a weight of exactly 1 changes nothing: on an identical grid the map comes through bit by bit.
        stacked[..., index] = np.where(inside, total / np.where(inside, weight, 1), 0)
    return stacked, np.array([name in maps for name in MAP_NAMES]), network_mask


def restore(maps: np.ndarray, grid: NetworkGrid, mask: np.ndarray | None = None) -> np.ndarray:
    """From the network grid back onto the exam's.

    Args:
      maps: (slice, row, col, k) on the network grid.
      grid: of the prepared exam.
      mask: (slice, row, col) bool; where given, only its pixels contribute, and where none reaches the result is 0.

    Returns:
      (x, y, z, k) float32 on the exam's grid, RAS.
    """
    maps = np.asarray(maps, dtype=np.float32)
    if mask is not None:
        weight = restore(mask[..., None].astype(np.float32), grid)
        total = restore(np.where(mask[..., None], maps, 0), grid)
        return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), 0).astype(np.float32)
    volume = rearrange(maps[:, ::-1, ::-1], "slice row col map -> col row slice map")
    for axis, matrix in enumerate(axis.to_exam() for axis in grid.axes()):
        volume = _along(volume, matrix, axis)
    return np.ascontiguousarray(volume)


def _along(array: np.ndarray, matrix: np.ndarray | None, axis: int) -> np.ndarray:
    """Multiplies one axis by an (out, in) matrix; None is the identity."""
    if matrix is None:
        return array
    return np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)


def _linear_on_network(volume: np.ndarray, grid: NetworkGrid) -> np.ndarray:
    """(x, y, z) -> (slice, row, col), linear."""
    for axis, matrix in enumerate(axis.to_network() for axis in grid.axes()):
        volume = _along(volume, matrix, axis)
    return rearrange(volume, "x y z -> z y x")[:, ::-1, ::-1]


def nearest_on_network(mask: np.ndarray, grid: NetworkGrid) -> np.ndarray:
    """(x, y, z) bool -> (slice, row, col), nearest voxel; False outside the exam."""
    (x, x_inside), (y, y_inside), (z, z_inside) = (axis.nearest() for axis in grid.axes())
    inside = z_inside[:, None, None] & y_inside[None, :, None] & x_inside[None, None, :]
    return (rearrange(mask[np.ix_(x, y, z)], "x y z -> z y x") & inside)[:, ::-1, ::-1]


def series_on_network(
    series: np.ndarray, grid: NetworkGrid, weights: np.ndarray | None, inside: np.ndarray | None
) -> np.ndarray:
    """(x, y, z, time) -> (slice, time, row, col) float32; slice by slice, so that little memory is held.

    Args:
      series: (x, y, z, time).
      grid: of the exam.
      weights: (network frame, exam frame), how frames become network frames; None: they are.
      inside: (x, y, z) bool; the series counts as 0 elsewhere.
    """
    by_col, by_row, by_slice = (axis.to_network() for axis in grid.axes())
    n_frames = series.shape[-1] if weights is None else weights.shape[0]
    planes = np.empty((series.shape[2], n_frames, grid.size, grid.size), np.float32)

    def to_plane(z: int) -> None:
        # Each step is one large matrix product: a product for each frame is many times slower on a busy machine.
        plane = rearrange(series[:, :, z], "x y time -> y time x")
        if inside is not None:
            plane = np.where(inside[:, :, z].T[:, None], plane, np.float32(0))
        n_y, n_time, n_x = plane.shape
        if by_col is not None:
            plane = (plane.reshape(n_y * n_time, n_x) @ by_col.T).reshape(n_y, n_time, grid.size)
        if by_row is not None:
            plane = (by_row @ plane.reshape(n_y, n_time * grid.size)).reshape(grid.size, n_time, grid.size)
        plane = rearrange(plane[::-1, :, ::-1], "row time col -> time row col")
        planes[z] = plane if weights is None else np.tensordot(weights, plane, axes=1)

    in_threads(to_plane, range(series.shape[2]))
    return _along(planes, by_slice, 0)
