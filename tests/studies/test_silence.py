"""A few spoiled exams of the study of silently wrong maps, and how it judges."""

import numpy as np
import pytest
from harm import silence, spoiled
from harm.records import Harm, Records

from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.phantom.exam import draw_phantom


@pytest.fixture(scope="module")
def exam():
    """A still head of ordinary frames; the study's own exams differ in everything."""
    return draw_phantom("acute", (77, 6), size=48, slices=4)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("time axis reversed", "reverse"),
        ("frames shuffled", "do not follow each other"),
        ("frames sorted as text", "sorted by name"),
        ("CT given as MR", "as on CT"),
        ("a T1-weighted series", "no bolus|rises instead of falling"),
        ("concentrations for signal", "negative"),
        ("each voxel normalised", "negative"),
        ("first frame subtracted", "negative"),
        ("a bottle of water", "no bolus"),
    ],
)
def test_what_is_no_perfusion_series_is_refused(exam, kind, said):
    given = spoiled.HARMS[kind](exam, np.random.default_rng(3))
    with pytest.raises(InputError, match=said):
        Exam.from_arrays(given.series, given.affine, repetition_time=given.frame_seconds, echo_time=given.echo_seconds)


def test_milliseconds_are_noticed_and_mended(exam):
    given = spoiled.HARMS["frame length in ms"](exam, np.random.default_rng(3))
    read = Exam.from_arrays(given.series, given.affine, repetition_time=given.frame_seconds, echo_time=0.03)
    assert read.frame_seconds == pytest.approx(exam.frame_seconds)
    assert any(one.name == "frame_length_unit" for one in read.findings)


def row(kind, number, mae, dice=0.9, late_ml=20.0, warned=(), **more):
    warnings = [[name, ""] for name in warned]
    return {"kind": kind, "number": number, "method": "network", "reasons": [], "warnings": warnings} | {
        "mae": mae,
        "dice": dice,
        "late_ml": late_ml,
        **more,
    }


def test_the_study_judges_by_what_is_usual_of_exams_that_nobody_doubts():
    made = [row("as drawn", number, mae) for number, mae in enumerate((0.4, 0.5, 0.6))]
    made += [row("as drawn", 3, 9.0, warned=["motion"])]  # which must not change what is usual
    made += [
        row("as drawn", 4, 0.5, warned=["truncated"]),
        row("as drawn", 5, 0.5, warned=["motion"], reasons=["motion"]),
    ]
    made += [row("as drawn", 6, 0.5, dice=0.7), row("as drawn", 7, 0.5, dice=0.0, late_ml=1.0)]
    made += [row("frame length doubled", 0, 0.8), row("frame length halved", 0, 0.7)]
    made += [{"kind": "another organ", "number": 0, "method": "network", "reasons": [], "refused": "no"}]
    made += [{"kind": "another organ", "number": 1, "method": "network", "reasons": [], "warnings": []}]
    outcome = {(harm.kind.partition(",")[0], harm.number): harm.outcome for harm in silence.judged(made)}
    assert [outcome["as drawn", number] for number in range(3)] == [silence.RIGHT] * 3
    assert outcome["as drawn", 3] == silence.FLAGGED
    assert (outcome["as drawn", 4], outcome["as drawn", 5]) == (silence.IN_VAIN, silence.WITH_REASON)
    assert (outcome["as drawn", 6], outcome["as drawn", 7]) == (silence.SILENT, silence.RIGHT)
    assert (outcome["frame length doubled", 0], outcome["frame length halved", 0]) == (silence.SILENT, silence.RIGHT)
    assert (outcome["another organ", 0], outcome["another organ", 1]) == (silence.REFUSED, silence.SILENT)


def test_the_summary_counts_wrong_maps_of_spoiled_exams_and_of_those_as_drawn_together():
    times = {silence.FLAGGED: 3, silence.SILENT: 1, silence.RIGHT: 2}
    harms = [Harm("as drawn, network", 0, outcome) for outcome, count in times.items() for _ in range(count)]
    harms += [Harm("frame length doubled, network", 0, silence.FLAGGED)] * 4
    harms += [Harm("frame length in ms, network", 0, silence.SILENT)]  # which is noticed, and mended
    harms += [Harm("as drawn, conventional", 0, outcome) for outcome in (silence.SILENT, silence.IN_VAIN)]
    network, _, both = silence.summary(harms)
    assert "together 88 % of 8" in network
    assert "78 % of 9 wrong maps" in both and "1 of 3 right ones" in both


@pytest.mark.parametrize(("late_seconds", "outcome"), [(1.2, silence.WITH_REASON), (0.3, silence.IN_VAIN)])
def test_a_doubt_about_the_aif_has_a_reason_where_it_is_late(late_seconds, outcome):
    made = [
        row("as drawn", 0, 0.5),
        row("as drawn", 1, 0.5, warned=["arterial_low"], arterial_late_seconds=late_seconds),
    ]
    assert silence.judged(made)[1].outcome == outcome


def test_records_go_on_where_they_were_stopped(tmp_path):
    records = Records(tmp_path, silence.PART)
    records.add(Harm("a", 0, silence.RIGHT))
    again = Records(tmp_path, silence.PART)
    assert again.open_ones(["a", "b"], 2) == [("a", 1), ("b", 0), ("b", 1)]
    with pytest.raises(ValueError, match="no outcome"):
        again.add(Harm("b", 0, "well"))
