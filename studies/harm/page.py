"""The page of the promises: one table for each part, harms in rows and outcomes in columns."""

import importlib
import json
import pathlib
from collections.abc import Sequence

from dscgan_jax import provenance
from dscgan_jax.files import write_whole
from harm.records import Harm, Part, Records, counted

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
RECORD = ROOT / "docs" / "benchmarks" / "reliability.json"
MARK = "<!-- made by studies/reliability.py from here on -->"
MOST_SHOWN = 10  # harms that broke a promise, named below their table


def write(workdir: pathlib.Path, names: Sequence[str]) -> None:
    """Writes the record, and the page below its mark; what stands above is written by hand."""
    parts = [Records(workdir, importlib.import_module(f"harm.{name}").PART) for name in names]
    done = [part for part in parts if part.harms]
    record = {part.part.name: {kind: dict(row) for kind, row in counted(part.harms).items()} for part in done}
    write_whole(RECORD, json.dumps({"software": provenance.software_versions(), **record}, indent=2) + "\n")
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    write_whole(PAGE, above + MARK + "\n" + "".join(_section(part.part, part.harms) for part in done))


def _section(part: Part, harms: Sequence[Harm]) -> str:
    lines = [f"\n## {part.title}\n", part.promise, ""]
    lines += [f"| what was done | times | {' | '.join(part.outcomes)} |", "|---" * (2 + len(part.outcomes)) + "|"]
    for kind, row in counted(harms).items():
        lines.append(f"| {kind} | {sum(row.values())} | {' | '.join(str(row[name]) for name in part.outcomes)} |")
    broken = [harm for harm in harms if harm.outcome in part.broken]
    lines.append(f"\n{len(harms)} harms, {len(broken)} broke the promise. With the tests: `{part.test}`.")
    lines += [f"- {harm.kind}, number {harm.number}: {harm.outcome}. {harm.said}" for harm in broken[:MOST_SHOWN]]
    return "\n".join(lines) + "\n"
