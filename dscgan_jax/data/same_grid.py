"""The one answer to "does this file lie on the grid of the series?", for masks and maps, whoever brings them."""

import pathlib

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError

TOLERANCE = (
    0.25  # of a voxel's shortest edge: how far corners may lie apart; writers round, but half a voxel is a mistake
)


def on_grid(path: pathlib.Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """A 3-D file on the axes of the series.

    The same voxels in another order or direction of axes are turned; nothing is interpolated.

    Args:
      path: NIfTI file.
      shape: of the series, (x, y, z, ...).
      affine: (4, 4) of the series.

    Returns:
      (x, y, z) float32.

    Raises:
      InputError: the file is unreadable, or its voxels are others than the series'.
    """
    volume = nifti.read_volume(path, dims=3)
    near_mm = TOLERANCE * np.linalg.norm(affine[:3, :3], axis=0).min()
    if volume.data.shape == tuple(shape[:3]) and _apart_mm(shape[:3], volume.affine, affine) <= near_mm:
        return volume.data
    values, own_affine, _ = nifti.to_canonical(volume.data, volume.affine)
    series = np.broadcast_to(np.float32(0), shape[:3])  # holds no memory
    canonical, series_affine, orientation = nifti.to_canonical(series, affine)
    if values.shape != canonical.shape:
        raise InputError(
            f"{path}: expected the grid of the series {tuple(shape[:3])}, the file has {volume.data.shape}; "
            "resample it to the series, or draw it there."
        )
    apart_mm = _apart_mm(values.shape, own_affine, series_affine)
    if apart_mm > near_mm:
        raise InputError(
            f"{path}: the file lies up to {apart_mm:.1f} mm away from the series though both have shape "
            f"{tuple(shape[:3])} (another affine); resample it to the series, or correct its header."
        )
    return np.ascontiguousarray(nifti.from_canonical(values, orientation))


def _apart_mm(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the same corners of two grids of one shape."""
    last = np.array(shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())
