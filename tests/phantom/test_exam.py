"""The physics of a drawn exam, on small grids."""

import dataclasses

import numpy as np
import pytest
from scipy import interpolate, ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.kinetics import ArterialCurve
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.acquisition import IDEAL
from dscgan_jax.phantom.exam import Phantom, draw_phantom
from dscgan_jax.phantom.presets import PRESETS
from dscgan_jax.phantom.subject import Bolus

STROKE = 10  # a seed with an occlusion of the right MCA and a core


@pytest.fixture(scope="module")
def ideal() -> Phantom:
    """Pure kinetics on a fine grid: two slices above the basal ganglia."""
    return draw_phantom("acute", STROKE, size=128, slices=2, imperfections=IDEAL)


@pytest.fixture(scope="module")
def cohort() -> list[Phantom]:
    return [draw_phantom("acute", (7, subject), size=32, slices=8) for subject in range(24)]


def healthy(exam: Phantom, tissue: str, share: float) -> np.ndarray:
    alone = (exam.shares["artery"] == 0) & (exam.shares["sinus"] == 0)
    return exam.mask & alone & (exam.shares[tissue] > share) & (exam.maps["tmax"] < 3.5)


def delta_r2star(exam: Phantom, where: np.ndarray) -> np.ndarray:
    series = exam.series[where].astype(np.float64)
    return signal.delta_r2star(series, series[:, :6].mean(axis=1), exam.echo_seconds)


def test_grey_matter_has_two_to_three_times_the_flow_of_white_matter(ideal):
    brain = ideal.mask & (ideal.maps["tmax"] < 3.5)
    shares = np.stack([ideal.shares["grey"][brain], ideal.shares["white"][brain]], axis=1)
    (grey, white), *_ = np.linalg.lstsq(shares, ideal.maps["cbf"][brain])  # of pure tissue
    assert 2.0 < grey / white < 3.0
    assert 45 < grey < 70
    (grey, white), *_ = np.linalg.lstsq(shares, ideal.maps["cbv"][brain])
    assert 3.0 < grey < 5.5
    assert 1.2 < white < 3.0


