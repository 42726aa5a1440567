"""The training step: three steps of the published implementation, and what the step promises beyond them."""

import functools
import pathlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dscgan_jax.configs import default
from dscgan_jax.data import scaling
from dscgan_jax.data.batch import Batch
from dscgan_jax.errors import InputError
from dscgan_jax.models import blocks, published
from dscgan_jax.models.networks import build
from dscgan_jax.speed import inputs
from dscgan_jax.training import inference, sharding, state, steps

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time; the arithmetic stays
AS_USERS = FAST | {"xla_cpu_use_fusion_emitters": True}  # else sums round in another order, which Adam shows


def model_settings(**fields):
    model = default.get_config().model
    model.update(fields)
    return model


# --- Three steps from the golden start -----------------------------------------------------------------------------


def biased(variance, count):
    """In place of `blocks.unbiased`: what most libraries record."""
    del count
    return variance


GOLDEN_MODEL = {"width": 4, "discriminator_width": 4, "bias_before_norm": True}
FILES = {"published": "train_step_temp.npz", "logits": "train_step_temp_logits.npz"}


@functools.cache
def golden_networks():
    model = model_settings(**GOLDEN_MODEL)
    return build(model, 80, 1, None)[0], published.generator_entries(model), published.discriminator_entries(model)


@functools.cache
def compiled_step(objective, bits, variance):
    """Jitted step whose learning rate is an argument; `variance` is what the running variance is made of."""

    def step(before, series, target, rate):
        adam = optax.adam(rate, b1=0.5, b2=0.999)
        with mock.patch.object(blocks, "unbiased", variance):
            return steps.gan_step_and_gradients(
                before,
                series,
                target,
                jnp.ones((2, 1), bool),
                networks=golden_networks()[0],
                optimisers=state.Optimisers(adam, adam),
                objective=objective,
                l1_weight=1.0,
            )

    return jax.jit(step, compiler_options=AS_USERS)


@functools.cache
def three_steps(golden: pathlib.Path, objective, bits=32, rate=1e-4, variance=blocks.unbiased):
    """What three steps leave, under the golden files' names."""
    _, entries_g, entries_d = golden_networks()
    archive = np.load(golden / FILES["published"])  # holds input, target and start of both files
    precise = f"float{bits}"

    def start(letter, entries):
        named = {entry.name: archive[f"init/{letter}/{entry.name}"] for entry in entries}
        return jax.tree.map(
            lambda leaf: leaf.astype(precise) if leaf.dtype.kind == "f" else leaf,
            published.from_published(named, entries),
        )

    found = {}
    with jax.enable_x64(bits == 64):
        variables_g, variables_d = start("g", entries_g), start("d", entries_d)
        adam = optax.adam(rate)
        now = state.GanState(
            jnp.int32(0),
            variables_g,
            variables_d,
            adam.init(variables_g["params"]),
            adam.init(variables_d["params"]),
        )
        scalars = []
        for index in range(3):
            x, y = (archive[name][index].astype(precise) for name in ("x", "y"))
            now, terms, gradients = compiled_step(objective, bits, variance)(now, x, np.moveaxis(y, 1, -1), rate)
            scalars.append(jax.tree.map(float, terms))
            for letter, variables, gradient, entries in (
                ("g", now.generator, gradients[0], entries_g),
                ("d", now.discriminator, gradients[1], entries_d),
            ):
                for name, value in published.to_published(variables, entries).items():
                    found[f"step{index + 1}/{letter}/{name}"] = value
                if index == 0:
                    learned = [entry for entry in entries if entry.tree == "params"]
                    for name, value in published.to_published({"params": gradient}, learned).items():
                        found[f"grad1/{letter}/{name}"] = value
    for ours, theirs, factor in (
        ("loss_d_real", "bce_real", 1),
        ("loss_d_fake", "bce_gen", 1),
        ("loss_d_real", "loss_d_real", 0.5),
        ("loss_d_fake", "loss_d_gen", 0.5),
        ("loss_d", "loss_d_reported", 0.5),
        ("loss_adversarial", "adv_loss", 1),
        ("loss_l1", "l1_loss", 1),
        ("loss_g", "loss_g", 1),
    ):
        found[f"loss/{theirs}"] = np.array([factor * terms[ours] for terms in scalars])
    return found


