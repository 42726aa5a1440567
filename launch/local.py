"""Trains on all GPUs of this machine: one process, a mesh over its devices.

python launch/local.py --config=configs/temp_tmax.py --workdir=runs/temp_tmax [--gpus=0,1] [--dry_run] -- [more flags]

What follows `--` goes to `python -m dscgan_jax.main` unchanged, for example `-- --config.train.batch_size=16`.
"""

import os
import shlex
import subprocess
import sys

import shared
from absl import app, flags

GPUS = flags.DEFINE_list("gpus", [], "Numbers of the GPUs to use; default: all that CUDA_VISIBLE_DEVICES allows.")
shared.define_gpu_flags()


def main(argv: list[str]) -> None:
    variables, line = shared.gpu_environment(), shared.command(argv[1:])
    if GPUS.value:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(GPUS.value)
    if shared.DRY_RUN.value:
        print(*shared.assignments(variables), shlex.join(line), sep=" \\\n  ")
        return
    sys.exit(subprocess.run(line, env={**os.environ, **variables}, check=False).returncode)


if __name__ == "__main__":
    app.run(main)
