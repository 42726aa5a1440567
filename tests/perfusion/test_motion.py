"""Realignment: movements that we made are found and undone, and a bolus in a head that lies still is no movement."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import motion, registration
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom import exam as phantom
from dscgan_jax.phantom.anatomy import rotation_matrix

AFFINE = np.diag([4.0, 4.0, 6.0, 1.0])
AFFINE[:3, 3] = [-94.0, -90.0, -27.0]
SHAPE = (48, 48, 12)


@functools.cache
def _textured_head():
    """A bright ellipsoid with structures of about 10 mm."""
    texture = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), (2.5, 2.5, 1.7))
    place = (np.indices(SHAPE) - np.reshape((np.array(SHAPE) - 1) / 2, (3, 1, 1, 1))) / np.reshape(
        [16, 18, 9], (3, 1, 1, 1)
    )
    soft = ndimage.gaussian_filter((np.sum(place**2, axis=0) < 1).astype(float), 0.8)
    return 1000.0 * soft * (1.0 + 0.25 * texture / texture.std()).clip(0.2)


def _pose(axis, amount):
    """(4, 4): a shift in mm along axis 0, 1, 2 or a turn in degrees about it (3, 4, 5), about the volume's centre."""
    matrix, values = np.eye(4), np.zeros(6)
    values[axis] = amount
    centre = AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + AFFINE[:3, 3]
    matrix[:3, :3] = rotation_matrix(values[3:])
    matrix[:3, 3] = values[:3] + centre - matrix[:3, :3] @ centre
    return matrix


def _moved(volume, pose, affine=AFFINE):
    """The volume whose point p has gone to `pose` p, by splines."""
    back = np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine
    return ndimage.affine_transform(volume, back[:3, :3], back[:3, 3], order=3, mode="nearest")


POSES = [(axis, sign * amount) for axis, amount in enumerate((2.0, 3.0, 2.5, 2.0, 1.5, 4.0)) for sign in (1, -1)]


@pytest.fixture(scope="module")
def jerks():
    """Six frames at rest, then one frame for each of `POSES`: series, true transforms and what was found."""
    head = _textured_head()
    transforms = np.stack([np.eye(4)] * 6 + [_pose(*pose) for pose in POSES])
    noise = np.random.default_rng(0).normal(0, 5, (*SHAPE, len(transforms)))
    series = (np.stack([_moved(head, pose) for pose in transforms], axis=3) + noise).astype(np.float32)
    return series, transforms, motion.realign(series, AFFINE)


@functools.cache
def _phantom(moves):
    return phantom.draw_phantom(
        "acute", (200, 4), size=64, slices=8, imperfections=acquisition.Imperfections(motion=moves)
    )


@functools.cache
def _realigned(moves):
    drawn = _phantom(moves)
    return motion.realign(drawn.series, drawn.affine)


def _residual(found, true, mask, affine):
    """(time,) mean distance in mm over the mask's voxels between where they are and where they are said to be."""
    points = np.concatenate([np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3], np.ones((mask.sum(), 1))], axis=1)
    return np.linalg.norm((points @ np.swapaxes(found - true, 1, 2))[..., :3], axis=2).mean(axis=1)


@pytest.mark.parametrize(
    "number", range(len(POSES)), ids=[f"{'xyz'[a % 3]}-{'mm' if a < 3 else 'deg'}{v:+}" for a, v in POSES]
)
def test_shifts_and_turns_of_both_signs_are_found(jerks, number):
    _, _, found = jerks
    axis, amount = POSES[number]
    expected = np.zeros(6)
    expected[axis] = amount
    np.testing.assert_allclose(np.r_[found.millimetres[6 + number], found.degrees[6 + number]], expected, atol=0.1)


def test_shifts_and_angles_are_the_transforms_about_the_centre(jerks):
    _, true, found = jerks
    assert found.moved and found.largest_mm == pytest.approx(3.0, abs=0.1)
    assert found.largest_degrees == pytest.approx(4.0, abs=0.1)
    for transform, shift, angles in zip(found.transforms, found.millimetres, found.degrees, strict=True):
        point = np.array([30.0, -20.0, 10.0])
        there = rotation_matrix(angles) @ (point - found.centre_mm) + found.centre_mm + shift
        np.testing.assert_allclose((transform @ np.r_[point, 1.0])[:3], there, atol=1e-6)
    assert _residual(found.transforms, true, _textured_head() > 300, AFFINE).max() < 0.1


