"""Exams -> conventional maps in files: one file, a folder that can be trained on, or a baseline beside a network."""

import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from dscgan_jax.data import layouts, nifti, same_grid
from dscgan_jax.errors import InputError
from dscgan_jax.files import all_or_nothing, expanded, write_whole
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages import exam as qc
from dscgan_jax.perfusion import conventional, kinetics
from dscgan_jax.perfusion.conventional import NOTHING_GIVEN, ConventionalMaps, Given, Settings
from dscgan_jax.perfusion.parametric import FitSettings
from dscgan_jax.training import checkpoints

AIF_COLUMNS = ("time_seconds", "concentration_mM")
AUTOMATIC, FROM_FOLDER = "auto", "files"
DEFAULTS = Settings()
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # float() would also take nan, inf and 1_0


@dataclasses.dataclass(frozen=True)
class ExamMaps:
    """One exam's maps on its own axes.

    Attributes:
      volumes: name -> (x, y, z) float32, in the units of `MAPS`.
      tissue: (x, y, z) bool.
      canonical: the same result in RAS order, with everything that was found.
      series, affine: canonical, as it was inverted (realigned where that was asked for).
    """

    volumes: dict[str, np.ndarray]
    tissue: np.ndarray
    canonical: ConventionalMaps
    series: np.ndarray
    affine: np.ndarray


def settings_of(config: ml_collections.ConfigDict) -> Settings:
    """From `config.conventional`.

    Raises:
      InputError: names the field, its value and what it may be.
    """
    fields = config.conventional
    scale: str | float = fields.scale
    if scale not in conventional.SCALES:
        try:
            scale = float(fields.scale)
        except ValueError:
            raise InputError(
                f"scale is {fields.scale!r}; it must be {', '.join(conventional.SCALES)} or a factor above 0."
            ) from None
    fit = FitSettings(transit_shape=float(fields.transit_shape), dispersion=bool(fields.dispersion))
    return Settings(
        str(fields.method),
        scale,
        str(fields.motion),
        str(fields.tmax_offset),
        float(fields.cut),
        float(fields.oscillation),
        float(fields.neighbourhood_mm),
        fit,
    )


def deconvolve_exam(exam: layouts.Exam, settings: Settings, given: Given = NOTHING_GIVEN) -> ExamMaps:
    """Maps of one exam; `given` is on the exam's own axes.

    Raises:
      InputError: as `conventional.conventional_maps`, with the subject.
    """
    series, affine, orientation = nifti.to_canonical(exam.series, exam.affine)
    try:
        found = conventional.conventional_maps(
            series, affine, exam.frame_seconds, exam.echo_seconds, settings, _turned(given, exam.affine)
        )
    except InputError as error:
        raise InputError(f"{exam.subject}: {error}") from error
    return _on_own_axes(found, series, affine, orientation)


def _turned(given: Given, affine: np.ndarray) -> Given:
    """What was given on the exam's axes, in RAS order."""
    turned = {
        name: nifti.to_canonical(volume, affine)[0]
        for name in ("tissue", "arterial_mask")
        if (volume := getattr(given, name)) is not None
    }
    return dataclasses.replace(given, **turned)


def _on_own_axes(
    found: ConventionalMaps, series: np.ndarray, affine: np.ndarray, orientation: nifti.Orientation
) -> ExamMaps:
    back = functools.partial(nifti.from_canonical, orientation=orientation)
    realigned = found.measured.realignment
    return ExamMaps(
        {name: np.ascontiguousarray(back(volume)) for name, volume in found.maps.items()},
        np.ascontiguousarray(back(found.measured.tissue)),
        found,
        series if realigned is None else realigned.series,
        affine,
    )


def by_methods(
    exam: layouts.Exam, settings: Settings, methods: Sequence[str], given: Given = NOTHING_GIVEN
) -> dict[str, tuple[ExamMaps, Settings]]:
    """The same exam by several methods: {method: (maps, its settings)}; the arterial input is found once."""
    series, affine, orientation = nifti.to_canonical(exam.series, exam.affine)
    given = _turned(given, exam.affine)
    measured = conventional.measure(series, affine, exam.frame_seconds, exam.echo_seconds, settings.motion, given)
    results = {}
    for method in methods:
        used = dataclasses.replace(settings, method=method)
        results[method] = _on_own_axes(conventional.invert(measured, used), series, affine, orientation), used
    return results


