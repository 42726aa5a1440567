"""The pages of docs/ as a site: python -m sphinx -W docs docs/_build.

They are plain Markdown, which reads well on the repository's pages, too.
"""

import json

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

import dscgan_jax

project, author = "dscgan_jax", "the dscgan_jax authors"
version = release = dscgan_jax.__version__
extensions = [
    "myst_parser",  # pages are Markdown
    "sphinx.ext.autodoc",  # the Python interface, from its docstrings
    "sphinx.ext.napoleon",  # which are in Google style
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]  # the formulas of physics.md, which the repository's page shows too
myst_heading_anchors = 3  # links to sections, #as-the-repository-names-them
smartquotes = False  # -- is that of a flag
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures have names and defaults; docstrings have shapes and units
html_theme = "furo"
html_title = f"dscgan_jax {version}"
html_copy_source = False


class Notebook(MystParser):
    """A notebook without outputs as a page: its text, and its code in blocks.

    The well-kept extensions for notebooks start kernels and bring a dozen packages; nothing has to be run here, where a
    test runs the cells.
    """

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """The document tree of a notebook's JSON."""
        cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(inputstring)["cells"])
        pieces = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells]
        super().parse("\n\n".join(pieces), document)


def setup(app: Sphinx) -> None:
    """Notebooks beside Markdown."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(Notebook)
