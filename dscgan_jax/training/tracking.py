"""What a run records while it trains: `metrics.jsonl` and TensorBoard events; when to do so; when to stop.

`metrics.jsonl` holds one JSON object per row, keys sorted, and no clock: a run that was killed and resumed writes the
same bytes as one that never stopped. Wall time is in the TensorBoard events alone.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.files import write_whole

FILE_NAME = "metrics.jsonl"


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every `every` steps happens now.

    Args:
      step: steps that are complete; 0 before the first.
      every: period in steps; 0 means at the last step alone.
      last: the run's last step, at which everything happens once more, also where `every` does not divide it.
    """
    if every < 0:
        raise ValueError(f"a period of {every} steps")
    if step <= 0:
        return False
    return step == last or (every > 0 and step % every == 0)


def check_finite(values: Mapping[str, float], step: int, batch: str = "") -> None:
    """Stops at the first number that is not finite.

    Args:
      values: name -> value.
      step: the step at which they were read.
      batch: subjects and slices that the step was made from, if known.

    Raises:
      FloatingPointError: names all such values and the step.
    """
    bad = [f"{name} is {float(value)}" for name, value in values.items() if not math.isfinite(float(value))]
    if bad:
        where = f"at step {step}{f', whose batch holds {batch}' if batch else ''}"
        raise FloatingPointError(
            f"{', '.join(bad)} {where}: not finite. Training stops; checkpoints before it stay. Try a lower "
            "config.train.learning_rate, and look for odd exams with --mode=check."
        )


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line torn by a kill is left out, an absent file has none.

    Raises:
      InputError: a line before the last is damaged.
    """
    if not path.exists():
        return []
    rows = []
    lines = path.read_bytes().split(b"\n")  # a whole file ends with a newline, so its last piece is empty
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            row["step"] = int(row["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: expected a JSON object with a step; the file is damaged. "
                "Remove the line or give another --workdir."
            ) from error
        rows.append(row)
    return rows


class Tracker:
    """Writes `metrics.jsonl` and TensorBoard events into a work directory.

    Args:
      workdir: existing or not.
      start_step: the step restored from a checkpoint; rows of later steps, which will be made again, are dropped.
        0 starts from the beginning.

    Attributes:
      kept: rows of the steps before.
    """

    def __init__(self, workdir: pathlib.Path | str, start_step: int = 0):
        from tensorboardX import (
            SummaryWriter,
        )  # here, because it imports PyTorch where there is one: a second for every mode

        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self.path = workdir / FILE_NAME
        self.kept = [row for row in read_rows(self.path) if row["step"] <= start_step] if start_step else []
        write_whole(self.path, "".join(_line(row) for row in self.kept))
        self._file = self.path.open("a", encoding="utf-8")
        # TensorBoard hides what an interrupted run had written beyond the step that was restored.
        self._events = SummaryWriter(str(workdir), purge_step=start_step + 1 if start_step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row. The row is handed to the operating system at once, so that a kill tears at most the last line.

        Raises:
          FloatingPointError: a value is not finite; nothing is written.
        """
        check_finite(values, step)
        row = {name: float(value) for name, value in values.items()}
        self._file.write(_line({**row, "step": int(step)}))
        self._file.flush()
        for name, value in row.items():
            self._events.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture, (row, col, 3) uint8, into the TensorBoard events."""
        self._events.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still waiting."""
        self._file.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silent:
    """A tracker that writes nothing: another process does."""

    kept: tuple[dict[str, Any], ...] = ()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, allow_nan=False) + "\n"
