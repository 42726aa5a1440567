"""Folders -> subjects, splits, and what of it is usable."""

import dataclasses
import shutil

import numpy as np
import pytest
from exams import AFFINE, fake_arrays, truncate, write_fake_cohort, write_fake_exam

from dscgan_jax.app import check
from dscgan_jax.data import exams, grid, layouts, nifti, preparation, subject_files
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.errors import InputError


def _only(root, layout="bids"):
    (files,) = layouts.find_subjects(root, layout)
    return files


def _write_table(root, *rows):
    (root / "participants.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")


def test_a_bids_folder_gives_its_subjects_in_order_with_all_files(tmp_path):
    write_fake_cohort(tmp_path, 3)
    (tmp_path / "sub-0001" / "perf" / "sub-0001_aif.tsv").write_text("")
    subjects = layouts.find_subjects(tmp_path, "bids")
    assert [files.subject for files in subjects] == ["sub-0001", "sub-0002", "sub-0003"]
    assert [files.split for files in subjects] == ["train", "validation", "test"]
    first = subjects[0]
    assert set(first.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"} and first.mask.name == "sub-0001_mask.nii.gz"
    assert [path.name for path in first.sidecars] == ["sub-0001_dsc.json"] and first.aif.name == "sub-0001_aif.tsv"
    assert first.lesion is None and first.truth is None


def test_a_subject_in_two_rows_or_an_unknown_split_is_refused(tmp_path):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0001", "test"))
    with pytest.raises(
        InputError, match=r"participants\.tsv: subject sub-0001 is in two rows \(split test and train\)"
    ):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "val"))
    with pytest.raises(InputError, match="split 'val'; it must be train, validation, test or exclude"):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id,split",), ("sub-0001,train",))
    with pytest.raises(InputError, match="column participant_id"):
        layouts.find_subjects(tmp_path, "bids")


def test_ids_without_sub_and_headers_in_capitals_keep_their_splits(tmp_path):
    write_fake_cohort(tmp_path, 3)
    _write_table(
        tmp_path,
        (" Participant_ID", "Age", "Split "),
        ("0001", "40", "test"),
        ("sub-0002", "41", "train"),
        ("0003 ", "42", "validation"),
        ("", "", "train"),
    )
    assert [files.split for files in layouts.find_subjects(tmp_path, "bids")] == ["test", "train", "validation"]
    _write_table(tmp_path, ("participant_id", "split"), ("0001", "train"), ("sub-0001", "test"))
    with pytest.raises(InputError, match="subject sub-0001 is in two rows"):
        layouts.find_subjects(tmp_path, "bids")


def test_a_table_of_other_people_is_refused(tmp_path):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("patient-1", "test"))
    for find in (layouts.find_subjects, folder_checks.check):
        with pytest.raises(
            InputError, match=r"participants\.tsv: no row .* the table has patient-1, the folder has sub-0001"
        ):
            find(tmp_path, "bids")


@pytest.mark.parametrize("split", ["train", "test", "n/a"])
def test_a_listed_subject_without_folder_is_refused_unless_excluded(tmp_path, split):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", split))
    with pytest.raises(InputError, match=r"subject sub-0002 is listed .*no folder; .*split=exclude"):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", "exclude"))
    assert _only(tmp_path).subject == "sub-0001"


@pytest.mark.parametrize("inner", ["anat", "ses-01/perf", "perf"])
def test_a_folder_without_series_is_refused_unless_excluded_and_check_lists_it(tmp_path, inner):
    write_fake_exam(tmp_path)
    (tmp_path / "sub-0009" / inner).mkdir(parents=True)
    with pytest.raises(InputError, match=r"sub-0009(_ses-01)?_dsc\.nii\.gz: no such file.*split=exclude") as caught:
        layouts.find_subjects(tmp_path, "bids")
    rows = folder_checks.check(tmp_path, "bids")
    name = "sub-0009_ses-01" if "ses" in inner else "sub-0009"
    assert [(row.subject, row.usable) for row in rows] == [("sub-0001", True), (name, False)]
    assert rows[1].reason == str(caught.value)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0009", "exclude"))
    assert [files.split for files in layouts.find_subjects(tmp_path, "bids")] == ["train", "exclude"]


