"""What `--input` names: one NIfTI file, the DICOM folder of one exam, or a folder of exams."""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Literal

from dscgan_jax.data import dicom, nifti
from dscgan_jax.data.subject_files import NOTHING_OVERRULED, Overrules, SubjectFiles, lone_series
from dscgan_jax.errors import InputError

MOST_LOOKED_AT = 200  # files of a folder, among which DICOM is looked for
OF_EXAMS = ("sub-*", "*/sub-*", "*/*/sub-*", "training_*", "*/training_*", "test_*", "*/test_*", "case_*", "*/case_*")


def kind_of(path: pathlib.Path) -> Literal["file", "dicom", "exams"]:
    """Whether a path is a file, a folder of DICOM files, or a folder of exams (or of nothing)."""
    if not path.is_dir():
        return "file"
    if any(folder.is_dir() for pattern in OF_EXAMS for folder in path.glob(pattern)):
        return "exams"  # where DICOM may lie too, as in sourcedata/
    files = itertools.islice((one for one in path.rglob("*") if one.is_file()), MOST_LOOKED_AT)
    return "dicom" if any(map(dicom.is_dicom, files)) else "exams"


@contextlib.contextmanager
def lone_exam(
    path: pathlib.Path,
    overrules: Overrules = NOTHING_OVERRULED,
    mask: pathlib.Path | str | None = None,
    series: int | None = None,
) -> Iterator[SubjectFiles]:
    """The files of the one exam that a NIfTI file or a DICOM folder holds, as long as the block lasts.

    Args:
      path: of kind `file` or `dicom`.
      overrules: what the user knows better.
      mask: NIfTI mask of the tissue of the brain.
      series: number of the DICOM series; None: the perfusion series is found.

    Raises:
      InputError: as `dicom.converted`; what the block raises about the converted file names the folder instead.
    """
    if kind_of(path) == "file":
        if series is not None:
            raise InputError(f"--series={series} chooses among the series of a DICOM folder; {path} is a file.")
        if dicom.is_dicom(path):
            raise InputError(f"{path}: a single DICOM file; give the folder of its exam as --input.")
        yield lone_series(path, overrules, mask)
        return
    with dicom.converted(path, series) as (file, found):
        files = dataclasses.replace(lone_series(file, overrules, mask), subject=path.absolute().name, findings=found)
        try:
            yield files
        except InputError as error:
            where = f"{path} (series {nifti.stem_of(file)})"
            error.args = (str(error).replace(str(file), where), *error.args[1:])
            raise
