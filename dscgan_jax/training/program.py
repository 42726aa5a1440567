"""A trained network as a program that runs without this package: StableHLO, weights and what both are, in one file.

`jax.export` gives the program: traced once, for any number of slices, for CPUs, NVIDIA GPUs and TPUs. The file is a zip
archive of what others read with JAX and NumPy: `metadata.json`, `program.jax` (which `jax.export.deserialize` takes)
and `weights/<name>.npy`, which are arguments of the program, not constants in it.

Every slice is predicted apart from the others, so the program takes them in parts of one fixed size. All that a network
does then has fixed shapes, and each platform gets the way that is fast on it.
"""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from dscgan_jax import platforms
from dscgan_jax.data.batch import Array, Batch
from dscgan_jax.data.grid import series_on_network
from dscgan_jax.data.preparation import PreparationSettings, PreparedExam
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.files import replacing
from dscgan_jax.maps import MAPS
from dscgan_jax.models.networks import Networks, Variables
from dscgan_jax.settings import has_batch_norm
from dscgan_jax.training.inference import as_computed, predict_step
from dscgan_jax.training.weights import Weights, from_tensors, tensors_of

FORMAT, FORMAT_VERSION = "dscgan_jax program", 1
PLATFORMS = ("cpu", "cuda", "tpu")
METADATA, PROGRAM, WEIGHTS = "metadata.json", "program.jax", "weights/{}.npy"  # names in the archive
# Slices at a time: the shipped network took 0.07 s for one slice and 0.27 s for eight on two cores one by one, 0.14 and
# 0.34 s by fours. An accelerator has room for as many as `predict` gives it.
AT_A_TIME = {platforms.CPU: 1, platforms.ACCELERATOR: 8}
TRACEBACKS = "jax_traceback_in_locations_limit"  # frames of the source that JAX notes of each operation
EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip archive knows no earlier time: equal networks make equal files


class InputSpec(NamedTuple):
    """One argument of the program; the axes are words, `time`, `row` and `col` being the network's."""

    axes: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str


INPUTS = {
    "series": InputSpec(
        ("slice", "time", "row", "col"),
        "float32",
        "of the scanner",
        "the exam on the network grid, 0 outside the brain where `outside_brain` is zero; in the corners of each slice "
        "the AIF and the brain's mean curve where `arterial_input` is true",
    ),
    "brain": InputSpec(("slice", "row", "col"), "bool", "", "where maps are wanted: they are 0 elsewhere"),
    "baseline_begin": InputSpec((), "int32", "frame", "first frame of the baseline, from 0"),
    "baseline_end": InputSpec((), "int32", "frame", "the frame after the last one before the bolus"),
    "brain_signal": InputSpec((), "float32", "of the scanner", "median baseline signal of the brain's tissue"),
    "echo_seconds": InputSpec((), "float32", "s", "echo time; any number unless `signal` is delta_r2star"),
}
# What a file does not hold: the prepared exam is its input.
OUTSIDE = (
    "brain mask: found in the series; where outside_brain is zero the series is 0 outside it before it is resampled",
    "grid: the exam's slices from foot to head, `size` rows from front to back and as many columns from the patient's "
    "right to left over a square as wide as the longer side of the slice, around its middle; linear interpolation",
    "corners, where arterial_input is true: 4 x 4 pixels of brain_signal (1 - 0.5 c), c being a curve of ΔR2* over the "
    "peak of the AIF: the AIF in both corners of the first row (0 where there is none), the brain's mean in both of "
    "the last; lead_seconds then count from where the AIF rises above a tenth of its peak",
    "time: `frames` frames; in seconds mode frame_seconds apart, the first one lead_seconds before the bolus arrives; "
    "in stretch mode over the whole duration; where non_steady_state is hold, the first steady frame stands for those "
    "before it",
    "baseline and median baseline signal, by the arrival of the bolus",
    "the way back: maps onto the exam's grid; TTP counts from the first frame of the input",
    "checks and findings: nothing here says that an exam is unlike those of the training",
)


