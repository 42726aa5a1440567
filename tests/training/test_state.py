"""The state before the first step, and what the optimisers do."""

import jax
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.training import state


def test_the_state_begins_at_step_zero_and_holds_nothing_but_what_training_carries():
    config = default.get_config()
    config.model.update({"width": 1, "unet_width": 2, "depth": 1, "discriminator_width": 2})
    created = state.create(config.model, config.train, frames=64, n_targets=1, seed=0, total_steps=10)[2]
    assert int(created.step) == 0
    assert set(vars(created)) == {"step", "generator", "discriminator", "opt_g", "opt_d"}
    moments = jax.tree.leaves((created.opt_g, created.opt_d))
    assert moments and not any(np.asarray(leaf).any() for leaf in moments)


@pytest.mark.parametrize(("decay", "last"), [("constant", 1.0), ("cosine", 0.0)])
def test_learning_rate_follows_the_config(decay, last):
    config = default.get_config()
    config.train.decay, config.train.learning_rate = decay, 0.5
    config.train.discriminator_learning_rate = 0.25
    optimiser, of_discriminator = state.make_optimisers(config.train, 10)
    params = np.float32(1.0)
    opt_state = optimiser.init(params)

    sizes = []
    for _ in range(11):
        update, opt_state = optimiser.update(np.float32(2.0), opt_state, params)
        sizes.append(abs(float(update)))

    np.testing.assert_allclose(sizes[0], 0.5, rtol=1e-5)  # Adam's first step is the rate itself
    np.testing.assert_allclose(sizes[10], 0.5 * last, atol=1e-5)
    first, _ = of_discriminator.update(np.float32(2.0), of_discriminator.init(params), params)
    np.testing.assert_allclose(abs(float(first)), 0.25, rtol=1e-5)


def test_both_learning_rates_grow_with_the_batch_where_that_is_asked_for():
    config = default.get_config()
    config.train.batch_size, config.train.learning_rate_scaling = 16, "linear"
    for optimiser in state.make_optimisers(config.train, 10):
        params = np.float32(1.0)
        first, _ = optimiser.update(np.float32(2.0), optimiser.init(params), params)
        np.testing.assert_allclose(abs(float(first)), 4e-4, rtol=1e-5)  # four times the rate of batches of 4