def test_moved_frames_come_back_and_still_ones_stay_bit_for_bit(jerks):
    series, _, found = jerks
    assert found.resampled.tolist() == [False] * 6 + [True] * len(POSES)
    assert found.series.dtype == np.float32 and found.series is not series
    np.testing.assert_array_equal(found.series[..., :6], series[..., :6])
    inner = (slice(8, 40), slice(8, 40), slice(3, 9))
    off = lambda frames: np.abs(frames[inner][..., 6:] - _textured_head()[inner][..., None]).mean()  # noqa: E731
    assert off(found.series) < 0.35 * off(series)


def test_what_comes_from_outside_the_volume_is_tissue_and_not_zero(jerks):
    series, _, found = jerks
    up, down = (6 + POSES.index((2, sign * 2.5)) for sign in (1, -1))
    bright = _textured_head() > 500
    for frame, edge in ((up, 11), (down, 0)):
        there = bright[:, :, edge]
        ratio = found.series[:, :, edge, frame][there] / series[:, :, edge, 0][there]
        assert 0.9 < np.median(ratio) < 1.1 and ratio.min() > 0.3


@pytest.mark.parametrize(
    ("mm", "degrees", "severity"), [(3.0, 3.0, "note"), (6.0, 0.0, "warning"), (0.0, 6.0, "warning")]
)
def test_frames_that_were_far_away_are_a_warning_though_they_were_brought_back(mm, degrees, severity):
    shift, angles = np.zeros((4, 3)), np.zeros((4, 3))
    shift[2:, 2], angles[2:, 0] = mm, degrees
    series = np.ones((2, 2, 2, 4), np.float32)
    poses = registration.pose_matrices(shift, angles)
    moved = motion.Realignment(series, poses, shift, angles, np.zeros(3), np.arange(4) >= 2, False)
    [told] = motion.findings_of(moved)
    assert (told.name, told.severity, told.value) == ("motion_corrected", severity, mm)
    assert ("may be wrong" in told.text) == (severity == "warning")


@pytest.mark.slow
def test_a_still_head_with_a_bolus_is_the_same_array():
    drawn, found = _phantom(False), _realigned(False)
    assert drawn.series[drawn.mask].mean(axis=0).min() < 0.9 * drawn.series[drawn.mask].mean(axis=0)[1]
    assert found.series is drawn.series and not found.moved and not found.resampled.any()
    assert found.largest_mm < motion.SURELY_STILL and found.largest_degrees < motion.SURELY_STILL
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.series = None


@pytest.mark.slow
def test_a_head_that_surely_lies_still_is_looked_at_coarsely_and_one_that_moves_by_all_resolutions():
    for moves, levels in ((False, registration.LEVELS[:1]), (True, registration.LEVELS)):
        drawn, found = _phantom(moves), _realigned(moves)
        _, millimetres, degrees = registration.estimate_poses(drawn.series, drawn.affine, levels)
        np.testing.assert_array_equal(found.millimetres, millimetres)
        np.testing.assert_array_equal(found.degrees, degrees)


@pytest.mark.slow
def test_a_phantom_that_moves_is_followed():
    drawn, found = _phantom(True), _realigned(True)
    true = drawn.motion.transforms()
    residual = _residual(found.transforms, true, drawn.mask, drawn.affine)
    assert np.median(residual) < 0.3 and residual.max() < 1.0
    assert _residual(np.eye(4)[None], true, drawn.mask, drawn.affine).max() > 1.5  # it did move
    angles = registration.angle_degrees(np.linalg.inv(found.transforms) @ true)
    assert np.median(angles) < 0.3 and angles.max() < 1.0
    # The transforms undo the movement: from a frame back to the first pose.
    back = np.linalg.inv(found.transforms) @ true
    assert _residual(back, np.eye(4)[None], drawn.mask, drawn.affine).max() < 1.0


