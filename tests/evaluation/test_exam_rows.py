"""Rows of a cohort: numbers of one exam, the table as a file, and who is unlike the others."""

import dataclasses

import numpy as np
import pytest

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import FAILED, ExamRow
from dscgan_jax.evaluation.readout import read_out
from dscgan_jax.findings import Finding


def maps_of(tmax, mask):
    affine = np.diag([5.0, 5.0, 8.0, 1.0])  # 0.2 mL a voxel
    volumes = {"tmax": tmax, "cbf": np.full_like(tmax, 30.0)}
    units = {"tmax": "s", "cbf": "mL/100 g/min"}
    return ExamMaps("sub-1", volumes, units, StoredGrid.of(tmax, affine), mask=mask)


def test_volumes_and_medians_are_those_of_the_brain_alone():
    tmax = np.zeros((10, 10, 1), np.float32)
    tmax[:5], tmax[0], tmax[9] = 5.0, 11.0, 99.0
    mask = np.ones(tmax.shape, bool)
    mask[9] = False
    maps = maps_of(tmax, mask)
    numbers = exam_rows.numbers_of(maps, read_out(maps))
    expected = {
        "brain_ml": 18.0,
        "tmax_over_4s_ml": 10.0,
        "tmax_over_6s_ml": 2.0,
        "tmax_over_8s_ml": 2.0,
        "tmax_over_10s_ml": 2.0,
        "hypoperfusion_intensity_ratio": 1.0,
        "tmax_median": 5.0,
        "cbf_median": 30.0,
    }
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert numbers["core_ml"] is None and numbers["mismatch_ml"] is None  # no normal tissue to compare with
    assert numbers.keys() <= set(exam_rows.COLUMNS)
    empty = maps_of(tmax, np.zeros(tmax.shape, bool))
    assert exam_rows.numbers_of(empty, read_out(empty)) == {}


def test_a_table_is_read_as_it_was_written_and_may_lack_younger_columns(tmp_path):
    rows = [
        ExamRow("sub-1", "train", brain_ml=1200.5, warnings=("leakage", "motion"), page="sub-1/perf/a.html"),
        ExamRow('sub-<b>,"', None, FAILED, "a line; with, a comma"),
    ]
    exam_rows.write(tmp_path / "summary.csv", rows)
    assert exam_rows.read(tmp_path / "summary.csv") == rows
    (tmp_path / "older.csv").write_text("subject,status\nsub-1,made\n")
    assert exam_rows.read(tmp_path / "older.csv") == [ExamRow("sub-1")]
    (tmp_path / "other.csv").write_text("subject,colour\nsub-1,red\n")
    with pytest.raises(InputError, match="expected the columns subject,split,status"):
        exam_rows.read(tmp_path / "other.csv")


def test_a_row_survives_its_seal():
    row = ExamRow("sub-1", aif_quality=0.5, warnings=("leakage",), notes=("mask_from_signal",))
    assert ExamRow.from_json(row.to_json()) == row


def cohort():
    return [
        ExamRow(f"sub-{n:02d}", brain_ml=1200.0 + 10 * n, tmax_over_6s_ml=float(n**2), tmax_median=1.0)
        for n in range(12)
    ]


def test_who_is_far_from_the_others_is_named_with_the_number_and_usual_lesions_are_not():
    rows = cohort()
    assert exam_rows.unlike_others(rows) == {}
    rows[3] = dataclasses.replace(rows[3], brain_ml=310.0)
    assert exam_rows.unlike_others(rows) == {"sub-03": ("brain volume 310 (usually 1.26e+03)",)}
    assert exam_rows.unlike_others(rows[:7]) == {}  # too few to compare


def test_outliers_come_first_the_worst_of_each_kind_before_the_others():
    rows = cohort()
    rows[3] = dataclasses.replace(rows[3], brain_ml=310.0)
    rows[5] = dataclasses.replace(rows[5], warnings=("leakage",))
    rows[6] = dataclasses.replace(rows[6], warnings=("leakage", "second_bolus"))
    rows[8] = ExamRow("sub-08", status=FAILED)
    ordered = exam_rows.outliers_first(rows, exam_rows.unlike_others(rows))
    assert [row.subject for row in ordered[:5]] == ["sub-08", "sub-06", "sub-05", "sub-03", "sub-00"]


def test_names_of_findings_come_once_notes_apart():
    findings = [
        Finding("leakage", "warning", "a"),
        Finding("leakage", "warning", "b"),
        Finding("truncated", "error", "c"),
        Finding("mask_from_signal", "note", "d"),
    ]
    assert exam_rows.names_of(findings, notes=False) == ("leakage", "truncated")
    assert exam_rows.names_of(findings, notes=True) == ("mask_from_signal",)
