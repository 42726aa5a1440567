"""From the axes of a file to RAS and back: nothing moves in the world."""

import itertools

import numpy as np
import pytest

from dscgan_jax.data.geometry import StoredGrid

SHAPE = (2, 3, 4)
DATA = np.arange(48, dtype=np.float32).reshape(*SHAPE, 2)


def affine_of(axes, signs, voxel_mm=(2.0, 3.0, 5.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(voxel_mm) @ np.eye(3)[list(axes)]) * np.array(signs)
    affine[:3, 3] = 7, -8, 9
    return affine


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_to_ras_and_back_for_every_orientation(axes):
    for signs in itertools.product((1, -1), repeat=3):
        stored = StoredGrid.of(DATA, affine_of(axes, signs))
        ras = stored.to_ras(DATA)
        np.testing.assert_array_equal(stored.ras_affine[:3, :3], np.diag([2.0, 3.0, 5.0]))
        assert ras.shape[:3] == stored.ras_shape
        np.testing.assert_array_equal(stored.to_stored(ras), DATA)
        # A voxel keeps its place in the world.
        index = np.argwhere(ras[..., 0] == DATA[1, 2, 3, 0])[0]
        np.testing.assert_allclose(stored.ras_affine @ [*index, 1], stored.affine @ [1, 2, 3, 1])


def test_an_oblique_affine_keeps_its_angles():
    oblique = np.array([[-1.9, 0.3, 0.1, 20.0], [0.3, 2.4, -0.8, -15.0], [0.1, 0.8, 4.8, 4.0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(StoredGrid(SHAPE, oblique).ras_affine[:3, :3], oblique[:3, :3] * [-1, 1, 1])


@pytest.mark.parametrize(("voxel_mm", "axis"), [((2.0, 2.0, 5.0), 2), ((5.0, 2.0, 2.0), 0), ((2.0, 2.0, 2.0), 0)])
def test_slices_run_along_the_thickest_edge_or_the_last_stored_axis(voxel_mm, axis):
    stored = StoredGrid(SHAPE, affine_of((2, 0, 1), (1, 1, -1), voxel_mm))  # stored as (z, x, y) of the world
    assert stored.slice_axis == axis
