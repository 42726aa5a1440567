"""Both generators end to end: shapes, published parameter counts, padding, norms at test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.errors import InputError
from dscgan_jax.models import generators
from dscgan_jax.models.networks import build, parameter_count


def settings(**fields):
    model = default.get_config().model
    model.update(fields)
    return model


@functools.cache
def tiny(norm="batch"):
    """A temporal generator of two levels with drawn weights and statistics that were seen in no batch."""
    networks, variables, _ = build(settings(width=1, unet_width=2, depth=2, norm=norm), 64, 2, seed=0)
    shifted = jax.tree.map(lambda leaf: leaf + jnp.asarray(1, leaf.dtype), variables["stats"])
    return networks, {"params": variables["params"], "stats": shifted}


@functools.cache
def generate(mode, norm="batch"):
    return jax.jit(functools.partial(tiny(norm)[0].generate, mode=mode))


def series(n=2, side=4, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 64, side, side)).astype(np.float32)


def abstract(frames, n_targets, **fields):
    """Structure and shapes alone: costs no memory at the published widths."""
    networks, variables_g, variables_d = jax.eval_shape(lambda: build(settings(**fields), frames, n_targets, None))
    return variables_g, variables_d, networks


def published(**fields):
    return {"bias_before_norm": True, "init": "published"} | fields


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        (published(generator="temporal", depth=6), 13_244_449),
        (published(generator="temporal", depth=7), 14_031_393),
        (published(generator="temporal", depth=6, upsample="resize"), 12_750_001),
        (published(generator="temporal", depth=7, upsample="resize"), 13_307_697),
        (published(generator="temporal", depth=6, width=64), 4_751_329),
        (published(generator="temporal", depth=6, norm="instance"), 13_235_937),
        (published(generator="unet", depth=6), 117_095_681),
        (published(generator="unet", depth=7), 167_431_425),
        (published(generator="unet", depth=6, upsample="resize"), 85_442_945),
        (published(generator="unet", depth=7, upsample="resize"), 121_099_649),
        (published(generator="unet", depth=6, norm="instance"), 117_091_073),
        # 16 (C w + [190 + 64 (L-4) + 128 (L-5)] w^2) + 32 w + 1 + 2 w (29 + 16 (L-5)), and the temporal 680 n^2 + 97 n
        (published(generator="unet", depth=5, width=16), 16 * (80 * 16 + 254 * 256) + 32 * 16 + 1 + 32 * 29),
        (
            published(generator="temporal", depth=5, width=8),
            680 * 64 + 97 * 8 + 16 * (64 * 16 + 254 * 256) + 32 * 16 + 1 + 32 * 29,
        ),
    ],
)
def test_generators_have_the_published_number_of_parameters(fields, count):
    assert parameter_count(abstract(80, 1, **fields)[0]) == count


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        (published(), 743_233),
        (published(discriminator_layers=3), 2_845_505),
        (published(norm="instance"), 742_849),
        (published(discriminator="whole"), 4_766_913),
    ],
)
def test_discriminators_have_the_published_number_of_parameters(fields, count):
    assert parameter_count(abstract(80, 1, **fields)[1]) == count


@pytest.mark.parametrize(
    ("generator", "depth", "frames", "rows", "cols", "n_targets"),
    [
        ("temporal", 5, 64, 64, 64, 1),
        ("temporal", 6, 93, 128, 64, 5),
        ("temporal", 7, 127, 128, 128, 1),
        ("temporal", 6, 80, 60, 77, 2),
        ("unet", 6, 93, 128, 64, 5),
        ("unet", 7, 80, 100, 128, 1),
    ],
)
def test_maps_have_the_grid_of_the_series(generator, depth, frames, rows, cols, n_targets):
    variables, _, networks = abstract(frames, n_targets, generator=generator, depth=depth, width=4)
    inputs = jax.ShapeDtypeStruct((2, frames, rows, cols), jnp.float32)

    maps, _ = jax.eval_shape(lambda v, x: networks.generate(v, x, "train"), variables, inputs)

    assert maps.shape == (2, rows, cols, n_targets)


def test_the_temporal_generator_names_the_frames_it_takes():
    variables, _, networks = abstract(50, 1, width=2)
    with pytest.raises(InputError, match=r"config\.data\.frames is 50"):
        jax.eval_shape(
            lambda v, x: networks.generate(v, x, "per_slice"),
            variables,
            jax.ShapeDtypeStruct((1, 50, 64, 64), jnp.float32),
        )


def test_padding_adds_air_around_the_grid_and_is_cropped_again():
    original = np.ones((1, 2, 5, 8), np.float32)

    padded, crop = generators.pad_to_depth(original, 3)

    assert padded.shape == (1, 2, 8, 8)
    np.testing.assert_array_equal(padded[0, 0, :, 0], [-1, 1, 1, 1, 1, 1, -1, -1])
    np.testing.assert_array_equal(crop(np.moveaxis(np.asarray(padded), 1, -1)), np.moveaxis(original, 1, -1))


def test_a_grid_that_fits_is_left_alone():
    original = series(side=4)
    assert generators.pad_to_depth(original, 2)[0] is original


@pytest.mark.slow
def test_own_statistics_give_a_slice_the_same_maps_alone_as_in_a_batch():
    variables, x = tiny()[1], series() * np.float32([1.0, 0.1]).reshape(2, 1, 1, 1)

    together, stats = generate("per_slice")(variables, x)
    alone = [generate("train")(variables, x[index : index + 1])[0] for index in range(2)]  # as published: one by one

    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=2e-6)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["stats"])


@pytest.mark.slow
def test_the_three_modes_differ_and_only_training_records():
    variables, x = tiny()[1], series() * np.float32([1.0, 0.1]).reshape(2, 1, 1, 1)
    results = {mode: generate(mode)(variables, x) for mode in ("train", "per_slice", "running")}

    for one, other in (("train", "per_slice"), ("train", "running"), ("per_slice", "running")):
        assert np.abs(results[one][0] - results[other][0]).max() > 1e-3
    recorded = results["train"][1]["temporal"]["block1"]["norm"]
    assert int(recorded["batches"]) == 2 and not np.allclose(recorded["mean"], 1.0)
    jax.tree.map(np.testing.assert_array_equal, results["running"][1], variables["stats"])


def test_instance_norm_needs_no_statistics():
    _networks, variables = tiny("instance")
    assert variables["stats"] == {}
    maps, stats = generate("train", "instance")(variables, series())
    assert maps.shape == (2, 4, 4, 2) and stats == {}
    assert np.isfinite(np.asarray(maps)).all()
