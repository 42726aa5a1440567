"""Folders of maps -> records. Knows no network: ours, anybody's and the nulls are scored by the same code.

Words: a *source* offers maps of exams: a folder with `<subject>_<map>.nii.gz` anywhere below it, or a *null* that needs
no series at all. What a source is worth is its margin over the nulls: whole-slice SSIM hardly measures perfusion, since
background and brain outline alone score high.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from dscgan_jax.data import exams as exam_files
from dscgan_jax.data import nifti, preparation, same_grid
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import metrics, records
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages import subjects as pictures

MM3_PER_ML = 1000.0


@dataclasses.dataclass(frozen=True)
class Source:
    """Where maps come from.

    Attributes:
      name: as it stands in the records, e.g. `network_batch`.
      folder: searched to its depth for `<subject>_<map>.nii.gz`; None: a null.
      may_lack: whether a subject without maps is left out instead of being an error: conventional methods refuse exams
        without a usable arterial input.
    """

    name: str
    folder: pathlib.Path | str | None = None
    may_lack: bool = False


BLANK = Source("blank")  # 0 everywhere
NULL_MEDIAN = Source("null_median")  # the training median inside the reference mask, 0 outside
NULLS = (BLANK, NULL_MEDIAN)


@dataclasses.dataclass(frozen=True)
class OfferedMaps:
    """What a source offers for one exam.

    Attributes:
      physical: {map: (x, y, z)} on the exam's grid and axes, in the map's unit.
      scaled: {map: (slice, row, col)} on the network grid; of a network, before anything was written back.
      seconds: how long the prediction took, if known.
    """

    physical: dict[str, np.ndarray]
    scaled: dict[str, np.ndarray]
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class _Frame:
    """What scoring needs to know of a run, for every exam the same."""

    split: str
    preparation: preparation.PreparationSettings
    scaling: Scaling
    medians: Mapping[str, float | None]
    is_run: bool  # the folders come from a network of ours: their `_scaled.npz` are in this scaling


def score(
    exams: Sequence[exam_files.SubjectFiles],
    sources: Sequence[Source],
    *,
    split: str,
    preparation: preparation.PreparationSettings,
    scaling: Scaling,
    medians: Mapping[str, float | None],
    checkpoint: Mapping[str, Any] | None,
    data: Mapping[str, Any],
    out: pathlib.Path | str,
    excluded: Sequence[Mapping[str, str]] = (),
    config_sha256: str | None = None,
    software: Mapping[str, Any] | None = None,
    progress: bool = True,
    known: Mapping[str, Sequence[Finding]] | None = None,
    motion_known: bool = False,
) -> dict[str, Any]:
    """Scores every source on every exam; writes `subjects.csv`, `summary.json` and pictures.

    Args:
      exams: the subjects of the split, with reference maps.
      sources: in the order of the tables; nulls among them. Names differ.
      split: `train`, `validation` or `test`.
      preparation: the network grid of the scaled (paper) protocol.
      scaling: physical units -> [-1, 1] of that protocol. A map that is not among its targets gets no scaled metrics.
      medians: training median of each map inside the brain, for `null_median`.
      checkpoint: `step, selected_by, sha256`; None for anybody's maps. With it, `<subject>_scaled.npz` beside the maps
        is what the network said before its maps were written back, and is used for the scaled protocol.
      data: `source, fingerprint, n_train, n_validation, n_test`.
      out: folder of the records; created.
      excluded: `subject, reason` of the subjects that were left out.
      config_sha256: of the run's config.
      software: versions, by default those of this process without the git commit.
      progress: whether to show a progress bar.
      known: findings that a source had of an exam, by subject: they are kept with what is found here.
      motion_known: whether those tell of head motion, which is then not looked for again.

    Returns:
      The summary, as written.

    Raises:
      InputError: a folder lacks a subject's map, or has it on another grid or with values that are not finite.
    """
    begun, out = time.perf_counter(), pathlib.Path(out)
    _check_sources(sources)
    frame = _Frame(split, preparation, scaling, medians, checkpoint is not None)
    folders = {source.name: MapFolder(source.folder) for source in sources if source.folder is not None}
    wanted = _wanted_maps(exams, folders, scaling.targets, medians)
    rows, expected, findings = [], 0, {}
    for files in tqdm.tqdm(exams, unit="exam", desc="scoring", dynamic_ncols=True, disable=not progress):
        exam = exam_files.load_exam(files)
        if not motion_known:
            exam = exam_files.with_motion_told(exam)
        findings[files.subject] = by_severity((*exam.findings, *(known or {}).get(files.subject, ())))
        names = {
            source.name: [
                name
                for name in wanted[source.name]
                if name in exam.maps
                and not (source.may_lack and folders[source.name].find(files.subject, name) is None)
            ]
            for source in sources
        }
        expected += sum(len(present) for present in names.values())
        rows += _score_exam(files, exam, sources, folders, names, frame)
    if not rows:
        raise InputError(
            f"nothing to score: none of the {len(exams)} subjects of the {split} split has a "
            "reference map that a source offers; add reference maps to the exams."
        )
    out.mkdir(parents=True, exist_ok=True)
    records.write_subjects(out / "subjects.csv", rows)
    rows = records.read_subjects(out / "subjects.csv")
    if len(rows) != expected or len({(row["subject"], row["source"], row["map"]) for row in rows}) != expected:
        raise RuntimeError(f"{out / 'subjects.csv'} has {len(rows)} rows; subjects x sources x maps are {expected}")
    run = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": _software(software),
        "split": split,
        "excluded": [dict(row) for row in excluded],
        "checkpoint": dict(checkpoint) if checkpoint else None,
        "config_sha256": config_sha256,
        "data": dict(data),
        "findings": {subject: [finding.to_json() for finding in found] for subject, found in findings.items()},
        "protocol": _protocol(preparation, scaling),
        "wall_seconds": round(time.perf_counter() - begun, 3),
    }
    summary = records.summarise(rows, run)
    records.write_summary(out / "summary.json", summary)
    _draw(exams, folders, rows, out)
    return summary


class MapFolder:
    """The maps below a folder, by subject and name."""

    def __init__(self, folder: pathlib.Path | str):
        folder = pathlib.Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; it should hold <subject>_<map>.nii.gz files.")
        self.folder = folder
        self._paths: dict[str, list[pathlib.Path]] = {}
        for path in sorted(folder.rglob("*")):
            if nifti.is_nifti(path) or path.name.endswith("_scaled.npz"):
                self._paths.setdefault(path.name.removesuffix(".gz").rsplit(".", 1)[0].lower(), []).append(path)

    def find(self, subject: str, what: str) -> pathlib.Path | None:
        """The file of a subject's map (or `scaled`); None where there is none."""
        paths = self._paths.get(f"{subject}_{what}".lower(), [])
        if len(paths) > 1:
            raise InputError(
                f"{self.folder} holds {subject}_{what} more than once: {paths[0]} and {paths[1]}; "
                "keep one of them, or give the folder of one method."
            )
        return paths[0] if paths else None

    def maps_of(self, subject: str) -> list[str]:
        """Names of the subject's maps."""
        return [name for name in MAP_NAMES if self.find(subject, name)]

    def read(self, subject: str, name: str, exam: exam_files.Exam) -> np.ndarray:
        """A subject's map on the exam's grid and axes; what is not finite outside the mask becomes 0.

        Raises:
          InputError: the map is absent, on another grid, or not finite inside the mask.
        """
        path = self.find(subject, name)
        if path is None:
            raise InputError(
                f"{self.folder} has no {name} map of {subject}; expected {subject}_{name}.nii.gz there. "
                "Add it, or leave the subject out of the exams."
            )
        values = same_grid.on_grid(path, exam.mask.shape, exam.affine)
        finite = np.isfinite(values)
        if bad := int((~finite & exam.mask).sum()):
            raise InputError(
                f"{path}: {bad} values inside the brain mask of {subject} are not finite; every voxel of "
                "the mask is scored, so give each a number."
            )
        return np.where(finite, values, 0.0)


