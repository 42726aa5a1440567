"""Curves of the whole exam in the corners of each slice: what a network reads there is what was found."""

import dataclasses

import exams
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.data import reference_curves
from dscgan_jax.data.preparation import PreparationSettings, prepare
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.models import light
from dscgan_jax.perfusion import arterial_voxels, brain, measurement
from dscgan_jax.perfusion.arterial import find_arterial_input
from dscgan_jax.phantom.exam import draw_phantom
from dscgan_jax.settings import CORNERS

ZERO = PreparationSettings(64, 0, 64, "seconds", 1.25, "hold", lead_seconds=12.0, outside_brain="zero")
SHOWN = dataclasses.replace(ZERO, arterial_input=True)


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom("acute", (31, 2), size=64, slices=6)


@pytest.fixture(scope="module")
def exam(phantom):
    series = phantom.series.astype(np.float32)
    tissue = brain.brain_mask(series, phantom.affine).tissue
    return exams.exam_of(series, tissue, phantom.affine, frame_seconds=phantom.frame_seconds, mask_source="threshold")


@pytest.fixture(scope="module")
def prepared(exam):
    return prepare(exam, SHOWN)


def read(prepared) -> tuple[np.ndarray, np.ndarray]:
    """AIF and mean curve as a network finds them, over the peak of the AIF."""
    series = prepared.dsc * np.float32(prepared.dsc_scale) / prepared.brain_signal
    curves = np.asarray(light.in_corners(jnp.asarray(series))[0])
    assert (np.ptp(curves, axis=0) < 1e-4).all()  # the same in every slice
    arterial, mean = np.split((1.0 - curves[0]) / reference_curves.DEPTH, 2)
    return arterial, mean


def test_a_network_reads_the_aif_that_conventional_maps_use(exam, prepared):
    arterial, mean = read(prepared)
    measured = measurement.measure(exam.series, exam.affine, exam.frame_seconds, 0.036, realign="none")
    times = prepared.first_seconds + np.arange(len(arterial)) * prepared.frame_seconds
    aif = measured.arterial.delta_r2star / measured.arterial.delta_r2star.max()
    known = np.interp(times, np.arange(len(aif)) * exam.frame_seconds, aif)
    assert np.abs(arterial - known)[prepared.baseline_begin :].max() < 0.02
    assert 0.05 < mean.max() < 0.6 and np.argmax(mean) > np.argmax(arterial)


def test_nothing_else_of_the_exam_changes(exam, prepared):
    without = prepare(exam, ZERO)
    corner = np.zeros(prepared.dsc.shape[2:], bool)
    for row in CORNERS:
        for col in CORNERS:
            corner[row, col] = True
    assert (without.dsc[..., corner] == 0).all() and not prepared.mask[:, corner].any()
    of_aif = {"arterial_low"}  # these voxels are coarse
    assert [one.name for one in prepared.findings if one.name not in of_aif] == [one.name for one in without.findings]
    np.testing.assert_array_equal(prepared.mask, without.mask)
    assert ZERO.to_json().keys() == SHOWN.to_json().keys() - {"arterial_input"}  # older data are known again


def test_the_lead_counts_from_the_arrival_of_the_aif(exam, prepared):
    curves = reference_curves.reference_curves(exam, prepared.brain, Findings())
    assert prepared.first_seconds == pytest.approx(curves.arrival_seconds - SHOWN.lead_seconds)
    assert SHOWN.first_seconds_of(exam) == prepared.first_seconds
    arterial, _ = read(prepared)
    at = round(SHOWN.lead_seconds / prepared.frame_seconds)
    assert arterial[:at].max() < 0.12 < arterial[at + 1]


@pytest.mark.parametrize("change", [{"motion": "rigid"}, {"time_mode": "stretch", "lead_seconds": 0.0}])
def test_who_asks_when_the_first_frame_lies_hears_what_was_prepared(exam, change):
    given = dataclasses.replace(exam, mask_source="file")
    settings = dataclasses.replace(SHOWN, **change)
    assert settings.first_seconds_of(given) == prepare(given, settings, look_for_motion=False).first_seconds


