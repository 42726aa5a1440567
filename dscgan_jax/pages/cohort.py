"""The page of a cohort: a table of its exams that one can sort and filter, outliers first, with links to their pages.

The table and its small script are inside the page; thumbnails and the exams' pages are found beside it, by relative
paths, so that the folder may be moved as a whole.
"""

import dataclasses
import datetime
import html
import json
import pathlib
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dscgan_jax.evaluation import exam_rows
from dscgan_jax.evaluation.exam_rows import FAILED, MADE, ExamRow
from dscgan_jax.figures.ink import CONTOUR_SECONDS, METHOD_TITLES
from dscgan_jax.findings import NAMES
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts
from dscgan_jax.pages.parts import UNDEFINED, bullets, counted, definitions, section

SCRIPT = pathlib.Path(__file__).with_name("cohort.js")
KINDS = {"failed": "failed", "warnings": "with warnings", "unlike": "unlike the others", "unremarkable": "unremarkable"}
NOTE = """<p>Outliers come first: exams that failed, then those with warnings, then those with a volume or a median far
from that of the others (more than 3.5 robust standard deviations). A click on a heading sorts. The pictures show Tmax,
0 to 12 s, of the slice with most tissue above 6 s; the patient's right is at the left.</p>"""
_STYLE = """
body { max-width: 1500px; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: .8rem 0; }
.filters label { display: grid; font-size: .85rem; color: var(--muted); }
.filters input, .filters select, .filters button { font: inherit; color: var(--ink); padding: .3rem .5rem;
  border: 1px solid #9aa5b1; border-radius: 4px; background: white; min-height: 2.3rem; }
.filters input[type=number] { width: 7rem; }
#shown { margin: .4rem 0; color: var(--muted); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 1px; }
table.cohort th, table.cohort td { vertical-align: middle; }
table.cohort thead th { padding: 0; }
table.cohort thead th[data-kind=words] { text-align: left; }
table.cohort thead button { font: inherit; color: inherit; background: none; border: 0; padding: .4rem .5rem;
  cursor: pointer; width: 100%; text-align: inherit; vertical-align: bottom; }
table.cohort thead .picture { padding: .4rem .5rem; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
table.cohort td.split { text-align: left; }
table.cohort tbody th, table.cohort .words { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.cohort tbody th { min-width: 7rem; }
table.cohort .words { min-width: 14rem; max-width: 26rem; }
table.cohort .words p { margin: .1rem 0; }
table.cohort td.picture { padding: .2rem .4rem; min-width: 84px; }
table.cohort td.picture img { width: 72px; height: 72px; object-fit: contain; background: black; }
.tag { display: inline-block; padding: 0 .4rem; border-radius: 3px; font-size: .8rem; margin: .05rem .2rem .05rem 0; }
.tag.failed { background: #9b2c2c; color: white; }
.tag.warning { background: #f6e2b3; color: #5c4310; }
.tag.unlike { background: #dbe7f3; color: #123f66; }
@media (min-width: 701px) { .narrow { display: none !important; } }
@media (max-width: 700px) { body { padding: 1.2rem .7rem; }
  table.cohort thead { display: none; }
  table.cohort, table.cohort tbody, table.cohort tr, table.cohort td, table.cohort tbody th { display: block; }
  table.cohort tr:not([hidden]) { display: grid; grid-template-columns: 84px 1fr 1fr; gap: .1rem .6rem;
    padding: .6rem 0; border-bottom: 1px solid var(--line); }
  table.cohort tr[hidden] { display: none; }
  table.cohort td, table.cohort tbody th { border: 0; padding: 0; text-align: left; min-width: 0; }
  table.cohort td.picture { grid-row: span 4; padding: 0; }
  table.cohort td.split { text-align: left; }
table.cohort tbody th, table.cohort .words { grid-column: 2 / -1; max-width: none; }
  table.cohort td[data-name]::before { content: attr(data-name) " "; color: var(--muted); }
  table.cohort td.minor, table.cohort td.absent { display: none; } }
"""


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
        f"<style>{_STYLE}</style>",
        section("In brief", bullets(_brief(rows, total, unlike)), kind="brief"),
        _warnings(rows),
        section("Exams", NOTE, _filters(), _table(ordered, unlike)),
        section("How the maps were made", definitions(_provenance(source, made_of))),
        f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
    ]
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return parts.page(f"{counted(total, 'exam')}", f"a cohort {_made_by(rows)}", created, sections)


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


