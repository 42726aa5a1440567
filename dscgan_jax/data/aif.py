"""Arterial input functions (AIF) from files: tables of a curve, masks of arterial voxels."""

import csv
import dataclasses
import pathlib
import re

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.files import expanded, write_whole
from dscgan_jax.perfusion.measurement import Given

COLUMNS = ("time_seconds", "concentration_mM")
RELATIVE = "concentration_relative"  # instead of the second: measured without an echo time, or on CT
AUTOMATIC, FROM_FOLDER = "auto", "files"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # float() would also take nan, inf and 1_0


def given_of(exam: Exam, aif: pathlib.Path | str = AUTOMATIC, own_aif: pathlib.Path | str | None = None) -> Given:
    """What is given for an exam instead of being found.

    Args:
      exam: its mask counts, unless it was found in the series.
      aif: `auto`, `files` (the exam's own `aif.tsv`), a table with time_seconds and concentration_mM, or a NIfTI mask.
      own_aif: the exam's own table, for `files`.

    Raises:
      InputError: a file is absent or unusable.
    """
    given = Given(
        exam.mask,
        tissue_was_found=exam.mask_source == "threshold",
        tissue_of_maps=exam.mask_source == "maps",
    )
    if aif == AUTOMATIC:
        return given
    if aif == FROM_FOLDER and own_aif is None:
        raise InputError(
            f"{exam.subject}: --aif=files needs {exam.subject}_aif.tsv beside the series; add it, or take --aif=auto."
        )
    path = pathlib.Path(own_aif) if aif == FROM_FOLDER and own_aif else expanded(aif, "--aif")
    if not path.is_file():
        raise InputError(
            f"--aif={path}: there is no such file; give auto, a table ({', '.join(COLUMNS)}) or a NIfTI mask."
        )
    if nifti.is_nifti(path):
        return dataclasses.replace(given, arterial_mask=_arterial_mask(exam, path))
    seconds, concentration = _at_frames(exam, *read_curve(path, relative=not np.isfinite(exam.echo_seconds)))
    return dataclasses.replace(given, arterial_seconds=seconds, arterial_mm=concentration)


def read_curve(path: pathlib.Path | str, relative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and concentrations of an AIF, tab-separated with a head.

    Args:
      path: of the table.
      relative: whether concentrations without a unit will do, as for an exam whose own have none.

    Raises:
      InputError: another format, or no unit.
    """
    expected = f"expected a tab-separated table with the columns {' and '.join(COLUMNS)} and a number in each row"
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
        columns = (COLUMNS[0], RELATIVE) if rows and RELATIVE in rows[0] else COLUMNS
        texts = [[(row[name] or "").strip() for row in rows] for name in columns]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        columns, texts = COLUMNS, [[]]
    if not texts[0]:
        raise InputError(f"{path}: {expected}; write it so, or give a NIfTI mask of arterial voxels.")
    if columns != COLUMNS and not relative:
        raise InputError(
            f"{path}: its concentrations have no unit ({RELATIVE}): they were measured without an echo time, which "
            "this exam has; measure the AIF again with it, or take --aif=auto."
        )
    for name, column in zip(columns, texts, strict=True):
        if odd := [(row, text) for row, text in enumerate(column, 1) if not NUMBER.fullmatch(text)]:
            raise InputError(
                f"{path}: {expected}; row {odd[0][0]} has {odd[0][1][:40]!r} as {name}; correct it (with a decimal "
                "point) or give a NIfTI mask of arterial voxels."
            )
    seconds, concentration = (np.array([float(text) for text in column]) for column in texts)
    return seconds, concentration


def write_curve(path: pathlib.Path, seconds: np.ndarray, concentration: np.ndarray, relative: bool = False) -> None:
    """Writes an AIF, (time,) in s and mM, or of no unit where it is `relative`, as `read_curve` reads it."""
    rows = (f"{time:.4f}\t{value:.6f}\n" for time, value in zip(seconds, concentration, strict=True))
    write_whole(path, f"{COLUMNS[0]}\t{RELATIVE if relative else COLUMNS[1]}\n" + "".join(rows))


def _at_frames(exam: Exam, seconds: np.ndarray, concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve at the file's frames, (frame,) each, at those of the series: some may be left out or resampled."""
    acquired, n_frames = exam.acquired_seconds, exam.series.shape[-1]
    if acquired is None or seconds.shape != acquired.shape:
        return seconds, concentration
    if not np.allclose(seconds, acquired, atol=0.1 * exam.frame_seconds):
        return seconds, concentration
    wanted = np.arange(n_frames) * exam.frame_seconds
    return wanted, np.interp(wanted, acquired, concentration)


def _arterial_mask(exam: Exam, path: pathlib.Path) -> np.ndarray:
    """(x, y, z) bool, RAS."""
    mask = same_grid.on_grid(path, exam.stored) > 0.5
    if not mask.any():
        raise InputError(f"{path}: the arterial mask is empty; draw it again.")
    return mask
