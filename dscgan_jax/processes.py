"""Processes side by side: the cores that there are, a share of them for each, and signals that end all of them."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any


def usable_cores() -> int:
    """Cores that this process may run on: in a container or a batch job fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def on_share_of_cores(number: int, count: int) -> Iterator[int]:
    """Within it, processes begin on one of `count` equal shares of the cores.

    Args:
      number: of the share, from 0.
      count: of shares; where there are fewer cores, some have the same one.

    Yields:
      cores of the share.
    """
    if count < 2 or not hasattr(os, "sched_setaffinity"):
        yield max(1, usable_cores() // count)
        return
    cores = sorted(os.sched_getaffinity(0))
    first, end = number * len(cores) // count, (number + 1) * len(cores) // count
    share = cores[first:end] or [cores[first]]
    os.sched_setaffinity(0, share)
    try:
        yield len(share)
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within it, whoever ends this process politely interrupts it, as Ctrl-C does, so that it closes what is open."""
    if threading.current_thread() is not threading.main_thread():  # Python lets nobody else set handlers
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def killed_by(code: int) -> str:
    """What ended a process, in words.

    Args:
      code: its exit status as `subprocess` has it, negative for a signal.
    """
    if code >= 0:
        return f"ended with status {code}"
    often = ", as the system does where memory is short" if -code == signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{often}"


def end_all(processes: Sequence[subprocess.Popen], by: signal.Signals, grace_seconds: float) -> None:
    """Ends processes and waits for them; one that does not listen in time is killed.

    Args:
      processes: running ones, or ended ones.
      by: the signal that asks them to end.
      grace_seconds: for all of them together.
    """
    for process in processes:
        if process.poll() is None:
            process.send_signal(by)
    end = time.monotonic() + grace_seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(end - time.monotonic(), 0.1))
        if process.poll() is None:
            process.kill()
            process.wait()
