"""Maps with wrong values: what is no value leaves the mask, what means nothing is refused, what is legal passes."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
from exams import AFFINE, fake_arrays, prepared_of, write_anything, write_fake_cohort

from dscgan_jax.app import check
from dscgan_jax.data import dataset as builder
from dscgan_jax.data import exams, subject_files
from dscgan_jax.data.checks import folder as folder_checks
from dscgan_jax.data.checks import map_checks
from dscgan_jax.data.checks.map_checks import checked_maps, numbers_of, unlike_others
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.phantom.exam import draw_phantom

SHAPE = (24, 24, 4)
EXAM_SECONDS = 96.0


def judged(maps, mask, seconds=EXAM_SECONDS):
    """Maps and mask after the check, and the findings."""
    found, paths = Findings(), {name: pathlib.Path(f"sub-1_{name}.nii") for name in maps}
    return checked_maps("sub-1", paths, maps, mask, seconds, found), found.listed()


def world(name="tmax"):
    """A map of 24 x 24 x 4 voxels, its brain, and some of the brain's voxels (8 of about 1900, 0.4 %)."""
    _, maps, mask = fake_arrays(SHAPE)
    some = np.zeros_like(mask)
    some.flat[np.random.default_rng(0).permutation(np.flatnonzero(mask))[:8]] = True
    return maps[name].copy(), mask, some


# ------------------------------------------------------------------------------------------------ maps of one exam


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize(
    ("name", "fill"),
    [
        ("tmax", 9999),
        ("tmax", -9999),
        ("tmax", -1),
        ("tmax", 99),
        ("ttp", 4095),
        ("ttp", -1),
        ("cbf", 65535),
        ("cbf", -1),
        ("cbv", 255),
        ("mtt", 999),
        ("mtt", -1),
    ],
)
def test_a_value_that_recurs_far_from_all_others_is_no_value(name, fill, with_mask):
    values, mask, some = world(name)
    clean = values.copy()
    values[some] = fill
    checked, findings = judged({name: values}, mask if with_mask else None)
    np.testing.assert_array_equal(checked.mask, mask & ~some)
    np.testing.assert_array_equal(checked.maps[name], np.where(some, 0, clean))
    left_out = {"mask_without_values=8"} if with_mask else set()  # else they were never in it
    assert {finding.short() for finding in findings} == {f"map_fill_value={fill:g}"} | left_out


def test_a_fill_value_around_a_brain_that_was_cropped_is_found_without_a_mask():
    values, mask, _ = world()
    cropped, inside = np.where(mask, values, np.float32(9999))[4:-4, 4:-4], mask[4:-4, 4:-4]
    assert (cropped[[0, -1]] == 9999).mean() < 0.5 and 0 < (cropped == 9999).mean() < 0.2
    checked, findings = judged({"tmax": cropped}, None)
    np.testing.assert_array_equal(checked.mask, inside)
    assert [finding.short() for finding in findings] == ["map_fill_value=9999"]


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("fill", [9999, -1, 4095, 7.5, np.nan])
def test_what_fills_the_outside_is_no_value_whatever_its_sign(fill, with_mask):
    values, mask, _ = world()
    checked, findings = judged({"tmax": np.where(mask, values, np.float32(fill))}, mask if with_mask else None)
    np.testing.assert_array_equal(checked.mask, mask)
    np.testing.assert_array_equal(checked.maps["tmax"], values)
    assert [finding.name for finding in findings] == ["map_not_finite" if np.isnan(fill) else "map_fill_value"]


def test_air_that_is_clipped_as_high_as_a_lesion_does_not_take_the_lesion_away():
    values, mask, _ = world()
    clipped = np.where(mask, np.minimum(4 * values, 12), np.float32(12))
    checked, _ = judged({"tmax": clipped}, mask)
    np.testing.assert_array_equal(checked.mask, mask)
    assert (checked.maps["tmax"][mask] == 12).mean() > 0.2


