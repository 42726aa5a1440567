"""Ctrl-C waits for the end of a step, once."""

import os
import signal
import threading

import pytest

from dscgan_jax.training import interrupts


@pytest.fixture(autouse=True)
def python_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_one_waits_until_it_is_asked_for():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.between_steps() as check:  # noqa: PT012
        check()
        press()
        done.append("the rest of the step")
        check()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
    with interrupts.between_steps() as check:
        assert signal.getsignal(signal.SIGINT) is handler
        press()
        check()

    def in_a_thread():
        with interrupts.between_steps() as check:
            check()

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is handler