def test_of_ct_no_curve_is_flattened_by_noise(exam, monkeypatch):
    asked = []
    monkeypatch.setattr(
        reference_curves,
        "find_arterial_input",
        lambda *given, **more: asked.append(more) or find_arterial_input(*given),
    )
    for modality in ("mr", "ct"):
        reference_curves.reference_curves(dataclasses.replace(exam, modality=modality), exam.mask, Findings())
    assert asked == [{"noise_floor": True}, {"noise_floor": False}]


def test_the_corners_are_air_to_the_rest_of_the_network():
    series = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 5, 16, 12)), jnp.float32)
    curves, rest = light.in_corners(series)
    assert curves.shape == (2, 10) and (rest[:, :, :4, :4] == -1).all() and (rest[:, :, -4:, -4:] == -1).all()
    np.testing.assert_array_equal(rest[:, :, 4:-4], series[:, :, 4:-4])
    mirrored = light.in_corners(series[..., ::-1])
    np.testing.assert_allclose(mirrored[0], curves, atol=1e-6)
    np.testing.assert_array_equal(mirrored[1], rest[..., ::-1])


def test_an_exam_without_an_aif_is_told_and_shows_none(exam, monkeypatch):
    def none(*_, **__):
        raise arterial_voxels.NoArterialInputError("no AIF: nothing is like an artery; give one.")

    monkeypatch.setattr(reference_curves, "find_arterial_input", none)
    prepared = prepare(exam, SHOWN)
    [told] = [one for one in prepared.findings if one.name == "no_arterial_input"]
    assert told.severity == "warning" and "nothing is like an artery" in told.text
    arterial, mean = read(prepared)
    assert np.abs(arterial).max() < 0.01 and mean.max() > 0.9


def test_counts_stay_within_int16():
    dsc, brain = np.zeros((1, 3, 16, 16), np.int16), np.float32([0, 1, -3])
    reference_curves.show(dsc, reference_curves.ReferenceCurves(None, brain), None, 30_000.0)
    assert dsc[0, :, 0, 0].tolist() == [30_000] * 3  # without an AIF
    assert dsc[0, :, -1, 0].tolist() == [30_000, 15_000, 32_767]


@pytest.mark.parametrize(("height", "severity", "told"), [(1.9, "warning", 1), (2.6, "warning", 0), (1.9, "note", 0)])
def test_an_aif_that_is_mostly_tissues_is_told(exam, prepared, monkeypatch, height, severity, told):
    artery = dataclasses.replace(prepared.artery, findings=(Finding("arterial_low", severity, "low", height),))
    monkeypatch.setattr(reference_curves, "find_arterial_input", lambda *_, **__: artery)
    found = Findings()
    reference_curves.reference_curves(exam, np.ones(exam.mask.shape, bool), found)
    assert [(one.name, one.value) for one in found.listed()] == [("arterial_low", height)] * told


def test_a_brain_in_a_corner_is_told():
    seen, found = np.zeros((2, 32, 32), bool), Findings()
    seen[:, :, 4:-4] = seen[:, 4:-4] = True
    reference_curves.tell_hidden(seen, found)
    assert not found.listed()
    seen[1, :2, :6] = True
    reference_curves.tell_hidden(seen, found)
    [told] = found.listed()
    assert told.severity == "warning" and told.value == 8


def test_the_curves_need_air_around_the_brain():
    with pytest.raises(InputError, match=r"arterial_input is True, which needs config.data.outside_brain=zero"):
        PreparationSettings(64, 0, 64, "seconds", 1.25, "hold", arterial_input=True)


def test_the_artery_is_told_on_the_grid_of_the_exam(phantom, exam, prepared):
    voxels = prepared.artery.mask
    assert voxels.shape == exam.mask.shape and prepared.artery.n_voxels == voxels.sum() > 0
    assert (phantom.shares["artery"][voxels] > 0.05).all()  # voxels of 3.75 x 3.75 x 5 mm hold no whole artery
    arterial, mean = reference_curves.reference_curves(exam, prepared.brain, Findings()).shown
    assert arterial.shape == mean.shape == exam.series.shape[-1:] and arterial.max() == pytest.approx(1.0)
