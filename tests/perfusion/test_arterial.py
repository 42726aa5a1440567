"""The arterial input function in a small world of known vessels, in the phantom and in the real exam."""

import dataclasses
import re

import numpy as np
import pytest

from dscgan_jax.data.exams import load_exam
from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import arterial, arterial_voxels, kinetics, signal
from dscgan_jax.perfusion.kinetics import gamma_variate
from dscgan_jax.phantom import acquisition, subject
from dscgan_jax.phantom import exam as phantom

FRAME, ECHO, FRAMES, NOISE = 1.5, 0.03, 50, 8.0
SECONDS = FRAME * np.arange(FRAMES)
TISSUE, ARTERY, LATE_ARTERY, VEIN, SATURATED, MOVED, AIR, MIXED, WIDE, ROUGH, STEP, AWAY, DISTAL = range(13)
# Arrival s, rise s, height 1/s, S0
KINDS = {
    TISSUE: (17.0, 8.0, 8.0, 1000.0),
    ARTERY: (15.0, 4.5, 40.0, 900.0),
    LATE_ARTERY: (20.0, 6.5, 40.0, 900.0),
    VEIN: (19.0, 7.5, 45.0, 1000.0),
    SATURATED: (15.0, 4.5, 400.0, 900.0),
    MOVED: (15.0, 4.5, 40.0, 900.0),
    AIR: (15.0, 4.5, 0.0, 20.0),
    MIXED: (16.0, 5.5, 40.0, 900.0),
    WIDE: (14.0, 9.0, 40.0, 900.0),
    ROUGH: (15.0, 4.5, 40.0, 900.0),
    STEP: (15.0, 4.5, 40.0, 900.0),
    AWAY: (15.0, 4.5, 40.0, 900.0),
    DISTAL: (15.8, 4.5, 40.0, 900.0),
}


@dataclasses.dataclass(frozen=True)
class World:
    kinds: np.ndarray  # (x, y, z)
    series: np.ndarray
    delta_r2star: np.ndarray
    baseline: np.ndarray
    timing: signal.BolusTiming

    def find(self, candidates=None, scale=1.0):
        everywhere = np.ones(self.kinds.shape, bool) if candidates is None else candidates
        return arterial.find_arterial_input(
            scale * self.delta_r2star, everywhere, self.baseline, self.timing, FRAME, ECHO / scale
        )

    def chosen(self, **keywords):
        return set(np.unique(self.kinds[self.find(**keywords).mask]))


def _clean_curve(kind):
    arrival, rise, height, _ = KINDS[kind]
    return height * (
        gamma_variate(SECONDS - arrival, rise, 3.0) + 0.1 * gamma_variate(SECONDS - arrival - 16, 2 * rise, 3.0)
    )


def _world(vessels, seed=0):
    """Tissue with `vessels`, {kind: number of voxels}, at random places, Rician noise."""
    rng = np.random.default_rng(seed)
    kinds = np.full(14 * 14 * 5, TISSUE)
    places, begin = rng.permutation(len(kinds)), 0
    for kind, count in vessels.items():
        kinds[places[begin : begin + count]] = kind
        begin += count
    curves = np.stack([_clean_curve(kind) for kind in KINDS])[kinds]
    rest = np.array([KINDS[kind][3] for kind in KINDS])[kinds]
    pure = rest[:, None] * np.exp(-ECHO * curves * rng.uniform(0.85, 1.0, (len(kinds), 1)))
    pure[kinds == MOVED, 18:] *= 0.3  # the head moves in the first pass and stays there
    pure[kinds == STEP, 35:] *= 0.75  # afterwards
    pure[kinds == AWAY, 25:] *= 0.4
    pure[kinds == ROUGH, 12] = pure[kinds == ROUGH, 11]
    pure[kinds == ROUGH, 14] = pure[kinds == ROUGH, 11]
    noisy = np.hypot(pure + rng.normal(0, NOISE, pure.shape), rng.normal(0, NOISE, pure.shape)).astype(np.float32)
    series = noisy.reshape(14, 14, 5, -1)
    timing = signal.find_bolus(noisy[kinds == TISSUE].mean(axis=0, dtype=np.float64))
    baseline = signal.baseline_signal(series, timing)
    return World(kinds.reshape(14, 14, 5), series, signal.delta_r2star(series, baseline, ECHO), baseline, timing)


