"""The reader of docs/program.md, taken from that page, in a process without dscgan_jax: the maps are the package's."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from command_line import program

from dscgan_jax.data import preparation
from dscgan_jax.methods.network import Predictor
from dscgan_jax.phantom.simulation import simulate

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "program.md").read_text(encoding="utf-8")
READER = re.search(r"```python\n(import json\n.*?)```", PAGE, re.DOTALL)[1]
ALONE = "import sys\nsys.modules['dscgan_jax'] = None  # importing it fails\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The shipped network as `physics.stablehlo`, what it takes of an exam as `exam.npz`, and what makes both."""
    folder = tmp_path_factory.mktemp("program")
    program("export", "--format=stablehlo", "--model=physics", f"--output={folder / 'physics.stablehlo'}", check=True)
    exam, predictor = simulate("acute", seed=3, size=64, slices=3).exam, Predictor.shipped()
    predictor.program_inputs(exam).save(folder / "exam.npz")
    return folder, exam, predictor


def read(folder, exam="exam.npz", prefix=ALONE):
    words = [sys.executable, "-c", prefix + READER, "physics.stablehlo", exam, "maps.npz"]
    return subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)


def test_it_is_twenty_lines_and_asks_for_jax_and_numpy():
    lines = [line for line in READER.splitlines() if line.strip()]
    assert len(lines) <= 20
    imported = set(re.findall(r"^(?:import|from) (\w+)", READER, re.M))
    assert imported <= {"json", "sys", "zipfile", "numpy", "jax"}
    assert "dscgan_jax" not in READER


@pytest.mark.slow
def test_without_the_package_the_maps_are_those_of_the_package(world):
    folder, exam, predictor = world
    done = read(folder)
    assert done.returncode == 0, done.stderr
    assert "simulated exams only" in done.stdout and "research use only" in done.stdout
    maps = dict(np.load(folder / "maps.npz"))
    prepared = preparation.prepare(exam, predictor.preparation)
    stacked = np.stack([maps[name] for name in predictor.scaling.targets], axis=-1)
    volumes = prepared.restored(stacked, predictor.scaling.targets)
    expected = predictor.predict(exam)
    for name, limits in zip(predictor.scaling.targets, predictor.scaling.limits, strict=True):
        inside = np.where(expected.mask, volumes[name], 0)
        assert np.ptp(expected[name]) > 0.2 * (limits.high - limits.low)
        np.testing.assert_allclose(inside, expected[name], rtol=0, atol=1e-5 * (limits.high - limits.low))


def test_that_process_has_no_package(world):
    folder, _, _ = world
    assert "dscgan_jax" in read(folder, prefix=ALONE + "import dscgan_jax\n").stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda exam: exam | {"series": exam["series"][:, :60]},
            "expected (slice, 64, 128, 128) and called with (3, 60, 128, 128)",
        ),
        (lambda exam: {name: exam[name] for name in exam if name != "brain"}, "brain"),
        (lambda exam: exam | {"series": exam["series"].astype(np.int16)}, "int16"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_jax_and_not_taken_for_something_else(world, change, words):
    folder, _, _ = world
    np.savez(folder / "other.npz", **change(dict(np.load(folder / "exam.npz"))))
    done = read(folder, "other.npz")
    assert done.returncode == 1 and words in done.stderr
