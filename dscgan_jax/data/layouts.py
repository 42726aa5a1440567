"""Folders of exams -> subjects and splits. A layout is one function: folder in, subjects out."""

import contextlib
import csv
import dataclasses
import itertools
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.data.exams import NOTHING_OVERRULED, Overrules, SubjectFiles
from dscgan_jax.data.sidecars import sidecars_of
from dscgan_jax.errors import InputError
from dscgan_jax.files import expanded, write_whole
from dscgan_jax.maps import MAP_NAMES

SPLITS = ("train", "validation", "test")
EXCLUDE = "exclude"
MOST_LOOKED_AT = 200  # files of a folder without exams, in which DICOM is looked for
LEAVE_OUT = (
    "folders of sessions (ses-*) are not read; split=exclude in participants.tsv, or removing its row and folder, "
    "leaves it out"
)
ISLES_TOKENS = {
    "MR_4DPWI": "series",
    "OT": "lesion",
    "MR_rCBF": "cbf",
    "MR_rCBV": "cbv",
    "MR_MTT": "mtt",
    "MR_Tmax": "tmax",
    "MR_TTP": "ttp",
}
ISLES_FILE = re.compile(r"^(?:(?:VSD|SMIR)\.Brain\.XX\.O\.)?(" + "|".join(ISLES_TOKENS) + r")(?:\.\d+)?\.nii(?:\.gz)?$")
ISLES_SUBJECT = re.compile(r"^(?:training|test)_\d+$")


def _bids_subjects(root: pathlib.Path) -> list[SubjectFiles]:
    """`root/sub-*/perf/sub-*_dsc.nii.gz` and its neighbours; also folders without that file."""
    folders = sorted(path / "perf" for path in root.glob("sub-*") if path.is_dir() or _leads_nowhere(path))
    return [_bids_subject(folder) for folder in folders]


def _bids_subject(folder: pathlib.Path) -> SubjectFiles:
    """The files of one `perf` folder."""
    subject = folder.parent.name

    def one(suffix: str) -> pathlib.Path | None:
        return _only_one([folder / f"{subject}_{suffix}{ending}" for ending in (".nii.gz", ".nii")])

    def beside(name: str) -> pathlib.Path | None:
        path = folder / f"{subject}_{name}"
        return path if _is_there(path) else None

    series = one("dsc") or folder / f"{subject}_dsc.nii.gz"
    return SubjectFiles(
        subject=subject,
        series=series,
        sidecars=sidecars_of(series),
        maps={name: path for name in MAP_NAMES if (path := one(name))},
        mask=one("mask"),
        lesion=one("lesion"),
        aif=beside("aif.tsv"),
        truth=beside("truth.json"),
    )


def _isles2017_subjects(root: pathlib.Path) -> list[SubjectFiles]:
    """`training_<n>/<VSD|SMIR>.Brain.XX.O.<token>.<id>/<the same>.nii`, also flattened; `__MACOSX` is ignored."""
    folders = [
        path
        for pattern in ("*", "*/*")
        for path in root.glob(pattern)
        if ISLES_SUBJECT.match(path.name) and path.is_dir() and "__MACOSX" not in path.parts
    ]
    subjects = []
    for folder in folders:
        found: dict[str, list[pathlib.Path]] = {}
        for path in sorted(folder.rglob("*.nii*")):
            match = ISLES_FILE.match(path.name)
            if match and "__MACOSX" not in path.parts and _is_there(path):
                found.setdefault(ISLES_TOKENS[match[1]], []).append(path)
        files = {role: path for role, paths in found.items() if (path := _only_one(paths))}
        subjects.append(
            SubjectFiles(
                subject=folder.name,
                series=files.get("series", folder / "VSD.Brain.XX.O.MR_4DPWI.nii"),
                maps={name: files[name] for name in MAP_NAMES if name in files},
                lesion=files.get("lesion"),
            )
        )
    return subjects


LAYOUTS: dict[str, Callable[[pathlib.Path], list[SubjectFiles]]] = {
    "bids": _bids_subjects,
    "isles2017": _isles2017_subjects,
}


def _is_there(path: pathlib.Path) -> bool:
    """A link that leads nowhere is there too, and an error once it is read.

    Its place must not be taken by another file.
    """
    return path.is_file() or path.is_symlink()


def _leads_nowhere(path: pathlib.Path) -> bool:
    """A link to a folder that is not there: its subject must not vanish."""
    return path.is_symlink() and not path.exists()


def _only_one(paths: Sequence[pathlib.Path]) -> pathlib.Path | None:
    present = [path for path in paths if _is_there(path)]
    if len(present) > 1:
        raise InputError(
            f"{present[1]}: expected one such file of a subject, {present[0].name} is there too; remove one."
        )
    return present[0] if present else None


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
            raise InputError(f"{expanded(root, '--config.data.root') / 'participants.tsv'}: {no_folder(subject)}")
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
        other = [name for name, find in LAYOUTS.items() if name != layout and find(root)]
        hint = f"it looks like --config.data.layout={other[0]}" if other else "check the folder"
        expected = "sub-*/perf/sub-*_dsc.nii.gz" if layout == "bids" else "training_*/VSD.Brain.XX.O.MR_4DPWI.*/*.nii"
        if any(_is_dicom(path) for path in itertools.islice(root.rglob("*"), MOST_LOOKED_AT)):
            hint = "it holds DICOM files: convert them first (dcm2niix)"
        raise InputError(f"{root}: expected exams as {expected}, found none; {hint}.")
    twice = [subject for subject, count in Counter(files.subject for files in subjects).items() if count > 1]
    if twice:
        raise InputError(f"{root}: subject {twice[0]} is in two folders; keep one.")
    table = _participants(root / "participants.tsv")
    folders = {_bare(files.subject) for files in subjects}
    without_folder = {subject: split for subject, split in table.items() if _bare(subject) not in folders}
    if table and len(without_folder) == len(table):
        raise InputError(
            f"{root / 'participants.tsv'}: no row belongs to a folder of {root}: the table has "
            f"{next(iter(table))}, the folder has {subjects[0].subject}; correct participant_id."
        )
    given = {_bare(subject): split for subject, split in table.items()}
    subjects = [
        dataclasses.replace(files, split=given.get(_bare(files.subject)), overrules=overrules) for files in subjects
    ]
    return subjects, without_folder


