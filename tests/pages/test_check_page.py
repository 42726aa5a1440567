"""The page and the table of a check: the worst first, what to do in words, nothing of a file as markup."""

import csv
import dataclasses
import re

import command_line
import exams as invented
import numpy as np
import pytest

from dscgan_jax.data.checks import folder
from dscgan_jax.data.subject_files import NOTHING_OVERRULED
from dscgan_jax.findings import Finding
from dscgan_jax.pages import check as check_page


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three invented exams, the second of which is cut off on disk."""
    root = invented.write_fake_cohort(tmp_path_factory.mktemp("check") / "exams", 3)
    invented.truncate(root / "sub-0002" / "perf" / "sub-0002_dsc.nii.gz")
    return root


@pytest.fixture(scope="module")
def rows(root):
    return folder.check(root, "bids", NOTHING_OVERRULED)


def test_what_cannot_be_used_comes_first_with_its_reason(rows):
    text = check_page.page(rows, "exams")
    names = re.findall(r'<th scope="row">(.*?)</th>', text)
    assert names == ["sub-0002", "sub-0001", "sub-0003"] and "2 of 3 exams can be used." in text
    assert "sub-0002_dsc.nii.gz: " in text and "not usable" in text


def test_numbers_are_those_of_the_exam(rows):
    details = next(row.details for row in rows if row.subject == "sub-0001")
    exam_series, _, mask = invented.fake_arrays(seed=0)
    curve = exam_series[mask].mean(axis=0)
    timing = details.timing
    baseline = curve[timing.baseline_begin : timing.baseline_end].mean()
    assert details.signal_drop == pytest.approx(1 - curve[timing.peak_frame] / baseline, abs=0.02)
    assert details.baseline_over_noise == pytest.approx(1000 / 5, rel=0.1)  # signal 1000, noise 5
    assert details.field_mm == (128.0, 128.0, 15.0) and details.saturated < 0.01


def test_a_scanner_that_cuts_values_off_shows():
    series, _, mask = invented.fake_arrays(transient=0)
    whole, cut = (folder.ExamDetails.of(invented.exam_of(one, mask)) for one in (series, np.minimum(series, 1000)))
    assert whole.saturated < 0.001 and cut.saturated > 0.1


def test_motion_that_could_not_be_looked_for_is_no_zero(rows):
    still = next(row.details for row in rows if row.subject == "sub-0001")
    column = next(one for one in check_page.COLUMNS if one.title == "motion [mm]")
    for found, expected in (((), 0.0), ((Finding("motion", "note", "not looked for"),), None)):
        assert column.value(dataclasses.replace(still, findings=found)) == expected


def test_names_of_files_are_no_markup(rows):
    text = check_page.page([folder.CheckRow("sub-<script>", "a <b>reason</b>", None), *rows], "<i>exams</i>")
    assert "<script>alert" not in text and "sub-&lt;script&gt;" in text and "&lt;b&gt;reason" in text
    assert "check of &lt;i&gt;exams" in text


def test_page_and_table_are_written_and_two_processes_find_what_one_does(root, tmp_path):
    one = command_line.program("check", root, tmp_path / "one", "--workers=1")
    two = command_line.program("check", root, tmp_path / "two", "--workers=2")
    assert one.returncode == two.returncode == 0, two.stderr
    assert one.stdout.replace("/one", "/two") == two.stdout
    table = list(csv.DictReader((tmp_path / "two" / "check.csv").open()))
    assert [(row["subject"], row["usable"]) for row in table] == [
        ("sub-0001", "yes"),
        ("sub-0002", "no"),
        ("sub-0003", "yes"),
    ]
    assert table[0]["frames"] == "64" and table[1]["frames"] == "" and table[1]["reason"]
    assert (tmp_path / "one" / "check.csv").read_text() == (tmp_path / "two" / "check.csv").read_text()


def test_an_output_that_is_a_file_is_refused_before_anything_is_opened(root, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = command_line.program("check", root, tmp_path / "file")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "give a folder" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
