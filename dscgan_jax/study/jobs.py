"""What each kind of job does, in this process."""

import dataclasses
import json
import pathlib
import time
from typing import Any

import ml_collections

from dscgan_jax import settings
from dscgan_jax.app import comparators, evaluate, places, start, train
from dscgan_jax.app.output import progress_bar
from dscgan_jax.app.prepare import prepare
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole
from dscgan_jax.phantom import cohort
from dscgan_jax.processes import usable_cores
from dscgan_jax.speed import machine
from dscgan_jax.study import plan
from dscgan_jax.study.plan import DIFFICULT, Job, Study
from dscgan_jax.training import tracking
from dscgan_jax.training.workdir import CONFIG_FILE, only_run

DONE_FILE = "job.json"  # is written when a job has done everything
TEST = "test"


@dataclasses.dataclass(frozen=True)
class Done:
    """What is kept of a job that is done.

    Attributes:
      kind: of the job.
      seconds: of its process, start and compiling included.
      resumed: whether a process before it was stopped, whose seconds nobody counted.
      records: folder of `subjects.csv`, below the study's; empty where nothing was scored.
      config: of the job.
      steps_per_second: of a training, compiling and validation included; None otherwise, or where it was resumed.
      device: the kind of processor.
      cores: that the process might use.
    """

    kind: str
    seconds: float
    resumed: bool
    records: str
    config: dict[str, Any]
    steps_per_second: float | None
    device: str
    cores: int

    @classmethod
    def of(cls, study: Study, job: Job) -> "Done | None":
        """Of a job; None where it is not done.

        Raises:
          InputError: its record is damaged, or it was done with another config than it would have now.
        """
        path = study.workdir(job) / DONE_FILE
        if not path.is_file():
            return None
        try:
            done = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error}); remove it, and the job is done again.") from error
        if job.kind == plan.PREPARE:  # its name says what is prepared; its config is that of whoever needs it first
            return done
        try:
            settings.check_same_run(done.config, study.config(job), path.parent)
        except InputError as error:
            reason = str(error).partition("; resume with")[0]
            raise InputError(f"{reason}; remove that folder, and the job is done again.") from error
        return done


def run(study: Study, job: Job) -> None:
    """Does a job, or what is left of it, and says in its folder that it is done; nothing where it is.

    Raises:
      InputError: as the modes that it stands for, another process does it, or it was done with another config.
    """
    begun = time.time()
    if Done.of(study, job):
        return
    config = study.config(job)
    start.set_up(config)
    workdir = study.workdir(job)
    workdir.mkdir(parents=True, exist_ok=True)
    with only_run(workdir):
        resumed = (workdir / tracking.FILE_NAME).is_file()
        records = _do(study, job, config, workdir)
    hardware = machine.hardware()
    done = Done(
        kind=job.kind,
        seconds=round(time.time() - begun, 1),
        resumed=resumed,
        records=str(records.relative_to(study.folder)) if records else "",
        config=settings.to_json(config),
        steps_per_second=_steps_per_second(workdir) if job.kind in plan.TRAINS and not resumed else None,
        device=str(hardware["device"]),
        cores=usable_cores(),
    )
    write_whole(workdir / DONE_FILE, json.dumps(dataclasses.asdict(done), indent=1) + "\n")


def _do(study: Study, job: Job, config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path | None:
    """Does the job; returns the folder of its records."""
    if job.kind == plan.PREPARE:
        if job.cohort == DIFFICULT:
            _draw_difficult(study, config)
        else:
            prepare(config)
        return None
    if job.kind in plan.TRAINS:
        train.run(config, workdir)
        return workdir / "evaluation" / TEST
    if job.kind in (plan.CONVENTIONAL, plan.TRUE_AIF, plan.TREES):
        comparators.run(config, workdir, "trees" if job.kind == plan.TREES else "conventional")
        return workdir / "evaluation" / TEST
    donor = study.workdir(job.of)
    return evaluate.of_run(places.with_root(config), donor, TEST, "best", given=given_of(config))


def given_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Fields of conventional methods by which a job overrules the config of the run that it scores."""
    return ("evaluate.baselines", *(["conventional.aif"] if config.evaluate.baselines else []))


def _draw_difficult(study: Study, config: ml_collections.ConfigDict) -> None:
    """Difficult exams into the study's own folder, all of them to be scored."""
    folder = study.difficult_folder
    if (folder / "participants.tsv").is_file():
        return
    with progress_bar(config.phantom.subjects, "simulating") as bar:
        cohort.write_cohort(
            folder,
            preset=DIFFICULT,
            subjects=config.phantom.subjects,
            seed=config.phantom.seed,
            size=config.phantom.size,
            slices=config.phantom.slices,
            split_fractions=(0.0, 0.0, 1.0),
            progress=bar.update,
        )


def _steps_per_second(workdir: pathlib.Path) -> float | None:
    """From when the run began to its last row of `metrics.jsonl`."""
    log, claimed = workdir / tracking.FILE_NAME, workdir / CONFIG_FILE
    rows = tracking.read_rows(log)
    seconds = log.stat().st_mtime - claimed.stat().st_mtime
    return round(rows[-1]["step"] / seconds, 3) if rows and seconds > 0 else None


def progress_of(study: Study, job: Job) -> float:
    """Share of a job that is done, as far as its folder tells: of a training, its steps."""
    if Done.of(study, job):
        return 1.0
    if job.kind not in plan.TRAINS:
        return 0.0
    try:
        rows = tracking.read_rows(study.workdir(job) / tracking.FILE_NAME)
    except InputError:
        return 0.0
    config = study.config(job)
    if not rows:
        return 0.0
    share = rows[-1]["step"] / config.train.steps if config.train.steps else rows[-1]["epoch"] / config.train.epochs
    return min(share, 1.0)
