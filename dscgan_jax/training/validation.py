"""What a run looks at on its way: the error on the validation split, and a panel of sample slices."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from dscgan_jax import settings
from dscgan_jax.data import batches
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.batches import EvaluationBatch
from dscgan_jax.data.scaling import MUCH_AT_ENDS, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import metrics
from dscgan_jax.figures import panels
from dscgan_jax.maps import MAP_NAMES, MAPS, map_indices
from dscgan_jax.models.networks import Networks, Variables
from dscgan_jax.training import distributed, sharding
from dscgan_jax.training.inference import compiler_options, predict_step

N_SAMPLES = 3  # slices in a panel


class LeftOff(Exception):
    """A validation was left off, because the run is asked to end; nothing of it was recorded."""


class Validation:
    """The validation split of a run, and the network applied to it: by all processes together, or by this one alone."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        builder: Any,
        networks: Networks,
        scaling: Scaling,
        mesh: jax.sharding.Mesh,
    ):
        self._config, self._builder, self._scaling, self._mesh = config, builder, scaling, mesh
        step = functools.partial(predict_step, networks=networks, scaling=scaling, mode=config.evaluate.norm_at_test)
        split = sharding.split_batch(mesh)
        self._together = jax.jit(step, out_shardings=split, compiler_options=compiler_options())
        self._alone = jax.jit(step, compiler_options=compiler_options())
        self._samples: EvaluationBatch | None = None

    def errors(self, generator: Variables, asked: Callable[[], int | None] = lambda: None) -> dict[str, float]:
        """As `validate`; every process takes its share.

        Raises:
          LeftOff: `asked`, between two batches, gave the number of a signal.
        """
        return validate(self._together, generator, _until(asked, self._batches(True)), self._scaling, self._mesh)

    def panel(self, generator: Variables, path: pathlib.Path) -> np.ndarray:
        """As `draw_samples`, of the same slices each time; by one process."""
        together = settings.exam_slices(self._config)
        if self._samples is None:
            self._samples = choose_samples(self._batches(False), self._scaling, together)
        return draw_samples(self._alone, sharding.own_copy(generator), self._samples, self._scaling, path, together)

    def _batches(self, shared: bool) -> Iterable[EvaluationBatch]:
        """Every validation slice once: each process takes a share of them, or this one takes all."""
        shares = {"process_index": jax.process_index(), "process_count": jax.process_count()} if shared else {}
        return batches.evaluation_batches(
            self._builder,
            "validation",
            batch_size=self._config.train.batch_size,
            read_threads=self._config.data.read_threads,
            slices=self._slices,
            **shares,
        )

    @functools.cached_property
    def _slices(self) -> batches.Slices:
        """Opened once."""
        return batches.evaluation_slices(self._builder, "validation")


def _until(asked: Callable[[], int | None], batches: Iterable[EvaluationBatch]) -> Iterator[EvaluationBatch]:
    for one in batches:
        if asked():
            raise LeftOff
        yield one


def validate(
    predict: Any, generator: Variables, batches: Iterable[EvaluationBatch], scaling: Scaling, mesh: jax.sharding.Mesh
) -> dict[str, float]:
    """Brain MAE of each target in its unit, and `error`: their mean, each over the width of its map's range.

    `saturated_tmax` and `saturated_reference_tmax` are the shares of predicted and reference values of the brain at the
    ends of the range, where maps can go no further. Voxels of all slices count alike; a slice without the map counts
    nowhere.

    Args:
      predict: (variables, inputs) -> scaled maps, split over the mesh.
      generator: its variables.
      batches: this process's share.
      scaling: of the maps.
      mesh: of all processes.

    Raises:
      InputError: no slice has one of the targets.
    """
    columns = map_indices(scaling.targets)
    sums = np.zeros((4, len(columns)))
    for one in batches:
        inputs = sharding.place_batch(one.batch.inputs, mesh)
        predicted = np.asarray(scaling.physical_maps(sharding.own_rows(predict(generator, inputs))))
        sums += [*_error_and_count(predicted, one, columns), *_at_ends(predicted, one, columns, scaling)]
    total, count, predicted_ends, reference_ends = distributed.sum_over_processes(sums)
    if not count.all():
        absent = [name for name, voxels in zip(scaling.targets, count, strict=True) if not voxels]
        raise InputError(
            f"no validation subject has {', '.join(absent)}; add the map to one, or take it out of config.target."
        )
    errors = {f"brain_mae_{name}": float(value) for name, value in zip(scaling.targets, total / count, strict=True)}
    for kind, ends in (("saturated", predicted_ends), ("saturated_reference", reference_ends)):
        shares = zip(scaling.targets, ends / count, strict=True)
        errors |= {f"{kind}_{name}": float(value) for name, value in shares}
    widths = [limits.high - limits.low for limits in scaling.limits]
    return {**errors, "error": float(np.mean(total / count / widths))}