def _is_dicom(path: pathlib.Path) -> bool:
    """Whether a file is DICOM: the letters DICM follow 128 bytes, whatever its name."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
    return False


def _bare(subject: str) -> str:
    """Tables name subjects with or without `sub-`."""
    return subject.removeprefix("sub-")


def check_series(files: SubjectFiles) -> None:
    """Raises `InputError` unless the subject has a series."""
    if not nifti.present(files.series):
        raise InputError(f"{files.series}: no such file, so {files.subject} has no series; {LEAVE_OUT}.")


def no_folder(subject: str) -> str:
    """What is wrong with a subject that only participants.tsv knows."""
    return f"subject {subject} is listed in participants.tsv but has no folder; add it ({LEAVE_OUT})."


def _participants(path: pathlib.Path) -> dict[str, str | None]:
    """Split of each row of participants.tsv; None where it gives none."""
    if not nifti.present(path):
        return {}
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t")
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of tab-separated text; save it as UTF-8 text.") from error
    if rows and "participant_id" not in reader.fieldnames:
        raise InputError(
            f"{path}: expected a column participant_id, found {', '.join(reader.fieldnames)}; rename it "
            "(columns are separated by tabs)."
        )
    splits: dict[str, str | None] = {}
    known: dict[str, str | None] = {}
    for row in rows:
        subject, split = (row["participant_id"] or "").strip(), (row.get("split") or "").strip()
        if not subject:
            continue
        split = None if split in ("", "n/a") else split
        if split not in (None, EXCLUDE, *SPLITS):
            raise InputError(
                f"{path}: subject {subject} has split {split!r}; it must be train, validation, test or exclude."
            )
        if _bare(subject) in known:
            where = " and ".join(sorted({str(known[_bare(subject)]), str(split)}))
            raise InputError(f"{path}: subject {subject} is in two rows (split {where}); keep one.")
        splits[subject] = known[_bare(subject)] = split
    return splits


def write_participants(root: pathlib.Path, splits: Mapping[str, str | None]) -> None:
    """Writes `participants.tsv`: the split of each subject, n/a where it has none."""
    root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{subject}\t{split or 'n/a'}\n" for subject, split in splits.items())
    write_whole(root / "participants.tsv", "participant_id\tsplit\n" + rows)


def assign_splits(
    subjects: Sequence[SubjectFiles], fractions: Sequence[float], seed: int, *, for_training: bool = True
) -> dict[str, str]:
    """The split of each subject that takes part; excluded ones are left out.

    Given splits are taken where every subject has one; otherwise they are drawn by subject, the same for the same
    subjects, fractions and seed. No split stays empty that has a fraction and for which there is a subject.

    Args:
      subjects: what `find_subjects` found.
      fractions: of train, validation and test; they need not sum to 1.
      seed: of the draw.
      for_training: whether somebody must be in the training split.

    Raises:
      InputError: only some subjects have a split, or nobody is left (to train on).
    """
    taking_part = [files for files in subjects if files.split != EXCLUDE]
    given = {files.subject: files.split for files in taking_part if files.split}
    if given and len(given) < len(taking_part):
        without = [files.subject for files in taking_part if not files.split]
        raise InputError(
            f"participants.tsv gives a split for {len(given)} of {len(taking_part)} subjects, none for "
            f"{', '.join(without[:3])}{' ...' if len(without) > 3 else ''}; give one for all (exclude to leave "
            "out) or for none."
        )
    splits = given or _drawn_splits(sorted(files.subject for files in taking_part), fractions, seed)
    if not splits:
        raise InputError("every subject is excluded in participants.tsv; leave some in.")
    if for_training and "train" not in splits.values():
        raise InputError(
            "no subject is in the training split; correct participants.tsv or config.data.split_fractions."
        )
    return splits


def _drawn_splits(subjects: list[str], fractions: Sequence[float], seed: int) -> dict[str, str]:
    shares = np.array([float(fraction) for fraction in fractions])
    if shares.shape != (len(SPLITS),) or not (shares >= 0).all() or not shares.sum() > 0:
        raise InputError(
            f"config.data.split_fractions is {tuple(fractions)}; expected three numbers, none negative, for "
            "train, validation and test."
        )
    exact = shares / shares.sum() * len(subjects)
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: len(subjects) - counts.sum()]:
        counts[index] += 1  # largest remainders
    for index in (0, 2, 1):  # with few subjects training comes first, then the test
        if counts[index] == 0 and shares[index] > 0 and counts.max() > 1:
            counts[counts.argmax()] -= 1
            counts[index] += 1
    order = np.random.default_rng(seed).permutation(len(subjects))
    names = np.repeat(SPLITS, counts)
    drawn = {subjects[who]: str(split) for who, split in zip(order, names, strict=True)}
    return {subject: drawn[subject] for subject in subjects}
