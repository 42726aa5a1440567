"""Checkpoints that explain themselves: Orbax behind a thin wrapper.

One folder per saved step, which it is named by, holds both networks, both optimisers and a record: config, scaling,
data, versions. The last ones *and* the best on validation are kept; saving is asynchronous, and a step that was not
written to its end is not listed. The digests of its files are written with it, and compared before one is read: the
formats beneath notice some damage of their own, not all.

A run that is asked to end between two of them leaves one more, in a folder of its own: it has no error on validation,
is never the best, and takes no other's place. It is gone when the run that it let go on has ended.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from dscgan_jax import digests
from dscgan_jax.errors import InputError, brief, disk_is_full
from dscgan_jax.training.record import CheckpointRecord

if TYPE_CHECKING:  # prediction needs no optimiser
    from dscgan_jax.training.state import GanState

FOLDER, STOPPED_FOLDER = "checkpoints", "stopped"
DELETED = "deleted"  # in the folder: checkpoints that are being removed; one that a kill left half removed is no step
RECORD, METRICS = "record", "metrics"  # folders of a checkpoint, beside those of `_items`
METRIC = "validation_error"  # brain MAE on validation over the width of the map's range; lower is better


@contextlib.contextmanager
def _listable(folder: pathlib.Path) -> Iterator[None]:
    """Turns what damaged checkpoints raise when they are listed into one line that names the folder."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not folder.is_dir() or disk_is_full(error):
            raise
        raise InputError(
            f"{folder}: the checkpoints cannot be listed ({brief(error)}); repair or remove what is named there."
        ) from error


class Checkpoints:
    """The checkpoints of one work directory.

    All processes save and restore them together, unless one opens them `alone`.
    """

    def __init__(self, workdir: pathlib.Path | str, keep: int = 2, alone: bool = False):
        self.folder, self._alone = (pathlib.Path(workdir) / FOLDER).absolute(), alone
        self._stopped_folder = self.folder.with_name(STOPPED_FOLDER)
        best = preservation_policy.BestN(get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1)
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[METRIC],
            best_mode="min",
            # max_to_keep with best_fn would delete the latest step as soon as it is not among the best.
            preservation_policy=preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(keep), best]),
            create=not alone,  # a reader finds the folder there
            cleanup_tmp_directories=not alone,  # what a killed run left half-written
            todelete_subdir=DELETED,
            async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _note_digests(self.folder)),
            multiprocessing_options=_this_process() if alone else ocp.options.MultiprocessingOptions(),
        )
        with _listable(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._stopped = None if alone or not self._stopped_folder.is_dir() else self._manager_of_stopped()
        self._remove_deleted()

    def _remove_deleted(self) -> None:
        if not self._alone and jax.process_index() == 0:
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def save(self, state: "GanState", record: CheckpointRecord, validation_error: float) -> None:
        """Begins to write the state; returns before it is on disk.

        Raises:
          InputError: somebody has removed the folder; another one would be a run without its config.
        """
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder}: was removed while the run went on; give the command again, it begins from the start."
            )
        self._remove_deleted()
        self._manager.save(int(state.step), args=_saved(state, record), metrics={METRIC: validation_error})

    def save_stopped(self, state: "GanState", record: CheckpointRecord) -> None:
        """Writes the state of a run that ends here, between two checkpoints; returns when it is on disk."""
        if int(state.step) != self.latest_step():
            self._stopped = self._stopped or self._manager_of_stopped()
            self._stopped.save(int(state.step), args=_saved(state, record))
            self._stopped.wait_until_finished()
        self.wait()

    def latest_step(self) -> int | None:
        """The last step that was written whole."""
        steps = [manager.latest_step() for manager in (self._manager, self._stopped) if manager is not None]
        return max((step for step in steps if step is not None), default=None)

    def is_kept(self, step: int) -> bool:
        """Whether this step has a checkpoint with its error on validation, or is before the first one."""
        return step == (self._manager.latest_step() or 0)

    def _manager_of_stopped(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _note_digests(self._stopped_folder)),
        )
        with _listable(self._stopped_folder):
            return ocp.CheckpointManager(self._stopped_folder, options=options)

    def _manager_with(self, step: int) -> ocp.CheckpointManager:
        """The one that wrote this step."""
        if self._stopped is not None and step != self._manager.latest_step() and step == self._stopped.latest_step():
            return self._stopped
        return self._manager

    def record(self, step: int) -> CheckpointRecord:
        """How the checkpoint describes itself.

        Raises:
          InputError: it is damaged, or its config has a field that this version does not know.
        """
        manager = self._manager_with(step)
        folder = pathlib.Path(manager.directory)
        with _readable(folder, step):
            _check_digests(folder, step, RECORD)
            stored = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))[RECORD]
            return CheckpointRecord.from_json(stored)

    def restore(self, step: int, like: "GanState") -> "GanState":
        """The whole state, placed as `like` is placed (which may be on other devices than those that saved it).

        Raises:
          InputError: it is damaged.
        """
        targets = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in _items(like).items()}
        manager = self._manager_with(step)
        folder = pathlib.Path(manager.directory)
        with _readable(folder, step):
            _check_digests(folder, step, *targets)
            restored = manager.restore(step, args=ocp.args.Composite(**targets))
        count = jax.jit(lambda: jnp.asarray(step, like.step.dtype), out_shardings=like.step.sharding)()
        return like.replace(
            step=count,
            generator=restored["generator"],
            discriminator=restored["discriminator"],
            **restored["optimisers"],
        )

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the writer's threads."""
        self._manager.wait_until_finished()
        latest, stopped = self._manager.latest_step(), self._stopped
        self._manager.close()
        self._remove_deleted()
        if stopped is None:
            return
        is_needed = (stopped.latest_step() or 0) > (latest or 0)
        stopped.close()
        if not is_needed and jax.process_index() == 0:
            shutil.rmtree(self._stopped_folder, ignore_errors=True)


