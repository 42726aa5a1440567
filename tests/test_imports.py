"""The arrows of the package go one way: a file imports only from a lower level."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "dscgan_jax"

LEVELS = {
    "errors": 0,
    "training.memory": 0,
    "maps": 1,
    "files": 1,
    "perfusion.checks.dip": 1,
    "findings": 1,
    "speed.page": 1,
    "models.blocks": 1,
    "data.scaling": 2,
    "training.losses": 2,
    "evaluation.metrics": 2,
    "training.tracking": 2,
    "figures.panels": 2,
    "evaluation.records": 2,
    "training.sharding": 2,
    "app.options": 2,
    "perfusion.kinetics": 2,
    "perfusion.signal": 2,
    "phantom.anatomy": 2,
    "perfusion.checks.head": 2,
    "data.nifti": 2,
    "models.time_passes": 2,
    "data.same_grid": 3,
    "data.timing": 3,
    "data.map_checks": 3,
    "settings": 3,
    "pages.parts": 3,
    "training.distributed": 3,
    "phantom.vessels": 3,
    "phantom.physiology": 3,
    "perfusion.brain": 3,
    "perfusion.checks.missing": 3,
    "perfusion.checks.frame_order": 3,
    "perfusion.checks.gain": 3,
    "perfusion.checks.first_pass": 3,
    "perfusion.motion": 3,
    "perfusion.arterial": 3,
    "perfusion.deconvolution": 3,
    "models.temporal": 3,
    "models.unet": 3,
    "models.discriminator": 3,
    "phantom.acquisition": 4,
    "perfusion.parametric": 4,
    "perfusion.checks.series": 4,
    "models.generators": 4,
    "models.flops": 4,
    "phantom.exam": 5,
    "perfusion.conventional": 5,
    "data.exams": 5,
    "training.state": 5,
    "data.layouts": 6,
    "data.preparation": 6,
    "data.features": 6,
    "pages.subjects": 6,
    "pages.exam": 6,
    "models.published": 6,
    "training.steps": 6,
    "training.checkpoints": 6,
    "phantom.cohort": 7,
    "data.ranges": 7,
    "data.batches": 7,
    "data.dataset": 8,
    "training.resident": 8,
    "training.loop": 9,
    "methods.network": 9,
    "evaluation.score": 9,
    "methods.conventional": 9,
    "pages.report": 10,
    "speed.measure": 10,
    "app.workflow": 11,
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
            found.update(
                name.name.removeprefix("dscgan_jax.") for name in node.names if name.name.startswith("dscgan_jax.")
            )
    return found - {"", "configs"} - {name for name in found if name.startswith("configs.")}


def _modules() -> dict[str, pathlib.Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_module_has_a_level():
    assert set(_modules()) == set(LEVELS)


def test_a_file_imports_only_from_lower_levels():
    upward = [
        f"{module} -> {imported}"
        for module, path in _modules().items()
        for imported in _imports(path)
        if LEVELS[imported] >= LEVELS[module]
    ]
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
