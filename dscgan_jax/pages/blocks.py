"""A page as a list of blocks, written as one HTML file or as Markdown with its pictures beside it."""

import dataclasses
import html
import pathlib
from collections.abc import Sequence

from dscgan_jax.files import write_whole
from dscgan_jax.pages import parts


@dataclasses.dataclass(frozen=True)
class Heading:
    """Begins a section.

    Attributes:
      text: plain.
    """

    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
      text: plain.
    """

    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list.

    Attributes:
      items: plain texts.
      kind: class of its box on a page: `brief`, `warnings`, or none.
    """

    items: Sequence[str]
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names something.

    Attributes:
      title: above it.
      head: of all columns.
      lines: cells of each line, plain texts.
      folded: whether a click opens it.
    """

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
      name: of its file, without ending.
      png: its content.
      caption: plain.
    """

    name: str
    png: bytes
    caption: str


Block = Heading | Text | Bullets | Table | Picture


def to_html(blocks: Sequence[Block]) -> list[str]:
    """Sections of a page, for `parts.page`; what comes before the first heading is a section without one."""
    sections: list[list[str]] = [[]]
    for block in blocks:
        if isinstance(block, Heading):
            sections.append([f"<h2>{html.escape(block.text)}</h2>"])
        else:
            sections[-1].append(_html(block))
    return [f"<section>{''.join(section)}</section>" for section in sections if section]


def _html(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Bullets):
        listed = parts.bullets(block.items)
        return f'<div class="{block.kind}">{listed}</div>' if block.kind else listed
    if isinstance(block, Picture):
        return (
            f"<figure>{parts.image(block.png, block.caption)}"
            f"<figcaption>{html.escape(block.caption)}</figcaption></figure>"
        )
    assert isinstance(block, Table)
    shown = parts.table(block.head, [(line[0], line[1:]) for line in block.lines], titles=False)
    if block.folded:
        return parts.details(block.title, shown)
    return (f"<h3>{html.escape(block.title)}</h3>" if block.title else "") + shown


def write_markdown(path: pathlib.Path, title: str, blocks: Sequence[Block]) -> None:
    """Writes the page as Markdown, its pictures beside it as `<page>_<name>.png`."""
    lines = [f"# {title}"]
    for block in blocks:
        if isinstance(block, Picture):
            picture = path.with_name(f"{path.stem}_{block.name}.png")
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(block.png)
            lines += ["", f"![{block.caption}]({picture.name})", "", block.caption]
        else:
            lines += ["", *_markdown(block)]
    write_whole(path, "\n".join(lines) + "\n")


def _markdown(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return [f"## {block.text}"]
    if isinstance(block, Text):
        return [block.text]
    if isinstance(block, Bullets):
        return [f"- {item}" for item in block.items]
    assert isinstance(block, Table)
    rows = [block.head, ["---"] * len(block.head), *block.lines]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if block.folded:
        return [f"<details><summary>{html.escape(block.title)}</summary>", "", *table, "", "</details>"]
    return [f"### {block.title}", "", *table] if block.title else table
