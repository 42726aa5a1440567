"""The training loop: batches in, checkpoints and curves out.

Everything that decides a number is a function of (config, data, step): a run that was killed and started again writes
the same weights and the same metrics.jsonl as one that was not. One run at a time uses a work directory.
"""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from dscgan_jax import settings
from dscgan_jax.data import batches as pipeline
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import metrics
from dscgan_jax.figures import panels as figures
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.models import flops as counting
from dscgan_jax.training import distributed, resident, sharding, state, steps
from dscgan_jax.training.checkpoints import METRIC, Checkpoints, software_versions
from dscgan_jax.training.tracking import Silent, Tracker, check_finite, is_due

CONFIG_FILE = "config.json"
LOCK_FILE = "run.lock"  # who trains here: host, process, since when
LOCK_TRIES = 10  # a file system on which an open file never is the one that stands there has no locks to rely on
N_SAMPLES = 3  # slices in a panel


_locked: set[pathlib.Path] = set()  # work directories that this process has to itself


def train(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | str, builder: Any, data_record: dict[str, Any]
) -> None:
    """Trains to the end of the config, resuming from the last checkpoint of `workdir` if there is one.

    Args:
      config: a checked config.
      workdir: receives config.json, checkpoints/, metrics.jsonl, events.*, samples/.
      builder: the prepared data set; only its training and validation splits are opened.
      data_record: what a checkpoint says of its data (splits, medians, fingerprint), kept with every checkpoint.

    Raises:
      InputError: the work directory belongs to another config or other data, another run is using it, or the batch does
        not fit.
      FloatingPointError: a loss is no longer finite; the last good checkpoint stays.
    """
    workdir = pathlib.Path(workdir)
    with only_run(workdir):
        _train(config, workdir, builder, data_record)