def choose_step(workdir: pathlib.Path | str, which: str = "best") -> int:
    """The step to use: `best` on validation, `latest`, or a number.

    Raises:
      InputError: there is no such checkpoint; names those that exist.
    """
    folder = (pathlib.Path(workdir) / FOLDER).absolute()
    if not folder.is_dir():
        raise InputError(
            f"{workdir} holds no checkpoints; expected {folder.name}/<step>/ as training leaves them. "
            "Give the --workdir of a trained run."
        )
    checkpoints = Checkpoints(workdir, alone=True)
    try:
        manager = checkpoints._manager
        steps = sorted(manager.all_steps())
        if not steps:
            raise InputError(f"{folder} holds no finished checkpoint; train first, or resume the run with its command.")
        if which == "latest":
            return steps[-1]
        if which == "best":
            for step in steps:
                with _readable(folder, step):
                    _check_digests(folder, step, METRICS)
            best = manager.best_step()
            return steps[-1] if best is None else best
        if not which.isdigit() or int(which) not in steps:
            raise InputError(
                f"--step={which}: {folder} holds the steps {', '.join(map(str, steps))}; "
                "give one of them, best or latest."
            )
        return int(which)
    finally:
        checkpoints.close()


def load_generator(workdir: pathlib.Path | str, step: int, like: Any) -> Any:
    """The generator's variables alone, on this machine's default device.

    Args:
      workdir: work directory of a run.
      step: as `choose_step` returns it.
      like: variables of the same architecture; only shapes and types are used.

    Raises:
      InputError: the checkpoint is damaged.
    """
    return _load_item(workdir, step, "generator", like)


def load_discriminator(workdir: pathlib.Path | str, step: int, like: Any) -> Any:
    """As `load_generator`, the discriminator's variables."""
    return _load_item(workdir, step, "discriminator", like)


def _load_item(workdir: pathlib.Path | str, step: int, name: str, like: Any) -> Any:
    folder = (pathlib.Path(workdir) / FOLDER).absolute()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_this_process())
    with _readable(folder, step), ocp.Checkpointer(handler, multiprocessing_options=_this_process()) as reader:
        _check_digests(folder, step, name)
        return reader.restore(folder / str(step) / name, args=ocp.args.StandardRestore(jax.tree.map(_abstract, like)))


def load_record(workdir: pathlib.Path | str, step: int) -> CheckpointRecord:
    """How the checkpoint describes itself.

    Raises:
      InputError: it is damaged.
    """
    checkpoints = Checkpoints(workdir, alone=True)
    try:
        return checkpoints.record(step)
    finally:
        checkpoints.close()


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Reading without the other processes, which may be elsewhere."""
    return ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"alone{jax.process_index()}",
    )


def _saved(state: "GanState", record: CheckpointRecord) -> ocp.args.Composite:
    return ocp.args.Composite(
        **{name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()},
        record=ocp.args.JsonSave(record.to_json()),
    )


def _items(state: "GanState") -> dict[str, Any]:
    return {
        "generator": state.generator,
        "discriminator": state.discriminator,
        "optimisers": {"opt_g": state.opt_g, "opt_d": state.opt_d},
    }


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _note_digests(folder: pathlib.Path) -> None:
    """Of a checkpoint that is written whole and not yet listed, so that no listed one is without.

    But of `commit_success.txt`: Orbax marks whole folders with it, perhaps after this, and nothing is read in it.
    """
    if jax.process_index() == 0:
        for path in folder.glob("*.orbax-checkpoint-tmp*"):
            if (path / RECORD).is_dir():
                digests.write(path, (file for file in path.glob("*/**/*") if file.is_file() and file.suffix != ".txt"))


def _check_digests(folder: pathlib.Path, step: int, *items: str) -> None:
    """Raises `digests.Damaged` about the first file of these items that is not what was written."""
    digests.check(folder / str(step), [f"{item}/" for item in items])


@contextlib.contextmanager
def _readable(folder: pathlib.Path, step: int) -> Iterator[None]:
    """Turns whatever a damaged checkpoint raises into one line that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(
            f"checkpoint {folder / str(step)} cannot be read: files are missing or damaged ({first[:160]}). "
            "Remove that folder and rerun: the run resumes from the checkpoint before it."
        ) from error
