"""Gaussian averages of volumes, as products with matrices.

Along an axis of a hundred voxels a matrix product is quicker than passing a window along it, six times so for a wide
window, and other threads of Python run meanwhile.
"""

import functools

import numpy as np
from scipy import ndimage

REACH = 3.0  # standard deviations, at which the Gaussian is cut off


def smoothed(volume: np.ndarray, sigma: np.ndarray | tuple[float, ...], mode: str = "reflect") -> np.ndarray:
    """What `scipy.ndimage.gaussian_filter` makes of a volume, but for rounding.

    Args:
      volume: (x, y, z), finite (a value that is not would be everywhere), taken as float32.
      sigma: (3,) standard deviations in voxels; 0 leaves an axis as it is.
      mode: of SciPy, what lies beyond the border.

    Returns:
      (x, y, z) float32.
    """
    x, y, z = (_window(size, float(width), mode) for size, width in zip(volume.shape, sigma, strict=True))
    turned = np.array(volume.T, np.float32, order="C")  # (z, y, x), as a series lies in memory
    if x is not None:
        turned = turned @ x.T
    if y is not None:
        turned = y @ turned
    if z is not None:
        turned = np.tensordot(z, turned, 1)
    return turned.T


@functools.lru_cache(64)
def _window(size: int, sigma: float, mode: str) -> np.ndarray | None:
    """(size, size) float32, the weights (column) from which each place (row) of an axis is made; None: of itself."""
    if sigma <= 1e-15:  # as SciPy has it
        return None
    return ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=mode, truncate=REACH).astype(np.float32)
