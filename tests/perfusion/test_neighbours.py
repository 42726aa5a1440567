"""Neighbourhoods of voxels, against what is known of Gaussian means."""

import numpy as np
import pytest
from scipy import ndimage

from dscgan_jax.perfusion import kinetics, neighbours

MASK = np.ones((20, 20, 3), bool)
AROUND = neighbours.Neighbourhood(MASK, np.full(3, 2.0), 6.0)
INNER = np.zeros_like(MASK)
INNER[7:-7, 7:-7, 1] = True  # whose neighbourhoods lie within the plane of the mask
SEEN = np.full(MASK.sum(), 100.0)  # gain of a voxel with a clear first pass


def places(delay: np.ndarray | float, dispersion: np.ndarray | float = 0.2) -> np.ndarray:
    """(voxel, 3) delay, ln MTT of 4 s and ln dispersion."""
    return np.stack(np.broadcast_arrays(delay, np.log(4.0), np.log(dispersion), np.zeros(MASK.sum()))[:3], axis=1)


def test_the_mean_of_noise_has_a_noise_of_one():
    data = np.random.default_rng(0).standard_normal((MASK.sum(), 50))
    noise = np.random.default_rng(1).uniform(0.5, 2.0, MASK.sum())
    means = AROUND.mean_curves(data, noise)
    assert means[INNER[MASK]].std() == pytest.approx(1.0, abs=0.1)


def test_a_curve_that_all_share_rises_above_its_noise():
    curve = np.float64([1.0, 2.0])
    means = AROUND.mean_curves(np.tile(curve, (MASK.sum(), 1)), np.ones(MASK.sum()))[INNER[MASK]]
    np.testing.assert_allclose(means[:, 1] / means[:, 0], 2.0, rtol=1e-5)
    assert (means[:, 0] > 5.0).all()


def test_what_all_share_is_what_each_is_told():
    shared = neighbours.shared_by_neighbours(places(1.5), SEEN, AROUND, np.zeros(3))
    np.testing.assert_allclose(shared[INNER[MASK]], places(1.5)[INNER[MASK]], atol=1e-4)


def test_where_nobody_has_a_first_pass_the_default_holds():
    default = np.array([2.0, 1.0, np.log(0.3)])
    shared = neighbours.shared_by_neighbours(places(1.5), np.zeros(MASK.sum()), AROUND, default)
    np.testing.assert_allclose(shared, np.tile(default, (MASK.sum(), 1)), atol=1e-5)


def test_the_arrival_stays_when_the_dispersion_is_that_of_a_wider_neighbourhood():
    own = places(1.5, np.where(np.arange(MASK.sum()) % 2, 0.1, 0.4))
    shared = neighbours.shared_by_neighbours(own, SEEN, AROUND, np.zeros(3))
    arrivals = [place[:, 0] + kinetics.DISPERSION_SHAPE * np.exp(place[:, 2]) for place in (own, shared)]
    np.testing.assert_allclose(*arrivals, atol=1e-4)
    assert np.ptp(shared[INNER[MASK], 2]) < 0.5 * np.ptp(own[INNER[MASK], 2])


def test_the_mean_arrival_is_that_of_those_with_a_first_pass():
    silent = np.arange(MASK.sum()) % 2 == 0
    own = places(np.where(silent, 9.0, 2.0))
    means = neighbours.with_mean_arrival(places(0.0), own, np.where(silent, 0.0, 100.0), AROUND)
    np.testing.assert_allclose(means[INNER[MASK], 0], 2.0, atol=1e-3)
    np.testing.assert_array_equal(means[:, 1:], np.float32(places(0.0))[:, 1:])


def test_without_any_first_pass_the_delay_stays():
    means = neighbours.with_mean_arrival(places(0.7), places(5.0), np.zeros(MASK.sum()), AROUND)
    np.testing.assert_allclose(means, places(0.7), rtol=1e-6)


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.0])
def test_seconds_apart_are_those_beyond_the_uncertainty(apart):
    own_sd, rng, many = 0.5, np.random.default_rng(3), 20000
    means = np.tile([1.0, np.log(4.0), np.log(0.2)], (many, 1))
    place = means + np.array([1.0, 0.0, 0.0]) * rng.normal(0, np.hypot(own_sd, apart), (many, 1))
    curvature = np.tile(np.diag([own_sd**-2, 1e6, 1e6]), (many, 1, 1))
    found = neighbours.seconds_apart(place, np.full(many, 100.0), curvature, means)
    assert found == pytest.approx(apart, abs=0.12)


def test_voxels_without_a_first_pass_are_not_apart():
    curvature = np.tile(np.eye(3), (MASK.sum(), 1, 1))
    assert neighbours.seconds_apart(places(9.0), np.zeros(MASK.sum()), curvature, places(0.0)) == 0.0


def test_sums_are_those_of_a_gaussian_over_the_whole_image():
    """The box around the mask cuts nothing off."""
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 20, 6), bool)
    mask[5:15, 4:18, 2:5] = rng.random((10, 14, 3)) < 0.7
    values, around = rng.random(int(mask.sum()), np.float32), neighbours.Neighbourhood(mask, np.array([2, 2, 5]), 8.0)
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = values
    known = ndimage.gaussian_filter(volume, around.sigma, mode="constant", truncate=3.0)[mask]
    np.testing.assert_allclose(around.sums(values), known, atol=1e-6)