def is_left_out(name):
    """Biases in front of a norm: their true gradient is zero, and Adam makes steps of rounding noise."""
    return "/g/tmp_" in name and name.endswith(".0.bias")


def disagreements(found, reference):
    """Where three steps in single precision leave the tolerances; an empty list is agreement."""
    complaints = []
    shares, worst = [], 0.0
    for name in reference.files:
        if is_left_out(name):
            continue
        kind, _, rest = name.partition("/")
        if kind == "f64" and np.abs(found[f"loss/{rest}"] - reference[name]).max() > 1e-5:
            complaints.append(f"losses: {rest}")
        elif kind == "grad1_l2":
            norm = np.sqrt(np.sum(np.square(found[f"grad1/{rest}"], dtype=np.float64)))
            if abs(norm - reference[name]) > 1e-3 * reference[name]:
                complaints.append(f"gradient norms: {rest}")
        elif kind == "step1" and np.abs(found[name] - reference[name]).max() > 5e-6:
            complaints.append(f"states after step 1: {rest}")
        elif kind == "step3":
            error = np.abs(np.float64(found[name]) - reference[name]).ravel()
            shares.append(error <= 2e-6)
            worst = max(worst, error.max())
            if name.endswith("num_batches_tracked") and error.max() > 0:
                complaints.append(f"batch counters: {rest}")
    if np.concatenate(shares).mean() < 0.995:
        complaints.append("states after step 3: too many beyond 2e-6")
    if worst > 3e-4:
        complaints.append("states after step 3: beyond 3e-4")
    return complaints


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["published", "logits"])
def test_three_steps_agree_with_the_published_implementation(golden, objective):
    assert disagreements(three_steps(golden, objective), np.load(golden / FILES[objective])) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"rate": 0.0}, "states after step 1"),
        ({"objective": "logits"}, "losses"),
        ({"objective": "logits"}, "gradient norms"),
        ({"variance": biased}, "states after step 1"),
    ],
    ids=["learning rate 0", "the other objective", "the other objective, gradients", "biased running variance"],
)
def test_the_comparison_fails_with(golden, other, complaint):
    found = three_steps(golden, **({"objective": "published"} | other))
    assert any(complaint in line for line in disagreements(found, np.load(golden / FILES["published"])))


@pytest.mark.slow
def test_a_biased_running_variance_is_all_that_its_comparison_finds(golden):
    found = three_steps(golden, "published", variance=biased)
    complaints = disagreements(found, np.load(golden / FILES["published"]))
    assert {line.rpartition(".")[2] for line in complaints if "step 1" in line} == {"running_var"}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["published", "logits"])
def test_three_steps_agree_to_seven_digits_in_double_precision(golden, objective):
    reference, found = np.load(golden / FILES[objective]), three_steps(golden, objective, bits=64)

    for name in reference.files:
        kind, _, rest = name.partition("/")
        if kind == "f64":
            np.testing.assert_allclose(found[f"loss/{rest}"], reference[name], atol=1e-10, err_msg=name)
        elif kind == "grad1":
            np.testing.assert_allclose(found[name], reference[name], atol=1e-10, rtol=1e-7, err_msg=name)
        elif kind in ("step1", "step3"):  # stored in float32
            np.testing.assert_allclose(found[name], reference[name], atol=1e-7, rtol=1e-7, err_msg=name)


@pytest.mark.slow
def test_the_unpacking_defect_of_the_published_loop_is_not_reproduced(golden):
    literal = np.load(golden / "train_step_temp_unpack.npz")
    found = three_steps(golden, "published")
    assert np.abs(found["loss/bce_real"] - literal["f64/bce_real"]).max() > 1e-4


# --- What the step promises ----------------------------------------------------------------------------------------