def _train(config: ml_collections.ConfigDict, workdir: pathlib.Path, builder: Any, data_record: dict[str, Any]) -> None:
    n_slices = builder.info.splits["train"].num_examples
    total = settings.total_steps(config, n_slices)
    mesh = sharding.data_mesh()
    pipeline.check_batch_size(config.train.batch_size, mesh.size, config.train.accumulate)
    scaling = Scaling.from_ranges(data_record["ranges"], config.data.signal, tuple(config.target), config.data.ranges)
    record = {
        "config": settings.to_json(config),
        "scaling": scaling.to_json(),
        "data": data_record,
        "software": software_versions(),
    }

    check_workdir(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    distributed.check_shared(workdir)
    if not (
        workdir / CONFIG_FILE
    ).is_file():  # before checkpoints/ is made: whoever is killed between the two can go on
        write_config(workdir, config)
    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    networks, optimisers, current = state.create(
        config.model,
        config.train,
        frames=config.data.frames,
        n_targets=len(config.target),
        seed=config.seed,
        total_steps=total,
    )
    current = sharding.place_state(current, mesh)
    start = checkpoints.latest_step() or 0
    if start:
        check_same_data(checkpoints.record(start), data_record, workdir)
        current = checkpoints.restore(start, current)
        print(f"resuming {workdir} from step {start} of {total}")
    write_config(workdir, config)

    one_step = jax.jit(
        functools.partial(
            steps.train_step,
            networks=networks,
            optimisers=optimisers,
            scaling=scaling,
            objective=config.loss.objective,
            l1_weight=config.loss.l1_weight,
            accumulate=config.train.accumulate,
        ),
        donate_argnums=0,
        out_shardings=sharding.replicated(mesh),
        compiler_options=steps.compiler_options(),
    )
    with out_of_memory_named(config):
        one_step = compiled_within_memory(one_step, current, abstract_batch(builder, config, mesh))
    predict_step = functools.partial(
        steps.predict_step, networks=networks, scaling=scaling, mode=config.evaluate.norm_at_test
    )
    predict_together = jax.jit(
        predict_step, out_shardings=sharding.split_batch(mesh), compiler_options=steps.compiler_options()
    )
    predict_alone = jax.jit(predict_step, compiler_options=steps.compiler_options())
    analysis = one_step.memory_analysis()
    feed = iter(())
    if start < total:
        feed = data_feed(config, builder, mesh, start, analysis.temp_size_in_bytes if analysis else 0)
    checkpoint_every = settings.steps_of_epochs(config, config.train.checkpoint_every_epochs, n_slices)
    sample_every = settings.steps_of_epochs(config, config.train.sample_every_epochs, n_slices)
    samples = None

    tracker = Tracker(workdir, start) if distributed.is_lead() else Silent()
    bar = tqdm.tqdm(
        total=total,
        initial=start,
        unit="step",
        desc="training",
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not distributed.is_lead(),
    )
    try:
        for step in range(start + 1, total + 1):
            with out_of_memory_named(config):
                current, scalars = one_step(current, next(feed))
            log_due = is_due(step, config.train.log_every_steps, total)
            checkpoint_due = is_due(step, checkpoint_every, total)
            if log_due or checkpoint_due:  # the only places where the host waits for the device
                with out_of_memory_named(config):
                    scalars = {name: float(value) for name, value in jax.device_get(scalars).items()}
                check_finite(scalars, step)
                bar.set_postfix(L1=f"{scalars['loss_l1']:.3f}", D=f"{scalars['loss_d']:.3f}", refresh=False)
            if log_due:
                tracker.log(step, {"epoch": step * config.train.batch_size / n_slices, **scalars})
            if checkpoint_due:
                errors = validate(
                    predict_together, current.generator, evaluation_batches(builder, config), scaling, mesh
                )
                check_finite(errors, step)
                tracker.log(step, {f"validation_{name}": value for name, value in errors.items()})
                checkpoints.save(current, record, errors["error"])
            if distributed.is_lead() and is_due(step, sample_every, total):
                samples = samples or choose_samples(evaluation_batches(builder, config, everybody=False), scaling)
                tracker.image(
                    step,
                    "samples",
                    draw_samples(
                        predict_alone,
                        sharding.own_copy(current.generator),
                        samples,
                        scaling,
                        workdir / "samples" / f"step-{step:07d}.png",
                    ),
                )
            bar.update()
    finally:
        bar.close()
        tracker.close()
        checkpoints.close()


def data_feed(
    config: ml_collections.ConfigDict, builder: Any, mesh: jax.sharding.Mesh, start: int, step_bytes: int = 0
) -> Iterator[dict[str, jax.Array]]:
    """Training batches on the devices, from number `start` on: the same wherever the slices lie, which it prints.

    Args:
      config: says where they may lie.
      builder: the prepared data set.
      mesh: batches are split over it; each process sends its share.
      start: how many batches were consumed before.
      step_bytes: what a step needs on each device beside its state.

    Raises:
      InputError: the slices must lie on the device, which has no room for them.
    """
    order = {"batch_size": config.train.batch_size, "seed": config.seed, "start_step": start}
    if fits_on_device(config, builder, mesh, step_bytes):
        where = "on the device" if mesh.size == 1 else "on each device"
        arrays = resident.load(pipeline.training_slices(builder), mesh, read_threads=config.data.read_threads)
        feed = resident.batches(arrays, mesh, **order)
    else:
        where = "in memory" if pipeline.fits_in_memory(builder, config.data.memory_mib) else "on disk"
        batches = pipeline.train_batches(
            builder,
            **order,
            memory_mib=config.data.memory_mib,
            read_threads=config.data.read_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        placed = (sharding.place_batch(batch, mesh) for batch in batches)
        feed = one_ahead(next(placed), placed)
    if jax.process_index() == 0:
        print(
            f"training slices: {builder.info.splits['train'].num_examples} {where} "
            f"({pipeline.training_bytes(builder) / 2**20:,.1f} MiB)"
        )
    return feed


def fits_on_device(config: ml_collections.ConfigDict, builder: Any, mesh: jax.sharding.Mesh, step_bytes: int) -> bool:
    """Whether the training slices shall and can lie on every device."""
    wish = config.data.on_device
    if wish == "never" or (wish == "auto" and mesh.devices.flat[0].platform == "cpu"):
        return False
    needed, room = pipeline.training_bytes(builder), resident.room_bytes(mesh, step_bytes)
    if wish == "always" and needed > room:
        raise InputError(
            f"config.data.on_device=always: the training slices need {needed / 2**20:,.1f} MiB, beside a training "
            f"step each device has room for {room / 2**20:,.1f} MiB; set it to auto or never."
        )
    return needed <= room


def one_ahead(first: Any, later: Iterable[Any]) -> Iterator[Any]:
    """`first`, then all of `later`; each leaves only when the next is on its way."""
    for following in later:
        yield first
        first = following
    yield first


def evaluation_batches(
    builder: Any, config: ml_collections.ConfigDict, everybody: bool = True
) -> Iterable[dict[str, np.ndarray]]:
    """Every validation slice once: `everybody` takes a share of them, or this process takes all."""
    shares = {"process_index": jax.process_index(), "process_count": jax.process_count()} if everybody else {}
    return pipeline.evaluation_batches(
        builder, "validation", batch_size=config.train.batch_size, read_threads=config.data.read_threads, **shares
    )


def validate(
    predict: Any, generator: Any, batches: Iterable[dict[str, np.ndarray]], scaling: Scaling, mesh: jax.sharding.Mesh
) -> dict[str, float]:
    """Brain MAE of each target in its unit, and `error`: their mean, each over the width of its map's range.

    Voxels of all slices count alike; a slice without the map counts nowhere. `batches` are this process's share;
    `predict` leaves its maps split over the mesh.
    """
    columns = [MAP_NAMES.index(name) for name in scaling.targets]
    total, count = np.zeros(len(columns)), np.zeros(len(columns))
    for batch in batches:
        inputs = sharding.place_batch(pipeline.network_inputs(batch), mesh)
        predicted = np.asarray(scaling.physical_maps(sharding.own_rows(predict(generator, inputs))))
        for channel, column in enumerate(columns):
            counts_here = (
                batch["mask"].astype(bool) & (batch["has_map"][:, column] & ~batch["is_padding"])[:, None, None]
            )
            error, voxels = metrics.abs_error_and_count(
                predicted[..., channel], batch["maps"][..., column], counts_here
            )
            total[channel] += np.asarray(error).sum()
            count[channel] += np.asarray(voxels).sum()
    total, count = distributed.sum_over_processes(np.stack([total, count]))
    if not count.all():
        absent = [name for name, voxels in zip(scaling.targets, count, strict=True) if not voxels]
        raise InputError(
            f"no validation subject has {', '.join(absent)}; add the map to one, or take it out of config.target."
        )
    errors = {f"brain_mae_{name}": float(value) for name, value in zip(scaling.targets, total / count, strict=True)}
    widths = [limits.high - limits.low for limits in scaling.limits]
    return {**errors, METRIC.removeprefix("validation_"): float(np.mean(total / count / widths))}


def choose_samples(batches: Iterable[dict[str, np.ndarray]], scaling: Scaling) -> dict[str, np.ndarray]:
    """For each of the first validation subjects, the slice where the first target sums highest: where something is."""
    column = MAP_NAMES.index(scaling.targets[0])
    chosen: dict[str, tuple[float, dict[str, Any]]] = {}
    for batch in batches:
        load = np.where(batch["mask"] > 0, batch["maps"][..., column], 0).sum(axis=(1, 2))
        for i in np.flatnonzero(~batch["is_padding"]):
            subject = str(batch["subject"][i])
            if subject not in chosen and len(chosen) == N_SAMPLES:
                continue
            if subject not in chosen or load[i] > chosen[subject][0]:
                chosen[subject] = (load[i], {name: np.asarray(values[i]) for name, values in batch.items()})
    slices = [example for _, example in chosen.values()]
    return {name: np.stack([example[name] for example in slices]) for name in slices[0]}


def draw_samples(
    predict: Any, generator: Any, samples: dict[str, np.ndarray], scaling: Scaling, path: pathlib.Path
) -> np.ndarray:
    """Writes a panel of the sample slices and returns it as an image (row, col, rgb)."""
    predicted = np.asarray(scaling.physical_maps(predict(generator, pipeline.network_inputs(samples))))
    return figures.sample_panel(
        path,
        series=samples["dsc"] * samples["dsc_scale"][:, None, None, None],
        predicted=predicted,
        reference=samples["maps"][..., [MAP_NAMES.index(name) for name in scaling.targets]],
        targets=scaling.targets,
        titles=[
            f"{subject}, slice {number}"
            for subject, number in zip(samples["subject"], samples["slice_index"], strict=True)
        ],
    )


def check_workdir(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a work directory that holds another run.

    An absent one is fine, and one that was killed before it learned.

    Raises:
      InputError: names what differs.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        if has_finished_step(workdir):
            raise InputError(
                f"{workdir} holds checkpoints but no {CONFIG_FILE}; give another --workdir, or put the run's "
                f"{CONFIG_FILE} back."
            )
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        if has_finished_step(workdir):
            raise InputError(
                f"{path}: damaged ({error}); give another --workdir, or put the run's config back."
            ) from error
        return  # nothing was learned yet: it is written anew
    settings.check_same_run(stored, config, workdir)


def has_finished_step(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint was written to its end; until then its folder's name is no number."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def write_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """What the run was asked for, by the lead."""
    if distributed.is_lead():
        write_whole(workdir / CONFIG_FILE, json.dumps(settings.to_json(config), indent=2) + "\n")


@contextlib.contextmanager
def only_run(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps a work directory for this run; made if it is absent, and removed again if nothing came into it.

    The lock is the system's and ends with this process, however that ends: a file that a killed run left is no
    obstacle. Of several processes the lead takes it; within itself it does nothing. Where the file system has no locks,
    the run goes on without.

    Raises:
      InputError: another run has it; says where and since when.
    """
    workdir = workdir.absolute()
    if not distributed.is_lead() or workdir in _locked:
        yield
        return
    existed = workdir.is_dir()
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / LOCK_FILE
    try:
        with _locked_file(path) as file:
            _locked.add(workdir)
            try:
                file.truncate(0)
                file.write(
                    json.dumps(
                        {
                            "host": socket.gethostname(),
                            "process": os.getpid(),
                            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
                        }
                    )
                    + "\n"
                )
                file.flush()
                yield
            finally:
                _locked.discard(workdir)
                path.unlink(missing_ok=True)
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                workdir.rmdir()  # only where it is empty


def _locked_file(path: pathlib.Path) -> Any:
    """The file, open and locked.

    Raises:
      InputError: another process holds the lock.
    """
    for _ in range(LOCK_TRIES):
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InputError(
                f"{path.parent}: a run is going on here ({_holder(path)}); wait for its end or stop it, or give "
                "another --workdir."
            ) from error
        except OSError:
            break  # a file system without locks
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # a run that ended in this moment removed it: a lock on it would lock nobody out
    return path.open("a", encoding="utf-8") if file.closed else file


def _holder(path: pathlib.Path) -> str:
    """Who wrote a lock file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return f"on {record['host']}, process {record['process']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process has not yet told more"


def check_same_data(stored: dict[str, Any], data_record: dict[str, Any], workdir: pathlib.Path) -> None:
    """Refuses to continue on other exams, whose order and ranges would differ."""
    for name in ("splits", "ranges"):
        if stored["data"][name] != json.loads(json.dumps(data_record[name])):
            raise InputError(
                f"{workdir} was trained on exams with other {name}; resume with the exams it began with, or "
                "give another --workdir."
            )


def abstract_batch(
    builder: Any, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch, before one is read."""
    features, n, sharding_ = builder.info.features, config.train.batch_size, sharding.split_batch(mesh)
    return {
        name: jax.ShapeDtypeStruct(
            (n, *features[name].shape),
            bool if name in pipeline.FLAG_FIELDS else features[name].np_dtype,
            sharding=sharding_,
        )
        for name in pipeline.TRAIN_FIELDS
    }


def compiled_within_memory(one_step: Any, current: state.GanState, batch: dict[str, jax.ShapeDtypeStruct]) -> Any:
    """The compiled step.

    Raises:
      MemoryError: on a CPU, where the system would kill the process without a word instead of refusing.
    """
    compiled = one_step.lower(current, batch).compile()
    if jax.default_backend() == "cpu":
        analysis = compiled.memory_analysis()
        needed = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
        if needed > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError(f"{needed / 2**30:.0f} GiB")
    return compiled


class out_of_memory_named:
    """Says which field to lower when memory runs out."""

    def __init__(self, config: ml_collections.ConfigDict):
        self._config = config

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise InputError(
                f"out of memory at config.train.batch_size={self._config.train.batch_size}, "
                f"config.model.width={self._config.model.width}, config.data.size="
                f"{self._config.data.size}; lower one of them, or take the batch in parts "
                "(config.train.accumulate)."
            ) from error


def rough_hours(config: ml_collections.ConfigDict, n_slices: int) -> float:
    """Expected hours of a run on this machine: counted operations of a step over the rate of a matrix product."""
    count = counting.counted_flops(config.model, config.data.frames, config.data.size, len(config.target))
    flops = settings.total_steps(config, n_slices) * config.train.batch_size * count.training
    product = jax.jit(jnp.matmul)
    matrix = jnp.ones((1024, 1024))
    product(matrix, matrix).block_until_ready()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < 1.0:
        product(matrix, matrix).block_until_ready()
        done += 1
    rate = done * 2 * 1024**3 / (time.perf_counter() - begun)
    return flops / rate / 3600