def test_empty_and_unknown_folders_and_layouts_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected exams as sub-"):
        layouts.find_subjects(tmp_path, "bids")
    with pytest.raises(InputError, match="no such folder"):
        layouts.find_subjects(tmp_path / "absent", "bids")
    with pytest.raises(InputError, match="one of bids, isles2017"):
        layouts.find_subjects(tmp_path, "brats")
    write_fake_exam(tmp_path)
    with pytest.raises(InputError, match=r"looks like --config.data.layout=bids"):
        layouts.find_subjects(tmp_path, "isles2017")


def test_a_folder_of_dicom_says_to_convert_it(tmp_path):
    (tmp_path / "series 3").mkdir()
    (tmp_path / "series 3" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(200))
    with pytest.raises(InputError, match="it holds DICOM files: give the folder of one exam as --input"):
        layouts.find_subjects(tmp_path, "bids")
    (tmp_path / "series 3" / "IM0001").write_bytes(bytes(400))
    with pytest.raises(InputError, match="check the folder"):
        layouts.find_subjects(tmp_path, "bids")


def test_the_same_file_twice_is_refused(tmp_path):
    folder = write_fake_exam(tmp_path)
    (folder / "sub-0001_tmax.nii").write_bytes(b"")
    with pytest.raises(InputError, match=r"sub-0001_tmax\.nii: expected one such file"):
        layouts.find_subjects(tmp_path, "bids")


def _named(*splits):
    return [subject_files.SubjectFiles(f"sub-{number:04d}", None, split=split) for number, split in enumerate(splits)]


def test_the_papers_proportions_are_drawn_once_by_subject():
    subjects = _named(*[None] * 203)
    splits = layouts.assign_splits(subjects, (0.70, 0.10, 0.20), seed=0)
    counts = [list(splits.values()).count(name) for name in layouts.SPLITS]
    assert counts == [142, 20, 41]
    assert splits == layouts.assign_splits(subjects[::-1], (0.70, 0.10, 0.20), seed=0)
    assert splits != layouts.assign_splits(subjects, (0.70, 0.10, 0.20), seed=1)


@pytest.mark.parametrize(
    ("n_subjects", "expected"),
    [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]), (5, [3, 1, 1]), (10, [7, 1, 2])],
)
def test_no_split_is_empty_while_there_are_subjects(n_subjects, expected):
    splits = layouts.assign_splits(_named(*[None] * n_subjects), (0.70, 0.10, 0.20), seed=3)
    assert [list(splits.values()).count(name) for name in layouts.SPLITS] == expected


def test_a_split_without_fraction_stays_empty():
    assert set(layouts.assign_splits(_named(*[None] * 9), (0.8, 0.0, 0.2), seed=0).values()) == {"train", "test"}


def test_given_splits_are_taken_and_half_given_ones_refused():
    assert layouts.assign_splits(_named("test", "train", "exclude"), (1, 0, 0), 0) == {
        "sub-0000": "test",
        "sub-0001": "train",
    }
    with pytest.raises(InputError, match="for 1 of 2 subjects, none for sub-0001"):
        layouts.assign_splits(_named("train", None), (1, 0, 0), 0)
    with pytest.raises(InputError, match="no subject is in the training split"):
        layouts.assign_splits(_named("test", "exclude"), (1, 0, 0), 0)
    assert layouts.assign_splits(_named("test", "exclude"), (1, 0, 0), 0, for_training=False) == {"sub-0000": "test"}
    with pytest.raises(InputError, match="every subject is excluded"):
        layouts.assign_splits(_named("exclude"), (1, 0, 0), 0, for_training=False)
    with pytest.raises(InputError, match="split_fractions"):
        layouts.assign_splits(_named(None), (1, -1, 0), 0)


