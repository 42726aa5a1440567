"""How much blood passes a voxel, whatever drifts, comes late or moves beside it."""

import numpy as np
import pytest

from dscgan_jax.perfusion.passage import LATEST_SECONDS, free_of_line, over_mean

TR = 1.5
SECONDS = np.arange(60) * TR
MEAN = (SECONDS / 20) ** 3 * np.exp(3 * (1 - SECONDS / 20))  # a first pass that peaks at 20 s


def late_by(seconds):
    return np.interp(SECONDS - seconds, SECONDS, MEAN)


def test_the_projection_takes_a_line_and_nothing_else():
    free = free_of_line(SECONDS)
    np.testing.assert_allclose(free @ free, free, atol=1e-12)
    np.testing.assert_allclose(free @ np.stack([np.ones(60), SECONDS], axis=1), 0, atol=1e-9)
    assert np.trace(free) == pytest.approx(58)


@pytest.mark.parametrize("late", [0.0, 3.0, LATEST_SECONDS])
@pytest.mark.parametrize("share", [0.1, 2.0])
def test_a_late_curve_on_a_drifting_level_has_its_share(share, late):
    odd = share * late_by(late) + 0.3 - 0.02 * SECONDS
    curves = np.stack([MEAN] * 400 + [odd]).astype(np.float32)
    assert over_mean(curves, 0, TR)[0][-1] == pytest.approx(share, rel=0.08, abs=0.01)


def test_a_jump_of_the_head_is_taken_out_by_its_regressor():
    jump = (SECONDS > 40).astype(float)
    curves = np.stack([MEAN] * 400 + [0.5 * MEAN + 3 * jump]).astype(np.float32)
    with_jump, without = over_mean(curves, 0, TR)[0][-1], over_mean(curves, 0, TR, jump[:, None])[0][-1]
    assert without == pytest.approx(0.5, abs=0.05) and abs(with_jump - 0.5) > 0.15


def test_frames_before_the_steady_state_count_for_nothing():
    curves = np.stack([MEAN] * 3).astype(np.float32)
    odd = curves.copy()
    odd[:, :4] -= 50.0
    np.testing.assert_allclose(over_mean(odd, 4, TR)[0], over_mean(curves, 4, TR)[0], rtol=1e-5)


def test_an_exam_that_ends_early_leaves_no_room_for_late_curves_of_noise():
    short = np.stack([0.5 * MEAN, 1.5 * MEAN])[:, :18].astype(np.float32)  # it peaks in frame 13
    np.testing.assert_allclose(over_mean(short, 0, TR)[0], [0.5, 1.5], rtol=0.15)


def test_curves_of_nothing_have_no_share():
    share, strength = over_mean(np.zeros((5, 60), np.float32), 0, TR)
    assert strength == 0.0 and not share.any()
