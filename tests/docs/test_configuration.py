"""The reference of all fields is what the script makes of configs/default.py, and it is whole."""

import importlib.util
import pathlib

import ml_collections
import pytest

from dscgan_jax.configs import default

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_configuration", DOCS / "make_configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def paths_of(config, before=""):
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from paths_of(value, f"{before}{name}.")
        else:
            yield before + name


def test_the_page_is_what_the_script_makes(script):
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == script.page(), (
        "run python docs/make_configuration.py"
    )


def test_every_field_has_a_row_and_words(script):
    words = script.comments()
    assert set(words) == set(paths_of(default.get_config()))
    assert not [path for path, said in words.items() if not said]
    rows = script.page().splitlines()
    assert all(sum(row.startswith(f"| `{path}` |") for row in rows) == 1 for path in words)


def test_a_row_says_what_the_config_says(script):
    [row] = [row for row in script.page().splitlines() if row.startswith("| `data.time_mode` |")]
    assert row.split(" | ")[1] == "`'stretch'`"
    assert "One of `stretch`, `seconds`" in row and "`:demo`: `'seconds'`" in row and "train, prepare" in row
