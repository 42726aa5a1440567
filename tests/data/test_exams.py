"""One exam from its files: what is good is kept, what is bad is repaired and recorded, or refused by name."""

import numpy as np
import pytest
from exams import (
    AFFINE,
    ECHO_SECONDS,
    FRAME_SECONDS,
    fake_arrays,
    rewrite_sidecar,
    stored_arrays,
    truncate,
    write_anything,
    write_fake_exam,
)

from dscgan_jax.data import aif, grid, layouts, preparation
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.data.exams import Exam, load_exam
from dscgan_jax.data.subject_files import Overrules
from dscgan_jax.errors import InputError


def _only(root):
    (files,) = layouts.find_subjects(root, "bids")
    return files


def test_a_loaded_exam_is_what_was_written(tmp_path):
    write_fake_exam(tmp_path, seed=4)
    exam = load_exam(_only(tmp_path))
    series, maps, mask = fake_arrays(seed=4)
    stored_series, stored_maps, stored_mask = stored_arrays(exam)
    np.testing.assert_array_equal(stored_series, series)
    np.testing.assert_array_equal(stored_maps["tmax"], maps["tmax"])
    np.testing.assert_array_equal(stored_mask, mask)
    assert exam.affine[0, 0] > 0 > AFFINE[0, 0]  # RAS from reading on
    assert (exam.frame_seconds, exam.echo_seconds, exam.mask_source, exam.findings) == (1.5, 0.03, "file", ())
    assert exam.timing.non_steady_frames == 1 and exam.timing.peak_frame > 12


def _rewrite(folder, name, data, affine=AFFINE, **changes):
    write_anything(folder / f"sub-0001_{name}.nii.gz", data, affine, **changes)


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
    "a map elsewhere": (_map_elsewhere, r"_tmax\.nii\.gz: the file is up to 5\.0 mm away"),
    "a truncated map": (
        lambda f: truncate(f / "sub-0001_tmax.nii.gz"),
        r"_tmax\.nii\.gz: the compressed file is cut off",
    ),
    "a map of zeros": (
        lambda f: _rewrite(f, "tmax", np.zeros((16, 16, 3))),
        r"_tmax\.nii\.gz: the tmax map .* zero everywhere",
    ),
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
        load_exam(_only(tmp_path), need_maps=("tmax",))
    assert "\n" not in str(caught.value)
    (row,) = folder_checks.check(tmp_path, "bids", need_maps=("tmax",))
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
    exam = load_exam(_only(tmp_path))
    before, at, after, behind = series[8, 8, 1, [28, 29, 31, 32]]
    stored_series = series
    series, stored_maps, _ = stored_arrays(exam)
    assert series[8, 8, 1, 30] == pytest.approx((9 * (at + after) - before - behind) / 16)
    assert not series[0, 0, 0].any()
    assert series[8, 9, 1, 31] == pytest.approx(stored_series[8, 9, 1, 31], rel=0.03)  # never dark otherwise
    assert stored_maps["tmax"][0, 0, 0] == stored_maps["tmax"][8, 8, 1] == 0
    np.testing.assert_array_equal(stored_maps["tmax"][8, 9], maps["tmax"][8, 9])
    assert {finding.short() for finding in exam.findings} == {
        "signal_missing=65",
        "signal_missing=1",
        "map_not_finite=1",
        "map_fill_value=-30",
        "mask_without_values=1",
    }


def _without_tmax(share, value):
    """tmax with `value` outside and in a share of the brain, and where in the brain that is."""
    _, maps, mask = fake_arrays()
    lost = np.zeros_like(mask)
    lost.flat[np.random.default_rng(0).permutation(np.flatnonzero(mask))[: int(share * mask.sum())]] = True
    return np.where(lost | ~mask, value, maps["tmax"]), lost, mask


