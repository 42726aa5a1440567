"""What became of each harm: a line of JSON each, so that a study that was stopped goes on where it stood."""

import dataclasses
import json
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harm.kills import World


@dataclasses.dataclass(frozen=True)
class Harm:
    """One harm that was done once.

    Attributes:
      kind: what was done, a row of the table: "killed while training".
      number: which of its kind, from 0; kind and number decide what is done to the last byte.
      outcome: one of the part's outcomes: "the same bytes".
      said: what the program printed last, or what differed; empty where it does not matter.
    """

    kind: str
    number: int
    outcome: str
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    """A promise and the harms that would break it.

    Attributes:
      name: of the part and of its file of records.
      title: heading on the page.
      promise: a paragraph for users: what exactly holds.
      kept: outcomes that keep the promise, in the order of the table's columns.
      broken: outcomes that break it.
      test: the test that does a few of these harms with the suite.
    """

    name: str
    title: str
    promise: str
    kept: tuple[str, ...]
    broken: tuple[str, ...]
    test: str

    @property
    def outcomes(self) -> tuple[str, ...]:
        """All of them, the columns of the table."""
        return self.kept + self.broken


class Records:
    """The harms of one part that were done so far, kept in a file of JSON lines."""

    def __init__(self, folder: pathlib.Path | str, part: Part):
        self.part = part
        self._path = pathlib.Path(folder) / f"{part.name}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        self.harms = [Harm(**json.loads(line)) for line in lines]

    def open_ones(self, kinds: Iterable[str], count: int) -> list[tuple[str, int]]:
        """(kind, number) of those that were not done yet, `count` of each kind."""
        done = {(harm.kind, harm.number) for harm in self.harms}
        return [(kind, number) for kind in kinds for number in range(count) if (kind, number) not in done]

    def add(self, harm: Harm) -> None:
        """One more; on disk before this returns."""
        if harm.outcome not in self.part.outcomes:
            raise ValueError(f"{harm.outcome!r} is no outcome of {self.part.name}")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(harm)) + "\n")
        self.harms.append(harm)


Do = Callable[["World", pathlib.Path, int], tuple[str, str]]  # in a world and an empty folder, -> outcome and words


def carry_out(workdir: pathlib.Path, part: Part, kinds: Mapping[str, Do], count: int, world: "World") -> None:
    """Does the harms of a part that are still open, one after the other, each in an empty folder of the same name."""
    records = Records(workdir, part)
    still_open = records.open_ones(kinds, count)
    if still_open:
        world.make()
    for kind, number in still_open:
        area = world.folder.parent / "area"
        shutil.rmtree(area, ignore_errors=True)
        area.mkdir(parents=True)
        harm = Harm(kind, number, *kinds[kind](world, area, number))
        records.add(harm)
        print(f"{kind}, number {number}: {harm.outcome}. {harm.said}", flush=True)


def counted(harms: Sequence[Harm]) -> Mapping[str, Counter[str]]:
    """{kind: {outcome: how often}}, kinds in the order in which they were first done."""
    table: dict[str, Counter[str]] = {}
    for harm in harms:
        table.setdefault(harm.kind, Counter())[harm.outcome] += 1
    return table