TINY = {"width": 1, "unet_width": 2, "depth": 1, "discriminator_width": 2, "discriminator_layers": 1}
SCALING = scaling.Scaling(
    signal="raw",
    source=scaling.Limits(0.0, 100.0),
    targets=("tmax", "cbf"),
    limits=(scaling.Limits(0.0, 10.0), scaling.Limits(0.0, 50.0)),
    clip=True,
)


@functools.cache
def tiny():
    config = default.get_config()
    config.model.update(TINY)
    return state.create(config.model, config.train, frames=64, n_targets=2, seed=0, total_steps=10)


@functools.cache
def tiny_step():
    networks, optimisers, _ = tiny()

    def step(before, batch, l1_weight):
        after, scalars = steps.train_step(
            before,
            batch,
            networks=networks,
            optimisers=optimisers,
            scaling=SCALING,
            objective="logits",
            l1_weight=l1_weight,
        )
        return after, scalars

    return jax.jit(step, compiler_options=AS_USERS)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return Batch(
        dsc=rng.integers(0, 1000, (2, 64, 6, 6), np.int16),
        dsc_scale=np.float32([0.1, 0.1]),
        maps=rng.uniform(0, 10, (2, 6, 6, 5)).astype(np.float32),
        has_map=np.ones((2, 5), bool),
        mask=np.ones((2, 6, 6), bool),
        baseline_begin=np.int32([1, 1]),
        baseline_end=np.int32([8, 8]),
        brain_signal=np.float32([50.0, 50.0]),
        echo_seconds=np.float32([0.03, 0.03]),
    )


@pytest.mark.slow
def test_a_step_counts_itself_and_reports_every_term():
    after, scalars = tiny_step()(tiny()[2], batch(), 3.0)

    assert int(after.step) == 1
    assert set(scalars) == {
        "loss_g",
        "loss_adversarial",
        "loss_l1",
        "loss_d",
        "loss_d_real",
        "loss_d_fake",
        "accuracy_real",
        "accuracy_fake",
    }
    np.testing.assert_allclose(scalars["loss_g"], scalars["loss_adversarial"] + 3 * scalars["loss_l1"], rtol=1e-6)
    np.testing.assert_allclose(scalars["loss_d"], (scalars["loss_d_real"] + scalars["loss_d_fake"]) / 2, rtol=1e-6)
    assert 0 <= scalars["accuracy_real"] <= 1


@pytest.mark.slow
def test_without_an_adversarial_term_the_discriminator_rests_and_pixels_outside_the_brain_count_less():
    networks, optimisers, before = tiny()
    one = batch()
    one.mask[:, :3] = False

    def after(weight, changed=one, accumulate=1):
        step = functools.partial(
            steps.l1_step,
            networks=networks,
            optimisers=optimisers,
            scaling=SCALING,
            outside_weight=weight,
            accumulate=accumulate,
        )
        return jax.jit(step, compiler_options=AS_USERS)(before, changed)

    state_after, scalars = after(0.0)
    assert set(scalars) == {"loss_g", "loss_l1"} and int(state_after.step) == 1
    jax.tree.map(np.testing.assert_array_equal, state_after.discriminator, before.discriminator)
    assert not np.array_equal(*(jax.tree.leaves(one.generator["params"])[0] for one in (state_after, before)))
    wrong = batch()
    wrong.mask[:, :3] = False
    wrong.maps[:, :3] = 9.0
    np.testing.assert_allclose(after(0.0, wrong)[1]["loss_l1"], scalars["loss_l1"], rtol=1e-6)
    assert abs(float(after(1.0, wrong)[1]["loss_l1"]) - float(after(1.0)[1]["loss_l1"])) > 1e-3


