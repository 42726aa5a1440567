"""The page of the promises: one table for each part, harms in rows and outcomes in columns."""

import importlib
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from types import ModuleType

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
    modules = {name: importlib.import_module(f"harm.{name}") for name in names}
    parts = {name: Records(workdir, module.PART) for name, module in modules.items()}
    done = {name: part.harms for name, part in parts.items() if part.harms}
    record = {name: {kind: dict(row) for kind, row in counted(harms).items()} for name, harms in done.items()}
    write_whole(RECORD, json.dumps({"software": provenance.software_versions(), **record}, indent=2) + "\n")
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    sections = [_section(parts[name].part, harms, _summary(modules[name], harms)) for name, harms in done.items()]
    write_whole(PAGE, above + MARK + "\n" + "".join(sections))


def _summary(module: ModuleType, harms: Sequence[Harm]) -> list[str]:
    """What a part says of its table besides, if it says anything."""
    return module.summary(harms) if hasattr(module, "summary") else []


def _section(part: Part, harms: Sequence[Harm], summary: Sequence[str] = ()) -> str:
    lines = [f"\n## {part.title}\n", part.promise, ""]
    lines += [f"| what was done | times | {' | '.join(part.outcomes)} |", "|---" * (2 + len(part.outcomes)) + "|"]
    for kind, row in counted(harms).items():
        lines.append(f"| {kind} | {sum(row.values())} | {' | '.join(str(row[name]) for name in part.outcomes)} |")
    broken = [harm for harm in harms if harm.outcome in part.broken]
    times = Counter(harm.outcome for harm in harms)
    lines.append(f"\n{len(harms)} harms: {', '.join(f'{times[name]} {name}' for name in part.outcomes)}.")
    lines += [*summary, f"With the tests: `{part.test}`.", ""]
    lines += [f"- {harm.kind}, number {harm.number}: {harm.outcome}. {harm.said}" for harm in broken[:MOST_SHOWN]]
    if len(broken) > MOST_SHOWN:
        lines.append(f"- and {len(broken) - MOST_SHOWN} more")
    return "\n".join(lines) + "\n"
