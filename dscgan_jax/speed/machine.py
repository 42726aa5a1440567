"""The machine and the software of a record."""

import importlib.metadata
import os
import pathlib
import platform
import resource

import jax

from dscgan_jax import provenance
from dscgan_jax.speed.records import Record

PACKAGES = ("dscgan_jax", "jax", "jaxlib", "flax", "optax", "numpy")
BYTES_PER_KIB = 1024


def hardware() -> Record:
    """The machine, without its name."""
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return {
        "backend": device.platform,
        "device": processor() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "device_bytes": limit,
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "machine": platform.machine(),
    }


def processor() -> str:
    """Model of the processor, as the system names it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of what computes, and the commit; None for what is not installed as a package."""
    found: dict[str, str | None] = {"python": platform.python_version(), "git": provenance.git_commit()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def peak_resident_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_KIB
