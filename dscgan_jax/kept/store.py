"""What one start works out and the next ones need not: kept beside what JAX compiled, found by what it was made of.

The name of a file is a digest of everything that its content depends on, the source of this package and the version of
JAX among it; its content begins with a digest of the rest. What is absent, damaged or of another version is made again,
and where nothing can be written everything works as before.

There is no pickle and no Python code in it: a program is StableHLO, as `jax.export` serialises it, all else is JSON. A
program that is read is compiled and run, though: it is read only where nobody but its owner, who runs this, can write.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import stat
import time
from collections.abc import Mapping
from typing import Any

from dscgan_jax.errors import InputError
from dscgan_jax.files import replacing

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
FOLDER = "kept"  # within that of the compiled programs
MOST_FILES = 128  # of a kind; those that nobody read for longest go: of former versions, or of unusual exams
_DIGEST_BYTES = 32
_BEGUN = time.time()  # source that is younger is not what runs


def folder() -> pathlib.Path | None:
    """Where things are kept: where JAX keeps what it compiled, if that is a folder of this machine."""
    import jax

    compiled = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    return pathlib.Path(compiled) / FOLDER if compiled and "://" not in compiled else None


def read(kind: str, made_of: Mapping[str, Any]) -> bytes | None:
    """What was kept under this name; None where it is not there, or not what was written.

    Args:
      kind: what it is, in one word.
      made_of: plain values of all that it depends on, besides code and versions.
    """
    if (path := _path(kind, made_of)) is None:
        return None
    try:
        if not (_own(path.parent) and _own(path)):
            return None
        whole = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a disk that can only be read
        os.utime(path)
    digest, content = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    return content if digest == hashlib.sha256(content).digest() else None


def write(kind: str, made_of: Mapping[str, Any], content: bytes) -> None:
    """Keeps it, whole or not at all; a folder that cannot be written keeps nothing. Arguments as of `read`."""
    if (path := _path(kind, made_of)) is None:
        return
    with contextlib.suppress(InputError, OSError):
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(path) as file:
            file.write(hashlib.sha256(content).digest() + content)
        path.chmod(0o600)
        files = sorted(path.parent.glob(f"[!.]*.{kind}"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in files[MOST_FILES:]:
            old.unlink(missing_ok=True)


def _path(kind: str, made_of: Mapping[str, Any]) -> pathlib.Path | None:
    where = folder()
    try:
        if where is None or _edited():
            return None
        name = json.dumps([kind, made_of, _code()], sort_keys=True)
    except OSError:  # a file of the source cannot be read, or went meanwhile
        return None
    return where / f"{hashlib.sha256(name.encode()).hexdigest()}.{kind}"


def _own(path: pathlib.Path) -> bool:
    """Whether nobody but who runs this can write it."""
    about = path.stat()
    return about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _edited() -> bool:
    """Whether the source was changed since it was imported: what runs is then not what the files say."""
    return _edited_by(PACKAGE, int(time.monotonic()))


@functools.lru_cache(maxsize=1)
def _edited_by(package: pathlib.Path, second: int) -> bool:
    """The same, asked once a second: to look at each file takes some milliseconds."""
    del package, second
    return any(path.stat().st_mtime > _BEGUN for path in _source())


def _source() -> list[pathlib.Path]:
    """The modules of this package; hidden files are an editor's."""
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("."))


@functools.cache
def _code() -> list[str]:
    """The versions of JAX and Flax, and a digest of the source of this package."""
    import importlib.metadata

    total = hashlib.sha256()
    for path in _source():
        total.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return [*(importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")), total.hexdigest()]
