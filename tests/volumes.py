"""Small volumes for tests of files."""

import numpy as np

from dscgan_jax.phantom.exam import draw_phantom

OBLIQUE = np.array([[-1.9, 0.2, 0.1, 20.0], [0.2, 1.8, -0.6, -15.0], [0.1, 0.7, 4.9, 4.0], [0, 0, 0, 1]])


def series(shape=(5, 4, 3, 12)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def phantom(slices, seed=0):
    phantom = draw_phantom("acute", (1, seed), size=64, slices=slices)
    return phantom.series, phantom.affine