@pytest.fixture(scope="module")
def world():
    return _world({ARTERY: 15, LATE_ARTERY: 20, VEIN: 30, SATURATED: 10, MOVED: 20, AIR: 30})


def _still(number=1, bolus=None):
    still = dataclasses.replace(acquisition.REAL, motion=False)
    return phantom.draw_phantom("acute", (7, number), size=96, imperfections=still, bolus=bolus)


@pytest.fixture(scope="module")
def exam():
    return _still()


def _found_in(drawn, slices=slice(None)):
    """The AIF of some slices of an exam, as if nothing else had been acquired; and where the slices hold blood."""
    series, shares = drawn.series[:, :, slices].astype(np.float32), drawn.shares["artery"][:, :, slices]
    candidates = (drawn.mask | (drawn.shares["csf"] > 0.5))[:, :, slices] | (shares > 0.1)
    timing = signal.find_bolus(series[candidates].mean(axis=0, dtype=np.float64))
    baseline = signal.baseline_signal(series, timing)
    delta_r2star = signal.delta_r2star(series, baseline, drawn.echo_seconds)
    found = arterial.find_arterial_input(
        delta_r2star, candidates, baseline, timing, drawn.frame_seconds, drawn.echo_seconds
    )
    return found, shares[found.mask]


def _truth_of(drawn):
    seconds, concentration = drawn.arterial_seconds, drawn.arterial_mm
    return arterial.arterial_input_from_curve(seconds, concentration, len(seconds), drawn.frame_seconds)


# --------------------------------------------------------------------------------------------- automatic choice


def test_only_early_unsaturated_still_arteries_are_chosen(world):
    assert world.chosen() == {ARTERY}


def test_ct_has_no_noise_floor_and_its_highest_arteries_are_taken():
    rng = np.random.default_rng(0)
    kinds = np.full(14 * 14 * 5, TISSUE)
    kinds[rng.permutation(len(kinds))[:12]] = ARTERY
    enhanced = np.stack([6 * _clean_curve(TISSUE) / 8, 300 * _clean_curve(ARTERY) / 40])[kinds]  # HU
    series = 1000 * np.exp(-0.01 * (enhanced + rng.normal(0, 5, enhanced.shape))).reshape(14, 14, 5, -1)
    timing = signal.find_bolus(series.reshape(len(kinds), -1)[kinds == TISSUE].mean(axis=0))
    baseline = signal.baseline_signal(series, timing)
    delta_r2star = signal.delta_r2star(np.float32(series), np.float32(baseline), 1.0)
    everywhere = np.ones(series.shape[:3], bool)

    found = arterial.find_arterial_input(delta_r2star, everywhere, baseline, timing, FRAME, 1.0, noise_floor=False)
    assert (kinds[np.flatnonzero(found.mask)] == ARTERY).all() and "arterial_flattened" not in _names(found)
    assert found.peak_delta_r2star == pytest.approx(3.0, rel=0.05)
    with pytest.raises(InputError, match="noise floor"):
        arterial.find_arterial_input(delta_r2star, everywhere, baseline, timing, FRAME, 1.0)


def test_the_curve_of_the_arteries_is_found(world):
    found, truth = world.find(), _clean_curve(ARTERY)
    assert np.corrcoef(found.delta_r2star, truth)[0, 1] > 0.998
    fine = np.linspace(0, 40, 40001)
    first_pass = gamma_variate(fine, 4.5, 3.0) > 0.5
    assert found.width_seconds == pytest.approx(first_pass.sum() * 1e-3, rel=0.07)
    assert found.peak_seconds == pytest.approx(19.5, abs=0.3 * FRAME)
    assert found.peak_delta_r2star == pytest.approx(0.925 * 40, rel=0.05)
    assert 15.0 <= found.arrival_seconds <= 17.0
    assert found.source == "auto" and found.n_voxels == found.mask.sum() and found.delta_r2star.dtype == np.float32


@pytest.mark.parametrize("seed", range(1, 6))
def test_other_places_and_other_noise_give_arteries_too(seed):
    assert _world({ARTERY: 12, LATE_ARTERY: 20, VEIN: 30, SATURATED: 10, MOVED: 20, AIR: 30}, seed=seed).chosen() == {
        ARTERY
    }


