"""Metrics against scikit-image, against the published implementation's numbers, and against answers known by hand."""

import json

import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from dscgan_jax.evaluation import metrics


@pytest.fixture(scope="module")
def slices():
    random = np.random.default_rng(0)
    measured = np.clip(random.normal(size=(3, 24, 31)).cumsum(axis=1) / 6, -1, 1)
    return measured, np.clip(measured + 0.2 * random.normal(size=measured.shape), -1, 1)


def brain_of(shape=(12, 11, 3)):
    brain = np.zeros(shape, bool)
    brain[2:-2, 3:-3] = True
    return brain


def test_scaled_metrics_equal_scikit_image_slice_by_slice(slices):
    measured, predicted = slices
    ours = metrics.scaled_slices(predicted, measured)
    for k in range(3):
        pair = measured[k], predicted[k]
        psnr = skimage_metrics.peak_signal_noise_ratio(*pair, data_range=2.0)
        assert ours["ssim"][k] == pytest.approx(skimage_metrics.structural_similarity(*pair, data_range=2.0), abs=1e-9)
        assert ours["psnr"][k] == pytest.approx(psnr, abs=1e-9)
        assert ours["mse"][k] == pytest.approx(skimage_metrics.mean_squared_error(*pair), abs=1e-12)
        assert ours["nrmse"][k] == pytest.approx(skimage_metrics.normalized_root_mse(*pair), abs=1e-9)


def test_ssim_map_equals_scikit_image_up_to_the_border(slices):
    measured, predicted = slices
    _, theirs = skimage_metrics.structural_similarity(measured[0], predicted[0], data_range=2.0, full=True)
    np.testing.assert_allclose(metrics.ssim_map(measured, predicted, 2.0)[0], theirs, atol=1e-9)


def test_metrics_equal_those_of_the_published_implementation(golden):
    reference = np.load(golden / "metrics_reference.npz")
    described = json.loads((golden / "metrics_reference.json").read_text())
    ours = metrics.scaled_slices(reference["prediction"], reference["target"])
    for name in metrics.SCALED_METRICS:
        np.testing.assert_allclose(ours[name], reference[name], atol=1e-6)
        np.testing.assert_allclose(ours[name], [float(pair[name.upper()]) for pair in described["pairs"]], atol=1e-6)
    inner = slice(3, -3)
    similarity = metrics.ssim_map(reference["target"][1:2], reference["prediction"][1:2], 2.0)[0]
    np.testing.assert_allclose(similarity[inner, inner], reference["ssim_map_pair1"][inner, inner], atol=1e-6)


def test_subjects_are_means_of_slices_as_in_the_published_evaluation(golden):
    reference = np.load(golden / "metrics_reference.npz")
    records = [
        metrics.scaled_record(reference["prediction"][mine], reference["target"][mine])
        for mine in (reference["patient"] == 0, reference["patient"] == 1)
    ]
    columns = ("mse", "nrmse", "psnr", "ssim", "mae")
    table = np.array([[record[name] for name in columns] for record in records])
    np.testing.assert_allclose(table, reference["patient_means"], atol=1e-6)
    np.testing.assert_allclose(table.mean(axis=0), reference["mean_over_patients"], atol=1e-6)


def test_identical_slices_leave_psnr_to_the_others(slices):
    measured, predicted = slices
    half = predicted.copy()
    half[0] = measured[0]
    assert metrics.scaled_record(measured, measured)["psnr"] is None
    assert metrics.scaled_record(half, measured)["psnr"] == pytest.approx(
        metrics.scaled_record(predicted[1:], measured[1:])["psnr"]
    )


def test_perfect_prediction_has_no_error():
    brain = brain_of()
    tmax = np.where(brain, np.arange(brain.size).reshape(brain.shape) % 13, 0.0)
    record = metrics.brain_record(tmax, tmax, brain, 12.0)
    assert record == {
        "mae": 0,
        "rmse": 0,
        "bias": 0,
        "pearson_r": pytest.approx(1),
        "ssim": pytest.approx(1),
        "scale": pytest.approx(1),
        "mae_after_scale": pytest.approx(0, abs=1e-12),
    }
    assert metrics.overlap_record(tmax, tmax, brain, 6.0, 1.0)["dice"] == 1


def test_one_second_late_is_a_bias_of_one_second():
    brain = brain_of()
    tmax = np.where(brain, np.arange(brain.size).reshape(brain.shape) % 13, 0.0)
    record = metrics.brain_record(tmax + 1, tmax, brain, 12.0)
    assert [record[name] for name in ("bias", "mae", "rmse")] == pytest.approx([1, 1, 1])
    assert record["pearson_r"] == pytest.approx(1)


def test_bias_counts_too_high_as_positive():
    brain = brain_of()
    assert metrics.brain_record(np.full(brain.shape, 3.0), np.full(brain.shape, 5.0), brain, 12.0)["bias"] == -2


