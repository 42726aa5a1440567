"""Maps in files as another reader than ours finds them."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dscgan_jax.data import nifti
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.geometry import StoredGrid

SHAPE = (11, 13, 5)
LPS = np.diag([-1.0, -1.0, 1.0])  # the axes of ITK


def oblique() -> np.ndarray:
    """Axes in another order and direction than RAS, tilted, with three different edges."""
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", [12, -8, 25], degrees=True).as_matrix()
    affine[:3, :3] = turned @ np.array([[0, -1.7, 0], [-1.3, 0, 0], [0, 0, 6.1]])
    affine[:3, 3] = (31.5, -40.25, 12.0)
    return affine


def saved(folder) -> tuple[np.ndarray, str]:
    stored = StoredGrid(SHAPE, oblique())
    values = np.random.default_rng(0).normal(5, 2, SHAPE).astype(np.float32)
    ras = stored.to_ras(values)
    maps = ExamMaps("sub-1", {"tmax": ras}, {"tmax": "s"}, stored, mask=np.ones(ras.shape, bool))
    [path] = maps.save(folder)
    return values, str(path)


def test_simpleitk_finds_every_value_where_the_series_has_it(tmp_path):
    pytest.importorskip("SimpleITK")
    import SimpleITK as itk

    values, path = saved(tmp_path)
    image = itk.ReadImage(path)
    np.testing.assert_array_equal(itk.GetArrayFromImage(image).transpose(2, 1, 0), values)
    for index in np.ndindex(2, 2, 2):
        voxel = np.array(index) * (np.array(SHAPE) - 1)
        expected = LPS @ (oblique() @ [*voxel, 1])[:3]
        found = image.TransformIndexToPhysicalPoint([int(one) for one in voxel])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_affine_is_that_of_the_series_to_the_last_digit_that_nifti_has(tmp_path):
    _, path = saved(tmp_path)
    np.testing.assert_array_equal(nifti.read_volume(path, dims=3).affine, oblique().astype(np.float32))


def test_the_sidecar_has_what_bids_wants_of_a_map(tmp_path):
    saved(tmp_path)
    record = json.loads((tmp_path / "sub-1_tmax.json").read_text(encoding="utf-8"))
    assert record["Units"] == "s" and record["SkullStripped"] is True and record["IntendedUse"] == "research only"
