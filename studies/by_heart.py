"""Whether a network of drawn exams knows those that it learned from by heart: they, and others, at another pace.

    python studies/by_heart.py                              # the shipped network; five minutes on a core
    python studies/by_heart.py --model=FILE_OR_RUN --exams=20

An exam whose times are all 1.2 times as long (`training.changes.stretched`) is that of another person, and no harder.
A network that does worse on it, but only where it learned from the exam, has learned the exam and not the physics.
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.data.batch import Batch
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAPS, map_indices
from dscgan_jax.phantom.drawn import Drawing
from dscgan_jax.training import changes, weights
from dscgan_jax.training.inference import predict_step

PACES = (1.0, 1.2, 1 / 1.2)
SLICES = 6  # of an exam
OTHER_SEED = 1_000_003  # of which no training draws


def slices_of(drawing: Drawing, number: int) -> Batch | None:
    """Some slices of an exam with brain, as training sees them; None where it cannot be used."""
    exam = drawing.prepared(number)
    if exam is None:
        return None
    with_brain = np.flatnonzero(exam.mask.mean(axis=(1, 2)) > 0.02)
    if not len(with_brain):
        return None
    chosen = with_brain[np.linspace(0, len(with_brain) - 1, SLICES).round().astype(int)]
    shown = exam.inputs(chosen)
    return dataclasses.replace(
        shown,
        dsc=shown.dsc.astype(np.float32),
        maps=exam.maps[chosen],
        has_map=np.tile(exam.has_map, (SLICES, 1)),
        mask=exam.mask[chosen],
    )


def errors(network: weights.Weights, drawing: Drawing, numbers: Sequence[int]) -> np.ndarray:
    """(pace, map) mean absolute error in the brain, the mean over exams."""
    scaling, data = network.record.scaling, network.record.config.data
    corners = bool(network.record.config.model.arterial_input)
    columns = jnp.array(map_indices(scaling.targets))

    @functools.partial(jax.jit, static_argnums=1)
    def at_pace(batch: Batch, pace: float) -> tuple[jax.Array, jax.Array]:
        def change(one: Batch) -> Batch:
            arrival = changes.arrival(one, corners)
            return changes.stretched(one, jnp.float32(pace), data.frame_seconds, arrival, arrival)

        changed = jax.vmap(change)(batch) if pace != 1 else batch
        scaled = predict_step(
            network.variables, changed.inputs, networks=network.networks, scaling=scaling, mode="per_slice"
        )
        return jnp.abs(scaling.physical_maps(scaled) - changed.maps[..., columns]), changed.mask

    rows = []
    for number in numbers:
        if (batch := slices_of(drawing, number)) is not None:
            found = [at_pace(jax.tree.map(jnp.asarray, batch), pace) for pace in PACES]
            rows.append([np.asarray(error)[np.asarray(mask)].mean(axis=0) for error, mask in found])
    return np.mean(rows, axis=0)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="physics", help="shipped network, file of weights, or folder of a run")
    parser.add_argument("--exams", type=int, default=40, help="exams that it learned from, and as many others")
    asked = parser.parse_args()
    try:
        network = weights.load(asked.model)
    except InputError as error:
        raise SystemExit(str(error)) from None
    if not network.record.drawn_beside:
        raise SystemExit(f"--model={asked.model} learned from no drawn exams, which could be drawn again.")
    learned = Drawing.from_config(network.record.config)
    first = int(network.record.config.phantom.subjects)
    numbers = range(first, first + min(asked.exams, network.record.drawn_beside))
    titles = [f"{MAPS[name].title} [{MAPS[name].unit}]" for name in network.record.scaling.targets]
    print(f"{network.in_words}: mean absolute error in the brain\n\n| exams | times | {' | '.join(titles)} |")
    print(f"|---|---|{'---|' * len(titles)}")
    for name, drawing in (("learned from", learned), ("others", dataclasses.replace(learned, seed=OTHER_SEED))):
        for pace, row in zip(PACES, errors(network, drawing, numbers), strict=True):
            print(f"| {name} | x {pace:.2f} | {' | '.join(f'{value:.2f}' for value in row)} |", flush=True)


if __name__ == "__main__":
    main()
