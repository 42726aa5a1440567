"""Tasks in processes of their own, several at a time: a process that dies costs the task it was on, and no other.

Processes are started afresh, never forked: JAX has threads. Each has its share of the cores, and a group of its own, so
that Ctrl-C reaches it once, through us; it ends with us.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from multiprocessing import connection
from typing import Any

from dscgan_jax.processes import end_all, killed_by, on_share_of_cores, usable_cores

GRACE_SECONDS = 10.0  # for a process that was told to stop: it removes what is half-written
WORTH = 4  # tasks of a process, whose start takes a second
ACCELERATOR_SHARE = 0.8  # of its memory, for all processes together
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ROOT = pathlib.Path(__file__).resolve().parents[1]  # where the package is imported from


@dataclasses.dataclass(frozen=True)
class Lost:
    """In the place of a result: why the process died."""

    reason: str

    def __str__(self) -> str:
        """With what to do, where the other tasks are of no use without this one."""
        return f"{self.reason}; free some memory, or give fewer cores (taskset), and run again."


class _Worker:
    """A process that does one task after the other.

    Attributes:
      ends: our end of the pipe.
      number: of its share of the cores.
      task: what it is on.
    """

    def __init__(self, work: Any, number: int, count: int, held: Sequence[int]):
        self.ends, theirs = multiprocessing.Pipe()
        self.number, self.task = number, None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        line = [sys.executable, "-m", "dscgan_jax.worker", str(theirs.fileno())]
        with on_share_of_cores(number, count) as cores:
            self.process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=_environment(cores, count),
                pass_fds=(theirs.fileno(), *held),
                start_new_session=True,
            )
        theirs.close()
        self._send(work)

    def give(self, task: Any) -> None:
        """Hands it a task."""
        self.task = task
        self._send(task)

    def _send(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # it is dead: whoever waits for its answer learns of it
            self.ends.send(value)

    def why_dead(self) -> str:
        """What ended the process: a signal, or what it said last."""
        code = self.process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        said = f" ({lines[-1][:160]})" if lines and code >= 0 else ""
        return f"its process {'was ' if code < 0 else ''}{killed_by(code)}{said}"

    def close(self) -> None:
        """Lets go of a process that has ended."""
        self.ends.close()
        self._log.close()


def run_all(
    work: Any,
    tasks: Sequence[Any],
    workers: int,
    done: Callable[[Any, Any], None],
    lost: Callable[[Any, str], None],
    held: Sequence[int] = (),
) -> None:
    """Does all tasks, in the order in which processes become free.

    Args:
      work: `work.begin()` gives, once in each process, the function that does a task.
      tasks: what that function takes. Work, tasks and results are pickled.
      workers: processes at a time.
      done: called with each task and its result.
      lost: called with a task whose process died, and why it did.
      held: open files that the processes hold too, such as a lock, until they have ended: where this one is killed,
        they end at once on Linux, and elsewhere after their task.
    """
    with contextlib.closing(results(work, tasks, workers, held)) as found:
        for task, result in found:
            if isinstance(result, Lost):
                lost(task, result.reason)
            else:
                done(task, result)


def results(
    work: Any, tasks: Sequence[Any], workers: int, held: Sequence[int] = ()
) -> Generator[tuple[Any, Any], None, None]:
    """Each task with its result, or `Lost`, as they become ready; arguments as of `run_all`.

    Whoever takes them in no hurry holds the processes up: they do at most one task more each. The processes end with
    the iterator, also where it is closed early.
    """
    waiting = collections.deque(tasks)
    count = min(workers, len(waiting))
    running: dict[connection.Connection, _Worker] = {}
    try:
        for number in range(count):
            _begin(_Worker(work, number, count, held), waiting, running)
        while running:
            for ends in connection.wait(list(running)):
                worker = running[ends]  # pyright: ignore[reportArgumentType] - one of those that were given
                task = worker.task
                try:
                    result = worker.ends.recv()
                except (EOFError, OSError):
                    result = Lost(worker.why_dead())
                    del running[worker.ends]
                    worker.close()
                    if waiting:
                        _begin(_Worker(work, worker.number, count, held), waiting, running)
                else:
                    _go_on(worker, waiting, running)
                yield task, result
    finally:
        _stop(list(running.values()))


def in_order(work: Any, tasks: Sequence[Any], workers: int) -> Generator[Any, None, None]:
    """The result of each task, or `Lost`, in the order of the tasks; with one worker each is done here, when asked for.

    Arguments as of `run_all`.
    """
    if min(workers, len(tasks)) < 2:
        do = work.begin()
        yield from map(do, tasks)
        return
    numbered = list(enumerate(tasks))
    early: dict[int, Any] = {}
    with contextlib.closing(results(_Numbered(work), numbered, workers)) as found:
        for number, _ in numbered:
            while number not in early:
                (which, _), result = next(found)
                early[which] = result
            yield early.pop(number)


def fitting(tasks: int, each_bytes: int) -> int:
    """How many processes: one for each core, as far as memory goes, and none that would do fewer than `WORTH` tasks.

    Args:
      tasks: how many there are.
      each_bytes: memory that one of them takes.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(min(usable_cores(), memory // each_bytes, tasks // WORTH), 1)


@dataclasses.dataclass(frozen=True)
class _Numbered:
    """Work whose tasks carry a number."""

    work: Any

    def begin(self) -> Callable[[tuple[int, Any]], Any]:
        do = self.work.begin()
        return lambda numbered: do(numbered[1])


def _begin(worker: _Worker, waiting: collections.deque, running: dict[connection.Connection, _Worker]) -> None:
    running[worker.ends] = worker
    worker.give(waiting.popleft())


def _go_on(worker: _Worker, waiting: collections.deque, running: dict[connection.Connection, _Worker]) -> None:
    """The next task, or the end of the process: without a task it is of no more use."""
    if waiting:
        worker.give(waiting.popleft())
        return
    del running[worker.ends]
    _stop([worker])


def _stop(workers: Sequence[_Worker]) -> None:
    end_all([worker.process for worker in workers], signal.SIGTERM, GRACE_SECONDS)
    for worker in workers:
        worker.close()


def _environment(cores: int, count: int) -> dict[str, str]:
    """Of a process: as many threads as it has cores, its share of an accelerator, and our compiled programs."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = dict.fromkeys(_THREADS, str(cores)) | dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{ACCELERATOR_SHARE / count:.2f}")
    if "jax" in sys.modules:
        config = sys.modules["jax"].config
        if config.jax_compilation_cache_dir:
            environment["JAX_COMPILATION_CACHE_DIR"] = config.jax_compilation_cache_dir
        least = config.jax_persistent_cache_min_compile_time_secs
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(least)
    return environment
