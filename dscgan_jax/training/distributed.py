"""Several processes that train as one: how they meet, which one prints, and what is tested before anything long.

Words: the *lead* is process 0, which alone draws, prepares, prints, logs and evaluates; the others are its *peers*. All
of them see the same files: the work directory and the cache are on a shared file system.
"""

import contextlib
import hashlib
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from dscgan_jax.errors import InputError
from dscgan_jax.training import sharding

WAIT_SECONDS = 300.0  # for peers to come, and for an all-reduce across all devices
_LONG_SECONDS = (
    7 * 24 * 3600
)  # while the lead prepares or evaluates, its peers wait; should it die, the runtime ends them
_LEAD_LINGERS_SECONDS = 2.0  # its end aborts its peers: those that fail alike shall have printed their error


_joined = False


class Stuck(InputError):
    """An error after which a thread still hangs in the runtime, so that the process cannot end in the ordinary way."""


def initialize(
    *,
    automatic: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Joins the other processes; must come before the first use of a device. Does nothing where no flag asks for it.

    Args:
      automatic: number and addresses of the processes come from Slurm, Open MPI or a TPU pod.
      coordinator: host:port of process 0, at which all meet.
      processes: how many there are.
      process: which one this is, from 0.
      wait_seconds: how long to wait for the others.

    Raises:
      InputError: the values make no sense, the port is taken, nothing was detected.
      Stuck: the others did not come.
    """
    global _joined
    if not automatic and coordinator is None and processes is None and process is None:
        return
    if automatic and not (coordinator is None and processes is None and process is None):
        raise InputError("--distributed=auto finds --coordinator, --processes and --process itself; leave them out.")
    if not automatic:
        _check_meeting_point(coordinator, processes, process)
    # A process that is asked to end shall end, as it does alone; a run resumes from its last checkpoint.
    jax.config.update("jax_enable_preemption_service", False)
    options: dict[str, Any] = {
        "initialization_timeout": int(wait_seconds) + 60,
        "shutdown_timeout_seconds": _LONG_SECONDS,
    }
    if not automatic:
        options |= {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
        if _is_loopback(coordinator):
            options["coordinator_bind_address"] = coordinator  # not for other machines
    where = f"{processes} processes at {coordinator}" if coordinator else "other processes of this job"
    try:
        _within(
            wait_seconds,
            lambda: (jax.distributed.initialize(**options), jax.process_index()),  # their devices meet too
            f"the {where} did not all come within {wait_seconds:g} s. Start every one with the same --coordinator and "
            "--processes and with its own --process, look at the output of the others, and let the machines reach "
            "each other on that port.",
        )
    except InputError:
        raise
    except (
        Exception
    ) as error:  # a missing driver is an AssertionError; whatever it is, an ordinary end would wait for others
        if automatic and "defined" in str(error):
            raise InputError(
                "--distributed=auto found neither Slurm, Open MPI nor a TPU pod; start with launch/slurm.py or "
                "launch/tpu.py, or give --coordinator, --processes and --process."
            ) from error
        raise Stuck(f"the processes could not meet: {_first_line(error) or type(error).__name__}.") from error
    _joined = True


def _check_meeting_point(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator is None or processes is None or process is None:
        raise InputError(
            "several processes need --coordinator=HOST:PORT, --processes=N and --process=I together; "
            "Slurm, Open MPI and TPU pods need --distributed=auto alone."
        )
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT of process 0, for example node1:29400.")
    if not 0 <= process < processes:
        raise InputError(
            f"--process={process} of --processes={processes}: it must be at least 0 and below their number."
        )
    if process == 0:
        _check_free(host, int(port))


def _check_free(host: str, port: int) -> None:
    """The runtime would end the process without a word where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was left a moment ago is free
        try:
            probe.bind((host if _is_loopback(f"{host}:{port}") else "", port))
        except OSError as error:
            raise InputError(
                f"--coordinator: port {port} cannot be opened here ({error.strerror}); give another, the same "
                "to all processes."
            ) from error


def _is_loopback(coordinator: str) -> bool:
    host = coordinator.rpartition(":")[0]
    return host == "localhost" or host.startswith("127.")


def has_joined() -> bool:
    """Whether this process has met others, for whom the runtime waits at an ordinary end."""
    return _joined


def is_lead() -> bool:
    """Whether this process speaks for all; true where there is one alone."""
    return jax.process_index() == 0


def silent_unless_lead() -> contextlib.AbstractContextManager[Any]:
    """Within it, peers print nothing; errors go to stderr and are seen."""
    return (
        contextlib.nullcontext() if is_lead() else contextlib.redirect_stdout(open(os.devnull, "w", encoding="utf-8"))
    )


def barrier(name: str) -> None:
    """Returns when every process has come to the barrier of that name. No device takes part, so it may take long."""
    multihost.get_barrier_sync_fn()(key=f"dscgan_jax_{name}", timeout_ms=_LONG_SECONDS * 1000)


def lead_first(name: str, work: Callable[[], Any]) -> Any:
    """Does something in every process, in the lead before the others: they find on disk what it made.

    Raises:
      InputError: in the peers, where the lead failed.
    """
    result, failure = None, None
    if is_lead():
        try:
            result = work()
        except Exception as error:
            failure = error
    barrier(name)
    if not everywhere(failure is None):
        raise failure or InputError("process 0 could not go on; its output says why.")
    return result if is_lead() else work()


def everywhere(fact: bool) -> bool:
    """Whether something holds in every process: for decisions that all must take alike."""
    return bool(_gathered(np.array([fact], np.uint64)).all())


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """The sum of each process's float64 array, the same to the last bit in all of them."""
    return _gathered(np.asarray(values, np.float64)).sum(axis=0)


def _gathered(values: np.ndarray) -> np.ndarray:
    """(process, ...) of arrays with 8-byte numbers, which travel as they are: devices would round them."""
    if jax.process_count() == 1:
        return values[None]
    words = multihost_utils.process_allgather(np.ascontiguousarray(values).view(np.uint32))
    return np.ascontiguousarray(words).view(values.dtype)


def check_devices_reduce(mesh: jax.sharding.Mesh, timeout_seconds: float = WAIT_SECONDS) -> None:
    """Every device contributes its number, from 1, and all must know the sum.

    Raises:
      InputError: the sum is wrong, or the devices refuse.
      Stuck: there is none within the time.
    """
    n_devices, expected = mesh.size, mesh.size * (mesh.size + 1) // 2
    what = f"{n_devices} {mesh.devices.flat[0].platform} devices of {jax.process_count()} processes"
    look = (
        "Look at the output of every process and whether each sees its devices (nvidia-smi), whether another program "
        "holds one, and whether the machines reach each other (NCCL_SOCKET_IFNAME names the network, NCCL_DEBUG=INFO "
        "prints more)."
    )
    try:
        got = _within(
            timeout_seconds,
            lambda: _sum_of_numbers(mesh),
            f"an all-reduce across the {what} did not finish within {timeout_seconds:g} s. {look}",
        )
    except RuntimeError as error:
        raise InputError(f"an all-reduce across the {what} failed: {_first_line(error)}. {look}") from error
    if got != expected:
        raise InputError(f"an all-reduce across the {what} gave {got} instead of {expected}. {look}")


def _sum_of_numbers(mesh: jax.sharding.Mesh) -> int:
    numbers = np.arange(1, mesh.size + 1, dtype=np.int32)
    spread = jax.make_array_from_callback(numbers.shape, sharding.split_batch(mesh), lambda index: numbers[index])
    return int(jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(spread))


def check_same_everywhere(text: str) -> None:
    """Refuses processes that were started with different settings: their programs would wait for each other for ever.

    Raises:
      InputError: names the first process that differs.
    """
    digests = _gathered(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint64))
    others = np.flatnonzero((digests != digests[0]).any(axis=1))
    if others.size:
        raise InputError(
            f"process {others[0]} was started with another config, work directory or version of the code than "
            "process 0; give all of them the same command but for --process."
        )


