"""What training and prediction are on an H100, kernel by kernel, on a machine without one. Extra `gpu_program`.

    python benchmarks/gpu_program.py --what=train --batch=4 --config.model.compute=bfloat16 --output=step.json
    python benchmarks/gpu_program.py --all --output=docs/benchmarks/gpu_program.json

XLA compiles ahead of time for a chip that is described to it (`chip.py`). The step is the one that trains
(`steps.jitted_step`) or predicts (`predict_step`), for shapes alone: there are no weights, and nothing runs. Read from
the optimised program (`hlo.py`, `kernels.py`): kernels, bytes that they move, matrix operations, memory, messages
between devices. None of it is a time. A compilation at full size takes one to three minutes and 5 GB.

Two things are not as on the chip. Without a device nobody can try tiles, so that matrix products are the library's
(Triton's are off), and cuDNN's algorithms and workspaces are not chosen: temporary memory is without the latter.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import ml_collections
from absl import app, flags
from chip import H100, target_config
from hlo import read
from kernels import Program, program_of
from ml_collections import config_flags
from records import keep

from dscgan_jax import settings
from dscgan_jax.data import batches
from dscgan_jax.errors import InputError
from dscgan_jax.methods.network import SLICES_PER_CALL
from dscgan_jax.models import networks
from dscgan_jax.speed import inputs, machine
from dscgan_jax.speed.measure import sizes
from dscgan_jax.speed.records import PROGRAM, Record
from dscgan_jax.training import sharding, steps
from dscgan_jax.training.inference import compiler_options, predict_step

_CONFIG = config_flags.DEFINE_config_file("config", "configs/temp_tmax.py", "Config file; fields as for the program.")
_WHAT = flags.DEFINE_enum("what", "train", ["train", "predict"], "The training step, or the prediction of a call.")
_DEVICES = flags.DEFINE_integer("devices", 1, "GPUs of a training step.", lower_bound=1, upper_bound=8)
_BATCH = flags.DEFINE_integer(
    "batch", None, "Slices on each device; default: config.train.batch_size, or those of one call of predict.", 1
)
_NORM = flags.DEFINE_enum(
    "norm", None, list(settings.CHOICES["evaluate.norm_at_test"]), "Statistics in predict; default: the config's."
)
_ALL = flags.DEFINE_bool("all", False, "All rows of the page, one after the other, each in a process of its own.")
_HLO = flags.DEFINE_string("hlo", "", "File for the optimised program's text; empty: none.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: only print.")

PACKAGE = "jax_cuda13_plugin"
ABSENT = f"{PACKAGE} is not installed (the extra gpu_program): pip install -e '.[gpu_program]' in its own environment"
SURROUNDINGS = {  # read when XLA starts
    "JAX_PLATFORMS": "cpu",  # which runs nothing either, but is there
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # of the driver's version
    # With Triton's products XLA takes one fixed tile where it cannot try several; it does not fit all of ours.
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false",
}
LIBRARIES = (PACKAGE.replace("_", "-"), "nvidia-cudnn-cu13", "nvidia-cublas")  # whose versions are kept beside JAX's
LARGEST = 6  # arrays that a row names


@dataclasses.dataclass(frozen=True)
class Row:
    """What is compiled.

    Attributes:
      what: `train` or `predict`.
      devices: GPUs.
      batch: slices on each of them.
      compute, lean: as in `config.model`.
      norm: in predict `per_slice` or `running`; None in training.
    """

    what: str
    batch: int
    compute: str
    lean: bool = False
    devices: int = 1
    norm: str | None = None

    def flags(self) -> list[str]:
        """This row on a command line."""
        given = [f"--what={self.what}", f"--batch={self.batch}", f"--devices={self.devices}"]
        fields = [f"--config.model.compute={self.compute}", f"--config.model.lean={self.lean}"]
        return [*given, *fields, *([f"--norm={self.norm}"] if self.norm else [])]


BOTH = ("float32", "bfloat16")
ROWS = (
    *(Row("train", 4, compute, lean) for compute in BOTH for lean in (False, True)),
    *(Row("train", 16, compute, lean=True) for compute in BOTH),
    *(Row("predict", SLICES_PER_CALL, compute, norm=norm) for norm in ("per_slice", "running") for compute in BOTH),
    Row("train", 4, "bfloat16", devices=8),
)


# --- One row -------------------------------------------------------------------------------------------------------


def row_of(config: ml_collections.ConfigDict) -> Row:
    """The row of the command line.

    Raises:
      InputError: its flags contradict each other or the config.
    """
    predicts = _WHAT.value == "predict"
    if predicts and _DEVICES.value > 1:
        raise InputError(f"--devices={_DEVICES.value}: an exam is predicted on one device; leave it out.")
    if not predicts and _NORM.value:
        raise InputError(f"--norm={_NORM.value}: a training step has its own statistics; for --what=predict only.")
    has_norm = networks.has_batch_norm(config.model)
    if _NORM.value and not has_norm:
        raise InputError(f"--norm={_NORM.value}: the network of this config has no batch norm; leave it out.")
    norm = (_NORM.value or config.evaluate.norm_at_test) if predicts else None
    batch = _BATCH.value or (SLICES_PER_CALL if predicts else config.train.batch_size)
    return Row(_WHAT.value, batch, config.model.compute, config.model.lean, _DEVICES.value, norm)


def config_of(row: Row, given: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config with the row's batch.

    Raises:
      InputError: it could not train.
    """
    config = inputs.with_fields(given, **{"train.batch_size": row.batch * row.devices})
    settings.check(config)
    if row.what == "train":
        n, exam_slices = config.train.batch_size, settings.exam_slices(config)
        batches.check_batch_size(n, row.devices, config.train.accumulate, exam_slices)
    return config


