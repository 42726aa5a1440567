"""The JSON records of speed: what they are called, how they are read, and what is where in them.

There are three kinds: one config on one machine (`measure.run`), this package beside its PyTorch twin
(`benchmarks/versus_torch.py`), and programs that were compiled for a GPU and never ran (`benchmarks/gpu_program.py`).
What could not be measured is null, never estimated.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]

# What `schema` may be.
BENCHMARK, VERSUS = "dscgan_jax benchmark 1", "dscgan_jax versus torch 1"
PROGRAM = "dscgan_jax gpu program 1"
SCHEMAS = (BENCHMARK, VERSUS, PROGRAM)


def to_text(record: Record) -> str:
    """The record as a file holds it."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def read(paths: Iterable[str | pathlib.Path]) -> list[Record]:
    """The records among JSON files; other files of a folder are left out."""
    contents = [
        json.loads(pathlib.Path(path).read_text(encoding="utf-8"), object_pairs_hook=_renamed) for path in paths
    ]
    return [content for content in contents if isinstance(content, dict) and content.get("schema") in SCHEMAS]


def _renamed(pairs: list[tuple[str, Any]]) -> Record:
    """Older versions called each slice's own statistics `batch`."""
    return {_name_now(name, value): value for name, value in pairs}


def _name_now(name: str, value: Any) -> str:
    if name == "inference_batch":
        return "inference_per_slice"
    return "per_slice" if name == "batch" and isinstance(value, dict) else name


def entry(record: Any, path: str) -> Any:
    """A value deep in a record, `step.seconds.median`; None where anything on the way is absent."""
    for name in path.split("."):
        if isinstance(record, list) and name.isdigit():
            record = record[int(name)] if int(name) < len(record) else None
        elif isinstance(record, dict):
            record = record.get(name)
        else:
            return None
    return record


def setting_of(record: Record) -> Record:
    """Sizes of a record of what was measured."""
    if record["schema"] == VERSUS:
        return record["setting"]
    config = record["config"]
    return {
        "size": config["size"],
        "frames": config["frames"],
        "width": config["model"]["width"],
        "batch": config["train"]["batch_size"],
        "compute": config["model"]["compute"],
    }
