"""The programs that train and predict, compiled for H100s that are not there, and what they are as rows of a record.

The step is the one that trains (`steps.jitted_step`), the prediction the one of `methods.network`, both for shapes
alone: there are no weights, and nothing runs.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from chip import H100, target_config
from hlo import read
from kernels import program_of

from dscgan_jax import platforms, settings
from dscgan_jax.data import batches
from dscgan_jax.errors import InputError
from dscgan_jax.methods.network import SLICES_PER_CALL
from dscgan_jax.speed import inputs
from dscgan_jax.speed.records import Record
from dscgan_jax.training import sharding, steps
from dscgan_jax.training.inference import compiler_options, predict_step

PACKAGE = "jax_cuda13_plugin"
ABSENT = f"{PACKAGE} is not installed (the extra gpu_program)"
SURROUNDINGS = {  # read when XLA starts
    "JAX_PLATFORMS": "cpu",  # which runs nothing either, but is there
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # of the driver's version
    # With Triton's products XLA takes one fixed tile where it cannot try several; it does not fit all of ours.
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false",
}
LARGEST = 6  # arrays that a row names


@dataclasses.dataclass(frozen=True)
class Row:
    """What is compiled.

    Attributes:
      what: `train` or `predict`.
      batch: slices on each device.
      compute, lean: as in `config.model`.
      devices: GPUs.
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
ROWS = (  # of the page
    *(Row("train", 4, compute, lean) for compute in BOTH for lean in (False, True)),
    *(Row("train", 16, compute, lean=True) for compute in BOTH),
    *(Row("predict", SLICES_PER_CALL, compute, norm=norm) for norm in ("per_slice", "running") for compute in BOTH),
    Row("train", 4, "bfloat16", devices=8),
)


def row_of(
    config: ml_collections.ConfigDict, what: str, devices: int = 1, batch: int | None = None, norm: str | None = None
) -> Row:
    """The row of a config, with what is not given filled in.

    Raises:
      InputError: these words contradict each other or the config.
    """
    predicts = what == "predict"
    if predicts and devices > 1:
        raise InputError(f"--devices={devices}: an exam is predicted on one device; leave it out.")
    if norm and not predicts:
        raise InputError(f"--norm={norm}: a training step has its own statistics; for --what=predict only.")
    if norm and not settings.has_batch_norm(config.model):
        raise InputError(f"--norm={norm}: the network of this config has no batch norm; leave it out.")
    norm = (norm or config.evaluate.norm_at_test) if predicts else None
    batch = batch or (SLICES_PER_CALL if predicts else config.train.batch_size)
    return Row(what, batch, config.model.compute, config.model.lean, devices, norm)


def config_of(row: Row, given: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config with the row's batch, which is split over the devices.

    Raises:
      InputError: it could not work.
    """
    config = inputs.with_fields(given, **{"train.batch_size": row.batch * row.devices})
    settings.check(config)
    n, exam_slices = config.train.batch_size, settings.exam_slices(config)
    batches.check_batch_size(n, row.devices, config.train.accumulate if row.what == "train" else 1, exam_slices)
    return config


def described_h100s(number: int) -> Sequence[Any]:
    """So many devices to compile for.

    Raises:
      InputError: the packages that compile for them are not installed.
    """
    from jax.experimental import topologies

    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(f"{ABSENT}: in an environment of its own, pip install -e '.[gpu_program]'.")
    described = target_config(H100)
    return topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=described, topology=f"1x1x{number}"
    ).devices


def lowered(row: Row, config: ml_collections.ConfigDict, devices: Sequence[Any]) -> Any:
    """The program of a row as a GPU would be given it, not yet compiled for `devices`."""
    mesh = sharding.data_mesh(devices)
    with platforms.tracing_for(platforms.ACCELERATOR):
        return _step(config, mesh) if row.what == "train" else _prediction(config, mesh, str(row.norm))


def compiled(row: Row, config: ml_collections.ConfigDict, devices: Sequence[Any]) -> Any:
    """The program of a row, compiled."""
    return lowered(row, config, devices).compile()


def _step(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Any:
    nets, optimisers, state = _untrained(config)
    step = steps.jitted_step(config, nets, optimisers, inputs.scaling_of(config), mesh)
    return step.lower(_on(state, sharding.replicated(mesh)), _on(batch_of(config), sharding.split_batch(mesh)))


def _prediction(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, norm: str) -> Any:
    nets, _, state = _untrained(config)
    step = functools.partial(predict_step, networks=nets, scaling=inputs.scaling_of(config), mode=norm)
    where = sharding.replicated(mesh)  # of one device
    jitted = jax.jit(step, compiler_options=compiler_options())
    return jitted.lower(_on(state.generator, where), _on(batch_of(config).inputs, where))


def _untrained(config: ml_collections.ConfigDict) -> tuple[Any, Any, Any]:
    """Networks, optimisers, and the state as shapes."""
    built: list[Any] = []

    def create() -> Any:
        nets, optimisers, state = inputs.untrained(config)
        built[:] = nets, optimisers
        return state

    state = jax.eval_shape(create)
    nets, optimisers = built
    return nets, optimisers, state


def batch_of(config: ml_collections.ConfigDict) -> Any:
    """A training batch as shapes."""
    return jax.eval_shape(lambda: inputs.synthetic_batch(config))


def _on(tree: Any, where: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)


def entry_of(row: Row, program: Any) -> Record:
    """A compiled row as it stands in the record."""
    found, memory = program_of(read(program.as_text())), program.memory_analysis()
    largest = [
        {"shape": str(one.shape), "bytes": one.shape.nbytes, "number": one.number, "place": one.place}
        for one in found.largest(LARGEST)
    ]
    return {
        **dataclasses.asdict(row),
        "moved_bytes": found.moved_bytes,
        "matrix_flops": found.flops,
        "memory": {
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "output_bytes": memory.output_size_in_bytes,
            "alias_bytes": memory.alias_size_in_bytes,
        },
        "kernels": [dataclasses.asdict(kind) for kind in found.kinds()],
        "collectives": [dataclasses.asdict(one) for one in found.collectives],
        "largest": largest,
    }
