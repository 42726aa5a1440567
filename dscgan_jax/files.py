"""Files that are never seen half-written."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from dscgan_jax.errors import InputError


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file in one step; where that fails, what stood there before stays."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def all_or_nothing(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder whose files move into `output` together; where something fails, `output` stays as it was."""
    existed = output.is_dir()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=output))
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); give another --output.") from error
    try:
        yield folder
        for path in folder.iterdir():
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                output.rmdir()  # only where nothing came into it
