"""Four virtual devices compute what one computes: statistics are those of the global batch."""

import functools

import jax
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.training import sharding, state, steps

FAST = {"xla_backend_optimization_level": 0}


@functools.cache
def created():
    config = default.get_config()
    config.model.update({"width": 1, "unet_width": 2, "depth": 2, "discriminator_width": 2, "discriminator_layers": 1})
    return state.create(config.model, config.train, frames=64, n_targets=1, seed=0, total_steps=10)


@functools.cache
def arrays():
    """Four slices that no device would take for another's: each has its own level, contrast and target."""
    rng = np.random.default_rng(0)
    contrast, level = np.float32([[1.0, 0.1, 0.5, 2.0], [-0.5, 0.0, 0.8, 3.0]]).reshape(2, 4, 1, 1, 1)
    series = contrast * rng.standard_normal((4, 64, 8, 8), np.float32) + level
    target = np.clip(0.3 * level + 0.3 * rng.standard_normal((4, 8, 8, 1), np.float32), -1, 1)
    return {"series": series, "target": target, "has_map": np.array([[True], [False], [True], [True]])}


@functools.cache
def compiled_step():
    networks, optimisers, _ = created()
    return jax.jit(
        functools.partial(
            steps.gan_step_and_gradients, networks=networks, optimisers=optimisers, objective="logits", l1_weight=1.0
        ),
        compiler_options=FAST,
    )


@functools.cache
def one_step(n_devices, first=0, last=4):
    """State, scalars and gradients after one step over the slices `first` to `last`, as NumPy."""
    mesh = sharding.data_mesh(jax.devices()[:n_devices])
    batch = sharding.place_batch({name: array[first:last] for name, array in arrays().items()}, mesh)
    after, scalars, gradients = compiled_step()(
        sharding.place_state(created()[2], mesh), batch["series"], batch["target"], batch["has_map"]
    )
    numbers = {
        "generator": after.generator,
        "discriminator": after.discriminator,
        "scalars": scalars,
        "gradients": gradients,
    }
    return jax.tree.map(np.asarray, numbers)


def largest_share(one, other):
    """Largest difference of two trees, each leaf as a share of its largest value."""

    def share(a, b):
        return np.abs(a - b).max() / max(np.abs(a).max(), 1e-3)

    return max(jax.tree.leaves(jax.tree.map(share, one, other)))


@pytest.mark.slow
def test_four_devices_make_the_update_of_one():
    one, four = one_step(1), one_step(4)

    assert largest_share(one["scalars"], four["scalars"]) < 1e-5
    assert largest_share(one["gradients"], four["gradients"]) < 1e-4
    for network in ("generator", "discriminator"):
        assert largest_share(one[network]["stats"], four[network]["stats"]) < 1e-5
        # Adam's first step is the rate whatever the gradient's size: rounding decides where that is zero.
        apart = jax.tree.map(
            lambda a, b: (np.abs(a - b) > 1e-6).ravel(), one[network]["params"], four[network]["params"]
        )
        assert np.concatenate(jax.tree.leaves(apart)).mean() < 0.005


@pytest.mark.slow
def test_statistics_per_device_would_be_found_out():
    """What each device would do with norms of its own: a step on its own slice, gradients and statistics averaged."""
    one = one_step(1)
    apart = [one_step(1, index, index + 1) for index in range(4)]
    averaged = jax.tree.map(lambda *values: np.mean(values, axis=0), *apart)

    assert largest_share(one["gradients"], averaged["gradients"]) > 1e-2
    assert largest_share(one["generator"]["stats"], averaged["generator"]["stats"]) > 1e-2
    assert largest_share(one["discriminator"]["stats"], averaged["discriminator"]["stats"]) > 1e-2


def test_a_process_gets_its_rows_back_in_order_and_the_state_for_itself():
    mesh = sharding.data_mesh()
    series = arrays()["series"]
    np.testing.assert_array_equal(sharding.own_rows(sharding.place_batch({"series": series}, mesh)["series"]), series)
    generator = created()[2].generator
    alone = sharding.own_copy(sharding.place_state(generator, mesh))
    jax.tree.map(np.testing.assert_array_equal, alone, generator)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(alone))


def test_the_batch_is_split_and_the_state_is_everywhere():
    mesh = sharding.data_mesh()
    batch = sharding.place_batch(arrays(), mesh)
    placed = sharding.place_state(created()[2], mesh)

    assert [shard.data.shape for shard in batch["series"].addressable_shards] == [(1, 64, 8, 8)] * 4
    np.testing.assert_array_equal(batch["series"].addressable_shards[2].data, arrays()["series"][2:3])
    assert placed.step.sharding.is_fully_replicated and len(placed.step.sharding.device_set) == 4
    jax.tree.map(np.testing.assert_array_equal, placed, created()[2])
