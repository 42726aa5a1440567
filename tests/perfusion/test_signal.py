"""Bolus timing on curves we wrote down, and ΔR2* of a signal we computed from it."""

import numpy as np
import pytest

from dscgan_jax.data.exams import load_exam
from dscgan_jax.perfusion import signal


def _curve(arrival=10, depth=0.3, frames=60, noise=0.0, seed=0, level=1000.0):
    """Signal that falls from `arrival` on, deepest four frames later, back within twelve."""
    since = np.maximum((np.arange(frames) - arrival) / 4.0, 0)
    clean = level * (1 - depth * since**3 * np.exp(3 * (1 - since)))
    return clean + np.random.default_rng(seed).normal(0, noise * level, frames)


@pytest.mark.parametrize("depth", [0.06, 0.15, 0.4])
@pytest.mark.parametrize("noise", [0.0, 0.001, 0.005])
def test_peak_and_baseline_of_a_clear_bolus(depth, noise):
    for seed in range(5):
        timing = signal.find_bolus(_curve(depth=depth, noise=noise, seed=seed))
        assert abs(timing.peak_frame - 14) <= 1
        assert timing.non_steady_frames == timing.baseline_begin == 0
        assert 8 <= timing.baseline_end <= 11


def test_frames_before_steady_state_are_counted_and_left_out():
    curve = _curve(noise=0.002)
    curve[:3] *= [1.4, 1.15, 1.05]
    timing = signal.find_bolus(curve)
    assert timing.non_steady_frames == 3 and timing.baseline_begin == 3
    assert signal.find_bolus(_curve(noise=0.002) * np.r_[np.zeros(2), np.ones(58)]).non_steady_frames == 2


def test_one_wild_frame_and_a_drift_do_not_move_the_peak():
    curve = _curve(noise=0.002) * np.linspace(1.0, 0.95, 60)
    curve[40] *= 0.3
    assert abs(signal.find_bolus(curve).peak_frame - 14) <= 1


def test_a_head_that_moves_for_good_after_the_bolus_does_not_hide_it():
    curve = _curve(noise=0.002)
    curve[45:] *= 0.6
    assert abs(signal.find_bolus(curve).peak_frame - 14) <= 1


def test_a_deeper_bolus_than_its_recirculation_is_taken():
    curve = _curve(depth=0.3) - (1000 - _curve(arrival=30, depth=0.1))
    assert signal.find_bolus(curve).peak_frame == 14


@pytest.mark.parametrize(
    "curve",
    [
        np.full(60, 1000.0),
        1000 + np.random.default_rng(0).normal(0, 20, 60),
        np.linspace(1000, 930, 60),
        np.where(np.arange(60) < 30, 1000.0, 700.0),
        np.random.default_rng(1).normal(1000, 1, 60),
        _curve()[:13],
    ],
)
def test_no_bolus_is_refused(curve):
    with pytest.raises(signal.NoBolusError, match="no bolus"):
        signal.find_bolus(curve)


def test_a_rising_curve_is_recognised_as_another_modality():
    with pytest.raises(signal.NoBolusError, match="rises instead of falling"):
        signal.find_bolus(2000 - _curve())


def test_a_rising_curve_of_few_frames_is_not_called_another_modality():
    with pytest.raises(signal.NoBolusError, match=r"no bolus in 19 frames: .*give the whole series") as caught:
        signal.find_bolus((2000 - _curve())[:19])
    assert "DCE" not in str(caught.value)


def test_too_few_frames_and_a_bolus_at_the_start_are_refused():
    with pytest.raises(signal.NoBolusError, match="at least 10 frames, the series has 9"):
        signal.find_bolus(_curve()[:9])
    with pytest.raises(signal.NoBolusError, match="steady frames before it"):
        signal.find_bolus(_curve(arrival=-1))


def test_the_real_exam(real_exam):
    exam = load_exam(real_exam)
    assert exam.timing.non_steady_frames == 1
    assert 8 <= exam.timing.baseline_end <= 10 and 13 <= exam.timing.peak_frame <= 15
    assert exam.frame_seconds == 2.0 and np.isnan(exam.echo_seconds)
    assert 4500 < exam.mask.sum() < 6000  # 128 x 128 voxels of 1.72 mm, one slice at the convexity


def test_delta_r2star_gives_back_what_made_the_signal():
    timing = signal.BolusTiming(0, 0, 4, 6)
    truth = np.array([0, 0, 0, 0, 5.0, 20.0, 40.0, 10.0])
    series = 800 * np.exp(-0.03 * truth)[None]
    baseline = signal.baseline_signal(series, timing)
    np.testing.assert_allclose(baseline, [800])
    np.testing.assert_allclose(signal.delta_r2star(series, baseline, 0.03)[0], truth, atol=1e-9)


