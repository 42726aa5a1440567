"""One exam from its files: series, maps and brain mask on one grid, checked.

Words: the *series* is (x, y, z, time) in scanner units; *maps* are (x, y, z) in the units of `maps.MAPS`; both stay on
the file's own axes. *Findings* (`dscgan_jax.findings`) tell everything that is doubtful, was repaired or assumed.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion import brain, signal

MAX_WITHOUT_VALUE = 0.2  # share of the brain mask that may have no value in a map
MAX_REPAIRED = 0.2  # share of a series' values that may be interpolated over time
GRID_TOLERANCE = 0.25  # of a voxel: how far two files of one exam may lie apart
LOWEST_TMAX = -5.0  # seconds: estimates scatter around zero, but below this a value is a fill value
MIN_BRAIN_VOXELS = 20


@dataclasses.dataclass(frozen=True)
class Overrules:
    """What the user says of all exams, whatever their files say.

    Attributes:
      frame_seconds: frame length; 0 = from the files.
      echo_seconds: echo time; 0 = from the files.
      accept: names of findings that are errors and that the user takes all the same.
    """

    frame_seconds: float = 0.0
    echo_seconds: float = 0.0
    accept: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, data: Any) -> "Overrules":
        """From `config.data`."""
        return cls(float(data.tr_seconds), float(data.te_seconds), tuple(data.accept))


@dataclasses.dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject, none of them opened yet.

    Attributes:
      subject: identifier, unique in its folder.
      series: the perfusion series.
      sidecar: JSON beside it, if any.
      maps: path of each map present, by name in `MAP_NAMES`.
      mask, lesion, aif, truth: optional files of the layout.
      split: `train`, `validation`, `test` or `exclude` where the folder says so.
      overrules: what the user says of the exam.
    """

    subject: str
    series: pathlib.Path
    sidecar: pathlib.Path | None = None
    maps: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    mask: pathlib.Path | None = None
    lesion: pathlib.Path | None = None
    aif: pathlib.Path | None = None
    truth: pathlib.Path | None = None
    split: str | None = None
    overrules: Overrules = Overrules()


@dataclasses.dataclass(frozen=True)
class Exam:
    """One exam on the grid of its series.

    Attributes:
      subject: identifier.
      series: (x, y, z, time), float32, scanner units, finite and not negative.
      affine: (4, 4) voxel index -> millimetres, RAS+.
      frame_seconds: frame length.
      echo_seconds: echo time; NaN if unknown.
      maps: (x, y, z) float32 by name, finite, 0 where the file has no value; not cut to the mask: they may reach beyond it.
      mask: (x, y, z) bool, brain where every map has a value.
      mask_source: `file`, `maps` (union of the non-zero maps) or `threshold` (found in the series itself).
      timing: baseline and bolus, in frames of the series.
      findings: what is doubtful, was repaired or assumed; the worst first.
    """

    subject: str
    series: np.ndarray
    affine: np.ndarray
    frame_seconds: float
    echo_seconds: float
    maps: dict[str, np.ndarray]
    mask: np.ndarray
    mask_source: str
    timing: signal.BolusTiming
    findings: tuple[Finding, ...]


