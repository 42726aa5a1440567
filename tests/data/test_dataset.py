"""The prepared data set: right, found again, never stale, never half."""

import dataclasses
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow_datasets as tfds
from exams import AFFINE, config_of, fake_arrays, prepared_of, write_fake_cohort, write_fake_exam

from dscgan_jax import digests, workers
from dscgan_jax.data import dataset as builder
from dscgan_jax.data import exams, layouts, nifti, preparation
from dscgan_jax.data.scaling import SIGNALS, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES

TESTS = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four subjects, two of them in training, and their prepared data."""
    folder = tmp_path_factory.mktemp("cohort")
    root = write_fake_cohort(folder / "root", 4, ("train", "validation", "test", "train"))
    cache = folder / "cache"
    return config_of(root, cache), prepared_of(root, cache)


def test_each_slice_is_one_example_and_holds_what_preparation_made(cohort):
    config, built = cohort
    assert {name: split.num_examples for name, split in built.info.splits.items()} == {
        "train": 6,
        "validation": 3,
        "test": 3,
    }
    example = built.as_data_source("test")[1]
    files = layouts.find_subjects(config.data.root, "bids")[2]
    expected = preparation.prepare(exams.load_exam(files), preparation.PreparationSettings.from_config(config))
    assert example["subject"] == b"sub-0003" and example["slice_index"] == 1 and example["findings"] == b"motion"
    np.testing.assert_array_equal(example["dsc"], expected.dsc[1])
    np.testing.assert_array_equal(example["maps"], expected.maps[1])
    np.testing.assert_array_equal(example["mask"], expected.mask[1])
    assert example["dsc"].dtype == np.int16 and example["has_map"].tolist() == [1] * 5
    assert (example["baseline_begin"], example["baseline_end"]) == (expected.baseline_begin, expected.baseline_end)
    assert example["brain_signal"] == pytest.approx(expected.brain_signal) and example["frame_seconds"] == 1.5
    assert example["echo_seconds"] == pytest.approx(0.03)


def test_ranges_are_those_of_the_training_subjects_alone(cohort):
    _, built = cohort
    metadata = built.info.metadata
    assert metadata["splits"] == {
        "sub-0001": "train",
        "sub-0002": "validation",
        "sub-0003": "test",
        "sub-0004": "train",
    }
    train = [fake_arrays(seed=seed) for seed in (1, 4)]
    series = np.concatenate([series[mask] for series, _, mask in train])
    tmax = np.concatenate([maps["tmax"][mask] for _, maps, mask in train])
    np.testing.assert_allclose(metadata["ranges"]["percentile"]["raw"], np.percentile(series, (0.1, 99.9)))
    np.testing.assert_allclose(metadata["ranges"]["percentile"]["tmax"], [0, np.percentile(tmax, 99.9)], rtol=1e-6)
    assert metadata["ranges"]["published"]["raw"] == [
        min(s.min() for s, _, _ in train),
        max(s.max() for s, _, _ in train),
    ]
    assert metadata["medians"]["tmax"] == pytest.approx(np.median(tmax))
    assert metadata["clipped"]["raw"] == pytest.approx(0.002, abs=5e-4)
    for kind in ("percentile", "published"):
        for signal in SIGNALS:
            Scaling.from_ranges(metadata["ranges"], signal, MAP_NAMES, kind)


@pytest.mark.slow
def test_exams_prepared_side_by_side_make_the_same_data_set(cohort, tmp_path, monkeypatch):
    config, alone = cohort
    asked = []
    monkeypatch.setattr(workers, "fitting", lambda *given: asked.append(given) or 2)
    together = prepared_of(config.data.root, tmp_path)
    assert asked == [(4, builder.EXAM_BYTES)]

    def content(built):
        folder = pathlib.Path(built.data_dir)
        return {path.name: path.read_bytes() for path in folder.iterdir() if "array_record" in path.name}

    assert content(together) == content(alone) and len(content(alone)) == 4
    assert dict(together.info.metadata) == dict(alone.info.metadata)


@pytest.mark.slow
def test_a_broken_file_stops_a_build_side_by_side_too(tmp_path, monkeypatch):
    root = write_fake_cohort(tmp_path / "root", 4)
    path = root / "sub-0003" / "perf" / "sub-0003_dsc.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    monkeypatch.setattr(workers, "fitting", lambda *_: 2)
    monkeypatch.setattr(builder, "_check_files", lambda *_: None)  # which would find it first
    with pytest.raises(InputError, match="sub-0003_dsc"):
        prepared_of(root, tmp_path / "cache")
    assert not _leftovers(tmp_path / "cache")


def test_the_same_files_and_settings_are_prepared_once(cohort, monkeypatch):
    config, built = cohort
    monkeypatch.setattr(builder, "_build", lambda *_: pytest.fail("built again"))
    again = builder.prepared(config, progress=False)
    assert again.data_dir == built.data_dir and again.info.metadata == built.info.metadata
    assert tfds.builder_from_directory(built.data_dir).info.metadata["medians"] == built.info.metadata["medians"]


def test_other_settings_files_or_splits_make_another_data_set(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    config = config_of(root, tmp_path / "cache")
    folders = [builder.prepared(config, progress=False).data_dir]
    folders.append(prepared_of(root, tmp_path / "cache", non_steady_state="hold").data_dir)
    folders.append(prepared_of(root, tmp_path / "cache", tr_seconds=2.0).data_dir)
    write_fake_exam(root, "sub-0002", seed=9)
    folders.append(builder.prepared(config, progress=False).data_dir)
    (root / "participants.tsv").unlink()
    folders.append(builder.prepared(config, progress=False).data_dir)
    assert len(set(folders)) == 5
    assert builder.prepared(config, progress=False).info.metadata["splits"] == layouts.assign_splits(
        layouts.find_subjects(root, "bids"), config.data.split_fractions, config.seed
    )


def test_missing_maps_are_marked_and_excluded_subjects_recorded(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 4, ("train", "train", "exclude", "validation"))
    (root / "sub-0002" / "perf" / "sub-0002_ttp.nii.gz").unlink()
    (root / "sub-0003" / "perf" / "sub-0003_dsc.nii.gz").write_bytes(b"broken, but nobody opens it")
    built = prepared_of(root, tmp_path / "cache")
    has_ttp = [bool(example["has_map"][4]) for example in built.as_data_source("train")]
    assert has_ttp == [True] * 3 + [False] * 3
    assert built.info.metadata["excluded"] == [
        {"subject": "sub-0003", "reason": "split is exclude in participants.tsv"}
    ]
    assert built.info.splits["test"].num_examples == 0  # an empty test split is allowed


@pytest.mark.parametrize(("number", "split"), [(1, "train"), (2, "validation"), (3, "test")])
def test_a_target_that_nobody_of_a_split_has_is_refused_before_anything_long(tmp_path, monkeypatch, number, split):
    root = write_fake_cohort(tmp_path / "root", 3)
    (root / f"sub-000{number}" / "perf" / f"sub-000{number}_tmax.nii.gz").unlink()
    monkeypatch.setattr(builder, "_build", lambda *_: pytest.fail("built"))
    with pytest.raises(InputError, match=f"no {split} subject has a tmax map"):
        prepared_of(root, tmp_path / "cache")


def test_training_needs_subjects_to_choose_on(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 2, ("train", "test"))
    with pytest.raises(
        InputError, match="no subject is in the validation split, on which the best checkpoint is chosen"
    ):
        prepared_of(root, tmp_path / "cache")


def test_exams_that_are_only_scored_need_neither_training_nor_targets(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 2, ("test",), maps=("cbf",))
    config = config_of(root, tmp_path / "cache")
    for _ in range(2):  # built, then found again
        built = builder.prepared(config, progress=False, for_training=False)
        assert built.info.splits["test"].num_examples == 6 and built.info.splits["train"].num_examples == 0
        metadata = built.info.metadata
        assert set(metadata["medians"].values()) == set(metadata["clipped"].values()) == {None}
        assert {limits for kind in ("percentile", "published") for limits in metadata["ranges"][kind].values()} == {
            None
        }
        assert set(metadata["ranges"]["percentile"]) == set(metadata["ranges"]["published"]) == {*SIGNALS, *MAP_NAMES}
    with pytest.raises(InputError, match="no subject is in the training split"):
        builder.prepared(config, progress=False)


def _leftovers(cache):
    return sorted(path.name for path in cache.rglob("*") if not path.name.endswith(".lock") and path.is_file())


@pytest.mark.parametrize("name", ["dsc", "tmax"])
def test_a_broken_file_stops_the_build_by_name_and_leaves_nothing(tmp_path, name):
    root = write_fake_cohort(tmp_path / "root", 3)
    path = root / "sub-0003" / "perf" / f"sub-0003_{name}.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=rf"sub-0003_{name}\.nii\.gz.*subject sub-0003; --mode=check") as caught:
        prepared_of(root, tmp_path / "cache")
    assert "\n" not in str(caught.value) and _leftovers(tmp_path / "cache") == []


def test_another_grid_is_found_before_anything_is_prepared(tmp_path, monkeypatch):
    root = write_fake_cohort(tmp_path / "root", 3)
    nifti.write_volume(root / "sub-0003" / "perf" / "sub-0003_cbv.nii.gz", np.ones((16, 16, 4)), AFFINE)
    monkeypatch.setattr(preparation, "prepare", lambda *_: pytest.fail("prepared an exam"))
    with pytest.raises(
        InputError, match=r"sub-0003_cbv.* the grid of the series \(16, 16, 3\), the file has \(16, 16, 4\)"
    ):
        prepared_of(root, tmp_path / "cache")


def test_too_little_disk_is_said_beforehand(tmp_path, monkeypatch):
    root = write_fake_cohort(tmp_path / "root", 3)
    usage = dataclasses.make_dataclass("Usage", ["free"])
    monkeypatch.setattr(builder.shutil, "disk_usage", lambda _: usage(2**20))
    with pytest.raises(InputError, match=r"the prepared data need up to 0\.3 GiB, 0\.0 GiB are free"):
        prepared_of(root, tmp_path / "cache")
    assert _leftovers(tmp_path / "cache") == []


def _run(script, *arguments):
    """Runs a script in another process, with this folder's helpers."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=TESTS,
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"},
    )


