"""Work side by side within a process: what NumPy, SciPy and XLA compute lets other threads run."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dscgan_jax.processes import usable_cores

# More gain little: what is between the computations is Python, one thread at a time. A worker has one core to itself.
MOST_THREADS = min(2, usable_cores())

In = TypeVar("In")
Out = TypeVar("Out")


@contextlib.contextmanager
def threads_beside(number: int) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads beside this one; where an error leaves the block, what has not begun does not begin."""
    pool = concurrent.futures.ThreadPoolExecutor(number)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """`function` of each item, some at a time; results are in the order of the items, errors are raised here."""
    if MOST_THREADS == 1:
        return [function(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(MOST_THREADS) as pool:
        return list(pool.map(function, items))


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each of some calls returns."""
    return in_threads(lambda call: call(), calls)
