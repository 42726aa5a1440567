"""A trained generator as one file that others can use: numbers in safetensors, and all that goes around them.

A safetensors file is a length, a header in JSON and raw numbers: whoever made it, reading it executes nothing. What we
write of the network is one entry of its metadata, a JSON text: the library writes several entries in an order that
changes from time to time, and equal networks would not make equal files.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

import dscgan_jax
from dscgan_jax import provenance, settings, shipped
from dscgan_jax.errors import InputError, brief
from dscgan_jax.files import replacing, write_whole
from dscgan_jax.kept import store
from dscgan_jax.training.record import CheckpointRecord

if TYPE_CHECKING:
    from dscgan_jax.models.networks import Networks, Variables  # Flax takes as long to import as JAX

ENTRY = "dscgan_jax"  # of the file's metadata
ENTRY_DIGEST = "metadata_sha256"
USUAL_FILE = "usual.json"  # in a work directory: what is usual of its maps
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16 * 2**20  # of the header; 4,000 training exams make 0.2 MiB
# What the first bytes of other files say, some of which would execute what they hold when they are read.
OTHERS = {
    b"PK\x03\x04": "a zip archive, as PyTorch's .pt and .pth, NumPy's .npz and exported programs are",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
}
DTYPES = {"float32": "F32", "int32": "I32"}  # of parameters and statistics; of counts
TODO = "dscgan-jax export --workdir=RUN --output=FILE.safetensors makes one"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained generator with everything that is needed to apply it.

    Attributes:
      name: of the network.
      version: of the package that exported it, or of the one that runs.
      step: of its training.
      selected_by: how that step was chosen: `best` on validation, `latest` or its number.
      record: config, scaling, data and software of its training.
      variables: of the generator, `{"params": ..., "stats": ...}`.
      sha256: digest of the variables (`provenance.digest`).
      usual: up to where its maps of validation exams contradict themselves (`consistency.usual_limits`); empty where
        that was not measured.
    """

    name: str
    version: str
    step: int
    selected_by: str
    record: CheckpointRecord
    variables: "Variables"
    sha256: str
    usual: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def networks(self) -> "Networks":
        """The structure that its config describes; it is built when it is asked for, since few need it."""
        return _abstract(self.record)[0]

    @property
    def trained_on(self) -> str:
        """What kind of exams, in words."""
        return self.record.trained_on

    @property
    def in_words(self) -> str:
        """Name, version, digest and what it was trained on, as pages say it."""
        return f"{self.name} {self.version} (step {self.step}, {self.sha256[:12]}), trained on {self.trained_on}"


def load(model: pathlib.Path | str, which: str = "best") -> Weights:
    """A shipped network by its name, or that of a file of weights, or of a run.

    Args:
      model: `physics`, the path of a file, or the work directory of a run.
      which: step of a run: `best` on validation, `latest`, or a number.

    Raises:
      InputError: there is no such network, or it is damaged; or a step is wanted of a file.
    """
    if str(model) in shipped.NAMES:
        model = shipped.weights_file(str(model))
    is_run = pathlib.Path(model).is_dir()
    if not is_run and which != "best":
        raise InputError(f"--step={which} chooses a checkpoint of a run, and {model} is a file; leave it out.")
    return of_run(model, which) if is_run else read(model)


def of_run(workdir: pathlib.Path | str, which: str = "best", name: str = "") -> Weights:
    """The generator of a checkpoint.

    Args:
      workdir: work directory of a run.
      which: `best` on validation, `latest`, or a step.
      name: of the network; empty = that of the folder.

    Raises:
      InputError: there is no such checkpoint, or it is damaged.
    """
    from dscgan_jax.training import checkpoints  # Orbax takes longer to import than a file of weights to read

    step = checkpoints.choose_step(workdir, which)
    record = checkpoints.load_record(workdir, step)
    variables = checkpoints.load_generator(workdir, step, _outline(record))
    name = name or pathlib.Path(workdir).absolute().name
    digest = provenance.digest(variables)
    usual = kept_usual(workdir, digest) or {}
    return Weights(name, dscgan_jax.__version__, step, which, record, variables, digest, usual)


def keep_usual(workdir: pathlib.Path | str, sha256: str, usual: Mapping[str, float]) -> None:
    """Keeps, beside the checkpoints of a run, what is usual of the maps of one of them (`Weights.usual`).

    Raises:
      InputError: the file cannot be written.
    """
    write_whole(pathlib.Path(workdir) / USUAL_FILE, json.dumps({sha256: dict(usual)}, indent=2) + "\n")