def load_exam(files: SubjectFiles, need_maps: tuple[str, ...] = ()) -> Exam:
    """Reads and checks one exam.

    Args:
      files: what `layouts.find_subjects` found.
      need_maps: maps without which the exam is of no use.

    Raises:
      InputError: a file is unreadable or damaged, a needed map is absent, a map lies on another grid, the series is
        shorter than 10 frames, all zero, not finite or without a bolus, its frame length is unknown, or a map
        has no value in more than a fifth of the brain.
    """
    missing = [name for name in need_maps if name not in files.maps]
    if missing:
        raise InputError(f"{files.subject}: the {', '.join(missing)} map is missing beside {files.series}; add it, or set "
                         "the subject's split to exclude in participants.tsv.")
    found, overrules = Findings(files.overrules.accept), files.overrules
    volume = nifti.read_volume(files.series, dims=4)
    sidecar = nifti.read_sidecar(files.sidecar) if files.sidecar else {}
    frame_seconds = nifti.frame_seconds_of(files.series, volume, sidecar, overrules.frame_seconds)
    if not overrules.frame_seconds and "RepetitionTime" not in sidecar:
        found.note("frame_length_from_header", f"the frame length of {frame_seconds:g} s stands in the header alone",
                   frame_seconds, "--tr=SECONDS")
    series = _repaired_series(files, volume.data, found)
    maps, without_value = {}, {}
    for name in MAP_NAMES:
        if name in files.maps:
            maps[name], without_value[name] = _repaired_map(files.subject, name, files.maps[name], volume, found)
    if files.mask:
        mask, mask_source = _on_grid(files.mask, volume) > 0.5, "file"  # NaN compares false
    elif maps:
        mask, mask_source = np.logical_or.reduce([values != 0 for values in maps.values()]), "maps"
    else:
        mask, mask_source = _found_mask(files, series, volume.affine), "threshold"
    if mask.sum() < MIN_BRAIN_VOXELS:
        raise InputError(f"{files.mask or files.series}: expected a brain, the mask holds {mask.sum()} voxels; "
                         "check the mask or the signal.")
    mask = _where_maps_have_values(files, mask, without_value, found)
    if mask_source == "maps":
        found.note("mask_from_maps", "the brain mask is where the maps have values")
    elif mask_source == "threshold":
        found.note("mask_from_signal", "the brain mask was found in the series", None, "--mask=FILE")
    try:
        timing = signal.find_bolus(series[mask].mean(axis=0, dtype=np.float64))
    except signal.NoBolusError as error:
        raise InputError(f"{files.series}: {error}") from error
    return Exam(files.subject, series, volume.affine, frame_seconds,
                nifti.echo_seconds_of(files.series, sidecar, overrules.echo_seconds), maps, mask, mask_source, timing, found.listed())


def load_series(path: nifti.Path, overrules: Overrules = Overrules()) -> Exam:
    """One lone series without maps, as `predict` gets it; its sidecar is read if it lies beside it.

    The subject is the file name without `_dsc`. Raises `InputError` as `load_exam` does.
    """
    path = pathlib.Path(path)
    subject = nifti.stem_of(path).removesuffix("_dsc")
    sidecar = nifti.sidecar_path(path)
    return load_exam(SubjectFiles(subject, path, sidecar if sidecar.is_file() else None, overrules=overrules))


def _repaired_series(files: SubjectFiles, series: np.ndarray, found: Findings) -> np.ndarray:
    """The series, finite and not negative; what was changed goes into `found`."""
    n_frames = series.shape[-1]
    if n_frames < signal.MIN_FRAMES:
        raise InputError(f"{files.series}: expected at least {signal.MIN_FRAMES} frames, the series has {n_frames}; "
                         "give the whole perfusion series.")
    finite = np.isfinite(series)
    if not finite.all():
        some = finite.any(axis=-1)
        holes = some & ~finite.all(axis=-1)
        n_holes = int((~finite[holes]).sum())
        if not some.any() or n_holes > MAX_REPAIRED * some.sum() * n_frames:
            raise InputError(f"{files.series}: {100 * (~finite).mean():.0f} % of the values are NaN or infinite; "
                             "export the series again.")
        series = np.where(some[..., None], series, np.float32(0))
        series[holes] = _filled_over_time(series[holes])
        n_missing = n_holes + int((~some).sum()) * n_frames
        found.note("signal_missing", f"{n_missing} values of the series are not finite; they were interpolated over time", n_missing)
    n_negative = int((series < 0).sum())
    if n_negative:
        series = np.maximum(series, 0)
        found.note("signal_negative", f"{n_negative} values of the series are negative; they were set to zero", n_negative)
    if not series.any():
        raise InputError(f"{files.series}: the series is zero everywhere; export it again.")
    return series


def _filled_over_time(curves: np.ndarray) -> np.ndarray:
    """(voxel, time) with holes, each filled linearly from its neighbours in time."""
    frames = np.arange(curves.shape[1])
    filled = curves.copy()
    for curve in filled:
        good = np.isfinite(curve)
        curve[~good] = np.interp(frames[~good], frames[good], curve[good])
    return filled


