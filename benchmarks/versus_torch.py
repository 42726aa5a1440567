"""dscgan_jax against its PyTorch twin on this machine, taking turns. Needs the extra `bench`.

    python benchmarks/versus_torch.py --size=64 --frames=80 --width=16 --batch=4
    --output=docs/benchmarks/versus_torch_cpu.json

Each side runs in a process of its own, and sleeps while the other one works: so the libraries do not fight over
threads, and a machine that slows down slows both. Ratios are of medians over all rounds; the lowest and the highest
ratio of a single round are given too. The matrix product of each side, in the same rounds, is what its fraction of the
peak refers to.
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags, logging

from dscgan_jax.training import memory

if "--serve" in sys.argv:
    memory.keep_freed_memory()  # before JAX takes any, as every run does
    memory.take_huge_pages()

import jax
import jax.numpy as jnp

from dscgan_jax.configs import default
from dscgan_jax.models import flops, networks, published
from dscgan_jax.speed import inputs, machine, page, records, timing
from dscgan_jax.training import sharding
from dscgan_jax.training.inference import compiler_options, predict_step

_SIZE = flags.DEFINE_integer("size", 64, "Rows and columns.", lower_bound=32)
_FRAMES = flags.DEFINE_integer("frames", 80, "Frames, 64 to 127.", lower_bound=64, upper_bound=127)
_WIDTH = flags.DEFINE_integer("width", 16, "Width of the temporal stack.", lower_bound=1)
_DISCRIMINATOR_WIDTH = flags.DEFINE_integer("discriminator_width", 64, "Width of the discriminator.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 6, "Levels of the U-Net.", lower_bound=5)
_BATCH = flags.DEFINE_integer("batch", 4, "Slices of a step.", lower_bound=1)
_COMPUTE = flags.DEFINE_enum(
    "compute",
    None,
    ["float32", "bfloat16"],
    "config.model.compute of this side; default: bfloat16 on a GPU, where the tuned twin has it too, float32 on a CPU.",
)
_PARTS = flags.DEFINE_list("parts", ["step", "inference"], "What is compared.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often the sides take turns.", lower_bound=1)
_BLOCK = flags.DEFINE_integer(
    "block", 4, "Timed repeats of each work in a round, after one that is not timed.", lower_bound=1
)
_COMPILE = flags.DEFINE_bool("compile", None, "Whether the tuned twin may try torch.compile; default: on a GPU.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")
_SERVE = flags.DEFINE_bool("serve", False, "Be this package's side; used by the benchmark itself.")

SIZES = {
    "size": _SIZE,
    "frames": _FRAMES,
    "width": _WIDTH,
    "discriminator_width": _DISCRIMINATOR_WIDTH,
    "depth": _DEPTH,
    "batch": _BATCH,
}
TARGETS = ("tmax",)
COMPARISONS = {  # what -> the work of each side
    "step, published": ("step", "step_published"),
    "step, tuned": ("step", "step_tuned"),
    "inference, running statistics": ("inference_running", "inference_running"),
    "inference, each slice's statistics": ("inference_per_slice", "inference_per_slice"),
}


# --- This package's side -------------------------------------------------------------------------------------------


def config_of(**fields: Any):
    """The config of the sizes on the command line."""
    config = default.get_config()
    config.target = TARGETS
    config.data.size, config.data.frames = _SIZE.value, _FRAMES.value
    config.model.width, config.model.depth = _WIDTH.value, _DEPTH.value
    config.model.discriminator_width = _DISCRIMINATOR_WIDTH.value
    config.train.batch_size = _BATCH.value
    config.model.compute = compute()
    return inputs.with_fields(config, **fields)


def compute() -> str:
    return _COMPUTE.value or ("float32" if jax.default_backend() == "cpu" else "bfloat16")


class Ours:
    """Everything that is timed on this side; built on first use."""

    def __init__(self):
        self.config = config_of()
        self.networks, self.optimisers, untrained = inputs.untrained(self.config)
        self.scaling = inputs.scaling_of(self.config)
        mesh = sharding.data_mesh()
        self.state = sharding.place_state(untrained, mesh)
        self.batch = sharding.place_batch(inputs.synthetic_batch(self.config), mesh)
        self._step = inputs.training_step(self.config, self.networks, self.optimisers)

    def step(self) -> Any:
        self.state, scalars = self._step(self.state, self.batch)
        return scalars

    @functools.cached_property
    def inference_running(self):
        return self._inference("running")

    @functools.cached_property
    def inference_per_slice(self):
        return self._inference("per_slice")

    def _inference(self, norm: str):
        predict = jax.jit(
            functools.partial(predict_step, networks=self.networks, scaling=self.scaling, mode=norm),
            compiler_options=compiler_options(),
        )
        # A copy: the steps donate theirs.
        variables, series = jax.tree.map(jnp.copy, self.state.generator), self.batch.inputs
        return lambda: predict(variables, series)

    @functools.cached_property
    def matmul_float32(self):
        return self._matmul(jnp.float32)

    @functools.cached_property
    def matmul_bfloat16(self):
        return self._matmul(jnp.bfloat16)

    def _matmul(self, dtype: Any):
        work, self.matmul_flops = timing.yardsticks()[jnp.dtype(dtype).name]
        return work

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "about":
            return {
                "hardware": machine.hardware(),
                "versions": machine.versions(),
                "compute": self.config.model.compute,
            }
        if request["do"] == "compare":
            return {"largest_difference": difference_to(pathlib.Path(request["path"]))}
        work = getattr(self, request["what"])
        seconds = []
        for _ in range(request["repeats"]):
            begin = time.perf_counter()
            jax.block_until_ready(work())
            seconds.append(time.perf_counter() - begin)
        answer = {"seconds": seconds}
        return {**answer, "flops": self.matmul_flops} if request["what"].startswith("matmul") else answer


def difference_to(path: pathlib.Path) -> float:
    """Largest difference of the maps, float32, running statistics, with the twin's weights on the twin's series."""
    saved = dict(np.load(path))
    config = config_of(**{"model.bias_before_norm": True, "model.compute": "float32"})
    weights = {name.removeprefix("state/"): value for name, value in saved.items() if name.startswith("state/")}
    variables = published.from_published(weights, published.generator_entries(config.model))
    built = networks.build(config.model, config.data.frames, len(TARGETS), 0)[0]
    with jax.default_matmul_precision("highest"):
        maps = jax.jit(lambda variables, series: built.generate(variables, series, "running")[0])(
            variables, saved["series"]
        )
    return float(np.max(np.abs(np.moveaxis(np.asarray(maps), -1, 1) - saved["running"])))


def serve() -> None:
    """Answers one request per line, as torch_twin.py does."""
    ours = Ours()
    for line in sys.stdin:
        try:
            answer = ours.respond(json.loads(line))
        except Exception as error:  # the other side decides what to do without this number
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), flush=True)


# --- Both sides ----------------------------------------------------------------------------------------------------


class Side:
    """A process that answers requests, one at a time."""

    def __init__(self, name: str, script: str, *arguments: str):
        self.name = name
        command = [sys.executable, str(pathlib.Path(__file__).with_name(script)), "--serve", *size_flags(), *arguments]
        # Two frameworks share one GPU: neither may take all of its memory at its start.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit(f"error: the {self.name} side ended; its message is above.")
        return json.loads(line)

    def seconds(self, what: str, repeats: int) -> tuple[list[float], str | None]:
        """Seconds of a block after one repeat that does not count, or why there are none."""
        answer = self.ask("time", what=what, repeats=repeats + 1)
        return answer.get("seconds", [])[1:], answer.get("error")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def size_flags() -> list[str]:
    return [f"--{name}={holder.value}" for name, holder in SIZES.items()]


def compare(ours: Side, twin: Side, gpu: bool, rounds: int, block: int) -> dict[str, Any]:
    """Seconds of every work on both sides, by rounds."""
    products = ("matmul_float32", "matmul_bfloat16") if gpu else ("matmul_float32",)
    pairs = [pair for what, pair in COMPARISONS.items() if what.split(",")[0] in _PARTS.value]
    works = list(
        dict.fromkeys(
            [(ours, mine) for mine, _ in pairs]
            + [(twin, theirs) for _, theirs in pairs]
            + [(side, product) for product in products for side in (ours, twin)]
        )
    )
    measured: dict[tuple[str, str], list[list[float]]] = {}
    failed: dict[str, str] = {}
    for side, work in works:
        print(f"warming up: {side.name}, {work}", file=sys.stderr, flush=True)
        _, error = side.seconds(work, 2)
        if error:
            failed[f"{side.name}, {work}"] = error
        else:
            measured[side.name, work] = []
    # In turns: a work of ours, then one of the twin's.
    order = [
        pair for pair in zip(*([work for work in works if work[0] is side] for side in (ours, twin)), strict=False)
    ]
    turns = [work for pair in order for work in pair]
    turns += [work for work in works if work not in turns]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for side, work in turns:
            if (side.name, work) in measured:
                measured[side.name, work].append(side.seconds(work, block)[0])
    product_flops = {product: ours.ask("time", what=product, repeats=1)["flops"] for product in products}
    return {"measured": measured, "failed": failed, "product_flops": product_flops}


def record_of(result: dict[str, Any], count: flops.Count, batch: int, kinds: dict[str, str]) -> dict[str, Any]:
    """Comparisons and peaks as the record holds them; `kinds` is the number format of each side of each comparison."""
    measured = result["measured"]

    def peak(side: str, kind: str) -> float | None:
        rounds = measured.get((side, f"matmul_{kind}"))
        return (
            result["product_flops"][f"matmul_{kind}"] / statistics.median(itertools.chain(*rounds)) if rounds else None
        )

    rows = []
    for what, (mine, theirs) in COMPARISONS.items():
        row = {"what": what, **timing.ratios(measured.get(("jax", mine)), measured.get(("torch", theirs)))}
        n_flops = batch * (count.training if mine == "step" else count.generator)
        for side, work in (("jax", mine), ("torch", theirs)):
            seconds, of = row[f"{side}_seconds"], peak(side, kinds.get(f"{side}, {work}", "float32"))
            row[f"{side}_fraction_of_peak"] = n_flops / seconds / of if seconds and of else None
        rows.append(row)
    peaks = {
        kind.removeprefix("matmul_"): {side: peak(side, kind.removeprefix("matmul_")) for side in ("jax", "torch")}
        for kind in result["product_flops"]
    }
    return {"comparisons": rows, "peaks": peaks, "failed": result["failed"]}


def main(_) -> None:
    logging.set_verbosity(logging.ERROR)  # JAX reports every backend that is absent
    if _SERVE.value:
        serve()
        return
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: PyTorch is not installed; pip install 'dscgan_jax[bench]'.")
    record = measure()
    print(page.title_of(record))
    print(page.versus_words(record))
    for row in page.versus_rows(record):
        print(f"{row[0]:<36} {row[1]:>9} against {row[2]:>9}: {row[3]} ({row[4]}); of the peak {row[5]}, {row[6]}")
    for what, error in record["failed"].items():
        print(f"failed: {what}: {error}")
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(records.to_text(record), encoding="utf-8")


def measure() -> dict[str, Any]:
    """The whole record of both sides."""
    load_before = os.getloadavg()[0]
    mine = ["--compute=" + _COMPUTE.value] if _COMPUTE.value else []
    ours = Side("jax", "versus_torch.py", *mine)
    about = ours.ask("about")
    if "error" in about:
        sys.exit(f"error: {about['error']}")
    gpu = about["hardware"]["backend"] != "cpu"
    compiled = gpu if _COMPILE.value is None else _COMPILE.value
    twin = Side("torch", "torch_twin.py", f"--compile={compiled}")
    same = same_output(ours, twin)
    result = compare(ours, twin, gpu, _ROUNDS.value, _BLOCK.value)
    about_twin = twin.ask("about")
    for side in (ours, twin):
        side.close()
    sizes = {name: holder.value for name, holder in SIZES.items()}
    count = inputs.count(config_of())
    record = {
        "schema": records.VERSUS,
        "command": " ".join(["python benchmarks/versus_torch.py", *sys.argv[1:]]),
        "hardware": about["hardware"],
        "versions": about["versions"],
        "torch": about_twin,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "setting": {**sizes, "compute": about["compute"], "torch_compile": compiled},
        "counted": dataclasses.asdict(count),
        "largest_difference": same.get("largest_difference"),
        **record_of(result, count, _BATCH.value, number_formats(about["compute"], about_twin["chosen"])),
    }
    if same.get("error"):
        record["failed"]["same output"] = same["error"]
    return record


def same_output(ours: Side, twin: Side) -> dict[str, Any]:
    """The largest difference of the maps for the same weights and series, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "twin.npz")
        saved = twin.ask("save", path=path)
        return ours.ask("compare", path=path) if "saved" in saved else saved


def number_formats(compute: str, chosen: dict[str, str]) -> dict[str, str]:
    """The number format of each side of each comparison, from ours and from the twin's chosen variants."""
    formats = {f"jax, {mine}": compute for mine, _ in COMPARISONS.values()}
    twins = {f"torch, {what}": "bfloat16" if "bf16" in variant else "float32" for what, variant in chosen.items()}
    return formats | twins


if __name__ == "__main__":
    app.run(main)
