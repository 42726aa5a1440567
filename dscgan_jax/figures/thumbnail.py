"""A small picture by which an exam is known among many."""

import pathlib

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.figures.panels import axial
from dscgan_jax.maps import spec_of

PIXELS = 128  # of the longer side


def slice_of(volume: np.ndarray, inside: np.ndarray) -> int:
    """The slice with most late tissue (Tmax > 6 s); without any, the one with most brain.

    Args:
      volume: (x, y, z) Tmax, s.
      inside: (x, y, z) bool, brain.
    """
    late = (inside & (volume > ink.CONTOUR_SECONDS)).sum(axis=(0, 1))
    return int((late if late.any() else inside.sum(axis=(0, 1))).argmax())


def write(path: pathlib.Path, name: str, volume: np.ndarray, inside: np.ndarray, aspect: float) -> None:
    """Writes one slice of a map as a PNG of a few kilobytes, in the map's own window and colours, black outside.

    Args:
      path: of the file.
      name: of the map; of Tmax the slice with most late tissue is shown, of others the one with most brain.
      volume: (x, y, z) in RAS order, physical units.
      inside: (x, y, z) bool, brain.
      aspect: height of a voxel (y) over its width (x).
    """
    from matplotlib import colormaps
    from matplotlib.image import imsave

    spec = spec_of(name)
    z = slice_of(volume if name == "tmax" else np.zeros_like(volume), inside)
    low, high = spec.window
    around = _around(inside)
    values, brain = (_square(axial(one[around], z), aspect) for one in (volume, inside))
    colours = colormaps[spec.colour_map](np.clip((values - low) / (high - low), 0, 1))[..., :3]
    imsave(path, np.where(brain[..., None], colours, 0.0), format="png")


def _around(inside: np.ndarray) -> tuple[slice, slice]:
    """The part of (x, y) that holds the brain of all slices, and a voxel more on each side."""
    places = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    first, second = (slice(max(0, int(one[0]) - 1), int(one[-1]) + 2) for one in places)
    return first, second


def _square(picture: np.ndarray, aspect: float) -> np.ndarray:
    """A picture (row, col) in square pixels, at most `PIXELS` of them a side, by the nearest voxel."""
    n_rows, n_cols = picture.shape
    scale = min(1.0, PIXELS / max(n_rows * aspect, n_cols))
    rows = _nearest(n_rows, max(1, round(n_rows * aspect * scale)))
    return picture[rows][:, _nearest(n_cols, max(1, round(n_cols * scale)))]


def _nearest(size: int, wanted: int) -> np.ndarray:
    """(wanted,) indices into `size` places."""
    return ((np.arange(wanted) + 0.5) * size / wanted).astype(int)
