"""A study's tables from invented rows, so that every answer is known."""

import csv
import io

import pytest

from dscgan_jax.evaluation import comparison, records
from dscgan_jax.evaluation.comparison import Entry

REFERENCE_ML = {"sub-1": 20.0, "sub-2": 40.0, "sub-3": 0.0}


def row(subject, mae, source="network_per_slice", name="tmax", **changes):
    """A row of Tmax whose volume is the reference's times its error."""
    reference = REFERENCE_ML[subject]
    return (
        dict.fromkeys(records.COLUMNS)
        | {"subject": subject, "split": "test", "source": source, "map": name, "unit": "s", "brain_mae": mae}
        | {"dice_over_6s": 0.5 if reference else None, "core_ml": 10.0, "scaled_ssim": 0.9}
        | {"volume_predicted_over_6s_ml": mae * reference, "volume_reference_over_6s_ml": reference}
        | changes
    )


def entry(method, errors, cohort="acute", **changes):
    rows = tuple(row(f"sub-{number + 1}", error) for number, error in enumerate(errors))
    return Entry(cohort, method, method.title(), "paper", rows, **changes)


def test_differences_are_of_the_patients_that_both_have():
    first, second = entry("first", (1.0, 2.0, 3.0)), entry("second", (0.5, 1.0))
    [found] = comparison.differences(first, second, ("brain_mae",))
    assert (found.found.mean.n, found.found.mean.value) == (2, pytest.approx(0.75))
    assert (found.first, found.second, found.map_name) == ("First", "Second", "tmax")


def test_two_methods_without_a_common_map_have_no_difference():
    other = Entry("acute", "other", "Other", "paper", (row("sub-1", 1.0, name="cbf"),))
    assert comparison.differences(entry("first", (1.0,)), other, ("brain_mae",)) == []


def test_error_over_null_counts_the_same_patients():
    null = entry("null", (2.0, 2.0, 100.0))
    assert comparison.over_null(entry("first", (1.0, 2.0)), "tmax", null) == pytest.approx(3.0 / 4.0)
    assert comparison.over_null(entry("first", (1.0,)), "tmax", None) is None


def test_pooled_dice_weighs_large_lesions_more():
    rows = (row("sub-1", 1.0, dice_over_6s=1.0), row("sub-2", 1.0, dice_over_6s=0.0), row("sub-3", 1.0))
    found = Entry("acute", "x", "X", "paper", rows).hypoperfused
    assert found.dice_pooled == pytest.approx(20.0 / 60.0)
    assert found.dice_mean == pytest.approx(0.5)
    assert found.volumes.bias.value == 0.0


def test_eligibility_needs_a_core():
    rows = tuple(row(who, 1.0, core_ml=None) for who in REFERENCE_ML)
    assert Entry("acute", "x", "X", "paper", rows).hypoperfused.defuse3 is None
    found = entry("x", (1.0, 1.0, 1.0)).hypoperfused
    # Ratio 2, 10 mL of mismatch: too little for DEFUSE 3, and not more than 10 for EXTEND; ratio 4, 30 mL: both.
    assert (found.defuse3.n_first, found.extend.n_first) == (1, 1)


def test_tables_hold_every_row_and_an_empty_field_where_undefined():
    lines = list(csv.DictReader(io.StringIO(comparison.study_csv([entry("first", (1.0, 2.0, 3.0))]))))
    assert [line["brain_mae"] for line in lines] == ["1.0", "2.0", "3.0"]
    assert lines[2]["dice_over_6s"] == "" and lines[0]["method"] == "first" and lines[0]["cohort"] == "acute"
    [summed] = [
        line
        for line in csv.DictReader(io.StringIO(comparison.summary_csv([entry("first", (1.0, 2.0, 3.0))])))
        if line["column"] == "brain_mae"
    ]
    assert (summed["n"], float(summed["mean"]), float(summed["sd"])) == ("3", 2.0, 1.0)


def test_table_of_differences_has_their_intervals():
    found = comparison.differences(entry("first", (1.0, 2.0)), entry("second", (0.5, 1.0)), ("brain_mae",))
    [line] = csv.DictReader(io.StringIO(comparison.differences_csv(found)))
    assert float(line["mean"]) == pytest.approx(0.75)
    assert line["low"] == ""  # two patients have no interval
