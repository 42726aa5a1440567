"""Files that are never seen half-written, and what killed processes left of them."""

import os
import subprocess
import sys
import time

import pytest

from dscgan_jax import files

ELSEWHERE = "00000000"  # another machine


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def _long_ago(path):
    then = time.time() - 2 * files.IDLE_SECONDS
    os.utime(path, (then, then))


def test_what_a_live_process_is_writing_stays_and_what_a_dead_one_left_goes(tmp_path, dead):
    staying = {f".partial-{os.getpid()}-a", f".partial-{dead}-{ELSEWHERE}-c"}
    old = f".partial-{os.getpid()}-{ELSEWHERE}-d"
    for name in (*staying, f".partial-{dead}-b", ".partial-old", old):
        (tmp_path / name).mkdir()
    _long_ago(tmp_path / old)
    with files.all_or_nothing(tmp_path) as folder:
        staying.add(folder.name)
        assert {path.name for path in tmp_path.iterdir()} == staying


def test_so_it_is_beside_a_file_and_two_machines_never_write_the_same_one(tmp_path, dead, monkeypatch):
    path = tmp_path / "weights"
    mine = files.partial_of(path)
    monkeypatch.setattr(files, "_this_machine", lambda: ELSEWHERE)
    staying = {mine.name, files.partial_of(path).name, f".weights.{dead}-ffffffff.partial"}
    assert len(staying) == 3
    for name in (
        *staying,
        f".weights.{dead}.partial",
        f".weights.{dead}-{ELSEWHERE}.partial",
        ".weights.1-eeeeeeee.partial",
    ):
        (tmp_path / name).touch()
    _long_ago(tmp_path / ".weights.1-eeeeeeee.partial")
    files.sweep_partial(path)
    assert {path.name for path in tmp_path.iterdir()} == staying