def test_check_tells_what_is_usable_and_what_looks_like_another_unit(tmp_path):
    write_fake_cohort(tmp_path, 3)
    truncate(tmp_path / "sub-0001" / "perf" / "sub-0001_tmax.nii.gz")
    _, maps, _ = fake_arrays(seed=2)
    nifti.write_volume(tmp_path / "sub-0002" / "perf" / "sub-0002_tmax.nii.gz", maps["tmax"] * 1000, AFFINE)
    nifti.write_volume(tmp_path / "sub-0003" / "perf" / "sub-0003_cbf.nii.gz", maps["cbf"] * 20, AFFINE)
    with open(tmp_path / "participants.tsv", "a") as table:
        table.write("sub-0008\ttrain\n")
    text = check.as_text(folder_checks.check(tmp_path, "bids"))
    assert "sub-0001  NOT USABLE" in text and "cut off" in text
    assert "sub-0008  NOT USABLE  subject sub-0008 is listed in participants.tsv but has no folder" in text
    assert "the tmax map has a median of 30" in text and "where s is expected: ms instead of s?" in text
    assert "sub-0002  NOT USABLE" in text and "to accept the risk: --accept=map_unit" in text
    assert "warning: the cbf map has a median of 7" in text and "where mL/100 g/min is expected: x 10?" in text
    assert (
        "sub-0003  usable      16 x 16 x 3, 64 frames of 1.5 s, TE 30 ms, maps: cbf cbv mtt tmax ttp, mask: file"
        in text
    )
    assert text.endswith("1 of 4 subjects usable; correct the others, or set them to exclude in participants.tsv.")


def test_check_reports_splits_that_are_half_given(tmp_path):
    write_fake_cohort(tmp_path, 3)
    _write_table(
        tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", ""), ("sub-0003", "exclude")
    )
    first, second, third = folder_checks.check(tmp_path, "bids")
    assert first.usable and third.usable
    assert not second.usable and "gives a split for 1 of 2 subjects, none for sub-0002" in second.reason


