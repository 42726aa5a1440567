"""Every command line of README, CONTRIBUTING and docs is one that its program takes; those that are quick are run.

The program's own lines are parsed by the program. The flags of scripts are read in their source: in one process the
scripts would define the same flags twice.
"""

import ast
import functools
import importlib.util
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from command_line import program, read
from exams import write_fake_cohort

from dscgan_jax import shipped
from dscgan_jax.configs import default
from dscgan_jax.data import nifti
from dscgan_jax.phantom.exam import draw_phantom

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*.ipynb")))
PROGRAM = r"(?:python -m dscgan_jax\.main|dscgan-jax)"
PLACEHOLDERS = {"SECONDS": "1.5"}  # of a number; a path may have any name


# --------------------------------------------------------------------------------------- lines of the program itself


def program_lines():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = re.findall(rf"{PROGRAM} ([^\n`]*)", text)
        found += re.findall(r"^\| `(--[^|]*)` \|", text, re.M)  # of a table: after `python -m dscgan_jax.main`
        for line in found:
            line = re.split(r"\s#|\s&&", line)[0].replace("[", "").replace("]", "").rstrip(" .;)")
            if "MODE" not in line:
                for name, value in PLACEHOLDERS.items():
                    line = line.replace(name, value)
                yield line


LINES = sorted({line for line in program_lines() if "--help" not in line})


