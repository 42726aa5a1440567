"""One training step as pure functions, and the one way in which it is compiled."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from dscgan_jax.data.batch import Batch
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.maps import map_indices
from dscgan_jax.models.networks import Networks, Variables
from dscgan_jax.training import augment, losses, sharding
from dscgan_jax.training.inference import compiler_options
from dscgan_jax.training.state import GanState, Optimisers

Array = jax.Array
Scalars = dict[str, Array]
Part = tuple[Array, Array, Array]  # series, target, has_map

ABSENT = -1.0  # what both a real and a fake map hold where an exam lacks that map


def jitted_step(
    config: ml_collections.ConfigDict,
    networks: Networks,
    optimisers: Optimisers,
    scaling: Scaling,
    mesh: jax.sharding.Mesh,
) -> Any:
    """`train_step` of a config under `jax.jit`: (state, batch) -> (state, scalars), the state donated.

    The one program that trains and that is measured; the state and the scalars are on every device of the mesh.
    """
    loss, train = config.loss, config.train
    common = {"networks": networks, "optimisers": optimisers, "scaling": scaling, "accumulate": train.accumulate}
    of_l1 = {"outside_weight": loss.outside_weight, "map_weights": tuple(loss.map_weights)}
    of_gan = {"objective": loss.objective, "l1_weight": loss.l1_weight}
    if loss.objective == "l1":
        step = functools.partial(l1_step, **common, **of_l1)
    else:
        step = functools.partial(train_step, **common, **of_gan)
    changes = {
        "seed": config.seed,
        "frame_seconds": config.data.frame_seconds,
        "crop": train.crop,
        "exam_slices": networks.exam_slices,
        "corners": config.model.arterial_input,
        "more": train.augment_more,
    }
    if train.augment:
        step = functools.partial(augmented_step, step=step, **changes)
    return jax.jit(step, donate_argnums=0, out_shardings=sharding.replicated(mesh), compiler_options=compiler_options())


def train_step(
    state: GanState,
    batch: Batch,
    *,
    networks: Networks,
    optimisers: Optimisers,
    scaling: Scaling,
    objective: str,
    l1_weight: float,
    accumulate: int = 1,
) -> tuple[GanState, Scalars]:
    """One update of both networks from a batch; see `gan_step`."""
    series = scaling.scaled_series(batch)
    target = scaling.scaled_maps(batch.maps)
    has_map = batch.has_map[:, jnp.array(map_indices(scaling.targets))]
    return gan_step(
        state,
        series,
        target,
        has_map,
        networks=networks,
        optimisers=optimisers,
        objective=objective,
        l1_weight=l1_weight,
        accumulate=accumulate,
    )


def augmented_step(
    state: GanState,
    batch: Batch,
    *,
    step: Callable[[GanState, Batch], tuple[GanState, Scalars]],
    seed: int,
    **changes: Any,
) -> tuple[GanState, Scalars]:
    """A step on a batch with `changes` (`augment.augmented`), drawn from the seed and the step's number."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.step)
    return step(state, augment.augmented(batch, key, **changes))


def l1_step(
    state: GanState,
    batch: Batch,
    *,
    networks: Networks,
    optimisers: Optimisers,
    scaling: Scaling,
    outside_weight: float,
    map_weights: tuple[float, ...] = (),
    accumulate: int = 1,
) -> tuple[GanState, Scalars]:
    """One update of the generator alone, from the L1 loss, in which a pixel outside the brain's mask counts less.

    Args:
      state: before the step; its discriminator stays as it is.
      batch: of the training.
      networks: their structure, static.
      optimisers: static.
      scaling: of series and maps.
      outside_weight: how much a pixel outside the mask counts, one within it counting 1.
      map_weights: how much the error of each target counts, over their mean; () = all alike.
      accumulate: parts that the batch is taken in, as in `gan_step_and_gradients`.

    Returns:
      the state after the step; scalars `loss_g`, `loss_l1`, which are the same.
    """
    present = batch.has_map[:, jnp.array(map_indices(scaling.targets))]
    weight = jnp.where(batch.mask, 1.0, outside_weight)
    of_maps = np.asarray(map_weights or [1.0] * len(scaling.targets), np.float32)
    of_maps = (of_maps / of_maps.mean())[None, None, None]
    whole = (scaling.scaled_series(batch), scaling.scaled_maps(batch.maps), present, weight)
    count = (present.sum(axis=1) * weight.sum(axis=(1, 2))).sum() / accumulate  # of a part, on average

    def improve(stats: Variables, part: Any) -> tuple[Variables, Any]:
        series, target, has_map, counts = part

        def loss(params: Any) -> tuple[Array, Variables]:
            fake, after = networks.generate({"params": params, "stats": stats}, series, "train")
            return losses.l1(fake * of_maps, target * of_maps, has_map, count, counts), after

        (value, after), gradient = jax.value_and_grad(loss, has_aux=True)(state.generator["params"])
        return after, (gradient, {"loss_g": value, "loss_l1": value})

    stats, (gradient, scalars) = _over_parts(improve, state.generator["stats"], whole, accumulate, networks.exam_slices)
    updates, opt_g = optimisers.generator.update(gradient, state.opt_g, state.generator["params"])
    params = optax.apply_updates(state.generator["params"], updates)
    state = state.replace(step=state.step + 1, opt_g=opt_g, generator={"params": params, "stats": stats})
    return state, scalars


