"""One exam from its files: series, maps and brain mask on one grid, checked.

Words: the *series* is (x, y, z, time) in scanner units; *maps* are (x, y, z) in the units of `maps.MAPS`; both stay on
the file's own axes. *Findings* (`dscgan_jax.findings`) tell everything that is doubtful, was repaired or assumed.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from dscgan_jax.data import map_checks, nifti, same_grid, timing
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion import brain, motion, signal
from dscgan_jax.perfusion.checks import first_pass as first_pass_checks
from dscgan_jax.perfusion.checks.head import slice_axis
from dscgan_jax.perfusion.checks.series import repaired

MIN_BRAIN_VOXELS = 20
MAX_DARK = 0.5  # of a given mask: it belongs to another exam
USUAL_BRAIN_MM = (
    85.0,
    190.0,
)  # diameter of the widest slice, taken as a disc: adults have 120-150, a single high slice less


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


NOTHING_OVERRULED = Overrules()


@dataclasses.dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject, none of them opened yet.

    Attributes:
      subject: identifier, unique in its folder.
      series: the perfusion series.
      sidecars: JSON files that tell about it, general ones first: what a later one says counts.
      maps: path of each map present, by name in `MAP_NAMES`.
      mask, lesion, aif, truth: optional files of the layout.
      split: `train`, `validation`, `test` or `exclude` where the folder says so.
      overrules: what the user says of the exam.
    """

    subject: str
    series: pathlib.Path
    sidecars: tuple[pathlib.Path, ...] = ()
    maps: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    mask: pathlib.Path | None = None
    lesion: pathlib.Path | None = None
    aif: pathlib.Path | None = None
    truth: pathlib.Path | None = None
    split: str | None = None
    overrules: Overrules = NOTHING_OVERRULED


@dataclasses.dataclass(frozen=True)
class Exam:
    """One exam on the grid of its series.

    Attributes:
      subject: identifier.
      series: (x, y, z, time), float32, scanner units, finite and not negative.
      affine: (4, 4) voxel index -> millimetres, RAS+.
      frame_seconds: frame length.
      echo_seconds: echo time; NaN if unknown.
      maps: (x, y, z) float32 by name, finite, 0 where the file has no value; not cut to the mask: they may reach beyond
        it.
      mask: (x, y, z) bool, brain where every map has a value.
      mask_source: `file`, `maps` (union of the non-zero maps) or `threshold` (found in the series itself).
      timing: baseline and bolus, in frames of the series.
      findings: what is doubtful, was repaired or assumed; the worst first.
      acquired_seconds: (frame,) times of the frames in the file, which may be more, or at unequal steps; None: those of
        the series.
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
    acquired_seconds: np.ndarray | None = None


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
        raise InputError(
            f"{files.subject}: the {', '.join(missing)} map is missing beside {files.series}; add it, or set "
            "the subject's split to exclude in participants.tsv."
        )
    found = Findings(files.overrules.accept)
    volume = nifti.read_volume(files.series, dims=4)
    found.extend(volume.findings)
    when = _timing(files, volume, found)
    frame_seconds = when.frame_seconds
    series = timing.resampled(_checked_series(files, volume, found), when)
    checked = _checked_maps(files, volume, when, found)
    mask_source = "file" if files.mask else "maps" if checked.maps else "threshold"
    mask = _found_mask(files, series, volume.affine) if checked.mask is None else checked.mask
    if mask.sum() < MIN_BRAIN_VOXELS:
        raise InputError(
            f"{files.mask or files.series}: expected a brain, the mask holds {mask.sum()} voxels; "
            "check the mask or the signal."
        )
    if mask_source == "maps":
        found.note("mask_from_maps", "the brain mask is where the maps have values")
    elif mask_source == "threshold":
        found.note("mask_from_signal", "the brain mask was found in the series", None, "--mask=FILE")
    if mask_source == "file" and (dark := brain.dark_share(series, mask)) > MAX_DARK:
        raise InputError(
            f"{files.mask}: {100 * dark:.0f} % of the mask's voxels have no signal; check that it was drawn on "
            "this series."
        )
    curves = series[mask]
    try:
        bolus = signal.find_bolus(curves.mean(axis=0, dtype=np.float64))
    except signal.NoBolusError as error:
        raise InputError(f"{files.series}: {error}") from error
    first_pass = first_pass_checks.first_pass(curves, bolus, frame_seconds)
    first_pass_checks.check_first_pass(first_pass, frame_seconds, found, unsure_length=_is_filled_in(found))
    _check_size(mask, volume.affine, found)
    found.refuse_errors(files.series)
    return Exam(
        files.subject,
        series,
        volume.affine,
        frame_seconds,
        when.echo_seconds,
        checked.maps,
        mask,
        mask_source,
        bolus,
        found.listed(),
        when.acquired_seconds,
    )


def with_motion_told(exam: Exam) -> Exam:
    """The exam with a finding on head motion, for those who use its series as it is."""
    series, affine, _ = nifti.to_canonical(exam.series, exam.affine)
    return dataclasses.replace(exam, findings=by_severity((*exam.findings, *motion.look_for_motion(series, affine))))


def load_series(path: nifti.Path, overrules: Overrules = NOTHING_OVERRULED, mask: pathlib.Path | None = None) -> Exam:
    """One lone series without maps, as `predict` gets it; its sidecar is read if it lies beside it.

    The subject is the file name without `_dsc`. Raises `InputError` as `load_exam` does.
    """
    path = pathlib.Path(path)
    subject = nifti.stem_of(path).removesuffix("_dsc")
    return load_exam(SubjectFiles(subject, path, sidecars_of(path.absolute()), mask=mask, overrules=overrules))


def sidecars_of(series: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The JSON files that tell about a series, general ones first.

    In `root/sub-*/perf` also those it inherits (BIDS).
    """
    name, folders = nifti.sidecar_path(series).name, [series.parent]
    if folders[0].name == "perf" and folders[0].parent.name.startswith("sub-"):
        folders = [folders[0].parents[1], folders[0].parent, folders[0]]
    general = [folder / "dsc.json" for folder in folders] if len(folders) > 1 else []
    return tuple(
        path for path in (*general, *(folder / name for folder in folders)) if path.is_file() or path.is_symlink()
    )


