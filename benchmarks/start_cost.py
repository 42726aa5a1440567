"""Where the seconds of `predict` and `deconvolve` go, from the command to the page of one phantom exam: a table.

python benchmarks/start_cost.py --output=docs/benchmarks/start_cost.json

Each command is given once before, so that what is compiled is there; of `--repeats` further starts the one that took
the median of the time counts. Prints the table that docs/speed.md holds. Wants a machine without other work; the load
stands in the record. The exam is that of `start_to_page.py`.
"""

import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from absl import app, flags
from records import keep
from start_to_page import write_exam

from dscgan_jax.phantom.exam import PHANTOM_VERSION
from dscgan_jax.processes import usable_cores

WITHIN = pathlib.Path(__file__).with_name("start_stages.py")
LEAST_SECONDS = 0.05  # shorter stages are left out of the table, not of the record
MODES = ("predict", "deconvolve")


def started(mode: str, exam: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """The record of one start, a process of its own."""
    maps, record = folder / "maps", folder / "record.json"
    shutil.rmtree(maps, ignore_errors=True)
    line = [sys.executable, str(WITHIN), str(record), mode, str(exam), str(maps)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return json.loads(record.read_text(encoding="utf-8"))


def of_mode(mode: str, exam: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """The start of median time after one that compiles."""
    started(mode, exam, folder)
    starts = [started(mode, exam, folder) for _ in range(flags.FLAGS.repeats)]
    return sorted(starts, key=lambda one: one["wall_seconds"])[len(starts) // 2]


def table(mode: str, record: dict[str, Any]) -> str:
    """Markdown: when each stage began and ended, in the main thread or beside it, and what its own thread computed."""
    rows = []
    for name, thread, begin, end, cpu in record["stages"]:
        where = "" if thread == "MainThread" else "beside"
        if end - begin >= LEAST_SECONDS:
            rows.append(f"| {begin:.2f}–{end:.2f} | {end - begin:.2f} | {cpu:.2f} | {where} | `{name}` |")
    imports = sorted(record["imports"].items(), key=lambda one: -one[1])
    largest = ", ".join(f"{name} {seconds:.2f}" for name, seconds in imports[:6])
    compiling = ", ".join(f"{name} {seconds:.2f}" for name, (_, seconds) in record["compiling"].items())
    whole, cpu, imported = record["wall_seconds"], record["cpu_seconds"], sum(record["imports"].values())
    drawing = record["beside_cpu_seconds"]
    return "\n".join(
        [
            f"`{mode}`: {whole:.2f} s, {cpu:.2f} s of the processors, {drawing:.2f} of them in the process "
            f"that draws. Imports, wherever they happen in the other one: {imported:.2f} s "
            f"({largest}). Programs: {compiling}.",
            "",
            "| from–to [s] | s | of its thread's processor | thread | stage |",
            "| --- | --- | --- | --- | --- |",
            *rows,
        ]
    )


def main(_) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        exam = write_exam(pathlib.Path(folder))
        results = {mode: of_mode(mode, exam, pathlib.Path(folder)) for mode in MODES}
    record = {
        "benchmark": "start_cost",
        "phantom_version": PHANTOM_VERSION,
        "shape": [flags.FLAGS.size, flags.FLAGS.size, flags.FLAGS.slices, flags.FLAGS.frames],
        "cores": usable_cores(),
        "machine": platform.machine(),
        "load_average_before": load,
        **results,
    }
    keep(record, flags.FLAGS.output)
    print("\n\n".join(table(mode, results[mode]) for mode in MODES), file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
