"""The study of disks, homes and second runs with the suite: folders that vanish, and what counts as which outcome.

The disks of the study are mounted, which root alone may do; here they are plain folders, which can be removed.
"""

import contextlib

import numpy as np
import pytest
from command_line import Done
from harm import surroundings
from harm.records import Harm

LINE = "error: out: the disk is full; free some space."


@contextlib.contextmanager
def plain(place, size):
    del size
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        surroundings.shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return surroundings.World(tmp_path_factory.mktemp("world"), network=False)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["drawing exams", "deconvolving"])
def test_a_folder_that_is_removed_meanwhile_costs_one_line(world, tmp_path, monkeypatch, stage):
    monkeypatch.setattr(surroundings, "disk", plain)
    for number in range(2):
        harm = surroundings.vanished(world, stage, tmp_path / "place", np.random.default_rng(number), number)
        assert harm.outcome in surroundings.PART.kept, harm


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        (Done(0, "", ""), "went on"),
        (Done(1, "", LINE), "one line, nothing half-written"),
        (Done(1, "", f"{LINE}\n{LINE}"), "traceback"),
        (Done(1, "", "error: OSError: no (this is a defect of dscgan_jax; --debug shows where)"), "traceback"),
        (Done(1, "", f"Traceback (most recent call last):\n{LINE}"), "traceback"),
        (Done(1, "", ""), "traceback"),
        (Done(70, "", "OSError: no"), "traceback"),
        (Done(124, "", ""), "hang"),
    ],
)
def test_how_a_program_ended(done, outcome):
    assert surroundings._ended(done)[0] == outcome


@pytest.mark.parametrize(
    ("left", "then", "lost", "outcome"),
    [
        ((), ("a.nii.gz", "b.html"), "", "one line, nothing half-written"),
        (("a.nii.gz.partial",), ("a.nii.gz", "b.html"), "", "half written"),
        ((), ("a.nii.gz",), "", "half written"),
        ((), (), "", "half written"),
        ((), ("a.nii.gz", "b.html"), "a.nii.gz", "lost"),
    ],
)
def test_what_a_failure_may_leave(tmp_path, monkeypatch, left, then, lost, outcome):
    """`then`: what the same command leaves afterwards."""

    def again(world, stage, place):
        for name in then:
            (place / name).write_bytes(b"" if name.endswith(".html") else b"map")
        return Done(0, "", "")

    for name in left:
        (tmp_path / name).touch()
    monkeypatch.setattr(surroundings, "_done", again)
    world = type("World", (), {"folder": tmp_path / "world"})
    clean = {"a.nii.gz": b"map", "b.html": b""}
    harm = surroundings._judged(world, "deconvolving", tmp_path, Done(1, "", LINE), lost, clean)
    assert isinstance(harm, Harm) and harm.outcome == outcome