def _timing(files: SubjectFiles, volume: nifti.Volume, found: Findings) -> timing.Timing:
    """Frame length and echo time; refused where sources contradict each other."""
    sidecar: dict[str, Any] = {}
    name = nifti.sidecar_path(files.series).name  # the line begins with the whole path of the series
    for path in files.sidecars:
        told = nifti.read_sidecar(path, found)
        sidecar |= told
        name = path.name if told.keys() & {"RepetitionTime", "VolumeTiming"} else name
    try:
        when = timing.read_timing(
            volume,
            sidecar,
            found,
            n_frames=volume.data.shape[3],
            series=files.series,
            sidecar_name=name,
            frame_seconds=files.overrules.frame_seconds,
            echo_seconds=files.overrules.echo_seconds,
        )
    except InputError as error:  # of a field of a sidecar, which is called by its name alone
        raise InputError(f"{files.series}: {str(error).removeprefix(f'{files.series}: ')}") from error
    found.refuse_errors(files.series)
    return when


def _checked_series(files: SubjectFiles, volume: nifti.Volume, found: Findings) -> np.ndarray:
    """The series, finite, not negative and repaired; refused where it means nothing."""
    n_frames = volume.data.shape[-1]
    if n_frames < signal.MIN_FRAMES:
        raise InputError(
            f"{files.series}: expected at least {signal.MIN_FRAMES} frames, the series has {n_frames}; "
            "give the whole perfusion series."
        )
    try:
        series = repaired(volume.data, volume.affine, found)
    except InputError as error:
        raise InputError(f"{files.series}: {error}") from error
    found.refuse_errors(files.series)
    if not series.any():
        raise InputError(f"{files.series}: the series is zero everywhere; export it again.")
    if series.shape[-1] < signal.MIN_FRAMES:
        raise InputError(
            f"{files.series}: expected at least {signal.MIN_FRAMES} frames that are not empty, the series has "
            f"{series.shape[-1]}; give the whole perfusion series."
        )
    return series


def load_maps(files: SubjectFiles) -> map_checks.CheckedMaps:
    """The maps and the mask of an exam as `load_exam` gives them, in a small part of the time.

    Of the series the header alone is read.

    Raises:
      InputError: as `load_exam`, for what is wrong with maps and mask.
    """
    outline = nifti.read_outline(files.series)
    found = Findings(files.overrules.accept)
    checked = _checked_maps(files, outline, _timing(files, outline, found), found)
    found.refuse_errors(files.series)
    return checked


def _checked_maps(
    files: SubjectFiles, volume: nifti.Volume, when: timing.Timing, found: Findings
) -> map_checks.CheckedMaps:
    """The maps on the grid of the series, judged; without a given mask the brain is where they have values."""
    shape = volume.data.shape
    mask = same_grid.on_grid(files.mask, shape, volume.affine) > 0.5 if files.mask else None  # NaN compares false
    volumes = {
        name: same_grid.on_grid(files.maps[name], shape, volume.affine) for name in MAP_NAMES if name in files.maps
    }
    return map_checks.checked_maps(
        files.subject, files.maps, volumes, mask, float(when.acquired_seconds[-1]) + when.frame_seconds, found
    )


def _is_filled_in(found: Findings) -> bool:
    """Whether the frame length is one that writers fill in where they know none."""
    return any(
        finding.name == "frame_length" and finding.severity == "warning" and not finding.accepted
        for finding in found.listed()
    )


def _check_size(mask: np.ndarray, affine: np.ndarray, found: Findings) -> None:
    """A brain of (x, y, z) bool that is far too small or large in its widest slice: the voxel size is wrong."""
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    thick = slice_axis(affine)
    widest = mask.sum(axis=tuple(axis for axis in range(3) if axis != thick)).max()
    across_mm = float(2 * np.sqrt(widest * np.prod(np.delete(voxel_mm, thick)) / np.pi))
    if not USUAL_BRAIN_MM[0] <= across_mm <= USUAL_BRAIN_MM[1]:
        found.warning(
            "voxel_size",
            f"the brain measures {across_mm:.0f} mm across in its widest slice: the voxel size "
            f"({' x '.join(f'{size:.3g}' for size in voxel_mm)} mm) seems wrong, and with it every volume",
            round(across_mm),
        )


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
