"""Published weights and files; the networks against numbers that the published implementation produced with them."""

import functools
from unittest import mock

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dscgan_jax.configs import default
from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks, published, pytorch_files, temporal, time_passes
from dscgan_jax.models.networks import build
from dscgan_jax.training import state, steps

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time; the arithmetic stays


def model_settings(fields):
    model = default.get_config().model
    model.update(fields)
    return model


def state_dict_of(archive, prefix):
    return {name.removeprefix(prefix): archive[name] for name in archive.files if name.startswith(prefix)}


def generator_of(state_dict):
    """Entries, structure and variables of a published generator."""
    found = published.infer_model_settings(state_dict)
    model = model_settings(found.settings)
    entries = published.generator_entries(model)
    return entries, build(model, 80, found.n_targets, None)[0], published.from_published(state_dict, entries)


def channels_first(maps):
    return np.moveaxis(np.asarray(maps), -1, 1)


def assert_close(ours, reference, tolerance):
    """Largest difference as a share of the largest reference value."""
    assert np.abs(np.asarray(ours) - reference).max() <= tolerance * np.abs(reference).max()


def in_precision(tree, bits):
    return jax.tree.map(lambda leaf: leaf.astype(f"float{bits}") if leaf.dtype.kind == "f" else leaf, tree)


# --- Every network, in train and eval mode -------------------------------------------------------------------------


def record_modules(network, entries, run):
    """Runs `run` and returns, besides its result, the output of each module that holds an entry, by published name."""
    seen, names = {}, {}
    for entry in entries:
        module = network
        for key in entry.path[:-1]:
            module = getattr(module, key)
        names[id(module)] = entry.name.rpartition(".")[0]

    def recording(call):
        def recorded(module, *inputs):
            output = call(module, *inputs)
            if id(module) in names:
                seen[names[id(module)]] = output
            return output

        return recorded

    with (
        mock.patch.multiple(blocks.Conv, __call__=recording(blocks.Conv.__call__)),
        mock.patch.multiple(blocks.TransposedConv, __call__=recording(blocks.TransposedConv.__call__)),
        mock.patch.multiple(blocks.BatchNorm, __call__=recording(blocks.BatchNorm.__call__)),
        mock.patch.multiple(temporal.TemporalStack, __call__=recording(temporal.TemporalStack.__call__)),
    ):
        names[id(getattr(network, "temporal", None))] = "temporal"
        return run(), seen


@functools.cache
def generator_outputs(path, bits):
    """Train mode with everything inside, and eval mode; `bits` of precision."""
    archive = np.load(path)
    entries, networks, variables = generator_of(state_dict_of(archive, "state/"))

    def forward(variables, series):
        network = nnx.merge(networks.generator, variables["params"], variables["stats"])
        maps, seen = record_modules(network, entries, lambda: network(series, "train"))
        stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        running, _ = networks.generate(variables, series, "running")
        return maps, seen, stats, running

    with jax.enable_x64(bits == 64):
        inputs = in_precision((variables, archive["x"]), bits)
        maps, seen, stats, running = jax.jit(forward, compiler_options=FAST)(*inputs)
        stats = published.to_published({"params": {}, "stats": stats}, [e for e in entries if e.tree == "stats"])
        return jax.tree.map(np.asarray, (maps, seen, stats, running))


GENERATORS = ["temp_deconv_bn.npz", "unet_deconv_bn.npz"]
PRE_TANH = {"temp_deconv_bn.npz": "unet_model.model.model.3", "unet_deconv_bn.npz": "model.model.3"}


