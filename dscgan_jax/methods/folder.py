"""Conventional maps in files: of one exam, or of a folder of exams that a network can be trained on."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dscgan_jax import provenance
from dscgan_jax.data import aif as arterial_inputs
from dscgan_jax.data import layouts, nifti
from dscgan_jax.data.derivatives import write_turned
from dscgan_jax.data.exams import CT, NOTHING_OVERRULED, Exam, Overrules, SubjectFiles, load_exam, lone_series
from dscgan_jax.data.layouts import bids
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.files import all_or_nothing, write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAP_NAMES, MORE_MAPS
from dscgan_jax.methods.conventional import DEFAULTS, Deconvolved, deconvolved, plain
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.conventional import Settings


def deconvolve_file(
    series: SubjectFiles | pathlib.Path | str,
    output: pathlib.Path | str,
    settings: Settings = DEFAULTS,
    *,
    aif: pathlib.Path | str = arterial_inputs.AUTOMATIC,
    mask: pathlib.Path | str | None = None,
    overrules: Overrules = NOTHING_OVERRULED,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """One exam -> maps, AIF, pictures and page in `output`.

    Args:
      series: the files of an exam, or the path of a lone series, to which `mask` and `overrules` belong.
      output: the folder.
      settings: how the maps are made.
      aif: as in `data.aif.given_of`.
      mask: NIfTI mask of the tissue of the brain.
      overrules: what the user knows better than the files.

    Returns:
      what was written and is worth opening, and the findings.

    Raises:
      InputError: the file is not a usable series, or there is no usable AIF.
    """
    files = series if isinstance(series, SubjectFiles) else lone_series(series, overrules, mask)
    output = pathlib.Path(output)
    exam = load_exam(files)
    own_aif = files.series.with_name(f"{exam.subject}_aif.tsv")
    given = arterial_inputs.given_of(exam, aif, own_aif if own_aif.is_file() else None)
    result = deconvolved(exam, settings, given)
    with all_or_nothing(output) as folder:
        paths = write_all(result, exam, folder, exam.subject)
    _remove_stale(result, output, exam.subject)
    return [output / path.name for path in paths], result.maps.findings


def deconvolve_folder(
    settings: Settings,
    subjects: Sequence[SubjectFiles],
    output: pathlib.Path | str,
    aif: str = arterial_inputs.AUTOMATIC,
    progress: Callable[[int], Any] | None = None,
) -> tuple[dict[str, str], dict[str, tuple[Finding, ...]]]:
    """Every exam of a folder -> a `bids` folder with the same series (linked) and our maps, ready to train on.

    Exams whose maps are there already, made of the same files with the same settings, are left as they are.

    Args:
      settings: how the maps are made.
      subjects: what `layouts.find_subjects` found.
      output: the new folder.
      aif: as in `data.aif.given_of`; one file cannot serve a whole folder.
      progress: called with 1 after each exam.

    Returns:
      {subject: why it was left out}, which is excluded in the new participants.tsv, and {subject: its findings}.

    Raises:
      InputError: the output is the exams' own folder, or no exam could be used.
    """
    output = pathlib.Path(output)
    check_folder(subjects, output, aif)
    refused: dict[str, str] = {}
    findings: dict[str, tuple[Finding, ...]] = {}
    for files in subjects:
        try:
            findings[files.subject] = _deconvolve_subject(files, settings, output, aif)
        except InputError as error:
            refused[files.subject] = str(error)
        if len(refused) < len(subjects):  # after each exam: whoever is interrupted keeps the splits
            splits = {one.subject: layouts.EXCLUDE if one.subject in refused else one.split for one in subjects}
            layouts.write_participants(output, {bids.name_of(subject): split for subject, split in splits.items()})
        if progress is not None:
            progress(1)
    if len(refused) == len(subjects):
        raise InputError(f"none of the {len(subjects)} exams could be used; the first: {next(iter(refused.values()))}")
    return refused, findings


def check_folder(subjects: Sequence[SubjectFiles], output: pathlib.Path, aif: str) -> None:
    """Refuses, before anything long starts, what cannot work for a folder."""
    if aif not in (arterial_inputs.AUTOMATIC, arterial_inputs.FROM_FOLDER):
        raise InputError(
            f"--aif={aif}: one file cannot serve a whole folder; give auto, or files (each exam's own aif.tsv)."
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder.")
    series = [path for files in subjects for path in (files.series.absolute(), files.series.resolve())]
    if any(path.is_relative_to(output.resolve()) for path in series):  # links and what they lead to
        raise InputError(f"--output={output} holds the exams themselves; give another folder.")


def write_all(result: Deconvolved, exam: Exam, folder: pathlib.Path, stem: str) -> list[pathlib.Path]:
    """The maps, where they were made, the AIF and its voxels, pictures and a page."""
    paths = result.maps.save(folder, stem)
    measured = result.found.measured
    write_turned(folder / f"{stem}_mask.nii.gz", measured.tissue.astype(np.uint8), exam.stored, dtype=np.uint8)
    arterial = measured.arterial.delta_r2star.astype(np.float64)
    concentration = kinetics.concentration_of(arterial, kinetics.BLOOD_RELAXIVITY)
    seconds = np.arange(len(concentration)) * exam.frame_seconds
    arterial_inputs.write_curve(folder / f"{stem}_aif.tsv", seconds, concentration)
    if measured.arterial.mask is not None:
        arteries = measured.arterial.mask.astype(np.uint8)
        write_turned(folder / f"{stem}_aifmask.nii.gz", arteries, exam.stored, dtype=np.uint8)
    exam_page.write(folder, stem, result.found, result.series, exam.affine, result.settings, result.maps.findings)
    return [*paths, *(folder / f"{stem}_{name}" for name in ("maps.png", "aif.png", "qc.html"))]


def _deconvolve_subject(files: SubjectFiles, settings: Settings, output: pathlib.Path, aif: str) -> tuple[Finding, ...]:
    """Writes one exam's files, unless they are there already, made of the same; returns its findings."""
    perf, subject = bids.place_of(output, files)
    # What decides the maps, written last: without it, or with another one, they are made again.
    made_of = {
        "settings": plain(settings),
        "aif": aif,
        "overrules": json.loads(json.dumps(files.overrules.record())),
        "version": provenance.software_versions()["dscgan_jax"],
        "files": [_file_record(path) for path in (files.series, *files.sidecars, files.mask, files.aif)],
    }
    seal = perf / f"{subject}_conventional.json"
    stored = read_sidecar(seal) if seal.is_file() else {}
    if stored.get("made_of") == made_of and all((perf / f"{subject}_{name}.nii.gz").is_file() for name in MAP_NAMES):
        return tuple(map(Finding.from_json, stored["findings"]))
    exam = dataclasses.replace(load_exam(dataclasses.replace(files, maps={})), subject=subject)
    result = deconvolved(exam, settings, arterial_inputs.given_of(exam, aif, files.aif))
    seal.unlink(missing_ok=True)
    _remove_stale(result, perf, subject)
    with all_or_nothing(perf) as folder:
        ending = ".nii.gz" if files.series.name.lower().endswith(".gz") else ".nii"
        _link(files.series, folder / f"{subject}_dsc{ending}")
        timing: dict[str, Any] = {"RepetitionTime": exam.frame_seconds}
        if np.isfinite(exam.echo_seconds):
            timing["EchoTime"] = exam.echo_seconds
        if exam.modality == CT:
            timing["Modality"] = "CT"
        write_whole(folder / f"{subject}_dsc.json", json.dumps(timing, indent=1) + "\n")
        write_all(result, exam, folder, subject)
    findings = [finding.to_json() for finding in result.maps.findings]
    write_whole(seal, json.dumps({"made_of": made_of, "findings": findings}, indent=1) + "\n")
    return result.maps.findings


def _remove_stale(result: Deconvolved, folder: pathlib.Path, stem: str) -> None:
    """What an earlier run wrote and this one does not: arterial voxels, maps of a correction of leakage."""
    for name in MORE_MAPS:
        if name not in result.maps.volumes:
            for ending in (".nii.gz", ".json"):
                (folder / f"{stem}_{name}{ending}").unlink(missing_ok=True)
    if result.found.measured.arterial.mask is None:
        (folder / f"{stem}_aifmask.nii.gz").unlink(missing_ok=True)


def _file_record(path: pathlib.Path | None) -> list[Any] | None:
    """What changes when a file changes."""
    if path is None:
        return None
    nifti.present(path)  # refuses a link that leads nowhere
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        os.symlink(source.resolve(), target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