def test_signal_and_delta_r2star_are_inverse():
    delta_r2star = np.array([[0.0, 4.35, 26.1]])
    after = signal.signal_after(np.array([[900.0]]), delta_r2star, 0.036)
    assert after[0, 2] == pytest.approx(900.0 * np.exp(-0.036 * 26.1))
    np.testing.assert_allclose(signal.delta_r2star(after, np.array([900.0]), 0.036), delta_r2star, atol=1e-12)


def test_the_standard_deviation_of_noise_hardly_sees_outliers():
    noise = np.random.default_rng(0).normal(7.0, 2.0, 100_000)
    noise[:1000] = 1e6
    assert signal.robust_sd(noise) == pytest.approx(2.0, rel=0.05)
    assert signal.robust_sd(noise - 7.0, 0.0) == pytest.approx(2.0, rel=0.05)


def test_delta_r2star_of_air_and_of_lost_signal_is_finite():
    series = np.array([[0.0, 0, 0], [100.0, 100, 0]])
    values = signal.delta_r2star(series, np.array([0.0, 100.0]), 0.03)
    np.testing.assert_allclose(values, [[0, 0, 0], [0, 0, np.log(1000) / 0.03]], atol=1e-9)


TIMES = np.arange(60) * 2.0  # s


def _first_passes(peaks, width=6.0, height=1.0):
    """Symmetric curves that peak at the given seconds."""
    return height * np.exp(-0.5 * ((TIMES - np.asarray(peaks)[:, None]) / width) ** 2)


def test_the_top_of_a_parabola_is_found_exactly_and_nothing_else_has_one():
    places = np.array([-1.0, 0.0, 1.0])
    values = 5.0 - 2.0 * (places - 0.3) ** 2
    shift, height = signal.parabola_top(*values)
    assert shift == pytest.approx(0.3) and height == pytest.approx(5.0)
    shift, height = signal.parabola_top(*np.array([[1.0], [1.0], [1.0]]))
    assert shift == 0 and height == 1.0


def test_time_to_peak_is_finer_than_a_frame():
    peaks = np.linspace(40.0, 44.0, 21)  # steps of a tenth of a frame
    found = signal.peak_seconds(_first_passes(peaks), 2.0)
    assert found.shape == (21,) and found.dtype == np.float32
    np.testing.assert_allclose(found, peaks, atol=0.05)


def test_time_to_peak_counts_in_frames_and_not_in_height():
    curves = _first_passes([41.3, 30.2])
    np.testing.assert_allclose(signal.peak_seconds(curves, 1.0), 0.5 * signal.peak_seconds(curves, 2.0), rtol=1e-6)
    np.testing.assert_allclose(signal.peak_seconds(7 * curves, 2.0), signal.peak_seconds(curves, 2.0), rtol=1e-6)


def test_time_to_peak_passes_over_a_single_high_frame():
    curves = _first_passes([41.0])
    curves[0, 50] = 1.8
    np.testing.assert_allclose(signal.peak_seconds(curves, 2.0), 41.0, atol=0.05)


def test_time_to_peak_at_either_end_stays_there():
    rising, falling = TIMES[None] / TIMES[-1], 1 - TIMES[None] / TIMES[-1]
    found = signal.peak_seconds(np.concatenate([rising, falling, np.zeros((1, 60))]), 2.0)
    np.testing.assert_allclose(found, [TIMES[-1], 0.0, 0.0], atol=1e-6)


def test_time_to_peak_of_noisy_curves_is_right_within_half_a_frame_and_leaves_them_alone():
    peaks = np.random.default_rng(0).uniform(36, 50, 500)
    curves = _first_passes(peaks) + np.random.default_rng(1).normal(0, 0.05, (500, 60))
    before = curves.copy()
    error = signal.peak_seconds(curves, 2.0) - peaks
    assert np.abs(error).mean() < 1.0 and abs(error.mean()) < 0.1
    np.testing.assert_array_equal(curves, before)


@pytest.mark.parametrize("order", ["C", "F"])
def test_curves_of_a_mask_and_their_mean_are_those_of_indexing(order):
    rng = np.random.default_rng(0)
    series, inside = np.array(rng.random((5, 4, 3, 7), np.float32), order=order), rng.random((5, 4, 3)) < 0.4
    np.testing.assert_array_equal(signal.curves_in(series, inside), series[inside])
    np.testing.assert_allclose(signal.mean_curve(series, inside), series[inside].mean(axis=0), rtol=1e-6)


def test_some_of_a_mask_are_every_nth_of_its_voxels():
    inside = np.random.default_rng(0).random((9, 8, 7)) < 0.5
    places = np.flatnonzero(inside)
    np.testing.assert_array_equal(np.flatnonzero(signal.some_of(inside, 50)), places[:: len(places) // 50])
    np.testing.assert_array_equal(signal.some_of(inside, len(places)), inside)
    assert not signal.some_of(np.zeros((2, 2, 2), bool), 5).any()
