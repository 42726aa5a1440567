"""For what kind of machine a program is being traced: this one, unless it is exported for others."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

CPU, ACCELERATOR = "cpu", "gpu"
_TRACED_FOR: contextvars.ContextVar[str] = contextvars.ContextVar("traced_for", default="")


def traced_for() -> str:
    """JAX's name of the platform: what decides where the networks have a way for a CPU and one for accelerators."""
    return _TRACED_FOR.get() or jax.default_backend()


def on_cpu() -> bool:
    """Whether the program is for a CPU."""
    return traced_for() == CPU


@contextlib.contextmanager
def tracing_for(platform: str) -> Iterator[None]:
    """Within it, `traced_for` is that platform, `CPU` or `ACCELERATOR`, whatever this machine has."""
    before = _TRACED_FOR.set(platform)
    try:
        yield
    finally:
        _TRACED_FOR.reset(before)
