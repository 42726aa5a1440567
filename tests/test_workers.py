"""Tasks in processes of their own, some of which die."""

import fcntl
import os
import pathlib
import subprocess
import sys
import time

import pytest
import side_by_side

from dscgan_jax import workers


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(side_by_side.__file__).parent))
    for name in workers._THREADS:
        monkeypatch.delenv(name, raising=False)


def run(tasks, count):
    done, lost = {}, {}
    workers.run_all(side_by_side.Chores(), tasks, count, done.__setitem__, lost.__setitem__)
    return done, lost


def test_all_tasks_are_done_each_process_on_its_share_of_the_cores():
    cores = sorted(os.sched_getaffinity(0))
    done, lost = run(list(range(5)), 2)
    assert {task: result[0] for task, result in done.items()} == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16} and not lost
    assert len({result[3] for result in done.values()}) == 2
    for _, share, threads, _ in done.values():
        assert set(share) <= set(cores) and threads == str(len(share))
    assert sorted(os.sched_getaffinity(0)) == cores


def test_a_process_that_dies_costs_the_task_it_was_on_and_the_reason_is_known():
    done, lost = run([1, "killed", 2, "fails", 3], 2)
    assert set(done) == {1, 2, 3}
    assert lost == {
        "killed": "its process was killed by SIGKILL, as the system does where memory is short",
        "fails": "its process ended with status 1 (the last word)",
    }


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_tasks_and_a_lost_one_says_why(monkeypatch, count):
    if count == 1:  # done here, where nobody sets it
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tasks = [3, 1, *(["fails"] if count > 1 else []), 2, 0]
    found = list(workers.in_order(side_by_side.Chores(), tasks, count))
    assert [one.reason if isinstance(one, workers.Lost) else one[0] for one in found] == [
        "its process ended with status 1 (the last word)" if task == "fails" else task**2 for task in tasks
    ]


def test_processes_end_with_whoever_takes_their_results():
    results = workers.in_order(side_by_side.Chores(), [1, 2, "sleeps", "sleeps"], 2)
    processes = {next(results)[3], next(results)[3]} - {os.getpid()}
    results.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_as_many_processes_as_cores_memory_and_tasks_are_worth(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 16)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert [workers.fitting(tasks, memory // 10) for tasks in (3, 8, 1000)] == [1, 2, 10]
    assert workers.fitting(1000, 1) == 16 and workers.fitting(1000, 2 * memory) == 1


def test_an_interrupt_ends_the_processes_at_once():
    started = []

    def interrupted(task, result):
        started.append(result[3])
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workers.run_all(side_by_side.Chores(), ["sleeps", 1], 2, interrupted, lambda *_: None)
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_lock_that_is_held_stays_as_long_as_a_process_lives(tmp_path):
    with open(tmp_path / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        worker = workers._Worker(side_by_side.Chores(), 0, 1, [lock.fileno()])
    with open(tmp_path / "lock", "wb") as other:  # as if this process had been killed
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        workers._stop([worker])
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


STARTER = """
import sys
from dscgan_jax import workers
import side_by_side
worker = workers._Worker(side_by_side.Chores(), 0, 1, [])
worker.give("sleeps")
print(worker.process.pid, flush=True)
worker.process.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_process_ends_with_the_one_that_started_it():
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    time.sleep(1.5)  # it is on its task
    starter.kill()
    starter.communicate()
    end = time.monotonic() + 20
    while time.monotonic() < end and pathlib.Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
        time.sleep(0.05)
    assert not pathlib.Path(f"/proc/{pid}").exists() or _is_zombie(pid)


def _is_zombie(pid):
    """Whether it has ended, and nobody has asked how."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
