"""`participants.tsv`: who is in which split, read and written."""

import csv
import dataclasses
import functools
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dscgan_jax.data import nifti
from dscgan_jax.data.layouts.splits import EXCLUDE, SPLITS
from dscgan_jax.data.subject_files import SubjectFiles, shown
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole


@dataclasses.dataclass(frozen=True)
class Participants:
    """The rows of a table.

    Attributes:
      path: of the table.
      splits: the split of each row by its participant_id, None where it gives none. A row is a person's, or that of one
        exam among several of a person.
    """

    path: pathlib.Path
    splits: dict[str, str | None]

    def split_of(self, files: SubjectFiles) -> str | None:
        """The split of an exam: its person's, unless the exam has a row of its own.

        Raises:
          InputError: the two rows put one person into two splits.
        """
        ours, theirs = self._by_bare_name.get(_bare(files.subject)), self._by_bare_name.get(_bare(files.person))
        if ours not in (None, EXCLUDE) and theirs not in (None, ours):
            raise InputError(
                f"{self.path}: {files.subject} has split {ours}, {files.person} has {theirs}: all exams of a person "
                "are in one split; correct one of the rows (exclude may be one exam's)."
            )
        return ours or theirs

    @functools.cached_property
    def _by_bare_name(self) -> dict[str, str | None]:
        return {_bare(subject): split for subject, split in self.splits.items()}

    def without(self, subjects: Iterable[SubjectFiles]) -> dict[str, str | None]:
        """The rows that are no exam's and no person's."""
        folders = {_bare(name) for files in subjects for name in (files.subject, files.person)}
        return {subject: split for subject, split in self.splits.items() if _bare(subject) not in folders}


def _bare(subject: str) -> str:
    """Tables name subjects with or without `sub-`."""
    return subject.removeprefix("sub-")


def read_participants(path: pathlib.Path) -> Participants:
    """The table; an absent one has no rows.

    Raises:
      InputError: not a table, no column participant_id, an unknown split, or a subject in two rows.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a table, it is a folder; rename it.")
    if not nifti.present(path):
        return Participants(path, {})
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
    if not rows:
        raise InputError(f"{path}: expected a row for each subject, there is none; write it again or remove it.")
    _check_columns(path, reader.fieldnames, rows)
    splits: dict[str, str | None] = {}
    known: dict[str, str | None] = {}
    for row in rows:
        subject, split = shown((row["participant_id"] or "").strip()), (row.get("split") or "").strip()
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
    return Participants(path, splits)


def _check_columns(path: pathlib.Path, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Refuses a column twice, and splits in a column of another name: they would count for nothing."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name in ("participant_id", "split")]
    if twice:
        raise InputError(f"{path}: expected one column {twice[0]}, found {names.count(twice[0])}; remove the others.")
    if "split" in names:
        return
    for name in names:
        values = {str(row[name] or "").strip() for row in rows} - {"", "n/a"}
        if name != "participant_id" and values and values <= {*SPLITS, EXCLUDE}:
            raise InputError(
                f"{path}: the column {name!r} holds {', '.join(sorted(values))}, and no column is split; rename it."
            )


def write_participants(root: pathlib.Path, splits: Mapping[str, str | None]) -> None:
    """Writes `participants.tsv`: the split of each subject, n/a where it has none."""
    root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{subject}\t{split or 'n/a'}\n" for subject, split in splits.items())
    write_whole(root / "participants.tsv", "participant_id\tsplit\n" + rows)