@pytest.mark.slow
def test_each_map_counts_as_much_as_its_weight_says():
    networks, optimisers, before = tiny()

    def loss(*weights):
        step = functools.partial(
            steps.l1_step,
            networks=networks,
            optimisers=optimisers,
            scaling=SCALING,
            outside_weight=1.0,
            map_weights=weights,
        )
        return float(jax.jit(step, compiler_options=FAST)(before, batch())[1]["loss_l1"])

    tmax, cbf = loss(1.0, 0.0) / 2, loss(0.0, 1.0) / 2  # a map alone has twice its weight: they are over their mean
    np.testing.assert_allclose(loss(), tmax + cbf, rtol=1e-5)
    np.testing.assert_allclose(loss(3.0, 1.0), 1.5 * tmax + 0.5 * cbf, rtol=1e-5)
    assert abs(tmax - cbf) > 1e-3


@pytest.mark.slow
def test_an_augmented_step_follows_from_seed_and_step():
    seen = []

    def step(state, batch):
        seen.append(batch)
        return state, {}

    before = tiny()[2]
    for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1)):
        now = before.replace(step=jnp.int32(number))
        steps.augmented_step(now, batch(), step=step, seed=seed, frame_seconds=1.25, crop=0)
    first, again, other_seed, other_step = (np.asarray(one.dsc) for one in seen)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other_seed) and not np.array_equal(first, other_step)


def test_a_missing_map_holds_anything_and_changes_nothing():
    one, other = batch(), batch()
    for variant, filler in ((one, np.nan), (other, 7.0)):
        variant.has_map[0, 0] = False  # cbf of the first slice
        variant.maps[0, :, :, 0] = filler

    after_one, scalars = tiny_step()(tiny()[2], one, 1.0)
    after_other, _ = tiny_step()(tiny()[2], other, 1.0)

    assert all(np.isfinite(float(value)) for value in scalars.values())
    jax.tree.map(np.testing.assert_array_equal, after_one.generator, after_other.generator)
    jax.tree.map(np.testing.assert_array_equal, after_one.discriminator, after_other.discriminator)


@pytest.mark.slow
def test_a_map_that_no_exam_has_sends_no_gradient_into_its_output():
    networks, optimisers, before = tiny()
    rng = np.random.default_rng(0)
    series, target = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((2, 64, 6, 6), (2, 6, 6, 2)))
    step = functools.partial(
        steps.gan_step_and_gradients, networks=networks, optimisers=optimisers, objective="logits", l1_weight=1.0
    )

    _, _, (gradient, _) = jax.jit(step, compiler_options=FAST)(before, series, target, np.array([[True, False]] * 2))

    last_layer = gradient["unet"]["up0"]
    assert not np.asarray(last_layer["bias"])[1] and not np.asarray(last_layer["kernel"])[..., 1].any()
    assert np.asarray(last_layer["bias"])[0] != 0


def test_learning_makes_the_maps_fit():
    now, first = tiny()[2], None
    for _ in range(30):
        now, scalars = tiny_step()(now, batch(), 10.0)
        first = float(scalars["loss_l1"]) if first is None else first
    assert float(scalars["loss_l1"]) < first


def test_prediction_is_the_generator_on_the_scaled_series():
    networks, _, now = tiny()
    series = np.float32(batch().dsc) * 0.1 / 50 - 1

    predict = jax.jit(functools.partial(inference.predict_step, networks=networks, scaling=SCALING, mode="running"))
    maps = predict(now.generator, batch())

    generate = jax.jit(functools.partial(networks.generate, mode="running"))
    np.testing.assert_allclose(maps, generate(now.generator, series)[0], atol=1e-5)
    assert maps.shape == (2, 6, 6, 2)


def test_an_unknown_objective_is_refused():
    networks, optimisers, before = tiny()
    step = functools.partial(
        steps.train_step, networks=networks, optimisers=optimisers, scaling=SCALING, objective="wgan", l1_weight=1.0
    )
    with pytest.raises(InputError, match=r"config\.loss\.objective is 'wgan'"):
        jax.eval_shape(step, before, batch())


# --- Smaller, in parts ---------------------------------------------------------------------------------------------


