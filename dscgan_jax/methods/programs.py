"""The program that applies a network: traced once, kept, and compiled for this machine.

Tracing needs Flax and the network's layers. A start that finds the program kept imports neither.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
from jax import export

from dscgan_jax import settings
from dscgan_jax.data.batch import Batch
from dscgan_jax.kept import programs, store
from dscgan_jax.training.weights import Weights

KIND = "program"  # of what is kept
Step = Callable[[Any, Batch], jax.Array]


def compiled(weights: Weights, norm: str, like: Batch) -> Step:
    """What maps a network's variables and a batch to scaled maps, compiled.

    Args:
      weights: the network.
      norm: how its batch norm works.
      like: shapes and types of the batches.
    """
    step, options = _step(weights, norm, like)
    shapes = jax.tree.map(_shape, (weights.variables, jax.tree.leaves(like)))
    program = jax.jit(step, compiler_options=options).lower(*shapes).compile()
    return lambda variables, batch: program(variables, jax.tree.leaves(batch))


def _step(weights: Weights, norm: str, like: Batch) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """The program, kept or traced, and options of the compiler."""
    leaves, structure = jax.tree.flatten(like)
    made_of = {
        "config": settings.to_json(weights.record.config),
        "scaling": weights.record.scaling.to_json(),
        "norm": norm,
        "batch": [str(structure), *(f"{leaf.dtype} {leaf.shape}" for leaf in leaves)],
        **programs.depends_on(),
    }
    keeps = programs.can_be_kept()
    content = store.read(KIND, made_of) if keeps else None
    if content is not None:
        options, _, program = content.partition(b"\n")
        if (call := programs.deserialized(program)) is not None:
            return call, json.loads(options)
    step, options = _traced(weights, norm, structure)
    if not keeps:
        return step, options
    try:
        exported = export.export(jax.jit(step))(jax.tree.map(_shape, weights.variables), leaves)
        store.write(KIND, made_of, json.dumps(options).encode() + b"\n" + exported.serialize())
    except (ValueError, NotImplementedError):  # it holds what other versions of XLA might not know
        return step, options
    return exported.call, options


def _traced(weights: Weights, norm: str, structure: Any) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """The same of the network's layers: variables and the leaves of a batch to maps."""
    from dscgan_jax.training.inference import as_computed, compiler_options, predict_step

    networks = as_computed(weights.networks)
    apply = functools.partial(predict_step, networks=networks, scaling=weights.record.scaling, mode=norm)

    def predict_step_of_leaves(variables: Any, leaves: list[jax.Array]) -> jax.Array:
        return apply(variables, jax.tree.unflatten(structure, leaves))

    return predict_step_of_leaves, compiler_options()


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
