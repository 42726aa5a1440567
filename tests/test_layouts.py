"""Folders -> subjects and splits, and every kind of bad exam refused by name."""

import numpy as np
import pytest
from exams import AFFINE, fake_arrays, rewrite_sidecar, write_fake_cohort, write_fake_exam

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
    (tmp_path / "sub-0009" / "anat").mkdir(parents=True)  # a subject without perfusion is no concern of ours
    subjects = layouts.find_subjects(tmp_path, "bids")
    assert [files.subject for files in subjects] == ["sub-0001", "sub-0002", "sub-0003"]
    assert [files.split for files in subjects] == ["train", "validation", "test"]
    first = subjects[0]
    assert set(first.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"} and first.mask.name == "sub-0001_mask.nii.gz"
    assert first.sidecar.name == "sub-0001_dsc.json" and first.aif.name == "sub-0001_aif.tsv"
    assert first.lesion is None and first.truth is None


def test_a_loaded_exam_is_what_was_written(tmp_path):
    write_fake_exam(tmp_path, seed=4)
    exam = layouts.load_exam(_only(tmp_path))
    series, maps, mask = fake_arrays(seed=4)
    np.testing.assert_array_equal(exam.series, series)
    np.testing.assert_array_equal(exam.maps["tmax"], maps["tmax"])
    np.testing.assert_array_equal(exam.mask, mask)
    assert (exam.frame_seconds, exam.echo_seconds, exam.mask_source, exam.flags) == (1.5, 0.03, "file", ())
    assert exam.timing.transient_frames == 1 and exam.timing.peak_frame > 12


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
    with pytest.raises(InputError, match="split_fractions"):
        layouts.assign_splits(_named(None), (1, -1, 0), 0)


def _rewrite(folder, name, data, affine=AFFINE, **changes):
    nifti.write_volume(folder / f"sub-0001_{name}.nii.gz", data, affine, **changes)


def _series(change):
    def break_it(folder):
        series, _, _ = fake_arrays()
        _rewrite(folder, "dsc", change(series), frame_seconds=1.5)
    return break_it


def _map_on_another_grid(folder):
    _rewrite(folder, "tmax", np.ones((16, 15, 3)))


def _map_elsewhere(folder):
    _, maps, _ = fake_arrays()
    _rewrite(folder, "tmax", maps["tmax"], AFFINE + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3))


def _truncate(folder):
    path = folder / "sub-0001_tmax.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])


def _no_frame_length(folder):
    rewrite_sidecar(folder / "sub-0001_dsc.json", RepetitionTime=None)
    _rewrite(folder, "dsc", fake_arrays()[0])


BAD_EXAMS = {
    "a 3-D series": (_series(lambda s: s[..., 0]), r"_dsc\.nii\.gz: expected a 4-D series"),
    "nine frames": (_series(lambda s: s[..., :9]), r"_dsc\.nii\.gz: expected at least 10 frames, the series has 9"),
    "NaN everywhere": (_series(lambda s: s * np.nan), r"_dsc\.nii\.gz: 100 % of the values are NaN"),
    "half the frames NaN": (_series(lambda s: np.where(np.arange(64) % 2, s, np.nan)), "50 % of the values are NaN"),
    "all zero": (_series(lambda s: s * 0), r"_dsc\.nii\.gz: the series is zero everywhere"),
    "no bolus": (_series(lambda s: s * 0 + s[..., 5:6]), r"_dsc\.nii\.gz: no bolus"),
    "CT": (_series(lambda s: np.where(s > 100, 2000 - s[..., 5:6] * 0 - s, s)), "rises instead of falling"),
    "a map on another grid": (_map_on_another_grid, r"_tmax\.nii\.gz: expected the grid of the series \(16, 16, 3\)"),
    "a map elsewhere": (_map_elsewhere, r"_tmax\.nii\.gz: the file lies up to 5\.0 mm away"),
    "a truncated map": (_truncate, r"_tmax\.nii\.gz: the compressed file is cut off"),
    "a map of zeros": (lambda f: _rewrite(f, "tmax", np.zeros((16, 16, 3))), r"_tmax\.nii\.gz: the tmax map .* zero everywhere"),
    "an empty mask": (lambda f: _rewrite(f, "mask", np.zeros((16, 16, 3))), r"_mask\.nii\.gz: expected a brain"),
    "no frame length": (_no_frame_length, r"_dsc\.nii\.gz: the frame length is unknown"),
    "no series": (lambda f: (f / "sub-0001_dsc.nii.gz").unlink(), r"_dsc\.nii\.gz: no such file"),
    "a missing map": (lambda f: (f / "sub-0001_tmax.nii.gz").unlink(), "sub-0001: the tmax map is missing"),
}


