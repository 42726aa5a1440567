"""Curves against brute force on a finer grid, peaks against a search, definitions against each other."""

import dataclasses

import numpy as np
import pytest

from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.kinetics import ArterialCurve, Perfusion

FRAMES = np.arange(60) * 2.22  # s
ARTERY = ArterialCurve(arrival_seconds=24.3, peak_mm=4.0, rise_seconds=4.6, shape=3.1)
STEP = 0.02  # s, of the brute force


def voxels(transit_shape: float = 2.0, count: int = 12, seed: int = 0) -> Perfusion:
    """Voxels from healthy to severely ischaemic; every second one mixes two tissues."""
    rng = np.random.default_rng(seed)
    second = np.where(np.arange(count) % 2, rng.uniform(2, 25, count), 0.0)
    return Perfusion(
        cbf=np.stack([rng.uniform(4, 60, count), second], axis=1),
        mtt=rng.uniform(2.5, 18, (count, 2)),
        delay=rng.uniform(0, 13, count),
        dispersion=rng.uniform(0.15, 1.4, count),
        transit_shape=transit_shape,
    )


def brute_force(perfusion: Perfusion, voxel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fine times, delayed h (*) R weighted by flow, and C_t, by sums over a fine grid."""
    times = np.arange(0.0, FRAMES[-1] + STEP, STEP)
    since = times - perfusion.delay[voxel]
    transport = kinetics.vascular_transport_function(times, perfusion.dispersion[voxel], perfusion.dispersion_shape)
    held = sum(
        perfusion.cbf[voxel, tissue]
        * kinetics.residue(times + STEP / 2, perfusion.mtt[voxel, tissue], perfusion.transit_shape)
        for tissue in range(2)
    )
    spread = np.convolve(transport, held)[: len(times)] * STEP  # cells of the residue are half a step late ...
    arterial = ARTERY(since + STEP / 2)  # ... and the AIF half a step early
    curve = np.convolve(arterial, spread)[: len(times)] * STEP * 1.04 / (0.55 / 0.75) / 6000
    return times, spread, curve


@pytest.mark.parametrize("transit_shape", [1.0, 2.0, np.inf], ids=["exponential", "gamma", "box"])
def test_curves_equal_brute_force_convolution_to_half_a_percent(transit_shape):
    perfusion = voxels(transit_shape)
    curves = kinetics.tissue_concentration(ARTERY, perfusion, FRAMES)
    for voxel in range(len(curves)):
        times, _, expected = brute_force(perfusion, voxel)
        difference = curves[voxel] - np.interp(FRAMES, times, expected)
        assert np.abs(difference).max() < 0.005 * expected.max()


@pytest.mark.parametrize("shape", [1.0, 2.6, 3.6])
def test_the_width_of_a_gamma_variate_is_that_of_its_samples(shape):
    times = np.arange(0.0, 40.0, 1e-4)
    above = kinetics.gamma_variate(times, 2.0, shape) >= 0.5
    assert 2.0 * kinetics.gamma_variate_width(shape) == pytest.approx(above.sum() * 1e-4, abs=3e-4)


def test_ttp_is_the_peak_of_the_curve_between_frames():
    perfusion = voxels()
    _, ttp = kinetics.tissue_concentration_and_ttp(ARTERY, perfusion, FRAMES)
    for voxel in range(len(ttp)):
        times, _, curve = brute_force(perfusion, voxel)
        assert ttp[voxel] == pytest.approx(times[curve.argmax()], abs=0.05)


@pytest.mark.parametrize("transit_shape", [1.0, 2.0, 2.6])
def test_tmax_is_the_peak_of_the_dispersed_delayed_residue(transit_shape):
    perfusion = voxels(transit_shape, seed=1)
    tmax = kinetics.residue_peak_seconds(perfusion)
    for voxel in range(len(tmax)):
        times, spread, _ = brute_force(perfusion, voxel)
        assert tmax[voxel] == pytest.approx(times[spread.argmax()] + perfusion.delay[voxel], abs=0.06)


def test_tmax_without_dispersion_is_the_delay():
    perfusion = Perfusion(np.array([[50.0], [0.0]]), np.array([[4.0], [4.0]]), np.array([1.5, 3.0]), np.full(2, 1e-3))
    np.testing.assert_allclose(kinetics.residue_peak_seconds(perfusion), [1.5, 3.0], atol=0.02)


def test_tmax_of_a_box_is_refused():
    with pytest.raises(ValueError, match="flat"):
        kinetics.residue_peak_seconds(voxels(np.inf))


def test_ttp_of_an_exam_that_ends_before_the_peak_is_its_last_frame():
    late = np.array([2.0, 30.0])  # one bolus still rises, the other has not come
    perfusion = Perfusion(np.full((2, 1), 50.0), np.full((2, 1), 12.0), late, np.full(2, 0.5))
    _, ttp = kinetics.tissue_concentration_and_ttp(ARTERY, perfusion, FRAMES[:15])
    np.testing.assert_allclose(ttp, FRAMES[14], atol=1e-3)


def test_nothing_arrives_before_the_bolus():
    perfusion = voxels()
    curves = kinetics.tissue_concentration(ARTERY, perfusion, FRAMES)
    before = FRAMES[None, :] < ARTERY.arrival_seconds + perfusion.delay[:, None] - 1.0
    assert np.abs(np.where(before, curves, 0.0)).max() < 1e-3 * curves.max()


def test_mtt_is_the_central_volume_theorem_also_in_mixtures():
    perfusion = voxels()
    np.testing.assert_allclose(perfusion.voxel_mtt(), 60 * perfusion.voxel_cbv() / perfusion.voxel_cbf(), rtol=1e-12)
    assert kinetics.mean_transit_seconds(np.array([0.0, 60.0]), np.array([0.0, 4.0])).tolist() == [0.0, 4.0]


@pytest.mark.parametrize("shape", [1.0, 2.3, np.inf])
def test_the_area_under_the_residue_is_the_mtt(shape):
    times = np.arange(0.0, 300.0, 0.01) + 0.005
    assert kinetics.residue(times, 7.0, shape).sum() * 0.01 == pytest.approx(7.0, rel=1e-3)
    assert kinetics.residue(np.array([-1.0, 0.0]), 7.0, shape).tolist() == [0.0, 1.0]


def test_the_vascular_transport_function_is_a_density_with_the_stated_mean():
    times = np.arange(0.0, 60.0, 0.01)
    transport = kinetics.vascular_transport_function(times, 0.8)
    assert transport.sum() * 0.01 == pytest.approx(1.0, rel=1e-4)
    assert (transport * times).sum() * 0.01 == pytest.approx(kinetics.DISPERSION_SHAPE * 0.8, rel=1e-4)


def test_cbv_is_the_ratio_of_the_areas():
    first_pass = ArterialCurve(24.3, 4.0, recirculation=0.2, plateau=0.0)  # everything has left at the end
    long = np.arange(400) * 1.0
    perfusion = voxels()
    curves = kinetics.tissue_concentration(first_pass, perfusion, long)
    cbv = 100 * curves.sum(axis=1) / first_pass(long).sum() * (0.55 / 0.75) / 1.04
    np.testing.assert_allclose(cbv, perfusion.voxel_cbv(), rtol=0.01)


def test_blood_further_down_is_the_aif_later_and_wider():
    near, far = kinetics.arterial_concentration(ARTERY, [0.0, 3.0], [1e-3, 0.8], FRAMES)
    np.testing.assert_allclose(near, ARTERY(FRAMES), atol=0.01 * 4.0)
    assert far.max() < near.max()
    fine = np.arange(0, 130, 0.25)
    first_pass = ArterialCurve(24.3, 4.0, recirculation=0.0, plateau=0.0)
    curves = kinetics.arterial_concentration(first_pass, [0.0, 3.0], [1e-3, 0.8], fine)
    centre = (curves * fine).sum(axis=1) / curves.sum(axis=1)
    assert centre[1] - centre[0] == pytest.approx(3.0 + 3 * 0.8, abs=0.02)


def test_a_first_pass_begins_on_arrival_and_peaks_when_it_has_risen():
    first_pass = ArterialCurve(10.0, 4.0, recirculation=0.0, plateau=0.0)
    assert first_pass(np.array([9.9]))[0] == 0.0
    assert first_pass(np.array([15.0]))[0] == pytest.approx(4.0)


def test_concentration_and_delta_r2star_are_inverse():
    concentration = np.array([0.0, 0.05, 0.3])
    delta_r2star = kinetics.delta_r2star_of(concentration)
    assert delta_r2star[1] == pytest.approx(87.0 * 0.05)
    np.testing.assert_allclose(kinetics.concentration_of(delta_r2star), concentration, atol=1e-15)
    blood = kinetics.delta_r2star_of(concentration, kinetics.BLOOD_RELAXIVITY)
    assert blood[1] == pytest.approx(12.0 * 0.05)


def test_every_constant_has_a_unit_and_a_source():
    assert pytest.approx(0.55 / 0.75) == kinetics.HAEMATOCRIT_FACTOR
    for constant in kinetics.CONSTANTS.values():
        assert constant.unit
        assert len(constant.source) > 20


def test_no_voxels_give_no_curves():
    empty = Perfusion(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert kinetics.tissue_concentration(ARTERY, empty, FRAMES).shape == (0, 60)


def test_later_curves_are_those_of_the_same_voxels_with_more_delay():
    later, perfusion = np.array([0.0, 0.3, 4.0]), voxels()
    curves, ttp = kinetics.delayed_concentration_and_ttp(ARTERY, perfusion, later, FRAMES)
    for place, more in enumerate(later):
        delayed = dataclasses.replace(perfusion, delay=perfusion.delay + more)
        expected, peaks = kinetics.tissue_concentration_and_ttp(ARTERY, delayed, FRAMES)
        np.testing.assert_allclose(curves[place], expected, atol=1e-4 * expected.max())
        np.testing.assert_allclose(ttp[place], peaks, atol=0.01)
