"""CT perfusion of the ISLES challenges: files of exactly their names and shapes."""

import ct_exams
import numpy as np
import pytest

from dscgan_jax.data import exams, layouts, nifti
from dscgan_jax.errors import InputError

SHAPE = (32, 32, 2)
AFFINE = np.diag([-6.0, 6.0, 5.0, 1.0])


def _maps(brain, outside=0.0):
    values = {"cbf": 40.0, "cbv": 3.0, "mtt": 5.0, "tmax": 3.0}
    random = np.random.default_rng(0)
    return {
        name: np.where(brain, value * random.uniform(0.5, 1.5, brain.shape), outside if name == "tmax" else 0.0)
        for name, value in values.items()
    }


def _write(path, data, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write_volume(path, data, AFFINE, **how)


def _write_2018(case, prefix="CT", frame_seconds=None, five_axes=True):
    series, brain = ct_exams.small_ct(SHAPE)
    volumes = {
        f"{prefix}_4DPWI": series[:, :, :, None] if five_axes else series,
        "CT": series[..., 0],
        "OT": brain * 1.0,
    }
    volumes |= {
        f"{prefix}_{token}": _maps(brain)[name]
        for token, name in (("CBF", "cbf"), ("CBV", "cbv"), ("MTT", "mtt"), ("Tmax", "tmax"))
    }
    for number, (token, data) in enumerate(volumes.items()):
        name = f"SMIR.Brain.XX.O.{token}.{345562 + number}"
        timed = {"frame_seconds": frame_seconds} if "4DPWI" in token else {}
        _write(case / name / f"{name}.nii", np.rint(data), dtype=np.int16, **timed)


def test_isles_2018_is_ct_with_maps_and_frames_of_a_second_unless_the_header_knows(tmp_path):
    root = tmp_path / "TRAINING"
    _write_2018(root / "case_1")
    _write_2018(root / "case_22", "MR", frame_seconds=1.5, five_axes=False)
    (root / "__MACOSX" / "case_1").mkdir(parents=True)
    subjects = layouts.find_subjects(tmp_path, "isles2018")
    assert [files.subject for files in subjects] == ["case_1", "case_22"]
    assert layouts.find_subjects(root, "isles2018") == subjects
    first, second = map(exams.load_exam, subjects)
    assert (first.modality, first.frame_seconds, second.frame_seconds) == ("ct", 1.0, 1.5)
    assert set(first.maps) == {"cbf", "cbv", "mtt", "tmax"} and np.isnan(first.echo_seconds)
    assert [one.text for one in first.findings if one.name == "frame_length"] == [
        "no file tells the frame length; 1 s was assumed, as is usual in this data set"
    ]


STROKE = "sub-stroke0001"


def _write_2024(train, tree="raw_data", space="", person=STROKE):
    series, brain = ct_exams.small_ct(SHAPE)
    session, stem = train / tree / person / "ses-01", f"{person}_ses-01{space}"
    _write(session / f"{stem}_ctp.nii.gz", np.rint(series), dtype=np.int16, frame_seconds=1.0)
    _write(session / f"{stem}_cta.nii.gz", series[..., 12])
    for name, values in _maps(brain, outside=-30.0).items():
        _write(session / "perfusion-maps" / f"{stem}_{name}.nii.gz", values)


def test_isles_2024_is_read_from_any_of_its_roots_one_tree_for_each_patient(tmp_path):
    train = tmp_path / "train"
    _write_2024(train)
    _write_2024(train, "derivatives", "_space-ncct")
    _write_2024(train, "derivatives", "_space-ncct", "sub-stroke0189")
    (train / "phenotype" / STROKE / "ses-01").mkdir(parents=True)
    (tmp_path / "participants.tsv").write_text(f"participant_id\tsplit\n{STROKE}\ttrain\nsub-stroke0189\ttest\n")
    subjects = layouts.find_subjects(tmp_path, "isles2024")
    assert [(files.subject, files.person, files.split, files.series.name) for files in subjects] == [
        (f"{STROKE}_ses-01", STROKE, "train", f"{STROKE}_ses-01_ctp.nii.gz"),
        ("sub-stroke0189_ses-01", "sub-stroke0189", "test", "sub-stroke0189_ses-01_space-ncct_ctp.nii.gz"),
    ]
    assert [files.series for files in layouts.find_subjects(train, "isles2024")] == [one.series for one in subjects]
    assert len(layouts.find_subjects(train / "raw_data", "isles2024")) == 1
    exam = exams.load_exam(subjects[0])
    assert exam.modality == "ct" and set(exam.maps) == {"cbf", "cbv", "mtt", "tmax"}
    assert "map_fill_value=-30" in [finding.short() for finding in exam.findings]


def test_a_patient_without_series_does_not_vanish(tmp_path):
    _write_2024(tmp_path)
    (tmp_path / "raw_data/sub-stroke0002/ses-01").mkdir(parents=True)
    with pytest.raises(InputError, match=r"sub-stroke0002_ses-01_ctp\.nii\.gz: no such file"):
        layouts.find_subjects(tmp_path, "isles2024")


def test_a_sidecar_of_the_other_modality_is_an_error_that_names_the_flag(tmp_path):
    series, _ = ct_exams.small_ct(SHAPE)
    sidecar = {"Modality": "CT", "RepetitionTime": 1.0, "EchoTime": 0.0}
    nifti.write_volume(tmp_path / "a.nii", series, AFFINE, frame_seconds=1.0, sidecar=sidecar)
    with pytest.raises(InputError, match=r"a\.json: Modality is CT.*\[--config.data.modality=ct\]"):
        exams.load_exam(tmp_path / "a.nii")
    assert np.isnan(exams.load_exam(tmp_path / "a.nii", modality="ct").echo_seconds)
    with pytest.raises(InputError, match=r"--te is the echo time of MRI"):
        exams.load_exam(tmp_path / "a.nii", modality="ct", echo_time=0.03)