def _on_grid(path: pathlib.Path, series: nifti.Volume) -> np.ndarray:
    """A 3-D file that must lie on the grid of the series."""
    volume = nifti.read_volume(path, dims=3)
    shape = series.data.shape[:3]
    if volume.data.shape != shape:
        raise InputError(f"{path}: expected the grid of the series {shape}, the file has {volume.data.shape}; resample it "
                         "to the series.")
    ends = np.array([[i * (shape[0] - 1), j * (shape[1] - 1), k * (shape[2] - 1), 1]
                     for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    apart = np.linalg.norm(ends @ (volume.affine - series.affine).T, axis=1).max()
    if apart > GRID_TOLERANCE * np.linalg.norm(series.affine[:3, :3], axis=0).min():
        raise InputError(f"{path}: the file lies up to {apart:.1f} mm away from the series though both have shape {shape} "
                         "(another affine); resample it to the series, or correct its header.")
    return volume.data


def _repaired_map(
    subject: str, name: str, path: pathlib.Path, series: nifti.Volume, found: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """A map without fill values, finite, and where it has no value; what was changed goes into `found`.

    Negative flow, volume and transit time are noise around zero and become zero, which is a value.
    """
    values = _on_grid(path, series)
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError(f"{path}: no finite value in the {name} map of {subject}; export it again.")
    if not finite.all():
        values = np.where(finite, values, np.float32(0))
        n_missing = int((~finite).sum())
        found.note("map_not_finite", f"{n_missing} values of the {name} map are not finite", n_missing)
    without_value = ~finite
    fill = _fill_value(values)
    if fill < 0:
        filled = values == np.float32(fill)
        without_value |= filled
        values = np.where(filled, np.float32(0), values)
        found.note("map_fill_value", f"{fill:g} in the {name} map counts as no value: it fills what lies outside", fill)
    invalid = values < (LOWEST_TMAX if name == "tmax" else 0)
    if invalid.any():
        without_value |= invalid if name == "tmax" else False
        values = np.where(invalid, np.float32(0), values)
        found.note("map_negative", f"{int(invalid.sum())} values of the {name} map are negative; they were set to zero",
                   int(invalid.sum()))
    if not values.any():
        raise InputError(f"{path}: the {name} map of {subject} is zero everywhere; export it again or remove the file.")
    return values, without_value


def _where_maps_have_values(
    files: SubjectFiles, mask: np.ndarray, without_value: dict[str, np.ndarray], found: Findings
) -> np.ndarray:
    """The mask without voxels in which some map has no value: there is no truth to learn or to score."""
    lost = mask & np.logical_or.reduce([np.zeros_like(mask), *without_value.values()])
    if not lost.any():
        return mask
    if lost.sum() > MAX_WITHOUT_VALUE * mask.sum():
        worst = max(without_value, key=lambda name: (mask & without_value[name]).sum())
        raise InputError(f"{files.maps[worst]}: {100 * (mask & without_value[worst]).sum() / mask.sum():.0f} % of the brain of "
                         f"{files.subject} has no {worst} value (NaN or fill; {100 * lost.sum() / mask.sum():.0f} % in any map), "
                         f"at most {100 * MAX_WITHOUT_VALUE:.0f} % may be lost; export the map again, remove it or correct "
                         "the mask.")
    found.note("mask_without_values", f"{int(lost.sum())} voxels of the mask have no value in some map and were left out",
               int(lost.sum()))
    return mask & ~lost


def _fill_value(values: np.ndarray) -> float:
    """What stands outside the brain: the value that most of the in-plane border shares, else 0."""
    border = np.concatenate([values[0].ravel(), values[-1].ravel(), values[:, 0].ravel(), values[:, -1].ravel()])
    found, counts = np.unique(border, return_counts=True)
    return float(found[counts.argmax()]) if counts.max() > 0.5 * border.size else 0.0


def _found_mask(files: SubjectFiles, series: np.ndarray, affine: np.ndarray) -> np.ndarray:
    try:
        return mask_from_signal(series, affine)
    except InputError as error:
        raise InputError(f"{files.series}: {error}") from error


def mask_from_signal(series: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Tissue of the brain, (x, y, z) bool, for exams that bring neither mask nor maps (`perfusion.brain`).

    Raises:
      InputError: no brain is found.
    """
    canonical, canonical_affine, orientation = nifti.to_canonical(series, affine)
    return np.ascontiguousarray(nifti.from_canonical(brain.brain_mask(canonical, canonical_affine).tissue, orientation))
