"""Rows that survive a kill, periods with their corner cases, and the stop at the first number that is not one."""

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from dscgan_jax.errors import InputError
from dscgan_jax.training import tracking


def run(workdir, steps, start_step=0):
    with tracking.Tracker(workdir, start_step) as tracker:
        for step in range(start_step + 1, steps + 1):
            tracker.log(step, {"loss_g": 1 / (3 * step), "loss_d": np.float32(0.1) * step})
    return (workdir / "metrics.jsonl").read_bytes()


def events(workdir):
    """Reads the length-prefixed records of the event files."""
    found = []
    for path in sorted(workdir.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


@pytest.mark.parametrize(
    ("step", "every", "last", "due"),
    [
        (0, 5, 12, False),
        (1, 5, 12, False),
        (5, 5, 12, True),
        (6, 5, 12, False),
        (10, 5, 12, True),
        (11, 5, 12, False),
        (12, 5, 12, True),
        (1, 1, 12, True),
        (1, 5, 1, True),
        (0, 1, 0, False),
        (7, 0, 12, False),
        (12, 0, 12, True),
        (12, 100, 12, True),
    ],
)
def test_periods_count_complete_steps_and_always_include_the_last(step, every, last, due):
    assert tracking.is_due(step, every, last) is due


def test_negative_period_is_refused():
    with pytest.raises(ValueError, match="-1 steps"):
        tracking.is_due(1, -1, 2)


def test_rows_are_sorted_json_without_a_clock(tmp_path):
    content = run(tmp_path, 2)
    assert (
        content == b'{"loss_d": 0.10000000149011612, "loss_g": 0.3333333333333333, "step": 1}\n'
        b'{"loss_d": 0.20000000298023224, "loss_g": 0.16666666666666666, "step": 2}\n'
    )


def test_resumed_run_writes_the_same_bytes_as_one_that_never_stopped(tmp_path):
    whole = run(tmp_path / "whole", 9)
    run(tmp_path / "halves", 7)
    with (tmp_path / "halves" / "metrics.jsonl").open("a") as file:
        file.write('{"loss_d": 0.8, "loss')  # killed while writing
    assert run(tmp_path / "halves", 9, start_step=4) == whole


def test_new_run_does_not_inherit_rows(tmp_path):
    run(tmp_path, 5)
    assert run(tmp_path, 2).count(b"\n") == 2


def test_damage_before_the_last_line_is_not_passed_over(tmp_path):
    run(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2"):
        tracking.Tracker(tmp_path, 3)


def test_rows_are_on_disk_before_the_run_ends(tmp_path):
    tracker = tracking.Tracker(tmp_path)
    tracker.log(1, {"loss_g": 2.0})
    assert tracking.read_rows(tmp_path / "metrics.jsonl") == [{"loss_g": 2.0, "step": 1}]
    tracker.close()


def test_infinite_loss_stops_the_run_and_leaves_no_row(tmp_path):
    with tracking.Tracker(tmp_path) as tracker, pytest.raises(FloatingPointError, match="loss_g is nan at step 7"):
        tracker.log(7, {"loss_d": 1.0, "loss_g": np.float32("nan")})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_where_the_numbers_went_wrong_is_said():
    tracking.check_finite({"loss_g": 1.0}, 50)
    with pytest.raises(
        FloatingPointError, match=r"a is inf, b is nan at step 100, whose batch holds sub-1 \(slice 2\):"
    ):
        tracking.check_finite({"a": np.inf, "ok": 0.0, "b": np.nan}, 100, "sub-1 (slice 2)")


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    with tracking.Tracker(tmp_path) as tracker:
        tracker.log(3, {"loss_g": 0.25})
        tracker.image(3, "sample", np.full((4, 6, 3), 128, np.uint8))
    values = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
    assert [(step, value.tag) for step, value in values] == [(3, "loss_g"), (3, "sample")]
    assert values[0][1].simple_value == 0.25
    assert (values[1][1].image.height, values[1][1].image.width) == (4, 6)


def test_resuming_tells_tensorboard_to_forget_later_events(tmp_path):
    run(tmp_path, 4)
    run(tmp_path, 6, start_step=2)
    assert any(event.session_log.status == 1 and event.step == 3 for event in events(tmp_path))


def test_an_absent_file_has_no_rows(tmp_path):
    assert tracking.read_rows(tmp_path / "metrics.jsonl") == []