def test_the_choice_is_the_same_again_and_in_any_unit(world):
    once, again, scaled = world.find(), world.find(), world.find(scale=ECHO)
    np.testing.assert_array_equal(once.delta_r2star, again.delta_r2star)
    np.testing.assert_array_equal(once.mask, scaled.mask)
    np.testing.assert_allclose(scaled.delta_r2star, ECHO * once.delta_r2star, rtol=1e-4, atol=1e-5)
    assert scaled.quality == pytest.approx(once.quality, rel=1e-3)


def test_arteries_mixed_with_tissue_are_left_out():
    assert _world({ARTERY: 8, MIXED: 40}).chosen() == {ARTERY}


def test_proximal_arteries_are_preferred_to_distal_ones_of_the_same_height():
    assert _world({ARTERY: 8, DISTAL: 12}).chosen() == {ARTERY}


def test_more_slices_without_arteries_do_not_change_the_choice(world):
    rng = np.random.default_rng(5)
    tissue = _clean_curve(TISSUE) * rng.uniform(0.7, 1.3, (14, 14, 40, 1))
    pure = 1000.0 * np.exp(-ECHO * tissue)
    more = np.hypot(pure + rng.normal(0, NOISE, pure.shape), rng.normal(0, NOISE, pure.shape)).astype(np.float32)
    series = np.concatenate([world.series, more], axis=2)
    baseline = signal.baseline_signal(series, world.timing)
    delta_r2star = signal.delta_r2star(series, baseline, ECHO)
    everywhere = np.ones(series.shape[:3], bool)
    found = arterial.find_arterial_input(delta_r2star, everywhere, baseline, world.timing, FRAME, ECHO)
    np.testing.assert_array_equal(found.mask[..., :5], world.find().mask)
    assert not found.mask[..., 5:].any()


def test_an_artery_that_moves_out_of_its_voxel_afterwards_is_left_out():
    assert _world({ARTERY: 15, STEP: 3}).chosen() == {ARTERY}


def test_voxels_outside_the_candidates_are_never_chosen(world):
    half = np.arange(14)[:, None, None] < np.full((14, 14, 5), 7)
    assert not world.find(candidates=half).mask[~half].any()


def test_saturated_arteries_are_mentioned_where_they_outnumber_the_others():
    found = _world({ARTERY: 6, SATURATED: 40}).find()
    assert set(np.unique(_world({ARTERY: 6, SATURATED: 40}).kinds[found.mask])) == {ARTERY}
    assert "early voxels were not taken as AIF because their signal falls to the noise floor" in found.findings[0].text
    with pytest.raises(arterial.NoArterialInputError, match=r"in all .* noise floor; give the AIF with --aif=FILE"):
        _world({SATURATED: 20}).find()


def test_quality_is_high_for_many_like_voxels_and_low_for_few(world):
    many, few = world.find(), _world({ARTERY: 3}).find()
    assert many.n_voxels >= 10 and many.quality > 0.8 and many.findings == ()
    assert few.n_voxels == 3 and few.quality < 0.6 and "only 3 voxels" in few.findings[0].text


def test_an_exam_that_ends_before_the_brains_first_pass_is_refused(world):
    cut = dataclasses.replace(world, delta_r2star=world.delta_r2star[..., :18])
    with pytest.raises(arterial.NoArterialInputError, match=r"does not rise and fall .* within the 18 frames"):
        cut.find()


def test_an_exam_that_ends_within_the_arterial_first_pass_says_so():
    truth = _clean_curve(ARTERY)[:17]
    delta_r2star = np.broadcast_to(truth, (2, 2, 2, 17)).astype(np.float32)
    everywhere = np.ones((2, 2, 2), bool)
    found = arterial.arterial_input_from_mask(
        delta_r2star, everywhere, everywhere, signal.BolusTiming(0, 0, 10, 13), FRAME, ECHO
    )
    assert any("ends before the first pass of the AIF does" in note.text for note in found.findings)


def test_a_high_level_after_the_first_pass_is_no_exam_cut_short():
    level = 0.45 * 40.0 * np.clip((SECONDS - 22.0) / 8.0, 0.0, 1.0)
    curve = np.maximum(40.0 * gamma_variate(SECONDS - 15.0, 4.5, 3.0), level)
    delta_r2star = np.broadcast_to(curve, (2, 2, 2, FRAMES)).astype(np.float32)
    everywhere = np.ones((2, 2, 2), bool)
    found = arterial.arterial_input_from_mask(
        delta_r2star, everywhere, everywhere, signal.BolusTiming(0, 0, 10, 13), FRAME, ECHO
    )
    assert "arterial_incomplete" not in [finding.name for finding in found.findings]


