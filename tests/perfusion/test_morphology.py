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


def test_the_box_of_a_mask_holds_all_of_it_and_none_is_smaller():
    mask = np.zeros((6, 5, 4), bool)
    mask[2, 1, 3] = mask[4, 3, 0] = True
    assert morphology.box_of(mask) == (slice(2, 5), slice(1, 4), slice(0, 4))
    assert mask[morphology.box_of(np.zeros_like(mask))].size == 0
