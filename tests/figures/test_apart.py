"""A picture drawn beside this process has the bytes of one drawn here, whatever becomes of what draws it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from dscgan_jax.figures import apart, curves, ink, panels

SECONDS = 2.0 * np.arange(12)
AIF = np.exp(-(((SECONDS - 9.0) / 3.0) ** 2))
VOLUME = np.random.default_rng(0).gamma(2.0, 20.0, (20, 24, 5)).astype(np.float32)
VOXELS = VOLUME > 150
SHOWN = {"slices": [0, 2, 3, 5, 8], "white": np.float32(200), "title": "Zoë, β"}
POSE = np.stack([0.1 * SECONDS, -0.05 * SECONDS, 0.0 * SECONDS], axis=1)

# Arrays that lie otherwise than NumPy's usual order, NumPy's own numbers, nothing, and letters beyond ASCII.
ASKED = {
    "maps": (panels.maps_png, ({"tmax": np.asfortranarray(VOLUME), "cbf": VOLUME[::-1]}, VOLUME), SHOWN),
    "aif": (
        curves.aif_png,
        (SECONDS, AIF, 0.1 * AIF, "mM", VOLUME, VOXELS),
        {"non_steady_frames": np.int64(2), "aspect": np.float32(1.2), "title": "sub-1"},
    ),
    "aif from a file": (curves.aif_png, (SECONDS, AIF, 0.1 * AIF, "mM", VOLUME, None), {}),
    "motion": (curves.motion_png, (SECONDS, POSE, 0.5 * POSE, POSE[:, 0] > 1), {}),
    "colours": (ink.colour_table, ("turbo",), {}),
}


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    """Matplotlib is here already, where tests draw; nevertheless."""
    monkeypatch.setattr(apart, "_gains", lambda: True)


@pytest.fixture(scope="module")
def beside():
    """A process that draws, for all tests that do it no harm."""
    process = apart._Process()
    yield process
    process.end()


def here(draw, values, named):
    return draw(*values, **named)


def started() -> apart._Process:
    """What draws, within a block."""
    assert apart._beside is not None
    return apart._beside


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_picture_has_the_same_bytes_beside_this_process_and_here(beside, monkeypatch, name):
    draw, values, named = ASKED[name]
    content = beside.answer(apart._packed([f"{draw.__module__}:{draw.__qualname__}", values, named]))
    assert content and content == here(draw, values, named)
    monkeypatch.setattr(apart, "_beside", beside)
    assert apart.drawn(draw, *values, **named) == content


def test_what_is_sent_arrives_as_it_was():
    sent = {"array": [VOLUME, np.float32(0.1), 0.1, None, "脳", {"array": 3}], "frames": np.int16([1, 2])}
    come = apart._unpacked(apart._packed(sent))
    assert come["array"][0].dtype == np.float32 and (come["array"][0] == VOLUME).all()
    assert come["array"][1] == np.float32(0.1) and type(come["array"][1]) is np.float32
    assert come["array"][2:5] == [0.1, None, "脳"] and come["frames"].dtype == np.int16


def test_objects_are_not_sent_as_code(beside):
    packed = apart._packed(["dscgan_jax.figures.ink:colour_table", [np.array([print], object)], {}])
    assert beside.answer(packed) == b""  # it would have to be unpickled


def test_who_asks_meets_the_error_of_a_drawing(beside, monkeypatch):
    monkeypatch.setattr(apart, "_beside", beside)
    with pytest.raises(KeyError):
        apart.drawn(ink.colour_table, "no such colours")
    assert apart.drawn(ink.colour_table, "gray") == ink.colour_table("gray")  # and it goes on


@pytest.mark.parametrize("how", ["before it is asked", "while it draws"])
def test_what_a_killed_process_does_not_draw_is_drawn_here(how):
    draw, values, named = ASKED["colours"]
    with apart.process():
        process = started()
        if how == "before it is asked":
            os.kill(process.pid, signal.SIGKILL)
        else:  # it is still importing when the question comes
            _send = apart._send

            def send_and_kill(pipe, content):
                _send(pipe, content)
                os.kill(process.pid, signal.SIGKILL)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(apart, "_send", send_and_kill)
                assert apart.drawn(draw, *values, **named) == here(draw, values, named)
        for _ in range(2):
            assert apart.drawn(draw, *values, **named) == here(draw, values, named)


def test_nothing_is_left_of_it_after_the_block():
    with apart.process():
        process = started()
        with apart.process():  # which starts no second one, nor ends the first
            assert apart._beside is process
        assert apart._beside is process
    assert apart._beside is None
    with pytest.raises(ProcessLookupError):  # a zombie would still be there
        os.kill(process.pid, 0)


def test_an_error_within_the_block_ends_it_too():
    pids = []

    def interrupted():
        with apart.process():
            pids.append(started().pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_picture_that_nobody_wants_any_more_is_not_drawn_here():
    """After Ctrl-C a thread that waits for one would import Matplotlib and draw, and the program wait for it."""
    with apart.process():
        process = started()
        process.end()
        with pytest.raises(CancelledError):
            apart.drawn(ink.colour_table, "gray")


def test_what_does_not_answer_is_killed_and_drawn_here(monkeypatch):
    monkeypatch.setattr(apart, "MOST_SECONDS", 0.2)
    with apart.process():
        os.kill(started().pid, signal.SIGSTOP)
        assert apart.drawn(ink.colour_table, "gray") == ink.colour_table("gray")


def test_what_matplotlib_leaves_where_it_may_not_write_goes_with_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    for name, value in {"MPLCONFIGDIR": tmp_path / "file", "TMPDIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    with apart.process():
        assert apart.drawn(ink.colour_table, "gray") == ink.colour_table("gray")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_it_runs_no_code_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with apart.process():
        assert apart.drawn(ink.colour_table, "gray") == ink.colour_table("gray")
    assert not (tmp_path / "ran").exists()


def test_where_none_can_be_started_it_is_drawn_here(monkeypatch):
    def refused(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with apart.process():
        assert apart._beside is None
        assert apart.drawn(ink.colour_table, "gray") == ink.colour_table("gray")


def test_none_is_started_where_matplotlib_is_here_already(monkeypatch):
    monkeypatch.undo()
    ink.load_matplotlib()
    with apart.process():
        assert apart._beside is None


def test_it_ends_where_the_process_that_asks_is_killed():
    script = "from dscgan_jax.figures import apart\nwith apart.process(): print(apart._beside.pid, flush=True); input()"
    line = [sys.executable, "-c", script]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _runs(child)
        parent.kill()
    until = time.monotonic() + 30
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Whether a process is there, and no zombie that waits for whoever inherited it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
