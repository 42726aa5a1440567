"""Text files that are never seen half-written."""

import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file in one step; where that fails, what stood there before stays."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
