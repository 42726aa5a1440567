"""A table of exams that one can sort and filter: its look, its script, its parts.

The script is inside the page; without it the page is a plain table.
"""

import html
import pathlib
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence

SCRIPT = pathlib.Path(__file__).with_name("sortable.js")
STYLE = """
body { max-width: 1500px; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: .8rem 0; }
.filters label { display: grid; font-size: .85rem; color: var(--muted); }
.filters input, .filters select, .filters button { font: inherit; color: var(--ink); padding: .3rem .5rem;
  border: 1px solid #9aa5b1; border-radius: 4px; background: white; min-height: 2.3rem; }
.filters input[type=number] { width: 7rem; }
#shown { margin: .4rem 0; color: var(--muted); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 1px; }
table.sortable th, table.sortable td { vertical-align: middle; }
table.sortable thead th { padding: 0; }
table.sortable thead th[data-kind=words] { text-align: left; }
table.sortable thead button { font: inherit; color: inherit; background: none; border: 0; padding: .4rem .5rem;
  cursor: pointer; width: 100%; text-align: inherit; vertical-align: bottom; }
table.sortable thead .picture { padding: .4rem .5rem; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
table.sortable td.split { text-align: left; }
table.sortable tbody th, table.sortable .words { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.sortable tbody th { min-width: 7rem; }
table.sortable .words { min-width: 14rem; max-width: 26rem; }
table.sortable .words p { margin: .1rem 0; }
table.sortable td.picture { padding: .2rem .4rem; min-width: 84px; }
table.sortable td.picture img { width: 72px; height: 72px; object-fit: contain; background: black; }
.tag { display: inline-block; padding: 0 .4rem; border-radius: 3px; font-size: .8rem; margin: .05rem .2rem .05rem 0; }
.tag.failed { background: #9b2c2c; color: white; }
.tag.warning { background: #f6e2b3; color: #5c4310; }
.tag.unlike { background: #dbe7f3; color: #123f66; }
@media (min-width: 701px) { .narrow { display: none !important; } }
@media (max-width: 700px) { body { padding: 1.2rem .7rem; }
  table.sortable thead { display: none; }
  table.sortable, table.sortable tbody, table.sortable tr { display: block; }
  table.sortable td, table.sortable tbody th { display: block; }
  table.sortable tr:not([hidden]) { display: grid; grid-template-columns: 84px 1fr 1fr; gap: .1rem .6rem;
    padding: .6rem 0; border-bottom: 1px solid var(--line); }
  table.sortable tr[hidden] { display: none; }
  table.sortable td, table.sortable tbody th { border: 0; padding: 0; text-align: left; min-width: 0; }
  table.sortable td.picture { grid-row: span 4; padding: 0; }
  table.sortable td.split { text-align: left; }
table.sortable tbody th, table.sortable .words { grid-column: 2 / -1; max-width: none; }
  table.sortable td[data-name]::before { content: attr(data-name) " "; color: var(--muted); }
  table.plain tr:not([hidden]) { grid-template-columns: 1fr 1fr; }
  table.plain tbody th, table.plain .words { grid-column: 1 / -1; }
  table.sortable td.minor, table.sortable td.absent { display: none; } }
"""


def style() -> str:
    """The look, as HTML."""
    return f"<style>{STYLE}</style>"


def script() -> str:
    """What sorts and filters, as HTML."""
    return f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"


def filters(kinds: Mapping[str, str], first: str, least: str = "") -> str:
    """Fields to search and choose with.

    Args:
      kinds: {kind of row: its title}.
      first: how the rows are ordered at first.
      least: what a number at least is asked of, `data-late` of a row; empty: of none.
    """
    choices = "".join(f'<option value="{kind}">{html.escape(title)}</option>' for kind, title in kinds.items())
    number = (
        f'<label for="least">{html.escape(least)}<input id="least" type="number" min="0" step="any"></label>'
        if least
        else ""
    )
    return (
        '<div class="filters" role="search" hidden>'
        '<label for="words">Words in a row<input id="words" type="search" autocomplete="off"></label>'
        f'<label for="kind">Which exams<select id="kind"><option value="">all</option>{choices}</select></label>'
        f'<label for="order" class="narrow">Sorted by<select id="order"><option value="">{html.escape(first)}</option>'
        f'</select></label>{number}<button id="reset" type="button">All, {html.escape(first)}</button></div>'
        '<p id="shown" role="status" aria-live="polite"></p>'
    )


def table(head: Iterable[str], rows: Iterable[str], *, pictures: bool = True) -> str:
    """Headings and rows, as HTML each; whether each row begins with a picture."""
    kind = "sortable" if pictures else "sortable plain"
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="Exams"><table class="{kind}">'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def heading(title: str, kind: str) -> str:
    """Of a column of `words` or `number`s."""
    return (
        f'<th scope="col" data-kind="{kind}" aria-sort="none"><button type="button">{html.escape(title)}</button></th>'
    )


def row(kinds: Sequence[str], cells: Iterable[str], late: str = "") -> str:
    """A row of the kinds of `filters`; `late` is the number that `least` is asked of."""
    number = f' data-late="{html.escape(late)}"' if late else ""
    return f'<tr data-kind="{html.escape(" ".join(kinds))}"{number}>{"".join(cells)}</tr>'


def link(path: str) -> str:
    """A relative path as an address: `./` keeps a colon in a name from being read as that of a protocol."""
    return html.escape("./" + urllib.parse.quote(path))


def tag(kind: str, text: str, meaning: str = "") -> str:
    """A word in a box of its kind: `failed`, `warning` or `unlike`."""
    title = f' title="{html.escape(meaning)}"' if meaning else ""
    return f'<span class="tag {kind}"{title}>{html.escape(text)}</span>'


def cell(name: str, shown: str, stored: str, *, minor: bool = False) -> str:
    """A value.

    Args:
      name: of its column.
      shown: as it is read.
      stored: as it is sorted; empty: undefined.
      minor: whether a narrow screen leaves it out.
    """
    kinds = [kind for kind, is_so in (("minor", minor), ("absent", not stored)) if is_so]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<td{kind} data-name="{html.escape(name)}" data-value="{html.escape(stored)}">{html.escape(shown)}</td>'
