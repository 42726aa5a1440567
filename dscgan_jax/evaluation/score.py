"""Maps against reference maps -> records. Knows no network: ours, anybody's and the nulls are scored by the same code.

Each exam is read once: its sources are asked for their maps while it is in memory, scored, and forgotten.
"""

import dataclasses
import datetime
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from dscgan_jax import provenance
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam, load_exam, with_motion_finding
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.data.grid import maps_on_network
from dscgan_jax.data.preparation import PreparationSettings, count_ttp_from
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import metrics, records
from dscgan_jax.evaluation.agreement import HYPOPERFUSED_SECONDS
from dscgan_jax.evaluation.sources import MapSource, Nulls, check_names
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.perfusion import hemispheres
from dscgan_jax.phantom.exam import CORE_LABEL


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How maps are scored, for every exam the same.

    Attributes:
      split: `train`, `validation` or `test`.
      preparation: the network grid of the scaled (paper's) protocol.
      scaling: physical units -> [-1, 1] of that protocol; None: nothing was trained, and there are no such metrics. A
        map that is not among its targets gets none either.
      medians: training median of each map inside the brain, for the null.
    """

    split: str
    preparation: PreparationSettings
    scaling: Scaling | None
    medians: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the summary."""
        settings, scaling = self.preparation, self.scaling
        ranges = None if scaling is None else "percentile" if scaling.clip else "published"
        return {
            "rows": settings.size,
            "cols": settings.size,
            "slices": settings.slices,
            "frames": settings.frames,
            "time_mode": settings.time_mode,
            "signal": None if scaling is None else scaling.signal,
            "ranges": ranges,
            "data_range": metrics.SCALED_RANGE,
            "ssim_window": metrics.SSIM_WINDOW,
        }


@dataclasses.dataclass(frozen=True)
class About:
    """What a summary holds of the run beside its scores.

    Attributes:
      data: `source, fingerprint, n_train, n_validation, n_test`, and what was scored.
      checkpoint: `name, version, trained_on, step, selected_by, sha256` of the network; None for maps that no network
        of ours made.
      excluded: `subject, reason` of the subjects that were left out.
      config_sha256: of the run's config.
    """

    data: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None = None
    excluded: Sequence[Mapping[str, str]] = ()
    config_sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """What was measured of each subject.

    Attributes:
      rows: of `subjects.csv`.
      findings: by subject, of the exam and of its maps.
      seconds: how long it took.
      rejected: by subject, why its exam could not be used by any source; it has no rows.
    """

    rows: list[records.Row]
    findings: dict[str, tuple[Finding, ...]]
    seconds: float
    rejected: dict[str, str] = dataclasses.field(default_factory=dict)


def score(
    subjects: Sequence[SubjectFiles],
    sources: Sequence[MapSource],
    protocol: Protocol,
    *,
    known: Mapping[str, Sequence[Finding]] | None = None,
    look_for_motion: bool = True,
    stop_at_rejected: bool = True,
    each: Callable[[Exam, Mapping[str, ExamMaps]], None] | None = None,
    progress: bool = True,
) -> Scores:
    """Scores every source, and the nulls beside them, on every exam.

    Args:
      subjects: of the split, with reference maps.
      sources: in the order of the tables; their names differ.
      protocol: how.
      known: findings that are known already, by subject: they are kept with what is found here.
      look_for_motion: whether nobody else looks for head motion.
      stop_at_rejected: whether an exam that cannot be used stops everything; else it is noted.
      each: called with each exam and its maps by the names of their sources, while they are in memory.
      progress: whether to show a progress bar.

    Raises:
      InputError: a source lacks a subject's map, or has it on another grid or with values that are not finite; an exam
        cannot be used, unless it need not stop; or there is nothing to score.
    """
    begun = time.perf_counter()
    sources = [*sources, Nulls.beside(sources, protocol.medians)]
    check_names(sources)
    offered_names = {name for source in sources for names in source.offers.values() for name in names}
    if not any(offered_names.intersection(files.maps) for files in subjects):  # before an exam is read or predicted
        raise _no_reference(len(subjects), protocol.split)
    rows: list[records.Row] = []
    findings: dict[str, tuple[Finding, ...]] = {}
    rejected: dict[str, str] = {}
    for files in tqdm.tqdm(subjects, unit="exam", desc="scoring", dynamic_ncols=True, disable=not progress):
        try:
            exam = load_exam(files)
        except InputError as error:
            if stop_at_rejected:
                raise
            rejected[files.subject] = str(error)
            continue
        if look_for_motion:
            exam = with_motion_finding(exam)
        offered = {name: maps for source in sources for name, maps in source.maps_of(exam).items()}
        of_maps = [finding for maps in offered.values() for finding in maps.findings]
        findings[files.subject] = by_severity((*exam.findings, *(known or {}).get(files.subject, ()), *of_maps))
        rows += _score_exam(files, exam, offered, protocol)
        if each is not None:
            each(exam, offered)
    if len(rejected) == len(subjects) > 0:
        raise InputError(
            f"nothing to score: none of the {len(subjects)} exams can be used; the first: "
            f"{next(iter(rejected.values()))}"
        )
    if not rows:
        raise _no_reference(len(subjects), protocol.split)
    return Scores(rows, findings, time.perf_counter() - begun, rejected)


def _no_reference(count: int, split: str) -> InputError:
    return InputError(
        f"nothing to score: none of the {count} subjects of the {split} split has a reference map that a source "
        "offers; add reference maps to the exams."
    )


def write(scores: Scores, protocol: Protocol, about: About, out: pathlib.Path | str) -> dict[str, Any]:
    """Writes `subjects.csv` and `summary.json` into a folder, which is created; returns the summary, as written."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    records.write_subjects(out / "subjects.csv", scores.rows)
    rows, expected = records.read_subjects(out / "subjects.csv"), len(scores.rows)
    if len({(row["subject"], row["source"], row["map"]) for row in rows}) != expected:
        raise RuntimeError(f"{out / 'subjects.csv'} has {len(rows)} rows; subjects x sources x maps are {expected}")
    versions = provenance.software_versions()
    run = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": {name: versions[name] for name in ("dscgan_jax", "jax", "git")},
        "split": protocol.split,
        "excluded": [dict(row) for row in about.excluded],
        "checkpoint": dict(about.checkpoint) if about.checkpoint else None,
        "config_sha256": about.config_sha256,
        "data": dict(about.data),
        "findings": {subject: [one.to_json() for one in found] for subject, found in scores.findings.items()},
        "protocol": protocol.to_json(),
        "wall_seconds": round(scores.seconds, 3),
    }
    summary = records.summarise(rows, run)
    records.write_summary(out / "summary.json", summary)
    return summary


def agreement(maps: ExamMaps, reference: Exam | ExamMaps) -> dict[str, dict[str, float | int | None]]:
    """How well the maps of one exam agree with reference maps, inside the brain, by map.

    Args:
      maps: of the exam.
      reference: the exam with reference maps, or maps with a mask of the brain (else where any of them has a value).

    Returns:
      {map: values} for the maps that both have: `mae`, `rmse`, `bias`, `pearson_r`, `ssim`, ... in the map's unit, and
      for Tmax Dice and volumes (mL) at each threshold.

    Raises:
      InputError: the grids differ, or there is no map that both have.
    """
    volumes = reference.maps if isinstance(reference, Exam) else reference.volumes
    names = [name for name in MAP_NAMES if name in volumes and name in maps.volumes]
    if not names:
        raise InputError(
            f"{maps.subject}: nothing to compare: the maps are {', '.join(maps.volumes)}, the reference has "
            f"{', '.join(volumes) or 'none'}."
        )
    mask = (
        reference.mask if reference.mask is not None else np.logical_or.reduce([volumes[name] != 0 for name in names])
    )
    same = maps.affine.shape == reference.affine.shape and np.allclose(maps.affine, reference.affine, atol=1e-3)
    if maps[names[0]].shape != mask.shape or not same:
        raise InputError(
            f"{maps.subject}: expected maps on the grid of the reference {mask.shape}, they have "
            f"{maps[names[0]].shape} or another affine; resample one of them."
        )
    if odd := [name for name in names if not np.isfinite(maps[name][mask]).all()]:
        raise InputError(f"{maps.subject}: the {odd[0]} map is not finite in the brain; give each voxel a number.")
    rows = {name: _inside(name, maps[name], volumes[name], mask, voxel_ml(reference.affine)) for name in names}
    return {name: {column.removeprefix("brain_"): value for column, value in row.items()} for name, row in rows.items()}


def _inside(
    name: str, predicted: np.ndarray, measured: np.ndarray, mask: np.ndarray, voxel_ml: float
) -> dict[str, float | int | None]:
    """Columns of one map inside the brain: errors, and Dice and volumes at the map's thresholds."""
    inside = metrics.brain_record(predicted, measured, mask, metrics.usual_width(name))
    row = {f"brain_{metric}": value for metric, value in inside.items()}
    for threshold in MAPS[name].thresholds:
        columns = records.overlap_columns(threshold)
        overlap = metrics.overlap_record(predicted, measured, mask, threshold, voxel_ml)
        row |= {columns[metric]: value for metric, value in overlap.items()}
    return row


def _score_exam(
    files: SubjectFiles, exam: Exam, offered: Mapping[str, ExamMaps], protocol: Protocol
) -> list[records.Row]:
    """The rows of one exam, in the order of the sources and of `MAP_NAMES`."""
    knows_ttp = protocol.scaling is not None and "ttp" in protocol.scaling.targets
    first_seconds = protocol.preparation.first_seconds_of(exam) if knows_ttp else 0.0
    reference = _scaled(exam.maps, exam, protocol, first_seconds)
    truth = json.loads(files.truth.read_text(encoding="utf-8")) if files.truth else {}
    of_exam = {
        "subject": files.subject,
        "split": protocol.split,
        "n_slices": protocol.preparation.slices or exam.mask.shape[2],
        "n_brain_voxels": int(exam.mask.sum()),
        "mask_source": exam.mask_source,
        **{name: bool(truth[name]) if name in truth else None for name in ("moved", "truncated")},
    }
    core_ml = _core_ml(files, exam, "phantom_version" in truth)
    rows = []
    for source, maps in offered.items():
        names = [name for name in MAP_NAMES if name in maps.volumes and name in exam.maps]
        scaled = maps.scaled or _scaled({name: maps[name] for name in names}, exam, protocol, first_seconds)
        for name in names:
            measured = exam.maps[name]
            row = of_exam | {
                "source": source,
                "map": name,
                "unit": MAPS[name].unit,
                "seconds_predict": maps.seconds,
                "clipped_fraction": _clipped_fraction(measured[exam.mask], name, protocol, first_seconds),
                "saturated_fraction": _saturated(maps[name][exam.mask], name, protocol, first_seconds),
                "saturated_reference": _saturated(measured[exam.mask], name, protocol, first_seconds),
            }
            if name in reference:
                by_paper = metrics.scaled_record(scaled[name], reference[name])
                row |= {f"scaled_{metric}": value for metric, value in by_paper.items()}
            row |= _inside(name, maps[name], measured, exam.mask, exam.voxel_ml)
            rows.append(row | {"core_ml": core_ml} if name == "tmax" else row)
    return rows


def _core_ml(files: SubjectFiles, exam: Exam, is_phantom: bool) -> float | None:
    """Volume of the reference's ischaemic core inside the brain, mL; None where nothing tells it.

    It is the true one of a phantom, else late tissue with a low CBF in the reference maps. A lesion that somebody has
    drawn is no core: data sets have the final infarct there.
    """
    if is_phantom and files.lesion is not None:
        core = same_grid.on_grid(files.lesion, exam.stored) == CORE_LABEL
    elif {"cbf", "tmax"} <= set(exam.maps):
        late = exam.maps["tmax"] > HYPOPERFUSED_SECONDS
        core = hemispheres.low_flow_core(exam.maps["cbf"], late, exam.mask, exam.voxel_mm)
    else:
        return None
    return None if core is None else float((core & exam.mask).sum() * exam.voxel_ml)


def _scaled(
    volumes: Mapping[str, np.ndarray], exam: Exam, protocol: Protocol, first_seconds: float
) -> dict[str, np.ndarray]:
    """{map: (slice, row, col) in [-1, 1]} on the network grid, for the maps that the scaling knows.

    There TTP counts from the first network frame, which lies `first_seconds` after the first acquired one.
    """
    scaling = protocol.scaling
    known = {name: values for name, values in volumes.items() if scaling is not None and name in scaling.targets}
    if scaling is None or not known:
        return {}
    stacked, _, _ = maps_on_network(known, exam.mask, protocol.preparation.grid_of(exam))
    count_ttp_from(first_seconds, stacked)
    scaled = np.asarray(scaling.scaled_maps(stacked))
    return {name: scaled[..., scaling.targets.index(name)] for name in known}


def _clipped_fraction(measured: np.ndarray, name: str, protocol: Protocol, first_seconds: float) -> float | None:
    """Share of the reference's brain voxels that are outside the range which becomes [-1, 1]."""
    scaling = protocol.scaling
    if scaling is None or name not in scaling.targets:
        return None
    if not scaling.clip:
        return 0.0
    low, high = scaling.limits[scaling.targets.index(name)]
    if name == "ttp":  # in [-1, 1] it counts from the first network frame
        measured = measured - np.float32(first_seconds)
    return float(((measured < low) | (measured > high)).mean())


def _saturated(values: np.ndarray, name: str, protocol: Protocol, first_seconds: float) -> float | None:
    """Share of a map's brain voxels at the ends of the range which becomes [-1, 1], or beyond."""
    scaling = protocol.scaling
    if scaling is None or name not in scaling.targets:
        return None
    if name == "ttp":  # in [-1, 1] it counts from the first network frame
        values = values - np.float32(first_seconds)
    return float(scaling.at_ends(name, values).mean())
