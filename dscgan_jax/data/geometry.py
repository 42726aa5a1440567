"""Where voxels lie: the axes of a file, RAS axes, and the way between them.

Words: the *affine* takes voxel indices to millimetres in RAS+ world space. *RAS axes* are the axis order and direction
closest to right, anterior, superior, reached by permuting and flipping axes alone, so that the affine stays exact;
oblique affines keep their angles. Reading turns to RAS, the writer of maps turns back, and nothing between them turns.
"""

import dataclasses

import numpy as np
from nibabel import orientations

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion.checks.head import slice_axis

MM3_PER_ML = 1000.0
Orientation = tuple[tuple[int, int], ...]  # for each stored axis: the RAS axis it becomes, and +1 or -1


def check_affine(affine: np.ndarray, where: str) -> None:
    """Refuses what is no affine of an image.

    Raises:
      InputError: another shape than (4, 4), values that are not finite, or no way back from millimetres to voxels.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(
            f"{where}: expected an affine (4, 4), voxel index -> millimetres, finite and invertible, got shape "
            f"{affine.shape}: {np.round(affine, 3).tolist()}"
        )


def voxel_ml(affine: np.ndarray) -> float:
    """Volume of a voxel, mL."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML


@dataclasses.dataclass(frozen=True)
class StoredGrid:
    """The voxels of a file, as it stores them.

    Attributes:
      shape: (x, y, z).
      affine: (4, 4) voxel index as stored -> millimetres, RAS+.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, affine: np.ndarray) -> "StoredGrid":
        """The grid of an array (x, y, z, ...) as stored."""
        x, y, z = array.shape[:3]
        return cls((int(x), int(y), int(z)), np.asarray(affine))

    @property
    def orientation(self) -> Orientation:
        """How the stored axes become RAS."""
        return tuple((int(axis), int(sign)) for axis, sign in orientations.io_orientation(self.affine))

    @property
    def ras_affine(self) -> np.ndarray:
        """(4, 4) voxel index on RAS axes -> millimetres."""
        return self.affine @ orientations.inv_ornt_aff(np.array(self.orientation), self.shape)

    @property
    def ras_shape(self) -> tuple[int, int, int]:
        """(x, y, z) on RAS axes."""
        places = {axis: count for (axis, _), count in zip(self.orientation, self.shape, strict=True)}
        return places[0], places[1], places[2]

    @property
    def slice_axis(self) -> int:
        """The RAS axis along which the slices were acquired: of equal steps, the last stored one."""
        return self.orientation[slice_axis(self.affine)][0]

    def to_ras(self, array: np.ndarray) -> np.ndarray:
        """An array (x, y, z, ...) as stored, on RAS axes; a view."""
        return orientations.apply_orientation(array, np.array(self.orientation))

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """Inverse of `to_ras`; contiguous."""
        for axis, sign in self.orientation:
            if sign < 0:
                array = np.flip(array, axis)
        order = [axis for axis, _ in self.orientation] + list(range(3, array.ndim))
        return np.ascontiguousarray(array.transpose(order))
