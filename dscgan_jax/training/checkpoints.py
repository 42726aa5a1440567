"""Checkpoints that explain themselves: Orbax behind a thin wrapper.

One folder per saved step holds both networks, both optimisers, step and key, and a record: config, scaling, splits,
medians, versions. The last ones *and* the best on validation are kept; saving is asynchronous, and a step that was not
written to its end is not listed.
"""

import hashlib
import importlib.metadata
import pathlib
import subprocess
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from dscgan_jax.errors import InputError
from dscgan_jax.training.state import GanState

METRIC = "validation_error"  # brain MAE on validation over the width of the map's range; lower is better
_NETWORKS = ("generator", "discriminator")
_ITEMS = (*_NETWORKS, "optimisers", "loop")


def software_versions() -> dict[str, str | None]:
    """Versions and the git commit of the code that runs (None outside a checkout)."""
    versions: dict[str, str | None] = {
        name: importlib.metadata.version(name) for name in ("dscgan_jax", "jax", "flax", "optax", "orbax-checkpoint")
    }
    versions["git"] = git_commit()
    return versions


def git_commit() -> str | None:
    """The commit of the checkout that this code lies in; None where it is in none, or there is no git."""
    root = pathlib.Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel") or "/").resolve() != root:
            return None  # installed into somebody else's repository
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or None
    except OSError:
        return None


def digest(tree: Any) -> str:
    """SHA-256 over the bytes of all leaves, in the tree's order: equal weights have equal digests."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return total.hexdigest()


class Checkpoints:
    """The checkpoints of one work directory.

    All processes save and restore them together, unless one opens them `alone`.
    """

    def __init__(self, workdir: pathlib.Path | str, keep: int = 2, alone: bool = False):
        self.folder = (pathlib.Path(workdir) / "checkpoints").absolute()
        best = preservation_policy.BestN(get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics[METRIC],
                best_mode="min",
                # max_to_keep with best_fn would delete the latest step as soon as it is not among the best.
                preservation_policy=preservation_policy.AnyPreservationPolicy(
                    [preservation_policy.LatestN(keep), best]
                ),
                create=not alone,  # who reads alone finds the folder there
                multiprocessing_options=_this_process() if alone else ocp.options.MultiprocessingOptions(),
            ),
        )

    def save(self, state: GanState, record: dict[str, Any], validation_error: float) -> None:
        """Begins to write the state; returns before it is on disk."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()},
                record=ocp.args.JsonSave(record),
            ),
            metrics={METRIC: validation_error},
        )

    def latest_step(self) -> int | None:
        """The last step that was written whole."""
        return self._manager.latest_step()

    def record(self, step: int) -> dict[str, Any]:
        """What the checkpoint says of itself."""
        with _readable(self.folder, step):
            return self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]

    def restore(self, step: int, like: GanState) -> GanState:
        """The whole state, placed as `like` is placed (which may be on other devices than those that saved it)."""
        targets = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in _items(like).items()}
        with _readable(self.folder, step):
            restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
        return like.replace(
            generator=restored["generator"],
            discriminator=restored["discriminator"],
            **restored["optimisers"],
            **restored["loop"],
        )

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the writer's threads."""
        self._manager.wait_until_finished()
        self._manager.close()


def choose_step(workdir: pathlib.Path | str, which: str = "best") -> int:
    """The step to use: `best` on validation, `latest`, or a number.

    Raises:
      InputError: there is no such checkpoint; names those that exist.
    """
    folder = (pathlib.Path(workdir) / "checkpoints").absolute()
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
    """
    folder = (pathlib.Path(workdir) / "checkpoints").absolute()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_this_process())
    with _readable(folder, step), ocp.Checkpointer(handler, multiprocessing_options=_this_process()) as reader:
        return reader.restore(
            folder / str(step) / "generator", args=ocp.args.StandardRestore(jax.tree.map(_abstract, like))
        )


def load_record(workdir: pathlib.Path | str, step: int) -> dict[str, Any]:
    """What the checkpoint says of itself: config, scaling, splits, medians, versions."""
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


def _items(state: GanState) -> dict[str, Any]:
    return {
        "generator": state.generator,
        "discriminator": state.discriminator,
        "optimisers": {"opt_g": state.opt_g, "opt_d": state.opt_d},
        "loop": {"step": state.step, "key": state.key},
    }


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class _readable:
    """Turns whatever a damaged checkpoint raises into one line that names it."""

    def __init__(self, folder: pathlib.Path, step: int):
        self._where = folder / str(step)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is not None and isinstance(error, Exception) and not isinstance(error, InputError):
            first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise InputError(
                f"checkpoint {self._where} cannot be read: files are missing or damaged ({first[:160]}). "
                "Remove that folder and rerun: the run resumes from the checkpoint before it."
            ) from error
