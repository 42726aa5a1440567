"""For what kind of device a program is being traced: JAX's default one, unless it is exported for others."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

CPU, ACCELERATOR = "cpu", "gpu"
_TRACED_FOR: contextvars.ContextVar[str] = contextvars.ContextVar("traced_for", default="")


def traced_for() -> str:
    """JAX's name of the platform: what decides where the networks have a way for a CPU and one for accelerators."""
    if told := _TRACED_FOR.get():
        return told
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return jax.default_backend() if device is None else getattr(device, "platform", device)


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
