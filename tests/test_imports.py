"""The arrows of the package go one way, from the ground to `main`: read from the folders and from fresh processes."""

import ast
import graphlib
import json
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "dscgan_jax"
# From left to right; rooms in one pair of brackets do not know each other. A file on the ground is no room's.
ROOMS = (
    ("ground",),
    ("kept",),
    ("models", "perfusion"),
    ("figures", "data"),
    ("phantom",),
    ("evaluation",),
    ("training",),
    ("pages",),
    ("methods",),
    ("speed",),
    ("app",),
    ("main", "study"),
)
TIERS = {room: tier for tier, rooms in enumerate(ROOMS) for room in rooms}
ARITHMETIC = ("nibabel.affines", "nibabel.orientations")
# The public names of the package, and of its rooms, are found when they are asked for.
DOORS = set(PACKAGE.rglob("__init__.py"))


def modules() -> dict[str, pathlib.Path]:
    """Every file of the package by its dotted name below it."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path not in DOORS
    }


def room_of(module: str) -> str:
    first, dot, _ = module.partition(".")
    return first if dot or first == "main" else "ground"


def imported(path: pathlib.Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it: of modules, and of what it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: pathlib.Path, known: dict[str, pathlib.Path]) -> set[str]:
    """Modules of the package that a file imports."""
    names = {name.removeprefix("dscgan_jax.") for name in imported(path) if name.startswith("dscgan_jax.")}
    return {next((one for one in (name, name.rpartition(".")[0]) if one in known), "") for name in names} - {""}


ARROWS = {module: own(path, modules()) for module, path in modules().items()}


def test_every_folder_is_a_room():
    assert {room_of(module) for module in ARROWS} == TIERS.keys()
    assert sum(len(arrows) for arrows in ARROWS.values()) > 100  # imports were found


def test_a_module_imports_only_from_its_own_room_or_from_rooms_to_the_left():
    wrong = [
        f"{module} -> {other}"
        for module, others in ARROWS.items()
        for other in sorted(others)
        if room_of(other) != room_of(module) and TIERS[room_of(other)] >= TIERS[room_of(module)]
    ]
    assert not wrong, wrong


def test_modules_of_a_room_do_not_import_each_other_in_a_circle():
    try:
        tuple(graphlib.TopologicalSorter(ARROWS).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_doors_import_nothing_of_the_package_before_it_is_asked_for():
    eager = {
        str(path.relative_to(PACKAGE)): names
        for path in DOORS
        if (names := {name for name in _at_import(path) if name.startswith("dscgan_jax")})
    }
    assert not eager, eager


def _at_import(path: pathlib.Path) -> set[str]:
    """Modules that a file imports when it is imported, functions left out."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }


def users_of(library: str) -> set[str]:
    return {
        module
        for module, path in modules().items()
        if any(name == library or name.startswith(f"{library}.") for name in imported(path))
    }


def test_only_the_readers_of_files_know_nibabel():
    """Its arithmetic on affines and axes is for anybody."""
    files = {
        module
        for module in users_of("nibabel")
        if not all(name.startswith(ARITHMETIC) for name in imported(modules()[module]) if name.startswith("nibabel"))
    }
    assert "data.nifti" in files
    assert files <= {"data.nifti", "data.headers"}


def test_only_the_front_door_knows_flags():
    knowing = users_of("absl") | users_of("ml_collections.config_flags")
    assert "main" in knowing
    assert {room_of(module) for module in knowing} <= {"main", "app"}


def test_perfusion_and_data_know_no_networks():
    networks = ("models.", "training.")
    assert not {
        f"{module} -> {other}"
        for module, others in ARROWS.items()
        if room_of(module) in ("perfusion", "data")
        for other in others
        if other.startswith(networks)
    }


def loaded_by(module: str) -> set[str]:
    """Top-level modules that a fresh process has after importing one."""
    script = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "needed", "spared"),
    [
        ("dscgan_jax", set(), {"numpy", "jax", "flax", "nibabel"}),
        # A kept program needs neither layers nor an optimiser; pictures and pages come after the maps.
        ("dscgan_jax.methods.network", {"jax"}, {"flax", "optax", "tensorflow_datasets", "grain", "matplotlib"}),
        # What draws beside a process that computes is started before anything slow is imported.
        ("dscgan_jax.figures.apart", set(), {"numpy", "jax", "scipy", "nibabel", "matplotlib"}),
        ("dscgan_jax.figures.panels", {"numpy"}, {"jax", "scipy", "nibabel", "matplotlib"}),
        ("dscgan_jax.figures.curves", {"numpy"}, {"jax", "scipy", "nibabel", "matplotlib"}),
        # What reads an exam is imported first, and JAX while it is read.
        ("dscgan_jax.app.predict", {"nibabel"}, {"jax", "flax", "matplotlib"}),
        ("dscgan_jax.app.deconvolve", {"nibabel"}, {"jax", "flax", "matplotlib"}),
        ("dscgan_jax.methods.conventional", {"nibabel"}, {"flax", "optax", "tensorflow_datasets", "grain"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_imports_only_what_it_needs(module, needed, spared):
    loaded = loaded_by(module)
    assert needed <= loaded
    assert not spared & loaded
