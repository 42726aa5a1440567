"""SHA-256 of files that are written once: what was damaged since is noticed before it is used."""

import hashlib
import json
import pathlib
from collections.abc import Iterable

from dscgan_jax.errors import brief
from dscgan_jax.files import write_whole

NAME = "sha256.json"  # beside the files


class Damaged(Exception):
    """Names the file that is gone or another one; whoever reads it tells the user."""


def write(folder: pathlib.Path, files: Iterable[pathlib.Path]) -> None:
    """Notes the digests of these files of a folder in it.

    Raises:
      InputError: the folder cannot be written.
    """
    known = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(files) if path.name != NAME}
    write_whole(folder / NAME, json.dumps(known, indent=1) + "\n")


def check(folder: pathlib.Path, parts: Iterable[str] = ("",)) -> None:
    """Compares the files whose names begin with one of `parts`; nothing is known of folders of older versions.

    Raises:
      Damaged: names the first file that is gone or not what was written.
    """
    if not (folder / NAME).is_file():
        return
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        wanted = {str(name): str(digest) for name, digest in known.items() if name.startswith(tuple(parts))}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise Damaged(f"{NAME}: {brief(error)}") from error
    for name, digest in wanted.items():
        if not (folder / name).is_file():
            raise Damaged(f"{name} is gone")
        if _digest(folder / name) != digest:
            raise Damaged(f"{name} is not what was written")


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
