"""A run that begins with another network has its numbers and its ranges, and is refused where they would not fit."""

import jax
import numpy as np
import pytest
from config_reads import StepThatOnlyCounts

from dscgan_jax.app.prepare import prepare
from dscgan_jax.configs import physics
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.training import checkpoints, fine_tuning, loop, state, weights

pytestmark = pytest.mark.slow

GAN = {"loss.objective": "logits", "data.signal": "raw", "model.discriminator_width": 4}


def config_of(cache, **fields):
    config = physics.get_config("demo")
    config.update_from_flattened_dict(
        {
            "data.cache_dir": str(cache),
            "data.size": 16,
            "data.split_fractions": (0.5, 0.25, 0.25),
            "phantom.subjects": 4,
            "phantom.size": 32,
            "phantom.slices": 2,
            "phantom.drawn_beside": 0,
            "model.looks": 0,
            "model.arterial_input": False,
            "loss.map_weights": (),
            "model.width": 4,
            "model.depth": 1,
            "train.crop": 0,
            "train.batch_size": 4,
            "train.steps": 2,
            "train.log_every_steps": 1,
            **fields,
        }
    )
    return config


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A network of two steps as a file, and the folder of its exams."""
    folder = tmp_path_factory.mktemp("begun")
    config = config_of(folder)
    loop.train(config, folder / "run", *prepare(config))
    weights.write(weights.of_run(folder / "run"), folder / "begun.safetensors")
    return folder


@pytest.fixture(scope="module")
def donor(begun):
    """The folder of a run with a discriminator; both networks are as they were drawn with another seed."""
    config = config_of(begun, **GAN, seed=5)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "compiled_within_memory", StepThatOnlyCounts)
        loop.train(config, begun / "donor", *prepare(config))
    return begun / "donor"


def drawn(config):
    return state.create(
        config.model, config.train, frames=config.data.frames, n_targets=5, seed=9, total_steps=config.train.steps
    )


def test_a_run_begins_with_the_numbers_and_keeps_the_ranges(begun, tmp_path):
    file, said = begun / "begun.safetensors", []
    config = config_of(
        begun,
        **{"phantom.seed": 1, "train.start_from": str(file), "train.learning_rate": 1e-12, "train.decay": "constant"},
    )
    builder, data = prepare(config)
    loop.train(config, tmp_path / "tuned", builder, data, tell=said.append)
    tuned, first = weights.of_run(tmp_path / "tuned"), weights.read(file)
    assert "begins with the network run" in said[0]
    assert tuned.record.begun_with == first.in_words and first.record.begun_with == ""
    assert tuned.record.without_places().config.train.start_from == "begun.safetensors"
    assert tuned.record.scaling == first.record.scaling and tuned.record.data.ranges == data.ranges
    assert data.ranges != first.record.data.ranges, "other exams would have had other ranges"
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-9), tuned.variables, first.variables)
    config.train.steps = 3
    file.rename(begun / "moved.safetensors")  # a run that goes on does not need it
    loop.train(config, tmp_path / "tuned", builder, data)
    (begun / "moved.safetensors").rename(file)
    assert checkpoints.load_record(tmp_path / "tuned", 3).begun_with == first.in_words
    assert checkpoints.load_record(tmp_path / "tuned", 3).scaling == first.record.scaling


def test_a_run_may_take_its_own_ranges_and_the_discriminator_too(donor, tmp_path, monkeypatch):
    rates = dict.fromkeys(("train.learning_rate", "train.discriminator_learning_rate"), 1e-12)
    start = {"train.start_from": str(donor), "train.start_ranges": "own", "train.start_discriminator": True}
    config = config_of(
        donor.parent, **GAN, **rates, **start, **{"phantom.preset": "chronic", "train.decay": "constant"}
    )
    builder, data = prepare(config)
    own = Scaling.from_ranges(data.ranges, "raw", config.target, config.data.ranges)
    first, said = weights.of_run(donor), []
    assert own != first.record.scaling
    for config.train.steps in (1, 2):  # begun, then resumed, where the step itself is of no interest
        loop.train(config, tmp_path, builder, data, tell=said.append)
        monkeypatch.setattr(loop, "compiled_within_memory", StepThatOnlyCounts)
        tuned = weights.of_run(tmp_path, "latest")
        assert tuned.step == config.train.steps and tuned.record.scaling == own
        assert tuned.record.begun_with == first.in_words
    assert "in the ranges of these exams" in said[0] and "resuming" in "".join(said)
    near = lambda one, other: np.testing.assert_allclose(one, other, atol=1e-9)  # noqa: E731
    jax.tree.map(near, tuned.variables, first.variables)
    like = drawn(config)[2].discriminator
    judges = [checkpoints.load_discriminator(run, step, like) for run, step in ((tmp_path, 1), (donor, first.step))]
    jax.tree.map(near, *judges)
    assert not np.allclose(judges[0]["params"]["conv0"]["kernel"], like["params"]["conv0"]["kernel"], atol=1e-3)


@pytest.mark.parametrize(
    ("start", "fields", "named"),
    [
        ("begun.safetensors", {"data.signal": "relative"}, "is a file of weights, which holds the generator alone"),
        ("run", {"data.signal": "relative"}, "was never trained"),
        ("physics", {}, "is a file of weights"),
        ("donor", {"model.discriminator_width": 8}, "set --config.model.discriminator_width=4"),
        ("donor", {"model.discriminator_layers": 3}, "set --config.model.discriminator_layers=2"),
    ],
)
def test_a_discriminator_that_is_not_there_or_does_not_fit_is_refused(donor, start, fields, named):
    start = start if start == "physics" else str(donor.parent / start)
    both = {"train.start_from": start, "train.start_discriminator": True}
    with pytest.raises(InputError, match=named):
        fine_tuning.beginning(config_of(donor.parent, **GAN | fields, **both))
    if start == str(donor):  # without it, its layers do not matter
        assert fine_tuning.beginning(config_of(donor.parent, **GAN | fields, **{"train.start_from": start}))


def test_layers_that_the_network_has_not_begin_as_drawn_and_silent(begun):
    config = config_of(begun, **{"model.looks": 2, "train.start_from": str(begun / "begun.safetensors")})
    given = fine_tuning.beginning(config)
    assert given is not None
    networks, _, before = drawn(config)
    after = fine_tuning.begun_with(before, given)
    np.testing.assert_array_equal(
        after.generator["params"]["looks"]["kernel"], before.generator["params"]["looks"]["kernel"]
    )
    series = np.random.default_rng(0).uniform(-1, 1, (1, config.data.frames, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(
        networks.generate(after.generator, series, "train")[0],
        given.networks.generate(given.variables, series, "train")[0],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model.width": 8}, "that network has model.width 4, this config has 8; set --config.model.width=4"),
        ({"target": ("tmax",)}, "target cbf,cbv,mtt,tmax,ttp, this config has tmax"),
        ({"data.lead_seconds": 10.0}, "data.lead_seconds 12.0"),
        ({"data.signal": "delta_r2star"}, "data.signal relative"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(begun, fields, named):
    config = config_of(begun, **fields, **{"train.start_from": str(begun / "begun.safetensors")})
    with pytest.raises(InputError, match=named):
        fine_tuning.beginning(config)


def test_nothing_is_begun_with_where_nothing_is_named(begun):
    assert fine_tuning.beginning(config_of(begun)) is None
    with pytest.raises(InputError, match=r"start_from=absent\.safetensors: there is no such run or file"):
        fine_tuning.beginning(config_of(begun, **{"train.start_from": "absent.safetensors"}))
