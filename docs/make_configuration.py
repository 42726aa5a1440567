"""Writes docs/configuration.md from configs/default.py: python docs/make_configuration.py.

Defaults are those that the config has, words its comments; who reads a field comes from `app.options`, which values it
takes from `settings`. A test fails where the page is not what this script makes.
"""

import io
import pathlib
import re
import tokenize

from ml_collections import ConfigDict

from dscgan_jax import settings
from dscgan_jax.app import options
from dscgan_jax.configs import default

PAGE = pathlib.Path(__file__).resolve().parent / "configuration.md"
VARIANTS = ("demo", "published")
TITLES = {
    "": "The run",
    "data": "Exams, and the network's input",
    "phantom": "Simulated exams",
    "model": "Networks",
    "loss": "Losses",
    "train": "Training",
    "evaluate": "Evaluation and prediction",
    "conventional": "Conventional maps",
}
OPENING = """# Configuration

Made from `configs/default.py` by `python docs/make_configuration.py`; not edited by hand.

A config file in `configs/` says only what differs from these defaults: the paper's setting, except that the input is 0
outside the brain, ranges are the 0.1-99.9 percentile and the initialisation is that of pix2pix. With `:demo` or
`:published` behind its name, the values of that variant hold where they are named. `--config.SECTION.FIELD=VALUE` on
the command line overrides one field, as in `--config.train.batch_size=8`. A misspelt field is an error, and so is one
that the mode does not read.
"""


def comments() -> dict[str, str]:
    """{path of the field: what default.py says about it, above it and on its own line}, in the order of that file."""
    source = pathlib.Path(default.__file__).read_text(encoding="utf-8")
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    words: dict[str, str] = {}
    section, above = "", []
    for number, line in enumerate(source.splitlines(), 1):
        code = line.strip()
        if code.startswith("#"):
            above.append(said[number])
            continue
        if found := re.match(r"config\.(\w+) = \w+ = ml_collections\.ConfigDict\(\)", code):
            section = f"{found[1]}."
        elif found := re.match(r"(\w+)\.(\w+) = ", code):  # not config.data.size = , by which a variant sets one again
            path = found[2] if found[1] == "config" else section + found[2]
            words.setdefault(path, " ".join([*above, said.get(number, "")]).strip())
        above = []
    return words


def page() -> str:
    """The whole page."""
    words, config = comments(), default.get_config()
    variants = {name: default.get_config(name) for name in VARIANTS}
    parts = [OPENING]
    for section in dict.fromkeys(path.rpartition(".")[0] for path in words):
        rows = [_row(path, words[path], config, variants) for path in words if path.rpartition(".")[0] == section]
        head = f"## {TITLES.get(section, section)}\n\n| field | default | what it is | read by |\n|---|---|---|---|"
        parts.append("\n".join([head, *rows, ""]))
    return "\n".join(parts)


def value_of(config: ConfigDict, path: str) -> str:
    """As one writes it in Python."""
    value = config
    for name in path.split("."):
        value = value[name]
    return repr(value)


def _row(path: str, words: str, config: ConfigDict, variants: dict[str, ConfigDict]) -> str:
    own, told = value_of(config, path), [words]
    if path in settings.CHOICES:
        told.append("One of " + ", ".join(f"`{choice}`" for choice in settings.CHOICES[path]))
    for name, variant in variants.items():
        if (other := value_of(variant, path)) != own:
            told.append(f"`:{name}`: `{other}`")
    sentences = ". ".join(one.removesuffix(".") for one in told)
    readers = ", ".join(options.summed_up(options.readers_of(path)))
    return f"| `{path}` | `{own}` | {sentences} | {readers} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
