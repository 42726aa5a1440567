"""Ratios and fractions; never how long anything took."""

from dscgan_jax.speed import timing


def test_ratio_is_of_medians_over_all_rounds():
    row = timing.ratios([[1.0, 1.0], [2.0, 1.0]], [[3.0, 3.0], [3.0, 9.0]])
    assert row["ratio"] == 3.0
    assert (row["ratio_lowest"], row["ratio_highest"]) == (3.0, 4.0)
    assert (row["jax_seconds"], row["torch_seconds"]) == (1.0, 3.0)


def test_a_side_that_could_not_run_leaves_no_ratio():
    assert timing.ratios([[1.0]], None) == {"jax_seconds": 1.0, "torch_seconds": None, "ratio": None}


def test_fractions_of_peak_leave_out_what_has_no_peak():
    assert timing.fractions_of_peak(50.0, {"float32": 100.0, "bfloat16": None}) == {"float32": 0.5, "bfloat16": None}


def test_what_is_timed_is_called_once_cold_and_then_as_often_as_asked():
    calls = []
    assert timing.timed(lambda: calls.append(0), 3)["repeats"] == 3
    assert len(calls) == 4