@pytest.mark.parametrize("value", [1e30, 500.0, -1e30])
def test_a_voxel_that_no_tissue_is_leaves_the_mask(value):
    values, mask, _some = world()
    here = np.zeros_like(mask)
    here[12, 12, 1] = True
    values[here] = value
    checked, findings = judged({"tmax": values}, mask)
    np.testing.assert_array_equal(checked.mask, mask & ~here)
    assert (
        findings[0].name == "map_impossible"
        and findings[0].value == pytest.approx(value)
        and checked.maps["tmax"].max() < 6
    )


def test_many_different_impossible_values_leave_the_mask_too():
    values, mask, some = world()
    values[some] = 250 + np.arange(8)
    checked, findings = judged({"tmax": values}, mask)
    np.testing.assert_array_equal(checked.mask, mask & ~some)
    assert findings[0].short() == "map_impossible=257" and "8 values of the tmax map" in findings[0].text


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [
        ("tmax", 1000, "ms instead of s"),
        ("tmax", 1 / 60, "minutes instead of s"),
        ("ttp", 1000, "ms instead of s"),
        ("ttp", 1 / 60, "minutes instead of s"),
        ("mtt", 1000, "ms instead of s"),
        ("mtt", 1 / 60, "minutes instead of s"),
        ("cbf", 100, "x 100"),
        ("cbv", 1000, "another unit or scale"),
    ],
)
def test_a_map_in_another_unit_is_an_error_that_guesses_it(name, factor, words):
    for rounded in (False, True) if factor > 1 else (False,):
        values, mask, _ = world(name)
        values = np.float32(factor) * values
        values = np.rint(values) if rounded else values
        checked, findings = judged({name: values}, mask)
        (finding,) = [finding for finding in findings if finding.name == "map_unit"]
        assert (
            finding.severity == "error" and f"the {name} map has a median of" in finding.text and words in finding.text
        )
        np.testing.assert_array_equal(checked.maps[name], values)  # for who accepts it


@pytest.mark.parametrize(
    ("name", "factor", "words"), [("cbf", 0.01, "mL/g/min"), ("cbv", 0.01, "mL/g instead"), ("cbf", 20, "x 10")]
)
def test_flow_and_volume_that_may_be_relative_are_only_warned_of(name, factor, words):
    values, mask, _ = world(name)
    _, findings = judged({name: np.float32(factor) * values}, mask)
    assert [(finding.name, finding.severity) for finding in findings] == [
        ("map_unit", "warning")
    ] and words in findings[0].text


def test_a_map_that_is_the_same_everywhere_is_an_error_also_with_a_few_bad_voxels():
    _, mask, _some = world()
    constant = np.where(mask, np.float32(3), np.float32(0))
    speckled = constant.copy()
    speckled[12, 12, 1] = 1e30
    for values in (constant, speckled, np.full(SHAPE, np.float32(3))):
        _, findings = judged({"tmax": values}, mask)
        assert [(finding.name, finding.severity) for finding in findings] == [("map_constant", "error")]
        assert "the tmax map is 3 s everywhere in the brain" in findings[0].text


def test_maps_that_saturate_or_have_few_levels_are_taken_as_they_are():
    values, mask, some = world()
    ill = np.where(mask, np.float32(3) * values, 0)
    failed = np.where(some, np.float32(40), 3 * values)  # our own fit ends at 40 s where it fails
    maps = {
        "clipped at 12": np.minimum(ill, 12),
        "clipped at 6": np.minimum(ill, 6),
        "whole numbers": np.rint(ill),
        "some -1 among whole numbers": np.where(some, np.float32(-1), np.rint(ill)),
        "three levels": np.rint(ill / 5) * 5,
        "cut off below 4": np.where(ill > 4, ill, 0),
        "around zero": np.where(mask, values - 3, 0),
        "at the fit's end": failed,
    }
    for kind, tmax in maps.items():
        checked, findings = judged({"tmax": tmax.astype(np.float32)}, mask)
        assert findings == (), kind
        np.testing.assert_array_equal(checked.maps["tmax"], tmax, kind)
        np.testing.assert_array_equal(checked.mask, mask, kind)