KILLED = """
    import os, signal, sys
    from exams import prepared_of
    from dscgan_jax.data import preparation
    prepare = preparation.prepare
    def prepare_and_die(exam, settings):
        if exam.subject == "sub-0002":
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(exam, settings)
    preparation.prepare = prepare_and_die
    prepared_of(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_build_is_not_taken_for_whole_and_its_debris_is_swept(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3, ("train", "train", "validation"))
    cache = tmp_path / "cache"
    assert _run(KILLED, root, cache).returncode == -9
    debris = list(cache.rglob("incomplete.*"))
    assert len(debris) == 1 and list(debris[0].glob("*train*"))  # the first subject's shard had been written
    running = cache / "prepared" / "dsc_perfusion" / "bids-another" / "incomplete.1_1.0.0"
    running.mkdir(parents=True)
    with builder._only_builder(cache / "prepared", "bids-another"):
        built = prepared_of(root, cache)
        assert list(cache.rglob("incomplete.*")) == [running]  # somebody is building that one
    undisturbed = prepared_of(root, tmp_path / "other_cache")
    assert built.info.metadata == undisturbed.info.metadata
    assert [example["subject"] for example in built.as_data_source("train")] == [b"sub-0001"] * 3 + [b"sub-0002"] * 3
    prepared_of(root, cache, non_steady_state="hold")
    assert list(cache.rglob("incomplete.*")) == []  # and now nobody does


FULL = """
    import resource, sys
    from exams import prepared_of
    sys.dont_write_bytecode = True  # Python would cut it off in silence, and take the half for the whole later
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    prepared_of(sys.argv[1], sys.argv[2])
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    done = _run(FULL, root, tmp_path / "cache")
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].startswith("dscgan_jax.errors.InputError")
        and "the disk is full" in done.stderr
    )
    assert _leftovers(tmp_path / "cache") == []