def null_maps(
    source: Source, names: Sequence[str], mask: np.ndarray, medians: Mapping[str, float | None]
) -> dict[str, np.ndarray]:
    """The maps of a null on an exam with `mask` (x, y, z)."""
    if source == BLANK:
        return {name: np.zeros(mask.shape, np.float32) for name in names}
    return {name: np.where(mask, np.float32(medians[name]), np.float32(0)) for name in names}


def _check_sources(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise InputError(f"two sources of maps have one name ({', '.join(names)}); rename one of the folders.")
    if unknown := [source.name for source in sources if source.folder is None and source not in NULLS]:
        raise ValueError(f"{unknown} have no folder and are no nulls")


def _wanted_maps(
    exams: Sequence[exam_files.SubjectFiles],
    folders: Mapping[str, MapFolder],
    targets: Sequence[str],
    medians: Mapping[str, float | None],
) -> dict[str, list[str]]:
    """The maps that each source is held to: those it has for any subject; a null's are those of the folders together.

    A map of which the training split has no median has no `null_median`.
    """
    offered = {}
    for source, folder in folders.items():
        found = {name for files in exams for name in folder.maps_of(files.subject)}
        offered[source] = [name for name in MAP_NAMES if name in found]
        if not found:
            raise InputError(
                f"{folder.folder} holds no map of any of the {len(exams)} subjects; expected files like "
                f"{exams[0].subject if exams else '<subject>'}_{(*targets, 'tmax')[0]}.nii.gz."
            )
    together = {name for names in offered.values() for name in names} if folders else set(targets)
    every = [name for name in MAP_NAMES if name in together]
    return {BLANK.name: every, NULL_MEDIAN.name: [name for name in every if medians.get(name) is not None], **offered}


def _score_exam(
    files: exam_files.SubjectFiles,
    exam: exam_files.Exam,
    sources: Sequence[Source],
    folders: Mapping[str, MapFolder],
    names: Mapping[str, list[str]],
    frame: _Frame,
) -> list[records.Row]:
    """The rows of one exam, in the order of `sources` and `MAP_NAMES`."""
    reference = _scaled_maps(exam.maps, exam, frame)
    n_slices = frame.preparation.slices or _axial(exam.mask, exam.affine).shape[2]
    voxel_ml = abs(float(np.linalg.det(exam.affine[:3, :3]))) / MM3_PER_ML
    truth = json.loads(files.truth.read_text(encoding="utf-8")) if files.truth else {}
    known = {name: bool(truth[name]) if name in truth else None for name in ("moved", "truncated")}
    brain = _axial(exam.mask, exam.affine)
    rows = []
    for source in sources:
        offered = _offered(source, files.subject, exam, folders, names[source.name], frame)
        for name in names[source.name]:
            predicted, measured = (_axial(values[name], exam.affine) for values in (offered.physical, exam.maps))
            row = {
                "subject": files.subject,
                "split": frame.split,
                "source": source.name,
                "map": name,
                "unit": MAPS[name].unit,
                "n_slices": n_slices,
                "n_brain_voxels": int(brain.sum()),
                "mask_source": exam.mask_source,
                **known,
                "seconds_predict": offered.seconds,
                "clipped_fraction": _clipped_fraction(measured[brain], name, frame.scaling),
            }
            if name in reference:
                scaled = metrics.scaled_record(offered.scaled[name], reference[name])
                row |= {f"scaled_{metric}": value for metric, value in scaled.items()}
            inside = metrics.brain_record(predicted, measured, brain, metrics.display_width(name))
            row |= {f"brain_{metric}": value for metric, value in inside.items()}
            for threshold in MAPS[name].thresholds:
                overlap = metrics.overlap_record(predicted, measured, brain, threshold, voxel_ml)
                columns = records.overlap_columns(threshold)
                row |= {columns[metric]: value for metric, value in overlap.items()}
            rows.append(row)
    return rows


def _offered(
    source: Source,
    subject: str,
    exam: exam_files.Exam,
    folders: Mapping[str, MapFolder],
    names: Sequence[str],
    frame: _Frame,
) -> OfferedMaps:
    if source.folder is None:
        physical = null_maps(source, names, exam.mask, frame.medians)
        return OfferedMaps(physical, _scaled_maps(physical, exam, frame))
    folder = folders[source.name]
    physical = {name: folder.read(subject, name, exam) for name in names}
    path = folder.find(subject, "scaled") if frame.is_run else None
    if path is None:
        return OfferedMaps(physical, _scaled_maps(physical, exam, frame))
    with np.load(path) as stored:
        columns = {str(name): stored["scaled"][..., k] for k, name in enumerate(stored["targets"])}
        return OfferedMaps(physical, columns, float(stored["seconds"]))


def _scaled_maps(physical: Mapping[str, np.ndarray], exam: exam_files.Exam, frame: _Frame) -> dict[str, np.ndarray]:
    """{map: (slice, row, col) in [-1, 1]} on the network grid, for the maps that the scaling knows."""
    known = {name: values for name, values in physical.items() if name in frame.scaling.targets}
    if not known:
        return {}
    stacked, _, _, _ = preparation.prepare_maps(known, exam.mask, exam.affine, frame.preparation)
    scaled = np.asarray(frame.scaling.scaled_maps(stacked))
    return {name: scaled[..., frame.scaling.targets.index(name)] for name in known}


def _axial(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """On canonical axes, so that the last one runs over axial slices."""
    return nifti.to_canonical(volume, affine)[0]


def _clipped_fraction(measured: np.ndarray, name: str, scaling: Scaling) -> float | None:
    """Share of the reference's brain voxels that lie outside the range which becomes [-1, 1]."""
    if name not in scaling.targets:
        return None
    if not scaling.clip:
        return 0.0
    low, high = scaling.limits[scaling.targets.index(name)]
    return float(((measured < low) | (measured > high)).mean())


def _protocol(settings: preparation.PreparationSettings, scaling: Scaling) -> dict[str, Any]:
    return {
        "rows": settings.size,
        "cols": settings.size,
        "slices": settings.slices,
        "frames": settings.frames,
        "time_mode": settings.time_mode,
        "signal": scaling.signal,
        "ranges": "percentile" if scaling.clip else "published",
        "data_range": metrics.SCALED_RANGE,
        "ssim_window": metrics.SSIM_WINDOW,
    }


def _software(given: Mapping[str, Any] | None) -> dict[str, Any]:
    known = given or {name: importlib.metadata.version(name) for name in ("dscgan_jax", "jax")}
    return {name: known.get(name) for name in ("dscgan_jax", "jax", "git")}


def _draw(
    exams: Sequence[exam_files.SubjectFiles],
    folders: Mapping[str, MapFolder],
    rows: Sequence[records.Row],
    out: pathlib.Path,
) -> None:
    """Pictures of the best, the median and the worst subject, by brain MAE of the first folder's first map."""
    for old in out.glob("*_subject.png"):
        old.unlink()
    if not folders:
        return
    by_subject = {files.subject: files for files in exams}
    names = [name for name in MAP_NAMES if any(row["map"] == name and row["source"] in folders for row in rows)]
    for title, subject in pictures.notable_subjects(rows, next(iter(folders)), names[0]).items():
        exam = exam_files.load_exam(by_subject[subject])
        predictions = {
            source: {name: folder.read(subject, name, exam) for name in folder.maps_of(subject)}
            for source, folder in folders.items()
            if folder.maps_of(subject)
        }
        pictures.draw_subject(out / f"{title}_subject.png", title, subject, exam, names, predictions)