def kept_usual(workdir: pathlib.Path | str, sha256: str) -> dict[str, float] | None:
    """What `keep_usual` kept of these weights; None where it was not measured, or of other weights.

    Raises:
      InputError: the file is damaged.
    """
    path = pathlib.Path(workdir) / USUAL_FILE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return _plain_limits(kept[sha256]) if sha256 in kept else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: damaged ({brief(error)}); remove it, and train or evaluate again.") from error


def _plain_limits(values: Any) -> dict[str, float]:
    """Of names to numbers.

    Raises:
      ValueError, TypeError, AttributeError: it is something else.
    """
    return {str(name): float(value) for name, value in values.items()}


def write(weights: Weights, path: pathlib.Path | str) -> None:
    """Writes a file of weights, whole or not at all; equal weights make equal bytes.

    Folders of this machine and names of subjects stay here.

    Raises:
      InputError: the file cannot be written.
    """
    record = weights.record.without_places()
    entry = {
        "format_version": FORMAT_VERSION,
        "name": weights.name,
        "version": weights.version,
        "step": weights.step,
        "selected_by": weights.selected_by,
        "trained_on": record.trained_on,
        "maps": list(weights.record.scaling.targets),
        "sha256": weights.sha256,
        "intended_use": "research only",
        **({"usual": dict(weights.usual)} if weights.usual else {}),
        **record.to_json(),
    }
    entry[ENTRY_DIGEST] = _entry_digest(entry)
    content = safetensors.numpy.save(tensors_of(weights.variables), {ENTRY: json.dumps(entry, sort_keys=True)})
    with replacing(path) as file:
        file.write(content)


def tensors_of(variables: "Variables") -> dict[str, np.ndarray]:
    """The variables as files hold them, flat and by name: `params/unet/down/0/kernel`."""
    return {
        _name(key): np.asarray(jax.device_get(leaf), order="C")
        for key, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }


def from_tensors(tensors: Mapping[str, Any], like: "Variables") -> "Variables":
    """Inverse of `tensors_of`, for variables of that structure."""
    return jax.tree_util.tree_map_with_path(lambda key, _: tensors[_name(key)], like)