def test_integers_stay_integers_and_the_input_is_left_alone():
    drawn, found = _phantom(True), _realigned(True)
    assert drawn.series.dtype == np.int16 and found.series.dtype == np.int16 and found.series.min() >= 0
    again = _phantom.__wrapped__(True)
    np.testing.assert_array_equal(drawn.series, again.series)
    calm = ~found.resampled
    assert calm.any() and found.moved
    np.testing.assert_array_equal(found.series[..., calm], drawn.series[..., calm])


def test_realignment_brings_the_series_closer_to_the_head_that_lay_still():
    still, moved, found = _phantom(False), _phantom(True), _realigned(True)
    where = still.mask.copy()
    where[:, :, [0, -1]] = False

    def off(series):
        frames = (series[where].astype(float) - still.series[where])[:, found.resampled]
        return np.abs(frames.mean(axis=1)).mean()  # the mean over frames is nearly free of noise

    # Slices of 10 mm cannot be turned without loss, whatever the transforms: the true ones do no better.
    truly = motion._bring_back(moved.series, moved.affine, moved.motion.transforms(), np.flatnonzero(found.resampled))
    assert off(found.series) < 0.9 * off(moved.series) and off(found.series) < 1.05 * off(truly)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_frames_at_rest_are_blurred_as_those_that_were_brought_back(dtype):
    """A thin artery, one voxel wide, half of which lies beside its voxel in the frames that moved."""
    series = np.full((*SHAPE, 16), 100.0, np.float32)
    series[24, 24, 3:9] = 1000.0
    poses = np.stack([np.eye(4)] * 8 + [_pose(0, 2.0)] * 8)
    moved = np.arange(16) >= 8
    poses[2, 0, 3] = 0.3  # hardly
    series = motion._bring_back(series, AFFINE, np.linalg.inv(poses), np.flatnonzero(moved)).astype(dtype)
    back = motion._bring_back(series, AFFINE, poses, np.flatnonzero(moved))
    found = motion.Realignment(back, poses, poses[:, :3, 3], np.zeros((16, 3)), np.zeros(3), moved, False)
    artery = motion.sampled_alike(found, AFFINE, slice(4, 12))[24, 24, 5]
    assert back[24, 24, 5, :8].mean() > 1.4 * back[24, 24, 5, 8:].mean()
    np.testing.assert_allclose(artery[:8], artery[8:].mean(), rtol=2e-3)
    np.testing.assert_array_equal(artery[8:], back[24, 24, 5, 8:])
    assert motion.sampled_alike(found, AFFINE, slice(2, 8)) is None
    assert motion.sampled_alike(found, AFFINE, slice(8, 12)) is None


def test_one_slice_is_realigned_within_its_plane():
    transforms = np.stack([np.eye(4)] * 6 + [_pose(0, 2.0), _pose(1, -3.0), _pose(5, 3.0)] + [np.eye(4)] * 3)
    series = np.stack([_moved(_textured_head(), pose)[:, :, 5:6] for pose in transforms], axis=3)
    found = motion.realign(series.astype(np.float32), AFFINE)
    assert found.in_plane and found.resampled.tolist() == [False] * 6 + [True] * 3 + [False] * 3
    assert not found.millimetres[:, 2].any() and not found.degrees[:, :2].any()
    mask = np.zeros((*SHAPE[:2], 1), bool)
    mask[10:38, 10:38] = True
    assert _residual(found.transforms, transforms, mask, AFFINE).max() < 0.15


def test_what_is_no_series_is_refused():
    with pytest.raises(InputError, match=r"expected a series .* came \(4, 4, 4\)"):
        motion.realign(np.zeros((4, 4, 4)), AFFINE)
    with pytest.raises(InputError, match="expected a head"):
        motion.realign(np.zeros((16, 16, 4, 8), np.float32), AFFINE)
    with pytest.raises(InputError, match="not finite"):
        motion.realign(np.full((16, 16, 4, 8), np.nan, np.float32), AFFINE)
    with pytest.raises(InputError, match="cannot be inverted"):
        motion.realign(np.ones((16, 16, 4, 8), np.float32), np.zeros((4, 4)))
