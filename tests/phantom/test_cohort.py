"""The folder of phantom exams: complete, reproducible, whole or absent."""

import collections
import json
import shutil

import ml_collections
import numpy as np
import pytest

from dscgan_jax import workers
from dscgan_jax.data import layouts, nifti
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.phantom import cohort

SMALL = {"preset": "acute", "seed": 5, "size": 32, "slices": 2}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return cohort.write_cohort(tmp_path_factory.mktemp("exams") / "cohort", subjects=3, **SMALL)


def test_every_file_of_an_exam_is_there_on_one_grid(written):
    perf = written / "sub-0002" / "perf"
    series = nifti.read_volume(perf / "sub-0002_dsc.nii.gz", 4)
    sidecar = json.loads((perf / "sub-0002_dsc.json").read_text())
    assert sidecar["RepetitionTime"] == 2.22
    assert sidecar["EchoTime"] == 0.036
    assert series.frame_seconds == pytest.approx(2.22)
    mask = nifti.read_volume(perf / "sub-0002_mask.nii.gz", 3)
    assert set(np.unique(mask.data)) == {0, 1}
    for name in (*MAP_NAMES, "lesion"):
        volume = nifti.read_volume(perf / f"sub-0002_{name}.nii.gz", 3)
        assert volume.data.shape == series.data.shape[:3] == mask.data.shape
        np.testing.assert_allclose(volume.affine, series.affine)
        assert not volume.data[mask.data == 0].any()


def test_truth_and_aif_describe_the_exam(written):
    perf = written / "sub-0001" / "perf"
    truth = json.loads((perf / "sub-0001_truth.json").read_text())
    table = np.loadtxt(perf / "sub-0001_aif.tsv", skiprows=1)
    assert (perf / "sub-0001_aif.tsv").read_text().startswith("time_seconds\tconcentration_mM\n")
    assert len(table) == truth["frames"]
    np.testing.assert_allclose(np.diff(table[:, 0]), 2.22, atol=1e-3)
    assert table[:, 1].max() == pytest.approx(truth["arterial"]["peak_mm"], rel=0.15)
    assert truth["seed"] == [5, 0]
    assert truth["preset"] == "acute"
    assert {"moved", "truncated", "signal_to_noise", "lesion", "disease", "motion"} <= truth.keys()


def test_every_subject_has_one_split(written):
    lines = (written / "participants.tsv").read_text().splitlines()
    assert lines[0] == "participant_id\tsplit"
    assert sorted(line.split("\t")[1] for line in lines[1:]) == ["test", "train", "validation"]
    assert sorted(line.split("\t")[0] for line in lines[1:]) == sorted(path.name for path in written.glob("sub-*"))


def test_same_seed_writes_the_same_bytes_whatever_the_number_of_subjects(written, tmp_path):
    other = cohort.write_cohort(tmp_path / "two", subjects=2, **SMALL)
    for path in sorted((written / "sub-0002" / "perf").iterdir()):
        assert path.read_bytes() == (other / "sub-0002" / "perf" / path.name).read_bytes(), path.name
    first, second = ((written / f"sub-000{i}/perf/sub-000{i}_dsc.nii.gz").read_bytes() for i in (1, 2))
    assert first != second


@pytest.mark.slow
def test_exams_drawn_side_by_side_are_the_same_files(written, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "fitting", lambda *_: 2)
    steps = []
    again = cohort.write_cohort(tmp_path / "again", subjects=3, **SMALL, progress=steps.append)
    assert steps == [1, 1, 1]

    def content(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(again) == content(written)


def test_a_process_that_dies_while_it_draws_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "fitting", lambda *_: 2)
    lost = [((0, "sub-0001"), workers.Lost("its process was killed by SIGKILL"))]
    monkeypatch.setattr(workers, "results", lambda *_: (one for one in lost))
    with pytest.raises(InputError, match="sub-0001: its process was killed by SIGKILL; free some memory"):
        cohort.write_cohort(tmp_path / "cohort", subjects=3, **SMALL)
    assert not any(tmp_path.iterdir())


def test_a_run_that_dies_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort, "write_exam", full)
    with pytest.raises(InputError, match="No space left"):
        cohort.write_cohort(tmp_path / "cohort", subjects=2, **SMALL)
    assert not list(tmp_path.iterdir())


def test_debris_of_a_killed_run_is_swept(tmp_path):
    debris = tmp_path / ".cohort.999999999.partial"
    (debris / "sub-0001").mkdir(parents=True)
    cohort.write_cohort(tmp_path / "cohort", subjects=1, preset="acute", seed=0, size=16, slices=1)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_folder_with_content_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="content already"):
        cohort.write_cohort(tmp_path, subjects=2, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_too_small_a_disk_is_said_before_drawing(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match=r"need about .* are free"):
        cohort.write_cohort(tmp_path / "cohort", subjects=2, **SMALL)
    assert not list(tmp_path.iterdir())


def test_the_stated_disk_need_is_enough_and_not_absurd(written):
    taken = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    need = cohort.disk_need_bytes("acute", 3, 32, 2)
    assert taken < need < 8 * taken + 2e6


@pytest.mark.parametrize(
    ("subjects", "expected"), [(1, (1, 0, 0)), (3, (1, 1, 1)), (10, (7, 1, 2)), (40, (28, 4, 8)), (203, (142, 20, 41))]
)
def test_splits_follow_the_fractions_and_none_is_empty(subjects, expected):
    splits = cohort.split_subjects(subjects, (0.70, 0.10, 0.20), seed=0)
    assert next(iter(splits)) == "sub-0001"
    assert tuple(list(splits.values()).count(name) for name in layouts.SPLITS) == expected


def test_fractions_that_round_up_together_leave_nobody_out():
    for subjects in (1, 3, 7):
        splits = cohort.split_subjects(subjects, (0.0, 0.5, 0.5), seed=0)
        assert len(splits) == subjects and "train" not in splits.values()


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(InputError, match="split_fractions"):
        cohort.split_subjects(10, fractions, seed=0)


def config_of(**changes) -> ml_collections.ConfigDict:
    phantom = {"preset": "acute", "subjects": 1, "size": 16, "slices": 1, "seed": 0} | changes
    return ml_collections.ConfigDict({"phantom": phantom, "data": {"split_fractions": (0.7, 0.1, 0.2)}})


def test_phantom_exams_are_drawn_once_and_other_settings_draw_others(tmp_path):
    counted, announced = [], []
    folder = cohort.phantom_folder(config_of(), tmp_path, counted.append, announced.append)
    assert counted == [1]
    assert folder.name.startswith("phantom-")
    assert len(announced) == 1 and "MB" in announced[0]  # the disk need is named
    stamp = (folder / "participants.tsv").stat().st_mtime_ns
    assert cohort.phantom_folder(config_of(), tmp_path) == folder
    assert (folder / "participants.tsv").stat().st_mtime_ns == stamp
    assert cohort.phantom_folder(config_of(seed=1), tmp_path) != folder
