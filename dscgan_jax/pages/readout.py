"""The read-out of an exam on its page: one column for each method, and what the numbers mean."""

import html
from collections.abc import Mapping

from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.pages.parts import bullets, details


def sentences(found: ReadOut) -> list[str]:
    """The most of it in a few sentences."""
    return [f"{line[:1].upper()}{line[1:]}." for line in found.lines()]


def table(found: Mapping[str, ReadOut]) -> str:
    """Names and values, a column for each method, as HTML.

    Args:
      found: {title of the method: its read-out}.
    """
    head = "".join(f"<th>{html.escape(title)}</th>" for title in found)
    lines = zip(*(one.rows() for one in found.values()), strict=True)
    body = ""
    for line in lines:
        values = "".join(f"<td>{html.escape(value)}</td>" for _, value, _ in line)
        body += f"<tr><th>{html.escape(line[0][0])}</th>{values}</tr>"
    heading = f"<thead><tr><th></th>{head}</tr></thead>" if len(found) > 1 else ""
    return f'<table class="readout"><caption>Read-out, research only</caption>{heading}<tbody>{body}</tbody></table>'


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
