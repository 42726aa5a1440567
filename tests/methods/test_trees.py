"""Trees on curves: what they see, whom they learn from, and a world in which the map is a function of the curve."""

import dataclasses
import sys

import numpy as np
import pytest
from exams import AFFINE, config_of, exam_of, fake_arrays, prepared_of, write_fake_cohort, write_fake_exam
from sklearn.ensemble import ExtraTreesRegressor

from dscgan_jax.data import batches, preparation
from dscgan_jax.data.batch import FIELDS
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.score import agreement
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.methods import trees

SETTINGS = PreparationSettings(24, 0, 64, "seconds", 1.0, "keep", outside_brain="zero")
TTP = Scaling("relative", Limits(0.0, 1.2), ("ttp",), (Limits(0.0, 50.0),), True)
SPLITS = ("train", "validation", "test", "train")
BOTH = Scaling("relative", Limits(0.0, 1.5), ("tmax", "cbv"), (Limits(0.0, 10.0), Limits(0.0, 5.0)), True)


def gaussian_exam(seed, subject="sub-1", shape=(24, 24, 3), frames=64):
    """An exam whose TTP is drawn for each voxel, whatever its neighbours have: the time of a Gaussian dip."""
    random = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = x**2 + y**2 < 0.8
    ttp = np.where(mask, random.uniform(24, 40, shape), 0).astype(np.float32)
    dip = 0.5 * np.exp(-(((np.arange(frames) - ttp[..., None]) / 5) ** 2))
    series = np.where(mask, 1000.0, 10.0)[..., None] * (1 - mask[..., None] * dip) + random.normal(0, 10, dip.shape)
    maps = {"ttp": ttp}
    return exam_of(np.clip(series, 0, None), mask, AFFINE, maps=maps, frame_seconds=1.0, subject=subject)


def sample_of_exam(exam, n_voxels):
    """Voxels of the exam's middle slice on its own grid, as the builder's are."""
    prepared = preparation.prepare(exam, SETTINGS, look_for_motion=False)
    series = np.asarray(TTP.scaled_series(prepared.inputs(np.arange(3))))[1]
    rows, cols = (places[:n_voxels] for places in np.nonzero(prepared.mask[1]))
    scaled = np.asarray(TTP.scaled_maps(prepared.maps[1, rows, cols]))
    return trees.VoxelSample(trees.features_of(series, rows, cols), scaled, np.repeat("sub-1", len(rows)))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_fake_cohort(folder / "exams", 4, SPLITS)
    return folder


def test_a_map_that_is_a_function_of_the_curve_is_learned_from_few_voxels(tmp_path):
    source = trees.TreesSource(sample_of_exam(gaussian_exam(1), 300), TTP, SETTINGS, tmp_path)
    exam = gaussian_exam(2, "sub-2")
    maps = source.maps_of(exam)["trees"]
    assert agreement(maps, exam)["ttp"]["pearson_r"] > 0.9
    assert not maps["ttp"][~maps.mask].any() and (tmp_path / "trees" / "sub-2_ttp.nii.gz").is_file()


def test_the_seed_decides_the_maps_and_threads_do_not(tmp_path):
    sample, exam = sample_of_exam(gaussian_exam(1), 300), gaussian_exam(2)

    def made(**changes):
        return trees.TreesSource(sample, TTP, SETTINGS, tmp_path, **changes).maps_of(exam)["trees"]["ttp"]

    first = made()
    np.testing.assert_array_equal(first, made(jobs=3))
    assert (first != made(seed=1)).any()


def test_the_trees_are_those_of_scikit_learn_on_the_voxel_and_its_patch(tmp_path):
    exam = gaussian_exam(2)
    sample = sample_of_exam(gaussian_exam(1), 200)
    forest = ExtraTreesRegressor(
        trees.TREES, max_features=trees.SHARE_TRIED, min_samples_leaf=trees.LEAST_IN_LEAF, random_state=5
    ).fit(sample.features, sample.maps[:, 0])
    scaled = trees.TreesSource(sample, TTP, SETTINGS, tmp_path, seed=5).maps_of(exam)["trees"].scaled
    prepared = preparation.prepare(exam, SETTINGS, look_for_motion=False)
    series = np.asarray(TTP.scaled_series(prepared.inputs(np.arange(3))))[2]
    row, col = 12, 9
    patch = series[:, row - 2 : row + 3, col - 2 : col + 3].reshape(64, 25)
    features = np.concatenate([series[:, row, col], patch.mean(axis=1), patch.std(axis=1)])
    assert scaled["ttp"][2, row, col] == pytest.approx(forest.predict(features[None])[0], abs=1e-5)


