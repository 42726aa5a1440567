"""Whether a file lies on the grid of the series.

The same voxels in any order pass, everything else is refused by name.
"""

import numpy as np
import pytest

from dscgan_jax.data import nifti
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError

SHAPE = (12, 10, 4)
AFFINE = np.array([[-1.8, 0, 0, 10], [0, 1.8, 0, -9], [0, 0, 5.0, 3], [0, 0, 0, 1]])
VALUES = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def read(tmp_path, values, affine, shape=SHAPE, series_affine=AFFINE):
    nifti.write_volume(tmp_path / "mask.nii.gz", values, affine)
    series = StoredGrid(shape, series_affine)
    return series.to_stored(same_grid.on_grid(tmp_path / "mask.nii.gz", series))


def turned(axes, flips):
    """The same voxels stored in another order of axes, some of them backwards, and their affine."""
    values, affine = VALUES.transpose(axes), np.eye(4)
    affine[:3, :3], affine[:3, 3] = AFFINE[:3, axes], AFFINE[:3, 3]
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
        values = np.flip(values, axis)
    return values, affine


@pytest.mark.parametrize(
    ("axes", "flips"), [((0, 1, 2), ()), ((0, 1, 2), (0,)), ((0, 1, 2), (1, 2)), ((1, 0, 2), (0,)), ((2, 0, 1), (0, 2))]
)
def test_the_same_voxels_in_another_order_are_turned(tmp_path, axes, flips):
    np.testing.assert_array_equal(read(tmp_path, *turned(axes, flips)), VALUES)


def test_an_oblique_grid_that_was_rounded_is_the_same(tmp_path):
    angle = np.deg2rad(45)  # either order of axes is as close to RAS as the other
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = AFFINE.copy()
    oblique[:3, :3] = turn @ AFFINE[:3, :3]
    for nudge in (-1e-5, 1e-5):
        np.testing.assert_array_equal(
            read(tmp_path, VALUES, oblique + nudge * np.eye(4), series_affine=oblique), VALUES
        )


def _moved(**changes):
    affine = AFFINE.copy()
    for place, value in changes.values():
        affine[place] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (AFFINE @ np.diag([1.25, 1.25, 1, 1]), "6.4 mm"),  # voxels of 2.25 mm: only the entry differs by less than 0.5
        (_moved(origin=((0, 3), 60.0)), "50.0 mm"),
        (_moved(half=((1, 3), -8.1)), "0.9 mm"),
        (_moved(flip=((0, 0), 1.8)), "19.8 mm"),
        (_moved(slices=((2, 2), 4.6)), "1.2 mm"),
    ],
)
def test_another_place_or_voxel_size_is_refused_with_the_distance(tmp_path, affine, apart):
    with pytest.raises(InputError, match=rf"mask\.nii\.gz: the file is up to {apart} away from the series") as caught:
        read(tmp_path, VALUES, affine)
    assert "\n" not in str(caught.value)


def test_another_shape_is_refused_with_both(tmp_path):
    with pytest.raises(
        InputError, match=r"\.nii\.gz: expected the grid of the series \(12, 10, 4\), the file has \(12, 10, 3\)"
    ):
        read(tmp_path, VALUES[..., :3], AFFINE)
