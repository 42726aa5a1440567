"""Trains on a Slurm cluster: one run over nodes x GPUs, or an array job with one run in each task.

python launch/slurm.py --config=configs/temp_tmax.py --nodes=2 --gpus_per_node=4 --time=12:00:00 [--dry_run] -- [flags]
# The batch, which is 4 by default, must be a multiple of the number of devices: here -- --config.train.batch_size=8

python launch/slurm.py --array=paper --time=24:00:00      # the ten models of the paper, one GPU each
python launch/slurm.py --array=finetune                   # when these are done: further on chronic exams

What follows `--` goes to `python -m dscgan_jax.main` unchanged.
The folder from which the job is submitted, the work directory and config.data.cache_dir must be visible on all nodes.
A job that the scheduler stops and queues again resumes from its last checkpoint; so does one that is submitted again.

Each node runs one process with all its GPUs, as launch/local.py does: the slices are read, the exams prepared and the
step compiled once for a node, not once for a GPU. Nodes meet through jax.distributed, which reads Slurm's variables.
"""

import pathlib
import shlex
import subprocess
import sys

import shared
from absl import app, flags

MODELS = [(generator, name) for generator in ("temp", "pix2pix") for name in ("cbf", "cbv", "mtt", "tmax", "ttp")]
PAPER = [f"configs/{generator}_{name}.py" for generator, name in MODELS]
RECOMMENDED = [f"configs/recommended_{generator}.py:{name}" for generator, name in MODELS]
FINE_TUNING = "finetune_"  # what the name of a config that goes on from another one begins with
GROUPS = {
    "paper": PAPER,
    "finetune": [config.replace("/", f"/{FINE_TUNING}") for config in PAPER],
    "recommended": RECOMMENDED,
    "finetune_recommended": [config.replace("/", f"/{FINE_TUNING}") for config in RECOMMENDED],
}
# The task's own flag, and no argument where it has none.
ONE_BEGINNING = '${beginnings[$SLURM_ARRAY_TASK_ID]:+"${beginnings[$SLURM_ARRAY_TASK_ID]}"}'

NODES = flags.DEFINE_integer("nodes", 1, "Nodes of a run.", lower_bound=1)
GPUS_PER_NODE = flags.DEFINE_integer("gpus_per_node", 1, "GPUs on each of them.", lower_bound=1)
CPUS_PER_GPU = flags.DEFINE_integer("cpus_per_gpu", 8, "CPU cores beside each GPU, for reading.", lower_bound=1)
MEM = flags.DEFINE_string("mem", "64G", "Memory of each node.")
TIME = flags.DEFINE_string("time", "24:00:00", "Time limit of a run.")
PARTITION = flags.DEFINE_string("partition", None, "Partition; default: the cluster's.")
ACCOUNT = flags.DEFINE_string("account", None, "Account; default: the user's.")
ARRAY = flags.DEFINE_list(
    "array",
    [],
    "Configs to train in an array job, one task each, instead of --config; paper[:variant] stands for the paper's ten "
    "models, recommended for ten with the recommended settings, finetune[:variant] and finetune_recommended for the "
    "same trained further on chronic exams. Each gets its own folder below --workdir (default runs), where models "
    "to be trained further are looked for as well.",
)
ENVIRONMENT = flags.DEFINE_multi_string(
    "environment",
    [],
    "Shell command that makes `python` the right one, such as 'module "
    "load cuda' or 'source venv/bin/activate'; may be repeated. Default: this Python.",
)
shared.define_gpu_flags()


def configs_of_array() -> list[str]:
    """The configs of --array, `paper` and its like spelt out."""
    configs = []
    for item in ARRAY.value:
        name, colon, variant = item.partition(":")
        if variant and name.endswith("recommended"):
            shared.refuse(
                f"--array={item}: {name} stands for the variants of its configs already; leave :{variant} out."
            )
        configs += [f"{config}{colon}{variant}" for config in GROUPS[name]] if name in GROUPS else [item]
    return configs


def run_name(config: str) -> str:
    """temp_tmax-demo for configs/temp_tmax.py:demo, as dscgan_jax.main names runs."""
    path, _, variant = config.partition(":")
    return pathlib.Path(path).stem + (f"-{variant}" if variant else "")


def beginning(config: str) -> str:
    """Where the run lies that a config goes on from, as a flag; empty where the config itself is right."""
    name = run_name(config)
    if not name.startswith(FINE_TUNING) or not shared.WORKDIR.value:
        return ""
    return f"--config.train.start_from={shared.WORKDIR.value}/{name.removeprefix(FINE_TUNING)}"


def script(more: list[str]) -> str:
    """The sbatch script."""
    configs = configs_of_array()
    name = "dscgan_jax" if configs else run_name(shared.CONFIG.value)
    options = {
        "job-name": name,
        "nodes": NODES.value,
        "ntasks-per-node": 1,
        "gpus-per-node": GPUS_PER_NODE.value,
        "cpus-per-task": CPUS_PER_GPU.value * GPUS_PER_NODE.value,
        "mem": MEM.value,
        "time": TIME.value,
        "partition": PARTITION.value,
        "account": ACCOUNT.value,
        "array": f"0-{len(configs) - 1}" if configs else None,
        "output": "slurm-%A_%a.out" if configs else "slurm-%j.out",
        "open-mode": "append",
    }
    variables = shared.gpu_environment()
    together = []
    if NODES.value > 1:
        # Without it jax.distributed takes one GPU for each task.
        variables["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(GPUS_PER_NODE.value)))
        together = ["--distributed=auto"]
    beginnings = [beginning(config) for config in configs]
    python = "python" if ENVIRONMENT.value else sys.executable
    if configs:
        folder = shlex.quote(shared.WORKDIR.value or "runs")
        run = [
            shlex.quote(python),
            "-m",
            "dscgan_jax.main",
            '"--config=${configs[$SLURM_ARRAY_TASK_ID]}"',
            f'--workdir={folder}/"${{names[$SLURM_ARRAY_TASK_ID]}}"',
            *([ONE_BEGINNING] if any(beginnings) else []),
            *map(shlex.quote, [*together, *more]),
        ]
    else:
        run = list(map(shlex.quote, shared.command([*together, *more], python)))
    lines = [
        "#!/bin/bash",
        *[f"#SBATCH --{option}={value}" for option, value in options.items() if value is not None],
        "#SBATCH --requeue",
        "set -e",
        *ENVIRONMENT.value,
        *[f"export {assignment}" for assignment in shared.assignments(variables)],
    ]
    if configs:
        lines += [f"configs=({shlex.join(configs)})", f"names=({shlex.join(map(run_name, configs))})"]
    if any(beginnings):
        lines += [f"beginnings=({shlex.join(beginnings)})"]
    # srun does not inherit the cores of a task. Where one process fails, the others shall not wait for it.
    return "\n".join([*lines, " ".join(['srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1', *run]), ""])


def main(argv: list[str]) -> None:
    if ARRAY.value and shared.CONFIG.present:
        shared.refuse("--array names the configs; leave --config out.")
    names = [run_name(config) for config in configs_of_array()]
    if twice := {name for name in names if names.count(name) > 1}:
        shared.refuse(f"--array names {min(twice)} twice; both would write into one folder.")
    text = script(argv[1:])
    if shared.DRY_RUN.value:
        print(text, end="")
        return
    try:
        sys.exit(subprocess.run(["sbatch"], input=text, text=True, check=False).returncode)
    except FileNotFoundError:
        shared.refuse(
            "there is no sbatch here; submit from a login node of the cluster, or look at the script with --dry_run."
        )


if __name__ == "__main__":
    app.run(main)