@contextlib.contextmanager
def traced_for_a_gpu() -> Iterator[None]:
    """Within it networks and options are those of a GPU: they ask `jax.default_backend`, which is this machine's."""
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        yield


def compiled(row: Row, config: ml_collections.ConfigDict) -> Any:
    """The program of a row, compiled for as many H100 as it has devices."""
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=target_config(H100), topology=f"1x1x{row.devices}"
    )
    mesh = sharding.data_mesh(topology.devices)
    with traced_for_a_gpu():
        lowered = _step(config, mesh) if row.what == "train" else _prediction(config, mesh, str(row.norm))
        return lowered.compile()


def _step(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Any:
    """The training step, lowered for shapes."""
    built: list[Any] = []

    def create() -> Any:
        nets, optimisers, state = inputs.untrained(config)
        built.extend((nets, optimisers))
        return state

    state = jax.eval_shape(create)
    step = steps.jitted_step(config, *built, inputs.scaling_of(config), mesh)
    return step.lower(_on(state, sharding.replicated(mesh)), _on(batch_of(config), sharding.split_batch(mesh)))


def _prediction(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, norm: str) -> Any:
    """A call of the generator, lowered for shapes as `methods.network` compiles it."""
    built: list[Any] = []

    def create() -> Any:
        nets, _, state = inputs.untrained(config)
        built.append(nets)
        return state.generator

    variables = jax.eval_shape(create)
    step = functools.partial(predict_step, networks=built[0], scaling=inputs.scaling_of(config), mode=norm)
    where = sharding.replicated(mesh)  # of one device
    jitted = jax.jit(step, compiler_options=compiler_options())
    return jitted.lower(_on(variables, where), _on(batch_of(config).inputs, where))


def batch_of(config: ml_collections.ConfigDict) -> Any:
    """A training batch as shapes."""
    return jax.eval_shape(lambda: inputs.synthetic_batch(config))


def _on(tree: Any, where: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)


def entry_of(row: Row, program: Program, memory: Any) -> Record:
    """A row as it stands in the record."""
    return {
        **dataclasses.asdict(row),
        "moved_bytes": program.moved_bytes,
        "matrix_flops": program.flops,
        "memory": {
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "output_bytes": memory.output_size_in_bytes,
            "alias_bytes": memory.alias_size_in_bytes,
        },
        "kernels": [dataclasses.asdict(kind) for kind in program.kinds()],
        "collectives": [dataclasses.asdict(one) for one in program.collectives],
        "largest": [
            {"shape": str(one.shape), "bytes": one.shape.nbytes, "number": one.number, "place": one.place}
            for one in program.largest(LARGEST)
        ],
    }


def one_row() -> Record:
    """The record of the command line's row."""
    row = row_of(_CONFIG.value)
    config = config_of(row, _CONFIG.value)
    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(f"{ABSENT}.")
    jax.config.update("jax_platforms", SURROUNDINGS["JAX_PLATFORMS"])
    jax.config.update("jax_enable_compilation_cache", False)
    program = compiled(row, config)
    text = program.as_text()
    if _HLO.value:
        pathlib.Path(_HLO.value).write_text(text, encoding="utf-8")
    return record_of(config, [entry_of(row, program_of(read(text)), program.memory_analysis())])


def record_of(config: ml_collections.ConfigDict, rows: list[Record]) -> Record:
    """Rows with what they were made of."""
    versions = machine.versions() | {name: importlib.metadata.version(name) for name in LIBRARIES}
    setting = sizes(config)
    for of_a_row in ("compute", "lean"):
        setting["model"].pop(of_a_row)
    setting["train"].pop("batch_size")
    return {
        "schema": PROGRAM,
        "command": " ".join(["python benchmarks/gpu_program.py", *sys.argv[1:]]),
        "versions": versions,
        "chip": dataclasses.asdict(H100),
        "config": setting,
        "rows": rows,
    }


# --- All rows ------------------------------------------------------------------------------------------------------


def all_rows() -> Record:
    """The record of `ROWS`; XLA's memory goes back to the system with each process.

    Raises:
      InputError: a flag or a field is given that the rows decide.
    """
    fields = [f"config.{path}" for path in config_flags.get_override_values(flags.FLAGS["config"])]
    decided = [name for name in ("what", "devices", "batch", "norm", "hlo") if flags.FLAGS[name].present]
    decided += [path for path in fields if path in ("config.model.compute", "config.model.lean")]
    if decided:
        raise InputError(f"--{decided[0]}: --all has rows of its own; leave it out.")
    others = [argument for argument in sys.argv[1:] if not argument.startswith(("--all", "--output"))]
    records = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "row.json"
        for row in ROWS:
            line = [sys.executable, __file__, *others, *row.flags(), f"--output={path}"]
            if subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode:
                raise InputError(f"{' '.join(row.flags())}: failed; nothing is written.")
            records.append(json.loads(path.read_text(encoding="utf-8")))
            print(f"{len(records)} of {len(ROWS)}: {' '.join(row.flags())}", file=sys.stderr, flush=True)
    return records[0] | {
        "command": " ".join(["python benchmarks/gpu_program.py", *sys.argv[1:]]),
        "rows": [row for record in records for row in record["rows"]],
    }


def main(_) -> None:
    try:
        record = all_rows() if _ALL.value else one_row()
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None
    keep(record, _OUTPUT.value)


if __name__ == "__main__":
    os.environ.update(SURROUNDINGS | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {SURROUNDINGS['XLA_FLAGS']}"})
    app.run(main)
