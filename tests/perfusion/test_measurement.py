"""Concentration in tissue and artery of drawn exams: noise, a given AIF or mask, and tissue that no blood passes."""

import dataclasses

import fits
import numpy as np
import pytest
from nibabel.affines import voxel_sizes
from scipy import ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import brain, kinetics, measurement, motion, signal
from dscgan_jax.perfusion.arterial_voxels import NoArterialInputError, describe
from dscgan_jax.perfusion.measurement import Given, Measured, measure
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.phantom.exam import Phantom, draw_phantom


@pytest.fixture(scope="module")
def exam() -> Phantom:
    """Noise, drift, non-steady-state frames and pulsation; six slices."""
    return draw_phantom("acute", 10, size=64, slices=6)


@pytest.fixture(scope="module")
def measured(exam) -> Measured:
    """With the true mask and AIF."""
    return measure(*fits.arguments(exam), given=fits.truth(exam))


def test_noise_is_that_of_the_exam(exam, measured):
    assert measured.baseline_over_noise == pytest.approx(exam.truth["signal_to_noise"], rel=0.1)
    before = slice(measured.timing.baseline_begin, measured.timing.baseline_end)
    ratio = np.median(measured.curves[:, before].std(axis=1, ddof=1) / measured.noise)
    assert ratio == pytest.approx(1.0, abs=0.15)


def test_non_steady_state_frames_hold_no_contrast_agent(exam, measured):
    count = measured.timing.non_steady_frames
    assert count > 0
    series, artery = fits.with_artery(exam, exam.mask)
    series[artery, :count] *= 1.3
    found = measure(*fits.arguments(exam, series), given=Given(tissue=exam.mask, arterial_mask=artery))
    assert not found.arterial_mm[:count].any() and found.arterial.delta_r2star[0] < 0
    assert not measured.curves[:, :count].any() and not measured.arterial_mm[:count].any()
    assert measured.curves[:, count:].any(axis=1).all()


def test_a_given_curve_is_taken_as_it_is(exam, measured):
    after = slice(measured.timing.non_steady_frames, None)
    np.testing.assert_allclose(measured.arterial_mm[after], exam.arterial_mm[after], rtol=1e-5, atol=1e-6)
    assert measured.arterial.source == "curve" and not measured.relative


def test_a_given_arterial_mask_wins(exam):
    series, mask = fits.with_artery(exam, exam.mask)
    result = measure(*fits.arguments(exam, series), given=Given(tissue=exam.mask, arterial_mask=mask))
    assert result.arterial.source == "mask" and result.arterial.n_voxels == 12
    assert (result.arterial.mask == mask).all()
    after = slice(result.timing.non_steady_frames, None)
    np.testing.assert_allclose(result.arterial_mm[after], exam.arterial_mm[after], atol=0.02 * exam.arterial_mm.max())


def test_voxels_of_a_given_arterial_mask_count_outside_the_brain_too(exam):
    series, mask = fits.with_artery(exam, exam.mask)
    inside = measure(*fits.arguments(exam, series), given=Given(tissue=exam.mask, arterial_mask=mask))
    scalp = np.argwhere((series[..., 0] > 0) & ~ndimage.binary_dilation(exam.mask, iterations=4))[:6]
    wider = mask.copy()
    for place in map(tuple, scalp):
        wider[place], series[place] = True, series[mask][0]
    found = measure(*fits.arguments(exam, series), given=Given(tissue=exam.mask, arterial_mask=wider))
    assert wider.sum() == mask.sum() + 6 and found.arterial.n_voxels == wider.sum()
    assert found.arterial_mm.max() == pytest.approx(inside.arterial_mm.max(), rel=0.02)
    assert "arterial_outside" in [one.name for one in found.arterial.findings]