@dataclasses.dataclass(frozen=True)
class ProgramInputs:
    """What the program takes of one exam; the fields are its arguments, by name, beside the weights.

    Attributes:
      series: (slice, time, row, col) float32, scanner signal on the network grid.
      brain: (slice, row, col) bool, where maps are wanted; they are 0 elsewhere.
      baseline_begin, baseline_end: int32, half-open range of frames before the bolus.
      brain_signal: float32, median baseline signal of the brain's tissue, in the unit of the series.
      echo_seconds: float32, echo time; NaN if unknown.
    """

    series: np.ndarray
    brain: np.ndarray
    baseline_begin: np.int32
    baseline_end: np.int32
    brain_signal: np.float32
    echo_seconds: np.float32

    @classmethod
    def of(cls, prepared: PreparedExam) -> "ProgramInputs":
        """Of an exam on the network grid; `brain` is every pixel that the brain reaches, or all where air is seen."""
        brain = np.ones((len(prepared.dsc), *prepared.dsc.shape[2:]), bool)
        if prepared.brain is not None:
            reached = series_on_network(prepared.brain[..., None].astype(np.float32), prepared.grid, None, None)
            brain = reached[:, 0] > 0
        return cls(
            prepared.dsc.astype(np.float32) * np.float32(prepared.dsc_scale),
            brain,
            np.int32(prepared.baseline_begin),
            np.int32(prepared.baseline_end),
            np.float32(prepared.brain_signal),
            np.float32(prepared.echo_seconds),
        )

    def to_dict(self) -> dict[str, Any]:
        """By name, as the program takes them: `program.call(weights, **inputs.to_dict())`."""
        return {name: getattr(self, name) for name in INPUTS}

    def save(self, path: pathlib.Path | str) -> None:
        """Writes `FILE.npz`, whole or not at all; errors as of `files.replacing`."""
        with replacing(path) as file:
            np.savez(file, **self.to_dict())


