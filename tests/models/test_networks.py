"""How weights are drawn, and what the networks of a config are."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.models import networks


def built(seed=0, **fields):
    """The structure, the generator's variables, the discriminator's."""
    model = default.get_config().model
    model.update({"width": 4, "discriminator_width": 8, "depth": 5} | fields)
    return networks.build(model, 80, 1, seed)


@functools.cache
def drawn(init):
    return built(init=init, bias_before_norm=True)[1:]


def leaves(tree, *words):
    """Leaves whose path holds all words, by path."""
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: leaf for name, leaf in named.items() if all(word in name for word in words)}


def pooled(tree, *words):
    return np.concatenate([leaf.ravel() for leaf in leaves(tree, *words).values()])


def test_pix2pix_weights_have_spread_002_and_norm_scales_stand_around_one():
    params_g, params_d = (variables["params"] for variables in drawn("pix2pix"))

    frames_of_first = params_d["conv0"]["kernel"][:, :, :-1]
    deeper = np.concatenate([pooled(params_d, "conv1", "kernel"), pooled(params_d, "conv2", "kernel")])
    for values in (pooled(params_g, "down", "kernel"), pooled(params_g, "up", "kernel"), frames_of_first, deeper):
        assert abs(values.std() / 0.02 - 1) < 0.05 and abs(values.mean()) < 1e-3
    scales = pooled(params_g, "scale")
    assert abs(scales.mean() - 1) < 0.005 and abs(scales.std() / 0.02 - 1) < 0.15
    assert not pooled(params_g, "bias").any() and not pooled(params_g, "shift").any()


def test_the_map_begins_with_as_much_say_in_the_discriminator_as_all_frames():
    kernel = np.asarray(drawn("pix2pix")[1]["params"]["conv0"]["kernel"])
    of_map, of_frames = (np.square(part).sum() for part in (kernel[:, :, -1], kernel[:, :, :-1]))
    assert 0.8 < of_map / of_frames < 1.25


def test_pix2pix_temporal_weights_keep_the_variance_of_their_input():
    for name, kernel in leaves(drawn("pix2pix")[0]["params"], "temporal", "kernel").items():
        if kernel.size > 200:
            assert abs(kernel.var() * 4 * kernel.shape[1] * 1.04 / 2 - 1) < 0.25, name


def test_published_weights_are_drawn_layer_type_by_layer_type():
    params_g, params_d = (variables["params"] for variables in drawn("published"))

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
    variables = built(init="published", upsample="resize")[1]
    assert abs(pooled(variables["params"], "'up", "kernel").std() / 0.05 - 1) < 0.05


def test_statistics_begin_at_mean_zero_variance_one_and_no_batches():
    stats = drawn("pix2pix")[0]["stats"]
    assert not pooled(stats, "mean").any() and (pooled(stats, "variance") == 1).all()
    assert not pooled(stats, "batches").any()


def test_the_seed_decides_the_weights():
    one, same, other = (built(seed, width=1, depth=1)[1]["params"] for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert (pooled(one, "temporal", "kernel") != pooled(other, "temporal", "kernel")).any()


def test_variables_are_plain_string_keyed_trees():
    for path, _ in jax.tree_util.tree_leaves_with_path(drawn("pix2pix")):
        assert all(isinstance(key, jax.tree_util.DictKey | jax.tree_util.SequenceKey) for key in path)
        assert all(isinstance(key.key, str) for key in path[1:])


def test_networks_can_be_static_arguments():
    one, same, other = built()[0], built(seed=1)[0], built(depth=4)[0]
    assert hash(one) == hash(same) and one == same and one != other


def test_networks_without_weights_are_those_with_weights():
    structure, variables, _ = built()
    model = default.get_config().model
    model.update({"width": 4, "discriminator_width": 8, "depth": 5})
    abstract, shapes = networks.abstract_generator(model, 80, 1)
    assert abstract == structure
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (shapes, variables)]
    assert kinds[0] == kinds[1]
    assert networks.parameter_count(shapes) == networks.parameter_count(variables)


@pytest.mark.slow
def test_nothing_that_only_predicts_imports_an_optimiser():
    """Flax imports Optax by itself; the package does not."""
    code = (
        "import sys, flax.nnx; [sys.modules.pop(n) for n in list(sys.modules) if n.partition('.')[0] == 'optax'];"
        "import dscgan_jax.methods.network, dscgan_jax.models.published;"
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'optax', 'grain', 'tensorflow_datasets'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
