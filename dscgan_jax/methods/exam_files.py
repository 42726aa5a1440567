"""One exam of a cohort: its files in, a folder `sub-x/perf` of maps out, and the seal by which it is known again.

The *seal*, `sub-x_outcome.json`, is written last: what the maps were made of, which files there are, and the exam's
row. Without it, or with another one, the maps are made again; while they come into place, it only names files.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import layouts, nifti
from dscgan_jax.data.derivatives import ExamMaps, write_turned
from dscgan_jax.data.exams import Exam, load_exam
from dscgan_jax.data.layouts import bids
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.data.subject_files import CT, SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import FAILED, ExamRow
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.figures import thumbnail
from dscgan_jax.files import all_or_nothing, write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS, MORE_MAPS

SEAL = "_outcome.json"
UNEQUAL_SECONDS = 1e-3  # between frames: they were resampled, and the linked series was not
FORMER_SEAL = "conventional.json"  # of older versions
_ALSO_FORMER = (*(f"{name}{end}" for name in MORE_MAPS for end in (".nii.gz", ".json")), "aifmask.nii.gz", "qc.html")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a method made of one exam.

    Attributes:
      maps: with the mask of the brain.
      read_out: what is read from them.
      write: writes them into a folder with all that belongs to them, and returns the name of the exam's page.
      aif_quality: 0 to 1; None without an AIF.
    """

    maps: ExamMaps
    read_out: ReadOut
    write: Callable[[pathlib.Path], str]
    aif_quality: float | None = None


Maker = Callable[[Exam, SubjectFiles], Result]


@dataclasses.dataclass(frozen=True)
class Job:
    """One exam that is to be made.

    Attributes:
      files: of the exam; its maps are not read.
      subject: its name in the output, `sub-...`.
      folder: `sub-.../[ses-.../]perf` in the output.
      within: the same, from the output on.
      made_of: what decides its maps: with another one they are made again.
    """

    files: SubjectFiles
    subject: str
    folder: pathlib.Path
    within: str
    made_of: dict[str, Any]

    @property
    def seal(self) -> pathlib.Path:
        """Written last."""
        return self.folder / f"{self.subject}{SEAL}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one exam: its row, and its findings in full."""

    row: ExamRow
    findings: tuple[Finding, ...] = ()


def make(job: Job, maker: Maker, about: Mapping[str, str]) -> Outcome:
    """Makes one exam and writes its files, all of them or none.

    Raises:
      InputError: the exam cannot be used, or its folder cannot be written.
    """
    begun = time.perf_counter()
    exam = dataclasses.replace(load_exam(job.files), subject=job.subject)
    result = maker(exam, job.files)
    stale = _files_of(job)
    try:
        with all_or_nothing(job.folder) as folder:
            _write_series(job, exam, folder)
            page = result.write(folder)
            small = _write_thumbnail(folder, result.maps)
            files = sorted(path.name for path in folder.iterdir())
            # Should this run be killed while the files come into place, the next one knows them all.
            write_whole(job.seal, json.dumps({"files": sorted(stale.union(files))}) + "\n")
    finally:
        for empty in job.folder.parents[: job.within.count("/")]:
            with contextlib.suppress(OSError):
                empty.rmdir()  # only where nothing came into it
    for name in stale.difference(files):
        (job.folder / name).unlink(missing_ok=True)
    measured: dict[str, Any] = {**exam_rows.numbers_of(result.maps, result.read_out), **about}
    row = ExamRow(
        subject=job.subject,
        split=job.files.split,
        seconds=round(time.perf_counter() - begun, 3),
        aif_quality=result.aif_quality,
        warnings=exam_rows.names_of(result.maps.findings, notes=False),
        notes=exam_rows.names_of(result.maps.findings, notes=True),
        **measured,
        page=f"{job.within}/{page}",
        thumbnail=f"{job.within}/{small}" if small else "",
    )
    findings = [finding.to_json() for finding in result.maps.findings]
    record = {"made_of": job.made_of, "files": files, "row": row.to_json(), "findings": findings}
    write_whole(job.seal, json.dumps(record, indent=1) + "\n")
    return Outcome(row, result.maps.findings)


