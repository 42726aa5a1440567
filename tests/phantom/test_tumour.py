"""The physics of a tumour that leaks, against brute force."""

import json

import numpy as np
import pytest

from dscgan_jax.data import nifti
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.phantom.acquisition import IDEAL
from dscgan_jax.phantom.cohort import write_exam
from dscgan_jax.phantom.exam import Phantom, draw_phantom
from dscgan_jax.phantom.tumour import R1_RELAXIVITY, T1_DOMINATES, T2STAR_DOMINATES, Tumour, TumourRange


@pytest.fixture(scope="module")
def exam() -> Phantom:
    return draw_phantom("tumour", 3, size=64, slices=8, imperfections=IDEAL)


@pytest.fixture
def tumour() -> Tumour:
    return Tumour(np.random.default_rng(5), TumourRange())


ARTERY = kinetics.ArterialCurve(arrival_seconds=15.0, peak_mm=6.0)


def test_extravasation_is_the_tofts_equation(tumour):
    seconds, step = np.arange(80) * 1.5, 0.01
    fine = np.arange(0.0, seconds[-1] + step, step)
    plasma = ARTERY(fine - 0.7) / (1 - 0.45)
    kept = np.exp(-tumour.ktrans_per_minute / tumour.ve / 60 * fine)
    expected = tumour.ktrans_per_minute / 60 * np.convolve(plasma, kept)[: len(fine)] * step
    found = tumour.extravasated(ARTERY, np.array([0.7]), seconds)[0]
    np.testing.assert_allclose(found, np.interp(seconds, fine, expected), atol=0.01 * found.max())


def test_the_steady_state_is_where_repeated_pulses_lead(tumour):
    concentration, repetition = 0.3, 1.5
    rate, flip = 1 / tumour.t1_seconds + R1_RELAXIVITY * concentration, np.deg2rad(tumour.flip_degrees)
    along = 1.0
    for _ in range(200):  # pulse, spoiling, recovery
        along = 1 - (1 - along * np.cos(flip)) * np.exp(-rate * repetition)
    assert tumour.steady_state(np.array([concentration]), repetition)[0] == pytest.approx(along, rel=1e-9)


def test_agent_outside_vessels_brightens_one_end_of_the_tumour_and_darkens_the_other(exam):
    late = exam.series[..., -10:].mean(axis=-1) / np.maximum(exam.series[..., :8].mean(axis=-1), 1.0)
    healthy = exam.mask & (exam.leakage == 0)
    for label, sign in ((T1_DOMINATES, 1), (T2STAR_DOMINATES, -1)):
        where = exam.leakage == label
        assert where.sum() > 20
        assert sign * (np.median(late[where]) - np.median(late[healthy])) > 0.02


def test_the_truth_is_the_blood_of_the_tumour_and_not_what_leaked(exam):
    tumour = exam.truth["tumour"]
    inside = (exam.leakage > 0) & (exam.shares["grey"] + exam.shares["white"] > 0.99)
    assert np.median(exam.maps["cbv"][inside]) == pytest.approx(tumour["cbv"], rel=0.15)
    assert np.median(exam.maps["mtt"][inside]) == pytest.approx(tumour["mtt_seconds"], rel=0.1)
    series = exam.series[inside].astype(np.float64)
    curve = kinetics.concentration_of(signal.delta_r2star(series, series[:, :8].mean(axis=1), exam.echo_seconds))
    area = 100 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR * curve.sum(axis=1) / exam.arterial_mm.sum()
    kind = exam.leakage[inside]
    over = area / exam.maps["cbv"][inside]
    assert np.median(over[kind == T1_DOMINATES]) < 0.8 and np.median(over[kind == T2STAR_DOMINATES]) > 1.2


def test_a_tumour_lies_in_one_hemisphere_and_its_leakage_is_written(exam, tmp_path):
    x = np.argwhere(exam.leakage > 0)[:, 0] - 31.5
    assert (np.sign(x) == {"right": 1, "left": -1}[exam.truth["tumour"]["side"]]).mean() > 0.95
    write_exam(tmp_path, "sub-1", exam)
    written = nifti.read_volume(tmp_path / "sub-1/perf/sub-1_leakage.nii.gz", dims=3)
    np.testing.assert_array_equal(written.data, exam.leakage)
    truth = json.loads((tmp_path / "sub-1/perf/sub-1_truth.json").read_text())
    assert truth["tumour"]["t1_dominated_voxels"] == (exam.leakage == T1_DOMINATES).sum()


def test_other_presets_have_no_leakage():
    exam = draw_phantom("acute", 3, size=32, slices=2)
    assert exam.leakage is None and "tumour" not in exam.truth
