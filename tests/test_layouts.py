"""Folders -> subjects, splits, and what of it is usable."""

import dataclasses

import numpy as np
import pytest
from exams import AFFINE, fake_arrays, truncate, write_fake_cohort, write_fake_exam

from dscgan_jax.data import layouts, nifti, preparation
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
    assert first.sidecar.name == "sub-0001_dsc.json" and first.aif.name == "sub-0001_aif.tsv"
    assert first.lesion is None and first.truth is None


def test_a_subject_in_two_rows_or_an_unknown_split_is_refused(tmp_path):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0001", "test"))
    with pytest.raises(InputError, match=r"participants\.tsv: subject sub-0001 stands in two rows \(split test and train\)"):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "val"))
    with pytest.raises(InputError, match="split 'val'; it must be train, validation, test or exclude"):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id,split",), ("sub-0001,train",))
    with pytest.raises(InputError, match="column participant_id"):
        layouts.find_subjects(tmp_path, "bids")


def test_ids_without_sub_and_headers_in_capitals_keep_their_splits(tmp_path):
    write_fake_cohort(tmp_path, 3)
    _write_table(tmp_path, (" Participant_ID", "Age", "Split "), ("0001", "40", "test"), ("sub-0002", "41", "train"),
                 ("0003 ", "42", "validation"), ("", "", "train"))
    assert [files.split for files in layouts.find_subjects(tmp_path, "bids")] == ["test", "train", "validation"]
    _write_table(tmp_path, ("participant_id", "split"), ("0001", "train"), ("sub-0001", "test"))
    with pytest.raises(InputError, match="subject sub-0001 stands in two rows"):
        layouts.find_subjects(tmp_path, "bids")


def test_a_table_of_other_people_is_refused(tmp_path):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("patient-1", "test"))
    for find in (layouts.find_subjects, layouts.check):
        with pytest.raises(InputError, match=r"participants\.tsv: no row .* the table has patient-1, the folder has sub-0001"):
            find(tmp_path, "bids")


@pytest.mark.parametrize("split", ["train", "test", "n/a"])
def test_a_listed_subject_without_folder_is_refused_unless_excluded(tmp_path, split):
    write_fake_exam(tmp_path)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", split))
    with pytest.raises(InputError, match=r"subject sub-0002 is listed .*\(ses-\*\) are not read; split=exclude"):
        layouts.find_subjects(tmp_path, "bids")
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", "exclude"))
    assert _only(tmp_path).subject == "sub-0001"


@pytest.mark.parametrize("inner", ["anat", "ses-01/perf", "perf"])
def test_a_folder_without_series_is_refused_unless_excluded_and_check_lists_it(tmp_path, inner):
    write_fake_exam(tmp_path)
    (tmp_path / "sub-0009" / inner).mkdir(parents=True)
    with pytest.raises(InputError, match=r"sub-0009_dsc\.nii\.gz: no such file.*ses-\*\) are not read; split=exclude") as caught:
        layouts.find_subjects(tmp_path, "bids")
    rows = layouts.check(tmp_path, "bids")
    assert [(row.subject, row.usable) for row in rows] == [("sub-0001", True), ("sub-0009", False)]
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
    with pytest.raises(InputError, match="looks like --config.data.layout=bids"):
        layouts.find_subjects(tmp_path, "isles2017")


def test_the_same_file_twice_is_refused(tmp_path):
    folder = write_fake_exam(tmp_path)
    (folder / "sub-0001_tmax.nii").write_bytes(b"")
    with pytest.raises(InputError, match=r"sub-0001_tmax\.nii: expected one such file"):
        layouts.find_subjects(tmp_path, "bids")


def _named(*splits):
    return [layouts.SubjectFiles(f"sub-{number:04d}", None, split=split) for number, split in enumerate(splits)]


def test_the_papers_proportions_are_drawn_once_by_subject():
    subjects = _named(*[None] * 203)
    splits = layouts.assign_splits(subjects, (0.70, 0.10, 0.20), seed=0)
    counts = [list(splits.values()).count(name) for name in layouts.SPLITS]
    assert counts == [142, 20, 41]
    assert splits == layouts.assign_splits(subjects[::-1], (0.70, 0.10, 0.20), seed=0)
    assert splits != layouts.assign_splits(subjects, (0.70, 0.10, 0.20), seed=1)


@pytest.mark.parametrize(("n_subjects", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]),
                                                      (5, [3, 1, 1]), (10, [7, 1, 2])])
def test_no_split_is_empty_while_there_are_subjects(n_subjects, expected):
    splits = layouts.assign_splits(_named(*[None] * n_subjects), (0.70, 0.10, 0.20), seed=3)
    assert [list(splits.values()).count(name) for name in layouts.SPLITS] == expected


def test_a_split_without_fraction_stays_empty():
    assert set(layouts.assign_splits(_named(*[None] * 9), (0.8, 0.0, 0.2), seed=0).values()) == {"train", "test"}