@pytest.mark.parametrize("preset", ["acute", "chronic"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grey_matter_loses_a_fifth_to_a_half_of_its_signal(preset, seed):
    exam = draw_phantom(preset, seed, size=64, slices=2, imperfections=IDEAL)
    series = exam.series[healthy(exam, "grey", 0.75)]
    drop = 1 - series.min(axis=1) / series[:, :6].mean(axis=1)
    assert 0.2 < np.median(drop) < 0.5


def test_mtt_is_sixty_times_cbv_over_cbf_everywhere(ideal):
    maps = {name: values[ideal.mask].astype(np.float64) for name, values in ideal.maps.items()}
    np.testing.assert_allclose(maps["mtt"], 60 * maps["cbv"] / maps["cbf"], rtol=1e-5)


def test_noise_free_cbv_comes_back_from_the_areas(ideal):
    # The exam ends while agent still circulates. With the mean age a of the agent in a voxel, for late times T,
    # area_t(T) = CBV (area_a(T) - a C_a(T)) and C_t(T) = CBV (C_a(T) - a C_a'(T)): two equations for CBV and a.
    where = healthy(ideal, "grey", 0.3) | healthy(ideal, "white", 0.3)
    tissue = kinetics.concentration_of(delta_r2star(ideal, where)) * kinetics.HAEMATOCRIT_FACTOR / 1.04 * 100
    blood, step = ideal.arterial_mm.astype(np.float64), ideal.frame_seconds
    slope = (blood[-1] - blood[-5]) / (4 * step)
    area_blood = (blood.sum() - 0.5 * blood[-1]) * step
    area_tissue = (tissue.sum(axis=1) - 0.5 * tissue[:, -1]) * step
    matrix = np.array([[area_blood, -blood[-1]], [blood[-1], -slope]])
    cbv = np.linalg.solve(matrix, np.stack([area_tissue, tissue[:, -1]]))[0]
    error = cbv / ideal.maps["cbv"][where] - 1
    assert abs(error.mean()) < 0.005
    assert np.percentile(np.abs(error), 95) < 0.01


def test_ttp_is_when_the_signal_is_lowest(ideal):
    where = np.flatnonzero(ideal.mask & (ideal.shares["artery"] == 0) & (ideal.shares["sinus"] == 0))[::97]
    where = np.unravel_index(where, ideal.mask.shape)
    curves = delta_r2star(ideal, where)
    fine = np.arange(0, ideal.arterial_seconds[-1], 0.02)
    peaks = fine[interpolate.make_interp_spline(ideal.arterial_seconds, curves, k=5, axis=1)(fine).argmax(axis=1)]
    assert np.abs(peaks - ideal.maps["ttp"][where]).max() < 0.1


def test_the_lesion_is_late_and_its_core_starved(ideal):
    tmax = ideal.maps["tmax"]
    np.testing.assert_array_equal(ideal.lesion > 0, ideal.mask & (tmax > 6.0))
    assert ideal.truth["disease"]["side"] == "right"
    left = (ideal.affine[0, 0] * np.arange(128) + ideal.affine[0, 3]) < -12  # RAS: x grows to the right
    assert not ideal.lesion[left].any()
    white = ideal.shares["white"] > 0.95
    normal = ideal.maps["cbf"][healthy(ideal, "white", 0.95)].mean()
    assert ideal.maps["cbf"][white & (ideal.lesion == 2)].mean() < 0.35 * normal
    assert ideal.maps["mtt"][ideal.lesion == 1].mean() > 1.5 * ideal.maps["mtt"][healthy(ideal, "white", 0.95)].mean()


def test_truth_is_zero_outside_the_mask_and_tmax_is_not_negative(cohort):
    for exam in cohort[:4]:
        for values in exam.maps.values():
            assert not values[~exam.mask].any()
        assert exam.maps["tmax"][exam.mask].min() >= 0
        tissue = exam.shares["grey"] + exam.shares["white"]
        assert tissue[exam.mask].min() >= 0.25
        assert exam.shares["sinus"][exam.mask].max() <= 0.1


def test_shares_of_a_voxel_add_up_to_at_most_one(ideal):
    total = sum(ideal.shares[name] for name in ("grey", "white", "csf", "sinus"))
    assert total.max() <= 1 + 1e-5
    assert ideal.mask.mean() > 0.2


def test_a_quarter_of_the_lesions_lies_near_the_threshold(cohort):
    lesions = [exam.truth["lesion"] for exam in cohort]
    volume = sum(lesion["tmax_over_6s_ml"] for lesion in lesions)
    assert sum(lesion["tmax_5_to_7s_ml"] for lesion in lesions) > 0.25 * volume
    with_lesion = [lesion["tmax_over_6s_ml"] for lesion in lesions if lesion["tmax_over_6s_ml"] > 0]
    assert len(with_lesion) / len(cohort) > 0.6
    assert np.mean([10 <= ml <= 200 for ml in with_lesion]) > 0.75


def test_same_seed_same_exam_and_another_seed_another():
    first, again, other = (draw_phantom("acute", (0, seed), size=32, slices=2) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.series, again.series)
    np.testing.assert_array_equal(first.maps["tmax"], again.maps["tmax"])
    assert first.truth == again.truth
    assert first.truth["arterial"] != other.truth["arterial"]


def test_a_given_bolus_has_its_width_and_tail_and_leaves_the_person_alone():
    usual, wide = (draw_phantom("acute", (3, 1), size=32, bolus=bolus) for bolus in (None, Bolus(20.0, 0.4)))
    curve = ArterialCurve(**wide.truth["arterial"])
    first_pass = curve(np.arange(0.0, wide.truth["arterial"]["arrival_seconds"] + 40.0, 0.01))
    assert (first_pass >= 0.5 * first_pass.max()).sum() * 0.01 == pytest.approx(20.0, abs=0.5)
    assert curve.plateau == 0.4
    for same in ("disease", "healthy", "scanner"):
        assert wide.truth[same] == usual.truth[same]
    np.testing.assert_array_equal(wide.maps["cbf"], usual.maps["cbf"])


def test_the_same_person_on_another_grid_has_the_same_disease(cohort):
    finer = draw_phantom("acute", (7, 0), size=48, slices=6)
    for part in ("arterial", "disease", "healthy", "anatomy", "scanner"):
        assert finer.truth[part] == cohort[0].truth[part]
    assert finer.series.shape[3] == cohort[0].series.shape[3]
    assert finer.affine[0, 0] == pytest.approx(240 / 48)


@pytest.mark.parametrize("preset", ["acute", "chronic"])
def test_a_preset_draws_the_protocol_of_the_paper(preset):
    protocol = PRESETS[preset]
    exam = draw_phantom(preset, 1, size=32)
    assert protocol.slices[0] <= exam.series.shape[2] <= protocol.slices[1]
    assert exam.affine[2, 2] == 5.0
    assert exam.frame_seconds == {"acute": 2.22, "chronic": 1.39}[preset]
    assert exam.echo_seconds == {"acute": 0.036, "chronic": 0.029}[preset]
    assert exam.series.dtype == np.int16


def test_at_least_eight_frames_precede_the_bolus(cohort):
    for exam in cohort:
        assert exam.truth["arterial"]["arrival_seconds"] >= 8 * exam.frame_seconds
        assert exam.truth["truncated"] or 50 <= exam.series.shape[3] <= 75


def test_noise_has_the_stated_strength():
    noisy = draw_phantom("acute", 2, size=48, slices=3, imperfections=dataclasses.replace(IDEAL, noise=True))
    clean = draw_phantom("acute", 2, size=48, slices=3, imperfections=IDEAL)
    air = ~clean.series.any(axis=3)
    sigma = noisy.series[air].mean() / np.sqrt(np.pi / 2)  # Rayleigh
    baseline = clean.series[clean.mask & (clean.shares["artery"] == 0)][:, :6].mean()
    assert 30 <= noisy.truth["signal_to_noise"] <= 80
    assert baseline / sigma == pytest.approx(noisy.truth["signal_to_noise"], rel=0.04)
    bright = clean.mask & (clean.series[..., 0] > 10 * sigma)
    assert (noisy.series - clean.series)[bright].std() == pytest.approx(sigma, rel=0.02)


def test_signal_to_noise_of_a_cohort_stays_in_range(cohort):
    ratios = [exam.truth["signal_to_noise"] for exam in cohort]
    assert 30 <= min(ratios) < 45
    assert 60 < max(ratios) <= 80


def test_the_written_transform_reproduces_a_moved_frame():
    still = draw_phantom("acute", 6, size=40, slices=5, imperfections=IDEAL)
    moved = draw_phantom("acute", 6, size=40, slices=5, imperfections=dataclasses.replace(IDEAL, motion=True))
    assert moved.truth["moved"]
    transforms = np.array(moved.truth["motion"]["transforms"])
    np.testing.assert_array_equal(transforms[0], np.eye(4))
    frame = int(np.abs(transforms - np.eye(4)).sum(axis=(1, 2)).argmax())
    assert np.abs(transforms[frame] - np.eye(4)).max() > 1e-3
    back = np.linalg.inv(still.affine) @ np.linalg.inv(transforms[frame]) @ still.affine
    expected = ndimage.affine_transform(still.series[..., frame], back[:3, :3], back[:3, 3], order=1, mode="constant")
    inner = (slice(2, -2), slice(2, -2), slice(1, -1))  # at the rim of the volume zero padding differs
    np.testing.assert_allclose(moved.series[..., frame][inner], expected[inner], atol=1e-3 * still.series.max())
    assert np.abs(moved.series[..., frame] - still.series[..., frame]).max() > 0.02 * still.series.max()
    np.testing.assert_array_equal(moved.maps["tmax"], still.maps["tmax"])  # truth stays in the first frame's pose


def test_a_point_moves_to_where_its_transform_says():
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = (-31, -31, -30)
    world = (
        np.stack(np.meshgrid(*[np.arange(n) for n in (32, 32, 16)], indexing="ij"), axis=-1) @ affine[:3, :3]
        + affine[:3, 3]
    )
    point = np.array([10.0, -6.0, 5.0])
    blob = np.exp(-((world - point) ** 2).sum(axis=-1) / (2 * 6.0**2)).astype(np.float32)
    motion = acquisition.Motion(np.array([[0, 0, 0], [3.0, -2.0, 1.5]]), np.array([[0, 0, 0], [0, 0, 30.0]]))
    series = np.repeat(blob[..., None], 2, axis=3)
    acquisition.move_frames(series, affine, motion.transforms())
    centre = (world * series[..., 1:]).sum(axis=(0, 1, 2)) / series[..., 1].sum()
    turned = np.array(
        [10 * np.cos(np.pi / 6) + 6 * np.sin(np.pi / 6), 10 * np.sin(np.pi / 6) - 6 * np.cos(np.pi / 6), 5.0]
    )
    np.testing.assert_allclose(centre, turned + motion.millimetres[1], atol=0.05)
    np.testing.assert_array_equal(series[..., 0], blob)


def test_about_one_subject_in_seven_moves_and_by_more_than_a_trifle():
    motions = [acquisition.draw_motion(np.random.default_rng(seed), 60, None) for seed in range(600)]
    moved = [motion for motion in motions if motion.moved]
    assert 0.11 < len(moved) / 600 < 0.19
    for motion in moved:
        assert not motion.degrees[:10].any()
        assert np.linalg.norm(motion.millimetres, axis=1).max() > 1.1
        assert np.linalg.norm(motion.degrees, axis=1).max() > 0.9


def test_some_exams_end_too_early_but_hold_the_first_pass():
    truths = [draw_phantom("acute", (1, seed), size=16, slices=1).truth for seed in range(30)]
    truncated = [truth for truth in truths if truth["truncated"]]
    assert 1 <= len(truncated) <= 8
    for truth in truncated:
        left = (truth["frames"] - 1) * truth["frame_seconds"] - truth["arterial"]["arrival_seconds"]
        assert 30 < left < 46


def test_first_frames_are_brighter_and_the_coil_is_uneven():
    real = draw_phantom(
        "acute", 0, size=32, slices=2, imperfections=dataclasses.replace(acquisition.REAL, motion=False)
    )
    ideal = draw_phantom("acute", 0, size=32, slices=2, imperfections=IDEAL)
    height = real.truth["scanner"]["transient_height"]
    assert height > 0.03
    brain = real.mask
    first = real.series[brain][:, 0].mean() / real.series[brain][:, 5:8].mean() - 1
    assert first == pytest.approx(height, rel=0.35)
    ratio = real.series[brain][:, 5] / ideal.series[brain][:, 5]
    assert ratio.std() > 0.02


def test_few_slices_cover_the_ventricles_and_keep_the_field_of_view():
    exam = draw_phantom("acute", 1, size=64, slices=8, imperfections=IDEAL)
    assert exam.series.shape[:3] == (64, 64, 8)
    assert exam.affine[0, 0] * 64 == pytest.approx(240.0)
    assert exam.affine[2, 2] == pytest.approx(8.0)
    assert exam.mask.any(axis=(0, 1)).all()
    middle = exam.shares["csf"][28:36, 28:40]
    assert middle.max() > 0.8  # ventricles


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "subacute"}, "acute, chronic"),
        ({"preset": "acute", "seed": -1}, "at least 0"),
        ({"preset": "acute", "size": 4}, "at least 16"),
        ({"preset": "acute", "slices": -1}, "at least 16"),
    ],
)
def test_an_impossible_exam_is_refused_in_one_line(arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        draw_phantom(**{"seed": 0} | arguments)
    assert "\n" not in str(caught.value)
