"""Whose splits count when exams are scored."""

import pytest

from dscgan_jax.app import places
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.subject_files import SubjectFiles

SPLITS = {"sub-1": "train", "sub-2": "train", "sub-3": "test"}


@pytest.fixture
def found(tmp_path):
    """Three exams, of 1, 2 and 3 bytes."""
    files = []
    for size in (1, 2, 3):
        path = tmp_path / f"sub-{size}.nii.gz"
        path.write_bytes(bytes(size))
        files.append(SubjectFiles(f"sub-{size}", path))
    return files


@pytest.mark.parametrize(
    ("sizes", "own"),
    [
        ({"sub-1": 1, "sub-2": 2, "sub-3": 3}, True),
        ({"sub-1": 1, "sub-2": 2, "sub-3": 99}, True),  # one was exported again
        ({"sub-1": 1, "sub-2": 98, "sub-3": 99}, False),  # one agrees by chance
        ({"sub-1": 1}, True),  # the folder has grown since
        ({"sub-7": 1, "sub-8": 2, "sub-9": 3}, False),
        ({}, False),
    ],
)
def test_a_cohort_is_the_runs_own_if_most_of_its_exams_are(found, sizes, own):
    assert places.splits_of_run(found, DataRecord(splits=SPLITS, series_bytes=sizes)) == (SPLITS if own else None)