@pytest.mark.parametrize("value", [np.nan, -30.0])
@pytest.mark.parametrize("with_mask", [True, False])
def test_where_a_map_has_no_value_is_no_brain(tmp_path, value, with_mask):
    folder = write_fake_exam(tmp_path, mask=with_mask)
    tmax, lost, mask = _without_tmax(0.05, value)
    _rewrite(folder, "tmax", tmax)
    exam = load_exam(_only(tmp_path))
    assert lost.sum() > 20
    np.testing.assert_array_equal(stored_arrays(exam)[2], mask & ~lost)
    assert f"mask_without_values={lost.sum()}" in [finding.short() for finding in exam.findings]
    prepared = preparation.prepare(exam, preparation.PreparationSettings(16, 0, 64, "stretch", 1.5, "keep"))
    back = grid.restore(prepared.mask[..., None], prepared.grid)[..., 0] > 0.5
    np.testing.assert_array_equal(exam.stored.to_stored(back), mask & ~lost)


@pytest.mark.parametrize("value", [np.nan, -30.0])
@pytest.mark.parametrize("with_mask", [True, False])
def test_a_map_without_values_in_half_the_brain_is_refused(tmp_path, value, with_mask):
    folder = write_fake_exam(tmp_path, mask=with_mask)
    _rewrite(folder, "tmax", _without_tmax(0.5, value)[0])
    with pytest.raises(InputError, match=r"_tmax\.nii\.gz: 50 % of the brain of sub-0001 has no tmax value") as caught:
        load_exam(_only(tmp_path))
    assert "\n" not in str(caught.value)


def test_zeros_in_a_map_are_values(tmp_path):
    folder = write_fake_exam(tmp_path)
    _, maps, mask = fake_arrays()
    _rewrite(folder, "tmax", np.where(np.arange(16)[:, None, None] < 8, 0, maps["tmax"]))
    _rewrite(folder, "cbf", np.where(mask & (np.arange(16)[:, None, None] < 8), -0.01, 1) * maps["cbf"])
    exam = load_exam(_only(tmp_path))
    np.testing.assert_array_equal(stored_arrays(exam)[2], mask)
    assert [finding.short() for finding in exam.findings] == [f"map_negative={mask[:8].sum()}"]


def test_small_negative_tmax_stays_and_negative_flow_does_not(tmp_path):
    folder = write_fake_exam(tmp_path)
    _, maps, _ = fake_arrays()
    for name in ("tmax", "cbf"):
        values = maps[name].copy()
        values[8, 8, 1] = -0.5
        _rewrite(folder, name, values)
    exam = load_exam(_only(tmp_path))
    _, maps, _ = stored_arrays(exam)
    assert maps["tmax"][8, 8, 1] == -0.5 and maps["cbf"][8, 8, 1] == 0
    assert [finding.short() for finding in exam.findings] == ["map_negative=1"]


def test_without_a_mask_the_maps_and_without_maps_the_signal_give_one(tmp_path):
    _, _, mask = fake_arrays()
    write_fake_exam(tmp_path / "a", mask=False)
    exam = load_exam(_only(tmp_path / "a"))
    np.testing.assert_array_equal(stored_arrays(exam)[2], mask)
    assert exam.mask_source == "maps" and [finding.short() for finding in exam.findings] == ["mask_from_maps"]
    assert aif.given_of(exam).tissue_of_maps  # nobody drew it
    write_fake_exam(tmp_path / "b", mask=False, maps=())
    exam = load_exam(_only(tmp_path / "b"))
    assert exam.mask_source == "threshold" and [finding.short() for finding in exam.findings] == ["mask_from_signal"]
    assert (stored_arrays(exam)[2] != mask).mean() < 0.06  # the rim of a coarse disc


def test_a_lone_series_is_loaded_with_the_sidecar_beside_it(tmp_path):
    folder = write_fake_exam(tmp_path, "sub-7")
    exam = load_exam(folder / "sub-7_dsc.nii.gz")
    assert (exam.subject, exam.frame_seconds, exam.echo_seconds, exam.maps) == ("sub-7", 1.5, 0.03, {})
    assert load_exam(folder / "sub-7_dsc.nii.gz", repetition_time=2.0).frame_seconds == 2.0


