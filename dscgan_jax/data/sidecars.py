"""JSON sidecars beside NIfTI files."""

import json
import pathlib
from typing import Any

from dscgan_jax.data.headers import refuse_pointer
from dscgan_jax.data.nifti import Path, present, sidecar_path
from dscgan_jax.errors import InputError, brief
from dscgan_jax.findings import Findings


def read_sidecar(path: Path, found: Findings | None = None) -> dict[str, Any]:
    """A JSON sidecar in UTF-8, UTF-16 or UTF-32, with or without byte order mark, or Latin-1.

    An absent file is an empty one.

    Args:
      path: of the sidecar.
      found: receives a note on Latin-1.

    Returns:
      Whatever the file holds: NaN, huge integers and wrong types are for those to judge who use a field.

    Raises:
      InputError: the file cannot be read, is not JSON or holds no JSON object.
    """
    if not present(path):
        return {}
    content = b""
    try:
        content = pathlib.Path(path).read_bytes()
        sidecar = json.loads(_decoded(path, content, found))
    except (OSError, ValueError) as error:
        refuse_pointer(path, content)
        raise InputError(f"{path}: not a JSON file ({brief(error)}); repair or remove it.") from error
    except RecursionError as error:
        raise InputError(f"{path}: not a sidecar (brackets nested too deeply); repair or remove it.") from error
    if not isinstance(sidecar, dict):
        raise InputError(f'{path}: expected a JSON object such as {{"RepetitionTime": 1.5}}; repair or remove it.')
    return sidecar


def _decoded(path: Path, content: bytes, found: Findings | None) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:  # old converters write names of hospitals and protocols in Latin-1
        if found:
            found.note("sidecar_encoding", f"{pathlib.Path(path).name} is not UTF-8; it was read as Latin-1")
        return content.decode("latin-1")


def sidecars_of(series: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The JSON files that tell about a series, general ones first.

    In `root/sub-*/perf` also those it inherits (BIDS).
    """
    name, folders = sidecar_path(series).name, [series.parent]
    if folders[0].name == "perf" and folders[0].parent.name.startswith("sub-"):
        folders = [folders[0].parents[1], folders[0].parent, folders[0]]
    general = [folder / "dsc.json" for folder in folders] if len(folders) > 1 else []
    return tuple(
        path for path in (*general, *(folder / name for folder in folders)) if path.is_file() or path.is_symlink()
    )