# ------------------------------------------------------------------------------------------------ maps of all exams


@pytest.fixture(scope="module")
def phantoms():
    """{subject: (maps, mask, seconds)} of 40 acute and 40 chronic patients."""
    drawn = {}
    for preset in ("acute", "chronic"):
        for index in range(40):
            exam = draw_phantom(preset, (11, index), size=32, slices=3)
            drawn[f"{preset}{index}"] = exam.maps, exam.mask, exam.frame_seconds * exam.series.shape[-1]
    return drawn


def test_tmax_in_whole_frames_is_no_map_with_holes_and_a_block_of_zeros_in_it_is_one():
    exam = draw_phantom("acute", (77, 5), size=32, slices=4)
    maps = {name: values.astype(np.float32) for name, values in exam.maps.items()}
    maps["tmax"] = np.float32(exam.frame_seconds * np.floor(maps["tmax"] / (2 * exam.frame_seconds)))
    zero = (exam.mask & (maps["tmax"] == 0)).sum(axis=(0, 1)) / exam.mask.sum(axis=(0, 1))
    assert np.median(zero) > 0.6
    seconds = exam.frame_seconds * exam.series.shape[-1]
    assert "map_holes" not in {one.name for one in judged(maps, exam.mask, seconds)[1]}
    maps["tmax"][:, 16:, 2] = 0
    [told] = [one for one in judged(maps, exam.mask, seconds)[1] if one.name == "map_holes"]
    assert "the tmax map is 0 in" in told.text and "in slice 3 of 4 from below" in told.text


@pytest.mark.parametrize("name", MAP_NAMES)
def test_a_map_that_lost_half_of_a_slice_is_told(name):
    exam = draw_phantom("acute", (77, 5), size=32, slices=4)
    maps = {name: np.float32(exam.maps[name])}
    maps[name][16:, :, 1] = 0
    findings = judged(maps, exam.mask, exam.frame_seconds * exam.series.shape[-1])[1]
    assert "map_holes" in {one.name for one in findings}