def test_a_mask_from_signal_leaves_out_ventricles_and_islands_however_the_exam_is_stored():
    series, _, brain = fake_arrays((32, 32, 3))
    series[14:18, 14:18] = 1800  # a ventricle: bright, and no bolus passes it
    series[0:2, 0:2, 1] = 1000  # an island

    def found(array, affine):
        exam = Exam.from_arrays(array, affine, repetition_time=FRAME_SECONDS)
        assert exam.mask_source == "threshold"
        return exam.stored.to_stored(exam.mask)

    mask = found(series, AFFINE)
    assert not mask[15, 15, 1] and not mask[0, 0, 1] and (mask != brain).mean() < 0.05
    turned = found(series.transpose(2, 0, 1, 3)[:, ::-1], AFFINE[:, [2, 0, 1, 3]] * [1, -1, 1, 1])
    np.testing.assert_array_equal(turned, mask.transpose(2, 0, 1)[:, ::-1])


def test_an_exam_from_arrays_is_the_one_that_is_read_from_their_files(tmp_path):
    write_fake_exam(tmp_path)
    series, maps, mask = fake_arrays()
    read = load_exam(_only(tmp_path))
    given = {"repetition_time": FRAME_SECONDS, "echo_time": ECHO_SECONDS, "subject": "sub-0001"}
    made = Exam.from_arrays(series, AFFINE, mask=mask, maps=maps, **given)
    np.testing.assert_array_equal(made.series, read.series)
    np.testing.assert_array_equal(made.mask, read.mask)
    np.testing.assert_allclose(made.affine, read.affine, atol=1e-5)
    assert made.timing == read.timing and made.findings == read.findings
    for name, values in read.maps.items():
        np.testing.assert_array_equal(made.maps[name], values)


def test_lists_and_a_name_to_accept_make_the_same_exam_as_arrays_and_tuples():
    series, maps, mask = fake_arrays()
    given = {"repetition_time": FRAME_SECONDS}
    made = Exam.from_arrays(series, AFFINE, mask=mask, maps=maps, accept=("frame_order", "truncated"), **given)
    lists = {name: values.tolist() for name, values in maps.items()}
    same = Exam.from_arrays(
        series.tolist(), AFFINE.tolist(), mask=mask.tolist(), maps=lists, accept="frame_order, truncated", **given
    )
    np.testing.assert_array_equal(same.series, made.series)
    np.testing.assert_array_equal(same.mask, made.mask)
    np.testing.assert_array_equal(same.maps["tmax"], made.maps["tmax"])
    assert same.findings == made.findings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repetition_time": "soon"}, "exam: repetition_time"),
        ({"repetition_time": 90.0}, "expected seconds"),
        ({"mask": np.ones((3, 3, 3), bool)}, r"expected mask of the series' shape \(16, 16, 3\)"),
        ({"maps": {"rcbf": np.ones((16, 16, 3))}}, "there is no map 'rcbf'"),
        ({"series": np.zeros((16, 16, 3))}, r"expected a series \(x, y, z, time\)"),
        ({"series": np.zeros((16, 16, 3, 40))}, "zero everywhere"),
        ({"affine": np.diag([2.0, 0, 6.0, 1.0])}, "affine"),
        ({"affine": np.eye(3)}, "affine"),
        ({"accept": "nonsense"}, "--accept=nonsense: expected names of findings that can reject an exam"),
    ],
)
def test_arrays_that_make_no_exam_are_refused_in_one_line(changes, message):
    arguments = {"series": fake_arrays()[0], "affine": AFFINE, "repetition_time": FRAME_SECONDS, **changes}
    with pytest.raises(InputError, match=message) as caught:
        Exam.from_arrays(arguments.pop("series"), arguments.pop("affine"), **arguments)
    assert "\n" not in str(caught.value)


def test_the_record_of_what_is_overruled_is_that_of_older_versions_but_for_ct():
    """Prepared data and conventional maps are found again by it."""
    known = {"frame_seconds": 1.5, "echo_seconds": 0.0, "accept": ("truncated",)}
    assert Overrules(1.5, 0.0, ("truncated",)).record() == known
    assert Overrules(1.5, 0.0, ("truncated",), "ct").record() == known | {"modality": "ct"}