def test_a_curve_of_another_length_is_refused(exam):
    given = dataclasses.replace(
        fits.truth(exam), arterial_seconds=exam.arterial_seconds[:-1], arterial_mm=exam.arterial_mm[:-1]
    )
    with pytest.raises(InputError, match=f"each of the {len(exam.arterial_mm)} frames"):
        measure(*fits.arguments(exam), given=given)


def test_an_exam_without_a_bolus_is_refused(exam):
    with pytest.raises(InputError, match="no bolus"):
        measure(*fits.arguments(exam, np.repeat(exam.series[..., :1], 40, axis=-1)), given=Given(tissue=exam.mask))


# ---------------------------------------------------------------------------------- tissue that no blood passes


@pytest.fixture(scope="module")
def dry(exam) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A series with an infarct 3 cm wide and a rim of one voxel that no blood passes; the infarct, the rim."""
    rng = np.random.default_rng(0)
    rim = ndimage.binary_dilation(exam.mask, np.ones((3, 3, 1))) & ~brain.with_fluid_spaces(
        exam.mask, voxel_sizes(exam.affine)
    )
    x, y = np.ogrid[-4:5, -4:5]
    disc = (x**2 + y**2 <= 16)[:, :, None]
    infarct = np.zeros_like(rim)
    infarct[tuple(np.argwhere(ndimage.binary_erosion(exam.mask, disc))[0])] = True  # the first place that holds it all
    infarct = ndimage.binary_dilation(infarct, disc)
    series = exam.series.astype(np.float32)
    still = infarct | rim
    series[still] = np.median(exam.series[exam.mask][:, 2:7]) * (
        1 + rng.normal(0, 0.02, (still.sum(), series.shape[-1]))
    )
    return series, infarct, rim


def test_a_thin_rim_without_a_first_pass_is_no_tissue_and_a_wide_region_is(exam, dry, monkeypatch):
    series, infarct, rim = dry
    found = brain.BrainMask(brain=exam.mask | rim, tissue=exam.mask | rim)
    monkeypatch.setattr(brain, "brain_mask", lambda *_: found)
    tissue = measure(*fits.arguments(exam, series), given=dataclasses.replace(fits.truth(exam), tissue=None)).tissue
    healthy = exam.mask & ~infarct
    assert infarct.sum() > 40 and tissue[infarct].mean() > 0.9
    assert tissue[rim].mean() < 0.1
    assert tissue[healthy].mean() > 0.99


def test_a_given_mask_is_not_changed(exam, dry):
    series, _infarct, rim = dry
    whole = exam.mask | rim
    assert (
        measure(*fits.arguments(exam, series), given=dataclasses.replace(fits.truth(exam), tissue=whole)).tissue
        == whole
    ).all()


def test_the_core_of_an_infarct_is_tissue_up_to_its_edge_and_has_the_times_of_what_still_flows(exam, dry):
    series, infarct, _rim = dry
    found = measure(*fits.arguments(exam, series), given=dataclasses.replace(fits.truth(exam), tissue=exam.mask))
    not_seen = np.zeros_like(infarct)
    not_seen[found.tissue] = found.not_seen
    assert not_seen[infarct].mean() > 0.9 and not_seen[exam.mask & ~infarct].mean() < 0.01
    (finding,) = [finding for finding in found.findings if finding.name == "no_first_pass"]
    assert finding.severity == "warning" and abs(finding.value - infarct.sum() / exam.mask.sum()) < 0.5 * finding.value


def test_a_territory_without_flow_is_told_however_ragged_its_edge_is(exam):
    """More of what is around the widest part of it is dead than alive."""
    x, y = np.indices(exam.mask.shape[:2])
    middle = np.argwhere(exam.mask).mean(axis=0)
    sector = (np.abs(np.arctan2(y - middle[1], x - middle[0])) < 0.8) & (np.hypot(x - middle[0], y - middle[1]) > 4)
    dead = exam.mask & sector[:, :, None]
    series = exam.series.astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.02, (dead.sum(), series.shape[-1]))
    series[dead] = series[dead][:, 2:7].mean(axis=1, keepdims=True) * (1 + noise)
    found = measure(*fits.arguments(exam, series), given=fits.truth(exam))
    not_seen = np.zeros_like(dead)
    not_seen[found.tissue] = found.not_seen
    assert not_seen[dead].mean() > 0.6 and not_seen[exam.mask & ~dead].mean() < 0.05
    assert [one.name for one in found.findings if one.name == "no_first_pass"]


def test_an_exam_without_an_infarct_is_not_told_of_one(measured):
    assert not [finding for finding in measured.findings if finding.name == "no_first_pass"]
    assert measured.not_seen.mean() < 0.01


def test_only_a_mask_that_somebody_gave_is_held_against_the_brain(exam, monkeypatch):
    half = exam.mask.copy()
    half[: half.shape[0] // 2] = False
    given = dataclasses.replace(fits.truth(exam), tissue=half)
    [told] = [one for one in measure(*fits.arguments(exam), given=given).findings if one.name == "mask_partly"]
    assert told.severity == "warning" and "the given mask leaves out" in told.text

    def looked_for(*arguments):
        raise AssertionError("the brain is not looked for")

    monkeypatch.setattr("dscgan_jax.perfusion.brain.brain_mask", looked_for)
    found = measure(*fits.arguments(exam), realign="none", given=dataclasses.replace(given, tissue_of_maps=True))
    assert "mask_partly" not in {one.name for one in found.findings}


def test_a_movement_while_the_bolus_passes_does_not_cut_the_aif_short(exam, monkeypatch):
    """A thin artery shares its voxel with tissue from the frame after its peak on."""
    series, mask = exam.series.astype(np.float32), np.zeros(exam.mask.shape, bool)
    column, row = np.argwhere(exam.mask.all(axis=2))[40]
    mask[column, row] = True
    blood = kinetics.delta_r2star_of(exam.arterial_mm, kinetics.BLOOD_RELAXIVITY)
    series[mask] = 500.0 * signal.signal_after(1.0, blood, exam.echo_seconds)
    poses = np.tile(np.eye(4), (series.shape[-1], 1, 1))
    poses[int(np.argmax(exam.arterial_mm)) + 1 :, :3, 3] = 0.5 * voxel_sizes(exam.affine)[0], 0.0, 0.0
    series = motion._bring_back(series, exam.affine, np.linalg.inv(poses), np.flatnonzero(poses[:, 0, 3]))
    given = Given(tissue=exam.mask, arterial_mask=mask)
    uncut = measure(*fits.arguments(exam, series), given=given).arterial
    monkeypatch.setattr(measurement, "CUT_SHORT", 0.0)
    cut = measure(*fits.arguments(exam, series), given=given).arterial
    [width] = describe(blood[None], BolusTiming(0, 0, 0, len(blood) - 1)).width * exam.frame_seconds
    assert cut.width_seconds < 0.75 * width and "arterial_moved" not in {one.name for one in cut.findings}
    assert width < uncut.width_seconds < 1.4 * width and "arterial_moved" in {one.name for one in uncut.findings}
    assert uncut.peak_delta_r2star == pytest.approx(cut.peak_delta_r2star, rel=1e-3)
    assert uncut.delta_r2star.max() == pytest.approx(cut.delta_r2star.max(), rel=0.1)


def test_only_an_aif_that_was_cut_short_or_not_found_gives_way(measured):
    aif = measured.arterial
    wider = dataclasses.replace(aif, width_seconds=1.1 * aif.width_seconds)

    def none():
        raise NoArterialInputError("no AIF: none")

    assert measurement._uncut(lambda: aif, lambda: wider) is aif
    assert measurement._uncut(lambda: aif, none) is aif
    found = measurement._uncut(none, lambda: aif)
    assert [one.name for one in found.findings][-1] == "arterial_moved" and found.delta_r2star is aif.delta_r2star
    with pytest.raises(NoArterialInputError, match="none"):
        measurement._uncut(none, none)
