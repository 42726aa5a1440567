"""Tables, the page and its targets, from records of which one is invented."""

import json

import pytest

from dscgan_jax.speed import page, records, targets, timing
from dscgan_jax.speed.words import ABSENT

pytestmark = pytest.mark.slow


def versus(**changes):
    setting = {
        "size": 64,
        "frames": 80,
        "width": 16,
        "discriminator_width": 64,
        "depth": 6,
        "batch": 4,
        "compute": "float32",
        "torch_compile": False,
    }
    row = {
        "what": "step, tuned",
        "jax_seconds": 0.5,
        "torch_seconds": 1.0,
        "ratio": 2.0,
        "ratio_lowest": 1.5,
        "ratio_highest": 2.5,
        "jax_fraction_of_peak": 0.4,
        "torch_fraction_of_peak": 0.2,
    }
    hardware = {"backend": "cpu", "device": "a CPU", "cores": 2}
    return {
        "schema": records.VERSUS,
        "command": "a command",
        "hardware": hardware,
        "versions": {"jax": "0"},
        "torch": {"torch": "2", "threads": 2, "chosen": {"step_tuned": "contiguous"}},
        "load_before": 0.0,
        "load_after": 0.0,
        "setting": setting,
        "comparisons": [row],
        "peaks": {"float32": {"jax": 1e11, "torch": 1e11}},
        "largest_difference": 1e-6,
        **changes,
    }


def test_growth_is_one_where_cost_is_linear():
    assert targets.growth([{"seconds_each": 0.1}, {"seconds_each": 0.2}, {"seconds_each": 0.1}]) == 1.0
    assert targets.growth([]) is None


def test_the_table_has_a_row_for_each_entry_absent_or_not(record):
    full, empty = dict(page.rows_of(record)), dict(page.rows_of({}))
    assert list(full) == list(empty)
    assert set(empty.values()) == {ABSENT}
    assert full["step: median"] != ABSENT
    assert full["matrix product, bfloat16"] == full["deconvolution, csvd: warm"] == ABSENT


def test_a_terminal_shows_what_was_measured(record):
    text = page.terminal(record)
    assert "step: median " in text and "batches, data set on disk" in text
    assert ABSENT not in text


def test_the_page_holds_every_record_and_says_what_was_not_measured(record):
    text = page.page([record, versus()])
    assert text.count("`a command`") == 2
    assert "| step, tuned | 0.5 s | 1 s | 2.00 x | 1.50 – 2.50 | 40 % | 20 % |" in text
    assert "| GPU: step at batch 4, of the bf16 matrix peak | ≥ 55 % | not measured | not measured |" in text
    assert "None" not in text and "nan" not in text


def test_without_records_nothing_counts_as_met():
    assert {row[2:] for row in targets.checklist([])} == {(ABSENT, ABSENT)}


def test_a_demand_is_met_or_not_by_its_own_setting():
    def tuned(record):
        return next(row for row in targets.checklist([record]) if row[0] == "CPU: step, over tuned PyTorch")

    assert tuned(versus())[2:] == ("2.00 x", "yes")
    slow = versus()
    slow["comparisons"][0]["ratio"] = 1.2
    assert tuned(slow)[2:] == ("1.20 x", "**no**")
    other = versus()
    other["setting"]["width"] = 32
    assert tuned(other)[3] == ABSENT


def test_a_side_that_failed_is_not_measured_on_the_page():
    record = versus(comparisons=[{"what": "step, tuned", **timing.ratios([[1.0]], None)}])
    assert page.versus_rows(record) == [("step, tuned", "1 s", *[ABSENT] * 5)]


def test_other_files_of_the_folder_are_passed_over(tmp_path):
    for name, content in (("a.json", {"benchmark": "data"}), ("b.json", [1]), ("c.json", versus())):
        (tmp_path / name).write_text(json.dumps(content))
    assert [record["schema"] for record in records.read(sorted(tmp_path.iterdir()))] == [records.VERSUS]
