"""Gaussian averages against SciPy's."""

import numpy as np
import pytest
from scipy import ndimage

from dscgan_jax.perfusion.smoothing import REACH, smoothed


@pytest.mark.parametrize("mode", ["reflect", "constant"])
@pytest.mark.parametrize("sigma", [(1.4, 1.4, 0.5), (11.1, 9.0, 4.0), (2.8, 2.8, 0.0), (0.0, 30.0, 0.0)])
def test_it_is_the_average_of_scipy_whatever_the_order_in_memory(mode, sigma):
    volume = np.random.default_rng(0).random((20, 17, 5), np.float32)
    known = ndimage.gaussian_filter(volume, sigma, mode=mode, truncate=REACH)
    for order in ("C", "F"):
        found = smoothed(np.array(volume, order=order), sigma, mode)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, known, atol=1e-6)


def test_a_mask_is_averaged_as_numbers():
    mask = np.zeros((9, 9, 3), bool)
    mask[4, 4, 1] = True
    assert smoothed(mask, (1.0, 1.0, 0.0)).sum() == pytest.approx(1.0, abs=1e-5)
