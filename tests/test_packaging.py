"""What is installed: one version, the command, the configs, the marker of types, and no dependency without use."""

import ast
import fnmatch
import importlib.metadata
import pathlib
import re

import pytest

import dscgan_jax
from dscgan_jax import main, shipped
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.training import weights
from dscgan_jax.training.record import SIMULATED

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What a library installs under another name, or for another library (setup.py says for which).
IMPORTED_AS = {
    "orbax-checkpoint": "orbax",
    "absl-py": "absl",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "tensorflow-datasets": "tensorflow_datasets",
    "pillow": "PIL",
}
FOR_OTHERS = {
    "importlib_resources",
    "flatbuffers",
    "array_record",
    "pytest-xdist",
    "bids-validator-deno",
    "dcm2niix",
    "playwright",
}


def requirements(name: str) -> list[str]:
    """Names in a list of setup.py, those of another list in it left out."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    [found] = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name]
    named = (element.value for element in found.elts if isinstance(element, ast.Constant))
    return [re.match(r"[\w-]+", value)[0] for value in named]


def imports_below(*folders: str) -> set[str]:
    """Top-level modules that Python files import."""
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return found


def test_the_installed_version_is_that_of_the_package():
    assert importlib.metadata.version("dscgan_jax") == dscgan_jax.__version__


def test_the_command_enters_where_the_module_does():
    [command] = importlib.metadata.entry_points(group="console_scripts", name="dscgan-jax")
    assert command.load() is main.entry


def test_types_are_marked():
    assert (ROOT / "dscgan_jax" / "py.typed").is_file()
    assert "py.typed" in package_data()


def package_data() -> list[str]:
    """What the wheel holds beside modules."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    [call] = [node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    [listed] = [ast.literal_eval(one.value) for one in call.keywords if one.arg == "package_data"]
    return listed["dscgan_jax"]


def test_the_shipped_network_and_its_card_go_into_the_wheel_and_are_small():
    package = shipped.FOLDER.parent
    for name in shipped.NAMES:
        path = shipped.FOLDER / f"{name}{shipped.SUFFIX}"
        relative = [str(one.relative_to(package)) for one in (path, path.with_suffix(".md"))]
        assert all(any(fnmatch.fnmatch(one, pattern) for pattern in package_data()) for one in relative)
        if path.exists():
            network = weights.read(path)
            assert (network.name, network.trained_on) == (name, SIMULATED)
            assert network.record.scaling.targets == MAP_NAMES
            assert path.stat().st_size <= 10e6 and network.sha256 in path.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("name", "folders"), [("REQUIREMENTS", ("dscgan_jax", "configs")), ("TEST", ("tests",))], ids=["package", "tests"]
)
def test_each_requirement_is_imported(name, folders):
    imported = imports_below(*folders)
    wanted = {IMPORTED_AS.get(one, one) for one in requirements(name) if one not in FOR_OTHERS}
    assert len(wanted) > 2
    assert wanted <= imported, f"nobody imports {sorted(wanted - imported)}"


def test_the_changelog_tells_of_this_version():
    assert f"\n## {dscgan_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
