"""Ctrl-C, and whoever ends this process politely, while a network is trained: they act between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dscgan_jax import processes
from dscgan_jax.errors import Ended

# The handlers that may be set aside: those of Python, of the system, and our own. Whoever set another has a reason.
_ORDINARY = {
    signal.SIGINT: (signal.default_int_handler,),
    signal.SIGTERM: (signal.SIG_DFL, processes.end),
    signal.SIGHUP: (signal.SIG_DFL, processes.end),
}


ALL = tuple(_ORDINARY)


@contextlib.contextmanager
def between_steps(numbers: Sequence[signal.Signals] = ALL) -> Iterator[Callable[[], int | None]]:
    """Within it, the first signal waits until it is asked for; Ctrl-C as the second one acts at once.

    An interrupt within a library's call can be lost there, or leave a lock held for which the end of the run waits.

    Args:
      numbers: of the signals.

    Yields:
      gives the number of the signal that came, or None.

    Raises:
      Ended: at the end, where one came.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        if came and number == signal.SIGINT:
            raise Ended(number)
        came.append(number)

    in_main_thread = threading.current_thread() is threading.main_thread()  # Python lets nobody else set handlers
    ours = [one for one in numbers if in_main_thread and signal.getsignal(one) in _ORDINARY[one]]
    before = {number: signal.signal(number, note) for number in ours}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise Ended(came[0])
