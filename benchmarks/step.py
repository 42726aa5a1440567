"""How long a training step and a prediction take, and whether the batches keep up.

    python benchmarks/step.py --config=configs/temp_tmax.py:demo --json=step.json

runs on phantom exams (drawn and prepared first) and prints one JSON object: compile time, median step, slices/s, the
rate of the batches beside it, and seconds per predicted slice.
"""

import functools
import itertools
import json
import os
import pathlib
import platform
import statistics
import sys
import time

import jax
from absl import app, flags, logging

from dscgan_jax import main as door
from dscgan_jax import sharding, state, steps, workflow
from dscgan_jax.data import pipeline
from dscgan_jax.scaling import Scaling

_TIMED_STEPS = flags.DEFINE_integer("timed_steps", 30, "Timed steps after the first two.", lower_bound=3)
_JSON = flags.DEFINE_string("json", "", "JSON file to write; empty: only print.")


def median_seconds(work, repeats: int) -> float:
    """Median over repeats; `work` returns arrays that are waited for."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main(_) -> None:
    logging.set_verbosity(logging.ERROR)  # as dscgan_jax.main: JAX tells of every backend that is not there
    config = door.read_config()
    builder, data_record = workflow.prepare(config)
    batch_size = config.train.batch_size
    scaling = Scaling.from_ranges(data_record["ranges"], config.data.signal, tuple(config.target), config.data.ranges)
    networks, optimisers, current = state.create(config.model, config.train, frames=config.data.frames,
                                                 n_targets=len(config.target), seed=config.seed, total_steps=1000)
    mesh = sharding.data_mesh()
    current = sharding.place_state(current, mesh)

    def batches():
        return pipeline.train_batches(builder, batch_size=batch_size, seed=0, memory_mib=config.data.memory_mib,
                                      read_threads=config.data.read_threads)

    waiting = batches()
    next(waiting)
    pipeline_seconds = median_seconds(lambda: next(waiting), 50)

    step = jax.jit(functools.partial(steps.train_step, networks=networks, optimisers=optimisers, scaling=scaling,
                                     objective=config.loss.objective, l1_weight=config.loss.l1_weight), donate_argnums=0)
    placed = [sharding.place_batch(batch, mesh) for batch in itertools.islice(batches(), 4)]
    begin = time.perf_counter()
    current, scalars = jax.block_until_ready(step(current, placed[0]))
    first_seconds = time.perf_counter() - begin
    number = itertools.count()

    def once():
        nonlocal current
        current, scalars = step(current, placed[next(number) % len(placed)])
        return scalars

    median_seconds(once, 2)
    step_seconds = median_seconds(once, _TIMED_STEPS.value)
    predict = jax.jit(functools.partial(steps.predict_step, networks=networks, scaling=scaling, mode="batch"))
    inputs = pipeline.network_inputs(placed[0])
    jax.block_until_ready(predict(current.generator, inputs))
    predict_seconds = median_seconds(lambda: predict(current.generator, inputs), 10)

    record = {
        "command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        "machine": {"devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "cores": os.cpu_count(),
                    "load": os.getloadavg()[0], "jax": jax.__version__, "python": platform.python_version()},
        "shape": [batch_size, config.data.frames, config.data.size, config.data.size],
        "parameters": {"generator": state.parameter_count(current.generator),
                       "discriminator": state.parameter_count(current.discriminator)},
        "first_step_seconds": round(first_seconds, 2),
        "step_seconds_median": round(step_seconds, 4),
        "slices_per_second": round(batch_size / step_seconds, 2),
        "batches_slices_per_second": round(batch_size / pipeline_seconds, 1),
        "batches_over_consumption": round(step_seconds / pipeline_seconds, 1),
        "predict_seconds_per_slice": round(predict_seconds / batch_size, 4),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main, flags_parser=door.parse_flags)
