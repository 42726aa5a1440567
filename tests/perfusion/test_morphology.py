"""Masks in millimetres against distances that are measured."""

import numpy as np
import pytest
from scipy import ndimage

from dscgan_jax.perfusion import morphology


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_distances_are_those_to_the_nearest_voxel_outside_within_the_slice(share):
    rng, voxel_mm = np.random.default_rng(4), np.array([1.7, 2.3, 5.0])
    mask = rng.random((13, 17, 3)) < share
    mask[6:, :4] = share > 0.01  # at the border of the image, which is none of the mask
    wide = np.pad(mask, ((40, 40), (40, 40), (0, 0)), mode="edge")
    depth, dilated = morphology.depth_mm(mask, voxel_mm), morphology.dilated(mask, 4.0, voxel_mm)
    for z in range(3):
        if wide[..., z].all():
            assert depth[..., z].min() > 1e3
        else:
            inside = ndimage.distance_transform_edt(wide[..., z], voxel_mm[:2])[40:-40, 40:-40]
            np.testing.assert_allclose(depth[..., z], inside)
        outside = ndimage.distance_transform_edt(~wide[..., z], voxel_mm[:2])[40:-40, 40:-40]
        np.testing.assert_array_equal(dilated[..., z], (outside <= 4.0) & wide[..., z].any())
