"""One training step and one prediction, as pure functions; the loop jits them once.

    step = functools.partial(train_step, networks=..., optimisers=..., scaling=..., objective=..., l1_weight=...)
    step = jax.jit(step, donate_argnums=0)
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dscgan_jax import losses
from dscgan_jax.maps import map_indices
from dscgan_jax.scaling import Scaling
from dscgan_jax.state import GanState, Networks, Optimisers, Variables

Array = jax.Array
Batch = dict[str, Array]
Scalars = dict[str, Array]

ABSENT = -1.0  # what both a real and a fake map hold where an exam lacks that map


def train_step(state: GanState, batch: Batch, *, networks: Networks, optimisers: Optimisers,
               scaling: Scaling, objective: str, l1_weight: float) -> tuple[GanState, Scalars]:
    """One update of both networks from a batch of `data.pipeline`; see `gan_step`."""
    series = scaling.scaled_series(batch)
    target = scaling.scaled_maps(batch["maps"])
    has_map = batch["has_map"][:, jnp.array(map_indices(scaling.targets))]
    return gan_step(state, series, target, has_map, networks=networks, optimisers=optimisers, objective=objective,
                    l1_weight=l1_weight)


def predict_step(variables: Variables, batch: Batch, *, networks: Networks, scaling: Scaling, mode: str) -> Array:
    """Maps of a batch, still scaled.

    Args:
      variables: the generator's.
      batch: of `data.pipeline`; maps are not read.
      networks: their structure.
      scaling: of series and maps.
      mode: `batch` (each slice's own statistics) or `running` (those of training).

    Returns:
      (slice, row, col, target), in (-1, 1).
    """
    return networks.generate(variables, scaling.scaled_series(batch), mode)[0]


def gan_step(state: GanState, series: Array, target: Array, has_map: Array, *, networks: Networks,
             optimisers: Optimisers, objective: str, l1_weight: float) -> tuple[GanState, Scalars]:
    """One update of both networks from scaled arrays; arguments and scalars as in `gan_step_and_gradients`."""
    return gan_step_and_gradients(state, series, target, has_map, networks=networks, optimisers=optimisers,
                                  objective=objective, l1_weight=l1_weight)[:2]


def gan_step_and_gradients(
    state: GanState, series: Array, target: Array, has_map: Array, *, networks: Networks,
    optimisers: Optimisers, objective: str, l1_weight: float,
) -> tuple[GanState, Scalars, tuple[Any, Any]]:
    """One update of both networks (Isola et al. 2017; the order is that of Kossen et al. 2023).

    One generator pass serves both losses. The discriminator is updated on real and fake maps, in two passes with
    statistics of their own; the *updated* one scores the fake, and that gradient joins the L1 loss's on its way into
    the generator. The fake is a constant to the discriminator's update.

    Args:
      state: before the step.
      series: (slice, time, row, col), scaled.
      target: (slice, row, col, target), scaled; anything, NaN included, where `has_map` is False.
      has_map: (slice, target), bool.
      networks, optimisers: static.
      objective: of `losses.OBJECTIVES`.
      l1_weight: lambda.

    Returns:
      the state after the step; scalars `loss_g` = `loss_adversarial` + lambda `loss_l1`, `loss_d` = (`loss_d_real` +
      `loss_d_fake`) / 2, which is what is minimised, `accuracy_real` and `accuracy_fake` of the discriminator before
      its update; gradients of generator and discriminator.
    """
    present = has_map[:, None, None, :]
    real = jnp.where(present, target, ABSENT)

    def generate(params):
        maps, stats = networks.generate({"params": params, "stats": state.generator["stats"]}, series, "train")
        return maps, stats

    def discriminate(params, stats, maps):
        return networks.discriminate({"params": params, "stats": stats}, series, maps, "train")

    fake, pull, stats_g = jax.vjp(generate, state.generator["params"], has_aux=True)

    def loss_of_discriminator(params):
        logits_real, stats = discriminate(params, state.discriminator["stats"], real)
        logits_fake, stats = discriminate(params, stats, jnp.where(present, jax.lax.stop_gradient(fake), ABSENT))
        loss_real = losses.adversarial(logits_real, True, objective).mean()
        loss_fake = losses.adversarial(logits_fake, False, objective).mean()
        scalars = {"loss_d_real": loss_real, "loss_d_fake": loss_fake,
                   "accuracy_real": losses.accuracy(logits_real, True).mean(),
                   "accuracy_fake": losses.accuracy(logits_fake, False).mean()}
        return 0.5 * loss_real + 0.5 * loss_fake, (stats, scalars)

    (loss_d, (stats_d, scalars)), gradient_d = jax.value_and_grad(loss_of_discriminator, has_aux=True)(
        state.discriminator["params"])
    updates_d, opt_d = optimisers.discriminator.update(gradient_d, state.opt_d, state.discriminator["params"])
    params_d = optax.apply_updates(state.discriminator["params"], updates_d)

    def loss_of_fake(fake):
        logits, stats = discriminate(params_d, stats_d, jnp.where(present, fake, ABSENT))
        loss_adversarial = losses.adversarial(logits, True, objective).mean()
        loss_l1 = losses.l1(fake, real, has_map)
        return loss_adversarial + l1_weight * loss_l1, (stats, loss_adversarial, loss_l1)

    (loss_g, (stats_d, loss_adversarial, loss_l1)), gradient_fake = jax.value_and_grad(loss_of_fake, has_aux=True)(fake)
    (gradient_g,) = pull(gradient_fake)
    updates_g, opt_g = optimisers.generator.update(gradient_g, state.opt_g, state.generator["params"])
    params_g = optax.apply_updates(state.generator["params"], updates_g)

    state = state.replace(step=state.step + 1, generator={"params": params_g, "stats": stats_g},
                          discriminator={"params": params_d, "stats": stats_d}, opt_g=opt_g, opt_d=opt_d)
    scalars |= {"loss_d": loss_d, "loss_g": loss_g, "loss_adversarial": loss_adversarial, "loss_l1": loss_l1}
    return state, scalars, (gradient_g, gradient_d)