def gan_step(
    state: GanState,
    series: Array,
    target: Array,
    has_map: Array,
    *,
    networks: Networks,
    optimisers: Optimisers,
    objective: str,
    l1_weight: float,
    accumulate: int = 1,
) -> tuple[GanState, Scalars]:
    """One update of both networks from scaled arrays; arguments and scalars as in `gan_step_and_gradients`."""
    return gan_step_and_gradients(
        state,
        series,
        target,
        has_map,
        networks=networks,
        optimisers=optimisers,
        objective=objective,
        l1_weight=l1_weight,
        accumulate=accumulate,
    )[:2]


def gan_step_and_gradients(
    state: GanState,
    series: Array,
    target: Array,
    has_map: Array,
    *,
    networks: Networks,
    optimisers: Optimisers,
    objective: str,
    l1_weight: float,
    accumulate: int = 1,
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
      networks: their structure, static.
      optimisers: static.
      objective: of `losses.ADVERSARIAL`.
      l1_weight: lambda.
      accumulate: parts that the batch is taken in, one after the other, to save memory. The gradients are the mean
        over the parts, batch norms see one part at a time, and the generator runs twice: before the discriminator's
        update and after it.

    Returns:
      the state after the step; scalars `loss_g` = `loss_adversarial` + lambda `loss_l1`, `loss_d` = (`loss_d_real` +
      `loss_d_fake`) / 2, which is what is minimised, `accuracy_real` and `accuracy_fake` of the discriminator before
      its update; gradients of generator and discriminator.
    """
    values_in_a_part = has_map.sum() * (target.size // target.shape[0] // target.shape[-1]) / accumulate  # on average
    passes = _Passes(networks, objective, l1_weight, values_in_a_part)
    generator, discriminator = state.generator, state.discriminator
    batch = (series, target, has_map)
    whole = passes.generate(generator, batch) if accumulate == 1 else None  # serves both losses

    def judge(stats: Any, part: Part) -> tuple[Any, Any]:
        fake, _, stats_g = whole or passes.generate({**generator, "stats": stats[0]}, part)
        gradient, stats_d, scalars = passes.judge({**discriminator, "stats": stats[1]}, part, fake)
        return (stats_g, stats_d), (gradient, scalars)

    stats = (generator["stats"], discriminator["stats"])
    (stats_g, stats_d), (gradient_d, scalars) = _over_parts(judge, stats, batch, accumulate, networks.exam_slices)
    updates_d, opt_d = optimisers.discriminator.update(gradient_d, state.opt_d, discriminator["params"])
    params_d = optax.apply_updates(discriminator["params"], updates_d)

    def improve(stats: Variables, part: Part) -> tuple[Any, Any]:
        fake, pull, _ = whole or passes.generate(generator, part)
        gradient_fake, stats, scalars = passes.improve({"params": params_d, "stats": stats}, part, fake)
        return stats, (pull(gradient_fake)[0], scalars)

    stats_d, (gradient_g, more) = _over_parts(improve, stats_d, batch, accumulate, networks.exam_slices)
    updates_g, opt_g = optimisers.generator.update(gradient_g, state.opt_g, generator["params"])
    state = state.replace(
        step=state.step + 1,
        opt_g=opt_g,
        opt_d=opt_d,
        generator={"params": optax.apply_updates(generator["params"], updates_g), "stats": stats_g},
        discriminator={"params": params_d, "stats": stats_d},
    )
    return state, scalars | more, (gradient_g, gradient_d)


def _over_parts(
    work: Callable[[Any, Any], tuple[Any, Any]], stats: Any, batch: Any, n_parts: int, exam_slices: int
) -> tuple[Any, Any]:
    """`work` on one part of the batch after the other, each with the statistics that the one before it left.

    Slices that the generator sees together stay in one part.

    Returns:
      the statistics afterwards, and the mean over the parts of what `work` gives beside them.
    """
    if n_parts == 1:
        return work(stats, batch)
    parts = jax.tree.map(lambda array: _split(array, n_parts, exam_slices), batch)
    stats, of_parts = jax.lax.scan(work, stats, parts)
    return stats, jax.tree.map(lambda leaf: leaf.mean(0), of_parts)


def _split(batch: Array, parts: int, exam_slices: int = 1) -> Array:
    """(slice, ...) -> (part, slice of the part, ...); every device keeps its share of each part."""
    split = jnp.moveaxis(batch.reshape(-1, parts, exam_slices, *batch.shape[1:]), 1, 0)
    return split.reshape(parts, -1, *batch.shape[1:])


class _Passes:
    """The three passes of a step over (series, target, has_map), whole batch or part of it."""

    def __init__(self, networks: Networks, objective: str, l1_weight: float, present: Array):
        self._networks, self._objective, self._l1_weight, self._present = networks, objective, l1_weight, present

    def generate(self, generator: Variables, part: Part) -> tuple[Array, Any, Variables]:
        """The fake, the function that takes its gradient to the parameters', and the statistics afterwards."""
        return jax.vjp(
            lambda params: self._networks.generate({**generator, "params": params}, part[0], "train"),
            generator["params"],
            has_aux=True,
        )

    def judge(self, discriminator: Variables, part: Part, fake: Array) -> tuple[Any, Variables, Scalars]:
        """Gradient of the discriminator's loss on real and fake, its statistics afterwards, scalars."""
        series, real, fake, _ = self._maps(part, jax.lax.stop_gradient(fake))

        def loss(params: Any) -> tuple[Array, Any]:
            logits_real, stats = self._networks.discriminate({**discriminator, "params": params}, series, real, "train")
            logits_fake, stats = self._networks.discriminate({"params": params, "stats": stats}, series, fake, "train")
            loss_real = losses.adversarial(logits_real, True, self._objective).mean()
            loss_fake = losses.adversarial(logits_fake, False, self._objective).mean()
            scalars = {
                "loss_d_real": loss_real,
                "loss_d_fake": loss_fake,
                "loss_d": 0.5 * loss_real + 0.5 * loss_fake,
                "accuracy_real": losses.accuracy(logits_real, True).mean(),
                "accuracy_fake": losses.accuracy(logits_fake, False).mean(),
            }
            return scalars["loss_d"], (stats, scalars)

        gradient, (stats, scalars) = jax.grad(loss, has_aux=True)(discriminator["params"])
        return gradient, stats, scalars

    def improve(self, discriminator: Variables, part: Part, fake: Array) -> tuple[Array, Variables, Scalars]:
        """Gradient of the generator's loss with respect to the fake, the discriminator's statistics, scalars."""

        def loss(fake: Array) -> tuple[Array, Any]:
            series, real, shown, has_map = self._maps(part, fake)
            logits, stats = self._networks.discriminate(discriminator, series, shown, "train")
            loss_adversarial = losses.adversarial(logits, True, self._objective).mean()
            loss_l1 = losses.l1(fake, real, has_map, self._present)
            loss_g = loss_adversarial + self._l1_weight * loss_l1
            return loss_g, (stats, {"loss_g": loss_g, "loss_adversarial": loss_adversarial, "loss_l1": loss_l1})

        gradient, (stats, scalars) = jax.grad(loss, has_aux=True)(fake)
        return gradient, stats, scalars

    @staticmethod
    def _maps(part: Part, fake: Array) -> tuple[Array, Array, Array, Array]:
        """Series, real and fake maps as the discriminator is shown them, and which there are."""
        series, target, has_map = part
        present = has_map[:, None, None, :]
        return series, jnp.where(present, target, ABSENT), jnp.where(present, fake, ABSENT), has_map
