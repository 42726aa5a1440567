"""The pages of docs/ become a site without a warning, and none of them is lost."""

import pathlib
import re

import pytest
from sphinx.application import Sphinx

import dscgan_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of MyST within Sphinx


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site; a warning, such as a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    app = Sphinx(DOCS, DOCS, folder, folder / "doctrees", "html", status=None, warningiserror=True)
    app.build()
    assert app.statuscode == 0
    return folder


@pytest.mark.slow
def test_every_page_is_on_the_site_and_on_its_front_page(site):
    front = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert (site / f"{page.stem}.html").is_file()
        assert page.stem == "index" or f"]({page.name})" in front, f"docs/index.md does not name {page.name}"


def test_the_whole_public_interface_is_explained(site):
    shown = (site / "api.html").read_text(encoding="utf-8")
    missing = [name for name in dscgan_jax.__all__ if f'id="dscgan_jax.{name}"' not in shown]
    assert not missing


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name)
def test_links_on_the_repositorys_pages_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not lost
