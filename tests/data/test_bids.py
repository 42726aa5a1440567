"""BIDS as people write it: sessions, runs, other entities, derivatives, inherited sidecars."""

import collections
import json

import pytest
from exams import write_fake_exam

from dscgan_jax.data import exams, layouts
from dscgan_jax.data.layouts import bids
from dscgan_jax.data.sidecars import sidecars_of
from dscgan_jax.errors import InputError


def _touch(root, *paths):
    """Files that nobody opens."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def _found(root):
    return {files.subject: files for files in layouts.find_subjects(root, "bids")}


def _split_rows(root, *rows):
    (root / "participants.tsv").write_text(
        "participant_id\tsplit\n" + "".join(f"{who}\t{what}\n" for who, what in rows)
    )


def test_sessions_runs_and_entities_are_exams_of_their_own_with_their_own_maps(tmp_path):
    _touch(
        tmp_path,
        "sub-01/ses-01/perf/sub-01_ses-01_dsc.nii.gz",
        "sub-01/ses-01/perf/sub-01_ses-01_tmax.nii.gz",
        "sub-01/ses-02/perf/sub-01_ses-02_run-1_dsc.nii",
        "sub-01/ses-02/perf/sub-01_ses-02_run-2_dsc.nii.gz",
        "sub-01/ses-02/perf/sub-01_ses-02_run-2_desc-expert_tmax.nii.gz",
        "sub-01/ses-02/perf/sub-01_ses-02_run-2_desc-brain_mask.nii.gz",
        "sub-01/ses-03/anat/sub-01_ses-03_T1w.nii.gz",
        "sub-p001/perf/sub-p001_task-control_acq-perf_dsc.nii.gz",
        "sub-p001/perf/sub-p001_task-control_acq-perf_space-dsc_cbv.nii.gz",
        "sub-p001/perf/sub-p001_task-control_acq-perf_aif.tsv",
        "sub-p001/perf/sub-p001_asl.nii.gz",
        "sub-training_1/perf/sub-training_1_dsc.nii.gz",
    )
    found = _found(tmp_path)
    assert {name: (files.person, tuple(files.maps)) for name, files in found.items()} == {
        "sub-01_ses-01": ("sub-01", ("tmax",)),
        "sub-01_ses-02_run-1": ("sub-01", ()),
        "sub-01_ses-02_run-2": ("sub-01", ("tmax",)),
        "sub-p001_task-control_acq-perf": ("sub-p001", ("cbv",)),
        "sub-training_1": ("sub-training_1", ()),
    }
    assert found["sub-01_ses-02_run-2"].mask and not found["sub-01_ses-02_run-1"].mask
    assert found["sub-p001_task-control_acq-perf"].aif


def test_a_plain_map_is_not_that_of_a_run_and_is_named(tmp_path):
    _touch(tmp_path, "sub-01/perf/sub-01_run-1_dsc.nii.gz", "sub-01/perf/sub-01_run-2_tmax.nii.gz")
    with pytest.raises(InputError, match=r"sub-01_run-2_tmax\.nii\.gz: expected a series sub-01_run-2_dsc"):
        layouts.find_subjects(tmp_path, "bids")
    (tmp_path / "sub-01/perf/sub-01_run-2_tmax.nii.gz").rename(tmp_path / "sub-01/perf/sub-01_tmax.nii.gz")
    with pytest.raises(InputError, match=r"sub-01_tmax\.nii\.gz: expected a series sub-01_dsc"):
        layouts.find_subjects(tmp_path, "bids")


def test_two_maps_of_one_name_are_named_both(tmp_path):
    perf = "sub-01/perf/sub-01"
    _touch(tmp_path, f"{perf}_dsc.nii.gz", f"{perf}_desc-network_tmax.nii.gz", f"{perf}_desc-osvd_tmax.nii.gz")
    with pytest.raises(InputError, match=r"desc-osvd_tmax.*expected one.*desc-network_tmax"):
        layouts.find_subjects(tmp_path, "bids")


@pytest.mark.parametrize("below", ["derivatives", "derivatives/perfusion"])
def test_exams_below_derivatives_are_found_from_the_root(tmp_path, below):
    name = "sub-p001_task-control_acq-perf_dsc"
    _touch(tmp_path, "sub-p001/anat/sub-p001_T1w.nii.gz", f"{below}/sub-p001/perf/{name}.nii.gz")
    _split_rows(tmp_path, ("sub-p001", "test"))
    [files] = _found(tmp_path).values()
    assert files.series == tmp_path / below / f"sub-p001/perf/{name}.nii.gz" and files.split == "test"
    _touch(tmp_path, f"derivatives/other/sub-p001/perf/{name}.nii.gz")
    with pytest.raises(InputError, match=r"both hold series; give one of these folders as --config.data.root"):
        layouts.find_subjects(tmp_path, "bids")


def test_sidecars_are_inherited_level_by_level_and_by_entities(tmp_path):
    series = tmp_path / "sub-1/ses-2/perf/sub-1_ses-2_task-rest_run-1_dsc.nii.gz"
    _touch(tmp_path, str(series.relative_to(tmp_path)))
    wanted = [
        "dsc.json",
        "task-rest_dsc.json",
        "sub-1/sub-1_dsc.json",
        "sub-1/ses-2/sub-1_ses-2_task-rest_dsc.json",
        "sub-1/ses-2/perf/dsc.json",
        "sub-1/ses-2/perf/sub-1_ses-2_task-rest_run-1_dsc.json",
    ]
    others = ["task-motor_dsc.json", "task-rest_asl.json", "sub-1/sub-1_run-2_dsc.json", "bold.json"]
    _touch(tmp_path, *wanted, *others)
    assert [str(path.relative_to(tmp_path)) for path in sidecars_of(series)] == wanted


def test_frame_length_and_echo_time_come_from_the_levels_they_are_given_at(tmp_path):
    perf = write_fake_exam(tmp_path, sidecar=False)
    moved = tmp_path / "sub-0001/ses-1/perf"
    moved.mkdir(parents=True)
    for path in perf.iterdir():
        path.rename(moved / path.name.replace("sub-0001", "sub-0001_ses-1_acq-perf"))
    perf.rmdir()
    (tmp_path / "dsc.json").write_text(json.dumps({"RepetitionTime": 2.5, "EchoTime": 0.05}))
    (tmp_path / "sub-0001/sub-0001_acq-perf_dsc.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    exam = exams.load_exam(_found(tmp_path)["sub-0001_ses-1_acq-perf"])
    assert (exam.frame_seconds, exam.echo_seconds) == (1.5, 0.05) and len(exam.maps) == 5


def _cohort(tmp_path, persons=12):
    for person in range(persons):
        for session in range(1 + person % 3):
            name = f"sub-{person:02d}_ses-{session}"
            _touch(tmp_path, f"sub-{person:02d}/ses-{session}/perf/{name}_dsc.nii.gz")


def _splits_by_person(subjects, splits):
    of_person = collections.defaultdict(set)
    for files in subjects:
        of_person[files.person].add(splits[files.subject])
    return of_person


@pytest.mark.parametrize("seed", range(5))
def test_all_exams_of_a_person_are_drawn_into_one_split(tmp_path, seed):
    _cohort(tmp_path)
    subjects = layouts.find_subjects(tmp_path, "bids")
    splits = layouts.assign_splits(subjects, (0.5, 0.25, 0.25), seed)
    of_person = _splits_by_person(subjects, splits)
    assert len(splits) == len(subjects) > len(of_person) and all(len(split) == 1 for split in of_person.values())
    counts = collections.Counter(split for found in of_person.values() for split in found)
    assert counts == {"train": 6, "validation": 3, "test": 3}  # shares of persons, not of exams


def test_the_table_gives_a_persons_split_to_all_its_exams_and_may_exclude_one(tmp_path):
    _cohort(tmp_path, 3)
    _split_rows(tmp_path, ("sub-00", "train"), ("01", "validation"), ("sub-02", "test"), ("sub-02_ses-1", "exclude"))
    assert {name: files.split for name, files in _found(tmp_path).items()} == {
        "sub-00_ses-0": "train",
        "sub-01_ses-0": "validation",
        "sub-01_ses-1": "validation",
        "sub-02_ses-0": "test",
        "sub-02_ses-1": "exclude",
        "sub-02_ses-2": "test",
    }


def test_a_table_that_puts_a_person_into_two_splits_is_refused(tmp_path):
    _cohort(tmp_path, 2)
    _split_rows(tmp_path, ("sub-00", "train"), ("sub-01", "test"), ("sub-01_ses-1", "train"))
    with pytest.raises(InputError, match=r"sub-01_ses-1 has split train, sub-01 has test: all exams of a person"):
        layouts.find_subjects(tmp_path, "bids")
    _split_rows(tmp_path, ("sub-00", "train"), ("sub-01_ses-0", "test"), ("sub-01_ses-1", "train"))
    with pytest.raises(InputError, match=r"both are exams of sub-01"):
        layouts.assign_splits(layouts.find_subjects(tmp_path, "bids"), (1, 1, 1), 0)


def test_an_exam_keeps_identifier_and_person_in_the_folder_that_it_is_written_to(tmp_path):
    _touch(
        tmp_path / "in",
        "sub-01/perf/sub-01_run-2_dsc.nii.gz",
        "sub-02/ses-1/perf/sub-02_ses-1_acq-a_dsc.nii.gz",
        "sub-training_1/perf/sub-training_1_dsc.nii.gz",
    )
    for files in _found(tmp_path / "in").values():
        folder, stem = bids.place_of(tmp_path / "out", files)
        _touch(folder, f"{stem}_dsc.nii.gz")
    assert {name: files.person for name, files in _found(tmp_path / "out").items()} == {
        name: files.person for name, files in _found(tmp_path / "in").items()
    }
