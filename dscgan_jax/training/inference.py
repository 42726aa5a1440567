"""A trained generator applied to a batch, in training's validation and in prediction. Knows no optimiser."""

import dataclasses

import jax

from dscgan_jax import platforms
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.models.networks import Networks, Variables

WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}  # bits; XLA prefers 256 by itself


def compiler_options() -> dict[str, int]:
    """Options of XLA for `jax.jit`: on a CPU its widest vectors (a training step at width 16 became 8 % faster)."""
    return WIDE_VECTORS if platforms.on_cpu() else {}


def as_computed(networks: Networks) -> Networks:
    """The networks as they are applied on the platform that is traced for: a CPU only emulates 16 bits."""
    return dataclasses.replace(networks, compute="float32") if platforms.on_cpu() else networks


def predict_step(variables: Variables, batch: Batch, *, networks: Networks, scaling: Scaling, mode: str) -> jax.Array:
    """Maps of a batch, still scaled.

    Args:
      variables: the generator's.
      batch: maps are not read.
      networks: their structure.
      scaling: of series and maps.
      mode: `per_slice` (each slice's own statistics) or `running` (those of training).

    Returns:
      (slice, row, col, target), in (-1, 1).
    """
    return networks.generate(variables, scaling.scaled_series(batch), mode)[0]
