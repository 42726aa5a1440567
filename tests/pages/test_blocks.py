"""The same blocks as HTML and as Markdown."""

from dscgan_jax.pages import blocks
from dscgan_jax.pages.blocks import Bullets, Heading, Picture, Table, Text

PAGE = [
    Bullets(["a < b"], "brief"),
    Heading("Numbers & more"),
    Text("2 > 1"),
    Table("A|B", ("method", "MAE"), [["x|y", "0.5"]]),
    Table("Folded", ("method", "MAE"), [["z", "1"]], folded=True),
    Picture("bars", b"\x89PNG", "Bars of all"),
]


def test_html_escapes_what_came_from_files_and_begins_a_section_with_each_heading():
    sections = blocks.to_html(PAGE)
    assert len(sections) == 2
    assert "a &lt; b" in sections[0] and 'class="brief"' in sections[0]
    assert "<h2>Numbers &amp; more</h2>" in sections[1]
    assert "<summary>Folded</summary>" in sections[1] and "data:image/png;base64," in sections[1]


def test_markdown_has_its_pictures_beside_it(tmp_path):
    blocks.write_markdown(tmp_path / "study.md", "Title", PAGE)
    text = (tmp_path / "study.md").read_text()
    assert text.startswith("# Title\n") and "## Numbers & more" in text
    assert "| x\\|y | 0.5 |" in text
    assert "![Bars of all](study_bars.png)" in text and (tmp_path / "study_bars.png").read_bytes() == b"\x89PNG"
