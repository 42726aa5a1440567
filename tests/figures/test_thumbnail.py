"""The small picture of an exam."""

import numpy as np
from matplotlib.image import imread

from dscgan_jax.figures import thumbnail


def test_the_slice_with_most_late_tissue_is_shown_else_the_one_with_most_brain():
    tmax, brain = np.zeros((8, 8, 3)), np.ones((8, 8, 3), bool)
    brain[:4, :, :2] = False
    assert thumbnail.slice_of(tmax, brain) == 2
    tmax[6:, :, 1] = 7.0
    tmax[:3, :, 0] = 9.0  # outside the brain
    assert thumbnail.slice_of(tmax, brain) == 1


def test_a_thumbnail_is_small_has_square_pixels_and_is_black_outside_the_brain(tmp_path):
    tmax, brain = np.full((256, 128, 2), 6.0), np.zeros((256, 128, 2), bool)
    brain[:101, 10:110, 0], brain[250, 60] = True, True  # low x is the patient's left, at the right of the picture
    thumbnail.write(tmp_path / "a.png", "tmax", tmax, brain, aspect=1.5)
    picture = imread(tmp_path / "a.png")[..., :3]
    assert picture.shape == (78, 128, 3)  # 102 x 252 voxels around the brain
    assert not picture[2:-2, 3:70].any() and picture[2:-2, 80:-2].any(axis=-1).all()
    assert (tmp_path / "a.png").stat().st_size < 20_000
