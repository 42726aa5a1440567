"""Maps of a folder of exams, for the modes that make maps: `predict` and `deconvolve`."""

import functools
import pathlib
import shlex
import signal

import ml_collections

from dscgan_jax.app import places
from dscgan_jax.app.output import print_folder_findings, progress_bar
from dscgan_jax.data.subject_files import CT, NOTHING_OVERRULED, Overrules
from dscgan_jax.errors import Ended, InputError
from dscgan_jax.evaluation.exam_rows import FAILED, MADE
from dscgan_jax.methods import cohort
from dscgan_jax.processes import usable_cores

MOST_WORKERS = 4  # on CPUs, unless more are asked for: each holds an exam and what is made of it


def run(
    config: ml_collections.ConfigDict, work: cohort.Work, output: pathlib.Path, workers: int | None, reader: str
) -> None:
    """Makes what is missing, and says what became of the exams.

    Args:
      config: names the folder.
      work: how maps are made.
      output: the new folder.
      workers: processes; None: `default_workers`.
      reader: one of `options.READERS`.

    Raises:
      InputError: exams failed: it says how many; or nothing could be begun.
      KeyboardInterrupt: says how many exams are done.
    """
    subjects, lost = places.find_cohort(config)
    plan = cohort.plan(work, subjects, output, places.exams_root(config), lost)
    kept = sum(outcome.row.status == MADE for outcome in plan.known.values())
    if kept:
        print(f"{kept} of {len(plan.order)} exams are there already", flush=True)
    if plan.former:
        print(f"no longer in the folder, excluded in participants.tsv: {', '.join(plan.former)}", flush=True)
    workers = workers or default_workers()
    done = len(plan.known)
    doing = {"predict": "predicting", "deconvolve": "deconvolving"}[work.made_of()["mode"]]
    try:
        with progress_bar(len(plan.order), doing, before=done) as bar:
            outcomes = cohort.run(plan, workers, bar.update, functools.partial(print, flush=True))
            done = bar.n
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        by = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        raise Ended(
            number, f"{by}; the exams that are done are in {output}, and the same command goes on from there."
        ) from None
    _say(outcomes, output, reader, _same_fields(subjects[0].overrules if subjects else NOTHING_OVERRULED))


def _same_fields(overrules: Overrules) -> list[str]:
    """Fields by which the series that the maps belong to are read as they were here."""
    fields = []
    if overrules.modality == CT:
        fields.append("--config.data.modality=ct")
    if overrules.frame_seconds:  # the headers still say something else
        fields.append(f"--config.data.tr_seconds={overrules.frame_seconds}")
    if overrules.accept:
        fields.append(f"--accept={','.join(overrules.accept)}")
    return fields


def default_workers() -> int:
    """One process for each core, at most `MOST_WORKERS`; one where there is an accelerator, which it has for itself."""
    import jax

    return min(usable_cores(), MOST_WORKERS) if jax.default_backend() == "cpu" else 1


def _say(outcomes: dict[str, cohort.Outcome], output: pathlib.Path, reader: str, fields: list[str]) -> None:
    failed = {name: one.row.reason for name, one in outcomes.items() if one.row.status == FAILED}
    made = {name: one.findings for name, one in outcomes.items() if name not in failed}
    if not made:
        first = next(iter(failed.values()))
        raise InputError(f"none of the {len(failed)} exams could be used; the first: {first}")
    print_folder_findings(made, reader)
    for subject, reason in failed.items():
        print(f"failed: {subject}: {reason}")
    print(f"{len(made)} of {len(outcomes)} exams: {output}")
    print(f"page:        {output / cohort.PAGE}\nrecords:     {output / cohort.SUMMARY}")
    print(f"to train on these maps: dscgan-jax train {shlex.join([f'--config.data.root={output}', *fields])}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(outcomes)} exams failed; {output / cohort.SUMMARY} says why. The same command "
            "tries them again."
        )