def failed(subject: str, split: str | None, reason: str, findings: Sequence[Finding] = ()) -> Outcome:
    """The outcome of an exam without maps."""
    warnings = exam_rows.names_of(findings, notes=False)
    notes = exam_rows.names_of(findings, notes=True)
    reason = reason.removeprefix(f"{subject}: ")
    return Outcome(ExamRow(subject, split, FAILED, reason, warnings=warnings, notes=notes), tuple(findings))


def job_of(files: SubjectFiles, output: pathlib.Path, decides: Mapping[str, Any]) -> Job:
    """The job of an exam, whose maps are not read.

    Raises:
      InputError: it has no series, or a link leads nowhere or out of the output.
    """
    layouts.check_series(files)
    files = dataclasses.replace(files, maps={})
    records = [_file_record(path) for path in (files.series, *files.sidecars, files.mask, files.aif)]
    made_of = {**decides, "overrules": files.overrules.record(), "files": records}
    folder, name = bids.place_of(output, files)
    if not folder.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{folder}: a link in the output leads to {folder.resolve()}, out of it; remove the link.")
    within = folder.relative_to(output).as_posix()
    return Job(files, name, folder, within, json.loads(json.dumps(made_of)))  # as the seal gives it back


def kept(job: Job) -> Outcome | None:
    """The outcome of an exam that was made before of the very same, if all of it is still there."""
    if not job.seal.is_file():
        return None
    with contextlib.suppress(InputError, KeyError, TypeError, ValueError):  # of another version, or damaged
        stored = read_sidecar(job.seal)
        there = all((job.folder / name).exists() for name in stored["files"])
        if stored["made_of"] == job.made_of and there:
            row = dataclasses.replace(ExamRow.from_json(stored["row"]), split=job.files.split)
            return Outcome(row, tuple(map(Finding.from_json, stored["findings"])))
    return None


def _files_of(job: Job) -> set[str]:
    """Files that an earlier run left in the exam's folder: what is not written again must not stay."""
    if (former := job.folder / f"{job.subject}_{FORMER_SEAL}").is_file():
        return {former.name, *(f"{job.subject}_{name}" for name in _ALSO_FORMER)}
    with contextlib.suppress(InputError, TypeError):
        names = read_sidecar(job.seal).get("files", ())
        return {name for name in names if name.startswith((f"{job.subject}_", f"{job.subject}.")) and "/" not in name}
    return set()


def _file_record(path: pathlib.Path | None) -> list[Any] | None:
    """What changes when a file changes."""
    if path is None:
        return None
    nifti.present(path)  # refuses a link that leads nowhere
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _write_series(job: Job, exam: Exam, folder: pathlib.Path) -> None:
    """The series itself, linked, and its timing as it was understood."""
    ending = ".nii.gz" if job.files.series.name.lower().endswith(".gz") else ".nii"
    target = folder / f"{job.subject}_dsc{ending}"
    try:
        os.symlink(job.files.series.resolve(), target)
    except OSError:  # a file system without links
        shutil.copyfile(job.files.series, target)
    timing: dict[str, Any] = {"RepetitionTime": exam.frame_seconds}
    if exam.acquired_seconds is not None and np.ptp(np.diff(exam.acquired_seconds)) > UNEQUAL_SECONDS:
        timing = {"VolumeTiming": [round(float(second), 4) for second in exam.acquired_seconds]}
    if np.isfinite(exam.echo_seconds):
        timing["EchoTime"] = exam.echo_seconds
    if exam.modality == CT:
        timing["Modality"] = "CT"
    write_whole(folder / f"{job.subject}_dsc.json", json.dumps(timing, indent=1) + "\n")


def _write_thumbnail(folder: pathlib.Path, maps: ExamMaps) -> str:
    """A small picture of Tmax, or else of the first map; returns its name."""
    name = "tmax" if "tmax" in maps.volumes else next((one for one in MAPS if one in maps.volumes), "")
    if not name or maps.mask is None or not maps.mask.any():
        return ""
    voxel_mm = voxel_sizes(maps.affine)
    path = folder / f"{maps.subject}_thumbnail.png"
    thumbnail.write(path, name, maps[name], maps.mask, float(voxel_mm[1] / voxel_mm[0]))
    return path.name


def write_mask(folder: pathlib.Path, maps: ExamMaps) -> None:
    """The mask of the brain beside the maps, by which they can be learned from."""
    if maps.mask is not None:
        path = folder / f"{maps.subject}_mask.nii.gz"
        write_turned(path, maps.mask.astype(np.uint8), maps.stored, dtype=np.uint8)