def test_nothing_outside_the_brain_is_read():
    brain = brain_of()
    inside = np.where(brain, np.arange(brain.size).reshape(brain.shape) % 7, 0.0)
    outside = np.where(brain, inside, np.nan)
    clean, dirty = (metrics.brain_record(values, inside + 1, brain, 12.0) for values in (inside, outside))
    assert clean == dirty


def test_half_the_flow_needs_a_factor_of_two():
    brain = brain_of()
    cbf = np.where(brain, 20.0 + np.arange(brain.size).reshape(brain.shape) % 50, 0.0)
    record = metrics.brain_record(cbf / 2, cbf, brain, 80.0)
    assert record["scale"] == pytest.approx(2) and record["mae_after_scale"] == pytest.approx(0, abs=1e-9)
    assert record["mae"] == pytest.approx(cbf[brain].mean() / 2)


def test_blank_map_has_neither_correlation_nor_factor():
    brain = brain_of()
    tmax = np.where(brain, np.arange(brain.size).reshape(brain.shape) % 13, 0.0)
    record = metrics.brain_record(np.zeros(brain.shape), tmax, brain, 12.0)
    assert record["pearson_r"] is None and record["scale"] is None and record["mae_after_scale"] is None
    assert record["mae"] == pytest.approx(tmax[brain].mean())


def test_brain_ssim_is_the_mean_of_the_map_over_the_mask():
    random = np.random.default_rng(1)
    brain = brain_of((20, 18, 2))
    measured, predicted = random.uniform(0, 12, (2, *brain.shape))
    cut = [np.where(brain, values, 0) for values in (measured, predicted)]
    maps = [
        skimage_metrics.structural_similarity(cut[0][..., z], cut[1][..., z], data_range=12.0, full=True)[1]
        for z in range(2)
    ]
    expected = np.stack(maps, axis=-1)[brain].mean()
    assert metrics.brain_record(predicted, measured, brain, 12.0)["ssim"] == pytest.approx(expected, abs=1e-9)


def test_brain_ssim_is_undefined_on_slices_smaller_than_its_window():
    assert metrics.brain_record(np.ones((6, 9, 1)), np.ones((6, 9, 1)), np.ones((6, 9, 1), bool), 12.0)["ssim"] is None


def test_not_a_number_inside_the_brain_is_refused():
    predicted = np.ones((9, 9, 1))
    predicted[4, 4:6] = np.nan
    with pytest.raises(ValueError, match="2 predicted values inside the brain mask are not finite"):
        metrics.brain_record(predicted, np.ones((9, 9, 1)), np.ones((9, 9, 1), bool), 12.0)


def test_empty_brain_is_refused():
    with pytest.raises(ValueError, match="mask is empty"):
        metrics.brain_record(np.ones((9, 9, 1)), np.ones((9, 9, 1)), np.zeros((9, 9, 1), bool), 12.0)


def test_overlap_of_half_a_lesion():
    brain = np.ones((8, 8, 1), bool)
    measured, predicted = np.zeros((2, 8, 8, 1))
    measured[:4] = 7  # 32 voxels
    predicted[2:6] = 9  # 32 voxels, 16 of them shared
    assert metrics.overlap_record(predicted, measured, brain, 6.0, 0.02) == {
        "dice": 0.5,
        "volume_predicted_ml": pytest.approx(0.64),
        "volume_reference_ml": pytest.approx(0.64),
    }


def test_exactly_six_seconds_is_not_above_six():
    six = np.full((8, 8, 1), 6.0)
    assert metrics.overlap_record(six, six, np.ones(six.shape, bool), 6.0, 1.0)["volume_predicted_ml"] == 0


def test_dice_of_two_empty_masks_is_undefined_and_of_one_is_zero():
    brain = np.ones((8, 8, 1), bool)
    none, some = np.zeros(brain.shape), np.full(brain.shape, 9.0)
    assert metrics.overlap_record(none, none, brain, 6.0, 1.0)["dice"] is None
    assert metrics.overlap_record(none, some, brain, 6.0, 1.0)["dice"] == 0


def test_constants_do_not_correlate():
    assert metrics.pearson_r(np.full(10, 0.1), np.arange(10.0)) is None
    assert metrics.pearson_r(np.array([1.0]), np.array([2.0])) is None
    assert metrics.pearson_r(np.arange(5.0), -np.arange(5.0)) == -1


def test_slices_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 9, 9\) and \(1, 9, 8\)"):
        metrics.scaled_slices(np.zeros((1, 9, 8)), np.zeros((1, 9, 9)))


def test_error_sums_of_a_batch_weigh_slices_by_their_brain():
    brain = np.zeros((2, 4, 4), bool)
    brain[0, :2] = True
    predicted = np.where(brain, 3.0, np.nan)
    sums, counts = metrics.abs_error_and_count(predicted, np.ones((2, 4, 4)), brain)
    assert sums.tolist() == [16.0, 0.0] and counts.tolist() == [8.0, 0.0]
