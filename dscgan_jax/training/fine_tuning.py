"""Training that goes on from a network that is there: from a file of weights, another run, or the shipped network."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from dscgan_jax import shipped
from dscgan_jax.data.preparation import PreparationSettings
from dscgan_jax.errors import InputError
from dscgan_jax.training import checkpoints, weights
from dscgan_jax.training.state import GanState
from dscgan_jax.training.weights import Weights

LATER = ("looks", "peak_time")  # of config.model, that may be off there and on here: what they add is silent at first
IDLE = ("compute", "lean", "init")  # those that change no structure; and all of a discriminator's that begins anew


def beginning(config: ml_collections.ConfigDict) -> Weights | None:
    """The network that `config.train.start_from` names; None where it names none.

    Raises:
      InputError: as `weights.load`; or that network has other layers, another input or other maps than this config; or
        its discriminator is wanted, and there is none.
    """
    start_from, both = config.train.start_from, config.train.start_discriminator
    if not start_from:
        return None
    if start_from not in shipped.NAMES and not pathlib.Path(start_from).expanduser().exists():
        raise InputError(
            f"config.train.start_from={start_from}: there is no such run or file of weights; train that network first, "
            "or give --config.train.start_from=RUN."
        )
    begun = weights.load(start_from)
    if both and (start_from in shipped.NAMES or not pathlib.Path(start_from).is_dir()):
        raise InputError(
            f"config.train.start_discriminator is True, but config.train.start_from={start_from} is a file of weights, "
            "which holds the generator alone; give the work directory of a run, or set it to False."
        )
    if both and begun.record.config.loss.objective == "l1":
        raise InputError(
            f"config.train.start_discriminator is True, but the discriminator of config.train.start_from={start_from} "
            "was never trained (its config.loss.objective is l1); set it to False."
        )
    if differing := next(_differences(begun.record.config, config), None):
        path, theirs, ours = differing
        raise InputError(
            f"config.train.start_from={config.train.start_from}: that network has {path} {theirs}, this config has "
            f"{ours}; set --config.{path}={theirs}."
        )
    return begun


def begun_with(state: GanState, begun: Weights) -> GanState:
    """A state before its first step, with the numbers of that generator; layers that it has not stay as drawn."""
    params = _laid_over(state.generator["params"], begun.variables["params"])
    stats = _laid_over(state.generator["stats"], begun.variables["stats"])
    return state.replace(generator={"params": params, "stats": stats})


def discriminator_begun_with(state: GanState, begun: Weights, run: str) -> GanState:
    """A state before its first step, with the discriminator that trained against that generator, in its run.

    Raises:
      InputError: the checkpoint is damaged.
    """
    given = checkpoints.load_discriminator(run, begun.step, state.discriminator)
    return state.replace(discriminator=_laid_over(state.discriminator, given))


def _laid_over(drawn: Any, given: Any) -> Any:
    if not isinstance(drawn, dict):
        return jnp.asarray(np.asarray(given))  # a checkpoint's lie on one device, where they could not leave
    return {name: _laid_over(value, given[name]) if name in given else value for name, value in drawn.items()}


def _differences(theirs: ml_collections.ConfigDict, ours: ml_collections.ConfigDict) -> Iterator[tuple[str, Any, Any]]:
    """(field, value there, value here) of whatever decides the layers that are taken over and what they are shown."""
    for name in theirs.model:
        if name in IDLE or (name.startswith("discriminator") and not ours.train.start_discriminator):
            continue
        if name == "discriminator_layers" and ours.model.discriminator == "whole":  # which has as many as it has
            continue
        if theirs.model[name] != ours.model[name] and not (name in LATER and not theirs.model[name]):
            yield f"model.{name}", theirs.model[name], ours.model[name]
    if tuple(theirs.target) != tuple(ours.target):
        yield "target", ",".join(theirs.target), ",".join(ours.target)
    there, here = (dataclasses.asdict(PreparationSettings.from_config(config)) for config in (theirs, ours))
    yield from ((f"data.{name}", there[name], here[name]) for name in there if there[name] != here[name])
    if theirs.data.signal != ours.data.signal:
        yield "data.signal", theirs.data.signal, ours.data.signal
