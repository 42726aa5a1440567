"""How an exam was taken, in a few numbers; and who is unlike the exams that a network knows."""

import dataclasses

import numpy as np
import pytest
from exams import exam_of, fake_arrays, prepared_of, write_fake_cohort

from dscgan_jax.data import exams, features, layouts
from dscgan_jax.data.features import ExamFeatures, features_of, likeness, unlike
from dscgan_jax.perfusion import brain
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.phantom.exam import draw_phantom


def phantom_exam(number, preset="acute", slices=3):
    phantom = draw_phantom(preset, (12, number), size=32, slices=slices)
    series = phantom.series.astype(np.float32)
    return exam_of(series, phantom.mask, phantom.affine, frame_seconds=phantom.frame_seconds)


@pytest.fixture(scope="module")
def known():
    """Likeness of twenty acute phantom exams."""
    return likeness([features_of(phantom_exam(number)) for number in range(20)])


def test_each_feature_is_the_number_by_which_the_exam_was_made():
    """Signal 1000 with noise of 20; a dip to 1000 exp(-0.5) of Gaussian shape; 100 around the brain."""
    frames, sigma = np.arange(60), 3.0
    curve = 1000 * np.exp(-0.5 * np.exp(-0.5 * ((frames - 25) / sigma) ** 2))
    mask = np.hypot(*np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5)) < 10
    mask = np.repeat(mask[..., None], 4, axis=2)
    rng = np.random.default_rng(0)
    series = np.where(mask[..., None], curve, 100.0) + rng.normal(0, 20, (*mask.shape, 60))
    found = features_of(
        exam_of(
            series.astype(np.float32),
            mask,
            np.diag([4.0, 4.0, 6.0, 1.0]),
            frame_seconds=2.0,
            timing=BolusTiming(1, 1, 15, 25),
        )
    )
    assert (found.frame_seconds, found.duration_seconds, found.before_bolus_seconds, found.voxel_mm) == (
        2.0,
        120.0,
        30.0,
        4.0,
    )
    assert found.fall == pytest.approx(1 - np.exp(-0.5), rel=0.02)
    assert found.pass_seconds == pytest.approx(2 * 2 * sigma * np.sqrt(2 * np.log(1 / 0.7)), rel=0.05)
    assert found.signal_to_noise == pytest.approx(50, rel=0.1)
    assert found.brain_cm2 == pytest.approx(mask[..., 0].sum() * 0.16)
    assert found.surroundings == pytest.approx(0.1, rel=0.1)


def test_the_way_an_exam_is_stored_does_not_change_its_features():
    phantom = draw_phantom("acute", (12, 3), size=32, slices=3)
    series = phantom.series.astype(np.float32)
    swap = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # stored (y, z, x)
    seconds = {"frame_seconds": phantom.frame_seconds}
    stored = series.transpose(1, 2, 0, 3), phantom.mask.transpose(1, 2, 0), phantom.affine @ swap
    turned, plain = exam_of(*stored, **seconds), exam_of(series, phantom.mask, phantom.affine, **seconds)
    for name, value in dataclasses.asdict(features_of(turned)).items():
        assert value == pytest.approx(getattr(features_of(plain), name), rel=1e-6), name


def test_a_first_pass_that_the_exam_cuts_off_counts_to_its_end():
    curve = np.interp(np.arange(30), [0, 10, 20, 29], [0, 0, 1, 0.8])
    assert features._width_frames(curve, 10, 20) == pytest.approx(12)


@pytest.mark.slow
def test_other_exams_of_the_same_protocol_are_not_warned_of(known):
    """Of twenty exams none had a bolus as late as one in thirty has: whether that matters depends on the network."""
    found = [unlike(features_of(phantom_exam(number)), known, ["before_bolus_seconds"]) for number in range(100, 140)]
    assert not any(found)
    assert not unlike(features_of(phantom_exam(150, slices=1)), known)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("stripped", "signal around the brain over the brain's"),
        ("coarse", "voxel size in the slice"),
        ("long_frames", "frame length"),
        ("short_frames", "duration"),
        ("ct", "fall of the brain's signal"),
        ("noisy", "signal over noise"),
        ("later", "time before the bolus"),
        ("zoomed", "area of brain"),
    ],
)
def test_an_exam_unlike_the_training_exams_is_named_with_value_and_range(known, what, words):
    exam = phantom_exam(7)
    resting = np.median(exam.series[..., 1:6], axis=-1, keepdims=True)
    inside = brain.with_fluid_spaces(exam.mask, exam.voxel_mm)
    noise = np.random.default_rng(0).normal(0, 0.1 * resting[exam.mask].mean(), exam.series.shape)

    def zoomed(factor):
        return dataclasses.replace(exam.stored, affine=exam.stored.affine @ np.diag([factor, factor, 1, 1]))

    changes = {
        "stripped": {"series": exam.series * inside[..., None]},
        "coarse": {"stored": zoomed(2)},
        "zoomed": {"stored": zoomed(0.6)},
        "long_frames": {"frame_seconds": 5.0},
        "short_frames": {"frame_seconds": 0.3},
        "ct": {"series": resting + 0.15 * (exam.series - resting)},
        "noisy": {"series": np.abs(exam.series + noise)},
        "later": {"timing": dataclasses.replace(exam.timing, baseline_end=exam.timing.baseline_end + 15)},
    }
    found = unlike(features_of(dataclasses.replace(exam, **changes[what])), known)
    assert [(finding.name, finding.severity) for finding in found] == [("unlike_training", "warning")]
    assert words in found[0].text and "(training " in found[0].text and "\n" not in found[0].text


def test_a_stripped_skull_is_only_told_of_where_the_network_would_see_it(known):
    exam = phantom_exam(7)
    inside = brain.with_fluid_spaces(exam.mask, exam.voxel_mm)
    stripped = features_of(dataclasses.replace(exam, series=exam.series * inside[..., None]))
    assert unlike(stripped, known) and not unlike(stripped, known, ["surroundings"])


def test_one_exam_in_a_hundred_does_not_widen_the_range_and_features_that_nobody_knows_are_not_compared():
    usual = ExamFeatures(2.0, 120.0, 20.0, 0.2, 10.0, 50.0, 2.0, 150.0, 0.25)
    wrong = dataclasses.replace(usual, frame_seconds=0.065)
    known = likeness([usual] * 199 + [wrong])
    assert known["frame_seconds"] == [2.0, 2.0] and likeness([]) == {}
    assert unlike(wrong, known, ["surroundings"]) and not unlike(usual, known)
    assert not unlike(wrong, {"fall": known["fall"]})


def test_features_of_the_training_exams_are_kept_with_the_data_set(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    built = prepared_of(root, tmp_path / "cache")
    train = exams.load_exam(layouts.find_subjects(root, "bids")[0])
    assert built.info.metadata["features"] == likeness([features_of(train)])
    assert set(built.info.metadata["features"]) == set(features.NAMES) == set(dataclasses.asdict(features_of(train)))


def test_of_a_large_exam_some_voxels_are_looked_at():
    series, _, mask = fake_arrays((128, 128, 5), 60)
    assert mask.sum() > 10 * features.MAX_VOXELS
    assert len(features._curves(exam_of(series, mask))) < 2 * features.MAX_VOXELS
