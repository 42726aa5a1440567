"""Leakage: K1, K2 and kep of curves that were put together from known ones, and whole phantom exams."""

import dataclasses

import numpy as np
import pytest

from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion import conventional, deconvolution, kinetics, leakage
from dscgan_jax.perfusion.arterial import arterial_input_from_curve
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.perfusion.kinetics import Perfusion
from dscgan_jax.perfusion.measurement import Given, Measured, measure
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.phantom.acquisition import REAL
from dscgan_jax.phantom.exam import Phantom, draw_phantom

TR, FRAMES, SIDE = 1.5, 80, 24
SECONDS = TR * np.arange(FRAMES)
LEAKS = np.zeros((SIDE, SIDE, 1), bool)
LEAKS[:6, :6] = True
ARTERY = kinetics.ArterialCurve(arrival_seconds=20.0, peak_mm=6.0)


def brute_leak(curve: np.ndarray, kep: float) -> np.ndarray:
    """∫ curve exp(-kep (t - tau)) dtau by the sum over all pairs of fine times."""
    step = 0.05
    fine = np.arange(0, SECONDS[-1] + step, step)
    kernel = np.exp(-kep * fine)
    return np.interp(SECONDS, fine, np.convolve(np.interp(fine, SECONDS, curve), kernel)[: len(fine)] * step)


def world(k2: float, kep: float = 0.0, noise: float = 0.0, delay: float = 0.0) -> tuple[Measured, np.ndarray]:
    """A square brain; in its corner of 6 x 6 agent leaks. Returns the exam, and its curves without leakage.

    The blood of every voxel passes in the same way, with another volume.
    """
    rng = np.random.default_rng(0)
    leaks = LEAKS.ravel()
    mean = kinetics.tissue_concentration(
        ARTERY, Perfusion(np.array([[40.0]]), np.array([[4.5]]), np.array([1.0]), np.array([0.2])), SECONDS
    )[0].astype(np.float64)
    volume = rng.uniform(0.5, 1.5, SIDE * SIDE)
    volume /= volume[~leaks].mean()
    blood = volume[:, None] * mean
    late = np.interp(SECONDS - delay, SECONDS, mean)
    blood[leaks] = volume[leaks, None] * late
    curves = blood.copy()
    curves[leaks] -= k2 * brute_leak(late, kep)
    curves = np.float32(curves + noise * rng.standard_normal(curves.shape))
    arterial = ARTERY(SECONDS)
    return (
        Measured(
            tissue=np.ones(LEAKS.shape, bool),
            tissue_source="given",
            curves=curves,
            arterial_mm=np.float32(arterial),
            noise=np.full(len(curves), max(noise, 1e-3), np.float32),
            first_pass=np.ones(len(curves), np.float32),
            infarcted=np.zeros(len(curves), bool),
            not_seen=np.zeros(len(curves), bool),
            arterial=arterial_input_from_curve(SECONDS, arterial, FRAMES, TR),
            timing=BolusTiming(1, 1, 12, 18),
            realignment=None,
            voxel_mm=np.array([4.0, 4.0, 5.0]),
            frame_seconds=TR,
            baseline_over_noise=60.0,
            relative=False,
            findings=(),
        ),
        blood,
    )


@pytest.mark.parametrize("k2", [0.02, -0.02])
def test_k1_and_k2_come_back_and_the_rest_of_the_curve_is_blood(k2):
    measured, blood = world(k2)
    found = leakage.fit(measured, "bsw")
    np.testing.assert_allclose(found.k2[LEAKS.ravel()], k2, rtol=0.02)
    np.testing.assert_allclose(found.k2[~LEAKS.ravel()], 0.0, atol=2e-4)
    mean = blood[~LEAKS.ravel()].mean(axis=0)
    np.testing.assert_allclose(found.k1[LEAKS.ravel()], (blood[LEAKS.ravel()] / mean.max()).max(axis=1), rtol=0.02)
    np.testing.assert_allclose(found.removed_from(measured).curves, blood, atol=0.02 * blood.max())


def test_agent_that_returns_needs_the_bidirectional_form():
    measured, blood = world(0.03, kep=0.01)
    errors = {
        model: np.abs(leakage.fit(measured, model).removed_from(measured).curves - blood)[LEAKS.ravel()].mean()
        for model in ("bsw", "bidirectional")
    }
    assert errors["bidirectional"] < 0.2 * errors["bsw"]
    np.testing.assert_allclose(leakage.fit(measured, "bidirectional").kep[LEAKS.ravel()], 0.01, rtol=0.5)


def test_the_volume_changes_by_k2_times_the_double_integral():
    measured, _ = world(0.02)
    found = leakage.fit(measured, "bsw")
    mean = measured.curves[~found.stands_out].mean(axis=0)
    before, after = (
        deconvolution.area_cbv(curves, measured.arterial_mm)
        for curves in (measured.curves, found.removed_from(measured).curves)
    )
    scale = 100.0 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR / measured.arterial_mm.sum()
    expected = scale * found.k2 * brute_leak(mean, 0.0).sum()
    np.testing.assert_allclose((after - before)[LEAKS.ravel()], expected[LEAKS.ravel()], rtol=0.01)


@pytest.mark.parametrize("k2", [0.02, -0.02])
def test_tissue_that_leaks_is_no_part_of_the_mean_and_is_found(k2):
    measured, _ = world(k2, noise=0.01)
    found = leakage.fit(measured, "bsw")
    assert found.stands_out[LEAKS.ravel()].mean() > 0.9 and found.stands_out[~LEAKS.ravel()].mean() < 0.02
    assert found.tissue(measured)[LEAKS].mean() > 0.8 and not found.tissue(measured)[~LEAKS].any()


