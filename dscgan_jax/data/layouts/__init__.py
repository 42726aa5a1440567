"""Folders of exams -> subjects and splits. A layout is one function: folder in, subjects out."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dscgan_jax.data.layouts.folders import LAYOUTS, check_series, find_subjects, listed, no_folder
    from dscgan_jax.data.layouts.participants import write_participants
    from dscgan_jax.data.layouts.splits import EXCLUDE, SPLITS, assign_splits

__all__ = [
    "EXCLUDE",
    "LAYOUTS",
    "SPLITS",
    "assign_splits",
    "check_series",
    "find_subjects",
    "listed",
    "no_folder",
    "write_participants",
]

# The module of each public name.
_PLACES = {
    **dict.fromkeys(("LAYOUTS", "check_series", "find_subjects", "listed", "no_folder"), "folders"),
    "write_participants": "participants",
    **dict.fromkeys(("EXCLUDE", "SPLITS", "assign_splits"), "splits"),
}


def __getattr__(name: str) -> Any:
    """The public names, each imported when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
