"""Ctrl-C and who ends a process politely wait for the end of a step, once."""

import os
import signal
import threading

import pytest

from dscgan_jax import processes
from dscgan_jax.errors import Ended, exit_status
from dscgan_jax.training import interrupts


@pytest.fixture(autouse=True)
def python_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_one_waits_until_it_is_asked_for(number, status):
    before, done = signal.getsignal(number), []
    with pytest.raises(Ended) as ended, interrupts.between_steps() as asked:  # noqa: PT012
        assert asked() is None
        press(number)
        done.append("the rest of the step")
        assert asked() == number
    assert done and ended.value.number == number and exit_status(ended.value) == status
    assert signal.getsignal(number) is before


def test_a_second_request_to_end_waits_too():
    with pytest.raises(Ended), interrupts.between_steps() as asked:  # noqa: PT012
        press(signal.SIGTERM)
        press(signal.SIGTERM)
        assert asked() == signal.SIGTERM


def test_within_the_program_that_ends_politely_it_is_the_step_that_ends():
    with processes.interrupted_by_signals():
        with pytest.raises(Ended), interrupts.between_steps() as asked:  # noqa: PT012
            press(signal.SIGTERM)
            assert asked() == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is processes.end


def test_a_second_one_acts_at_once():
    with pytest.raises(KeyboardInterrupt), interrupts.between_steps():  # noqa: PT012
        press()
        press()
        raise AssertionError("the second one was lost")


def test_one_that_nobody_asked_for_acts_at_the_end():
    closed = []
    with pytest.raises(KeyboardInterrupt), interrupts.between_steps():  # noqa: PT012
        press()
        closed.append("files")
    assert closed


def test_another_error_is_not_replaced():
    with pytest.raises(ValueError, match="of a step"), interrupts.between_steps():  # noqa: PT012
        press()
        raise ValueError("of a step")


def test_other_threads_and_other_handlers_are_left_alone():
    def handler(number, frame):
        pass

    signal.signal(signal.SIGINT, handler)
    with interrupts.between_steps() as asked:
        assert signal.getsignal(signal.SIGINT) is handler
        press()
        assert asked() is None

    def in_a_thread():
        with interrupts.between_steps() as asked:
            assert asked() is None

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is handler
