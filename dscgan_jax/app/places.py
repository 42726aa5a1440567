"""Where things are on disk: the cache, the exams of a config, the subjects of a split."""

import pathlib

import ml_collections

from dscgan_jax.app.output import progress_bar
from dscgan_jax.data import layouts, subject_files
from dscgan_jax.data.record import DataRecord
from dscgan_jax.errors import InputError
from dscgan_jax.files import expanded


def cache_dir(config: ml_collections.ConfigDict) -> pathlib.Path:
    """Where runs share phantom exams, prepared data and compiled programs.

    Raises:
      InputError: it is in a home folder that nobody knows.
    """
    return expanded(config.data.cache_dir, "--config.data.cache_dir")


def exams_root(config: ml_collections.ConfigDict) -> pathlib.Path:
    """The folder of exams."""
    return expanded(config.data.root, "--config.data.root")


def with_root(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config with a folder of exams: the user's, or phantom exams that are simulated into the cache."""
    config = ml_collections.ConfigDict(config.to_dict())
    if config.data.root:
        if not exams_root(config).is_dir():
            raise InputError(f"config.data.root={config.data.root}: there is no such folder.")
        return config
    from dscgan_jax.phantom import cohort

    with progress_bar(config.phantom.subjects, "simulating") as bar:  # usually they are there already
        config.data.root = str(cohort.phantom_folder(config, cache_dir(config), bar.update, print))
    config.data.layout = "bids"
    return config


def find_subjects(config: ml_collections.ConfigDict) -> list[subject_files.SubjectFiles]:
    """The subjects in `config.data.root`, those that participants.tsv excludes left out."""
    overrules = subject_files.Overrules.from_config(config.data)
    subjects = layouts.find_subjects(exams_root(config), config.data.layout, overrules)
    return [files for files in subjects if files.split != layouts.EXCLUDE]


def find_cohort(config: ml_collections.ConfigDict) -> tuple[list[subject_files.SubjectFiles], dict[str, str]]:
    """The subjects in `config.data.root`, usable or not: one that is not costs itself alone.

    Returns:
      the subjects, those that participants.tsv excludes left out, and {subject: why it cannot be read} of those that
      only participants.tsv knows.
    """
    overrules = subject_files.Overrules.from_config(config.data)
    subjects, without_folder = layouts.listed(exams_root(config), config.data.layout, overrules)
    lost = {who: layouts.no_folder(who) for who, split in without_folder.items() if split != layouts.EXCLUDE}
    return [files for files in subjects if files.split != layouts.EXCLUDE], lost


def subjects_of(
    found: list[subject_files.SubjectFiles], split: str, splits: dict[str, str] | None, root: str
) -> list[subject_files.SubjectFiles]:
    """Subjects of a split: by the run's `splits`, else by the folder's split column, else everybody.

    Raises:
      InputError: the split is empty, or subjects of the run are no longer there.
    """
    if splits is None:
        subjects = [files for files in found if files.split == split] if any(files.split for files in found) else found
    else:
        expected = {subject for subject, where in splits.items() if where == split}
        subjects = [files for files in found if files.subject in expected]
        if missing := sorted(expected - {files.subject for files in subjects}):
            raise InputError(
                f"{root} lacks {len(missing)} subjects of the {split} split, first {missing[0]}; give the "
                "folder that the run was trained on as --config.data.root."
            )
    if not subjects:
        raise InputError(
            f"{root} has no subject in the {split} split; give another --split, or name some in participants.tsv."
        )
    return subjects


def splits_of_run(found: list[subject_files.SubjectFiles], record: DataRecord) -> dict[str, str] | None:
    """The run's splits, if the exams are its own, perhaps moved; None for others.

    They are its own if most of them, or most of those that it knows, have name and size in common: single ones may
    agree by chance, and a folder may have grown.
    """
    agreeing = len(known_to_run(found, record))
    return record.splits if 2 * agreeing > min(len(found), len(record.series_bytes)) else None


def known_to_run(subjects: list[subject_files.SubjectFiles], record: DataRecord) -> list[str]:
    """Subjects that have name and size of an exam of the run."""
    return [subject for subject, size in series_bytes(subjects).items() if record.series_bytes.get(subject) == size]


def series_bytes(subjects: list[subject_files.SubjectFiles]) -> dict[str, int]:
    """Size of each subject's series file: enough to know a cohort again that was moved."""
    return {files.subject: files.series.stat().st_size for files in subjects}