WAYS = {
    "as drawn": lambda name, values: values,
    "whole numbers": lambda name, values: np.rint(values),
    "clipped": lambda name, values: np.minimum(values, {"tmax": 12, "mtt": 20}.get(name, 1e9)),
    "not scaled": lambda name, values: values * (2.6 if name in ("cbf", "cbv") else 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_phantom_is_odd_by_itself_or_beside_the_others(phantoms, way):
    numbers = {}
    for subject, (maps, mask, seconds) in phantoms.items():
        changed = {name: WAYS[way](name, values).astype(np.float32) for name, values in maps.items()}
        checked, findings = judged(changed, mask, seconds)
        assert findings == (), subject
        numbers[subject] = numbers_of(checked.maps, checked.mask)
    assert unlike_others(numbers) == {}
    few = dict(list(numbers.items())[36:44])
    assert unlike_others(few) == {}


@pytest.mark.parametrize(("factor", "severity"), [(1000, "error"), (1 / 60, "error"), (100, "error"), (5, "warning")])
@pytest.mark.parametrize("name", MAP_NAMES)
def test_a_map_in_another_unit_than_the_others_is_named_with_both_values(phantoms, name, factor, severity):
    numbers = {subject: numbers_of(maps, mask) for subject, (maps, mask, _) in list(phantoms.items())[:8]}
    # The most usual of them, so that it is the factor alone that decides.
    usual = sorted(numbers, key=lambda subject: numbers[subject][name].spread)[4]
    one = numbers[usual][name]
    numbers[usual] = numbers[usual] | {
        name: map_checks.MapNumbers(*(factor * value for value in dataclasses.astuple(one)))
    }
    found = unlike_others(numbers)
    assert [(finding.name, finding.severity) for finding in found[usual]] == [("map_unlike_others", severity)] and len(
        found
    ) == 1
    assert f"the {name} map is" in found[usual][0].text and f"{factor * one.median:.4g}" in found[usual][0].text


@pytest.mark.parametrize(
    ("name", "other", "severity"),
    [
        ("tmax", "ttp", "error"),
        ("ttp", "tmax", "error"),
        ("cbf", "cbv", "error"),
        ("cbv", "cbf", "error"),
        ("mtt", "ttp", "warning"),
    ],
)
def test_the_file_of_another_map_is_told(phantoms, name, other, severity):
    numbers = {subject: numbers_of(maps, mask) for subject, (maps, mask, _) in list(phantoms.items())[:8]}
    numbers["acute3"] = numbers["acute3"] | {name: numbers["acute3"][other]}
    found = unlike_others(numbers)
    assert list(found) == ["acute3"] and [finding.severity for finding in found["acute3"]] == [severity]


def test_a_top_that_would_be_the_networks_range_is_an_error_and_three_exams_are_not_compared(phantoms):
    subjects = list(phantoms)[:8]
    maps, mask, _ = phantoms[subjects[2]]
    some = np.zeros_like(mask)
    some.flat[np.flatnonzero(mask)[::200]] = True
    spoiled = {**maps, "tmax": np.where(some, np.float32(90) + maps["tmax"], maps["tmax"])}
    numbers = {subject: numbers_of(*phantoms[subject][:2]) for subject in subjects} | {
        subjects[2]: numbers_of(spoiled, mask)
    }
    (finding,) = unlike_others(numbers)[subjects[2]]
    assert finding.severity == "error" and "the range of the network would be this exam's" in finding.text
    assert unlike_others({subject: numbers[subject] for subject in subjects[:3]}) == {}
    one_voxel = {
        **maps,
        "tmax": np.where(np.arange(mask.size).reshape(mask.shape) == np.flatnonzero(mask)[3], 90, maps["tmax"]),
    }
    assert unlike_others(numbers | {subjects[2]: numbers_of(one_voxel, mask)}) == {}


# -------------------------------------------------------------------------------------- folders with bad maps

SPLITS = ("train", "train", "train", "train", "train", "train", "validation", "test")
SMALL = (16, 16, 3)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Eight exams of 60 s and the ranges of their training split."""
    folder = tmp_path_factory.mktemp("clean")
    root = write_fake_cohort(folder / "root", 8, SPLITS, shape=SMALL, frames=40)
    return root, prepared_of(root, folder / "cache").info.metadata["ranges"]


def _spoil(root, number, change, mask=True):
    """Another Tmax map of one subject: `change` gets the map, the brain and 5 of its 600 voxels."""
    _, maps, brain = fake_arrays(SMALL)
    some = np.zeros_like(brain)
    some.flat[np.random.default_rng(0).permutation(np.flatnonzero(brain))[:5]] = True
    perf = root / f"sub-000{number}" / "perf"
    write_anything(perf / f"sub-000{number}_tmax.nii.gz", change(maps["tmax"], brain, some), AFFINE)
    if not mask:
        (perf / f"sub-000{number}_mask.nii.gz").unlink()


def _counted(some):
    """1, 2, ... in the voxels of `some`."""
    return np.cumsum(some).reshape(some.shape)


def _about_maps(metadata):
    """{subject: findings about its maps} of a prepared data set, as JSON records."""
    told = {
        subject: [one for one in found if one["Name"].startswith("map_")]
        for subject, found in metadata["findings"].items()
    }
    return {subject: found for subject, found in told.items() if found}


REPAIRED = [  # the change, whether there is a mask, the finding
    (lambda v, brain, some: np.where(some, 9999, v), True, "map_fill_value"),
    (lambda v, brain, some: np.where(brain, v, 9999), False, "map_fill_value"),
    (lambda v, brain, some: np.where(some, -9999, v), True, "map_fill_value"),
    (lambda v, brain, some: np.where(some & (_counted(some) == 1), 1e30, v), True, "map_impossible"),
    (lambda v, brain, some: np.where(brain, v, np.nan), False, "map_not_finite"),
    (lambda v, brain, some: np.where(some, 250 + _counted(some), v), True, "map_impossible"),
]


def test_wrong_values_in_each_training_map_leave_the_networks_ranges_as_they_are(clean, tmp_path):
    root = shutil.copytree(clean[0], tmp_path / "root")
    for number, (change, mask, _) in enumerate(REPAIRED, 1):
        _spoil(root, number, change, mask)
    metadata = prepared_of(root, tmp_path / "cache").info.metadata
    for ranges in ("percentile", "published"):
        np.testing.assert_allclose(metadata["ranges"][ranges]["tmax"], clean[1][ranges]["tmax"], rtol=0.03)
    told = _about_maps(metadata)
    assert set(told) == {f"sub-000{number}" for number in range(1, 7)}
    for number, (_, _, name) in enumerate(REPAIRED, 1):
        assert any(one["Name"] == name and "the tmax map" in one["Text"] for one in told[f"sub-000{number}"]), number


REFUSED = {
    "minutes": (lambda v, brain, some: v / 60, "map_unit"),
    "milliseconds": (lambda v, brain, some: v * 1000, "map_unit"),
    "constant": (lambda v, brain, some: np.where(brain, 3.0, 0), "map_constant"),
    "ten times": (lambda v, brain, some: v * 10, "map_unlike_others"),
    "70 to 75 s inside": (lambda v, brain, some: np.where(some, 70 + _counted(some), v), "map_unlike_others"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_map_that_would_be_learned_wrongly_stops_preparation_before_a_series_is_read(
    clean, tmp_path, monkeypatch, kind
):
    change, name = REFUSED[kind]
    root = shutil.copytree(clean[0], tmp_path / "root")
    _spoil(root, 3, change)
    monkeypatch.setattr(builder, "_build", lambda *_: pytest.fail("built"))
    monkeypatch.setattr(exams, "load_exam", lambda *_: pytest.fail("read a series"))
    with pytest.raises(InputError, match=rf"sub-0003.*the tmax map .*--accept={name}.*split=exclude") as caught:
        prepared_of(root, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_check_says_the_same_of_each_subject(clean, tmp_path):
    root = shutil.copytree(clean[0], tmp_path / "root")
    for number, (change, _) in enumerate(REFUSED.values(), 1):
        _spoil(root, number, change)
    rows = folder_checks.check(root, "bids")
    assert [row.usable for row in rows] == [False] * 5 + [True] * 3
    for row, (_, name) in zip(rows[:5], REFUSED.values(), strict=True):
        assert "the tmax map" in row.reason and f"--accept={name}" in row.reason
    assert "sub-0004  NOT USABLE  sub-0004: the tmax map is 10 times as high as those of the other" in check.as_text(
        rows
    )


def test_who_accepts_an_unlike_map_gets_it_with_the_finding_recorded_and_excluded_ones_are_not_compared(
    clean, tmp_path
):
    root = shutil.copytree(clean[0], tmp_path / "root")
    for number in (3, 4):
        _spoil(root, number, lambda v, brain, some: v * 10)
    table = root / "participants.tsv"
    table.write_text(table.read_text().replace("sub-0004\ttrain", "sub-0004\texclude"))
    told = _about_maps(prepared_of(root, tmp_path / "cache", accept=("map_unlike_others",)).info.metadata)
    assert [
        (subject, one["Name"], one["Accepted"], one["Severity"]) for subject, found in told.items() for one in found
    ] == [("sub-0003", "map_unlike_others", True, "warning")]
    rows = folder_checks.check(root, "bids", subject_files.Overrules(accept=("map_unlike_others",)))
    told = {row.subject: {one.name for one in row.details.findings} for row in rows}
    assert [subject for subject, names in told.items() if "map_unlike_others" in names] == ["sub-0003"]
    assert all(row.usable for row in rows)
