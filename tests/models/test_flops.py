"""Counted operations of the networks, beside kernels, XLA's count, and the trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dscgan_jax.configs import default
from dscgan_jax.models import blocks, flops, networks, products
from dscgan_jax.speed.inputs import with_fields


def test_a_training_slice_of_the_papers_setting_counts_three_tera():
    counted = flops.counted_flops(default.get_config().model, 80, 128, 1)
    assert counted.training == pytest.approx(3.07e12, rel=0.005)
    assert counted.training_published / counted.training == pytest.approx(1.66, abs=0.01)


def test_positions_are_those_of_the_published_tables():
    model = default.get_config().model
    stack, image = flops.generator_layers(model, 80, 128, 1)
    assert [layer.positions // 128**2 for layer in stack] == [40, 20, 10, 5, 2, 1]
    assert [layer.positions for layer in image] == [side**2 for side in (64, 32, 16, 8, 4, 2, 2, 4, 8, 16, 32, 64)]
    assert [layer.positions for layer in flops.discriminator_layers(model, 80, 128, 1)] == [
        64**2,
        32**2,
        31**2,
        30**2,
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model.generator": "unet"},
        {"model.generator": "light", "model.width": 24},
        {"model.generator": "light", "model.width": 24, "model.looks": 3},
        {"model.generator": "light", "model.width": 24, "model.looks": 3, "model.arterial_input": True},
        {"model.generator": "light", "model.width": 24, "model.peak_time": True},
        {"model.generator": "voxel"},
        {"model.generator": "patch"},
        {"model.generator": "stunet", "model.depth": 4},
        {"model.upsample": "resize"},
        {"model.neighbours": 2},
        {"model.neighbours": 1, "model.unet_dims": 3},
        {"model.depth": 3},
        {"model.discriminator_layers": 3},
        {"model.discriminator": "whole"},
    ],
)
def test_each_counted_layer_is_a_kernel_of_the_network(fields):
    model = with_fields(default.get_config(), **{"model.width": 4, "model.discriminator_width": 4, **fields}).model
    built = jax.eval_shape(lambda: networks.build(model, 80, 5, None)[1:])
    generator, discriminator = (variables["params"] for variables in built)
    stack, image = flops.generator_layers(model, 80, 128, 5)
    plain = ((), ())  # layers that are no part of a part
    places = {"light": plain, "stunet": plain, "voxel": (("curves",), ()), "patch": (("curves",), ())}
    of_stack, of_image = places.get(model.generator, (("temporal",), ("unet",)))
    counted = {(*of_stack, layer.name): layer for layer in stack} | {(*of_image, layer.name): layer for layer in image}
    counted |= {(layer.name,): layer for layer in flops.discriminator_layers(model, 80, 128, 5)}
    kernels = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path([generator, discriminator]):
        names = [entry.key for entry in path[1:]]
        if names[-1] == "kernel":
            kernels[tuple(name for name in names[:-1] if name != "conv")] = leaf.shape
    assert set(kernels) == set(counted)
    for path, shape in kernels.items():
        layer = counted[path]
        assert (np.prod(shape[:-2]), *shape[-2:]) == (layer.taps, layer.n_in, layer.n_out), path


@pytest.mark.parametrize("upsample", [False, True])
def test_a_layer_counts_what_xla_counts(upsample):
    common = {"bias": False, "scheme": "pix2pix", "rng": np.random.default_rng(0)}
    layer = (
        blocks.TransposedConv(8, 16, **common)
        if upsample
        else blocks.Conv(8, 16, size=4, stride=2, padding=1, **common)
    )
    side = 64 if upsample else 128  # on the side with fewer pixels, all 16 taps meet each of 64 x 64
    analysis = jax.jit(lambda x: layer(x)).lower(jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)).cost_analysis()
    assert flops.Layer("layer", 16, 8, 16, 64**2).flops == pytest.approx(analysis["flops"], rel=0.05)


def test_padding_to_the_depth_counts():
    model = default.get_config().model
    assert flops.counted_flops(model, 80, 100, 1).generator == flops.counted_flops(model, 80, 128, 1).generator


def test_the_trace_of_a_loop_counts_as_often_as_it_runs():
    def work(x, y):
        return jax.lax.map(lambda row: row @ y, x).sum() + jax.lax.fori_loop(0, 5, lambda _, z: z @ y, x[0]).sum()

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((7, 3, 4), (4, 4))]
    assert flops.traced_flops(work, *shapes) == (7 + 5) * 2 * 3 * 4 * 4


def test_the_trace_of_a_convolution_and_its_gradients_counts_thrice():
    layer = blocks.Conv(8, 16, size=4, stride=2, padding=1, bias=False, scheme="pix2pix", rng=np.random.default_rng(0))

    def output(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=products.IMAGE)

    x, kernel = jax.ShapeDtypeStruct((1, 64, 64, 8), jnp.float32), layer.kernel[...]
    forward = flops.traced_flops(output, x, kernel)
    assert forward == flops.Layer("layer", 16, 8, 16, 32**2).flops
    both = flops.traced_flops(jax.grad(lambda x, kernel: jnp.square(output(x, kernel)).sum(), (0, 1)), x, kernel)
    assert both == pytest.approx(3 * forward, rel=0.1)


def test_products_whose_results_nobody_needs_do_not_count():
    x = jax.ShapeDtypeStruct((4, 4), np.float32)

    assert flops.traced_flops(lambda x: (x @ x, (x @ x @ x).sum() * 0)[0], x) == 2 * 4 * 4 * 4
