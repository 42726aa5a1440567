"""The read-out of an exam on its page: one column for each method, and what the numbers mean."""

import html
from collections.abc import Mapping

from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.pages.parts import bullets, details


def sentences(found: ReadOut) -> list[str]:
    """The most of it in a few sentences."""
    return [f"{line[:1].upper()}{line[1:]}." for line in found.lines()]


def table(found: Mapping[str, ReadOut]) -> str:
    """Volumes, core and criteria, a column for each method, as HTML.

    Args:
      found: {title of the method: its read-out}.
    """
    rows = {title: [row for row in one.rows() if row not in one.contrast_rows()] for title, one in found.items()}
    return _table("Read-out, research only", rows)


def regions(found: Mapping[str, ReadOut]) -> str:
    """Regions compared with each other, likewise, behind a click."""
    rows = {title: one.contrast_rows() for title, one in found.items()}
    return details("Hemispheres, late tissue, its mirror and white matter", _table("Means of regions", rows))


def _table(caption: str, found: Mapping[str, list[tuple[str, str, str]]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in found)
    body = ""
    for line in zip(*found.values(), strict=True):
        values = "".join(f"<td>{html.escape(value)}</td>" for _, value, _ in line)
        body += f"<tr><th>{html.escape(line[0][0])}</th>{values}</tr>"
    heading = f"<thead><tr><th></th>{head}</tr></thead>" if len(found) > 1 else ""
    return f'<table class="readout"><caption>{caption}</caption>{heading}<tbody>{body}</tbody></table>'


def remarks(found: Mapping[str, ReadOut]) -> str:
    """What is doubtful, and behind a click the definition of each value, as HTML."""
    several = len(found) > 1
    doubts = [f"{title}: {one}" if several else one for title, read in found.items() for one in read.remarks]
    meant = [
        f"{f'{title}, ' if several else ''}{name}: {remark}"
        for title, read in found.items()
        for name, _, remark in read.rows()
        if remark
    ]
    listed = bullets(one[:1].upper() + one[1:] + "." for one in doubts) if doubts else ""
    return listed + details("What the read-out means", bullets(dict.fromkeys(meant)))
