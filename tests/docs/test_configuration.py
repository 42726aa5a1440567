"""The reference of all fields is what the script makes of configs/default.py, and it is whole."""

import pathlib

import make_configuration as script
import ml_collections

from dscgan_jax.configs import default

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def paths_of(config, before=""):
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from paths_of(value, f"{before}{name}.")
        else:
            yield before + name


def test_the_page_is_what_the_script_makes():
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == script.page(), (
        "run python docs/make_configuration.py"
    )


def test_every_field_has_a_row_and_words():
    words = script.comments()
    assert set(words) == set(paths_of(default.get_config()))
    assert not [path for path, said in words.items() if not said]
    rows = script.page().splitlines()
    assert all(sum(row.startswith(f"| `{path}` |") for row in rows) == 1 for path in words)


def test_a_row_says_what_the_config_says():
    [row] = [row for row in script.page().splitlines() if row.startswith("| `data.time_mode` |")]
    assert row.split(" | ")[1] == "`'stretch'`"
    assert "One of `stretch`, `seconds`" in row and "`:demo`: `'seconds'`" in row and "train, prepare" in row
