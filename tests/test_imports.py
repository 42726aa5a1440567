"""The arrows of the package go one way: a file imports only from a lower level."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "dscgan_jax"

LEVELS = {
    "errors": 0, "allocation": 0,
    "maps": 1, "files": 1, "perfusion.checks.dip": 1, "findings": 1, "benchmark_page": 1, "models.blocks": 1,
    "scaling": 2, "losses": 2, "metrics": 2, "tracking": 2, "figures": 2, "records": 2, "sharding": 2, "options": 2,
    "perfusion.kinetics": 2, "perfusion.signal": 2, "perfusion.anatomy": 2, "perfusion.checks.head": 2,
    "data.nifti": 2, "models.time_passes": 2,
    "data.same_grid": 3, "data.timing": 3, "data.map_checks": 3,
    "settings": 3, "page_parts": 3, "distributed": 3, "perfusion.vessels": 3, "perfusion.physiology": 3, "perfusion.brain": 3,
    "perfusion.checks.missing": 3, "perfusion.checks.frame_order": 3, "perfusion.checks.gain": 3,
    "perfusion.checks.first_pass": 3,
    "perfusion.motion": 3, "perfusion.arterial": 3, "perfusion.deconvolution": 3,
    "models.temporal": 3, "models.unet": 3, "models.discriminator": 3,
    "perfusion.acquisition": 4, "perfusion.parametric": 4, "perfusion.checks.series": 4, "models.generators": 4, "counting": 4,
    "perfusion.phantom": 5, "perfusion.conventional": 5, "data.exams": 5, "state": 5,
    "data.layouts": 6, "data.preparation": 6, "data.features": 6, "pictures": 6, "qc": 6, "convert": 6, "steps": 6,
    "checkpoints": 6, "data.phantom_exams": 7, "data.ranges": 7, "data.pipeline": 7, "data.builder": 8, "data.resident": 8,
    "train": 9, "predict": 9, "evaluate": 9, "deconvolve": 9,
    "report": 10, "benchmark": 10,
    "workflow": 11,
    "main": 12,
}


def _imports(path: pathlib.Path) -> set[str]:
    """Modules of the package that a file imports, as dotted names below it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dscgan_jax":
            base = (node.module or "").removeprefix("dscgan_jax").removeprefix(".")
            for name in node.names:
                dotted = f"{base}.{name.name}".strip(".")
                found.add(dotted if dotted in LEVELS else base)
        elif isinstance(node, ast.Import):
            found.update(name.name.removeprefix("dscgan_jax.") for name in node.names
                         if name.name.startswith("dscgan_jax."))
    return found - {"", "configs"} - {name for name in found if name.startswith("configs.")}


def _modules() -> dict[str, pathlib.Path]:
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
            for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}


def test_every_module_has_a_level():
    assert set(_modules()) == set(LEVELS)


def test_a_file_imports_only_from_lower_levels():
    upward = [f"{module} -> {imported}" for module, path in _modules().items() for imported in _imports(path)
              if LEVELS[imported] >= LEVELS[module]]
    assert not upward, upward


def test_only_nifti_knows_nibabel_and_only_main_knows_flags():
    readers = {module for module, path in _modules().items() if "nibabel" in path.read_text()}
    flagged = {module for module, path in _modules().items() if "absl" in path.read_text()}
    assert readers == {"data.nifti"}
    assert flagged == {"main"}


def test_perfusion_and_data_know_no_networks():
    for module, path in _modules().items():
        if module.startswith(("perfusion.", "data.")):
            assert not {name for name in _imports(path) if name.startswith("models") or name in ("state", "steps")}
