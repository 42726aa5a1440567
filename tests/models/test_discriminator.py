"""Score maps of the discriminators."""

import jax
import numpy as np
import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.models import discriminator


def patch(layers, **other):
    settings = {"width": 2, "norm": "batch", "bias_before_norm": False, "scheme": "pix2pix", "rng": None} | other
    return discriminator.PatchDiscriminator(4, 1, layers=layers, **settings)


def whole():
    return discriminator.WholeDiscriminator(5, width=2, norm="batch", scheme="pix2pix", rng=None)


def logits_shape(network, rows, cols):
    inputs = [jax.ShapeDtypeStruct((2, rows, cols, channels), "float32") for channels in (4, 1)]
    return jax.eval_shape(lambda series, maps: network(series, maps, "per_slice"), *inputs).shape


@pytest.mark.parametrize(
    ("layers", "rows", "cols", "shape"),
    [
        (2, 128, 128, (2, 30, 30, 1)),
        (3, 128, 128, (2, 14, 14, 1)),
        (2, 64, 64, (2, 14, 14, 1)),
        (2, 64, 48, (2, 14, 10, 1)),
        (1, 16, 16, (2, 6, 6, 1)),
    ],
)
def test_patch_logits_have_the_published_size(layers, rows, cols, shape):
    assert logits_shape(patch(layers), rows, cols) == shape


def test_patch_discriminator_names_the_size_it_needs():
    assert logits_shape(patch(2), 12, 12) == (2, 1, 1, 1)
    with pytest.raises(InputError, match=r"config\.data\.size gives 11 x 12 pixels.*needs 12"):
        logits_shape(patch(2), 11, 12)


@pytest.mark.slow
def test_a_logit_of_two_layers_sees_34_pixels():
    network = patch(2, norm="batch", rng=np.random.default_rng(0))
    maps = np.zeros((1, 64, 64, 1), np.float32)
    series = np.random.default_rng(1).standard_normal((1, 64, 64, 4)).astype(np.float32)

    seen = jax.grad(lambda maps: network(series, maps, "running")[0, 7, 7, 0])(maps)[0, :, :, 0]

    rows = np.flatnonzero(np.abs(np.asarray(seen)).sum(1))
    assert rows.max() - rows.min() + 1 == 34


@pytest.mark.parametrize("side", [113, 128])
def test_whole_image_discriminator_gives_one_logit(side):
    assert logits_shape(whole(), side, 128) == (2, 1, 1, 1)


@pytest.mark.parametrize("side", [112, 129])
def test_whole_image_discriminator_refuses_other_sides(side):
    with pytest.raises(InputError, match=f"config.data.size gives {side} x 128 pixels.*113 to 128"):
        logits_shape(whole(), side, 128)