# ------------------------------------------------------------------------------------------------- refusals


def test_noise_is_refused(world):
    noise = np.random.default_rng(0).normal(500, 10, world.series.shape).astype(np.float32)
    baseline = signal.baseline_signal(noise, world.timing)
    delta_r2star = signal.delta_r2star(noise, baseline, ECHO)
    with pytest.raises(arterial.NoArterialInputError, match="--aif=FILE"):
        dataclasses.replace(world, delta_r2star=delta_r2star, baseline=baseline).find()


@pytest.mark.parametrize("vessels", [{}, {VEIN: 30}, {MOVED: 10}, {WIDE: 20}, {ROUGH: 20}, {AWAY: 20}])
def test_curves_unlike_an_arterys_are_refused(vessels):
    with pytest.raises(arterial.NoArterialInputError, match=r"of the .* highest curves"):
        _world(vessels).find()


def test_a_single_voxel_is_no_artery():
    with pytest.raises(arterial.NoArterialInputError, match="the 1 most arterial voxels"):
        _world({ARTERY: 1}).find()


def test_an_empty_brain_is_refused(world):
    with pytest.raises(arterial.NoArterialInputError, match="no voxel with signal"):
        world.find(candidates=np.zeros(world.kinds.shape, bool))


@pytest.mark.parametrize(("width", "left"), [(3.0, 1.0), (6.0, 0.5), (9.0, 0.1)])
def test_the_wider_the_bolus_the_more_of_pulsation_is_smoothed_away_and_hardly_any_bolus(width, left):
    frames = np.arange(60.0)
    bolus = gamma_variate(frames - 12.0, width / kinetics.gamma_variate_width(3.0), 3.0)
    pulsation = 0.03 * np.cos(2 * np.pi * 0.4 * frames)
    smooth = arterial_voxels.smoothed(bolus, width, 2)
    np.testing.assert_allclose(smooth, bolus, atol=0.03)  # of its peak
    np.testing.assert_array_equal(smooth[:2], bolus[:2])
    remaining = arterial_voxels.smoothed(bolus + pulsation, width, 2) - smooth
    assert np.std(remaining[6:-6]) <= 1.001 * left * np.std(pulsation[6:-6])


# -------------------------------------------------------------------------------------------- the user's voxels


def test_voxels_of_a_given_mask_without_signal_are_told_and_do_not_count(world):
    mask = world.kinds == ARTERY
    dark = mask & (np.cumsum(mask).reshape(mask.shape) > 10)
    without = dataclasses.replace(world, delta_r2star=np.where(dark[..., None], 0, world.delta_r2star))
    found = _from_mask(without, mask, ~dark)
    [told] = [one for one in found.findings if one.name == "arterial_outside"]
    assert told.value == 5 and told.text.endswith("5 of them have no signal and do not count")
    np.testing.assert_array_equal(found.delta_r2star, _from_mask(world, mask & ~dark).delta_r2star)


def _from_mask(world, mask, brain=None):
    brain = np.ones(world.kinds.shape, bool) if brain is None else brain
    return arterial.arterial_input_from_mask(world.delta_r2star, mask, brain, world.timing, FRAME, ECHO)


def test_the_users_voxels_are_averaged_early_or_late(world):
    for kind in (ARTERY, LATE_ARTERY):
        mask = world.kinds == kind
        found = _from_mask(world, mask.astype(np.uint8))
        np.testing.assert_allclose(found.delta_r2star, world.delta_r2star[mask].mean(axis=0), rtol=1e-5, atol=1e-5)
        assert found.source == "mask" and found.n_voxels == mask.sum() and found.quality > 0.7
    assert found.peak_seconds == pytest.approx(26.5, abs=0.5)


def test_the_users_voxels_in_tissue_are_taken_but_judged(world):
    found = _from_mask(world, world.kinds == TISSUE)
    assert found.quality < 0.1 and any("it may be tissue's" in note.text for note in found.findings)


def _names(found):
    return {note.name for note in found.findings}


def test_few_good_voxels_are_told_but_the_curve_is_not_doubted(world):
    mask = np.zeros(world.kinds.shape, bool)
    mask.ravel()[np.flatnonzero(world.kinds.ravel() == ARTERY)[:2]] = True
    found = _from_mask(world, mask)
    assert found.quality < 0.5 and _names(found) & {"arterial_few_voxels", "arterial_quality"} == {
        "arterial_few_voxels"
    }


