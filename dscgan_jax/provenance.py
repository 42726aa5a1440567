"""Where a result comes from: versions, the commit of the code, digests of weights.

Light to import: the versions of JAX, Flax, Optax and Orbax are read from their installed metadata.
"""

import hashlib
import importlib.metadata
import pathlib
import subprocess
from typing import Any

PACKAGES = ("dscgan_jax", "jax", "flax", "optax", "orbax-checkpoint")


def software_versions() -> dict[str, str | None]:
    """Versions of `PACKAGES`, and the git commit of the code that runs (None outside a checkout)."""
    versions: dict[str, str | None] = {name: importlib.metadata.version(name) for name in PACKAGES}
    versions["git"] = git_commit()
    return versions


def git_commit() -> str | None:
    """The commit of the checkout that holds this code; None where there is no checkout, or no git."""
    root = pathlib.Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel") or "/").resolve() != root:
            return None  # installed into somebody else's repository
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or None
    except OSError:
        return None


def digest(tree: Any) -> str:
    """SHA-256 over the bytes of all leaves, in the tree's order: equal weights have equal digests."""
    import jax  # the only function here that needs it
    import numpy as np

    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return total.hexdigest()
