"""Numbers that are no longer finite, found at the step that made them without ever waiting for the device."""

import collections
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.training.state import GanState
from dscgan_jax.training.steps import Scalars
from dscgan_jax.training.tracking import check_finite

SUMS = ("loss_g", "loss_d")  # every other loss is a term of one of them, so that these two tell of all


class Watch:
    """The losses of the steps that were begun; each is looked at as soon as the device has it.

    Nothing joins the compiled step, and the host does not wait: it learns of a bad step one or two steps later, when
    nothing of them was recorded or saved yet, and names the step that made it.
    """

    def __init__(self, batch_of: Callable[[int], str], only_when_asked: bool = False):
        """Nothing was begun.

        Args:
          batch_of: names subjects and slices of a step's batch.
          only_when_asked: for processes that must all stop at the same step.
        """
        self._batch_of, self._only_when_asked = batch_of, only_when_asked
        self._begun: collections.deque[tuple[int, Scalars]] = collections.deque()

    def add(self, step: int, scalars: Scalars) -> None:
        """A step was begun; looks at those that are there by now. Raises as `check`."""
        self._begun.append((step, scalars))
        while not self._only_when_asked and self._begun and _is_there(self._begun[0][1]):
            self._look()

    def check(self) -> None:
        """Looks at all steps that were begun, which are waited for.

        Raises:
          FloatingPointError: names step, terms, subjects and slices.
        """
        while self._begun:
            self._look()

    def _look(self) -> None:
        step, scalars = self._begun.popleft()
        sums = jax.device_get([scalars[name] for name in SUMS if name in scalars])
        if not np.isfinite(sums).all():
            values = {name: float(value) for name, value in jax.device_get(scalars).items()}
            check_finite(values, step, self._batch_of(step))


def _is_there(scalars: Scalars) -> bool:
    return all(scalars[name].is_ready() for name in SUMS if name in scalars)


@jax.jit
def _odd_parts(state: GanState) -> dict[str, jax.Array]:
    parts = {
        "the generator": state.generator,
        "the discriminator": state.discriminator,
        "the generator's optimiser": state.opt_g,
        "the discriminator's optimiser": state.opt_d,
    }
    return {
        name: jnp.any(jnp.stack([~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(part)]))
        for name, part in parts.items()
        if jax.tree.leaves(part)
    }


def check_state(state: GanState, step: int) -> None:
    """Whether a state may be saved.

    Raises:
      FloatingPointError: names the networks with a number that is not finite.
    """
    if odd := [name for name, is_odd in jax.device_get(_odd_parts(state)).items() if is_odd]:
        raise FloatingPointError(
            f"{' and '.join(odd)}: not finite after step {step}. Training stops, and this state is not saved; "
            "checkpoints before it stay. Try a lower config.train.learning_rate, and look for odd exams with "
            "--mode=check."
        )
