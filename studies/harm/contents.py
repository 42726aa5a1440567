"""What a command left in a folder, so that two of them can be compared: all of it but clocks.

Checkpoints and prepared slices are compared by value: the files around them hold times and random names.
"""

import csv
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

CLOCKS = ("created", "wall_seconds", "seconds", "seconds_predict")  # fields of records that hold times of day or spans
# On pages: dates, and spans of seconds that a record holds.
CLOCKS_OF_PAGES = (
    r"\d{4}-\d\d-\d\d[T ][\d:.]+([+-]\d\d:\d\d|Z)?",
    r"in \d+ s\b",
    r'"seconds" data-value="[\d.]+">[\d.]+',
)
# What nobody should find: half-written files and folders, locks, and the extra checkpoint of a run that was stopped.
DEBRIS = re.compile(
    r"(^|/)(\.partial-|incomplete\.|stopped(/|$)|checkpoints/deleted(/|$))|\.partial(/|$)|orbax-checkpoint-tmp"
    r"|(run|cohort)\.lock$"
)
ITEMS = ("generator", "discriminator", "optimisers")


def contents(folder: pathlib.Path) -> dict[str, str]:
    """{file or checkpoint below the folder: digest of what it says}; without TensorBoard's events."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if inside := re.search(r"(^|/)checkpoints/\d+(/|$)", name):
            if not inside[2]:
                found[name] = _of_checkpoint(path)
        elif path.is_dir() and not any(path.iterdir()):
            found[name] = "an empty folder"
        elif (path.is_file() or path.is_symlink()) and "tfevents" not in path.name:
            found[name] = _of_file(path)
    return found


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What only one of two folders holds, or both hold differently."""
    return [
        f"{name} {'differs' if name in one and name in other else 'is missing' if name in one else 'is left over'}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def debris(found: Mapping[str, str]) -> list[str]:
    """Half-written files and folders, and locks."""
    return [name for name in found if DEBRIS.search(name)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _of_file(path: pathlib.Path) -> str:
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    if ".array_record" in path.name:
        return _of_slices(path)
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return _digest(json.dumps(_without_clocks(json.loads(content))).encode())
        if path.suffix == ".csv":
            rows = [
                {key: value for key, value in row.items() if key not in CLOCKS}
                for row in csv.DictReader(content.decode().splitlines())
            ]
            return _digest(json.dumps(rows).encode())
    except ValueError:
        return f"damaged {_digest(content)}"
    if path.suffix == ".html":
        text = content.decode()
        for pattern in CLOCKS_OF_PAGES:
            text = re.sub(pattern, "then", text)
        return _digest(text.encode())
    return _digest(content)


def _of_slices(path: pathlib.Path) -> str:
    """Prepared slices; their fields have no order in the file."""
    whole = hashlib.sha256()
    for stored in ArrayRecordReader(str(path)).read_all():
        fields = tf_example_pb2.Example.FromString(stored).features.feature
        for name in sorted(fields):
            whole.update(name.encode() + fields[name].SerializeToString())
    return whole.hexdigest()


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(one) for key, one in value.items() if key not in CLOCKS}
    return [_without_clocks(one) for one in value] if isinstance(value, list) else value


def _of_checkpoint(folder: pathlib.Path) -> str:
    """Weights, optimisers, record and error on validation; Orbax' own files hold times and random names."""
    whole = hashlib.sha256()
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        for item in ITEMS:
            tree = reader.restore(folder.absolute() / item)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                whole.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    for name in ("record/metadata", "metrics/metrics"):
        stored = json.loads((folder / name).read_text(encoding="utf-8"))
        whole.update(json.dumps(_without_clocks(stored), sort_keys=True).encode())
    return whole.hexdigest()
