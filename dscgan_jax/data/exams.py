"""One exam from its files or from arrays: series, maps and brain mask on one grid, checked.

Words: the *series* is (x, y, z, time) in scanner units; *maps* are (x, y, z) in the units of `maps.MAPS`; both are on
RAS axes (`data.geometry`) from reading on. *Findings* (`dscgan_jax.findings`) hold everything that is doubtful, was
repaired or assumed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import nifti, sidecars
from dscgan_jax.data.checks import map_checks, same_grid, timing
from dscgan_jax.data.geometry import StoredGrid, check_affine, voxel_ml
from dscgan_jax.data.subject_files import (
    CT,
    MR,
    Overrules,
    SubjectFiles,
    check_name,
    lone_series,
)
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings, by_severity, check_names
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion import brain, ct, signal
from dscgan_jax.perfusion.checks import first_pass as first_pass_checks
from dscgan_jax.perfusion.checks.saturation import tell_saturated
from dscgan_jax.perfusion.checks.series import repaired

MIN_BRAIN_VOXELS = 20
MAX_DARK = 0.5  # of a given mask: it belongs to another exam
USUAL_BRAIN_MM = (
    85.0,
    190.0,
)  # diameter of the widest slice, taken as a disc: adults have 120-150, a single high slice less


@dataclasses.dataclass(frozen=True)
class Exam:
    """One exam on the grid of its series, on RAS axes.

    Attributes:
      subject: identifier.
      series: (x, y, z, time), float32, scanner units, finite and not negative.
      stored: the grid of the series' file, to which the writer of maps turns back.
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
      modality: `mr`, or `ct`, whose series is the equivalent one that falls (`perfusion.ct`).
    """

    subject: str
    series: np.ndarray
    stored: StoredGrid
    frame_seconds: float
    echo_seconds: float
    maps: dict[str, np.ndarray]
    mask: np.ndarray
    mask_source: str
    timing: signal.BolusTiming
    findings: tuple[Finding, ...]
    acquired_seconds: np.ndarray | None = None
    modality: str = MR

    @classmethod
    def from_arrays(
        cls,
        series: np.ndarray,
        affine: np.ndarray,
        *,
        repetition_time: float,
        echo_time: float | None = None,
        mask: np.ndarray | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
        subject: str = "exam",
        accept: tuple[str, ...] = (),
        modality: str = MR,
    ) -> "Exam":
        """An exam that is in memory, checked as one from files.

        Args:
          series: (x, y, z, time), scanner units, on any axes.
          affine: (4, 4) voxel index -> millimetres, RAS+.
          repetition_time: frame length in s.
          echo_time: in s; None if unknown.
          mask: (x, y, z) tissue of the brain, on the axes of the series; None: where the maps have values, else found
            in the series.
          maps: (x, y, z) by name in `MAP_NAMES`, on the axes of the series, in the units of `MAPS`.
          subject: identifier, for messages and file names.
          accept: names of findings that are errors and that are taken all the same.
          modality: `mr`, or `ct` for a series in HU.

        Raises:
          InputError: as `load_exam`, for what is wrong with the arrays.
        """
        check_name(subject, "subject")
        series, affine = np.asarray(series, np.float32), np.asarray(affine, np.float64)
        if series.ndim != 4:
            raise InputError(f"{subject}: expected a series (x, y, z, time), the array has shape {series.shape}.")
        check_affine(affine, subject)
        mask = None if mask is None else np.asarray(mask)
        maps = {name: np.asarray(values, np.float32) for name, values in (maps or {}).items()}
        given = {"mask": mask, **maps}
        if unknown := sorted(maps.keys() - set(MAP_NAMES)):
            raise InputError(f"{subject}: there is no map {unknown[0]!r}; known maps are {', '.join(MAP_NAMES)}.")
        if odd := [name for name, array in given.items() if array is not None and array.shape != series.shape[:3]]:
            raise InputError(
                f"{subject}: expected {odd[0]} of the series' shape {series.shape[:3]}, it has {given[odd[0]].shape}."
            )
        found = Findings(check_names(accept))
        when = timing.given_timing(subject, series.shape[3], repetition_time, echo_time, found)
        stored = StoredGrid.of(series, affine)
        series = timing.resampled(_checked_series(subject, series, stored, found, modality), when)
        turned = {name: stored.to_ras(values) for name, values in maps.items()}
        inside = None if mask is None else stored.to_ras(mask) > 0.5
        paths = {name: pathlib.Path(f"{subject}, {name} map") for name in turned}
        checked = map_checks.checked_maps(subject, paths, turned, inside, when.end_seconds, found)
        return _finished(
            subject,
            series,
            stored,
            when,
            checked,
            found,
            where=subject,
            mask_file=None,
            mask_given=mask is not None,
            modality=modality,
        )

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index on RAS axes -> millimetres."""
        return self.stored.ras_affine

    @property
    def voxel_mm(self) -> np.ndarray:
        """(3,) edge lengths of a voxel."""
        return voxel_sizes(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return voxel_ml(self.affine)


def load_exam(
    files: SubjectFiles | pathlib.Path | str,
    need_maps: tuple[str, ...] = (),
    *,
    repetition_time: float = 0.0,
    echo_time: float = 0.0,
    mask: pathlib.Path | str | None = None,
    accept: tuple[str, ...] = (),
    modality: str = MR,
    on_series: Callable[[np.ndarray, np.ndarray], Any] | None = None,
) -> Exam:
    """Reads and checks one exam.

    Args:
      files: what `layouts.find_subjects` found, or the path of one lone series, to which the keywords belong.
      need_maps: maps without which the exam is of no use.
      repetition_time: frame length in s, whatever the files hold; 0 = from the files.
      echo_time: in s, likewise.
      mask: NIfTI mask of the tissue of the brain.
      accept: names of findings that are errors and that are taken all the same.
      modality: `mr`, or `ct` for a series in HU.
      on_series: called with series (x, y, z, time) and affine of the exam, RAS, before the brain is looked for: for
        whoever can begin with them.

    Raises:
      InputError: a file is unreadable or damaged, a needed map is absent, a map is on another grid, the series is
        shorter than 10 frames, all zero, not finite or without a bolus, its frame length is unknown, or a map
        has no value in more than a fifth of the brain.
    """
    if not isinstance(files, SubjectFiles):
        overrules = Overrules(float(repetition_time), float(echo_time), check_names(accept), modality)
        files = lone_series(files, overrules, mask)
    missing = [name for name in need_maps if name not in files.maps]
    if missing:
        raise InputError(
            f"{files.subject}: the {', '.join(missing)} map is missing beside {files.series}; add it, or set "
            "the subject's split to exclude in participants.tsv."
        )
    found = Findings(files.overrules.accept)
    found.extend(files.findings)
    volume = nifti.read_volume(files.series, dims=4)
    found.extend(volume.findings)
    when = _timing(files, volume, found)
    stored = StoredGrid.of(volume.data, volume.affine)
    modality = files.overrules.modality
    series = timing.resampled(_checked_series(files.series, volume.data, stored, found, modality), when)
    if on_series is not None:
        on_series(series, stored.ras_affine)
    checked = _checked_maps(files, stored, when, found)
    return _finished(
        files.subject,
        series,
        stored,
        when,
        checked,
        found,
        where=files.series,
        mask_file=files.mask,
        mask_given=files.mask is not None,
        modality=modality,
    )


def with_motion_finding(exam: Exam) -> Exam:
    """The exam with a finding on head motion, for those who use its series as it is."""
    from dscgan_jax.perfusion import motion  # it needs JAX, and reading an exam does not

    moved = motion.look_for_motion(exam.series, exam.affine)
    return dataclasses.replace(exam, findings=by_severity((*exam.findings, *moved)))


def _finished(
    subject: str,
    series: np.ndarray,
    stored: StoredGrid,
    when: timing.Timing,
    checked: map_checks.CheckedMaps,
    found: Findings,
    *,
    where: pathlib.Path | str,
    mask_file: pathlib.Path | None,
    mask_given: bool,
    modality: str = MR,
) -> Exam:
    """The exam, once brain and bolus are found; refused where there is none of them, or for an error that was found."""
    mask_source = "file" if mask_given else "maps" if checked.maps else "threshold"
    mask = _found_mask(series, stored.ras_affine, where) if checked.mask is None else checked.mask
    if mask.sum() < MIN_BRAIN_VOXELS:
        raise InputError(
            f"{mask_file or where}: expected a brain, the mask holds {mask.sum()} voxels; check the mask or the signal."
        )
    if mask_source == "maps":
        found.note("mask_from_maps", "the brain mask is where the maps have values")
    elif mask_source == "threshold":
        found.note("mask_from_signal", "the brain mask was found in the series", None, "--mask=FILE")
    if mask_source == "file" and (dark := brain.dark_share(series, mask)) > MAX_DARK:
        raise InputError(
            f"{mask_file or where}: {100 * dark:.0f} % of the mask's voxels have no signal; check that it was drawn on "
            "this series."
        )
    curves = signal.curves_in(series, mask)
    tell_saturated(curves, found)
    try:
        bolus = signal.find_bolus(curves.mean(axis=0, dtype=np.float64))
    except signal.NoBolusError as error:
        raise InputError(f"{where}: {error}") from error
    first_pass = first_pass_checks.first_pass(curves, bolus, when.frame_seconds)
    usual_width = first_pass_checks.USUAL_WIDTH_CT if modality == CT else first_pass_checks.USUAL_WIDTH
    first_pass_checks.check_first_pass(
        first_pass, when.frame_seconds, found, unsure_length=_is_filled_in(found), usual=usual_width
    )
    _check_size(mask, stored, found)
    found.refuse_errors(where)
    return Exam(
        subject,
        series,
        stored,
        when.frame_seconds,
        when.echo_seconds,
        checked.maps,
        mask,
        mask_source,
        bolus,
        found.listed(),
        when.acquired_seconds,
        modality,
    )


def _timing(files: SubjectFiles, volume: nifti.Volume, found: Findings) -> timing.Timing:
    """Frame length and echo time; refused where sources contradict each other."""
    sidecar: dict[str, Any] = {}
    name = nifti.sidecar_path(files.series).name  # the line begins with the whole path of the series
    for path in files.sidecars:
        fields = sidecars.read_sidecar(path, found)
        sidecar |= fields
        name = path.name if fields.keys() & {"RepetitionTime", "VolumeTiming"} else name
    sidecar = _of_modality(sidecar, files.overrules.modality, found, name)
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
            usual_seconds=files.usual_frame_seconds,
        )
    except InputError as error:  # of a field of a sidecar, which is called by its name alone
        raise InputError(f"{files.series}: {str(error).removeprefix(f'{files.series}: ')}") from error
    found.refuse_errors(files.series)
    return when