def check_baselines(config: ml_collections.ConfigDict) -> None:
    """Refuses methods that do not exist, before anything long starts."""
    for method in config.evaluate.baselines:
        if method not in conventional.METHODS:
            raise InputError(
                f"config.evaluate.baselines names {method!r}; known methods are {', '.join(conventional.METHODS)}."
            )
    if config.conventional.aif not in (AUTOMATIC, FROM_FOLDER):
        raise InputError(
            f"config.conventional.aif is {config.conventional.aif!r}; it must be {AUTOMATIC} or {FROM_FOLDER}."
        )
    settings_of(config)


def given_of(
    exam: layouts.Exam, aif: pathlib.Path | str = AUTOMATIC, own_aif: pathlib.Path | str | None = None
) -> Given:
    """What the user gives for an exam.

    Args:
      exam: its mask counts, unless it was only read off the signal.
      aif: `auto`, `files` (the exam's own `aif.tsv`), a table with time_seconds and concentration_mM, or a NIfTI mask.
      own_aif: the exam's own table, for `files`.

    Raises:
      InputError: a file is absent or unusable.
    """
    given = Given(exam.mask, tissue_was_found=exam.mask_source == "threshold")
    if aif == AUTOMATIC:
        return given
    if aif == FROM_FOLDER and own_aif is None:
        raise InputError(
            f"{exam.subject}: --aif=files needs {exam.subject}_aif.tsv beside the series; add it, or take --aif=auto."
        )
    path = pathlib.Path(own_aif) if aif == FROM_FOLDER else expanded(aif, "--aif")
    if not path.is_file():
        raise InputError(
            f"--aif={path}: there is no such file; give auto, a table ({', '.join(AIF_COLUMNS)}) or a NIfTI mask."
        )
    if nifti.is_nifti(path):
        return dataclasses.replace(given, arterial_mask=_arterial_mask(exam, path))
    seconds, concentration = _at_frames(exam, *read_curve(path))
    return dataclasses.replace(given, arterial_seconds=seconds, arterial_mm=concentration)


