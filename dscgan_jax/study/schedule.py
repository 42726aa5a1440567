"""The jobs of a study in processes of their own, several at a time, on this machine or in a Slurm array."""

import contextlib
import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import tqdm

from dscgan_jax.processes import end_all, interrupted_by_signals, killed_by, on_share_of_cores
from dscgan_jax.study.jobs import DONE_FILE, Done, progress_of
from dscgan_jax.study.plan import Job, Study

LOG_FILE = "log.txt"
POLL_SECONDS = 1.0
BAR_SECONDS = 10.0
GRACE_SECONDS = 60.0  # for a job that was told to stop: it ends its step and closes its files


@dataclasses.dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    slot: int


def run_all(
    study: Study,
    jobs: Sequence[Job],
    command: Callable[[Job], list[str]],
    workers: int,
    gpus: Sequence[str],
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Runs what is missing; a job that fails costs those that wait for it, and no other.

    Args:
      study: whose jobs they are.
      jobs: each after those that it waits for.
      command: of a job.
      workers: processes at a time; on CPUs they share the cores.
      gpus: numbers of the GPUs, of which each worker has one; empty = none.
      tell: prints a line.

    Returns:
      {job: why it failed, or what it would have needed}.
    """
    waiting = [job for job in jobs if Done.of(study, job) is None]
    done = {job.name for job in jobs} - {job.name for job in waiting}
    if done:
        tell(f"{len(done)} of {len(jobs)} jobs are done already")
    failed: dict[str, str] = {}
    running: list[_Running] = []
    slots = list(range(workers))
    with _bar(study, jobs, running) as show, _stopped_with_us(running):
        while waiting or running:
            for job in list(waiting):
                lost = [name for name in job.after if name in failed]
                if lost:
                    waiting.remove(job)
                    failed[job.name] = f"it needs {lost[0]}"
                elif slots and all(name in done for name in job.after):
                    waiting.remove(job)
                    slot = slots.pop(0)
                    running.append(_Running(job, _start(study, job, command(job), slot, workers, gpus), slot))
            time.sleep(POLL_SECONDS)
            for one in list(running):
                if one.process.poll() is None:
                    continue
                running.remove(one)
                slots.append(one.slot)
                finished = Done.of(study, one.job)
                if one.process.returncode == 0 and finished:
                    done.add(one.job.name)
                    tell(f"[{len(done)}/{len(jobs)}] {one.job.name}: {finished.seconds / 60:.1f} min")
                else:
                    failed[one.job.name] = _reason(one.process.returncode, study.workdir(one.job) / LOG_FILE)
                    tell(f"{one.job.name} failed: {failed[one.job.name]}")
            show()
    return failed


def _start(study: Study, job: Job, line: list[str], slot: int, workers: int, gpus: Sequence[str]) -> subprocess.Popen:
    """A process with its share of the cores, or its GPU, whose output goes into the job's folder."""
    folder = study.workdir(job)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # the last line of the log is what was said last
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with (folder / LOG_FILE).open("ab") as log, on_share_of_cores(slot, 1 if gpus else workers):
        # A group of its own: Ctrl-C reaches it once, through us.
        return subprocess.Popen(line, stdout=log, stderr=log, env=environment, start_new_session=True)


@contextlib.contextmanager
def _stopped_with_us(running: list[_Running]) -> Iterator[None]:
    """Whatever ends us ends the jobs: as Ctrl-C would, so that each keeps what it has."""
    try:
        with interrupted_by_signals():
            yield
    finally:
        end_all([one.process for one in running], signal.SIGINT, GRACE_SECONDS)


@contextlib.contextmanager
def _bar(study: Study, jobs: Sequence[Job], running: list[_Running]) -> Iterator[Callable[[], None]]:
    """A bar over all jobs, of which the trainings that run count by their steps; its clock says the time left."""
    at_once = sum(Done.of(study, job) is not None for job in jobs)
    last = 0.0
    shape = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} jobs [{elapsed}<{remaining}]{postfix}"
    with tqdm.tqdm(total=len(jobs), initial=at_once, desc="study", dynamic_ncols=True, bar_format=shape) as bar:

        def show() -> None:
            nonlocal last
            if time.monotonic() - last < BAR_SECONDS:
                return
            last = time.monotonic()
            finished = sum((study.workdir(job) / DONE_FILE).is_file() for job in jobs)
            share = sum(progress_of(study, one.job) for one in running)
            bar.n = min(finished + share, len(jobs))
            bar.set_postfix_str(", ".join(one.job.name for one in running), refresh=False)
            bar.refresh()

        yield show


def _reason(code: int, path: pathlib.Path) -> str:
    """Why a job failed: what killed it, or what it said last; its log has more."""
    if code < 0:
        return f"{killed_by(code)} ({path})"
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1].split(chr(13))[-1]} ({path})" if lines else f"it said nothing ({path})"


def stages(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that may run at the same time, stage after stage."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.name] = max((depth[name] + 1 for name in job.after), default=0)
    return [[job for job in jobs if depth[job.name] == stage] for stage in range(max(depth.values(), default=-1) + 1)]


def slurm_script(names: Sequence[str], line: Sequence[str], options: Sequence[str], folder: pathlib.Path) -> str:
    """The sbatch script of one stage: an array with one job in each task.

    Args:
      names: of the jobs.
      line: command of a job, to whose end its name is added as `--job=`.
      options: of sbatch, as the user gave them.
      folder: of the study, which receives the output.
    """
    array = [f"#SBATCH --array=0-{len(names) - 1}", f"#SBATCH --output={shlex.quote(f'{folder}/slurm-%A_%a.out')}"]
    task = f'{shlex.join(line)} "--job=${{jobs[$SLURM_ARRAY_TASK_ID]}}"'
    return "\n".join([*_head(options), *array, "set -e", f"jobs=({shlex.join(names)})", task, ""])


def slurm_page(line: Sequence[str], options: Sequence[str], folder: pathlib.Path) -> str:
    """The sbatch script that writes the page."""
    output = f"#SBATCH --output={shlex.quote(f'{folder}/slurm-%j.out')}"
    return "\n".join([*_head(options), output, "set -e", f"{shlex.join(line)} --page", ""])


def _head(options: Sequence[str]) -> list[str]:
    fixed = ("--job-name=dscgan_jax-study", "--open-mode=append", "--requeue")
    return ["#!/bin/bash", *[f"#SBATCH {option}" for option in (*fixed, *options)]]
