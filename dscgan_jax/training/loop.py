"""The training loop: batches in, checkpoints and curves out.

Everything that decides a number is a function of (config, data, step): a run that was killed and started again writes
the same weights and the same metrics.jsonl as one that was not. One run at a time uses a work directory.
"""

import dataclasses
import functools
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from dscgan_jax import provenance, settings
from dscgan_jax.data import batches
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import Ended, InputError
from dscgan_jax.models import flops
from dscgan_jax.training import distributed, fine_tuning, interrupts, losses, sharding, state, steps
from dscgan_jax.training.balance import Balance
from dscgan_jax.training.checkpoints import CheckpointRecord, Checkpoints
from dscgan_jax.training.feed import batch_names, data_feed
from dscgan_jax.training.finite import Watch, check_state
from dscgan_jax.training.memory import compiled_within_memory, out_of_memory_named
from dscgan_jax.training.tracking import Silent, Tracker, check_finite, is_due
from dscgan_jax.training.validation import LeftOff, Validation, saturation_warnings
from dscgan_jax.training.weights import Weights
from dscgan_jax.training.workdir import CONFIG_FILE, check_same_data, check_workdir, only_run, write_config


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path | str,
    builder: Any,
    data: DataRecord,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Trains to the end of the config, resuming from the last checkpoint of `workdir` if there is one.

    Args:
      config: a checked config.
      workdir: receives config.json, checkpoints/, metrics.jsonl, events.*, samples/.
      builder: the prepared data set; only its training and validation splits are opened.
      data: what it was prepared from, kept with every checkpoint.
      tell: receives lines for the user: where a run resumes, where its slices are kept.

    Raises:
      InputError: the work directory belongs to another config or other data, another run is using it, or the batch does
        not fit.
      FloatingPointError: a loss is no longer finite; the last good checkpoint stays.
      Ended: Ctrl-C, or who ends this process politely; at the end of a step, which is saved.
    """
    workdir = pathlib.Path(workdir)
    with only_run(workdir):
        run = _set_up(config, workdir, builder, data, tell)
        outputs = _Outputs(run, workdir, tell)
        with interrupts.between_steps(_signals()) as asked:
            try:
                outputs.resume(run.current, asked)
                for step in range(run.start + 1, run.total + 1):
                    with out_of_memory_named(config):
                        try:
                            batch = next(run.feed)
                        except InputError:  # who asks this process to end may have ended those that draw for it, too
                            outputs.end_if(asked(), step - 1, run.current)
                            raise
                        run.current, scalars = run.one_step(run.current, batch)
                    outputs.after(step, run.current, scalars, asked)
                    outputs.end_if(asked(), step, run.current)
            finally:
                outputs.close()


def _signals() -> tuple[signal.Signals, ...]:
    """Those that wait for the end of a step; of several processes only Ctrl-C: one alone cannot end a step or save."""
    return interrupts.ALL if jax.process_count() == 1 else (signal.SIGINT,)


@dataclasses.dataclass
class _Run:
    """A run that is ready to take its next step.

    Attributes:
      config: of the run.
      record: goes with every checkpoint.
      checkpoints: of the work directory.
      validation: of the run.
      one_step: the compiled step, (state, batch) -> (state, scalars).
      feed: batches from the next step on.
      batch_of: names subjects and slices of a step's batch.
      n_slices: in the training split.
      start, total: steps done before, and at the end.
      current: the state.
    """

    config: ml_collections.ConfigDict
    record: CheckpointRecord
    checkpoints: Checkpoints
    validation: Validation
    one_step: Callable[[state.GanState, Batch], tuple[state.GanState, steps.Scalars]]
    feed: Iterator[Batch]
    batch_of: Callable[[int], str]
    n_slices: int
    start: int
    total: int
    current: state.GanState


def _set_up(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    builder: Any,
    data: DataRecord,
    tell: Callable[[str], None],
) -> _Run:
    """Work directory, networks, the state to go on from, the compiled step, and the batches."""
    n_slices = builder.info.splits["train"].num_examples
    total = settings.total_steps(config, n_slices)
    mesh = sharding.data_mesh()
    batches.check_batch_size(config.train.batch_size, mesh.size, config.train.accumulate, settings.exam_slices(config))
    _claim(workdir, config)
    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    start = checkpoints.latest_step() or 0
    before = checkpoints.record(start) if start else None
    begun = None if start else fine_tuning.beginning(config)  # a run that goes on does not need it any more
    begun_with = before.begun_with if before else begun.in_words if begun else ""
    scaling = _scaling(config, data, before, begun)
    networks, optimisers, current = state.create(
        config.model,
        config.train,
        frames=config.data.frames,
        n_targets=len(config.target),
        seed=config.seed,
        total_steps=total,
        exam_slices=settings.exam_slices(config),
    )
    if begun:
        current = fine_tuning.begun_with(current, begun)
        if config.train.start_discriminator:
            current = fine_tuning.discriminator_begun_with(current, begun, config.train.start_from)
        ranges = "its ranges" if scaling == begun.record.scaling else "the ranges of these exams"
        tell(f"begins with the network {begun.in_words}, in {ranges}")
    current = sharding.place_state(current, mesh)
    if before:
        check_same_data(before.data, data, workdir)
        current = checkpoints.restore(start, current)
        tell(f"resuming {workdir} from step {start} of {total}")
    write_config(workdir, config)
    with out_of_memory_named(config):
        one_step = compiled_within_memory(
            steps.jitted_step(config, networks, optimisers, scaling, mesh),
            current,
            batches.shapes(builder, config.train.batch_size, sharding.split_batch(mesh)),
        )
    feed = iter(())
    if start < total:
        analysis = one_step.memory_analysis()
        feed = data_feed(config, builder, mesh, start, analysis.temp_size_in_bytes if analysis else 0, tell)
    return _Run(
        config,
        CheckpointRecord(config, scaling, data, provenance.software_versions(), begun_with),
        checkpoints,
        Validation(config, builder, networks, scaling, mesh),
        one_step,
        feed,
        functools.partial(batch_names, config, builder),
        n_slices,
        start,
        total,
        current,
    )


def _scaling(
    config: ml_collections.ConfigDict, data: DataRecord, before: CheckpointRecord | None, begun: Weights | None
) -> Scaling:
    """The ranges that a run has had so far, those of the network that it begins with, or those of its own exams."""
    own = Scaling.from_ranges(data.ranges, config.data.signal, tuple(config.target), config.data.ranges)
    if before:
        return before.scaling
    return own if config.train.start_ranges == "own" or begun is None else begun.record.scaling


def _claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Checks the work directory, makes it, and leaves the config in it."""
    check_workdir(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    distributed.check_shared(workdir)
    # Before checkpoints/ is made: a run that is killed between the two can go on.
    if not (workdir / CONFIG_FILE).is_file():
        write_config(workdir, config)


class _Outputs:
    """What a run leaves on its way, each at its time: curves, checkpoints with the validation error, sample panels."""

    def __init__(self, run: _Run, workdir: pathlib.Path, tell: Callable[[str], None]):
        train_config = run.config.train
        self._run, self._samples, self._tell = run, workdir / "samples", tell
        self._checkpoint_every = settings.steps_of_epochs(
            run.config, train_config.checkpoint_every_epochs, run.n_slices
        )
        self._sample_every = settings.steps_of_epochs(run.config, train_config.sample_every_epochs, run.n_slices)
        self._tracker = Tracker(workdir, run.start) if distributed.is_lead() else Silent()
        self._balance = Balance(self._tracker.kept, tell)
        self._watch = Watch(run.batch_of, only_when_asked=jax.process_count() > 1)
        self._bar = tqdm.tqdm(
            total=run.total,
            initial=run.start,
            unit="step",
            desc="training",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=not distributed.is_lead(),
        )

    def resume(self, current: state.GanState, asked: Callable[[], int | None]) -> None:
        """Makes up for the checkpoint of the step from which the run goes on, if it had been left off.

        Raises:
          Ended: and again.
        """
        start = self._run.start
        if is_due(start, self._checkpoint_every, self._run.total) and not self._run.checkpoints.is_kept(start):
            self._checkpoint(start, current, asked)
            self.end_if(asked(), start, current)

    def after(
        self, step: int, current: state.GanState, scalars: steps.Scalars, asked: Callable[[], int | None]
    ) -> None:
        """Whatever is due after a step; `asked` gives the number of a signal, with which validation ends early.

        Raises:
          FloatingPointError: a loss or an error is not finite.
        """
        total = self._run.total
        self._watch.add(step, scalars)
        log_due = is_due(step, self._run.config.train.log_every_steps, total)
        checkpoint_due = is_due(step, self._checkpoint_every, total)
        if log_due or checkpoint_due:  # the only places where the host waits for the device
            values = self._fetched(scalars)
        if log_due:
            epoch = step * self._run.config.train.batch_size / self._run.n_slices
            self._tracker.log(step, {"epoch": epoch, **values, **self._balance.add(step, values)})
        if distributed.is_lead() and is_due(step, self._sample_every, total):
            path = self._samples / f"step-{step:07d}.png"
            self._tracker.image(step, "samples", self._run.validation.panel(current.generator, path))
        if checkpoint_due:  # last: a run that goes on from here makes nothing of this step again
            self._checkpoint(step, current, asked)
        self._bar.update()

    def end_if(self, number: int | None, step: int, current: state.GanState) -> None:
        """Ends the run after a step, which is whole on disk, where there is a signal's number.

        One of several processes keeps no step: the others know nothing of its end.

        Raises:
          Ended: says from where the run will go on.
        """
        if not number:
            return
        if jax.process_count() > 1 or step == 0:
            raise Ended(number)
        self._watch.check()
        check_state(current, step)
        self._run.checkpoints.save_stopped(current, self._run.record)
        by = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        raise Ended(
            number, f"{by}; step {step} of {self._run.total} is saved, and the same command goes on from there."
        )

    def _fetched(self, scalars: steps.Scalars) -> dict[str, float]:
        with out_of_memory_named(self._run.config):
            self._watch.check()
            values = {name: float(value) for name, value in jax.device_get(scalars).items()}
        shown = {"L1": "loss_l1", "D": "loss_d"}  # without an adversarial term there is no D
        self._bar.set_postfix(
            {short: f"{values[name]:.3f}" for short, name in shown.items() if name in values}, refresh=False
        )
        return values

    def _checkpoint(self, step: int, current: state.GanState, asked: Callable[[], int | None]) -> None:
        try:
            errors = self._run.validation.errors(current.generator, asked if jax.process_count() == 1 else lambda: None)
        except LeftOff:
            return  # the state is saved by who asked; the run that goes on makes up for the rest
        row = {f"validation_{name}": value for name, value in errors.items()}
        if not np.isfinite(list(row.values())).all():  # the step has spoilt the weights
            check_finite(row, step, self._run.batch_of(step))
        self._tracker.log(step, row)
        if step == self._run.total:
            for line in saturation_warnings(errors, self._run.config.target):
                self._tell(line)
        check_state(current, step)
        self._run.checkpoints.save(current, self._run.record, errors["error"])

    def close(self) -> None:
        """Waits for what is still being written."""
        self._bar.close()
        self._tracker.close()
        self._run.checkpoints.close()


def rough_hours(config: ml_collections.ConfigDict, n_slices: int) -> float:
    """Expected hours of a run on this machine: counted operations of a step over the rate of a matrix product."""
    size, adversarial = config.train.crop or config.data.size, config.loss.objective in losses.ADVERSARIAL
    count = flops.counted_flops(config.model, config.data.frames, size, len(config.target), adversarial=adversarial)
    operations = settings.total_steps(config, n_slices) * config.train.batch_size * count.training
    product = jax.jit(jnp.matmul)
    matrix = jnp.ones((1024, 1024))
    product(matrix, matrix).block_until_ready()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < 1.0:
        product(matrix, matrix).block_until_ready()
        done += 1
    rate = done * 2 * 1024**3 / (time.perf_counter() - begun)
    return operations / rate / 3600
