"""All exams of a folder: which of them are usable, and how the maps of one compare with those of the others."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import layouts, nifti
from dscgan_jax.data.checks import map_checks
from dscgan_jax.data.exams import Exam, load_exam, load_maps, with_motion_finding
from dscgan_jax.data.subject_files import NOTHING_OVERRULED, Overrules, SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion.signal import BolusTiming

FEWEST_FOR_NOISE = 4  # frames of a baseline


@dataclasses.dataclass(frozen=True)
class ExamDetails:
    """What a user wants to know of a usable exam.

    Attributes:
      shape: (x, y, z) as stored.
      voxel_mm: voxel size along these axes.
      frames: of the series, as it is used.
      frame_seconds: frame length.
      echo_seconds: echo time; NaN if unknown.
      maps: names of those present.
      mask_source: as of `Exam`.
      brain_ml: volume of the mask.
      timing: baseline and bolus.
      signal_drop: of the mean signal of the brain, from its baseline to the bolus peak; 0.3 is 30 %.
      baseline_over_noise: S0 over the noise of one frame, median over the brain; None: too short a baseline to tell.
      saturated: share of the brain's values that are the largest of the series, as where a scanner cuts them off.
      findings: the worst first.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, ...]
    frames: int
    frame_seconds: float
    echo_seconds: float
    maps: tuple[str, ...]
    mask_source: str
    brain_ml: float
    timing: BolusTiming
    signal_drop: float
    baseline_over_noise: float | None
    saturated: float
    findings: tuple[Finding, ...]

    @property
    def field_mm(self) -> tuple[float, ...]:
        """Field of view along the axes of the file."""
        return tuple(size * count for size, count in zip(self.voxel_mm, self.shape, strict=True))

    @classmethod
    def of(cls, exam: Exam) -> "ExamDetails":
        """Those of an exam."""
        curves = exam.series[exam.mask]
        return cls(
            exam.stored.shape,
            tuple(round(float(size), 3) for size in voxel_sizes(exam.stored.affine)),
            exam.series.shape[-1],
            exam.frame_seconds,
            exam.echo_seconds,
            tuple(exam.maps),
            exam.mask_source,
            round(float(exam.mask.sum() * exam.voxel_ml), 1),
            exam.timing,
            _signal_drop(curves, exam.timing),
            _baseline_over_noise(curves, exam.timing),
            float((curves == exam.series.max()).mean()),
            exam.findings,
        )


@dataclasses.dataclass(frozen=True)
class CheckRow:
    """Whether one subject of a folder is usable.

    Attributes:
      subject: identifier.
      reason: why the subject is not usable; empty if it is.
      split: according to participants.tsv; None where it gives none.
      details: of the exam; None if it is not usable.
    """

    subject: str
    reason: str
    split: str | None
    details: ExamDetails | None = None

    @property
    def usable(self) -> bool:
        """Whether `prepare` would take it."""
        return not self.reason


def _signal_drop(curves: np.ndarray, timing: BolusTiming) -> float:
    """Of the mean of curves (voxel, time)."""
    mean = curves.mean(axis=0, dtype=np.float64)
    baseline = mean[timing.baseline_begin : timing.baseline_end].mean()
    return float(1.0 - mean[timing.peak_frame] / max(baseline, 1e-12))


def _baseline_over_noise(curves: np.ndarray, timing: BolusTiming) -> float | None:
    """Median over the voxels of curves (voxel, time)."""
    baseline = curves[:, timing.baseline_begin : timing.baseline_end]
    if baseline.shape[1] < FEWEST_FOR_NOISE:
        return None
    noise = np.diff(baseline, axis=1).std(axis=1) / np.sqrt(2.0)
    known = noise > 0
    return float(np.median(baseline.mean(axis=1)[known] / noise[known])) if known.any() else None


@dataclasses.dataclass(frozen=True)
class Checked:
    """What is known of one exam before it is compared with the others.

    Attributes:
      row: whether it is usable.
      numbers: of its maps; None where they are not compared.
    """

    row: CheckRow
    numbers: dict[str, map_checks.MapNumbers] | None = None