@pytest.mark.parametrize("kind", BAD_EXAMS)
def test_a_bad_exam_is_refused_by_name_and_check_says_why(tmp_path, kind):
    break_it, message = BAD_EXAMS[kind]
    break_it(write_fake_exam(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        layouts.load_exam(_only(tmp_path), need_maps=("tmax",))
    assert "\n" not in str(caught.value)
    (row,) = layouts.check(tmp_path, "bids", need_maps=("tmax",))
    assert not row.usable and row.reason == str(caught.value)


def test_a_few_bad_values_are_repaired_and_recorded(tmp_path):
    folder = write_fake_exam(tmp_path)
    series, maps, mask = fake_arrays()
    broken = series.copy()
    broken[8, 8, 1, 30] = np.nan
    broken[0, 0, 0] = np.inf  # a voxel without any value
    broken[8, 9, 1, 31] = -40
    _rewrite(folder, "dsc", broken)
    tmax = np.where(mask, maps["tmax"], -30.0)
    tmax[8, 8, 1] = np.nan
    _rewrite(folder, "tmax", tmax)
    exam = layouts.load_exam(_only(tmp_path))
    assert exam.series[8, 8, 1, 30] == pytest.approx((series[8, 8, 1, 29] + series[8, 8, 1, 31]) / 2)
    assert not exam.series[0, 0, 0].any() and exam.series[8, 9, 1, 31] == 0
    assert exam.maps["tmax"][0, 0, 0] == exam.maps["tmax"][8, 8, 1] == 0
    np.testing.assert_array_equal(exam.maps["tmax"][8, 9], maps["tmax"][8, 9])
    assert set(exam.flags) == {"nonfinite_signal=65", "negative_signal=1", "tmax_nonfinite=1", "tmax_fill=-30"}


def test_small_negative_tmax_stays_and_negative_flow_does_not(tmp_path):
    folder = write_fake_exam(tmp_path)
    _, maps, _ = fake_arrays()
    for name in ("tmax", "cbf"):
        values = maps[name].copy()
        values[8, 8, 1] = -0.5
        _rewrite(folder, name, values)
    exam = layouts.load_exam(_only(tmp_path))
    assert exam.maps["tmax"][8, 8, 1] == -0.5 and exam.maps["cbf"][8, 8, 1] == 0
    assert exam.flags == ("cbf_negative=1",)


def test_without_a_mask_the_maps_and_without_maps_the_signal_give_one(tmp_path):
    _, _, mask = fake_arrays()
    write_fake_exam(tmp_path / "a", mask=False)
    exam = layouts.load_exam(_only(tmp_path / "a"))
    np.testing.assert_array_equal(exam.mask, mask)
    assert exam.mask_source == "maps" and exam.flags == ("mask_from_maps",)
    write_fake_exam(tmp_path / "b", mask=False, maps=())
    exam = layouts.load_exam(_only(tmp_path / "b"))
    assert exam.mask_source == "threshold" and exam.flags == ("mask_from_signal",)
    assert (exam.mask != mask).mean() < 0.06  # the rim of a coarse disc


def test_a_lone_series_is_loaded_with_the_sidecar_beside_it(tmp_path):
    folder = write_fake_exam(tmp_path, "sub-7")
    exam = layouts.load_series(folder / "sub-7_dsc.nii.gz")
    assert (exam.subject, exam.frame_seconds, exam.echo_seconds, exam.maps) == ("sub-7", 1.5, 0.03, {})
    assert layouts.load_series(folder / "sub-7_dsc.nii.gz", tr_seconds=2.0).frame_seconds == 2.0


def test_check_tells_what_is_usable_and_what_looks_like_another_unit(tmp_path):
    write_fake_cohort(tmp_path, 3)
    _truncate(tmp_path / "sub-0001" / "perf")
    _, maps, _ = fake_arrays(seed=2)
    nifti.write_volume(tmp_path / "sub-0002" / "perf" / "sub-0002_tmax.nii.gz", maps["tmax"] * 1000, AFFINE)
    with open(tmp_path / "participants.tsv", "a") as table:
        table.write("sub-0008\ttrain\n")
    text = layouts.format_check(layouts.check(tmp_path, "bids"))
    assert "sub-0001  NOT USABLE" in text and "cut off" in text
    assert "sub-0008  NOT USABLE  listed in participants.tsv" in text
    assert "look at:    tmax up to " in text and "expected s: ms instead of s?" in text
    assert "sub-0003  usable      16 x 16 x 3, 64 frames of 1.5 s, TE 30 ms, maps: cbf cbv mtt tmax ttp, mask: file" in text
    assert text.endswith("2 of 4 subjects usable; set the others to exclude in participants.tsv or mend them.")


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
    (tmp_path / "__MACOSX" / "training_1").mkdir(parents=True)
    for name in ("__MACOSX", "training_1/._VSD.Brain.XX.O.OT.1"):
        junk = root / "training_1" / name / "._VSD.Brain.XX.O.MR_Tmax.1.nii"
        junk.parent.mkdir(parents=True)
        junk.write_bytes(b"junk")

    subjects = layouts.find_subjects(tmp_path, "isles2017")
    assert [files.subject for files in subjects] == ["training_1", "training_43"]
    assert all(set(files.maps) == {"cbf", "cbv", "mtt", "tmax", "ttp"} and files.lesion for files in subjects)
    with pytest.raises(InputError, match=r"MR_4DPWI.*--tr="):
        layouts.load_exam(subjects[0])

    exam = layouts.load_exam(subjects[0], tr_seconds=1.5)
    assert exam.series.shape == (*shape, 40) and exam.mask_source == "maps"
    assert set(exam.flags) == {"tmax_fill=-30", "mask_from_maps"}
    settings = preparation.PreparationSettings(96, 7, 64, "stretch", 1.5, "keep")
    prepared = preparation.prepare(exam, settings)
    assert prepared.dsc.shape == (7, 64, 96, 96) and prepared.maps.min() == 0
    restored = preparation.restore(prepared.maps, prepared.grid, prepared.mask)
    assert restored.shape == (*shape, 5)
    np.testing.assert_allclose(restored[mask][:, 2], 5.0, rtol=1e-4)  # MTT is 5 s everywhere in that brain
    assert np.abs(restored[mask][:, 3] - maps["tmax"][mask]).mean() < 0.3  # whole numbers, on half the pixels
