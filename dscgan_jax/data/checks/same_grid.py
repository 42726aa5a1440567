"""The one answer to "is this file on the grid of the series?", for masks and maps, whoever brings them."""

import pathlib

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import nifti
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError

# Of a voxel's shortest edge, how far corners may be apart: writers round, but half a voxel is a mistake.
TOLERANCE = 0.25


def on_grid(path: pathlib.Path, series: StoredGrid) -> np.ndarray:
    """A 3-D file on the RAS axes of the series.

    The same voxels in another order or direction of axes are turned; nothing is interpolated.

    Args:
      path: NIfTI file.
      series: the grid that it must have.

    Returns:
      (x, y, z) float32, RAS.

    Raises:
      InputError: the file is unreadable, or its voxels are others than the series'.
    """
    volume = nifti.read_volume(path, dims=3)
    return turned(path, volume, series)


def is_same(own: StoredGrid, series: StoredGrid) -> bool:
    """Whether two grids have the same voxels, in whatever order and direction of axes."""
    near_mm = TOLERANCE * voxel_sizes(series.affine).min()
    as_stored = own.shape == series.shape and _apart_mm(own.shape, own.affine, series.affine) <= near_mm
    same_shape = own.ras_shape == series.ras_shape
    return as_stored or (same_shape and _apart_mm(own.ras_shape, own.ras_affine, series.ras_affine) <= near_mm)


def turned(path: pathlib.Path, volume: nifti.Volume, series: StoredGrid) -> np.ndarray:
    """As `on_grid`, of a file that was read already."""
    own = StoredGrid.of(volume.data, volume.affine)
    near_mm = TOLERANCE * voxel_sizes(series.affine).min()
    if own.shape == series.shape and _apart_mm(own.shape, own.affine, series.affine) <= near_mm:
        return series.to_ras(volume.data)
    if own.ras_shape != series.ras_shape:
        raise InputError(
            f"{path}: expected the grid of the series {series.shape}, the file has {own.shape}; resample it to the "
            "series, or draw it there."
        )
    apart_mm = _apart_mm(own.ras_shape, own.ras_affine, series.ras_affine)
    if apart_mm > near_mm:
        raise InputError(
            f"{path}: the file is up to {apart_mm:.1f} mm away from the series though both have shape "
            f"{series.shape} (another affine); resample it to the series, or correct its header."
        )
    return own.to_ras(volume.data)


def _apart_mm(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the same corners of two grids of one shape."""
    last = np.array(shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())