@dataclasses.dataclass(frozen=True)
class Check:
    """How one exam is checked; it can be pickled, for processes side by side.

    Attributes:
      need_maps: maps without which an exam is of no use.
      half_given: what is wrong with the splits of participants.tsv; empty if nothing is.
    """

    need_maps: tuple[str, ...] = ()
    half_given: str = ""

    def begin(self) -> Callable[[SubjectFiles], Checked]:
        """What checks an exam."""
        return self.of

    def of(self, files: SubjectFiles) -> Checked:
        """Opens an exam."""
        try:
            layouts.check_series(files)
            exam = with_motion_finding(load_exam(files, self.need_maps))
            if self.half_given and not files.split:
                raise InputError(self.half_given)
        except InputError as error:
            return Checked(CheckRow(files.subject, str(error), files.split))
        excluded = files.split == layouts.EXCLUDE
        numbers = None if excluded else map_checks.numbers_of(exam.maps, exam.mask)
        return Checked(CheckRow(files.subject, "", files.split, ExamDetails.of(exam)), numbers)


def one_by_one(how: Check, subjects: Sequence[SubjectFiles]) -> Iterable[Checked]:
    """Each exam in this process."""
    return map(how.of, subjects)


def check(
    root: nifti.Path,
    layout: str,
    overrules: Overrules = NOTHING_OVERRULED,
    need_maps: tuple[str, ...] = (),
    each: Callable[[Check, Sequence[SubjectFiles]], Iterable[Checked]] = one_by_one,
) -> list[CheckRow]:
    """Opens every exam of a folder: which are usable, which not, and why.

    Args:
      root: the folder.
      layout: of it.
      overrules: what the user knows better than the files.
      need_maps: maps without which an exam is of no use.
      each: checks exams, in any order.

    Raises:
      InputError: the folder as a whole cannot be used: no subject in it, a participants.tsv that makes no sense.
    """
    subjects, without_folder = layouts.listed(root, layout, overrules)
    rows = [CheckRow(subject, layouts.no_folder(subject), split) for subject, split in without_folder.items()]
    numbers = {}
    for checked in each(Check(need_maps, _half_given(subjects)), subjects):
        rows.append(checked.row)
        if checked.numbers is not None:
            numbers[checked.row.subject] = checked.numbers
    unlike = map_checks.unlike_others(numbers)
    rows = [_with_findings(row, unlike[row.subject], overrules) if row.subject in unlike else row for row in rows]
    return sorted(rows, key=lambda row: row.subject)


def _with_findings(row: CheckRow, unlike: tuple[Finding, ...], overrules: Overrules) -> CheckRow:
    """A usable row with what is odd about the subject's maps beside those of the others."""
    found = Findings(overrules.accept)
    found.extend((*(row.details.findings if row.details else ()), *unlike))
    try:
        found.refuse_errors(row.subject)
    except InputError as error:
        return CheckRow(row.subject, str(error), row.split)
    return dataclasses.replace(row, details=row.details and dataclasses.replace(row.details, findings=found.listed()))


def how_to_go_on(subject: str) -> str:
    """What to do about a subject that stops a whole folder."""
    return f"(subject {subject}; --mode=check lists every subject; split=exclude in participants.tsv leaves one out)"


def compare_maps(subjects: Iterable[SubjectFiles]) -> dict[str, tuple[Finding, ...]]:
    """What is odd about each subject's maps beside those of the others; maps and masks alone are read, which is quick.

    Raises:
      InputError: a map or mask cannot be used, or is so unlike the others' that it is taken for another unit.
    """
    numbers, accept = {}, {}
    for files in subjects:
        accept[files.subject] = files.overrules.accept
        try:
            checked = load_maps(files)
        except InputError as error:
            raise InputError(f"{error} {how_to_go_on(files.subject)}") from error
        if checked.maps and checked.mask is not None:
            numbers[files.subject] = map_checks.numbers_of(checked.maps, checked.mask)
    return compare_numbers(numbers, accept)


def compare_numbers(
    numbers: Mapping[str, Mapping[str, map_checks.MapNumbers]], accept: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[Finding, ...]]:
    """As `compare_maps`, from the numbers of each subject's maps and the names of the findings that are accepted."""
    compared = {}
    for subject, unlike in map_checks.unlike_others(numbers).items():
        found = Findings(accept[subject])
        found.extend(unlike)
        try:
            found.refuse_errors(subject)
        except InputError as error:
            raise InputError(f"{error} {how_to_go_on(subject)}") from error
        compared[subject] = found.listed()
    return compared


def _half_given(subjects: Sequence[SubjectFiles]) -> str:
    """What is wrong with the splits of participants.tsv; empty if nothing is."""
    try:
        if any(files.split != layouts.EXCLUDE for files in subjects):
            layouts.assign_splits(subjects, (1, 0, 0), 0, for_training=False)
    except InputError as error:
        return str(error)
    return ""