def test_voxels_that_disagree_are_told(world):
    mask = (world.kinds == ARTERY) | (world.kinds == WIDE) | (world.kinds == LATE_ARTERY)
    assert "arterial_quality" not in _names(_from_mask(world, world.kinds == ARTERY))
    assert "arterial_quality" in _names(_from_mask(world, mask | (world.kinds == MOVED)))


def test_an_early_and_narrow_curve_that_is_low_is_no_warning(world):
    places = world.kinds == ARTERY
    mixed = world.delta_r2star.copy()
    mixed[places] *= 0.6  # the rest of the voxel is tissue that fills later
    found = _from_mask(dataclasses.replace(world, delta_r2star=mixed), places)
    assert "warning" not in {note.severity for note in found.findings}


def test_a_useless_mask_is_refused(world):
    arteries = world.kinds == ARTERY
    with pytest.raises(InputError, match=re.escape("(14, 14, 5) voxels, it has (14, 14, 4)")):
        _from_mask(world, arteries[..., :4])
    with pytest.raises(InputError, match="at least one voxel"):
        _from_mask(world, np.zeros_like(arteries))
    with pytest.raises(InputError, match="0 of its 15 voxels are there"):
        _from_mask(world, arteries, brain=~arteries)
    with pytest.raises(arterial.NoArterialInputError, match="no bolus in the mean curve of the 30 arterial voxels"):
        _from_mask(world, world.kinds == AIR)


# --------------------------------------------------------------------------------------------- the user's curve


def test_the_users_curve_becomes_delta_r2star_of_blood():
    concentration = _clean_curve(ARTERY) / kinetics.BLOOD_RELAXIVITY - 0.01
    found = arterial.arterial_input_from_curve(SECONDS, concentration, FRAMES, FRAME)
    np.testing.assert_allclose(found.delta_r2star, kinetics.BLOOD_RELAXIVITY * concentration, rtol=1e-5)
    assert found.mask is None and found.n_voxels == 0 and found.source == "curve" and found.findings == ()
    assert found.quality > 0.95 and found.peak_seconds == pytest.approx(19.5, abs=0.3)


def test_a_useless_curve_is_refused():
    curve = _clean_curve(ARTERY)
    refused = [
        ((SECONDS[:-1], curve[:-1]), "each of the 50 frames, it has 49 times"),
        ((SECONDS * 2, curve), "in steps of 1.5 s, it has 0 to 147 s in steps of 3 s"),
        ((SECONDS + 1, curve), "expected the times of the frames, 0 to 73.5 s"),
        ((SECONDS, np.where(SECONDS == 3, np.nan, curve)), "finite numbers, 1 of 50 rows"),
        ((SECONDS, -curve), "positive concentration"),
        ((SECONDS * 1000, curve), "in steps of 1.5 s, it has steps of 1500, which look like ms"),
        ((SECONDS / 60, curve), "steps of 0.025, which look like minutes"),
        (
            (SECONDS, curve * 1e30),
            r"in mM, with a peak of 0.01 to 200 mM, the peak is \d.*e\+31; no unit explains that",
        ),
        ((SECONDS, curve * 20), "look(s)? like µmol/L"),
        (
            (SECONDS, curve / curve.max() * 0.005),
            "the peak is 0.005; this looks like mol/L, or like a normalised curve",
        ),
    ]
    for (seconds, concentration), message in refused:
        with pytest.raises(InputError, match=message):
            arterial.arterial_input_from_curve(seconds, concentration, FRAMES, FRAME)


# ------------------------------------------------------------------------------------------------- whole exams


def test_the_phantoms_arterial_curve_is_found(exam):
    (found, shares), truth = _found_in(exam), _truth_of(exam)
    assert np.corrcoef(found.delta_r2star, truth.delta_r2star)[0, 1] >= 0.99
    assert (shares >= 0.3).mean() >= 0.9
    assert found.width_seconds == pytest.approx(truth.width_seconds, rel=0.15)
    assert found.peak_seconds == pytest.approx(truth.peak_seconds, abs=exam.frame_seconds)
    assert _half_rise(found.delta_r2star, exam) - _half_rise(truth.delta_r2star, exam) < 0.3


def _half_rise(curve, drawn):
    """Where a curve crosses half of its peak, s, finer than a frame."""
    top = int(curve.argmax())
    rising = curve[: top + 1] / curve[top]
    last = np.flatnonzero(rising < 0.5)[-1]
    return drawn.frame_seconds * (last + (0.5 - rising[last]) / (rising[last + 1] - rising[last]))


