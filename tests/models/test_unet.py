"""The U-Net's levels, skips and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.models import unet


def make(depth, **other):
    settings = {
        "width": 2,
        "norm": "batch",
        "upsample": "transposed",
        "bias_before_norm": False,
        "scheme": "pix2pix",
        "rng": None,
    } | other
    return unet.UNet(3, 1, depth=depth, **settings)


def test_channels_double_up_to_eight_widths():
    assert unet.level_channels(16, 6) == (16, 32, 64, 128, 128, 128)


@pytest.mark.parametrize("upsample", ["transposed", "resize"])
@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_output_has_the_grid_of_the_input(depth, upsample):
    network = make(depth, upsample=upsample)
    # Reflection needs two pixels behind the last enlargement: a bottleneck of one pixel is enough.
    x = jax.ShapeDtypeStruct((2, 2**depth, 2 * 2**depth, 3), "float32")

    assert jax.eval_shape(lambda x: network(x, "per_slice"), x).shape == (2, 2**depth, 2 * 2**depth, 1)


def test_norms_stand_where_the_published_network_has_them():
    network = make(6)
    norms = {name for name in vars(network) if "norm" in name}
    assert norms == {f"down_norm{level}" for level in range(1, 5)} | {f"up_norm{level}" for level in range(1, 6)}


@pytest.mark.parametrize(
    ("norm", "upsample", "flag", "biased"),
    [
        ("batch", "transposed", False, {"up0"}),
        ("batch", "transposed", True, {"up0"}),
        ("batch", "resize", False, {"up0"}),
        ("batch", "resize", True, {"up0", "up1", "up2"}),
        ("instance", "transposed", False, {"down0", "down2", "up0"}),
        ("instance", "transposed", True, {"down0", "down1", "down2", "up0", "up1", "up2"}),
    ],
)
def test_a_bias_in_front_of_a_norm_needs_the_flag(norm, upsample, flag, biased):
    network = make(3, norm=norm, upsample=upsample, bias_before_norm=flag)
    layers = {name: getattr(network, name) for name in vars(network) if name[:-1] in ("down", "up")}
    found = {name for name, layer in layers.items() if getattr(layer, "conv", layer).has_bias}
    assert found == biased


def test_the_skip_comes_before_what_was_upsampled():
    network = make(2, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 4, 4, 3)).astype(np.float32)
    before = network(x, "per_slice")
    kernel = jnp.asarray(network.up0.kernel[...])
    network.up0.kernel[...] = kernel.at[:, :, 2:].set(0.0)  # the last two channels come from below
    network.down1.kernel[...] = 0.0 * network.down1.kernel[...]
    skip_only = network(x, "per_slice")
    network.down1.kernel[...] = network.down1.kernel[...] + 1.0

    np.testing.assert_array_equal(network(x, "per_slice"), skip_only)
    assert np.abs(before - skip_only).max() > 0


def test_a_depth_below_one_is_refused():
    with pytest.raises(InputError, match=r"config\.model\.depth is 0"):
        make(0)
