"""Maps of a folder of exams, by any method: several exams at a time, and on from where it was stopped.

The output is a folder of the layout `bids`, ready to train on: `sub-x/perf/` holds the series (linked), maps, mask and
page of an exam (`exam_files`). Beside them are `participants.tsv`, `summary.csv`, `cohort.html` and `cohort.json`, by
which the folder is known to be ours.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from dscgan_jax import provenance
from dscgan_jax import workers as side_by_side
from dscgan_jax.data import bids_derivative, layouts
from dscgan_jax.data.layouts import bids
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.errors import InputError, brief, disk_is_full
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import FAILED
from dscgan_jax.files import write_whole
from dscgan_jax.methods.exam_files import FORMER_SEAL, SEAL, Job, Maker, Outcome, failed, job_of, kept, make
from dscgan_jax.pages import cohort as cohort_page
from dscgan_jax.processes import interrupted_by_signals

MARK, SUMMARY, PAGE = "cohort.json", "summary.csv", "cohort.html"
_LOCK = ".cohort.lock"
LOCK_SECONDS = 10.0  # the processes of a run that was killed take as long to end
_LOCK_TRIES = 10  # on some file systems the open file is never the file of that name
_LOOK_SECONDS = 0.1


class Work(Protocol):
    """How maps are made: a frozen dataclass that can be pickled."""

    def made_of(self) -> dict[str, Any]:
        """What decides the maps besides the exam's files: plain JSON values, `mode` among them."""
        ...

    def about(self) -> dict[str, str]:
        """Fields of `ExamRow` that are the same for all exams: the method, the network."""
        ...

    def maker(self) -> Maker:
        """What makes the maps, with all that every exam needs read once."""
        ...


@dataclasses.dataclass(frozen=True)
class Stopped:
    """Why no exam can be made any more, such as a full disk."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done for a cohort.

    Attributes:
      work: how.
      output: the folder.
      source: of the exams, as it is shown.
      order: subjects, all of them, as rows are listed.
      known: outcomes there are already: exams made before of the same, and those that cannot even be begun.
      missing: the others.
      former: exams in the output that are none of the cohort any more: nobody may train on them unawares.
    """

    work: Work
    output: pathlib.Path
    source: str
    order: tuple[str, ...]
    known: Mapping[str, Outcome]
    missing: tuple[Job, ...]
    former: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Doing:
    """The work as `workers` takes it: what fails is an outcome too."""

    work: Work

    def begin(self) -> Callable[[Job], Outcome | Stopped]:
        """What does a job; the network is read with the first one."""
        makers: list[Maker] = []

        def do(job: Job) -> Outcome | Stopped:
            try:
                if not makers:
                    makers.append(self.work.maker())
                return make(job, makers[0], self.work.about())
            except Exception as error:
                if disk_is_full(error):
                    return Stopped(f"{job.folder}: the disk is full; free some space and give the command again.")
                return failed(job.subject, job.files.split, _reason(error), getattr(error, "findings", ()))

        return do


def plan(
    work: Work,
    subjects: Sequence[SubjectFiles],
    output: pathlib.Path | str,
    source: pathlib.Path | str,
    lost: Mapping[str, str] | None = None,
) -> Plan:
    """Looks at what is there already, before anything long starts.

    Args:
      work: how maps are made.
      subjects: what `layouts.listed` found, usable or not, without those that are excluded.
      output: the new folder.
      source: the folder of the exams.
      lost: {subject: why it cannot be begun}, of subjects without files.

    Raises:
      InputError: the output is a file, holds the exams, or files of somebody else, or the maps of another method or
        other exams.
    """
    output = pathlib.Path(output)
    names = {bids.name_of(files.subject): files for files in subjects}
    if len(names) < len(subjects):
        twice = next(files for files in subjects if names[bids.name_of(files.subject)] is not files)
        raise InputError(f"subjects {twice.subject} and {names[bids.name_of(twice.subject)].subject} are one name.")
    decides = work.made_of()
    source = str(pathlib.Path(source).resolve())
    ours = {"mode": decides["mode"], "source": source, "desc": decides.get("desc", "")}
    check_output(output, subjects, ours)
    decides |= {"version": provenance.software_versions()["dscgan_jax"]}
    known = {bids.name_of(one): failed(bids.name_of(one), None, why) for one, why in (lost or {}).items()}
    missing = []
    for name, files in names.items():
        try:
            job = job_of(files, output, decides)
        except InputError as error:
            known[name] = failed(name, files.split, str(error))
            continue
        if (before := kept(job)) is not None:
            known[name] = before
        else:
            missing.append(job)
    order = tuple(sorted({*names, *known}))
    there = {path.name.removesuffix(SEAL) for path in output.glob(f"sub-*/**/perf/sub-*{SEAL}")}
    return Plan(work, output, source, order, known, tuple(missing), tuple(sorted(there.difference(order))))


