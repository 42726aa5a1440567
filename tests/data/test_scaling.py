"""Physical units and [-1, 1] are two views of one value."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies

from dscgan_jax.data.batch import Batch
from dscgan_jax.data.scaling import Limits, Scaling, convert_signal, to_network, to_physical
from dscgan_jax.errors import InputError

RANGES = {
    "percentile": {
        "relative": [0.2, 1.2],
        "delta_r2star": [-5.0, 30.0],
        "raw": [0.0, 900.0],
        "tmax": [0.0, 12.0],
        "cbf": [0.0, 100.0],
        "ttp": None,
    }
}


@given(low=strategies.floats(-100, 100), width=strategies.floats(0.1, 1000), share=strategies.floats(-1, 2))
def test_scaling_and_back_is_the_identity(low, width, share):
    limits = Limits(low, low + width)
    value = low + share * width
    assert float(to_physical(to_network(value, limits), limits)) == pytest.approx(value, abs=1e-4 * (width + abs(low)))


def test_the_limits_become_minus_one_and_one():
    assert to_network(3.0, Limits(3.0, 9.0)) == -1
    assert to_network(9.0, Limits(3.0, 9.0)) == 1


def _series(values):
    return jnp.asarray(values, jnp.float32)[None, :, None, None]  # (slice, time, row, col)


ONE = {
    "baseline_begin": jnp.array([1]),
    "baseline_end": jnp.array([3]),
    "brain_signal": jnp.array([100.0]),
    "echo_seconds": jnp.array([0.03]),
}


def test_relative_signal_is_one_before_the_bolus_and_leaves_transient_frames_out_of_s0():
    relative = convert_signal(_series([500, 100, 100, 50]), **ONE, signal="relative")
    np.testing.assert_allclose(relative.ravel(), [5, 1, 1, 0.5], rtol=1e-6)


def test_delta_r2star_inverts_the_signal_equation():
    rate = np.array([0.0, 0.0, 0.0, 20.0])
    signal = 100 * np.exp(-0.03 * rate)
    np.testing.assert_allclose(convert_signal(_series(signal), **ONE, signal="delta_r2star").ravel(), rate, atol=1e-4)


def test_air_stays_near_zero_instead_of_becoming_a_ratio_of_noise():
    air = convert_signal(_series([1, 0.01, 0.01, 3]), **ONE, signal="relative")
    assert float(jnp.abs(air).max()) < 0.5
    assert float(jnp.abs(convert_signal(_series([1, 0, 0, 3]), **ONE, signal="delta_r2star")).max()) == 0


def test_raw_signal_is_untouched():
    np.testing.assert_array_equal(convert_signal(_series([7, 8, 9, 1]), **ONE, signal="raw").ravel(), [7, 8, 9, 1])


def test_maps_are_picked_by_name_clipped_and_come_back_in_units():
    scaling = Scaling.from_ranges(RANGES, "relative", ("tmax", "cbf"), "percentile")
    maps = jnp.array([[50.0, 4.0, 5.0, 6.0, 30.0], [200.0, 4.0, 5.0, 3.0, 30.0]])  # cbf, cbv, mtt, tmax, ttp
    scaled = scaling.scaled_maps(maps)
    np.testing.assert_allclose(scaled, [[0.0, 0.0], [-0.5, 1.0]], atol=1e-6)  # cbf 200 is clipped to 100
    np.testing.assert_allclose(scaling.physical_maps(scaled), [[6.0, 50.0], [3.0, 100.0]], atol=1e-4)


def test_a_batch_of_counts_becomes_scaled_signal():
    scaling = Scaling.from_ranges(RANGES, "relative", ("tmax",), "percentile")
    dsc = jnp.asarray([2000, 1000, 1000, 700], jnp.int16)[None, :, None, None]
    batch = Batch(dsc, jnp.array([0.1]), **ONE)
    np.testing.assert_allclose(scaling.scaled_series(batch).ravel(), [1, 0.6, 0.6, 0.0], atol=1e-5)


def test_a_scaling_survives_json():
    scaling = Scaling.from_ranges(RANGES, "relative", ("tmax", "cbf"), "percentile")
    assert Scaling.from_json(scaling.to_json()) == scaling


@pytest.mark.parametrize(
    ("targets", "kind", "words"),
    [
        (("ttp",), "percentile", "no ttp"),
        (("tmax",), "published", "holds percentile"),
    ],
)
def test_a_range_that_was_not_measured_is_an_error(targets, kind, words):
    with pytest.raises(InputError, match=words):
        Scaling.from_ranges(RANGES, "relative", targets, kind)
