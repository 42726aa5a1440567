"""One subject of the prepared data set, made anywhere: its examples, and what the set's description holds of it.

Where several machines write shards, each leaves the subject's facts in a file; `together` reads them once all stand.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dscgan_jax.data import exams, features, preparation, subject_files
from dscgan_jax.data.ranges import RangeGatherer
from dscgan_jax.errors import InputError
from dscgan_jax.files import replacing
from dscgan_jax.findings import Finding, by_severity

ABOUT = "about"  # entry of a file of facts, beside the arrays of `RangeGatherer`


@dataclasses.dataclass(frozen=True)
class BeamRun:
    """How Apache Beam builds the data set: each subject on whichever worker is free.

    Attributes:
      runner: name of a Beam runner.
      options: its own, as on a command line.
    """

    runner: str
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the description of the data set holds of one exam.

    Attributes:
      subject: its name.
      mask_source: where its mask came from.
      findings: of the exam and its preparation.
      gathered: values of an exam to train on; None for others.
      likeness: what such an exam is like; likewise.
    """

    subject: str
    mask_source: str
    findings: tuple[Finding, ...]
    gathered: RangeGatherer | None
    likeness: features.ExamFeatures | None

    def write(self, path: pathlib.Path) -> None:
        """Into a file of numbers and text, whole or not at all."""
        about = {
            "subject": self.subject,
            "mask_source": self.mask_source,
            "findings": [finding.to_json() for finding in self.findings],
            "likeness": None if self.likeness is None else dataclasses.asdict(self.likeness),
        }
        arrays = {} if self.gathered is None else self.gathered.to_arrays()
        with replacing(path) as file:
            np.savez(file, **{ABOUT: np.array(json.dumps(about)), **arrays})  # pyright: ignore[reportArgumentType]

    @classmethod
    def read(cls, path: pathlib.Path) -> "Facts":
        """Inverse of `write`; reading executes nothing."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(str(arrays.pop(ABOUT)))
        likeness = about["likeness"] and features.ExamFeatures(**about["likeness"])
        findings = tuple(map(Finding.from_json, about["findings"]))
        gathered = RangeGatherer.from_arrays(arrays) if arrays else None
        return cls(about["subject"], about["mask_source"], findings, gathered, likeness)


class Task(NamedTuple):
    """An exam to prepare here.

    Attributes:
      files: of the subject.
      known: findings that come of comparing all subjects.
      to_train_on: whether it is in the training split.
    """

    files: subject_files.SubjectFiles
    known: tuple[Finding, ...]
    to_train_on: bool


class Prepared(NamedTuple):
    """What becomes of it: an exam on the network grid, and what it is like, where it is to train on."""

    exam: preparation.PreparedExam
    likeness: features.ExamFeatures | None


@dataclasses.dataclass(frozen=True)
class Shard:
    """One subject, as Beam takes it.

    Attributes:
      files: of the subject.
      settings: how it is prepared.
      known: findings that come of comparing all subjects.
      n_train: subjects to train on, which share the sample of values; 0: this is none of them.
      facts: file that receives its facts.
    """

    files: subject_files.SubjectFiles
    settings: preparation.PreparationSettings
    known: tuple[Finding, ...]
    n_train: int
    facts: pathlib.Path

    def __call__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The examples, once the facts are written.

        Raises:
          InputError: the exam cannot be used.
        """
        exam, prepared = prepared_of(self.files, self.settings, self.known)
        gathered, likeness = None, None
        if self.n_train:
            gathered, likeness = RangeGatherer(self.n_train), features.features_of(exam)
            gathered.add(prepared)
        Facts(self.files.subject, prepared.mask_source, prepared.findings, gathered, likeness).write(self.facts)
        yield from examples_of(prepared)


@dataclasses.dataclass(frozen=True)
class Preparing:
    """The preparation of exams by `workers`; a task is one exam.

    Attributes:
      settings: how they are prepared.
    """

    settings: preparation.PreparationSettings

    def begin(self) -> Callable[[Task], Prepared | InputError]:
        """Once in each process."""
        return self.prepare

    def prepare(self, task: Task) -> Prepared | InputError:
        """An exam, or why it cannot be used."""
        try:
            exam, prepared = prepared_of(task.files, self.settings, task.known)
        except InputError as error:
            return error
        return Prepared(prepared, features.features_of(exam) if task.to_train_on else None)


def together(paths: Sequence[pathlib.Path]) -> list[Facts]:
    """The facts that shards of this very build left, in this order."""
    return [Facts.read(path) for path in paths]


def prepared_of(
    files: subject_files.SubjectFiles, settings: preparation.PreparationSettings, known: Sequence[Finding]
) -> tuple[exams.Exam, preparation.PreparedExam]:
    """An exam, and the same on the network grid with all its findings.

    Raises:
      InputError: as `load_exam` and `prepare`.
    """
    exam = exams.load_exam(files)
    prepared = preparation.prepare(exam, settings)
    return exam, dataclasses.replace(prepared, findings=by_severity((*prepared.findings, *known)))


def examples_of(prepared: preparation.PreparedExam) -> Iterator[tuple[str, dict[str, Any]]]:
    """One example for each slice, with its key."""
    for index in range(prepared.dsc.shape[0]):
        yield (
            f"{prepared.subject}_slice-{index:03d}",
            {
                "dsc": prepared.dsc[index],
                "dsc_scale": prepared.dsc_scale,
                "maps": np.ascontiguousarray(prepared.maps[index]),
                "has_map": prepared.has_map.astype(np.uint8),
                "mask": np.ascontiguousarray(prepared.mask[index]).astype(np.uint8),
                "baseline_begin": prepared.baseline_begin,
                "baseline_end": prepared.baseline_end,
                "brain_signal": prepared.brain_signal,
                "echo_seconds": prepared.echo_seconds,
                "frame_seconds": prepared.frame_seconds,
                "subject": prepared.subject,
                "slice_index": index,
                "findings": " ".join(finding.short() for finding in prepared.findings),
            },
        )