def _filters() -> str:
    kinds = "".join(f'<option value="{kind}">{title}</option>' for kind, title in KINDS.items())
    return (
        '<div class="filters" role="search" hidden>'
        '<label for="words">Words in a row<input id="words" type="search" autocomplete="off"></label>'
        f'<label for="kind">Which exams<select id="kind"><option value="">all</option>{kinds}</select></label>'
        '<label for="order" class="narrow">Sorted by<select id="order"><option value="">outliers first</option>'
        '</select></label><label for="least">Tmax &gt; 6 s at least [mL]'
        '<input id="least" type="number" min="0" step="any"></label>'
        '<button id="reset" type="button">All, outliers first</button></div>'
        '<p id="shown" role="status" aria-live="polite"></p>'
    )


def _table(rows: Sequence[ExamRow], unlike: Mapping[str, Sequence[str]]) -> str:
    head = [
        '<th scope="col" class="picture">Tmax</th>',
        _heading("exam", "words"),
        _heading("status and warnings", "words"),
        _heading("split", "words"),
        *(_heading(column.title, "number") for column in _COLUMNS),
    ]
    body = "".join(_row(row, unlike.get(row.subject, ())) for row in rows)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Exams"><table class="cohort">'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _heading(title: str, kind: str) -> str:
    return (
        f'<th scope="col" data-kind="{kind}" aria-sort="none"><button type="button">{html.escape(title)}</button></th>'
    )


def _row(row: ExamRow, far: Sequence[str]) -> str:
    late = "" if row.tmax_over_6s_ml is None else f' data-late="{row.tmax_over_6s_ml:.6g}"'
    split = html.escape(row.split or "")
    cells = [
        _picture(row),
        f'<th scope="row">{_name(row)}</th>',
        _words(row, far),
        f'<td class="minor split" data-value="{split}">{split or UNDEFINED}</td>',
        *(_number(column, getattr(row, column.field)) for column in _COLUMNS),
    ]
    return f'<tr data-kind="{" ".join(_kinds(row, far))}"{late}>{"".join(cells)}</tr>'


def _kinds(row: ExamRow, far: Sequence[str]) -> list[str]:
    found = {"failed": row.status == FAILED, "warnings": bool(row.warnings), "unlike": bool(far)}
    return [kind for kind, is_so in found.items() if is_so] or ["unremarkable"]


def _picture(row: ExamRow) -> str:
    if not row.thumbnail:
        return '<td class="picture"></td>'
    text = html.escape(f"Tmax of {row.subject}")
    image = f'<img src="{_link(row.thumbnail)}" alt="{text}" loading="lazy" width="72" height="72">'
    return f'<td class="picture">{image}</td>'


def _name(row: ExamRow) -> str:
    name = html.escape(row.subject)
    return f'<a href="{_link(row.page)}">{name}</a>' if row.page else name


def _link(path: str) -> str:
    """A relative path as an address: `./` keeps a colon in a name from being read as that of a protocol."""
    return html.escape("./" + urllib.parse.quote(path))


def _words(row: ExamRow, far: Sequence[str]) -> str:
    """Status, names of warnings and what is far from the others; sorted by how much there is of it."""
    tags = [_tag("failed", "failed")] if row.status == FAILED else []
    tags += [_tag("warning", name, NAMES.get(name, "")) for name in row.warnings]
    lines = [row.reason] if row.reason else []
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    unlike = "".join(_tag("unlike", sentence) for sentence in far)
    rank = f"{0 if row.status == FAILED else 1}{99 - len(row.warnings) - len(far):02d}"
    return f'<td class="words" data-value="{rank}">{"".join(tags)}{unlike}{text}</td>'


def _tag(kind: str, text: str, meaning: str = "") -> str:
    title = f' title="{html.escape(meaning)}"' if meaning else ""
    return f'<span class="tag {kind}"{title}>{html.escape(text)}</span>'


def _number(column: _Column, value: float | None) -> str:
    kinds = [name for name, is_so in (("minor", column.minor), ("absent", value is None)) if is_so]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    stored = "" if value is None else f"{value:.6g}"
    shown, name = parts.number(value, column.form), html.escape(column.title)
    return f'<td{kind} data-name="{name}" data-value="{stored}">{shown}</td>'


def _provenance(source: str, made_of: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Folder, and every setting."""
    settings = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in made_of.items()
        if value is not None
    ]
    return [("Exams", source), *settings, ("All numbers", "summary.csv")]