def _of_modality(sidecar: dict[str, Any], modality: str, found: Findings, name: str) -> dict[str, Any]:
    """The sidecar without what does not concern the modality, which it must not contradict (`Modality` of dcm2niix)."""
    given = str(sidecar.get("Modality", "")).lower()
    if given in (MR, CT) and given != modality:
        flag = f"--config.data.modality={given}"
        text = f"{name}: Modality is {given.upper()}, and {modality.upper()} was expected"
        found.error("modality", text, given, flag)
    return {field: value for field, value in sidecar.items() if modality == MR or field != "EchoTime"}


def _checked_series(
    where: pathlib.Path | str, data: np.ndarray, stored: StoredGrid, found: Findings, modality: str = MR
) -> np.ndarray:
    """The series on RAS axes, finite, not negative and repaired; refused where it means nothing."""
    n_frames = data.shape[-1]
    if n_frames < signal.MIN_FRAMES:
        raise InputError(
            f"{where}: expected at least {signal.MIN_FRAMES} frames, the series has {n_frames}; "
            "give the whole perfusion series."
        )
    turned = stored.to_ras(data)
    if modality == CT:
        turned = ct.falling(turned, stored.ras_affine, found)
    else:
        ct.refuse_ct(turned, found)
    found.refuse_errors(where)
    try:
        series = repaired(turned, stored.slice_axis, found)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    found.refuse_errors(where)
    if not series.any():
        raise InputError(f"{where}: the series is zero everywhere; export it again.")
    if series.shape[-1] < signal.MIN_FRAMES:
        raise InputError(
            f"{where}: expected at least {signal.MIN_FRAMES} frames that are not empty, the series has "
            f"{series.shape[-1]}; give the whole perfusion series."
        )
    return np.asfortranarray(series)  # frame by frame in memory, as files have it, also where axes were flipped


