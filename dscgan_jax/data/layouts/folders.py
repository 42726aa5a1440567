"""Folders of exams -> subjects and splits. A layout is one function: folder in, subjects out."""

import dataclasses
import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence

from dscgan_jax.data import nifti
from dscgan_jax.data.dicom import is_dicom
from dscgan_jax.data.layouts import bids, isles
from dscgan_jax.data.layouts.participants import read_participants
from dscgan_jax.data.layouts.splits import EXCLUDE
from dscgan_jax.data.subject_files import CT, NOTHING_OVERRULED, Overrules, SubjectFiles
from dscgan_jax.errors import InputError
from dscgan_jax.files import expanded
from dscgan_jax.settings import LAYOUTS_OF_CT

MOST_LOOKED_AT = 200  # files of a folder without exams, in which DICOM is looked for
LEAVE_OUT = "split=exclude in participants.tsv, or removing its row and folder, leaves it out"
LAYOUTS: dict[str, Callable[[pathlib.Path], list[SubjectFiles]]] = {
    "bids": bids.subjects_in,
    "isles2017": isles.subjects_of_2017,
    "isles2018": isles.subjects_of_2018,
    "isles2024": isles.subjects_of_2024,
}
EXPECTED = {
    "bids": "sub-*/[ses-*/]perf/sub-*_dsc.nii.gz",
    "isles2017": "training_*/VSD.Brain.XX.O.MR_4DPWI.*/*.nii",
    "isles2018": "case_*/SMIR.Brain.XX.O.CT_4DPWI.*/*.nii",
    "isles2024": "train/raw_data/sub-stroke*/ses-01/sub-stroke*_ses-01_ctp.nii.gz",
}


def _holds(find: Callable[[pathlib.Path], list[SubjectFiles]], root: pathlib.Path) -> bool:
    """Whether a layout finds exams; what is wrong with them is not the question."""
    try:
        return bool(find(root))
    except InputError:
        return True


def find_subjects(
    root: nifti.Path, layout: str = "bids", overrules: Overrules = NOTHING_OVERRULED
) -> list[SubjectFiles]:
    """All subjects of a folder, sorted, with the split that `participants.tsv` gives them.

    Nobody vanishes silently: a subject whose series is absent stops it, unless its split is exclude.

    Raises:
      InputError: no such folder or layout, no subject in it, a subject twice, an unknown split, a subject without
        series, a row of participants.tsv without a folder.
    """
    subjects, without_folder = listed(root, layout, overrules)
    for files in subjects:
        if files.split != EXCLUDE:
            check_series(files)
    for subject, split in without_folder.items():
        if split != EXCLUDE:
            raise InputError(f"{root}: {no_folder(subject)}")
    return subjects


def listed(root: nifti.Path, layout: str, overrules: Overrules) -> tuple[list[SubjectFiles], dict[str, str | None]]:
    """Subjects with a folder, usable or not; and the splits of those that only participants.tsv knows."""
    root = expanded(root, "--config.data.root")
    if layout not in LAYOUTS:
        raise InputError(f"config.data.layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}.")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of exams as --config.data.root=.")
    subjects = sorted(LAYOUTS[layout](root), key=lambda files: files.subject)
    if not subjects:
        other = [name for name, find in LAYOUTS.items() if name != layout and _holds(find, root)]
        hint = f"it looks like --config.data.layout={other[0]}" if other else "check the folder"
        if any(is_dicom(path) for path in itertools.islice(root.rglob("*"), MOST_LOOKED_AT)):
            hint = "it holds DICOM files: give the folder of one exam as --input, or convert them first (dcm2niix)"
        raise InputError(f"{root}: expected exams as {EXPECTED[layout]}, found none; {hint}.")
    twice = [subject for subject, count in Counter(files.subject for files in subjects).items() if count > 1]
    if twice:
        raise InputError(f"{root}: subject {twice[0]} is in two folders; keep one.")
    if layout in LAYOUTS_OF_CT:
        overrules = dataclasses.replace(overrules, modality=CT)
    table = read_participants(_table_of(root, subjects))
    without_folder = table.without(subjects)
    if table.splits and len(without_folder) == len(table.splits):
        raise InputError(
            f"{table.path}: no row belongs to a folder of {root}: the table has "
            f"{next(iter(table.splits))}, the folder has {subjects[0].subject}; correct participant_id."
        )
    return [dataclasses.replace(files, split=table.split_of(files), overrules=overrules) for files in subjects], (
        without_folder
    )


def _table_of(root: pathlib.Path, subjects: Sequence[SubjectFiles]) -> pathlib.Path:
    """`participants.tsv` of the folder, or of the one below it in which its subjects are."""
    places = [root, *(folder for folder in subjects[0].series.parents if folder.is_relative_to(root))]
    tables = (folder / "participants.tsv" for folder in places)
    return next((path for path in tables if os.path.lexists(path)), root / "participants.tsv")


def check_series(files: SubjectFiles) -> None:
    """Raises `InputError` unless the subject has a series, and a name that can be shown."""
    if files.unusable:
        raise InputError(files.unusable)
    if not nifti.present(files.series):
        raise InputError(f"{files.series}: no such file, so {files.subject} has no series; {LEAVE_OUT}.")


def no_folder(subject: str) -> str:
    """What is wrong with a subject that only participants.tsv knows."""
    return f"subject {subject} is listed in participants.tsv but has no folder; add it ({LEAVE_OUT})."