def check_shared(folder: pathlib.Path) -> None:
    """Refuses a folder that not every process sees.

    Raises:
      InputError: in the process that does not see it.
    """
    if jax.process_count() == 1:
        return
    # A name that nobody has looked for yet: network file systems remember for a while that a file was absent.
    name = f".shared-{_gathered(np.array([time.time_ns()], np.uint64))[0, 0]}"
    if is_lead():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    barrier("shared_written")
    seen = (folder / name).exists()
    if not everywhere(seen):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
        raise InputError(
            f"{folder.absolute()} is not the same folder for all processes; give a --workdir (and "
            "--config.data.cache_dir) on a file system that all machines share."
        )
    if is_lead():
        (folder / name).unlink(missing_ok=True)


def leave(line: str) -> NoReturn:
    """Ends the process with an error line at once, whatever still hangs.

    The runtime then ends those that wait for it.
    """
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
    if has_joined() and is_lead():
        time.sleep(_LEAD_LINGERS_SECONDS)
    os._exit(1)


def lost(error: Exception) -> bool:
    """Whether that is what a process sees when another one ends too early."""
    return has_joined() and isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)


def _within(seconds: float, work: Callable[[], Any], line: str) -> Any:
    """The result of `work`, or its exception.

    Raises:
      Stuck: with that line, when there is neither in that time.
    """
    outcome: list[Any] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Stuck(line)
    if failure:
        raise failure[0]
    return outcome[0]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")