def test_a_stack_of_any_height_that_holds_the_arteries_at_the_base_gives_the_same_times():
    exam = _still(6)
    middle = int((exam.shares["artery"] > 0.7).sum(axis=(0, 1)).argmax())
    whole, _ = _found_in(exam)
    for height in (1, 3, 5):
        some, _ = _found_in(exam, slice(middle - height // 2, middle + height // 2 + 1))
        assert _half_rise(some.delta_r2star, exam) == pytest.approx(_half_rise(whole.delta_r2star, exam), abs=0.2)
        assert not [finding for finding in some.findings if finding.severity == "warning"]


def test_slices_that_hold_no_large_artery_are_a_warning(exam):
    top = int(0.75 * exam.mask.shape[2])
    for slices in (slice(top, top + 1), slice(top - 1, top + 2)):
        found, shares = _found_in(exam, slices)
        assert shares.mean() < 0.5
        assert [finding.severity for finding in found.findings if finding.name == "arterial_low"] == ["warning"]


@pytest.mark.parametrize("height", [1, 3, 9])
def test_slices_above_the_base_whose_arteries_are_late_are_a_warning(exam, height):
    middle = int(0.58 * exam.mask.shape[2])
    found, _ = _found_in(exam, slice(middle - height // 2, middle + height // 2 + 1))
    assert {"arterial_low", "arterial_late"} & {one.name for one in found.findings if one.severity == "warning"}


@pytest.mark.parametrize(("over_brain", "name"), [(3.0, "arterial_low"), (5.0, "arterial_late"), (7.0, None)])
def test_a_late_curve_is_doubted_unless_it_is_as_high_as_a_large_arterys_alone(over_brain, name):
    found = arterial._doubts(10, over_brain, True, False, 0.5)
    assert [(finding.name, finding.severity) for finding in found] == ([(name, "warning")] if name else [])
    assert not arterial._doubts(10, over_brain, False, False, 0.5)


@pytest.mark.parametrize(("over_brain", "severities"), [(2.0, ["warning"]), (2.8, ["note"]), (3.2, [])])
def test_an_early_curve_that_is_hardly_higher_than_the_brains_is_mostly_tissue(over_brain, severities):
    found = arterial._doubts(10, over_brain, False, False, 0.5)
    assert [(finding.name, finding.severity) for finding in found] == [("arterial_low", one) for one in severities]
    narrow = arterial._doubts(10, over_brain, False, True, 0.5)  # little blood, and no tissue that would widen it
    assert "warning" not in {finding.severity for finding in narrow}
    said = {"warning": "mostly tissue", "note": "but wide"}
    assert all(said[finding.severity] in finding.text for finding in found)
    assert all("early and narrow" in finding.text for finding in narrow)


@pytest.mark.slow
@pytest.mark.parametrize(("width_seconds", "tail"), [(6.0, 0.05), (11.0, 0.2), (20.0, 0.4)])
def test_wide_boluses_with_high_tails_are_found_and_not_doubted(width_seconds, tail):
    drawn = _still(bolus=subject.Bolus(width_seconds, tail))
    (found, shares), truth = _found_in(drawn), _truth_of(drawn)
    assert truth.width_seconds == pytest.approx(width_seconds, abs=0.5)
    assert found.findings == () and found.quality > 0.7
    assert (shares >= 0.3).all()
    assert np.corrcoef(found.delta_r2star, truth.delta_r2star)[0, 1] >= 0.99
    assert found.width_seconds == pytest.approx(truth.width_seconds, rel=0.15)


def test_the_real_exams_arteries_are_early_high_and_narrow(real_exam):
    exam = load_exam(real_exam)
    baseline = signal.baseline_signal(exam.series, exam.timing)
    delta_r2star = signal.delta_r2star(exam.series, baseline, 1.0)
    found = arterial.find_arterial_input(delta_r2star, exam.mask, baseline, exam.timing, exam.frame_seconds, 1.0)
    brain = delta_r2star[exam.mask].mean(axis=0)
    assert found.n_voxels >= 5 and found.quality > 0.7
    assert found.peak_delta_r2star > 2.5 * brain.max()
    assert found.peak_seconds < exam.frame_seconds * brain.argmax() - exam.frame_seconds
    assert 4.0 < found.width_seconds < 9.0
