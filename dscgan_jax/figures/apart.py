"""Pictures drawn by a process beside this one, while this one computes.

Matplotlib's import and its drawing are Python, of which a process runs one thread at a time: where JAX is imported,
programs are traced and a page is written meanwhile, a process that only draws has the other core to itself. It takes
arrays and plain values through a pipe, not pickled, and gives bytes; it imports neither JAX nor SciPy. Where there is
none, or it dies or does not answer, the same function draws here: a picture has the same bytes either way.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, BinaryIO

MOST_SECONDS = 120.0  # for an answer, which takes less than a second where nothing is wrong
ENDING_SECONDS = 2.0  # for tidying up, which takes a few hundredths
_LENGTH_BYTES = 8  # before each message: how long it is
_ARRAY = "\0array"  # the key under which JSON holds the number of an array
_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from dscgan_jax.figures import apart; apart.serve()"


class _Process:
    """What draws; it ends with `end`, or as soon as nobody is left who could ask it for anything."""

    def __init__(self):
        """Starts it.

        Raises:
          OSError: the system refuses.
        """
        self._one_at_a_time = threading.Lock()
        self.ended = False
        # It takes the path of this process alone, nothing from the environment or the folder that it is started in. A
        # session of its own: Ctrl-C is for this process, which ends the other one. An error of a drawing is met again
        # by who then draws here.
        written = ["-B"] if sys.dont_write_bytecode else []
        self._process = subprocess.Popen(
            [sys.executable, "-I", *written, "-c", _SERVE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def answer(self, request: bytes) -> bytes:
        """What it gives; empty where it could not, is dead, or takes so long that it is killed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with self._one_at_a_time:
            patience = threading.Timer(MOST_SECONDS, self._process.kill)
            patience.daemon = True
            patience.start()
            try:
                _send(stdin, request)
                return _received(stdout) or b""
            except (OSError, ValueError):  # a closed pipe is a ValueError
                return b""
            finally:
                patience.cancel()

    def end(self) -> None:
        """Ends it: in peace where nobody waits for it, since Matplotlib tidies up then; else whatever it does."""
        self.ended = True
        if self._one_at_a_time.acquire(blocking=False):
            assert self._process.stdin is not None
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(ENDING_SECONDS)
            self._one_at_a_time.release()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not sent
                    pipe.close()


_beside: _Process | None = None


@contextlib.contextmanager
def process() -> Iterator[None]:
    """Within it, `drawn` asks a process beside this one; where Matplotlib is imported already, none is started."""
    global _beside
    began = None
    if _beside is None and _gains():
        with contextlib.suppress(OSError):
            _beside = began = _Process()
    try:
        yield
    finally:
        if began is not None:
            _beside = None
            began.end()


def _gains() -> bool:
    """Whether a process can be started, and Matplotlib's import is still to come."""
    return bool(sys.executable) and not hasattr(sys, "frozen") and "matplotlib" not in sys.modules


def drawn(draw: Callable[..., bytes], *values: Any, **named: Any) -> bytes:
    """What a function of this room makes of arrays and plain values: here, or beside this process.

    Args:
      draw: gives e.g. the content of a PNG file.
      *values, **named: arrays, numbers, texts, None, and lists, tuples and dicts of them.

    Raises:
      CancelledError: `process` was left meanwhile, as by Ctrl-C: nobody wants the picture any more.
    """
    if (beside := _beside) is not None:
        name = f"{draw.__module__}:{draw.__qualname__}"
        if content := beside.answer(_packed([name, values, named])):
            return content
        if beside.ended:
            raise CancelledError
    return draw(*values, **named)


def serve() -> None:
    """What the process beside does: answers until nobody asks any more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    gc.set_threshold(1_000_000)  # as where it is asked: what is imported stays
    from dscgan_jax.figures import ink

    ink.load_matplotlib()
    while (request := _received(sys.stdin.buffer)) is not None:
        try:
            name, values, named = _unpacked(request)
            module, _, function = name.partition(":")
            content = getattr(importlib.import_module(module), function)(*values, **named)
        except Exception:  # who asks draws it again, and meets the error
            content = b""
        _send(replies, content)
    gc.freeze()  # or the interpreter, at its end, looks for a tenth of a second for garbage among all that was imported


def _packed(message: Any) -> bytes:
    """Plain values as JSON, and the arrays that they hold, in their order, as NumPy's files."""
    import numpy as np  # here, because the process is started before anything slow is imported

    arrays: list[Any] = []

    def held(value: Any) -> dict[str, int]:
        arrays.append(np.asarray(value))  # NumPy's numbers are arrays without axes
        return {_ARRAY: len(arrays) - 1}

    text, packed = json.dumps(message, default=held), io.BytesIO()
    np.savez(packed, np.frombuffer(text.encode(), np.uint8), *arrays)
    return packed.getvalue()


def _unpacked(packed: bytes) -> Any:
    """What was packed; tuples are lists."""
    import numpy as np

    with np.load(io.BytesIO(packed), allow_pickle=False) as whole:
        text, *arrays = (whole[name][()] for name in whole.files)
    return json.loads(text.tobytes(), object_hook=lambda one: arrays[one[_ARRAY]] if _ARRAY in one else one)


def _send(pipe: BinaryIO | Any, content: bytes) -> None:
    pipe.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    pipe.write(content)
    pipe.flush()


def _received(pipe: BinaryIO | Any) -> bytes | None:
    """A whole message; None where there is none any more."""
    length = pipe.read(_LENGTH_BYTES)
    content = pipe.read(int.from_bytes(length, "big"))
    whole = len(length) == _LENGTH_BYTES and len(content) == int.from_bytes(length, "big")
    return content if whole else None