def read(path: pathlib.Path | str) -> Weights:
    """Reads a file of weights.

    Raises:
      InputError: it is no such file, damaged, of another format version, or its numbers are not those that its config
        and its digest say.
    """
    path = pathlib.Path(path)
    header = _header(path)
    entry = _entry(header, path)
    try:
        record = CheckpointRecord.from_json(entry)
        settings.check_fields(record.config, settings.CHOICES)
        like = _outline(record)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever a config that describes no network makes the layers raise
        raise _damaged(path, f"its config describes no network: {brief(error)}") from error
    scaling, config = record.scaling, record.config
    if (scaling.targets, scaling.signal) != (tuple(config.target), config.data.signal):
        raise _damaged(path, "its scaling is not that of its config")
    _check_shapes(header, like, path)
    variables = _variables(path, like)
    digest = provenance.digest(variables)
    if digest != entry["sha256"]:
        raise _damaged(path, f"its numbers have the digest {digest[:12]}, its metadata say {str(entry['sha256'])[:12]}")
    try:
        usual = _plain_limits(entry.get("usual", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, "its metadata hold no limits of what is usual") from error
    named = {key: entry[key] for key in ("name", "version", "selected_by", "step")}
    return Weights(**named, record=record, variables=variables, sha256=digest, usual=usual)


def _header(path: pathlib.Path) -> dict[str, Any]:
    """The header of a safetensors file that is as long as it says."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file; expected one in safetensors format ({TODO}).")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(9)
            length = int.from_bytes(first[:8], "little")
            if len(first) < 9 or first[8:] != b"{":
                kind = next((text for begin, text in OTHERS.items() if first.startswith(begin)), "something else")
                raise InputError(f"{path}: expected weights in safetensors format, it is {kind}; {TODO}.")
            if length > MAX_HEADER_BYTES:
                raise _damaged(path, f"its header would have {length:,} bytes, where {MAX_HEADER_BYTES:,} are many")
            text = b"{" + file.read(length - 1)
        if len(text) < length:
            raise _damaged(path, f"it ends in its header, after {size:,} bytes")
        header = json.loads(text)
        ends = [int(one["data_offsets"][1]) for name, one in header.items() if name != "__metadata__"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header is none of a safetensors file: {brief(error)}") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise _damaged(path, f"it has {size:,} bytes, its header says {expected:,}")
    return header


def _entry(header: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """What we wrote into the metadata of the file."""
    metadata = header.get("__metadata__")
    text = metadata.get(ENTRY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise InputError(f"{path}: a safetensors file, but not of a network of this package; {TODO}.")
    try:
        entry = json.loads(text)
        version = entry["format_version"]
        missing = {"name", "version", "step", "selected_by", "sha256", "config", "scaling", "data"} - entry.keys()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its metadata cannot be read: {brief(error)}") from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: its format is version {version!r}, this version of the package ({dscgan_jax.__version__}) reads "
            f"{FORMAT_VERSION}; use the package that wrote it ({entry.get('version', 'unknown')}), or a newer file."
        )
    if missing:
        raise _damaged(path, f"its metadata lack {', '.join(sorted(missing))}")
    if entry.get(ENTRY_DIGEST) != _entry_digest(entry):
        raise _damaged(path, "its metadata are not those that were written")
    words = [entry[key] for key in ("name", "version", "selected_by")]
    if type(entry["step"]) is not int or not all(isinstance(word, str) and word.isprintable() for word in words):
        raise _damaged(path, "its metadata hold no name, version and step")
    return entry


def _entry_digest(entry: dict[str, Any]) -> str:
    """SHA-256 of the metadata but for this one."""
    rest = {key: value for key, value in entry.items() if key != ENTRY_DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _abstract(record: CheckpointRecord) -> "tuple[Networks, Variables]":
    from dscgan_jax.models import networks

    config = record.config
    return networks.abstract_generator(
        config.model, config.data.frames, len(config.target), settings.exam_slices(config)
    )


def _outline(record: CheckpointRecord) -> "Variables":
    """Shapes and types of the variables of the network that a config describes, which another start may have kept."""
    made_of = {"config": settings.to_json(record.config)}
    leaves = None
    if (content := store.read("outline", made_of)) is not None:
        with contextlib.suppress(ValueError):
            leaves = json.loads(content)
    if leaves is None:
        _, like = _abstract(record)
        paths = jax.tree_util.tree_leaves_with_path(like)
        leaves = {_name(key): [leaf.dtype.name, list(leaf.shape)] for key, leaf in paths}
        store.write("outline", made_of, json.dumps(leaves).encode())
    outline: dict[str, Any] = {"params": {}, "stats": {}}
    for name, (dtype, shape) in leaves.items():
        *parents, last = name.split("/")
        functools.reduce(lambda tree, key: tree.setdefault(key, {}), parents, outline)[last] = jax.ShapeDtypeStruct(
            tuple(shape), np.dtype(dtype)
        )
    return outline


def _check_shapes(header: dict[str, Any], like: "Variables", path: pathlib.Path) -> None:
    """Refuses tensors other than those that the config asks for, before one is read."""
    wanted = {_name(key): leaf for key, leaf in jax.tree_util.tree_leaves_with_path(like)}
    held = {name: one for name, one in header.items() if name != "__metadata__"}
    if odd := sorted(wanted.keys() ^ held.keys()):
        which = "lacks" if odd[0] in wanted else "has"
        raise _damaged(path, f"it {which} the tensor {odd[0]}, otherwise than its config says")
    for name, leaf in wanted.items():
        came = f"{held[name].get('dtype')} {held[name].get('shape')}"
        says = f"{DTYPES[str(leaf.dtype)]} {list(leaf.shape)}"
        if came != says:
            raise _damaged(path, f"the tensor {name} is {came}, its config says {says}")


def _variables(path: pathlib.Path, like: "Variables") -> "Variables":
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return jax.tree_util.tree_map_with_path(lambda key, _: file.get_tensor(_name(key)), like)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, brief(error)) from error


def _name(key: tuple[Any, ...]) -> str:
    """Where a tensor is in the tree, `params/unet/down/0/kernel`."""
    return "/".join(str(step.key) for step in key)


def _damaged(path: pathlib.Path, why: str) -> InputError:
    return InputError(f"{path}: these weights are damaged: {why}; get the file again.")
