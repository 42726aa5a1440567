"""Shares of the cores, and signals that end this process politely."""

import os
import signal

import pytest

from dscgan_jax import processes


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
    with pytest.raises(KeyboardInterrupt), processes.interrupted_by_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_what_killed_a_process_is_said_in_words():
    assert processes.killed_by(-signal.SIGKILL) == "killed by SIGKILL, as the system does where memory is short"
    assert processes.killed_by(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert processes.killed_by(3) == "ended with status 3"