def scaled_step(accumulate=1, **model):
    """State, scalars and gradients after one step of four scaled slices, and the program that made them."""
    config = default.get_config()
    config.model.update({**TINY, **model})
    networks, optimisers, before = state.create(
        config.model, config.train, frames=64, n_targets=2, seed=0, total_steps=10
    )
    rng = np.random.default_rng(0)
    series, target = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((4, 64, 6, 6), (4, 6, 6, 2)))
    has_map = np.array([[True, True], [True, False], [True, True], [False, False]])  # parts: slices 0 and 2, 1 and 3
    step = jax.jit(
        functools.partial(
            steps.gan_step_and_gradients,
            networks=networks,
            optimisers=optimisers,
            objective="logits",
            l1_weight=1.0,
            accumulate=accumulate,
        ),
        compiler_options=FAST,
    ).lower(before, series, target, has_map)
    return step.compile()(before, series, target, has_map), step.as_text()


@pytest.mark.slow
def test_parts_of_a_batch_give_the_gradients_of_the_whole_where_no_norm_mixes_slices():
    (_, scalars, gradients), _ = scaled_step(norm="instance")
    (_, scalars_of_parts, gradients_of_parts), _ = scaled_step(norm="instance", accumulate=2)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), scalars, scalars_of_parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-4), gradients, gradients_of_parts)


def test_a_part_holds_whole_exams_where_the_network_sees_them():
    np.testing.assert_array_equal(steps._split(jnp.arange(8), 2), [[0, 2, 4, 6], [1, 3, 5, 7]])
    np.testing.assert_array_equal(steps._split(jnp.arange(8), 2, exam_slices=2), [[0, 1, 4, 5], [2, 3, 6, 7]])


@pytest.mark.slow
def test_batch_norms_see_one_part_at_a_time():
    (after, _, _), _ = scaled_step(accumulate=2)

    assert int(after.generator["stats"]["temporal"]["block1"]["norm"]["batches"]) == 2
    assert int(after.discriminator["stats"]["norm1"]["batches"]) == 2 * 3  # real, fake, fake again


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["temporal", "unet"])
def test_bfloat16_computes_in_sixteen_bits_and_keeps_everything_in_thirty_two(generator):
    (exact, scalars, _), exact_program = scaled_step(generator=generator)
    (after, rough_scalars, _), program = scaled_step(generator=generator, compute="bfloat16")

    assert "bf16" in program and "bf16" not in exact_program
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, exact)
    assert {scalar.dtype for scalar in rough_scalars.values()} == {np.dtype("float32")}
    np.testing.assert_allclose(rough_scalars["loss_l1"], scalars["loss_l1"], rtol=0.02)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=0.02, rtol=0.02),
        after.generator["stats"],
        exact.generator["stats"],
    )


# --- One program for training and for measuring --------------------------------------------------------------------


@pytest.mark.slow
def test_the_jitted_step_leaves_state_and_scalars_on_every_device_of_the_mesh():
    config = default.get_config()
    config.model.update(TINY)
    config.train.batch_size = 2
    networks, optimisers, before = tiny()
    mesh = sharding.data_mesh(jax.devices()[:2])
    step = steps.jitted_step(config, networks, optimisers, SCALING, mesh)
    compiled = step.lower(sharding.place_state(before, mesh), sharding.place_batch(batch(), mesh)).compile()
    shardings = jax.tree.leaves(compiled.output_shardings)
    assert len(shardings) > 100
    assert all(one.is_fully_replicated and len(one.device_set) == 2 for one in shardings)


def test_the_benchmark_measures_the_program_that_trains():
    config = default.get_config()
    config.model.update(TINY)
    networks, optimisers, before = tiny()
    mesh = sharding.data_mesh(jax.devices()[:2])
    arguments = sharding.place_state(before, mesh), sharding.place_batch(batch(), mesh)
    with mock.patch.object(sharding, "data_mesh", return_value=mesh):
        measured = inputs.training_step(config, networks, optimisers)
    trained = steps.jitted_step(config, networks, optimisers, inputs.scaling_of(config), mesh)
    assert measured.lower(*arguments).as_text() == trained.lower(*arguments).as_text()
    assert "sdy.mesh" in trained.lower(*arguments).as_text()  # shardings are part of the text
