"""Runs that last: what grows with time, and one bad exam among many."""

import os
import pathlib
import shutil
import time

import numpy as np

from harm.kills import MOST_SECONDS, TRAINING, Process, World
from harm.records import Part, carry_out

COUNT = 1
FLAT, ALL_BUT_ONE = "flat", "all but the broken one"
GREW, SLOWER, LOST = "grew", "slower", "lost"
PART = Part(
    name="long_runs",
    title="Long runs",
    promise=(
        "Over 2,000 steps, once as many are behind it, a training needs no more memory at the end than at the "
        "beginning (within 2 %), holds no more files open and has no more threads (within 5 %), takes no more CPU "
        "seconds for a step (within a quarter), and keeps no more checkpoints than it was told. Of 200 exams "
        "that are predicted in one call, a broken one costs itself alone: 199 have maps, and the list says why one "
        "has none."
    ),
    kept=(FLAT, ALL_BUT_ONE),
    broken=(GREW, SLOWER, LOST),
    test="tests/app/test_cohorts.py",
)
STEPS, EXAMS = 2000, 200  # after as many steps, in which pictures are drawn for the first time and caches fill
MOST_GROWTH, MOST_MORE, MOST_SLOWER = 1.02, 1.05, 1.25
LOOK_SECONDS = 0.5


def run(workdir: pathlib.Path, count: int) -> None:
    """Does what is still open."""
    carry_out(workdir, PART, KINDS, count, World(workdir.absolute() / "long_runs" / "world"))


def _long_training(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
    """2,000 steps, watched from outside."""
    del number
    fields = [one for one in TRAINING if not one.startswith(("train.steps", "train.checkpoint", "train.sample"))]
    fields += [f"train.steps={2 * STEPS}", "train.checkpoint_every_epochs=50.0", "train.sample_every_epochs=200.0"]
    workdir = area / "run"
    process = world.started([*world.fields(fields, world.folder / "cache"), f"--workdir={workdir}"])
    looks = _watched(process, workdir / "metrics.jsonl")
    ended = process.wait_for(MOST_SECONDS)
    if ended.status:
        return LOST, ended.said
    steps, seconds, kib, files, threads = looks[(looks[:, 0] > STEPS) & (looks[:, 0] < 2 * STEPS)].T
    first, last = steps < 1.25 * STEPS, steps > 1.75 * STEPS
    growth = float(min(kib[last]) / min(kib[first]))  # between two checkpoints: while one is written there is more
    slower = float(np.polyfit(steps[last], seconds[last], 1)[0] / np.polyfit(steps[first], seconds[first], 1)[0])
    kept = [path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    said = (
        f"memory {min(kib[last]) / 1024:.0f} MiB, {growth:.3f} times that 1,500 steps before; a step "
        f"takes {slower:.2f} times the CPU seconds; at least {min(files[last]):.0f} files and "
        f"{min(threads[last]):.0f} threads, {min(files[first]):.0f} and {min(threads[first]):.0f} before; "
        f"{len(kept)} checkpoints"
    )
    more = any(min(of[last]) > MOST_MORE * min(of[first]) for of in (files, threads))
    if growth > MOST_GROWTH or more or len(kept) > 3:  # the last two and the best
        return GREW, said
    return (SLOWER if slower > MOST_SLOWER else FLAT), said


def _watched(process: Process, rows: pathlib.Path) -> np.ndarray:
    """(look, 5): rows of the log, CPU seconds, resident KiB, open files, threads."""
    looks = []
    place = pathlib.Path("/proc") / str(process.process.pid)
    while process.runs:
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            kib, threads = int(status["VmRSS"].split()[0]), int(status["Threads"])
            files = len(list((place / "fd").iterdir()))
            ticks = (place / "stat").read_text().rpartition(")")[2].split()[11:13]  # in the program and in the system
        except (OSError, KeyError, ValueError, IndexError):
            break  # it has just ended
        done = rows.read_bytes().count(b'"loss_g"') if rows.is_file() else 0
        looks.append((done, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), kib, files, threads))
        time.sleep(LOOK_SECONDS)
    return np.array(looks, np.float64)


def _many_exams(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
    """200 exams in one call, one of them cut in half."""
    del number
    root = area / "exams"
    series = sorted(world.exams.glob("sub-*/perf/*_dsc.nii.gz"))
    for number in range(EXAMS):
        subject, source = f"sub-{number + 1:04d}", series[number % len(series)]
        for name in (source, source.with_name(source.name.replace(".nii.gz", ".json"))):
            place = root / subject / "perf" / name.name.replace(source.name[:8], subject)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, place)
    broken = root / "sub-0100" / "perf" / "sub-0100_dsc.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    line = ["--mode=predict", f"--input={root}", f"--output={area / 'maps'}", f"--workdir={world.run}", "--workers=2"]
    ended = world.started(line).wait_for(4 * MOST_SECONDS)
    maps = len(list((area / "maps").rglob("*_tmax.nii.gz")))
    summary = (area / "maps" / "summary.csv").read_text().splitlines() if (area / "maps").is_dir() else []
    failed = [row for row in summary if ",failed," in row]
    said = f"{maps} maps, {len(failed)} listed as failed, status {ended.status}"
    return (ALL_BUT_ONE if maps == EXAMS - 1 and len(failed) == 1 and "sub-0100" in failed[0] else LOST), said


KINDS = {f"{STEPS:,} steps": _long_training, f"{EXAMS} exams, one of them broken": _many_exams}
