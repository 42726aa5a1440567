"""CT as a series that falls: what it gives back, where its brain is, and what is no CT."""

import ct_exams
import numpy as np
import pytest
from exams import fake_arrays

import dscgan_jax as dj
from dscgan_jax.data import aif
from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import ct

AFFINE = np.diag([8.0, 8.0, 5.0, 1.0])


def _falling(series):
    found = Findings()
    return ct.falling(np.float32(series), AFFINE, found), found.listed()


def test_the_logarithm_gives_back_the_enhancement():
    series, brain = ct_exams.small_ct((24, 24, 2))
    falling, [note] = _falling(series)
    inside = falling[..., 0] > 0
    assert note.name == "modality" and note.severity == "note" and not falling[~brain].any()
    assert inside.sum() > 0.9 * brain.sum()
    enhancement = np.diff(series[inside], axis=1)
    np.testing.assert_allclose(np.diff(-np.log(falling[inside]), axis=1) / ct.PER_HU, enhancement, atol=2e-3)


def test_fluid_is_brighter_than_tissue_and_skull_scalp_and_air_are_nothing():
    phantom = dj.simulate("acute", seed=1, size=48, slices=2).exam
    series = ct_exams.ct_of(phantom)
    falling, _ = _falling_on(series, phantom.affine)
    hu = series[..., :3].mean(-1)
    inside = falling[..., 0] > 0
    assert not inside[(hu > 200) | (hu < -200)].any()
    assert np.median(falling[inside & (hu < 12)]) > 1.3 * np.median(falling[inside & (hu > 30)])


def test_missing_values_stay_missing_for_those_who_fill_them():
    series, _ = ct_exams.small_ct((24, 24, 2))
    whole, _ = _falling(series)
    series[12, 12, :, 30] = np.nan
    falling, _ = _falling(series)
    np.testing.assert_array_equal(np.isnan(falling), np.isnan(series))
    np.testing.assert_allclose(np.nan_to_num(falling), np.where(np.isnan(series), 0, whole), rtol=1e-3)


def _falling_on(series, affine):
    found = Findings()
    return ct.falling(np.float32(series), affine, found), found.listed()


def test_an_exam_of_mri_given_as_ct_names_the_flag_and_so_does_the_reverse():
    with pytest.raises(InputError, match=r"no attenuation of a head in HU .*\[--config.data.modality=mr\]"):
        Exam.from_arrays(fake_arrays()[0], AFFINE, repetition_time=1.5, modality="ct")
    series, brain = ct_exams.small_ct()
    with pytest.raises(InputError, match=r"rises instead of falling.*air is below -500 \[--config.data.modality=ct\]"):
        Exam.from_arrays(series, AFFINE, repetition_time=1.5)
    stripped = np.where(brain[..., None], series, 0.0)
    with pytest.raises(InputError, match=r"mean signal rises instead of falling.*\[--config.data.modality=ct\]"):
        Exam.from_arrays(stripped, AFFINE, repetition_time=1.5)
    upside_down = np.where(brain[..., None], 70.0 - series, series)
    with pytest.raises(InputError, match=r"mean signal falls, as on DSC-MRI.*\[--config.data.modality=mr\]"):
        Exam.from_arrays(upside_down, AFFINE, repetition_time=1.5, modality="ct")


@pytest.mark.slow
def test_tmax_of_ct_is_that_of_the_same_head_on_mri(tmp_path):
    phantom = dj.simulate("acute", seed=1, size=64, slices=3)
    mri, curve = phantom.exam, tmp_path / "aif.tsv"  # so few coarse slices hold no artery to find
    aif.write_curve(curve, phantom.phantom.arterial_seconds, phantom.phantom.arterial_mm)
    series = ct_exams.ct_of(mri)
    on_ct = Exam.from_arrays(series, mri.affine, repetition_time=mri.frame_seconds, modality="ct")
    on_mri = Exam.from_arrays(mri.series, mri.affine, repetition_time=mri.frame_seconds)
    both = on_ct.mask & on_mri.mask
    assert both.sum() > 0.95 * max(on_ct.mask.sum(), on_mri.mask.sum())
    ours, theirs = (dj.deconvolve(exam, aif=curve)["tmax"][both] for exam in (on_ct, on_mri))
    assert np.median(np.abs(ours - theirs)) < 0.5 and np.corrcoef(ours, theirs)[0, 1] > 0.9
    truth = phantom.truth["tmax"][both]
    assert np.abs(ours - truth).mean() < np.abs(theirs - truth).mean() + 0.3
