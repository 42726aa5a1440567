"""Subjects into splits: as given, or drawn."""

from collections.abc import Sequence

import numpy as np

from dscgan_jax.data.subject_files import SubjectFiles
from dscgan_jax.errors import InputError

SPLITS = ("train", "validation", "test")
EXCLUDE = "exclude"


def assign_splits(
    subjects: Sequence[SubjectFiles], fractions: Sequence[float], seed: int, *, for_training: bool = True
) -> dict[str, str]:
    """The split of each exam that takes part, by its identifier; excluded ones are left out.

    Given splits are taken where every exam has one; otherwise they are drawn by person, the same for the same persons,
    fractions and seed. All exams of a person, sessions and runs, are in one split. No split stays empty that has a
    fraction and for which there is a person.

    Args:
      subjects: what `find_subjects` found.
      fractions: of train, validation and test; they need not sum to 1.
      seed: of the draw.
      for_training: whether somebody must be in the training split.

    Raises:
      InputError: only some subjects have a split, a person is in two, or nobody is left (to train on).
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
    _check_one_split_each(taking_part)
    if given:
        splits = given
    else:
        drawn = _drawn_splits(sorted({files.person for files in taking_part}), fractions, seed)
        splits = {files.subject: drawn[files.person] for files in sorted(taking_part, key=lambda one: one.subject)}
    if not splits:
        raise InputError("every subject is excluded in participants.tsv; leave some in.")
    if for_training and "train" not in splits.values():
        raise InputError(
            "no subject is in the training split; correct participants.tsv or config.data.split_fractions."
        )
    return splits


def _check_one_split_each(exams: Sequence[SubjectFiles]) -> None:
    """Nobody may be both trained on and tested on."""
    split_of: dict[str, SubjectFiles] = {}
    for files in exams:
        first = split_of.setdefault(files.person, files)
        if first.split != files.split:
            raise InputError(
                f"participants.tsv gives {first.subject} the split {first.split}, and {files.subject} {files.split}: "
                f"both are exams of {files.person}, who can be in one split alone; correct the table."
            )


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
