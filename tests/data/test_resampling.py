"""From grid to grid by the affines: a linear ramp stays one, and nothing is mixed with the 0 outside."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dscgan_jax.data import resampling

SHAPE = (20, 24, 8)
AFFINE = np.array([[2.0, 0, 0, -20], [0, 2.0, 0, -24], [0, 0, 5.0, -17], [0, 0, 0, 1]])
SLOPE = np.array([0.3, -0.2, 0.5])  # per mm


def ramp(shape, affine):
    """A quantity that is linear in space, at the centres of the voxels."""
    index = np.stack(np.indices(shape), axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE + 100.0


def oblique(edges=(1.5, 1.5, 2.0), degrees=(10.0, -7.0, 20.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(edges)
    affine[:3, 3] = -affine[:3, :3] @ [9.5, 9.5, 7.5]  # both grids have the same centre
    return affine


def test_a_shift_of_a_voxel_moves_the_values_by_one():
    shifted = AFFINE.copy()
    shifted[0, 3] += 2.0
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    moved = resampling.map_onto(values, np.ones(SHAPE, bool), AFFINE, SHAPE, shifted)
    np.testing.assert_array_equal(moved[:-1], values[1:])
    assert not moved[-1].any()


def test_a_ramp_on_an_oblique_grid_is_the_same_ramp():
    shape, affine = (20, 20, 16), oblique()
    moved = resampling.map_onto(ramp(SHAPE, AFFINE), np.ones(SHAPE, bool), AFFINE, shape, affine)
    inside = np.zeros(SHAPE, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    deep = resampling.mask_onto(inside, AFFINE, shape, affine)
    assert deep.mean() > 0.8
    np.testing.assert_allclose(moved[deep], ramp(shape, affine)[deep], rtol=1e-5)


def test_the_rim_of_a_mask_keeps_its_values():
    inside = np.zeros(SHAPE, bool)
    inside[5:15, 6:18, 2:6] = True
    values = np.where(inside, 7.0, np.nan)  # what is outside is never read
    shape, affine = (20, 20, 16), oblique()
    moved = resampling.map_onto(values, inside, AFFINE, shape, affine)
    np.testing.assert_allclose(moved[moved != 0], 7.0, rtol=1e-6)
    volume = (moved != 0).sum() * abs(np.linalg.det(affine)) / (inside.sum() * abs(np.linalg.det(AFFINE)))
    assert volume == pytest.approx(1.0, abs=0.1)


def test_a_mask_keeps_its_place_and_volume():
    inside = np.zeros(SHAPE, bool)
    inside[5:15, 6:18, 2:6] = True
    fine = AFFINE @ np.diag([0.5, 0.5, 0.2, 1])
    fine[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.4, 1])[:3]
    moved = resampling.mask_onto(inside, AFFINE, (40, 48, 40), fine)
    np.testing.assert_array_equal(moved, inside.repeat(2, 0).repeat(2, 1).repeat(5, 2))


def test_the_covered_share_counts_voxel_centres():
    mask = np.ones(SHAPE, bool)
    assert resampling.covered_share(mask, AFFINE, SHAPE, AFFINE) == 1.0
    assert resampling.covered_share(mask, AFFINE, (10, 24, 8), AFFINE) == 0.5
    away = AFFINE.copy()
    away[0, 3] += 500
    assert resampling.covered_share(mask, AFFINE, SHAPE, away) == 0.0