def load_maps(files: SubjectFiles) -> map_checks.CheckedMaps:
    """The maps and the mask of an exam as `load_exam` gives them, in a small part of the time.

    Of the series the header alone is read.

    Raises:
      InputError: as `load_exam`, for what is wrong with maps and mask.
    """
    outline = nifti.read_outline(files.series)
    found = Findings(files.overrules.accept)
    stored = StoredGrid.of(outline.data, outline.affine)
    checked = _checked_maps(files, stored, _timing(files, outline, found), found)
    found.refuse_errors(files.series)
    return checked


def _checked_maps(
    files: SubjectFiles, stored: StoredGrid, when: timing.Timing, found: Findings
) -> map_checks.CheckedMaps:
    """The maps on the grid of the series, judged; without a given mask the brain is where they have values."""
    mask = _given_mask(files.mask, stored, found) if files.mask else None
    volumes = {name: same_grid.on_grid(files.maps[name], stored) for name in MAP_NAMES if name in files.maps}
    return map_checks.checked_maps(files.subject, files.maps, volumes, mask, when.end_seconds, found)


def _given_mask(path: pathlib.Path, stored: StoredGrid, found: Findings) -> np.ndarray:
    """(x, y, z) bool; NaN is outside."""
    values = same_grid.on_grid(path, stored)
    if n_odd := values.size - int(np.count_nonzero(np.isfinite(values))):
        found.warning("mask_not_finite", f"{n_odd} values of the given mask are NaN or infinite; NaN is outside", n_odd)
    return values > 0.5


