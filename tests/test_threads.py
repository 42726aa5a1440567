"""Work in threads: the order of the items, errors, and one core."""

import threading

import pytest

from dscgan_jax import threads


@pytest.fixture(params=[1, 2])
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "MOST_THREADS", request.param)
    return request.param


def test_results_are_in_the_order_of_the_items(cores):
    first_may_end = threading.Event()

    def square(number):
        if number == 0 and cores > 1:
            assert first_may_end.wait(20)  # until another one is done
        first_may_end.set()
        return number**2

    assert threads.in_threads(square, range(20)) == [number**2 for number in range(20)]
    assert threads.at_once(lambda: "maps", lambda: "page") == ["maps", "page"]


@pytest.mark.slow
def test_an_error_is_raised_here_and_what_waits_is_not_begun(cores):
    begun = []

    def fail_at_three(number):
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        threads.in_threads(fail_at_three, range(100_000))
    assert len(begun) < 100_000
