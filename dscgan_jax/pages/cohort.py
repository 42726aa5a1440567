"""The page of a cohort: a table of its exams that one can sort and filter, outliers first, with links to their pages.

The table and its small script are inside the page; thumbnails and the exams' pages are found beside it, by relative
paths, so that the folder may be moved as a whole.
"""

import dataclasses
import datetime
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import FAILED, MADE, ExamRow
from dscgan_jax.figures.ink import CONTOUR_SECONDS, METHOD_TITLES
from dscgan_jax.findings import NAMES
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts, sortable
from dscgan_jax.pages.parts import UNDEFINED, bullets, counted, definitions, section

KINDS = {"failed": "failed", "warnings": "with warnings", "unlike": "unlike the others", "unremarkable": "unremarkable"}
LEAST = "Tmax > 6 s at least [mL]"
NOTE = """<p>Outliers come first: exams that failed, then those with warnings, then those with a volume or a median far
from that of the others (more than 3.5 robust standard deviations). A click on a heading sorts. {pictures}</p>"""


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of numbers: heading, field of the row, format, and whether a narrow screen leaves it out."""

    title: str
    field: str
    form: str
    minor: bool = False


_COLUMNS = (
    _Column("brain [mL]", "brain_ml", ".0f", True),
    *(
        _Column(f"Tmax > {threshold:g} s [mL]", f"tmax_over_{threshold:g}s_ml", ".1f", threshold != CONTOUR_SECONDS)
        for threshold in MAPS["tmax"].thresholds
    ),
    *(_Column(f"median {spec.title}", f"{name}_median", ".3g", True) for name, spec in MAPS.items()),
    _Column("AIF quality", "aif_quality", ".2f", True),
    _Column("signal over noise", "signal_to_noise", ".0f", True),
    _Column("seconds", "seconds", ".1f", True),
)


def page(rows: Sequence[ExamRow], total: int, source: str, made_of: Mapping[str, Any]) -> str:
    """The page as HTML; whatever came from files is escaped.

    Args:
      rows: of the exams there are so far.
      total: exams of the cohort.
      source: folder of the exams.
      made_of: how the maps are made, plain JSON values.
    """
    unlike = exam_rows.unlike_others(rows)
    ordered = exam_rows.outliers_first(rows, unlike)
    sections = [
        sortable.style(),
        section("In brief", bullets(_brief(rows, total, unlike)), kind="brief"),
        _warnings(rows),
        section("Exams", _note(rows), sortable.filters(KINDS, "outliers first", LEAST), _table(ordered, unlike)),
        section("How the maps were made", definitions(_provenance(source, made_of))),
        sortable.script(),
    ]
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return parts.page(f"{counted(total, 'exam')}", f"a cohort {_made_by(rows)}", created, sections)


def _pictured(row: ExamRow) -> str:
    """Which map the small picture of an exam shows (`exam_files`): Tmax, or else the first that there is."""
    there = [name for name in MAPS if getattr(row, f"{name}_median") is not None]
    return "tmax" if "tmax" in there or not there else there[0]


def _note(rows: Sequence[ExamRow]) -> str:
    shown = []
    for name in dict.fromkeys(_pictured(row) for row in rows if row.thumbnail):
        low, high = MAPS[name].window
        most = "tissue above 6 s" if name == "tmax" else "brain"
        shown.append(f"{MAPS[name].title}, {low:g} to {high:g} {MAPS[name].unit}, of the slice with most {most}")
    pictures = f"The pictures show {'; or '.join(shown)}; the patient's right is at the left." if shown else ""
    return NOTE.format(pictures=pictures)


def _made_by(rows: Sequence[ExamRow]) -> str:
    first = next((row for row in rows if row.status == MADE), None)
    if first is None:
        return "without maps"
    if first.network:
        return f"with maps by the network {first.network} {first.network_version} ({first.network_sha256[:12]})"
    return f"with conventional maps by {METHOD_TITLES.get(first.method, first.method)}"


def _brief(rows: Sequence[ExamRow], total: int, unlike: Mapping[str, Sequence[str]]) -> list[str]:
    made = [row for row in rows if row.status == MADE]
    lines = [f"{len(made)} of {counted(total, 'exam')} have maps; {len(rows) - len(made)} failed."]
    if len(rows) < total:
        lines.append(f"Still to be made: {total - len(rows)}; the run was interrupted, or it is going on.")
    lines.append(f"With warnings: {sum(bool(row.warnings) for row in made)}. Unlike the others: {len(unlike)}.")
    late = [row.tmax_over_6s_ml for row in made if row.tmax_over_6s_ml is not None]
    if late:
        lines.append(f"Tmax > 6 s: median {median(late):.0f} mL, {min(late):.0f} to {max(late):.0f} mL.")
    return lines


def _warnings(rows: Sequence[ExamRow]) -> str:
    """Names of warnings with their meaning and how many exams have them."""
    counts = Counter(name for row in rows for name in row.warnings)
    lines = [f"{name}: {NAMES.get(name, 'unknown')} ({counted(n, 'exam')})" for name, n in counts.most_common()]
    return section("Warnings", bullets(lines), kind="warnings") if lines else ""


def _table(rows: Sequence[ExamRow], unlike: Mapping[str, Sequence[str]]) -> str:
    head = [
        f'<th scope="col" class="picture">{_picture_heading(rows)}</th>',
        sortable.heading("exam", "words"),
        sortable.heading("status and warnings", "words"),
        sortable.heading("split", "words"),
        *(sortable.heading(column.title, "number") for column in _COLUMNS),
    ]
    return sortable.table(head, (_row(row, unlike.get(row.subject, ())) for row in rows))


def _picture_heading(rows: Sequence[ExamRow]) -> str:
    shown = {_pictured(row) for row in rows if row.thumbnail}
    return MAPS[shown.pop()].title if len(shown) == 1 else "picture"


def _row(row: ExamRow, far: Sequence[str]) -> str:
    late = "" if row.tmax_over_6s_ml is None else f"{row.tmax_over_6s_ml:.6g}"
    split = html.escape(row.split or "")
    cells = [
        _picture(row),
        f'<th scope="row">{_name(row)}</th>',
        _words(row, far),
        f'<td class="minor split" data-value="{split}">{split or UNDEFINED}</td>',
        *(_number(column, getattr(row, column.field)) for column in _COLUMNS),
    ]
    return sortable.row(_kinds(row, far), cells, late)


def _kinds(row: ExamRow, far: Sequence[str]) -> list[str]:
    found = {"failed": row.status == FAILED, "warnings": bool(row.warnings), "unlike": bool(far)}
    return [kind for kind, is_so in found.items() if is_so] or ["unremarkable"]


def _picture(row: ExamRow) -> str:
    if not row.thumbnail:
        return '<td class="picture"></td>'
    text = html.escape(f"{MAPS[_pictured(row)].title} of {row.subject}")
    image = f'<img src="{sortable.link(row.thumbnail)}" alt="{text}" loading="lazy" width="72" height="72">'
    return f'<td class="picture">{image}</td>'


def _name(row: ExamRow) -> str:
    name = html.escape(row.subject)
    return f'<a href="{sortable.link(row.page)}">{name}</a>' if row.page else name


def _words(row: ExamRow, far: Sequence[str]) -> str:
    """Status, names of warnings and what is far from the others; sorted by how much there is of it."""
    tags = [sortable.tag("failed", "failed")] if row.status == FAILED else []
    tags += [sortable.tag("warning", name, NAMES.get(name, "")) for name in row.warnings]
    lines = [row.reason] if row.reason else []
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    unlike = "".join(sortable.tag("unlike", sentence) for sentence in far)
    rank = f"{0 if row.status == FAILED else 1}{99 - len(row.warnings) - len(far):02d}"
    return f'<td class="words" data-value="{rank}">{"".join(tags)}{unlike}{text}</td>'


def _number(column: _Column, value: float | None) -> str:
    stored = "" if value is None else f"{value:.6g}"
    return sortable.cell(column.title, parts.number(value, column.form), stored, minor=column.minor)


def _provenance(source: str, made_of: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Folder, and every setting."""
    settings = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in made_of.items()
        if value is not None
    ]
    return [("Exams", source), *settings, ("All numbers", "summary.csv")]
