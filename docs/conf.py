"""The pages of docs/ as a site: python -m sphinx -W docs docs/_build.

They are plain Markdown, which reads well on the repository's pages, too.
"""

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
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures have names and defaults; docstrings have shapes and units
html_theme = "furo"
html_title = f"dscgan_jax {version}"
html_copy_source = False
