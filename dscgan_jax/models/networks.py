"""Both networks of a config: their structure, and the variables they are applied with. Knows no optimiser.

Words: *variables* are a network's `{"params": ..., "stats": ...}`: two trees of plain dicts with string keys.
*Networks* hold the structure alone, so they are static under `jit`.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dscgan_jax.models import comparators, discriminator, generators, light
from dscgan_jax.settings import COMPARATORS

Array = jax.Array
Variables = dict[str, Any]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Networks:
    """Structure of generator and discriminator; hashable.

    With `compute` = `bfloat16` the layers compute in it; parameters, statistics, the temporal stack's first
    convolution, the generator's last one, outputs and losses stay as they are.

    `exam_slices` says how many slices in a row of every batch are one exam: 1 for a network that sees each slice alone,
    for one that sees neighbours all of an exam, in order; 0 = not said, and it then refuses to work.
    """

    generator: nnx.GraphDef
    discriminator: nnx.GraphDef
    compute: str = "float32"
    exam_slices: int = 1

    def generate(self, variables: Variables, series: Array, mode: str) -> tuple[Array, Variables]:
        """(slice, time, row, col) scaled -> (slice, row, col, map) in (-1, 1), and the statistics afterwards.

        `mode` is one of `blocks.MODES`; the statistics change in `train` alone. `per_slice` means each exam's own
        statistics where a network sees whole exams: they are its input, as a slice is of the others.
        """
        if not self.exam_slices:
            raise ValueError("a network that sees neighbours is built with the number of slices of an exam")
        together = () if self.exam_slices == 1 else (self.exam_slices,)
        return _apply(self.generator, variables, series, mode, self._dtype(series), *together)

    def discriminate(self, variables: Variables, series: Array, maps: Array, mode: str) -> tuple[Array, Variables]:
        """Series (slice, time, row, col), maps (slice, row, col, map) -> logits (slice, row', col', 1), statistics."""
        dtype = self._dtype(series)
        frames_last = jnp.moveaxis(series.astype(dtype), 1, -1)
        return _apply(self.discriminator, variables, frames_last, maps.astype(dtype), mode)

    def _dtype(self, inputs: Array) -> jnp.dtype:
        return jnp.dtype(jnp.bfloat16) if self.compute == "bfloat16" else inputs.dtype


def _apply(graphdef: nnx.GraphDef, variables: Variables, *inputs: Any) -> tuple[Array, Variables]:
    network = nnx.merge(graphdef, variables["params"], variables["stats"])
    output = network(*inputs)
    return output, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))


def build_generator(model: Any, frames: int, n_targets: int, rng: np.random.Generator | None) -> nnx.Module:
    """The generator that `config.model` describes, with drawn weights."""
    # Of the light one; the others have none.
    features = {"looks": model.looks, "arterial_input": model.arterial_input, "peak_time": model.peak_time}
    if model.generator == "light":
        return light.LightGenerator(
            frames,
            n_targets,
            width=model.width,
            depth=model.depth,
            **features,
            scheme=model.init,
            rng=rng,
        )
    if model.generator in COMPARATORS:
        return _comparator(model, frames, n_targets, rng)
    common = {
        "depth": model.depth,
        "norm": model.norm,
        "upsample": model.upsample,
        "scheme": model.init,
        "rng": rng,
        "bias_before_norm": model.bias_before_norm,
        "neighbours": model.neighbours,
        "dims": model.unet_dims,
    }
    if model.generator == "temporal":
        return generators.TemporalGenerator(
            n_targets, width=model.width, unet_width=model.unet_width, lean=model.lean, **common
        )
    return generators.UNetGenerator(frames, n_targets, width=model.width, **common)


def _comparator(model: Any, frames: int, n_targets: int, rng: np.random.Generator | None) -> nnx.Module:
    common = {"width": model.width, "scheme": model.init, "rng": rng}
    if model.generator == "stunet":
        return comparators.SpatioTemporalUNet(frames, n_targets, depth=model.depth, **common)
    make = comparators.VoxelGenerator if model.generator == "voxel" else comparators.PatchGenerator
    return make(frames, n_targets, **common)


def build_discriminator(model: Any, frames: int, n_targets: int, rng: np.random.Generator | None) -> nnx.Module:
    """The discriminator that `config.model` describes, with drawn weights."""
    common = {"width": model.discriminator_width, "norm": model.norm, "scheme": model.init, "rng": rng}
    if model.discriminator == "whole":
        return discriminator.WholeDiscriminator(frames + n_targets, **common)
    return discriminator.PatchDiscriminator(
        frames, n_targets, layers=model.discriminator_layers, bias_before_norm=model.bias_before_norm, **common
    )


def build(
    model: Any, frames: int, n_targets: int, seed: int | None, exam_slices: int = 0
) -> tuple[Networks, Variables, Variables]:
    """Builds both networks.

    Args:
      model: `config.model`, as `settings.check` lets it pass.
      frames: time points of the input.
      n_targets: maps of the output.
      seed: of the initial weights; None makes them zeros, which under `jax.eval_shape` costs nothing.
      exam_slices: of an exam on the network grid, for a generator that sees neighbours (`settings.exam_slices`).

    Returns:
      the structure, the generator's variables, the discriminator's.
    """
    rng_g, rng_d = (None if seed is None else np.random.default_rng((seed, network)) for network in range(2))
    graphdef_g, variables_g = _split(build_generator(model, frames, n_targets, rng_g))
    graphdef_d, variables_d = _split(build_discriminator(model, frames, n_targets, rng_d))
    together = exam_slices if model.neighbours else 1
    return Networks(graphdef_g, graphdef_d, model.compute, together), variables_g, variables_d


def _split(network: nnx.Module) -> tuple[nnx.GraphDef, Variables]:
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    variables = {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}
    return graphdef, jax.tree.map(jnp.asarray, variables)


def abstract_generator(model: Any, frames: int, n_targets: int, exam_slices: int = 0) -> tuple[Networks, Variables]:
    """As `build`, without weights.

    Returns:
      the structure, and shapes and types of the generator's variables.
    """
    networks, variables, _ = jax.eval_shape(lambda: build(model, frames, n_targets, None, exam_slices))
    return networks, variables


def parameter_count(variables: Variables) -> int:
    """Learned values of a network, statistics left out."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