def _write_isles(root, subject, prefix, shape, frames, ending=".nii", block=1):
    """`shape` is drawn in blocks of block x block equal voxels, which is quick."""
    small = fake_arrays((shape[0] // block, shape[1] // block, shape[2]), frames)
    series, mask = (small[index].repeat(block, 0).repeat(block, 1) for index in (0, 2))
    maps = {name: values.repeat(block, 0).repeat(block, 1) for name, values in small[1].items()}
    volumes = {
        "MR_4DPWI": series[:, :, :, None, :],
        "MR_rCBF": maps["cbf"],
        "MR_rCBV": maps["cbv"],
        "MR_MTT": maps["mtt"],
        "MR_Tmax": np.where(mask, maps["tmax"], -30.0),
        "MR_TTP": maps["ttp"],
        "OT": mask * 1.0,
        "MR_ADC": mask * 700.0,
    }
    for number, (token, data) in enumerate(volumes.items()):
        name = f"{prefix}.Brain.XX.O.{token}.{127014 + number}"
        (root / subject / name).mkdir(parents=True)
        nifti.write_volume(
            root / subject / name / (name + ending), np.rint(data), np.diag([-1.25, -1.25, 5.0, 1.0]), dtype=np.int16
        )
    return maps, mask


@pytest.mark.slow
def test_isles_2017_folders_go_from_files_to_a_restored_map(tmp_path):
    root = tmp_path / "ISLES2017_Training"
    shape = (192, 192, 19)
    maps, mask = _write_isles(root, "training_1", "VSD", shape, 40, block=8)
    _write_isles(root, "training_43", "SMIR", (16, 16, 3), 40, ".nii.gz")
    for folder, name in (
        ("__MACOSX/training_1", "VSD.Brain.XX.O.MR_4DPWI.1.nii"),  # what zips from a Mac carry
        ("training_1/__MACOSX", "VSD.Brain.XX.O.MR_Tmax.1.nii"),
        ("training_1/x", "._VSD.Brain.XX.O.MR_Tmax.1.nii"),
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_bytes(b"junk")

    subjects = layouts.find_subjects(tmp_path, "isles2017")
    assert [files.subject for files in subjects] == ["training_1", "training_43"]
    assert layouts.find_subjects(root, "isles2017") == subjects
    assert all(set(files.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"} and files.lesion for files in subjects)
    with pytest.raises(InputError, match=r"MR_4DPWI.*--tr="):
        exams.load_exam(subjects[0])

    exam = exams.load_exam(dataclasses.replace(subjects[0], overrules=subject_files.Overrules(1.5)))
    assert exam.series.shape == (*shape, 40) and exam.mask_source == "maps"
    assert {finding.short() for finding in exam.findings} >= {"map_fill_value=-30", "mask_from_maps"}
    settings = preparation.PreparationSettings(96, 7, 64, "stretch", 1.5, "keep")
    prepared = preparation.prepare(exam, settings)
    assert prepared.dsc.shape == (7, 64, 96, 96) and prepared.maps.min() == 0
    restored = exam.stored.to_stored(grid.restore(prepared.maps, prepared.grid, prepared.mask))
    assert restored.shape == (*shape, 5)
    for column, name in ((2, "mtt"), (3, "tmax")):
        assert np.abs(restored[mask][:, column] - maps[name][mask]).mean() < 0.3  # whole numbers, on half the pixels


def _unfetched(path):
    """Leaves a link as git-annex does before the data are fetched."""
    path.unlink(missing_ok=True)
    path.symlink_to(f"../../.git/annex/objects/{path.name}")


@pytest.mark.parametrize("name", ["mask.nii.gz", "tmax.nii.gz", "cbf.nii.gz", "dsc.json", "dsc.nii.gz"])
def test_a_link_whose_data_were_not_fetched_is_named_and_nothing_takes_its_place(tmp_path, name):
    write_fake_cohort(tmp_path, 2, splits=())
    _unfetched(tmp_path / "sub-0001" / "perf" / f"sub-0001_{name}")
    with pytest.raises(InputError, match=rf"sub-0001_{name}: .*link to .*annex/objects/sub-0001_{name}.*datalad get"):
        exams.load_exam(layouts.find_subjects(tmp_path, "bids")[0])
    first, second = folder_checks.check(tmp_path, "bids")
    assert not first.usable and "annex" in first.reason and second.usable


def test_a_link_beside_a_file_of_the_same_role_is_a_second_one(tmp_path):
    _unfetched(write_fake_exam(tmp_path) / "sub-0001_mask.nii")
    with pytest.raises(InputError, match=r"sub-0001_mask\.nii: expected one such file"):
        layouts.find_subjects(tmp_path, "bids")


def test_an_excluded_subject_may_be_unfetched(tmp_path):
    write_fake_cohort(tmp_path, 2, splits=("train", "exclude"))
    _unfetched(tmp_path / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz")
    assert [files.split for files in layouts.find_subjects(tmp_path, "bids")] == ["train", "exclude"]


def test_an_unfetched_table_or_subject_folder_does_not_vanish(tmp_path):
    write_fake_exam(tmp_path)
    (tmp_path / "sub-0002").symlink_to("elsewhere/sub-0002")
    with pytest.raises(InputError, match="sub-0002 has no series"):
        layouts.find_subjects(tmp_path, "bids")
    (tmp_path / "sub-0002").unlink()
    _unfetched(tmp_path / "participants.tsv")
    with pytest.raises(InputError, match=r"participants\.tsv: .*annex"):
        layouts.find_subjects(tmp_path, "bids")


def test_an_unfetched_file_of_isles_is_named(tmp_path):
    folder = tmp_path / "training_1" / "VSD.Brain.XX.O.MR_4DPWI.1"
    folder.mkdir(parents=True)
    series, _, _ = fake_arrays()
    nifti.write_volume(folder / "VSD.Brain.XX.O.MR_4DPWI.1.nii", series, AFFINE, dtype=np.int16, frame_seconds=1.5)
    _unfetched(folder.parent / "VSD.Brain.XX.O.MR_Tmax.2.nii")
    with pytest.raises(InputError, match=r"MR_Tmax\.2\.nii: .*annex"):
        exams.load_exam(_only(tmp_path, "isles2017"))


def test_sidecars_are_inherited_and_the_most_specific_counts(tmp_path):
    folder = write_fake_exam(tmp_path)
    own = folder / "sub-0001_dsc.json"
    own.write_text('{"EchoTime": 0.031}')
    (tmp_path / "dsc.json").write_text('{"EchoTime": 0.050, "RepetitionTime": 2.5}')
    files = _only(tmp_path)
    assert files.sidecars == (tmp_path / "dsc.json", own)
    _write_series(folder, frame_seconds=None)
    for exam in (exams.load_exam(files), exams.load_exam(files.series)):
        assert (exam.frame_seconds, exam.echo_seconds) == (2.5, 0.031)
    (folder.parent / "sub-0001_dsc.json").write_text('{"RepetitionTime": 1.5}')
    (folder.parent / "dsc.json").write_text('{"RepetitionTime": 1.8, "EchoTime": 0.04}')
    for exam in (exams.load_exam(_only(tmp_path)), exams.load_exam(files.series)):
        assert (exam.frame_seconds, exam.echo_seconds) == (1.5, 0.031)
    own.unlink()
    assert exams.load_exam(files.series).echo_seconds == 0.04


def test_a_series_outside_such_a_folder_inherits_nothing(tmp_path):
    folder = write_fake_exam(tmp_path / "in")
    series = (folder / "sub-0001_dsc.nii.gz").rename(tmp_path / "sub-0001_dsc.nii.gz")
    (tmp_path / "dsc.json").write_text('{"EchoTime": 0.05}')
    exam = exams.load_exam(series)
    assert exam.frame_seconds == 1.5 and np.isnan(exam.echo_seconds)


def test_an_unfetched_inherited_sidecar_is_named(tmp_path):
    folder = write_fake_exam(tmp_path)
    _unfetched(tmp_path / "dsc.json")
    with pytest.raises(InputError, match=r"dsc\.json: .*annex"):
        exams.load_exam(folder / "sub-0001_dsc.nii.gz")


def _write_series(folder, frame_seconds):
    """Another header beside the same sidecars."""
    series, _, _ = fake_arrays()
    nifti.write_volume(
        folder / f"{folder.parent.name}_dsc.nii.gz", series, AFFINE, dtype=np.int16, frame_seconds=frame_seconds
    )


@pytest.mark.parametrize("name", ["sub-2\u200b", "sub-M\udcfcller"])  # a zero-width space; Latin-1
def test_a_name_that_cannot_be_shown_costs_its_exam_alone(tmp_path, name):
    root = write_fake_cohort(tmp_path, 2, mask=False, maps=())
    odd = root / name / "perf"
    odd.mkdir(parents=True)
    shutil.copy(root / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz", odd / f"{name}_dsc.nii.gz")
    rows = {row.subject: row for row in folder_checks.check(root, "bids")}
    [told] = rows.keys() - {"sub-0001", "sub-0002"}
    assert told.isprintable() and "\\" in told and rows["sub-0001"].usable and rows["sub-0002"].usable
    assert "cannot be that of an exam; rename its file or folder" in rows[told].reason
    with pytest.raises(InputError, match="cannot be that of an exam"):
        layouts.find_subjects(root)
    if "\udcfc" not in name:  # a table is UTF-8
        table = "".join(f"{who}\t{split}\n" for who, split in (("0001", "train"), ("0002", "test"), (name, "exclude")))
        (root / "participants.tsv").write_text(f"participant_id\tsplit\n{table}", encoding="utf-8")
        assert [files.split for files in layouts.find_subjects(root)] == ["train", "test", "exclude"]