def _at_frames(exam: layouts.Exam, seconds: np.ndarray, concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve at the file's frames, (frame,) each, at those of the series: some may be left out or resampled."""
    acquired, n_frames = exam.acquired_seconds, exam.series.shape[-1]
    if (
        acquired is None
        or seconds.shape != acquired.shape
        or not np.allclose(seconds, acquired, atol=0.1 * exam.frame_seconds)
    ):
        return seconds, concentration
    wanted = np.arange(n_frames) * exam.frame_seconds
    return wanted, np.interp(wanted, acquired, concentration)


def _arterial_mask(exam: layouts.Exam, path: pathlib.Path) -> np.ndarray:
    mask = same_grid.on_grid(path, exam.series.shape, exam.affine) > 0.5
    if not mask.any():
        raise InputError(f"{path}: the arterial mask is empty; draw it again.")
    return mask


def read_curve(path: pathlib.Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and concentrations in mM of an arterial curve, tab-separated with a head.

    Raises:
      InputError: another format.
    """
    expected = f"expected a tab-separated table with the columns {' and '.join(AIF_COLUMNS)} and a number in each row"
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
        texts = [[(row[name] or "").strip() for row in rows] for name in AIF_COLUMNS]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        texts = [[]]
    if not texts[0]:
        raise InputError(f"{path}: {expected}; write it so, or give a NIfTI mask of arterial voxels.")
    for name, column in zip(AIF_COLUMNS, texts, strict=True):
        if odd := [(row, text) for row, text in enumerate(column, 1) if not NUMBER.fullmatch(text)]:
            raise InputError(
                f"{path}: {expected}; row {odd[0][0]} has {odd[0][1]!r} as {name}; correct it (with a decimal "
                "point) or give a NIfTI mask of arterial voxels."
            )
    seconds, concentration = (np.array([float(text) for text in column]) for column in texts)
    return seconds, concentration


# ------------------------------------------------------------------------------------------------------- files


def sidecar(name: str, result: ExamMaps, exam: layouts.Exam, settings: Settings) -> dict[str, Any]:
    """What lies beside a map: unit, method with every setting and constant, arterial input, what was assumed."""
    relative = name in ("cbf", "cbv") and not result.canonical.absolute
    return {
        "Units": "relative" if relative else MAPS[name].unit,
        "Description": f"{MAPS[name].description}, by deconvolution",
        "Settings": _plain(settings),
        **result.canonical.record(),
        "Exam": {
            "FrameSeconds": exam.frame_seconds,
            "EchoSeconds": exam.echo_seconds if np.isfinite(exam.echo_seconds) else None,
        },
        "Findings": [finding.to_json() for finding in findings_of(result, exam)],
        "Software": checkpoints.software_versions(),
        "IntendedUse": "research only",
    }


def write_maps(
    result: ExamMaps,
    exam: layouts.Exam,
    settings: Settings,
    folder: pathlib.Path,
    stem: str,
    names: Sequence[str] = MAP_NAMES,
) -> list[pathlib.Path]:
    """Writes `<stem>_<map>.nii.gz` with sidecars; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}_{name}.nii.gz" for name in names]
    for name, path in zip(names, paths, strict=True):
        nifti.write_volume(path, result.volumes[name], exam.affine, sidecar=sidecar(name, result, exam, settings))
    return paths


def write_all(
    result: ExamMaps, exam: layouts.Exam, settings: Settings, folder: pathlib.Path, stem: str
) -> list[pathlib.Path]:
    """The maps, where they were made, the arterial curve and its voxels, pictures and a page."""
    paths = write_maps(result, exam, settings, folder, stem)
    mask = result.tissue.astype(np.uint8)
    nifti.write_volume(folder / f"{stem}_mask.nii.gz", mask, exam.affine, dtype=np.uint8)
    measured = result.canonical.measured
    concentration = kinetics.concentration_of(measured.arterial.relaxation.astype(np.float64), kinetics.K_BLOOD)
    write_whole(
        folder / f"{stem}_aif.tsv",
        "\t".join(AIF_COLUMNS)
        + "\n"
        + "".join(f"{frame * exam.frame_seconds:.4f}\t{value:.6f}\n" for frame, value in enumerate(concentration)),
    )
    if measured.arterial.mask is not None:
        _, _, orientation = nifti.to_canonical(exam.mask, exam.affine)
        arteries = nifti.from_canonical(measured.arterial.mask.astype(np.uint8), orientation)
        nifti.write_volume(
            folder / f"{stem}_aifmask.nii.gz", np.ascontiguousarray(arteries), exam.affine, dtype=np.uint8
        )
    qc.write(folder, stem, result.canonical, result.series, result.affine, _plain(settings), findings_of(result, exam))
    return [*paths, *(folder / f"{stem}_{name}" for name in ("maps.png", "aif.png", "qc.html"))]


def deconvolve_file(
    series: pathlib.Path | str,
    output: pathlib.Path | str,
    settings: Settings = DEFAULTS,
    *,
    aif: pathlib.Path | str = AUTOMATIC,
    mask: pathlib.Path | str | None = None,
    overrules: layouts.Overrules = layouts.NOTHING_OVERRULED,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """One 4-D file -> maps, arterial input, pictures and page in `output`.

    Returns:
      what was written and is worth opening, and the findings.

    Raises:
      InputError: the file is not a usable series, or there is no usable arterial input.
    """
    series, output = pathlib.Path(series), pathlib.Path(output)
    exam = layouts.load_series(series, overrules, None if mask is None else pathlib.Path(mask))
    own_aif = series.with_name(f"{exam.subject}_aif.tsv")
    result = deconvolve_exam(exam, settings, given_of(exam, aif, own_aif if own_aif.is_file() else None))
    with all_or_nothing(output) as folder:
        paths = write_all(result, exam, settings, folder, exam.subject)
    _remove_stale(result, output, exam.subject)
    return [output / path.name for path in paths], findings_of(result, exam)


def deconvolve_folder(
    config: ml_collections.ConfigDict,
    subjects: Sequence[layouts.SubjectFiles],
    output: pathlib.Path | str,
    aif: str = AUTOMATIC,
    progress: Callable[[int], Any] | None = None,
) -> tuple[dict[str, str], dict[str, tuple[Finding, ...]]]:
    """Every exam of a folder -> a `bids` folder with the same series (linked) and our maps, ready to train on.

    Exams whose maps are there already, made of the same files with the same settings, are left as they are.

    Args:
      config: `conventional` counts.
      subjects: what `layouts.find_subjects` found.
      output: the new folder.
      aif: as in `given_of`; one file cannot serve a whole folder.
      progress: called with 1 after each exam.

    Returns:
      {subject: why it was left out}, which is excluded in the new participants.tsv, and {subject: its findings}.

    Raises:
      InputError: the output is the exams' own folder, or no exam could be used.
    """
    settings, output = settings_of(config), pathlib.Path(output)
    check_folder(subjects, output, aif)
    refused: dict[str, str] = {}
    findings: dict[str, tuple[Finding, ...]] = {}
    for files in subjects:
        try:
            findings[files.subject] = _deconvolve_subject(files, settings, output, aif)
        except InputError as error:
            refused[files.subject] = str(error)
        if len(refused) < len(subjects):  # after each exam: whoever is interrupted keeps the splits
            _write_participants(output, subjects, refused)
        if progress is not None:
            progress(1)
    if len(refused) == len(subjects):
        raise InputError(f"none of the {len(subjects)} exams could be used; the first: {next(iter(refused.values()))}")
    return refused, findings


def check_folder(subjects: Sequence[layouts.SubjectFiles], output: pathlib.Path, aif: str) -> None:
    """Refuses, before anything long starts, what cannot work for a folder."""
    if aif not in (AUTOMATIC, FROM_FOLDER):
        raise InputError(
            f"--aif={aif}: one file cannot serve a whole folder; give auto, or files (each exam's own aif.tsv)."
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; give a folder.")
    series = [
        path for files in subjects for path in (files.series.absolute(), files.series.resolve())
    ]  # links and targets
    if any(path.is_relative_to(output.resolve()) for path in series):
        raise InputError(f"--output={output} holds the exams themselves; give another folder.")


def _write_participants(
    output: pathlib.Path, subjects: Sequence[layouts.SubjectFiles], refused: dict[str, str]
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    rows = [
        (_bids_name(files), layouts.EXCLUDE if files.subject in refused else files.split or "n/a") for files in subjects
    ]
    write_whole(
        output / "participants.tsv", "participant_id\tsplit\n" + "".join(f"{who}\t{split}\n" for who, split in rows)
    )


def _bids_name(files: layouts.SubjectFiles) -> str:
    return files.subject if files.subject.startswith("sub-") else f"sub-{files.subject}"


def _deconvolve_subject(
    files: layouts.SubjectFiles, settings: Settings, output: pathlib.Path, aif: str
) -> tuple[Finding, ...]:
    """Writes one exam's files, unless they are there already, made of the same; returns its findings."""
    subject = _bids_name(files)
    perf = output / subject / "perf"
    # What decides the maps, written last: without it, or with another one, they are made anew.
    made_of = {
        "settings": _plain(settings),
        "aif": aif,
        "overrules": _plain(files.overrules),
        "version": checkpoints.software_versions()["dscgan_jax"],
        "files": [_file_record(path) for path in (files.series, *files.sidecars, files.mask, files.aif)],
    }
    seal = perf / f"{subject}_conventional.json"
    stored = nifti.read_sidecar(seal) if seal.is_file() else {}
    if stored.get("made_of") == made_of and all((perf / f"{subject}_{name}.nii.gz").is_file() for name in MAP_NAMES):
        return tuple(map(Finding.from_json, stored["findings"]))
    exam = layouts.load_exam(dataclasses.replace(files, maps={}))
    exam = dataclasses.replace(exam, subject=subject)
    result = deconvolve_exam(exam, settings, given_of(exam, aif, files.aif))
    findings = findings_of(result, exam)
    seal.unlink(missing_ok=True)
    _remove_stale(result, perf, subject)
    with all_or_nothing(perf) as folder:
        _link(
            files.series, folder / f"{subject}_dsc{'.nii.gz' if files.series.name.lower().endswith('.gz') else '.nii'}"
        )
        timing = {"RepetitionTime": exam.frame_seconds}
        if np.isfinite(exam.echo_seconds):
            timing["EchoTime"] = exam.echo_seconds
        write_whole(folder / f"{subject}_dsc.json", json.dumps(timing, indent=1) + "\n")
        write_all(result, exam, settings, folder, subject)
    write_whole(
        seal, json.dumps({"made_of": made_of, "findings": [finding.to_json() for finding in findings]}, indent=1) + "\n"
    )
    return findings


def _remove_stale(result: ExamMaps, folder: pathlib.Path, stem: str) -> None:
    """An earlier run's arterial voxels must not lie beside a curve that was given."""
    if result.canonical.measured.arterial.mask is None:
        (folder / f"{stem}_aifmask.nii.gz").unlink(missing_ok=True)


def _file_record(path: pathlib.Path | None) -> list[Any] | None:
    if path is None:
        return None
    nifti.present(path)  # a link that leads nowhere is told as such
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        os.symlink(source.resolve(), target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def findings_of(result: ExamMaps, exam: layouts.Exam) -> tuple[Finding, ...]:
    """What is doubtful about the exam and its maps, the worst first."""
    return by_severity((*exam.findings, *result.canonical.findings))


def _plain(settings: Settings | layouts.Overrules) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))