def test_blood_that_is_late_is_no_leakage():
    measured, _ = world(0.0, noise=0.01, delay=5.0)
    found = leakage.fit(measured, "bsw")
    assert 4.0 <= np.median(found.arrival_seconds[LEAKS.ravel()]) <= 5.0  # a slower transit takes up to a second of it
    assert np.abs(found.k2).max() < 0.005 and not found.tissue(measured).any()


def test_leakage_is_told_with_what_corrects_it():
    measured, _ = world(0.02, noise=0.01)
    corrected = leakage.corrected(measured, "none")
    assert corrected.measured is measured and not corrected.applied and corrected.maps == {}
    [finding] = corrected.findings
    assert finding.name == "leakage" and finding.severity == "warning" and finding.flag == "--leakage=bidirectional"
    assert leakage.corrected(measured, "bsw").findings == ()


@pytest.mark.parametrize("model", ["bsw", "bidirectional"])
@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_without_leakage_no_curve_is_touched_and_a_note_says_so(model, delay):
    measured, _ = world(0.0, noise=0.01, delay=delay)
    assert leakage.corrected(measured, "none").findings == ()
    corrected = leakage.corrected(measured, model)
    assert corrected.measured is measured and not corrected.applied and set(corrected.maps) == {"k1", "k2"}
    [finding] = corrected.findings
    assert finding.name == "leakage_absent" and finding.severity == "note"


def test_agent_that_returns_until_nothing_is_brighter_than_at_first_is_found():
    measured, _ = world(0.03, kep=0.03, noise=0.01)
    assert measured.curves[LEAKS.ravel(), -10:].mean() > -0.01  # no voxel ends brighter than it began
    assert leakage.fit(measured, "bsw").tissue(measured)[LEAKS].mean() > 0.8


# ------------------------------------------------------------------------------------------------ whole exams

STILL = dataclasses.replace(REAL, motion=False)


@pytest.fixture(scope="module")
def tumour() -> tuple[Phantom, Measured]:
    exam = draw_phantom("tumour", 3, size=64, slices=8, imperfections=STILL)
    given = Given(arterial_seconds=exam.arterial_seconds, arterial_mm=exam.arterial_mm)
    series = exam.series.astype(np.float32)
    return exam, measure(series, exam.affine, exam.frame_seconds, exam.echo_seconds, "none", given)


@pytest.fixture(scope="module")
def without_leakage() -> Measured:
    exam = draw_phantom("acute", 10, size=64, slices=6, imperfections=STILL)
    given = Given(arterial_seconds=exam.arterial_seconds, arterial_mm=exam.arterial_mm)
    return measure(exam.series.astype(np.float32), exam.affine, exam.frame_seconds, exam.echo_seconds, "none", given)


def ratio_to_white(exam: Phantom, measured: Measured, cbv: np.ndarray) -> float:
    """CBV of leaking tissue over the true one, both relative to white matter: the mean of both kinds' size of error."""
    both = exam.mask & measured.tissue & (exam.shares["artery"] < 0.05)
    white = both & (exam.leakage == 0) & (exam.shares["white"] > 0.9)
    scaled = cbv * (np.median(exam.maps["cbv"][white]) / np.median(cbv[white]))
    kinds = [both & (exam.leakage == label) for label in (1, 2)]
    return float(np.mean([abs(scaled[kind].mean() / exam.maps["cbv"][kind].mean() - 1) for kind in kinds]))


def test_a_tumour_is_tissue_and_no_vein(tumour):
    exam, measured = tumour
    assert measured.tissue[exam.leakage > 0].mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bsw", "bidirectional"])
def test_cbv_of_a_leaking_tumour_is_within_fifteen_per_cent(tumour, model):
    exam, measured = tumour
    before, after = (
        conventional.invert(measured, Settings("csvd", leakage=one)).maps["cbv"] for one in ("none", model)
    )
    assert ratio_to_white(exam, measured, after) < 0.15 < ratio_to_white(exam, measured, before)


@pytest.mark.slow
def test_maps_k1_k2_and_ncbv_come_besides(tumour):
    exam, measured = tumour
    maps = conventional.invert(measured, Settings("csvd", leakage="bsw")).maps
    both = exam.mask & measured.tissue
    for label, sign in ((1, 1), (2, -1)):
        assert (sign * maps["k2"][both & (exam.leakage == label)] > 0).mean() > 0.9
    white = both & (exam.leakage == 0) & (exam.shares["white"] > 0.9)
    assert np.median(maps["ncbv"][white]) == pytest.approx(1.0, abs=0.15)
    assert set(maps) == {"cbf", "cbv", "mtt", "tmax", "ttp", "k1", "k2", "ncbv"}


@pytest.mark.slow
def test_without_leakage_nothing_is_told_and_no_hemisphere_is_the_ill_one(without_leakage):
    names = {finding.name for finding in conventional.invert(without_leakage, Settings("csvd")).findings}
    assert not names & {"leakage", "leakage_absent", "normalised_cbv_missing"}
    corrected = conventional.invert(without_leakage, Settings("csvd", leakage="bsw"))
    assert {"leakage_absent", "normalised_cbv_missing"} <= {finding.name for finding in corrected.findings}
    assert "ncbv" not in corrected.maps and "k2" in corrected.maps


@pytest.mark.slow
@pytest.mark.parametrize("method", ["parametric", "osvd"])
def test_the_correction_changes_no_bit_of_the_maps_of_an_exam_without_leakage(tumour, without_leakage, method):
    for measured, leaks in ((without_leakage, False), (tumour[1], True)):
        off, *on = (conventional.invert(measured, Settings(method, leakage=one)).maps for one in leakage.MODELS)
        for maps in on:
            same = [name for name in off if np.array_equal(off[name], maps[name])]
            assert same == ([] if leaks else list(MAPS))
