"""Shares of the cores, and signals that end this process politely."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dscgan_jax import processes
from dscgan_jax.errors import Ended, exit_status, one_line


@pytest.fixture
def four_cores(monkeypatch):
    """A machine with cores 0, 2, 4 and 6, and the cores on which this process is put."""
    put = [{0, 2, 4, 6}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: put[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: put.append(set(cores)))
    return put


@pytest.mark.parametrize(
    ("count", "shares"),
    [(1, [{0, 2, 4, 6}]), (2, [{0, 2}, {4, 6}]), (3, [{0}, {2}, {4, 6}]), (5, [{0}, {0}, {2}, {4}, {6}])],
)
def test_each_has_its_share_of_the_cores_and_afterwards_all_are_ours_again(four_cores, count, shares):
    found = []
    for number in range(count):
        with processes.on_share_of_cores(number, count) as cores:
            found.append(four_cores[-1])
            assert cores == len(four_cores[-1])
        assert four_cores[-1] == {0, 2, 4, 6}
    assert found == shares


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_signal_interrupts_and_its_handler_goes_with_it(number):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended, processes.interrupted_by_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    assert ended.value.number == number and exit_status(ended.value) == 128 + number
    assert one_line(ended.value).startswith(f"\nended by {number.name}; ")


def test_a_signal_that_is_ignored_as_by_nohup_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with processes.ended_in_time(0.1), processes.interrupted_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.5)  # else this process would end here
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_ends_a_process_otherwise_has_the_status_of_an_error():
    assert exit_status(ValueError()) == 1 and exit_status(KeyboardInterrupt()) == 130


# Sits in a call of a library, where Python's handlers wait.
DEAF = """
import hashlib, sys
from dscgan_jax import processes
with processes.ended_in_time(0.2), processes.interrupted_by_signals():
    print(flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_who_sits_in_a_library_ends_in_time_all_the_same():
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(1.0)  # now it is in that call
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "ended by SIGTERM, within a call that did not return" in said
    assert time.monotonic() - begun < 10


def test_nothing_of_it_stays_where_no_signal_came():
    with processes.ended_in_time():
        pass
    before = signal.set_wakeup_fd(-1)
    assert before == -1


def test_what_killed_a_process_is_said_in_words():
    assert processes.killed_by(-signal.SIGKILL) == "killed by SIGKILL, as the system does where memory is short"
    assert processes.killed_by(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert processes.killed_by(3) == "ended with status 3"