def _error_and_count(
    predicted: np.ndarray, one: EvaluationBatch, columns: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of absolute errors in the brain and number of voxels, (target,) each; `predicted` in physical units."""
    sums = []
    for channel, column in enumerate(columns):
        counts_here = one.batch.mask.astype(bool) & (one.batch.has_map[:, column] & ~one.is_padding)[:, None, None]
        error, voxels = metrics.abs_error_and_count(predicted[..., channel], one.batch.maps[..., column], counts_here)
        sums.append((np.asarray(error).sum(), np.asarray(voxels).sum()))
    return tuple(np.array(sums, np.float64).T)


def saturation_warnings(errors: Mapping[str, float], targets: Sequence[str]) -> list[str]:
    """What to say of maps that rest at the ends of their range where the reference does not; of `validate`."""
    shares = {name: (errors[f"saturated_{name}"], errors[f"saturated_reference_{name}"]) for name in targets}
    return [
        f"warning: on validation {made:.0%} of {MAPS[name].title} in the brain is at an end of the network's range, "
        f"{measured:.0%} of the reference: differences there are lost"
        for name, (made, measured) in shares.items()
        if made - measured > MUCH_AT_ENDS
    ]


def _at_ends(
    predicted: np.ndarray, one: EvaluationBatch, columns: tuple[int, ...], scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of predicted and of reference values in the brain at the ends of their range, (target,) each."""
    sums = []
    for channel, column in enumerate(columns):
        brain = np.asarray(one.batch.mask, bool) & (one.batch.has_map[:, column] & ~one.is_padding)[:, None, None]
        maps = (predicted[..., channel], np.asarray(one.batch.maps[..., column]))
        sums.append([(scaling.at_ends(scaling.targets[channel], values) & brain).sum() for values in maps])
    return tuple(np.array(sums, np.float64).T)


def choose_samples(batches: Iterable[EvaluationBatch], scaling: Scaling, exam_slices: int = 1) -> EvaluationBatch:
    """For each of the first validation subjects, the slice where the first target sums highest: where something is.

    Where the network sees so many slices of an exam together, `batch` holds all of them, and the rest speaks of that
    slice still.
    """
    column = MAP_NAMES.index(scaling.targets[0])
    chosen: dict[str, tuple[float, Batch, int]] = {}
    for one in batches:
        load = np.where(one.batch.mask > 0, one.batch.maps[..., column], 0).sum(axis=(1, 2))
        for i in np.flatnonzero(~one.is_padding):
            subject = one.subject[i]
            if subject not in chosen and len(chosen) == N_SAMPLES:
                continue
            if subject not in chosen or load[i] > chosen[subject][0]:
                first = i // exam_slices * exam_slices
                chosen[subject] = (load[i], one.batch.rows(np.s_[first : first + exam_slices]), int(one.slice_index[i]))
    slices = [one for _, one, _ in chosen.values()]
    numbers = np.array([number for _, _, number in chosen.values()])
    together = jax.tree.map(lambda *values: np.concatenate(values), *slices)
    return EvaluationBatch(together, list(chosen), numbers, np.zeros(len(slices), bool))


def draw_samples(
    predict: Any,
    generator: Variables,
    samples: EvaluationBatch,
    scaling: Scaling,
    path: pathlib.Path,
    exam_slices: int = 1,
) -> np.ndarray:
    """Writes a panel of the sample slices and returns it as an image (row, col, rgb)."""
    shown = np.arange(len(samples.subject)) * exam_slices + samples.slice_index % exam_slices
    predicted, batch = predict(generator, samples.batch.inputs)[shown], samples.batch.rows(shown)
    return panels.sample_panel(
        path,
        series=batch.dsc * batch.dsc_scale[:, None, None, None],
        predicted=np.asarray(scaling.physical_maps(predicted)),
        reference=batch.maps[..., list(map_indices(scaling.targets))],
        targets=scaling.targets,
        titles=[f"{name}, slice {number}" for name, number in zip(samples.subject, samples.slice_index, strict=True)],
    )
