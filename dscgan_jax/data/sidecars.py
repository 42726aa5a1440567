"""JSON sidecars beside NIfTI files."""

import functools
import json
import pathlib
from typing import Any

from dscgan_jax.data.headers import refuse_pointer
from dscgan_jax.data.nifti import Path, present, sidecar_path
from dscgan_jax.errors import InputError, brief
from dscgan_jax.findings import Findings

READ = ("RepetitionTime", "VolumeTiming", "FrameTimesStart", "EchoTime", "Modality")  # fields that decide maps


def read_sidecar(path: Path, found: Findings | None = None) -> dict[str, Any]:
    """A JSON sidecar in UTF-8, UTF-16 or UTF-32, with or without byte order mark, or Latin-1.

    An absent file is an empty one.

    Args:
      path: of the sidecar.
      found: receives a note on Latin-1.

    Returns:
      Whatever the file holds: NaN, huge integers and wrong types are for those to judge who use a field.

    Raises:
      InputError: the file cannot be read, is not JSON, holds no JSON object, or a field that decides maps twice.
    """
    if not present(path):
        return {}
    content = b""
    try:
        content = pathlib.Path(path).read_bytes()
        sidecar = json.loads(_decoded(path, content, found), object_pairs_hook=functools.partial(_once, path))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        refuse_pointer(path, content)
        raise InputError(f"{path}: not a JSON file ({brief(error)}); repair or remove it.") from error
    except RecursionError as error:
        raise InputError(f"{path}: not a sidecar (brackets nested too deeply); repair or remove it.") from error
    if not isinstance(sidecar, dict):
        raise InputError(f'{path}: expected a JSON object such as {{"RepetitionTime": 1.5}}; repair or remove it.')
    return sidecar


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these pairs, unless a field of `READ` is there twice with two values.

    Nobody knows which one counts. Other fields are nobody's business, and their values are told to nobody.
    """
    record = dict(pairs)
    for name, value in pairs:
        if name in READ and record[name] != value and not (value != value and record[name] != record[name]):
            raise InputError(f"{path}: the field {name} is there twice, with two values; keep the right one.")
    return record


def _decoded(path: Path, content: bytes, found: Findings | None) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:  # old converters write names of hospitals and protocols in Latin-1
        if found:
            found.note("sidecar_encoding", f"{pathlib.Path(path).name} is not UTF-8; it was read as Latin-1")
        return content.decode("latin-1")


def sidecars_of(series: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The JSON files that tell about a series, general ones first.

    In `root/sub-*/[ses-*/]perf` also those it inherits (BIDS): from the root on down, every `[entities_]dsc.json` whose
    entities are all among those of the series. Of one folder, the one with the most entities counts most.
    """
    own = sidecar_path(series)
    if not (levels := _levels(series.parent)):
        return own_sidecar(series)
    found = [
        path
        for folder in levels
        for path in sorted(folder.glob("*.json"), key=lambda path: (path.name.count("_"), path.name))
        if path.name == own.name or _tells_about(path, own)
    ]
    return tuple(path for path in found if path.is_file() or path.is_symlink())


def own_sidecar(series: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The JSON file of the same name, if there is one."""
    own = sidecar_path(series)
    return (own,) if own.is_file() or own.is_symlink() else ()


def _tells_about(sidecar: pathlib.Path, own: pathlib.Path) -> bool:
    """Whether the entities of a sidecar of series are all among those of one series, whose own sidecar is given."""
    *entities, suffix = sidecar.stem.split("_")
    return suffix == "dsc" and set(entities) <= set(own.stem.split("_"))


def _levels(perf: pathlib.Path) -> list[pathlib.Path]:
    """The folders whose sidecars a series in `perf` inherits, the root of the data set first; none outside of BIDS."""
    person = perf.parents[1] if perf.parent.name.startswith("ses-") else perf.parent
    if perf.name != "perf" or not person.name.startswith("sub-"):
        return []
    root, between = person.parent, [] if person == perf.parent else [perf.parent]
    return [*([root.parent] if root.name == "derivatives" else []), root, person, *between, perf]
