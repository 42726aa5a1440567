"""How weights are drawn, what the config may say, what the optimiser does."""

import functools

import jax
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.training import state


def create(seed=0, train=None, **fields):
    config = default.get_config()
    config.model.update({"width": 4, "discriminator_width": 8, "depth": 5} | fields)
    config.train.update(train or {})
    return state.create(config.model, config.train, frames=80, n_targets=1, seed=seed, total_steps=10)


@functools.cache
def drawn(init):
    _, _, created = create(init=init, bias_before_norm=True)
    return created


def leaves(tree, *words):
    """Leaves whose path holds all words, by path."""
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: leaf for name, leaf in named.items() if all(word in name for word in words)}


def pooled(tree, *words):
    return np.concatenate([leaf.ravel() for leaf in leaves(tree, *words).values()])


def test_pix2pix_weights_have_spread_002_and_norm_scales_stand_around_one():
    params_g, params_d = drawn("pix2pix").generator["params"], drawn("pix2pix").discriminator["params"]

    frames_of_first = params_d["conv0"]["kernel"][:, :, :-1]
    deeper = np.concatenate([pooled(params_d, "conv1", "kernel"), pooled(params_d, "conv2", "kernel")])
    for values in (pooled(params_g, "down", "kernel"), pooled(params_g, "up", "kernel"), frames_of_first, deeper):
        assert abs(values.std() / 0.02 - 1) < 0.05 and abs(values.mean()) < 1e-3
    scales = pooled(params_g, "scale")
    assert abs(scales.mean() - 1) < 0.005 and abs(scales.std() / 0.02 - 1) < 0.15
    assert not pooled(params_g, "bias").any() and not pooled(params_g, "shift").any()


def test_the_map_begins_with_as_much_say_in_the_discriminator_as_all_frames():
    kernel = np.asarray(drawn("pix2pix").discriminator["params"]["conv0"]["kernel"])
    of_map, of_frames = (np.square(part).sum() for part in (kernel[:, :, -1], kernel[:, :, :-1]))
    assert 0.8 < of_map / of_frames < 1.25


def test_pix2pix_temporal_weights_keep_the_variance_of_their_input():
    for name, kernel in leaves(drawn("pix2pix").generator["params"], "temporal", "kernel").items():
        if kernel.size > 200:
            assert abs(kernel.var() * 4 * kernel.shape[1] * 1.04 / 2 - 1) < 0.25, name


def test_published_weights_are_drawn_layer_type_by_layer_type():
    params_g, params_d = drawn("published").generator["params"], drawn("published").discriminator["params"]

    for values in (pooled(params_g, "down", "kernel"), pooled(params_d, "kernel"), pooled(params_g, "norm", "scale")):
        assert abs(values.std() / 0.05 - 1) < 0.15 and abs(values.mean()) < 0.01
    assert not pooled(params_g, "shift").any()
    for name, kernel in leaves(params_g, "'up", "kernel").items():  # f counts output channels
        limit = 1 / np.sqrt(16 * kernel.shape[-1])
        assert 0.95 * limit < np.abs(kernel).max() <= limit, name
    for name, kernel in leaves(params_g, "temporal", "kernel").items():
        limit = 1 / np.sqrt(4 * kernel.shape[1])
        assert 0.8 * limit < np.abs(kernel).max() <= limit, name
    for name, bias in leaves(params_g, "temporal", "bias").items():
        limit = 1 / np.sqrt(4 * {"1": 1, "2": 4, "3": 8, "4": 16, "5": 32, "6": 32}[name[name.index("block") + 5]])
        assert 0.3 * limit < np.abs(bias).max() <= limit, name
    assert pooled(params_d, "bias").std() > 0.01


def test_published_resize_layers_are_plain_convolutions_to_the_scheme():
    _, _, created = create(init="published", upsample="resize")
    assert abs(pooled(created.generator["params"], "'up", "kernel").std() / 0.05 - 1) < 0.05


def test_statistics_begin_at_mean_zero_variance_one_and_no_batches():
    stats = drawn("pix2pix").generator["stats"]
    assert not pooled(stats, "mean").any() and (pooled(stats, "variance") == 1).all()
    assert not pooled(stats, "batches").any()


def test_the_seed_decides_the_weights():
    one, same, other = (create(seed, width=1, depth=1)[2].generator["params"] for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert (pooled(one, "temporal", "kernel") != pooled(other, "temporal", "kernel")).any()


def test_state_begins_at_step_zero_with_plain_string_keyed_trees():
    created = drawn("pix2pix")
    assert int(created.step) == 0
    for path, _ in jax.tree_util.tree_leaves_with_path((created.generator, created.discriminator)):
        assert all(isinstance(key, jax.tree_util.DictKey | jax.tree_util.SequenceKey) for key in path)
        assert all(isinstance(key.key, str) for key in path[1:])


def test_networks_can_be_static_arguments():
    one, same, other = create()[0], create(seed=1)[0], create(depth=4)[0]
    assert hash(one) == hash(same) and one == same and one != other


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
