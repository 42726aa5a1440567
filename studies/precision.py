"""Whether bfloat16 costs quality: the demo, trained in both precisions from several seeds, scored on its test subjects.

    python studies/precision.py --workdir=runs/precision --output=docs/benchmarks/precision.json

Runs that are in the work directory already are not repeated; each takes minutes on two CPU cores. Checkpoints trained
in bfloat16 are scored as the machine computes: on a CPU, prediction is in float32.
"""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

from dscgan_jax.speed import machine

_WORKDIR = flags.DEFINE_string("workdir", "runs/precision", "Folder of the runs.")
_CONFIG = flags.DEFINE_string("config", "configs/temp_tmax.py:demo", "What is trained.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of weights and order; the exams stay.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")

PRECISIONS = ("float32", "bfloat16")
SOURCES = ("network_per_slice", "network_running")


def trained(folder: pathlib.Path, precision: str, seed: str, more: list[str]) -> pathlib.Path:
    """The work directory of one run, made if it is not there."""
    workdir = folder / f"{precision}-{seed}"
    if not (workdir / "evaluation" / "test" / "summary.json").is_file():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "dscgan_jax.main",
                f"--config={_CONFIG.value}",
                f"--workdir={workdir}",
                f"--config.seed={seed}",
                f"--config.model.compute={precision}",
                "--config.evaluate.baselines=()",
                *more,
            ],
            check=True,
        )
    return workdir


def brain_mae(workdir: pathlib.Path, source: str) -> float:
    """Mean over the test subjects, in the map's unit."""
    with (workdir / "evaluation" / "test" / "subjects.csv").open(encoding="utf-8") as file:
        values = [
            float(row["brain_mae"]) for row in csv.DictReader(file) if row["source"] == source and row["brain_mae"]
        ]
    return statistics.mean(values)


def main(argv: list[str]) -> None:
    runs = [
        {
            "precision": precision,
            "seed": int(seed),
            **{
                source: brain_mae(trained(pathlib.Path(_WORKDIR.value), precision, seed, argv[1:]), source)
                for source in SOURCES
            },
        }
        for seed in _SEEDS.value
        for precision in PRECISIONS
    ]
    means = {
        source: {
            precision: statistics.mean(run[source] for run in runs if run["precision"] == precision)
            for precision in PRECISIONS
        }
        for source in SOURCES
    }
    record = {
        "command": " ".join(["python studies/precision.py", *sys.argv[1:]]),
        "config": _CONFIG.value,
        "what": "brain MAE, mean over the test subjects",
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "cores": os.cpu_count(),
        "runs": runs,
        "means": means,
        "bfloat16_over_float32": {source: of["bfloat16"] / of["float32"] for source, of in means.items()},
    }
    text = json.dumps(record, indent=1) + "\n"
    print(text, end="")
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
