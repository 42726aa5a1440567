"""How fast a config is on this machine: the step, the batches, whole exams, conventional maps, and how cost grows.

`run` gives one JSON record; `benchmark_page` turns records into tables. Untrained weights and drawn exams stand for
real ones: speed knows no difference. What cannot be measured here is null, never estimated.
"""

import dataclasses
import functools
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from dscgan_jax import settings
from dscgan_jax.data import batches as pipeline
from dscgan_jax.data import dataset as data_builder
from dscgan_jax.data import layouts, preparation
from dscgan_jax.data.scaling import Limits, Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods import conventional as deconvolve
from dscgan_jax.methods.network import Predictor
from dscgan_jax.models import flops as counting
from dscgan_jax.phantom import cohort as phantom_exams
from dscgan_jax.phantom import exam as phantom
from dscgan_jax.training import loop as train
from dscgan_jax.training import sharding, state, steps
from dscgan_jax.training.checkpoints import Checkpoints, git_commit

SCHEMA = "dscgan_jax benchmark 1"
PARTS = ("step", "pipeline", "inference", "deconvolution", "linear")
OPTIONAL_PARTS = ("best_batch",)  # doubles the batch until it no longer pays: minutes
SUBJECT = "sub-0001"
EXAM_SLICES, MORE_SLICES = 21, 24  # of the paper's exams; of the drawn one, which three sizes divide
PAPER_EXAMS, PAPER_EPOCHS = 142, 100  # of its training set
SLICE_COUNTS, FRAME_COUNTS, SUBJECT_COUNTS = (8, 16, 24), (64, 80, 127), (1, 2, 4)
DECONVOLUTIONS = ("csvd", "osvd", "parametric")
PIPELINE_SUBJECTS, PIPELINE_SLICES = 3, 8

Record = dict[str, Any]


