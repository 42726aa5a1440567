"""A given core: on the series' grid, on another one by the affines, or refused in one line."""

import numpy as np
import pytest
from exams import AFFINE, exam_of, fake_arrays

from dscgan_jax.data import nifti
from dscgan_jax.data.core import read_core
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings

SERIES, _, MASK = fake_arrays(shape=(16, 16, 3))
EXAM = exam_of(SERIES, MASK)
CORE = np.zeros(MASK.shape, np.uint8)
CORE[4:7, 6:10, 1:] = 1


def shifted(millimetres):
    """The grid of the series at another x."""
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def written(folder, data, affine=AFFINE, dtype=np.float32):
    path = folder / "core.nii.gz"
    nifti.write_volume(path, data, affine, dtype=dtype)
    return path


def test_a_core_on_the_grid_of_the_series_is_taken_as_it_is(tmp_path):
    found = Findings()
    core = read_core(written(tmp_path, CORE * 255, dtype=np.uint8), EXAM, found)
    np.testing.assert_array_equal(core, EXAM.stored.to_ras(CORE > 0))
    assert not found.listed()


def test_a_core_of_finer_voxels_on_other_axes_lies_where_it_was_drawn_and_is_noted(tmp_path):
    fine = np.repeat(np.repeat(CORE, 2, axis=0), 2, axis=1)[:, ::-1]
    affine = AFFINE @ np.diag([0.5, -0.5, 1, 1])
    affine[:3, 3] = (AFFINE @ [-0.25, 15.25, 0, 1])[:3]
    found = Findings()
    core = read_core(written(tmp_path, fine, affine), EXAM, found)
    np.testing.assert_array_equal(core, EXAM.stored.to_ras(CORE > 0))
    [note] = found.listed()
    assert note.name == "core_resampled" and note.value == pytest.approx(CORE.sum() * 0.32)


@pytest.mark.parametrize(
    ("data", "affine", "says"),
    [
        (CORE[4:12], shifted(-32.0), "and covers [0-9]+ % of it; draw"),
        (CORE, shifted(1000.0), "covers 0 % of it"),
        (np.stack([CORE, CORE], axis=-1), AFFINE, "expected a 3-D map"),
        (CORE * 2 + (np.arange(3) == 0), AFFINE, "values from 1 to 2; give the core's label alone"),
        (np.where(CORE, 600.0, 900.0), AFFINE, "values from 600 to 900"),
    ],
    ids=["covers a part", "far away", "4-D", "labels", "ADC"],
)
def test_what_is_no_core_of_this_exam_is_refused(tmp_path, data, affine, says):
    with pytest.raises(InputError, match=says):
        read_core(written(tmp_path, data, affine), EXAM, Findings())
