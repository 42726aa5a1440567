"""Maps on another image's grid: a ramp stays a ramp, files are that image's, and images from elsewhere are refused."""

import dataclasses
import json

import numpy as np
import pytest
from exams import AFFINE, exam_of, fake_arrays, write_anything
from scipy.spatial.transform import Rotation

from dscgan_jax.data import nifti, space
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings

SHAPE = (20, 24, 8)
SERIES, _, MASK = fake_arrays(shape=SHAPE)
EXAM = exam_of(SERIES, MASK)
SLOPE = np.array([0.05, -0.03, 0.2])  # per mm


def ramp(shape, affine):
    """A quantity that is linear in space, at the centres of the voxels."""
    index = np.stack(np.indices(shape), axis=-1)
    return ((index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE + 50.0).astype(np.float32)


def maps() -> ExamMaps:
    volumes = {"tmax": np.where(EXAM.mask, ramp(EXAM.mask.shape, EXAM.affine), 0).astype(np.float32)}
    return ExamMaps("sub-1", volumes, {"tmax": "s"}, EXAM.stored, mask=EXAM.mask)


def oblique(shape=(64, 72, 30), edges=(3.0, 3.0, 2.0)):
    """A finer grid, tilted, about the centre of the series."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -7, 20], degrees=True).as_matrix() @ np.diag(edges)
    middle = AFFINE @ [*(np.array(SHAPE) - 1) / 2, 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def image(folder, shape, affine, name="sub-1_T1w.nii.gz"):
    path = folder / name
    nifti.write_volume(path, np.zeros(shape, np.int16), affine, dtype=np.int16)
    return path


def test_a_ramp_of_maps_is_the_same_ramp_on_an_oblique_image(tmp_path):
    shape, affine = oblique()
    found = Findings()
    reference = space.read_reference(image(tmp_path, shape, affine), EXAM, found)
    assert (reference.label, reference.shape) == ("T1w", shape)
    [path] = space.write_in_space(tmp_path, "sub-1_space-T1w", maps(), reference)
    written, mask = (
        nifti.read_volume(tmp_path / f"sub-1_space-T1w_{name}.nii.gz", dims=3) for name in ("tmax", "mask")
    )
    assert path.name == "sub-1_space-T1w_tmax.nii.gz" and written.data.shape == shape
    np.testing.assert_array_equal(written.affine, affine.astype(np.float32))
    expected, inside = ramp(shape, affine), written.data != 0
    error = np.abs(written.data - expected)[inside]
    assert np.median(error) < 1e-4  # rounding
    assert error.max() < (np.abs(SLOPE) * [8, 8, 5]).sum()  # the rim: neighbours that have values, never the 0 outside
    np.testing.assert_array_equal(mask.data > 0, inside)
    assert mask.data.sum() * 18.0 == pytest.approx(EXAM.mask.sum() * 320.0, rel=0.06)


def test_a_shift_by_a_voxel_is_one(tmp_path):
    affine = AFFINE.copy()
    affine[0, 3] -= 16.0  # two voxels towards +x of the array
    reference = space.read_reference(image(tmp_path, SHAPE, affine), EXAM, Findings())
    space.write_in_space(tmp_path, "a", maps(), reference)
    moved = nifti.read_volume(tmp_path / "a_tmax.nii.gz", dims=3).data
    np.testing.assert_array_equal(moved[:-2], EXAM.stored.to_stored(maps()["tmax"])[2:])


def test_the_sidecar_says_how(tmp_path):
    reference = space.Reference("T1w", SHAPE, AFFINE)
    space.write_in_space(tmp_path, "a", maps(), reference)
    record = json.loads((tmp_path / "a_tmax.json").read_text(encoding="utf-8"))
    assert record["Space"] == "T1w" and "not registered" in record["Resampling"] and record["Units"] == "s"


def test_an_image_that_holds_a_part_of_the_brain_is_warned_of(tmp_path):
    found = Findings()
    space.read_reference(image(tmp_path, (20, 24, 4), AFFINE), EXAM, found)
    [warning] = found.listed()
    assert (
        warning.name == "space_partly" and warning.severity == "warning" and "holds 50 % of the brain" in warning.text
    )


def test_images_that_tell_no_place_or_another_one_are_refused(tmp_path):
    away = AFFINE.copy()
    away[2, 3] += 500
    with pytest.raises(InputError, match="expected an image that overlaps the brain"):
        space.read_reference(image(tmp_path, SHAPE, away), EXAM, Findings())
    write_anything(tmp_path / "series.nii.gz", SERIES, AFFINE)
    with pytest.raises(InputError, match="expected a 3-D map"):
        space.read_reference(tmp_path / "series.nii.gz", EXAM, Findings())
    unknown = Finding("orientation_unknown", "warning", "no orientation")
    lost = dataclasses.replace(EXAM, findings=(unknown,))
    with pytest.raises(InputError, match="the series has no orientation"):
        space.read_reference(image(tmp_path, SHAPE, AFFINE), lost, Findings())


def test_the_label_is_made_of_letters_and_digits(tmp_path):
    for name, label in (("t1w.nii", "t1w"), ("sub-1_my T1 (2).nii.gz", "myT12"), ("ä.nii.gz", "reference")):
        path = image(tmp_path, SHAPE, AFFINE, name)
        assert space.read_reference(path, EXAM, Findings()).label == label
