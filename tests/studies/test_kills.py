"""The study of kills: one real kill of a real process, and what it would not overlook."""

import json
import signal

import pytest
from harm import kills
from harm.contents import contents, debris, differences
from harm.kills import STAGES, Undisturbed, World
from harm.records import Records


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def drawn(world, tmp_path_factory):
    """What drawing exams leaves, and where."""
    area = tmp_path_factory.mktemp("area") / "one"
    return kills.undisturbed(world, STAGES["killed while drawing exams"], area), area


def test_exams_whose_drawing_was_killed_are_drawn_again_to_the_same_bytes(world, drawn):
    expected, area = drawn
    harm = kills.one(world, "killed while drawing exams", 0, expected, area)
    assert harm.outcome in kills.PART.kept, harm
    assert len(expected.left) == 4 * 11 + 1, "the files of four exams, and the table of participants"


def test_what_a_kill_must_not_leave_is_seen(world, drawn):
    expected, area = drawn
    wrong = Undisturbed(expected.left | {"exams/participants.tsv": "other"}, expected.seconds)
    harm = kills.one(world, "killed while drawing exams", 1, wrong, area)
    assert harm.outcome == kills.DIFFERENT and harm.said.endswith("exams/participants.tsv differs")


def test_clocks_count_nowhere_and_all_else_does(tmp_path):
    def written(**changes):
        record = {"created": "now", "mae": 1.0, "rows": [{"seconds": 2}]} | changes
        (tmp_path / "summary.json").write_text(json.dumps(record))
        return contents(tmp_path)

    assert written() == written(created="later", rows=[{"seconds": 3}])
    assert differences(written(), written(mae=1.1)) == ["summary.json differs"]
    (tmp_path / "summary.json").write_text("{")
    assert contents(tmp_path)["summary.json"].startswith("damaged")
    (tmp_path / "run.lock").touch()
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / ".maps.7.partial").touch()
    assert debris(contents(tmp_path)) == [".maps.7.partial", "checkpoints/4.orbax-checkpoint-tmp", "run.lock"]


def test_kinds_and_their_statuses_are_those_of_the_promise(tmp_path):
    statuses = {stage.number: stage.statuses for stage in STAGES.values()}
    assert statuses == {signal.SIGKILL: (-9,), signal.SIGTERM: (143,), signal.SIGINT: (130,)}
    records = Records(tmp_path, kills.PART)
    assert len(records.open_ones(STAGES, kills.COUNT)) == 9 * kills.COUNT
