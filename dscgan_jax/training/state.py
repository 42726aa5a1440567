"""What training carries from step to step: both networks' variables and their optimisers' states."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from dscgan_jax import settings
from dscgan_jax.models.networks import Networks, Variables, build

Array = jax.Array


class Optimisers(NamedTuple):
    """Adam of each network; static, their states are in `GanState`."""

    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


@struct.dataclass
class GanState:
    """One training state. `step` counts finished steps; `generator` and `discriminator` are variables."""

    step: Array
    generator: Variables
    discriminator: Variables
    opt_g: optax.OptState
    opt_d: optax.OptState


def make_optimisers(train: Any, total_steps: int) -> Optimisers:
    """Adam as `config.train` describes it, for each network."""
    factor = settings.learning_rate_factor(train)

    def adam(rate: float) -> optax.GradientTransformation:
        rate *= factor
        schedule = optax.cosine_decay_schedule(rate, max(total_steps, 1)) if train.decay == "cosine" else rate
        steps = optax.adam(schedule, b1=train.beta1, b2=train.beta2, eps=1e-8)
        return optax.chain(optax.clip_by_global_norm(train.clip_norm), steps) if train.clip_norm else steps

    return Optimisers(adam(train.learning_rate), adam(train.discriminator_learning_rate))


def create(
    model: Any, train: Any, *, frames: int, n_targets: int, seed: int, total_steps: int, exam_slices: int = 0
) -> tuple[Networks, Optimisers, GanState]:
    """Networks, optimisers and the state before the first step.

    Args:
      model: `config.model`.
      train: `config.train`.
      frames: time points of the input.
      n_targets: maps of the output.
      seed: of the initial weights.
      total_steps: length of the learning-rate schedule.
      exam_slices: as in `networks.build`.
    """
    networks, variables_g, variables_d = build(model, frames, n_targets, seed, exam_slices)
    optimisers = make_optimisers(train, total_steps)
    state = GanState(
        step=jnp.zeros((), jnp.int32),
        generator=variables_g,
        discriminator=variables_d,
        opt_g=jax.jit(optimisers.generator.init)(variables_g["params"]),
        opt_d=jax.jit(optimisers.discriminator.init)(variables_d["params"]),
    )
    return networks, optimisers, state