def test_at_the_corner_of_a_slice_the_patch_holds_air(tmp_path):
    series = np.random.default_rng(0).uniform(-1, 1, (3, 6, 7)).astype(np.float32)
    own, mean, spread = np.split(trees.features_of(series, np.array([0]), np.array([6]))[0], 3)
    patches = np.full((3, 25), -1.0)
    patches[:, :9] = series[:, :3, 4:].reshape(3, 9)
    np.testing.assert_array_equal(own, series[:, 0, 6])
    np.testing.assert_allclose(mean, patches.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(spread, patches.std(axis=1), atol=1e-6)


@pytest.mark.slow
def test_each_training_subject_gives_as_many_voxels_of_its_brain_and_nobody_else_any(cohort):
    builder = prepared_of(cohort / "exams", cohort / "cache")
    sample = trees.sample_of(builder, BOTH, voxels=200)
    assert dict(zip(*np.unique(sample.subjects, return_counts=True), strict=True)) == {"sub-0001": 100, "sub-0004": 100}
    slices = batches.Slices.of(builder, "train", (*FIELDS, "subject"))
    stored = batches.stacked(example for example in map(slices, range(6)) if example["subject"] == "sub-0004")
    of_brain = np.asarray(BOTH.scaled_maps(stored.maps))[stored.mask]
    drawn = sample.maps[sample.subjects == "sub-0004"]
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in of_brain}
    assert len({tuple(row) for row in sample.features}) == 200  # none twice
    by_slice = [np.asarray(BOTH.scaled_maps(maps))[mask] for maps, mask in zip(stored.maps, stored.mask, strict=True)]
    counts = [sum(bool((row == values).all(axis=1).any()) for row in drawn) for values in by_slice]
    assert min(counts) > 15  # 33 of each slice are expected
    assert len(trees.sample_of(builder, BOTH, voxels=10**6).features) == sum(
        int(slices(index)["mask"].sum()) for index in range(len(slices))
    )


def test_other_test_exams_leave_the_sample_as_it_is_and_other_training_exams_do_not(cohort, tmp_path):
    samples = [trees.sample_of(prepared_of(cohort / "exams", cohort / "cache"), BOTH, voxels=60, seed=3)]
    for number, changed in enumerate(("sub-0003", "sub-0002", "sub-0001")):  # of test, validation and training
        root = write_fake_cohort(tmp_path / str(number), 4, SPLITS)
        write_fake_exam(root, changed, seed=77, arrival=15.0)
        samples.append(trees.sample_of(prepared_of(root, tmp_path / "cache"), BOTH, voxels=60, seed=3))
    original, *left_alone, changed = samples
    for one in left_alone:
        np.testing.assert_array_equal(one.features, original.features)
        np.testing.assert_array_equal(one.maps, original.maps)
    assert (changed.features != original.features).any()


def test_a_subject_without_one_of_the_maps_is_learned_from_for_the_others(tmp_path):
    root = write_fake_cohort(tmp_path / "exams", 4, SPLITS)
    (root / "sub-0004" / "perf" / "sub-0004_cbv.nii.gz").unlink()
    sample = trees.sample_of(prepared_of(root, tmp_path / "cache"), BOTH, voxels=100)
    absent = np.isnan(sample.maps)
    assert not absent[:, 0].any() and np.array_equal(absent[:, 1], sample.subjects == "sub-0004")
    settings = PreparationSettings.from_config(config_of(root, tmp_path))
    series, _, mask = fake_arrays(seed=9)
    maps = trees.TreesSource(sample, BOTH, settings, tmp_path).maps_of(exam_of(series, mask))["trees"]
    assert tuple(maps.volumes) == ("tmax", "cbv") and all(np.isfinite(one).all() for one in maps.volumes.values())


def test_where_a_network_would_see_the_air_the_maps_still_end_with_the_brain(tmp_path):
    settings = dataclasses.replace(SETTINGS, outside_brain="keep")
    source = trees.TreesSource(sample_of_exam(gaussian_exam(1), 300), TTP, settings, tmp_path)
    exam = gaussian_exam(2)
    maps = source.maps_of(exam)["trees"]
    assert maps.mask is not None and np.array_equal(maps["ttp"] != 0, maps.mask)
    assert maps.mask[exam.mask].mean() > 0.95 and maps.mask[~exam.mask].mean() < 0.1


def test_an_exam_without_the_echo_time_that_the_input_needs_is_refused(tmp_path):
    sample = sample_of_exam(gaussian_exam(1), 50)
    source = trees.TreesSource(sample, dataclasses.replace(TTP, signal="delta_r2star"), SETTINGS, tmp_path)
    with pytest.raises(InputError, match="sub-1: the trees work on delta_r2star and need the echo time"):
        source.maps_of(dataclasses.replace(gaussian_exam(2), echo_seconds=float("nan")))


def test_missing_scikit_learn_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    sample = trees.VoxelSample(np.zeros((9, 3), np.float32), np.zeros((9, 1), np.float32), np.repeat("sub-1", 9))
    with pytest.raises(InputError) as caught:
        trees.TreesSource(sample, TTP, SETTINGS, tmp_path)
    assert str(caught.value) == (
        "the trees need scikit-learn, which is not installed; pip install 'dscgan_jax[study]'."
    )


def test_offered_maps_stand_in_the_order_of_the_records(tmp_path):
    sample = trees.VoxelSample(np.zeros((9, 3), np.float32), np.zeros((9, 2), np.float32), np.repeat("sub-1", 9))
    offered = trees.TreesSource(sample, BOTH, SETTINGS, tmp_path).offers["trees"]
    assert offered == tuple(name for name in MAP_NAMES if name in BOTH.targets)
