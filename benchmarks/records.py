"""What every benchmark here does with what it measured."""

import json
import pathlib
from typing import Any


def keep(record: dict[str, Any], output: pathlib.Path | str | None) -> None:
    """Prints a record, and writes it where `output` names a JSON file."""
    text = json.dumps(record, indent=1)
    print(text)
    if output:
        pathlib.Path(output).write_text(text + "\n", encoding="utf-8")