def _is_filled_in(found: Findings) -> bool:
    """Whether the frame length is one that writers fill in where they know none."""
    return any(
        finding.name == "frame_length" and finding.severity == "warning" and not finding.accepted
        for finding in found.listed()
    )


def _check_size(mask: np.ndarray, stored: StoredGrid, found: Findings) -> None:
    """A brain of (x, y, z) bool that is far too small or large in its widest slice: the voxel size is wrong."""
    voxel_mm, thick = voxel_sizes(stored.ras_affine), stored.slice_axis
    widest = mask.sum(axis=tuple(axis for axis in range(3) if axis != thick)).max()
    across_mm = float(2 * np.sqrt(widest * np.prod(np.delete(voxel_mm, thick)) / np.pi))
    if not USUAL_BRAIN_MM[0] <= across_mm <= USUAL_BRAIN_MM[1]:
        sizes = " x ".join(f"{size:.3g}" for size in voxel_sizes(stored.affine))
        found.warning(
            "voxel_size",
            f"the brain measures {across_mm:.0f} mm across in its widest slice: the voxel size ({sizes} mm) seems "
            "wrong, and with it every volume",
            round(across_mm),
        )


def _found_mask(series: np.ndarray, affine: np.ndarray, where: pathlib.Path | str) -> np.ndarray:
    """Tissue of the brain, (x, y, z) bool, for exams that bring neither mask nor maps (`perfusion.brain`)."""
    try:
        return brain.brain_mask(series, affine).tissue
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
