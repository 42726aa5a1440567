"""`participants.tsv`: who is in which split, read and written."""

import csv
import pathlib
from collections.abc import Mapping

from dscgan_jax.data import nifti
from dscgan_jax.data.layouts.splits import EXCLUDE, SPLITS
from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole


def bare(subject: str) -> str:
    """Tables name subjects with or without `sub-`."""
    return subject.removeprefix("sub-")


def read_participants(path: pathlib.Path) -> dict[str, str | None]:
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
        if bare(subject) in known:
            where = " and ".join(sorted({str(known[bare(subject)]), str(split)}))
            raise InputError(f"{path}: subject {subject} is in two rows (split {where}); keep one.")
        splits[subject] = known[bare(subject)] = split
    return splits


def write_participants(root: pathlib.Path, splits: Mapping[str, str | None]) -> None:
    """Writes `participants.tsv`: the split of each subject, n/a where it has none."""
    root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{subject}\t{split or 'n/a'}\n" for subject, split in splits.items())
    write_whole(root / "participants.tsv", "participant_id\tsplit\n" + rows)
