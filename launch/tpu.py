"""Trains on a TPU: on all hosts of a slice through gcloud, or on this TPU machine alone.

python launch/tpu.py --name=my-slice --zone=us-central2-b --config=configs/temp_tmax.py \\
    --workdir=/mnt/shared/temp_tmax [--dry_run] -- [more flags]
python launch/tpu.py --local --config=configs/temp_tmax.py [--dry_run] -- [more flags]

What follows `--` goes to `python -m dscgan_jax.main` unchanged, for example `-- --config.train.batch_size=32`.
On a slice every host has the repository in --folder, the package installed (`pip install -e .[tpu]`), and sees the same
--workdir and config.data.cache_dir, for example on Filestore; their processes meet through jax.distributed.
"""

import os
import shlex
import subprocess
import sys

import shared
from absl import app, flags

LOCAL = flags.DEFINE_bool("local", False, "Run on this TPU machine, a slice of one host.")
NAME = flags.DEFINE_string("name", None, "Name of the slice.")
ZONE = flags.DEFINE_string("zone", None, "Its zone.")
PROJECT = flags.DEFINE_string("project", None, "Its project; default: gcloud's.")
FOLDER = flags.DEFINE_string("folder", "dscgan_jax", "Where the repository is on each host, from the home folder.")
ENVIRONMENT = flags.DEFINE_multi_string(
    "environment", [], "Shell command to run before on each host, such as 'source venv/bin/activate'; may be repeated."
)

VARIABLES = {"JAX_PLATFORMS": "tpu,cpu"}  # the first must be there, or the run is refused


def gcloud(more: list[str]) -> list[str]:
    """The command that starts the run on all hosts."""
    run = shlex.join(shared.command(["--distributed=auto", *more], "python3"))
    on_host = " && ".join(
        [f"cd {shlex.quote(FOLDER.value)}", *ENVIRONMENT.value, " ".join([*shared.assignments(VARIABLES), run])]
    )
    project = [f"--project={PROJECT.value}"] if PROJECT.value else []
    return [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        NAME.value,
        "--worker=all",
        f"--zone={ZONE.value}",
        *project,
        f"--command={on_host}",
    ]


def main(argv: list[str]) -> None:
    if LOCAL.value == bool(NAME.value or ZONE.value):
        shared.refuse("give either --local, or --name and --zone of a slice.")
    if not LOCAL.value and not (NAME.value and ZONE.value and shared.WORKDIR.value):
        shared.refuse("a slice needs --name, --zone and --workdir, a folder that all its hosts see.")
    variables, line = (VARIABLES, shared.command(argv[1:])) if LOCAL.value else ({}, gcloud(argv[1:]))
    if shared.DRY_RUN.value:
        print(*shared.assignments(variables), shlex.join(line), sep=" \\\n  ")
        return
    try:
        sys.exit(subprocess.run(line, env={**os.environ, **variables}, check=False).returncode)
    except FileNotFoundError:
        shared.refuse(f"there is no {line[0]} here; install it, or look at the command with --dry_run.")


if __name__ == "__main__":
    app.run(main)