def test_given_splits_are_taken_and_half_given_ones_refused():
    assert layouts.assign_splits(_named("test", "train", "exclude"), (1, 0, 0), 0) == {"sub-0000": "test", "sub-0001": "train"}
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
    with open(tmp_path / "participants.tsv", "a") as table:
        table.write("sub-0008\ttrain\n")
    text = layouts.format_check(layouts.check(tmp_path, "bids"))
    assert "sub-0001  NOT USABLE" in text and "cut off" in text
    assert "sub-0008  NOT USABLE  subject sub-0008 is listed in participants.tsv, without exam" in text
    assert "look at:    tmax up to " in text and "expected s: ms instead of s?" in text
    assert "sub-0003  usable      16 x 16 x 3, 64 frames of 1.5 s, TE 30 ms, maps: cbf cbv mtt tmax ttp, mask: file" in text
    assert text.endswith("2 of 4 subjects usable; set the others to exclude in participants.tsv or mend them.")


def test_check_reports_splits_that_are_half_given(tmp_path):
    write_fake_cohort(tmp_path, 3)
    _write_table(tmp_path, ("participant_id", "split"), ("sub-0001", "train"), ("sub-0002", ""), ("sub-0003", "exclude"))
    first, second, third = layouts.check(tmp_path, "bids")
    assert first.usable and third.usable
    assert not second.usable and "gives a split for 1 of 2 subjects, none for sub-0002" in second.reason


def _write_isles(root, subject, prefix, shape, frames, ending=".nii", block=1):
    """`shape` is drawn in blocks of block x block equal voxels, which is quick."""
    small = fake_arrays((shape[0] // block, shape[1] // block, shape[2]), frames)
    series, mask = (small[index].repeat(block, 0).repeat(block, 1) for index in (0, 2))
    maps = {name: values.repeat(block, 0).repeat(block, 1) for name, values in small[1].items()}
    volumes = {"MR_4DPWI": series[:, :, :, None, :], "MR_rCBF": maps["cbf"], "MR_rCBV": maps["cbv"], "MR_MTT": maps["mtt"],
               "MR_Tmax": np.where(mask, maps["tmax"], -30.0), "MR_TTP": maps["ttp"], "OT": mask * 1.0, "MR_ADC": mask * 700.0}
    for number, (token, data) in enumerate(volumes.items()):
        name = f"{prefix}.Brain.XX.O.{token}.{127014 + number}"
        (root / subject / name).mkdir(parents=True)
        nifti.write_volume(root / subject / name / (name + ending), np.rint(data), np.diag([-1.25, -1.25, 5.0, 1.0]),
                           dtype=np.int16)
    return maps, mask


def test_isles_2017_folders_go_from_files_to_a_restored_map(tmp_path):
    root = tmp_path / "ISLES2017_Training"
    shape = (192, 192, 19)
    maps, mask = _write_isles(root, "training_1", "VSD", shape, 40, block=8)
    _write_isles(root, "training_43", "SMIR", (16, 16, 3), 40, ".nii.gz")
    for folder, name in (("__MACOSX/training_1", "VSD.Brain.XX.O.MR_4DPWI.1.nii"),  # what zips from a Mac carry
                         ("training_1/__MACOSX", "VSD.Brain.XX.O.MR_Tmax.1.nii"),
                         ("training_1/x", "._VSD.Brain.XX.O.MR_Tmax.1.nii")):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_bytes(b"junk")

    subjects = layouts.find_subjects(tmp_path, "isles2017")
    assert [files.subject for files in subjects] == ["training_1", "training_43"]
    assert layouts.find_subjects(root, "isles2017") == subjects
    assert all(set(files.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"} and files.lesion for files in subjects)
    with pytest.raises(InputError, match=r"MR_4DPWI.*--tr="):
        layouts.load_exam(subjects[0])

    exam = layouts.load_exam(dataclasses.replace(subjects[0], overrules=layouts.Overrules(1.5)))
    assert exam.series.shape == (*shape, 40) and exam.mask_source == "maps"
    assert {finding.short() for finding in exam.findings} == {"map_fill_value=-30", "mask_from_maps"}
    settings = preparation.PreparationSettings(96, 7, 64, "stretch", 1.5, "keep")
    prepared = preparation.prepare(exam, settings)
    assert prepared.dsc.shape == (7, 64, 96, 96) and prepared.maps.min() == 0
    restored = preparation.restore(prepared.maps, prepared.grid, prepared.mask)
    assert restored.shape == (*shape, 5)
    np.testing.assert_allclose(restored[mask][:, 2], 5.0, rtol=1e-4)  # MTT is 5 s everywhere in that brain
    assert np.abs(restored[mask][:, 3] - maps["tmax"][mask]).mean() < 0.3  # whole numbers, on half the pixels