def exported(
    networks: Networks, variables: Variables, scaling: Scaling, norm: str, frames: int, size: int
) -> export.Exported:
    """Prediction as a program of weights and `INPUTS`, for any number of slices and for all `PLATFORMS`.

    Args:
      networks: structure of the generator.
      variables: its variables, of which the program keeps names, shapes and types.
      scaling: of series and maps.
      norm: `per_slice` or `running`.
      frames: of the network's input.
      size: its rows and columns.

    Returns:
      the program; `call(tensors_of(variables), **inputs)` gives {map: (slice, row, col) float32, physical units}.

    Raises:
      InputError: the network sees the slices beside each one.
    """
    if networks.exam_slices != 1:
        raise InputError(
            "this network sees the slices beside each one (config.model.neighbours) and takes exams of one number of "
            "slices, where a program takes any; export it as --format=safetensors."
        )
    parts = {
        platform: in_parts(networks, variables, scaling, norm, platform)
        for platform in (platforms.CPU, platforms.ACCELERATOR)
    }

    def program(weights: dict[str, jax.Array], series: jax.Array, brain: jax.Array, **of_exam: jax.Array) -> Any:
        of_platform = {platforms.CPU: parts[platforms.CPU], "default": parts[platforms.ACCELERATOR]}
        maps = jax.lax.platform_dependent(weights, series, of_exam, **of_platform)
        maps = jnp.where(brain[..., None], maps, 0)
        return {name: maps[..., channel] for channel, name in enumerate(scaling.targets)}

    (slices,) = export.symbolic_shape("slice")
    lengths = {"slice": slices, "time": frames, "row": size, "col": size}
    inputs = {
        name: jax.ShapeDtypeStruct(tuple(lengths[axis] for axis in spec.axes), spec.dtype)
        for name, spec in INPUTS.items()
    }
    weights = {name: jax.ShapeDtypeStruct(one.shape, one.dtype) for name, one in tensors_of(variables).items()}
    with _without_places():
        return export.export(jax.jit(program), platforms=PLATFORMS)(weights, **inputs)


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Within it, programs do not remember in which file and line of this machine each operation was asked for."""
    before = getattr(jax.config, TRACEBACKS)
    jax.config.update(TRACEBACKS, 0)
    try:
        yield
    finally:
        jax.config.update(TRACEBACKS, before)


def in_parts(
    networks: Networks, variables: Variables, scaling: Scaling, norm: str, platform: str
) -> Callable[..., Array]:
    """Series of any number of slices -> physical maps (slice, row, col, map), as is fast on that platform."""
    n = AT_A_TIME[platform]
    with platforms.tracing_for(platform):
        networks = as_computed(networks)

    def maps_of(weights: dict[str, jax.Array], series: jax.Array, of_exam: dict[str, jax.Array]) -> Array:
        same = {name: jnp.broadcast_to(value, (n,)) for name, value in of_exam.items()}

        def of_part(part: jax.Array) -> Array:
            batch = Batch(part, jnp.ones((n,), jnp.float32), **same)
            tree = from_tensors(weights, variables)
            scaled = predict_step(tree, batch, networks=networks, scaling=scaling, mode=norm)
            return scaling.physical_maps(scaled)

        n_slices = series.shape[0]
        n_parts = -(-n_slices // n)
        taken = series[jnp.minimum(jnp.arange(n * n_parts), n_slices - 1)]  # the last slice again fills the last part
        with platforms.tracing_for(platform):
            maps = jax.lax.map(of_part, taken.reshape(n_parts, n, *series.shape[1:]))
        return maps.reshape(n * n_parts, *maps.shape[2:])[:n_slices]

    return maps_of


def write(weights: Weights, norm: str, path: pathlib.Path | str) -> int:
    """Writes program, weights and metadata as one file, whole or not at all; equal networks make equal files.

    Args:
      weights: the network.
      norm: of its batch norm, `per_slice` or `running`; without effect where it has none.
      path: of the file.

    Returns:
      bytes of the file beside the weights.

    Raises:
      InputError: the network sees the slices beside each one, or the file cannot be written.
    """
    config = weights.record.config
    made = exported(
        weights.networks,
        weights.variables,
        weights.record.scaling,
        norm,
        int(config.data.frames),
        int(config.data.size),
    )
    tensors = tensors_of(weights.variables)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        _add(archive, METADATA, (json.dumps(metadata(weights, norm, made), indent=2) + "\n").encode())
        _add(archive, PROGRAM, bytes(made.serialize()))
        for name, tensor in tensors.items():
            array = io.BytesIO()
            np.save(array, tensor, allow_pickle=False)
            _add(archive, WEIGHTS.format(name), array.getvalue(), zipfile.ZIP_STORED)  # which would shrink by little
    with replacing(path) as file:
        file.write(content.getvalue())
    return content.getbuffer().nbytes - sum(tensor.nbytes for tensor in tensors.values())


def _add(archive: zipfile.ZipFile, name: str, content: bytes, how: int = zipfile.ZIP_DEFLATED) -> None:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content, how)


def metadata(weights: Weights, norm: str, made: export.Exported) -> dict[str, Any]:
    """What travels with the program, as plain JSON values: what it is, what goes in and out, what is not in it."""
    config, scaling = weights.record.config, weights.record.scaling
    settings = PreparationSettings.from_config(config)
    lengths = {"slice": "any", "time": settings.frames, "row": settings.size, "col": settings.size}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "intended_use": "research use only: not a medical device, and no clinical decision may rest on it",
        "name": weights.name,
        "version": weights.version,
        "step": weights.step,
        "selected_by": weights.selected_by,
        "trained_on": weights.record.without_places().trained_on,
        "sha256": weights.sha256,
        "generator": str(config.model.generator),
        "norm": norm if has_batch_norm(config.model) else "none: each slice by itself",
        "maps": {
            name: {"unit": MAPS[name].unit, "range": list(limits), "meaning": _meaning(name)}
            for name, limits in zip(scaling.targets, scaling.limits, strict=True)
        },
        "inputs": {
            name: {
                "axes": " ".join(spec.axes),
                "shape": [lengths[axis] for axis in spec.axes],
                "dtype": spec.dtype,
                "unit": spec.unit,
                "meaning": spec.meaning,
            }
            for name, spec in INPUTS.items()
        },
        "modality": weights.record.modality,
        "signal": scaling.signal,
        "signal_range": list(scaling.source),
        "preparation": dataclasses.asdict(settings),
        "not_in_the_program": list(OUTSIDE),
        "platforms": list(made.platforms),
        "calling_convention_version": made.calling_convention_version,
        "exported_by": {name: importlib.metadata.version(name) for name in ("dscgan_jax", "jax", "jaxlib")},
        "weights": {name: list(tensor.shape) for name, tensor in tensors_of(weights.variables).items()},
    }


def _meaning(name: str) -> str:
    return MAPS[name].description.replace("first acquired frame", "first frame of the input")