def test_the_lines_were_found():
    assert len(LINES) > 15 and any("--mode=benchmark" in line for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_the_program_takes_the_line(line):
    """Mode, flags, fields and values exist, the config is there, and the mode reads all that is given."""
    read(*shlex.split(line))


# ------------------------------------------------------------------------------------------------------ other programs


class Script(NamedTuple):
    """One line that starts a script or a module: what is started, and what it is given before `--`."""

    page: str
    started: str
    given: tuple[str, ...]


def script_lines():
    for page in PAGES:
        for line in re.findall(
            r"python ((?:launch|studies|benchmarks|docs)/\w+\.py[^\n`]*|-m [^\n`]*)", page.read_text()
        ):
            words = shlex.split(re.split(r"\s#|\s&&|\s>|;", line)[0].rstrip(" .;)"))
            started = words[:2] if words[0] == "-m" else words[:1]
            given = words[len(started) :]
            yield Script(page.name, started[-1], tuple(given[: given.index("--")] if "--" in given else given))


SCRIPTS = sorted({line for line in script_lines() if line.started != "dscgan_jax.main"})


def flags_of(path: pathlib.Path) -> dict[str, tuple[str, list[str]]]:
    """{flag: its kind, and its choices} of a script with absl's flags or argparse's, and of what it shares."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(name.name == "shared" for name in node.names):
            found |= flags_of(path.with_name("shared.py"))
        if isinstance(node, ast.ImportFrom) and path.with_name(f"{node.module}.py").is_file():  # a script beside it
            found |= flags_of(path.with_name(f"{node.module}.py"))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        kind, first = node.func.attr, node.args[0]
        if isinstance(first, ast.Constant) and (kind.startswith("DEFINE_") or kind == "add_argument"):
            choices = node.args[2].elts if kind == "DEFINE_enum" and isinstance(node.args[2], ast.List) else []
            found[str(first.value).lstrip("-")] = kind, [str(ast.literal_eval(one)) for one in choices]
    return found


def test_scripts_were_found_and_their_flags_too():
    assert {"launch/local.py", "studies/validation.py", "dscgan_jax.speed.page"} <= {line.started for line in SCRIPTS}
    assert flags_of(ROOT / "launch" / "local.py").keys() >= {"gpus", "config", "dry_run"}
    assert flags_of(ROOT / "launch" / "study.py")["layout"] == ("DEFINE_enum", ["bids", "isles2017"])
    assert "real" in flags_of(ROOT / "studies" / "findings.py")


@pytest.mark.parametrize("line", SCRIPTS, ids=lambda line: f"{line.page} {line.started}")
def test_the_script_is_there_and_has_the_flags(line):
    if not line.started.endswith(".py"):
        assert importlib.util.find_spec(line.started), line.started
        return
    if line.started == "launch/beam.py":  # whose flags are those of the program, but for one
        read(*(one for one in line.given if not one.startswith("--runner=")))
        return
    known = flags_of(ROOT / line.started)
    for name, field, value in re.findall(r"--(\w+)(?:\.([\w.]+))?(?:=(\S+))?", " ".join(line.given)):
        assert name in known, f"{line.started} has no flag --{name}"
        kind, choices = known[name]
        assert not choices or value in choices
        assert kind not in ("DEFINE_integer", "DEFINE_float") or float(value) >= 0
        if field:
            functools.reduce(getattr, field.split("."), default.get_config())  # an AttributeError names a wrong one
        elif name == "config":
            assert (ROOT / value.partition(":")[0]).is_file()


def test_extras_that_are_installed_are_those_of_the_package():
    known = re.findall(r'^    "(\w+)": ', (ROOT / "setup.py").read_text(), re.M)
    asked = {one for page in PAGES for one in re.findall(r"(?:\.|dscgan_jax)\[(\w+)\]'", page.read_text())}
    assert {"test", "dev", "docs"} <= asked <= set(known)


# --------------------------------------------------------------------------------------------------------- really run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the lines of the docs name: exam.nii.gz, brain.nii.gz, mine.safetensors, and `root` with exams."""
    here = tmp_path_factory.mktemp("docs")
    exam = draw_phantom("acute", (77, 6), size=64, slices=3)
    sidecar = {"RepetitionTime": exam.frame_seconds, "EchoTime": exam.echo_seconds}
    nifti.write_volume(here / "exam.nii.gz", exam.series, exam.affine, dtype=np.int16, sidecar=sidecar)
    nifti.write_volume(here / "brain.nii.gz", exam.mask, exam.affine, dtype=np.uint8)
    shutil.copy(shipped.weights_file("physics"), here / "mine.safetensors")
    write_fake_cohort(here / "root")
    return here


RUN = {  # a line of the docs: what it prints, and a file that it leaves
    "check root": ("3 of 3 subjects usable", ""),
    "predict exam.nii.gz maps/": ("network: physics", "maps/exam.html"),
    "predict exam.nii.gz maps/ --beside=parametric": ("desc-parametric_tmax.nii.gz", "maps/exam.html"),
    "predict exam.nii.gz maps/ --model=mine.safetensors --mask=brain.nii.gz": (
        "network: physics",
        "maps/exam_tmax.json",
    ),
    "deconvolve exam.nii.gz conventional/": ("exam.html", "conventional/exam.html"),
}


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_line_of_the_docs_does_what_it_says(line, folder, monkeypatch):
    assert line in LINES, "the docs no longer have this line"
    monkeypatch.chdir(folder)
    printed, file = RUN[line]
    assert printed in program(*shlex.split(line), check=True).stdout
    assert not file or (folder / file).is_file()


def test_the_line_that_simulates_exams_does_so(folder, monkeypatch):
    [line] = [line for line in LINES if line.startswith("phantom exams/")]
    monkeypatch.chdir(folder)
    small = line.replace("--subjects=40", "--subjects=3 --size=32 --slices=1")
    assert small != line
    program(*shlex.split(small), check=True)
    assert len(list((folder / "exams").glob("sub-*/perf/*_dsc.nii.gz"))) == 3


@pytest.mark.parametrize("mode", ["predict", "deconvolve", "check", "export"])
def test_the_help_that_the_docs_offer_is_there(mode):
    done = program(mode, "--help")
    assert done.returncode == 0 and "--debug" in done.stdout


# Each script once; a Beam job is tried in tests/app/test_launch.py.
LAUNCHED = {
    line.started: line for line in SCRIPTS if line.started.startswith("launch/") and line.started != "launch/beam.py"
}


@pytest.mark.slow
@pytest.mark.parametrize("line", LAUNCHED.values(), ids=LAUNCHED)
def test_launch_lines_say_what_they_would_run(line):
    words = [sys.executable, str(ROOT / line.started), "--dry_run", *line.given]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env={"PATH": "/nowhere"})
    assert done.returncode == 0 and done.stdout, done.stderr
