"""Poses as numbers and matrices, interpolation, and what of a motion the bolus mimics."""

import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.perfusion import registration
from dscgan_jax.phantom.anatomy import rotation_matrix


def test_poses_and_their_numbers_are_inverse_and_turn_as_the_phantom_does():
    rng = np.random.default_rng(0)
    millimetres, degrees = rng.normal(0, 3, (20, 3)), rng.normal(0, 5, (20, 3))
    poses = registration.pose_matrices(millimetres, degrees)
    np.testing.assert_allclose(registration._euler_degrees(poses), degrees, atol=1e-9)
    np.testing.assert_array_equal(poses[:, :3, 3], millimetres)
    for pose, angles in zip(poses, degrees, strict=True):
        np.testing.assert_allclose(pose[:3, :3], rotation_matrix(angles), atol=1e-12)


def test_the_angle_of_a_turn_about_one_axis_is_that_turn():
    poses = registration.pose_matrices(np.zeros((3, 3)), np.diag([2.0, -3.0, 0.0]))
    np.testing.assert_allclose(registration.angle_degrees(poses), [2.0, 3.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("order", [registration.LINEAR, registration.CUBIC])
def test_interpolation_of_a_ramp_is_exact_and_knows_what_lies_outside(order):
    x, y, z = np.indices((6, 7, 5)).astype(np.float32)
    ramp = 2 * x - y + 3 * z
    index = np.array([[2.25, 3.5, 2.0], [1.5, 3.0, 2.75], [9.0, 3.0, 2.0]], np.float32)
    values, inside = registration.interpolate(jnp.asarray(ramp), jnp.asarray(index.T), order)
    np.testing.assert_allclose(values[:2], index[:2] @ [2, -1, 3], atol=1e-5)
    assert inside.tolist() == [True, True, False] and values[2] == pytest.approx(2 * 5 - 3 + 6)


def test_too_dark_a_head_is_refused():
    with pytest.raises(registration.NoHeadError, match="expected a head"):
        registration.estimate_poses(np.zeros((16, 16, 4, 8), np.float32), np.eye(4))


def test_a_jerk_during_the_first_pass_is_not_taken_for_the_bolus():
    frames = np.arange(40)
    bolus = 0.3 * np.exp(-0.5 * ((frames - 18) / 3.0) ** 2)
    noise = np.random.default_rng(1).normal(0, 0.01, (40, 2))
    jerk = np.where((frames >= 16) & (frames < 24), 1.5, 0.0)
    course = np.stack([jerk, 2.0 * bolus], axis=1) + noise
    mimicked = registration._mimicked_by_bolus(course, bolus)
    assert not mimicked[:, 0].any()
    np.testing.assert_allclose(mimicked[:, 1], 2.0 * bolus, atol=0.05)
