"""The preset `varied`: within its ranges, all of it drawn, taken by the program; other presets stay as they were."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from dscgan_jax.data.exams import Exam
from dscgan_jax.phantom import acquisition, varied
from dscgan_jax.phantom.acquisition import IDEAL, Imperfections
from dscgan_jax.phantom.anatomy import rotation_matrix
from dscgan_jax.phantom.exam import draw_phantom
from dscgan_jax.phantom.varied import MATRICES, RANGES, STATES, TRANSIT_SHAPES, Hole, Range, Variation

MANY = 400


@pytest.fixture(scope="module")
def variations() -> list[Variation]:
    return [Variation(np.random.default_rng(seed)) for seed in range(MANY)]


def seed_of(what, **wanted) -> int:
    """A seed of `draw_phantom` whose exam has these properties."""
    for seed in range(2000):
        streams = np.random.SeedSequence([seed, 4]).spawn(11)
        one = Variation(np.random.default_rng(streams[9]))
        if what(one) and all(getattr(one, name) == value for name, value in wanted.items()):
            return seed
    raise AssertionError("no such exam")


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        ("acute", "dd81456af1bab108"),
        ("chronic", "43f14ae531b1d33d"),
        ("tumour", "6b486ffde71c60ee"),
        ("varied", "d5c63f8830c05752"),
    ],
)
def test_presets_draw_what_they_drew_before_there_were_others(preset, digest):
    truth = draw_phantom(preset, 3, size=32, slices=2).truth
    drawn = {name: truth[name] for name in ("arterial", "disease", "healthy", "anatomy", "scanner", "motion", "frames")}
    assert hashlib.sha256(json.dumps(rounded(drawn), sort_keys=True).encode()).hexdigest()[:16] == digest


def test_numbers_lie_within_their_ranges_and_fill_them(variations):
    for name, limits in RANGES.items():
        values = np.array([one.drawn[name] for one in variations])
        assert limits.low <= values.min() and values.max() <= limits.high
        low, high = np.quantile(values, [0.02, 0.98])
        if limits.centre is None and name != "arterial_tail":
            assert high - low > 0.85 * (limits.high - limits.low), name
        elif limits.centre is not None:
            assert np.median(values) == pytest.approx(limits.centre, rel=0.1), name


def test_every_state_matrix_and_shape_comes_up_about_as_often_as_its_share_says(variations):
    for state, share in STATES.items():
        assert np.mean([one.state == state for one in variations]) == pytest.approx(share, abs=0.08)
    assert {one.matrix for one in variations} == set(MATRICES)
    assert {one.transit_shape for one in variations} == set(TRANSIT_SHAPES)
    assert {one.movements for one in variations} == {0, 1, 2, 3}
    assert min(one.own_slices for one in variations) <= 2 and max(one.own_slices for one in variations) >= 35
    frames = [one.frames for one in variations]
    assert min(frames) >= 30 and max(frames) <= 130 and max(frames) - min(frames) > 80
    assert any(one.stripped for one in variations) and any(one.hole for one in variations)


def test_a_bolus_is_never_before_the_third_frame_and_its_first_pass_is_acquired(variations):
    for one in variations:
        assert one.arrival_frames >= 3.0
        assert (one.frames - 1 - one.arrival_frames) * one.drawn["frame_seconds"] >= 19.9


def test_the_median_arterial_curve_lies_between_fitted_mr_and_ct():
    assert 6.3 < RANGES["arterial_width_seconds"].centre < 11.2


def test_a_range_without_centre_is_even_and_one_with_it_is_not():
    rng = np.random.default_rng(0)
    even = [Range(0.0, 1.0, "1", "").draw(rng) for _ in range(2000)]
    assert np.mean(even) == pytest.approx(0.5, abs=0.03)
    bent = [Range(1.0, 100.0, "1", "", 5.0).draw(rng) for _ in range(2000)]
    assert np.median(bent) == pytest.approx(5.0, rel=0.1)


def test_an_exam_is_the_same_person_on_another_grid_and_another_exam_another():
    first, again, finer = (draw_phantom("varied", 3, size=size, slices=2) for size in (32, 32, 48))
    np.testing.assert_array_equal(first.series, again.series)
    assert first.truth["varied"] == finer.truth["varied"]
    assert first.series.shape[3] == finer.series.shape[3] and first.frame_seconds == finer.frame_seconds
    assert draw_phantom("varied", 4, size=32, slices=2).frame_seconds != first.frame_seconds


def test_size_0_takes_the_exams_own_matrix():
    seed = seed_of(lambda one: one.matrix == 64 and one.own_slices <= 6)
    exam = draw_phantom("varied", seed, size=0)
    assert exam.series.shape[:2] == (64, 64)
    assert exam.series.shape[2] == exam.truth["slices"] == exam.truth["varied"]["own_slices"]
    assert draw_phantom("acute", 0, size=0, slices=1).series.shape[:2] == (128, 128)


def test_almost_every_exam_is_one_that_the_program_takes():
    for number in range(12):
        exam = draw_phantom("varied", (21, number), size=48, slices=4)
        Exam.from_arrays(exam.series, exam.affine, repetition_time=exam.frame_seconds, maps=exam.maps, mask=exam.mask)
        assert set(exam.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"}
        assert exam.field_tesla in (1.5, 3.0)


def test_a_stripped_exam_is_zero_around_the_brain_and_another_is_not():
    for stripped in (True, False):
        seed = seed_of(lambda one: one.height > 0.4, stripped=stripped)
        exam = draw_phantom("varied", seed, size=48, slices=2)
        assert (exam.series[0] == 0).all() == stripped  # the rim of the picture is air, which is never without noise


def test_two_lesions_of_a_person_delay_both_sides():
    seed = seed_of(lambda one: one.lesions == 2 and one.height > 0.3, state="acute", other_side=True)
    exam = draw_phantom("varied", seed, size=48, slices=6, imperfections=IDEAL)
    first, second = exam.truth["disease"], exam.truth["more_diseases"][0]
    assert {first["side"], second["side"]} == {"right", "left"}


def test_a_hole_holds_fluid_in_the_place_of_tissue():
    hole = Hole(np.random.default_rng(1), 15.0)
    centre = hole.centre * (hole.side, 1, 1)
    share = hole.share(np.array([centre, centre + np.array([0, 60, 0]), centre * (-1, 1, 1)]), 2.0)
    np.testing.assert_array_equal(share, [1.0, 0.0, 0.0])
    seed = seed_of(lambda one: one.hole is not None and one.drawn["hole_radius_mm"] > 20 and 0.55 < one.height < 0.75)
    exam = draw_phantom("varied", seed, size=48, slices=8, imperfections=IDEAL)
    total = sum(exam.shares[name] for name in ("grey", "white", "csf", "sinus"))
    assert total.max() <= 1.0 + 1e-5


def test_several_movements_follow_one_another():
    one = next(v for v in (Variation(np.random.default_rng(seed)) for seed in range(MANY)) if v.movements == 3)
    motion = one.motion(np.random.default_rng(0), 60, None)
    steps = np.abs(np.diff(motion.millimetres, axis=0)).sum(axis=1) > 1e-6
    assert motion.moved and steps.sum() >= 3
    assert not one.motion(np.random.default_rng(0), 60, False).moved
    np.testing.assert_array_equal(motion.degrees[0], 0)


def test_a_slab_that_moves_shows_its_neighbours_and_not_air():
    series = np.ones((8, 8, 2, 3), np.float32)
    up = np.tile(np.eye(4), (3, 1, 1))
    up[2, 2, 3] = 2.0
    for repeat, value in ((False, 0.0), (True, 1.0)):
        moved = series.copy()
        acquisition.move_frames(moved, np.eye(4), up, repeat_ends=repeat)
        assert moved[4, 4, 0, 2] == value


def test_an_ideal_exam_has_no_imperfection_that_was_drawn():
    exam = draw_phantom("varied", seed_of(lambda one: not one.stripped), size=32, slices=2, imperfections=IDEAL)
    np.testing.assert_allclose(exam.series[..., 0], exam.series[..., 1], rtol=1e-5)  # before the bolus
    assert exam.truth["signal_to_noise"] is None and not exam.truth["moved"]
    noisy = draw_phantom("varied", 0, size=32, slices=2, imperfections=Imperfections(motion=True))
    assert noisy.truth["moved"]


def test_a_tilted_head_is_turned_about_its_own_axes(variations):
    exam = draw_phantom("varied", 1, size=32, slices=1)
    angles = np.array(exam.truth["anatomy"]["angles_degrees"])
    drawn = exam.truth["varied"]
    np.testing.assert_allclose(angles[:2], [drawn["pitch_degrees"], drawn["roll_degrees"]])
    assert np.linalg.det(rotation_matrix(angles)) == pytest.approx(1.0)


def test_an_early_bolus_leaves_no_frame_before_steady_state(variations):
    assert all(one.steady for one in variations if one.arrival_frames < varied.EARLY_FRAMES)
    assert not all(one.steady for one in variations)


def test_the_page_of_the_phantom_lists_every_range_with_its_source():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "phantom.md"
    assert varied.range_table() in page.read_text(encoding="utf-8")
    assert all(one.source for one in RANGES.values())
