"""The page of a study, from invented entries."""

import dataclasses

import pytest

from dscgan_jax.evaluation import records
from dscgan_jax.evaluation.comparison import Entry
from dscgan_jax.pages import blocks
from dscgan_jax.pages.blocks import Heading, Table
from dscgan_jax.pages.study import page
from dscgan_jax.pages.study.checklist import checklist
from dscgan_jax.pages.study.record import StudyRecord

NULLS = {"null_median": 1.0, "blank": 3.0}
PATIENTS = [f"sub-{number}" for number in range(1, 7)]


def entry(cohort, method, error, part="paper", maps=("tmax", "ttp"), **changes):
    """A method whose error grows a little from patient to patient, and whose lesions are 1 mL too large."""
    rows = [
        dict.fromkeys(records.COLUMNS)
        | {"subject": who, "split": "test", "source": "network_per_slice", "map": name, "unit": "s"}
        | {"brain_mae": error + 0.01 * number, "brain_bias": 0.1, "brain_pearson_r": 0.9, "brain_ssim": 0.8}
        | {"scaled_mae": 0.02, "scaled_nrmse": 0.1, "scaled_ssim": 0.95 - 0.1 * error, "scaled_psnr": 30.0}
        | {"dice_over_6s": 0.94, "core_ml": 5.0}
        | {"volume_predicted_over_6s_ml": 11.0 + 10 * number, "volume_reference_over_6s_ml": 10.0 + 10 * number}
        for number, who in enumerate(PATIENTS)
        for name in maps
    ]
    return Entry(cohort, method, changes.pop("title", method), part, tuple(rows), **changes)


@pytest.fixture(scope="module")
def record():
    entries = [
        entry("acute", "temp", 0.4, title="temp-pix2pix, the paper's settings", hours=0.5, steps_per_second=4.0),
        entry("acute", "pix2pix", 0.6, title="pix2pix, the paper's settings"),
        entry("acute", "temp-recommended", 0.3, "recommended", title="temp-pix2pix, recommended"),
        entry("acute", "parametric", 0.5, "conventional", title="parametric fit, automatic AIF", refused=("sub-9",)),
        entry("chronic", "temp-recommended", 0.5, "recommended", title="temp-pix2pix, recommended, fine-tuned"),
        entry("chronic", "temp-recommended-alone", 0.7, "controls", title="alone"),
        entry("difficult", "temp", 0.9, maps=("tmax",), title="temp-pix2pix, the paper's settings"),
    ]
    return StudyRecord(
        scale="small",
        created="2026-01-02T03:04:05+00:00",
        phantom=True,
        patients={"acute": 6, "chronic": 6},
        entries=entries,
        nulls={
            cohort: tuple(entry(cohort, name, error, "nulls", title=name) for name, error in NULLS.items())
            for cohort in ("acute", "chronic")
        },
        kinds={"motion": PATIENTS[:3], "truncated": PATIENTS[3:]},
        asked={},
        examples=(),
        missing=("acute/voxel-all",),
        facts=(("Command", "python launch/study.py"),),
    )


@pytest.fixture(scope="module")
def content(record):
    return page.blocks(record)


@pytest.fixture(scope="module")
def tables(content):
    return [block for block in content if isinstance(block, Table)]


def test_page_says_first_what_was_found_and_what_is_missing(record, content):
    brief = page.in_brief(record)
    assert "the lowest Tmax error of 3 methods is that of temp-pix2pix, recommended, 0.32 s" in brief[0]
    assert any("minus that of pix2pix, the paper's settings: -0.20 s" in sentence for sentence in brief)
    shown = "".join(blocks.to_html(content))
    assert "Not done yet: acute/voxel-all." in shown and "A phantom is no patient" in shown


def test_every_table_has_the_null_beside_the_methods(tables):
    table = next(table for table in tables if table.title.startswith("Tmax"))
    assert [line[0] for line in table.lines][-2:] == ["null_median", "blank"]
    [fit] = [line for line in table.lines if line[0].startswith("parametric")]
    assert fit[1] == "6 (1 refused)"


def test_difference_of_the_architectures_is_paired(tables):
    table = next(table for table in tables if table.title == "temp-pix2pix against pix2pix")
    [error] = [line for line in table.lines if line[2].startswith("Tmax, MAE")]
    assert error[3:6] == ["-0.20", "-0.20 to -0.20", "6"]


def test_checklist_says_no_where_a_demand_is_not_met(record):
    lines = {line[0]: line[1:] for line in checklist(record)}
    assert lines["recommended temp-pix2pix, acute, Tmax: MAE over null"] == ["≤ 0.35", "0.32", "yes"]
    assert lines["recommended temp-pix2pix, acute, CBF: MAE over null"] == ["≤ 0.5", "–", "–"]
    assert lines["fine-tuned, chronic, Tmax: MAE over null"][2] == "no"


def test_difficult_patients_stand_by_kind(content, tables):
    headings = [block.text for block in content if isinstance(block, Heading)]
    assert "Patients nobody can post-process" in headings
    table = next(table for table in tables if "motion (3)" in table.head)
    assert table.lines == [["temp-pix2pix, the paper's settings", "0.91; 0.94", "0.94; 0.94"]]


def test_study_of_own_exams_is_not_held_to_what_phantoms_should_reach(record):
    own = dataclasses.replace(record, phantom=False, entries=record.entries[-1:])
    headings = [block.text for block in page.blocks(own) if isinstance(block, Heading)]
    assert "Targets" not in headings
