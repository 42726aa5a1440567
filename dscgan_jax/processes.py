"""Processes side by side: the cores that there are, a share of them for each, and signals that end all of them."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dscgan_jax.errors import Ended, exit_status, one_line

POLITE = (signal.SIGTERM, signal.SIGHUP)  # what batch systems and closed terminals send
GRACE_SECONDS = 25.0  # from the request to the end in any case; batch systems kill 30 s after it
SECOND_SECONDS = 3.0  # likewise after a second Ctrl-C


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


def end(number: int, frame: Any) -> None:
    """The handler of `interrupted_by_signals`."""
    del frame
    raise Ended(number)


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within it, whoever ends this process politely interrupts it, as Ctrl-C does, so that it closes what is open."""
    if threading.current_thread() is not threading.main_thread():  # Python lets nobody else set handlers
        yield
        return

    heard = [number for number in POLITE if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_in_time(grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Within it, a polite signal or a second Ctrl-C ends this process after a while in any case.

    Python's handlers wait for the main thread, which may sit in a library's call for minutes, such as a compilation.
    Whatever is cut off then is what a kill would cut off: the next start copes with it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reads, grace_seconds), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writes)  # which ends the thread


def _watch(reads: int, grace_seconds: float) -> None:
    """Reads the numbers of the signals that come, until the pipe is closed or the time is up."""
    deadline, presses, last = None, 0, signal.SIGTERM  # one that is ignored does not come here
    while deadline is None or (left := deadline - time.monotonic()) > 0:
        if deadline is not None and not select.select([reads], [], [], left)[0]:
            break
        numbers = os.read(reads, 1)
        if not numbers:
            os.close(reads)
            return
        number, now = numbers[0], time.monotonic()
        presses += number == signal.SIGINT
        if number in POLITE:
            deadline, last = min(deadline or now + grace_seconds, now + grace_seconds), signal.Signals(number)
        elif number == signal.SIGINT and presses > 1:
            deadline, last = min(deadline or now + SECOND_SECONDS, now + SECOND_SECONDS), signal.SIGINT
    said = f"ended by {last.name}, within a call that did not return; the same command goes on from what is whole."
    error = Ended(last, said)
    print(one_line(error), file=sys.stderr, flush=True)
    os._exit(exit_status(error))


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
