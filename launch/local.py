"""Trains on all GPUs of this machine: one process, a mesh over its devices.

python launch/local.py --config=configs/temp_tmax.py --workdir=runs/temp_tmax [--gpus=0,1] [--dry_run] -- [more flags]

What stands after `--` goes to `python -m dscgan_jax.main` unchanged, for example `-- --config.train.batch_size=16`.
"""

import os
import shlex
import subprocess
import sys

from absl import app, flags

CONFIG = flags.DEFINE_string("config", "configs/temp_tmax.py", "The run's config, as for dscgan_jax.main.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's work directory; default: as dscgan_jax.main chooses it.")
GPUS = flags.DEFINE_list("gpus", [], "Numbers of the GPUs to use; default: all that CUDA_VISIBLE_DEVICES allows.")
MEMORY_FRACTION = flags.DEFINE_float("memory_fraction", 0.9, "Share of each GPU's memory that JAX takes at the start.",
                                     lower_bound=0.05, upper_bound=0.99)
DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Ask XLA for run-to-run identical results (slower).")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the command and its environment, run nothing.")


def environment() -> dict[str, str]:
    """Variables that this launch sets."""
    xla_flags = ["--xla_gpu_enable_latency_hiding_scheduler=true"]  # overlaps the gradients' all-reduce with compute
    if DETERMINISTIC.value:
        xla_flags.append("--xla_gpu_deterministic_ops=true")
    variables = {
        "JAX_PLATFORMS": "cuda",  # an error where there is no GPU, instead of a silent CPU run
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY_FRACTION.value:g}",
        "XLA_FLAGS": " ".join([*filter(None, [os.environ.get("XLA_FLAGS")]), *xla_flags]),
    }
    if GPUS.value:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(GPUS.value)
    return variables


def command(more: list[str]) -> list[str]:
    """The command that this launch runs."""
    workdir = [f"--workdir={WORKDIR.value}"] if WORKDIR.value else []
    return [sys.executable, "-m", "dscgan_jax.main", f"--config={CONFIG.value}", *workdir, *more]


def main(argv: list[str]) -> None:
    variables, line = environment(), command(argv[1:])
    if DRY_RUN.value:
        print(*[f"{name}={shlex.quote(value)}" for name, value in variables.items()], shlex.join(line), sep=" \\\n  ")
        return
    sys.exit(subprocess.run(line, env={**os.environ, **variables}, check=False).returncode)


if __name__ == "__main__":
    app.run(main)