def check_output(output: pathlib.Path, subjects: Sequence[SubjectFiles], ours: Mapping[str, str]) -> None:
    """Refuses a folder in which something of the user's would be overwritten.

    Args:
      output: the folder; it need not be there.
      subjects: of the cohort.
      ours: what the mark of a folder for this cohort holds.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder.")
    series = [path for files in subjects for path in (files.series.absolute(), files.series.resolve())]
    if any(path.is_relative_to(output.resolve()) for path in series):  # links and what they lead to
        raise InputError(f"--output={output} holds the exams themselves; give another folder.")
    if (mark := output / MARK).is_file():
        stored = read_sidecar(mark)
        if {name: stored.get(name, "") for name in ours} != dict(ours):
            raise InputError(
                f"--output={output} holds the maps of another cohort ({stored.get('mode')} of {stored.get('source')}); "
                "give another folder."
            )
    elif not any(output.glob(f"sub-*/perf/sub-*_{FORMER_SEAL}")):
        names = ("participants.tsv", SUMMARY, PAGE, *(bids.name_of(files.person) for files in subjects))
        if there := [name for name in names if os.path.lexists(output / name)]:
            raise InputError(
                f"--output={output} holds {there[0]}, which this program did not write; give another folder."
            )


def run(
    cohort: Plan,
    workers: int = 1,
    progress: Callable[[int], Any] | None = None,
    tell: Callable[[str], Any] | None = None,
) -> dict[str, Outcome]:
    """Makes what is missing; whatever interrupts it, what is there is whole, and the records tell of it.

    Args:
      cohort: from `plan`.
      workers: processes; with 1 it is this one.
      progress: called with 1 after each exam.
      tell: called with a line where another process is waited for.

    Returns:
      {subject: what became of it}.

    Raises:
      InputError: the disk is full, or another process is writing into the folder.
    """
    outcomes = dict(cohort.known)

    def done(job: Job, outcome: Outcome | Stopped) -> None:
        if isinstance(outcome, Stopped):
            raise InputError(outcome.reason)
        outcomes[job.subject] = outcome
        write_records(cohort, outcomes)  # after each exam: whoever is killed keeps them
        if progress is not None:
            progress(1)

    def lost(job: Job, reason: str) -> None:
        done(job, failed(job.subject, job.files.split, reason))

    with interrupted_by_signals(), only_one(cohort.output, tell) as lock:
        write_mark(cohort)
        try:
            write_records(cohort, outcomes)
            if min(workers, len(cohort.missing)) > 1:
                side_by_side.run_all(Doing(cohort.work), cohort.missing, workers, done, lost, [lock])
            else:
                do = Doing(cohort.work).begin()
                for job in cohort.missing:
                    done(job, do(job))
        finally:
            write_page(cohort, outcomes)
    return outcomes


def write_records(cohort: Plan, outcomes: Mapping[str, Outcome]) -> None:
    """`summary.csv` of the exams there are so far, and `participants.tsv` of all."""
    if not (cohort.output / MARK).is_file():  # somebody removed the folder: what comes into it now is ours, too
        write_mark(cohort)
    rows = [outcomes[name].row for name in cohort.order if name in outcomes]
    exam_rows.write(cohort.output / SUMMARY, rows)
    # Maps of an earlier way that are not replaced yet: nobody may train on a mixture.
    splits = {
        job.subject: layouts.EXCLUDE if (job.folder / f"{job.subject}_dsc.json").is_file() else job.files.split
        for job in cohort.missing
    }
    splits |= {row.subject: layouts.EXCLUDE if row.status == FAILED else row.split for row in rows}
    former = dict.fromkeys(cohort.former, layouts.EXCLUDE)
    layouts.write_participants(cohort.output, {name: splits[name] for name in cohort.order} | former)


def write_page(cohort: Plan, outcomes: Mapping[str, Outcome]) -> pathlib.Path:
    """`cohort.html` of the exams there are so far."""
    rows = [outcomes[name].row for name in cohort.order if name in outcomes]
    path = cohort.output / PAGE
    write_whole(path, cohort_page.page(rows, len(cohort.order), cohort.source, cohort.work.made_of()))
    return path


def write_mark(cohort: Plan) -> None:
    """`cohort.json`: whose folder this is, and how its maps are made; and what makes it a BIDS derivative."""
    record = {"source": cohort.source, **cohort.work.made_of(), "software": provenance.software_versions()}
    cohort.output.mkdir(parents=True, exist_ok=True)
    write_whole(cohort.output / MARK, json.dumps(record, indent=1) + "\n")
    about = cohort.work.about()
    how = f"maps by {about.get('network') or about['method']}"
    bids_derivative.describe(cohort.output, how, pathlib.Path(cohort.source))


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory; give fewer --workers"
    return f"{type(error).__name__}: {brief(error)} (a defect of dscgan_jax: this exam alone with --debug shows where)"


@contextlib.contextmanager
def only_one(output: pathlib.Path, tell: Callable[[str], Any] | None = None) -> Iterator[int]:
    """Within it, no other process makes this cohort.

    The lock goes with the processes that hold the open file, of which this gives the number, however they end: those of
    a run that was killed a moment ago are waited for, which `tell` is called with a line of.
    """
    end = time.monotonic() + LOCK_SECONDS
    while (lock := _locked(output)) is None:
        if time.monotonic() > end:
            raise InputError(f"{output}: another process is making these maps; wait for it.")
        if tell is not None:
            tell(f"{output}: another process is making these maps; it is waited for, for {LOCK_SECONDS:.0f} s")
            tell = None
        time.sleep(_LOOK_SECONDS)
    with lock:
        try:
            yield lock.fileno()
        finally:
            with contextlib.suppress(OSError):
                (output / _LOCK).unlink()


def _locked(output: pathlib.Path) -> IO[bytes] | None:
    """The lock file, open and locked where the file system has locks; None while another process has it."""
    for again in reversed(range(_LOCK_TRIES)):
        try:
            output.mkdir(parents=True, exist_ok=True)
            lock = open(output / _LOCK, "wb")  # noqa: SIM115 - closed by the caller
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); give another --output.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        except OSError:  # a file system without locks
            return lock
        with contextlib.suppress(OSError):
            if not again or os.path.samestat(os.fstat(lock.fileno()), (output / _LOCK).stat()):
                return lock
        lock.close()  # another process removed it in this moment: a lock on it would lock nobody out
    return None
