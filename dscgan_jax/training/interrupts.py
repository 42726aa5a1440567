"""Ctrl-C while a network is trained: it acts between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Within it, the first Ctrl-C waits until it is asked for; a second one acts at once.

    An interrupt within a library's call can be lost there, or leave a lock held for which the end of the run waits.

    Yields:
      raises KeyboardInterrupt if Ctrl-C was pressed.
    """
    pressed = threading.Event()

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    def press(number: int, frame: Any) -> None:
        del number, frame
        check()
        pressed.set()

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check  # Python lets nobody else set it; whoever set it already has a reason
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check()