def run(
    config: ml_collections.ConfigDict, parts: Sequence[str] = PARTS, repeats: int = 20, command: str = ""
) -> Record:
    """Measures.

    Args:
      config: its sizes, networks and batch size count; its data do not.
      parts: of `PARTS` and `OPTIONAL_PARTS`.
      repeats: timed steps; exams are repeated a quarter as often.
      command: what the record says made it.

    Raises:
      InputError: the config could not work, a part is unknown, or memory runs out.
    """
    settings.check(config)
    if unknown := set(parts) - {*PARTS, *OPTIONAL_PARTS}:
        raise InputError(
            f"--parts={','.join(sorted(unknown))}: unknown; known are {', '.join((*PARTS, *OPTIONAL_PARTS))}."
        )
    pipeline.check_batch_size(config.train.batch_size, jax.device_count(), config.train.accumulate)
    few = max(2, repeats // 4)
    record = {
        "schema": SCHEMA,
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "load_before": os.getloadavg()[0],
        "config": sizes(config),
        "counted": dataclasses.asdict(count(config)),
    }
    with train.out_of_memory_named(config), tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if "step" in parts:  # first, so that the peak of the device's memory is its own
            record["step"] = tell("step", measure_step(config, repeats))
        record["peaks"] = record["step"]["peaks"] if "step" in record else measure_peaks()
        if "best_batch" in parts:
            record["best_batch"] = tell("best batch", measure_best_batch(config, few))
        if "pipeline" in parts:
            record["pipeline"] = tell("pipeline", measure_pipeline(config, folder, 2 * repeats))
        if {"inference", "deconvolution", "linear"} & set(parts):
            files = draw_exam(config, folder)
            exam = layouts.load_exam(files)
        if "inference" in parts:
            record["inference"] = tell("inference", measure_inference(config, exam, folder, few))
            record["start_to_files"] = tell("start to files", measure_start(config, files, folder))
            record["temporal_stack"] = tell("temporal stack", measure_temporal_stack(config, few))
        if "deconvolution" in parts:
            record["deconvolution"] = tell("deconvolution", measure_deconvolution(exam, files, few))
        if "linear" in parts:
            record["linear"] = tell("linear cost", measure_linear(config, exam, folder, few))
    record["load_after"] = os.getloadavg()[0]
    record["peak_resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return record


def tell(what: str, measured: Any) -> Any:
    """Says on standard error that a part is done."""
    print(f"measured: {what}", file=sys.stderr, flush=True)
    return measured


# --- Where and what ------------------------------------------------------------------------------------------------


def hardware() -> Record:
    """The machine, without its name."""
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return {
        "backend": device.platform,
        "device": processor() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "device_bytes": limit,
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "machine": platform.machine(),
    }


def processor() -> str:
    """Model of the processor, as the system names it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of what computes, and the commit; None for what is not installed as a package."""
    found: dict[str, str | None] = {"python": platform.python_version(), "git": git_commit()}
    for name in ("dscgan_jax", "jax", "jaxlib", "flax", "optax", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def sizes(config: ml_collections.ConfigDict) -> Record:
    """What of a config decides its speed."""
    return {
        "model": settings.to_json(config.model),
        "train": settings.to_json(config.train),
        "size": config.data.size,
        "frames": config.data.frames,
        "signal": config.data.signal,
        "target": list(config.target),
    }


def count(config: ml_collections.ConfigDict) -> counting.Count:
    """Operations per slice of the config."""
    return counting.counted_flops(config.model, config.data.frames, config.data.size, len(config.target))


# --- Timing --------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any], repeats: int) -> Record:
    """The first call, then the median of the repeats, s; whatever `work` returns is waited for."""

    def once() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(work())
        return time.perf_counter() - begin

    first = once()
    return {"first": first, **spread([once() for _ in range(repeats)])}


def spread(seconds: list[float]) -> Record:
    """Median and extremes."""
    return {
        "median": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "repeats": len(seconds),
    }


def ratios(mine: list[list[float]] | None, theirs: list[list[float]] | None) -> dict[str, float | None]:
    """Medians of two sides that took turns, their ratio and the extremes of single rounds, from seconds by rounds.

    A ratio above 1 says that mine is faster. A side that could not run is None.
    """
    medians = [statistics.median(itertools.chain(*rounds)) if rounds else None for rounds in (mine, theirs)]
    row = {"jax_seconds": medians[0], "torch_seconds": medians[1], "ratio": None}
    if not mine or not theirs:
        return row
    single = [statistics.median(b) / statistics.median(a) for a, b in zip(mine, theirs, strict=True)]
    return {**row, "ratio": medians[1] / medians[0], "ratio_lowest": min(single), "ratio_highest": max(single)}


def matrix_side() -> int:
    """Of the product that stands for a device's matrix rate."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def yardsticks() -> dict[str, tuple[Callable[[], Any], int]]:
    """What one device can do: name -> (work, its amount).

    `float32` and `bfloat16` (accelerators alone: a CPU emulates it) are square matrix products, in operations;
    `bandwidth` is `a + s b` on vectors far larger than any cache, in bytes read and written.
    """
    accelerator, side = jax.default_backend() != "cpu", matrix_side()
    calls = 10 if accelerator else 1  # several at once: what a device does while the host is not in its way
    product = jax.jit(jnp.matmul)

    def multiply(dtype: Any) -> tuple[Callable[[], Any], int]:
        # Random values: a matrix of ones draws less power, and a GPU then clocks higher than it does in real work.
        left, right = (
            jax.random.normal(jax.random.key(seed), (side, side), jnp.float32).astype(dtype) for seed in (0, 1)
        )
        return lambda: [product(left, right) for _ in range(calls)], calls * 2 * side**3

    add = jax.jit(lambda a, b: a + 0.5 * b, donate_argnums=0)
    a, b = jnp.zeros(4 * side**2, jnp.float32), jnp.ones(4 * side**2, jnp.float32)

    def stream() -> jax.Array:
        nonlocal a
        for _ in range(calls):
            a = add(a, b)
        return a

    kinds = {"float32": jnp.float32, **({"bfloat16": jnp.bfloat16} if accelerator else {})}
    return {**{kind: multiply(dtype) for kind, dtype in kinds.items()}, "bandwidth": (stream, calls * 3 * a.nbytes)}


def beside_yardsticks(work: Callable[[], Any], repeats: int) -> tuple[Record, Record]:
    """Times `work` in turns with the yardsticks, so that a machine that slows down slows all of them.

    Returns:
      seconds, as `timed`; rates of the yardsticks, operations/s and bytes/s, None where there is none.
    """
    first, measures = timed(work, 1)["first"], yardsticks()
    for measure, _ in measures.values():
        jax.block_until_ready(measure())
    seconds: dict[str, list[float]] = {name: [] for name in ("work", *measures)}
    for _ in range(repeats):
        for name, todo in (("work", work), *((name, measure) for name, (measure, _) in measures.items())):
            begin = time.perf_counter()
            jax.block_until_ready(todo())
            seconds[name].append(time.perf_counter() - begin)
    rates = {name: amount / statistics.median(seconds[name]) for name, (_, amount) in measures.items()}
    return ({"first": first, **spread(seconds["work"])}, {"matrix_side": matrix_side(), "bfloat16": None, **rates})


def measure_peaks(repeats: int = 7) -> Record:
    """The yardsticks alone; matrix products at the default precision of the backend."""
    return beside_yardsticks(lambda: None, repeats)[1]


def fractions_of_peak(flops_per_second: float, peaks: Record, devices: int = 1) -> Record:
    """A rate over the measured matrix rates; virtual CPU devices share the same cores."""
    many = devices if jax.default_backend() != "cpu" else 1
    return {kind: flops_per_second / (many * peaks[kind]) if peaks[kind] else None for kind in ("float32", "bfloat16")}


# --- The training step ---------------------------------------------------------------------------------------------


def scaling_of(config: ml_collections.ConfigDict) -> Scaling:
    """Made-up ranges: what a training set would say."""
    source = {"raw": Limits(0.0, 2000.0), "relative": Limits(0.0, 2.0), "delta_r2star": Limits(-10.0, 60.0)}[
        config.data.signal
    ]
    return Scaling(
        config.data.signal,
        source,
        tuple(config.target),
        tuple(Limits(*map(float, MAPS[name].window)) for name in config.target),
        config.data.ranges == "percentile",
    )


def synthetic_batch(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """A training batch as the pipeline makes them, of noise."""
    random = np.random.default_rng(0)
    n, side = config.train.batch_size, config.data.size
    return {
        "dsc": random.integers(500, 1500, (n, config.data.frames, side, side), np.int16),
        "dsc_scale": np.ones(n, np.float32),
        "baseline_begin": np.zeros(n, np.int32),
        "baseline_end": np.full(n, 8, np.int32),
        "brain_signal": np.full(n, 1000, np.float32),
        "echo_seconds": np.full(n, 0.03, np.float32),
        "maps": random.random((n, side, side, len(MAP_NAMES)), np.float32),
        "has_map": np.ones((n, len(MAP_NAMES)), bool),
        "mask": np.ones((n, side, side), bool),
    }


def training_step(config: ml_collections.ConfigDict, networks: Any, optimisers: Any) -> Any:
    """The step as `train` runs it."""
    return jax.jit(
        functools.partial(
            steps.train_step,
            networks=networks,
            optimisers=optimisers,
            scaling=scaling_of(config),
            objective=config.loss.objective,
            l1_weight=config.loss.l1_weight,
            accumulate=config.train.accumulate,
        ),
        donate_argnums=0,
        compiler_options=steps.compiler_options(),
    )


def measure_step(config: ml_collections.ConfigDict, repeats: int) -> Record:
    """One training step, again and again on one batch that lies on the device, in turns with the yardsticks."""
    mesh = sharding.data_mesh()
    networks, optimisers, current = state.create(
        config.model, config.train, frames=config.data.frames, n_targets=len(config.target), seed=0, total_steps=1000
    )
    parameters = {name: state.parameter_count(getattr(current, name)) for name in ("generator", "discriminator")}
    current = sharding.place_state(current, mesh)
    batch = sharding.place_batch(synthetic_batch(config), mesh)
    jitted = training_step(config, networks, optimisers)
    begin = time.perf_counter()
    compiled = train.compiled_within_memory(jitted, current, batch)
    compile_seconds = time.perf_counter() - begin
    before_compiling, analysis = jitted.lower(current, batch).cost_analysis() or {}, compiled.cost_analysis() or {}
    memory, traced = compiled.memory_analysis(), counting.traced_flops(jitted, current, batch)

    def once() -> Any:
        nonlocal current
        current, scalars = compiled(current, batch)
        return scalars

    jax.block_until_ready(once())
    stats = jax.devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds, peaks = beside_yardsticks(once, repeats)
    n, median = config.train.batch_size, seconds["median"]
    counted = n * count(config).training
    n_bytes = analysis.get("bytes accessed")
    return {
        "batch_size": n,
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "slices_per_second": n / median,
        "parameters": parameters,
        "counted_flops": counted,
        "traced_flops": traced,
        "counted_over_traced": counted / traced,
        # Before compilation: a compiled program calls libraries for its products, which the analysis cannot look into.
        "xla_flops": before_compiling.get("flops"),
        "counted_over_xla": counted / before_compiling["flops"] if before_compiling.get("flops") else None,
        "flops_per_second": counted / median,
        "fraction_of_peak": fractions_of_peak(counted / median, peaks, mesh.size),
        "xla_bytes": n_bytes,
        "bytes_per_second": n_bytes / median if n_bytes else None,
        "fraction_of_bandwidth": n_bytes / median / peaks["bandwidth"] if n_bytes else None,
        "temporary_bytes": getattr(memory, "temp_size_in_bytes", None),
        "device_peak_bytes": stats.get("peak_bytes_in_use"),
        "resident_peak_bytes": resident,
        "peaks": peaks,
        "minutes_of_paper": PAPER_EPOCHS * math.ceil(PAPER_EXAMS * EXAM_SLICES / n) * median / 60,
    }


def measure_best_batch(config: ml_collections.ConfigDict, repeats: int) -> list[Record]:
    """Steps of doubled batches, until slices/s grows by less than 2 % or memory runs out."""
    rows: list[Record] = []
    n = config.train.batch_size
    while len(rows) < 2 or rows[-1]["slices_per_second"] > 1.02 * rows[-2]["slices_per_second"]:
        try:
            rows.append(measure_step(with_fields(config, **{"train.batch_size": n}), repeats))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            break
        n *= 2
    return rows


def with_fields(config: ml_collections.ConfigDict, **fields: Any) -> ml_collections.ConfigDict:
    """A copy with some fields changed; `train.batch_size=8` as on the command line."""
    copy = ml_collections.ConfigDict(config.to_dict())
    for path, value in fields.items():
        section, field = path.split(".")
        copy[section][field] = value
    return copy


# --- Batches -------------------------------------------------------------------------------------------------------


def measure_pipeline(config: ml_collections.ConfigDict, folder: pathlib.Path, n_batches: int) -> Record:
    """Slices/s of the training batches, on the device where the step wants them, from each place they may lie in."""
    config = with_fields(
        config,
        **{
            "data.cache_dir": str(folder / "cache"),
            "data.slices": 0,
            "data.layout": "bids",
            "phantom.preset": "acute",
            "phantom.subjects": PIPELINE_SUBJECTS,
            "phantom.slices": PIPELINE_SLICES,
            "phantom.size": max(config.data.size, 32),
        },
    )
    config.data.root = str(phantom_exams.phantom_folder(config, folder))
    builder, mesh = data_builder.prepared(config, progress=False), sharding.data_mesh()
    places = {
        "device": {"data.on_device": "always"},
        "memory": {"data.on_device": "never", "data.memory_mib": 1 << 20},
        "disk": {"data.on_device": "never", "data.memory_mib": 0},
    }
    rates = {}
    for place, fields in places.items():
        feed = train.data_feed(with_fields(config, **fields), builder, mesh, 0)
        for _ in range(2 * config.data.read_threads):  # what was read ahead while nobody asked does not count
            jax.block_until_ready(next(feed))
        begin = time.perf_counter()
        for _ in range(n_batches):
            jax.block_until_ready(next(feed))
        rates[place] = n_batches * config.train.batch_size / (time.perf_counter() - begin)
    return {"slices_per_second": rates, "batches": n_batches}


# --- Whole exams ---------------------------------------------------------------------------------------------------


def draw_exam(config: ml_collections.ConfigDict, folder: pathlib.Path) -> layouts.SubjectFiles:
    """A phantom exam on disk, as large as the network grid."""
    root = folder / "exams"
    drawn = phantom.draw_phantom("acute", (2024, 1), size=max(config.data.size, 32), slices=MORE_SLICES)
    phantom_exams.write_exam(root, SUBJECT, drawn)
    (root / "participants.tsv").write_text(f"participant_id\tsplit\n{SUBJECT}\ttest\n", encoding="utf-8")
    return layouts.find_subjects(root, "bids")[0]


def first_slices(exam: layouts.Exam, n: int) -> layouts.Exam:
    """The same exam with fewer slices."""
    return dataclasses.replace(
        exam,
        series=exam.series[:, :, :n],
        mask=exam.mask[:, :, :n],
        maps={name: volume[:, :, :n] for name, volume in exam.maps.items()},
    )


def write_untrained(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """A checkpoint of drawn weights."""
    current = state.create(
        config.model, config.train, frames=config.data.frames, n_targets=len(config.target), seed=0, total_steps=1
    )[2]
    record = {
        "config": settings.to_json(config),
        "scaling": scaling_of(config).to_json(),
        "data": {"source": "none", "fingerprint": "", "n_train": 0},
        "software": versions(),
    }
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(current, record, 1.0)
    checkpoints.close()


def predictor_of(
    config: ml_collections.ConfigDict, targets: Sequence[str], folder: pathlib.Path
) -> tuple[Predictor, pathlib.Path]:
    """An untrained predictor of these maps for exams with any number of slices, and its work directory."""
    config = with_fields(config, **{"data.slices": 0})
    config.target = tuple(targets)
    workdir = folder / "-".join(targets)
    if not workdir.exists():
        write_untrained(config, workdir)
    return Predictor(workdir), workdir


def norms_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """How a network's norms may work at test; instance norm knows one way."""
    return ("batch", "running") if config.model.norm == "batch" else ("batch",)


def measure_inference(
    config: ml_collections.ConfigDict, exam: layouts.Exam, folder: pathlib.Path, repeats: int
) -> Record:
    """An exam of 21 slices: series in memory -> maps in memory, cold (with compilation) and warm; one map, five maps.

    `preparation` is what of that the host does before the network.
    """
    exam = first_slices(exam, EXAM_SLICES)
    rows: Record = {"slices": EXAM_SLICES, "size": config.data.size}
    for name, targets in (("one_map", tuple(config.target)[:1]), ("five_maps", MAP_NAMES)):
        predictor, _ = predictor_of(config, targets, folder)
        rows[name] = {
            norm: timed(lambda p=predictor, n=norm: p.predict(exam, n).scaled, repeats) for norm in norms_of(config)
        }
    rows["preparation"] = timed(lambda: preparation.prepare(exam, predictor.preparation).dsc, repeats)
    return rows


def measure_start(config: ml_collections.ConfigDict, files: layouts.SubjectFiles, folder: pathlib.Path) -> Record:
    """`--mode=predict` with five maps from its start to files on disk, in a process of its own.

    With an empty cache of compiled programs, then with the one that it left.
    """
    _, workdir = predictor_of(config, MAP_NAMES, folder)
    command = [
        sys.executable,
        "-m",
        "dscgan_jax.main",
        "--mode=predict",
        f"--workdir={workdir}",
        f"--input={files.series}",
        f"--output={folder / 'maps'}",
        f"--config.data.cache_dir={folder / 'predict_cache'}",
    ]
    starts = []
    for _ in range(2):
        begin = time.perf_counter()
        # This process may hold most of a GPU's memory already.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        starts.append(time.perf_counter() - begin)
        if done.returncode:
            raise InputError(f"--mode=predict failed: {' '.join(done.stderr.split())[-300:]}")
    return {"slices": MORE_SLICES, "first": starts[0], "again": starts[1]}


def measure_temporal_stack(config: ml_collections.ConfigDict, repeats: int) -> Record | None:
    """The temporal stack alone, without gradients, on one batch, in turns with the yardsticks.

    None for a plain U-Net.
    """
    counted = config.train.batch_size * count(config).temporal
    if not counted:
        return None
    networks, variables, _ = state.build(config.model, config.data.frames, len(config.target), 0)
    series = jax.random.uniform(
        jax.random.key(0),
        (config.train.batch_size, config.data.frames, config.data.size, config.data.size),
        minval=-1.0,
    )

    @functools.partial(jax.jit, static_argnames="mode", compiler_options=steps.compiler_options())
    def features(variables: state.Variables, series: jax.Array, mode: str) -> jax.Array:
        return nnx.merge(networks.generator, variables["params"], variables["stats"]).temporal(
            series, mode, jnp.dtype(networks.compute)
        )

    rows: Record = {"batch_size": config.train.batch_size, "counted_flops": counted}
    for norm in norms_of(config):
        seconds, peaks = beside_yardsticks(lambda norm=norm: features(variables, series, norm), repeats)
        rows[norm] = {
            "seconds": seconds,
            "peaks": peaks,
            "fraction_of_peak": fractions_of_peak(counted / seconds["median"], peaks),
        }
    return rows


def measure_deconvolution(
    exam: layouts.Exam, files: layouts.SubjectFiles, repeats: int, methods: Sequence[str] = DECONVOLUTIONS
) -> Record:
    """Series in memory -> conventional maps in memory, with the exam's own arterial curve.

    With and without compilation.
    """
    given = deconvolve.given_of(exam, deconvolve.FROM_FOLDER, own_aif=files.aif)

    def maps(method: str) -> list[np.ndarray]:
        return list(deconvolve.deconvolve_exam(exam, deconvolve.Settings(method=method), given).volumes.values())

    return {
        "exam": list(exam.series.shape),
        "methods": {method: timed(lambda method=method: maps(method), repeats) for method in methods},
    }


# --- How cost grows ------------------------------------------------------------------------------------------------


def measure_linear(config: ml_collections.ConfigDict, exam: layouts.Exam, folder: pathlib.Path, repeats: int) -> Record:
    """Seconds at three sizes each.

    Slices of a predicted exam, frames of a step (both warm), exams of a set to prepare.
    """
    predictor, _ = predictor_of(config, tuple(config.target)[:1], folder)

    rows = {"slices": [], "frames": [], "subjects": []}
    for n in SLICE_COUNTS:
        part = first_slices(exam, n)
        rows["slices"].append(
            {"n": n, "seconds": timed(lambda part=part: predictor.predict(part).scaled, repeats)["median"]}
        )
    for frames in FRAME_COUNTS:
        step = measure_step(with_fields(config, **{"data.frames": frames}), repeats)
        rows["frames"].append(
            {"n": frames, "seconds": step["seconds"]["median"], "counted_flops": step["counted_flops"]}
        )
    drawn = phantom.draw_phantom("acute", (2024, 2), size=max(config.data.size, 32), slices=PIPELINE_SLICES)
    for n in SUBJECT_COUNTS:
        root = folder / f"{n}-exams"
        for number in range(n):
            phantom_exams.write_exam(root, f"sub-{number:04d}", drawn)
        (root / "participants.tsv").write_text(
            "participant_id\tsplit\n" + "".join(f"sub-{number:04d}\ttrain\n" for number in range(n)), encoding="utf-8"
        )
        caches = iter(range(repeats + 1))

        def prepare(n: int = n, root: pathlib.Path = root, caches: Iterator[int] = caches) -> None:
            fresh = folder / f"{n}-prepared-{next(caches)}"
            data_builder.prepared(
                with_fields(
                    config,
                    **{"data.root": str(root), "data.layout": "bids", "data.slices": 0, "data.cache_dir": str(fresh)},
                ),
                for_training=False,
                progress=False,
            )

        rows["subjects"].append({"n": n, "seconds": timed(prepare, repeats)["median"]})
    return {what: [{**row, "seconds_each": row["seconds"] / row["n"]} for row in of] for what, of in rows.items()}


def to_text(record: Record) -> str:
    """The record as a file holds it."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"