@pytest.mark.slow
def test_two_builds_at_once_make_one_data_set(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    script = "import sys; from exams import prepared_of; print(prepared_of(*sys.argv[1:]).data_dir)"
    command = [sys.executable, "-c", script, str(root), str(tmp_path / "cache")]
    both = [
        subprocess.Popen(
            command,
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"},
        )
        for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0] and list((tmp_path / "cache").rglob("incomplete.*")) == []


def test_a_lost_shard_is_noticed(tmp_path):
    root = write_fake_cohort(tmp_path / "root", 3)
    config = config_of(root, tmp_path / "cache")
    info = pathlib.Path(builder.prepared(config, progress=False).data_dir) / "dataset_info.json"
    (info.parent / digests.NAME).unlink()  # as of an older version, which had none
    info.write_text(info.read_text().replace('"3"', '"0"', 1))
    with pytest.raises(InputError, match="do not hold the subjects of this config; remove the folder"):
        builder.prepared(config, progress=False)


@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json", "features.json"])
def test_a_damaged_description_is_noticed(tmp_path, name):
    root = write_fake_cohort(tmp_path / "root", 2, ("train", "validation"))
    path = pathlib.Path(prepared_of(root, tmp_path / "cache").data_dir) / name
    whole = path.read_text()
    for text in (whole[:-20], whole.replace("1", "2", 1)):
        path.write_text(text)
        with pytest.raises(InputError, match=f"damaged \\({name} is not what was written.*remove"):
            prepared_of(root, tmp_path / "cache")


def test_the_digest_of_preparation_settings_is_that_of_older_versions():
    settings = preparation.PreparationSettings(64, 0, 64, "seconds", 1.25, "hold", lead_seconds=12.0)
    assert builder._hash(settings.to_json()) == "b4f3236f4da01780"
