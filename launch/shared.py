"""What all launches have in common: their flags, the command that they start, its environment on GPUs."""

import os
import shlex
import sys

from absl import flags

CONFIG = flags.DEFINE_string("config", "configs/temp_tmax.py", "The run's config, as for dscgan_jax.main.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's work directory; default: as dscgan_jax.main chooses it.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be run, run nothing.")


def define_gpu_flags() -> None:
    """Flags of launches on GPUs."""
    flags.DEFINE_float(
        "memory_fraction",
        0.9,
        "Share of each GPU's memory that JAX takes at the start.",
        lower_bound=0.05,
        upper_bound=0.99,
    )
    flags.DEFINE_bool("deterministic", False, "Ask XLA for run-to-run identical results (slower).")


def gpu_environment() -> dict[str, str]:
    """Variables of a process that trains on GPUs."""
    xla_flags = ["--xla_gpu_enable_latency_hiding_scheduler=true"]  # overlaps the gradients' all-reduce with compute
    if flags.FLAGS.deterministic:
        xla_flags.append("--xla_gpu_deterministic_ops=true")
    return {
        # The first must be there, or the run is refused; the CPU draws the order of the slices.
        "JAX_PLATFORMS": "cuda,cpu",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{flags.FLAGS.memory_fraction:g}",
        "XLA_FLAGS": " ".join([*filter(None, [os.environ.get("XLA_FLAGS")]), *xla_flags]),
    }


def command(more: list[str], python: str = sys.executable) -> list[str]:
    """The command of one run."""
    workdir = [f"--workdir={WORKDIR.value}"] if WORKDIR.value else []
    return [python, "-m", "dscgan_jax.main", f"--config={CONFIG.value}", *workdir, *more]


def assignments(variables: dict[str, str]) -> list[str]:
    """NAME=value, as a shell takes them."""
    return [f"{name}={shlex.quote(value)}" for name, value in variables.items()]


def refuse(line: str) -> None:
    """Ends with one line and status 1."""
    sys.exit(f"error: {line}")