@pytest.mark.parametrize("file", GENERATORS)
def test_generators_give_the_published_maps_in_single_precision(golden, file):
    archive = np.load(golden / file)
    maps, seen, _, running = generator_outputs(golden / file, 32)

    assert_close(channels_first(maps), archive["out_train"], 1e-4)
    assert_close(channels_first(running), archive["out_eval"], 1e-4)
    assert_close(channels_first(seen[PRE_TANH[file]]), archive["pre_tanh_train"], 1e-4)
    # A map that confused the modes would be far off.
    assert np.abs(archive["out_train"] - archive["out_eval"]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("file", GENERATORS)
def test_generators_give_the_published_maps_to_ten_digits_in_double_precision(golden, file):
    archive = np.load(golden / file)
    maps, seen, _, running = generator_outputs(golden / file, 64)

    assert_close(channels_first(maps), archive["out_train_f64"], 1e-10)
    assert_close(channels_first(running), archive["out_eval_f64"], 1e-10)
    assert_close(channels_first(seen[PRE_TANH[file]]), archive["pre_tanh_train_f64"], 1e-10)


@pytest.mark.parametrize("file", GENERATORS)
def test_one_pass_in_train_mode_leaves_the_published_running_statistics(golden, file):
    after = state_dict_of(np.load(golden / file), "after_train/")
    stats = generator_outputs(golden / file, 32)[2]

    assert stats.keys() == after.keys()
    for name, reference in after.items():
        assert_close(stats[name], reference, 0 if name.endswith("tracked") else 1e-5)


@pytest.mark.slow
def test_the_temporal_stack_gives_the_published_features_block_by_block(golden):
    archive = np.load(golden / "temp_deconv_bn.npz")
    seen = generator_outputs(golden / "temp_deconv_bn.npz", 32)[1]
    _, networks, variables = generator_of(state_dict_of(archive, "state/"))
    stack = nnx.merge(networks.generator, variables["params"], variables["stats"]).temporal
    weights = tuple(getattr(stack, f"block{index}").weights() for index in range(1, 7))
    series = archive["x"].reshape(2, 80, -1).swapaxes(1, 2)

    held = [
        index for index in range(1, 7) if f"inter_train/tmp_{index}" in archive
    ]  # the golden subset lacks large ones
    assert held[-2:] == [5, 6]
    if "temporal_train" in archive:
        assert_close(channels_first(seen["temporal"]), archive["temporal_train"], 1e-4)
    assert_close(channels_first(seen["temporal"])[..., :8, :8], archive["inter_train/tmp_6"][:, :, 0], 1e-4)
    for index in held:
        block = np.asarray(time_passes.features(series, weights[:index], False, series.dtype, False)[0])
        block = block.reshape(2, 64, 64, *block.shape[2:])[:, :8, :8].transpose(0, 4, 3, 1, 2)
        assert_close(block, archive[f"inter_train/tmp_{index}"], 1e-4)


def test_the_unet_gives_the_published_output_of_every_layer(golden):
    archive = np.load(golden / "unet_deconv_bn.npz")
    seen = generator_outputs(golden / "unet_deconv_bn.npz", 32)[1]

    inside = state_dict_of(archive, "inter_train/")
    assert inside.keys() == seen.keys() or (golden_files.is_subset(golden) and inside.keys() <= seen.keys())
    for name, reference in inside.items():
        assert_close(channels_first(seen[name]), reference, 1e-4)


@pytest.mark.parametrize(("bits", "tolerance"), [(32, 1e-4), (64, 1e-10)])
def test_the_patch_discriminator_gives_the_published_logits(golden, bits, tolerance):
    archive = np.load(golden / "patch_bn.npz")
    model = model_settings({"discriminator_width": 4})
    entries = published.discriminator_entries(model)
    variables = published.from_published(state_dict_of(archive, "state/"), entries)
    networks = build(model, 80, 1, None)[0]

    def forward(variables, x):
        series, maps = x[:, :80], jnp.moveaxis(x[:, 80:], 1, -1)
        return [networks.discriminate(variables, series, maps, mode) for mode in ("train", "running")]

    with jax.enable_x64(bits == 64):
        inputs = in_precision((variables, archive["x"]), bits)
        (train, stats), (running, _) = jax.jit(forward, compiler_options=FAST)(*inputs)
        train, running = np.asarray(train), np.asarray(running)
        after = published.to_published({"params": {}, "stats": stats}, [e for e in entries if e.tree == "stats"])

    assert_close(channels_first(train), archive["logits_train_f64"], tolerance)
    assert_close(channels_first(running), archive["logits_eval_f64"], tolerance)
    assert_close(channels_first(1 / (1 + np.exp(-train))), archive["out_train_f64"], tolerance)
    for name, reference in state_dict_of(archive, "after_train/").items():
        assert_close(after[name], reference, 1e-5)


# --- State dicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", GENERATORS)
def test_a_state_dict_comes_back_from_our_trees_unchanged_and_in_order(golden, file):
    state_dict = state_dict_of(np.load(golden / file), "state/")
    entries, _, variables = generator_of(state_dict)

    back = published.to_published(variables, entries)

    assert list(back) == list(state_dict)
    for name, value in state_dict.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize(
    ("generator", "norm", "upsample", "depth", "layers"),
    [
        ("temporal", "batch", "transposed", 5, 2),
        ("temporal", "instance", "resize", 6, 3),
        ("temporal", "batch", "resize", 7, 2),
        ("unet", "instance", "transposed", 6, 2),
        ("unet", "batch", "resize", 5, 3),
    ],
)
def test_every_variety_goes_to_the_published_names_and_back(generator, norm, upsample, depth, layers):
    fields = {
        "generator": generator,
        "norm": norm,
        "upsample": upsample,
        "depth": depth,
        "discriminator_layers": layers,
        "width": 2,
        "unet_width": 3,
        "discriminator_width": 2,
        "bias_before_norm": True,
    }
    model = model_settings(fields)
    _, variables_g, variables_d = build(model, 93, 2, seed=0)
    entries_g, entries_d = published.generator_entries(model), published.discriminator_entries(model)

    published_g = published.to_published(variables_g, entries_g)
    published_d = published.to_published(variables_d, entries_d)
    found = published.infer_model_settings(
        {f"module.{name}": value for name, value in published_g.items()}, published_d
    )

    expected = {name: fields[name] for name in found.settings if name in fields}
    assert {name: found.settings[name] for name in expected} == expected
    assert (found.frames, found.n_targets) == (93, 2)
    jax.tree.map(np.testing.assert_array_equal, published.from_published(published_g, entries_g), variables_g)
    jax.tree.map(np.testing.assert_array_equal, published.from_published(published_d, entries_d), variables_d)


def test_biases_that_our_model_leaves_out_are_published_as_zeros():
    model = model_settings({"width": 1, "unet_width": 1, "depth": 5})
    state_dict = published.to_published(build(model, 64, 1, seed=0)[1], published.generator_entries(model))
    np.testing.assert_array_equal(state_dict["tmp_4.0.bias"], np.zeros(8))


def test_weights_of_another_model_are_refused_by_name(golden):
    state_dict = state_dict_of(np.load(golden / "temp_deconv_bn.npz"), "state/")
    with pytest.raises(InputError, match=r"missing \['unet_model.*infer_model_settings"):
        published.from_published(state_dict, published.generator_entries(model_settings({"depth": 7})))
    with pytest.raises(InputError, match="neither of the published generators"):
        published.infer_model_settings({"conv.weight": np.zeros((1, 1))})
    with pytest.raises(InputError, match=r"config\.model\.depth is 4"):
        published.generator_entries(model_settings({"depth": 4}))


# --- Checkpoint files ----------------------------------------------------------------------------------------------


@functools.cache
def checkpoint_model(path):
    """A published checkpoint as our networks and variables of both."""
    content = pytorch_files.read_checkpoint(path)
    found = published.infer_model_settings(content["generator_state_dict"], content["discriminator_state_dict"])
    model = model_settings(found.settings)
    networks = build(model, found.frames, found.n_targets, None)[0]
    entries = published.generator_entries(model), published.discriminator_entries(model)
    return (
        content,
        networks,
        entries,
        published.from_published(content["generator_state_dict"], entries[0]),
        published.from_published(content["discriminator_state_dict"], entries[1]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epoch1", "unet_epoch9"])  # zip form, older form
def test_a_published_checkpoint_file_gives_the_published_maps(whole_golden, name):
    archive = np.load(whole_golden / f"expected_{name}.npz")
    content, networks, _, variables_g, variables_d = checkpoint_model(whole_golden / f"{name}.pth")
    y = np.moveaxis(archive["y"], 1, -1)

    def forward(variables_g, variables_d):
        maps = [networks.generate(variables_g, archive["x"], mode)[0] for mode in ("train", "per_slice", "running")]
        return *maps, networks.discriminate(variables_d, archive["x"], y, "running")[0]

    train, batch, running, logits = jax.jit(forward, compiler_options=FAST)(variables_g, variables_d)

    assert (content["epoch"], content["lr_g"], content["output"]) == (int(name[-1]), 1e-4, ["TMAX"])
    assert_close(channels_first(train), archive["out_train"], 1e-4)
    assert_close(channels_first(batch), archive["out_train"], 1e-4)  # one slice: its own statistics are the batch's
    assert_close(channels_first(running), archive["out_eval"], 1e-4)
    assert_close(1 / (1 + np.exp(-channels_first(logits))), archive["disc_out_eval"], 1e-5)


@pytest.mark.slow
def test_a_restored_published_run_takes_the_published_next_step(whole_golden):
    archive = np.load(whole_golden / "expected_unet_epoch9.npz")
    content, networks, entries, variables_g, variables_d = checkpoint_model(whole_golden / "unet_epoch9.pth")
    optimiser = optax.adam(content["lr_g"], b1=content["beta1_g"], b2=content["beta2_g"])
    moments = [
        published.adam_from_published(content[name], entry, optimiser.init(variables["params"]))
        for name, entry, variables in (
            ("gen_opt_state_dict", entries[0], variables_g),
            ("discr_opt_state_dict", entries[1], variables_d),
        )
    ]
    before = state.GanState(jnp.int32(2), variables_g, variables_d, *moments)
    step = functools.partial(
        steps.gan_step,
        networks=networks,
        optimisers=state.Optimisers(optimiser, optimiser),
        objective="published",
        l1_weight=1.0,
    )

    after, scalars = jax.jit(step, compiler_options=FAST)(
        before, archive["x"], np.moveaxis(archive["y"], 1, -1), np.ones((1, 1), bool)
    )

    np.testing.assert_allclose(scalars["loss_g"], archive["next/loss_g"], atol=1e-5)
    np.testing.assert_allclose(scalars["loss_d"] / 2, archive["next/loss_d_reported"], atol=1e-5)
    assert int(after.opt_g[0].count) == 3
    for letter, variables, entry in (("g", after.generator, entries[0]), ("d", after.discriminator, entries[1])):
        for key, value in published.to_published(variables, entry).items():
            np.testing.assert_allclose(value, archive[f"next/{letter}/{key}"], atol=1e-6, err_msg=key)


def test_moments_of_a_run_without_steps_leave_the_optimiser_as_it_is(whole_golden):
    content, _, entries, variables_g, _ = checkpoint_model(whole_golden / "epoch1.pth")
    fresh = optax.adam(1e-4).init(variables_g["params"])
    assert published.adam_from_published(content["gen_opt_state_dict"], entries[0], fresh) is fresh
