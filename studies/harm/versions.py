"""The same run on other devices and by other versions of the libraries beneath: it goes on, and learns the same."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable

import jax
import nibabel
import numpy as np

from dscgan_jax.training import weights
from harm.contents import contents, differences
from harm.kills import MOST_SECONDS, ROOT, TRAINING, Process, World
from harm.records import Do, Part, carry_out

COUNT = 2
SAME_BYTES, SAME_NUMBERS = "the same bytes", "the same to rounding"
DIFFERENT, LOST = "different", "lost"
ROUNDING = 2e-3  # of the largest weight of its array, after 18 steps of Adam: a sign that rounding turns is one step
MAP_SECONDS = 0.02  # of Tmax, mean over the brain
PART = Part(
    name="versions",
    title="Other devices, other versions",
    promise=(
        "The same command twice on the same machine leaves the same bytes. A run that was begun on eight devices goes "
        "on on one, and the reverse; one that was begun by the oldest versions that `setup.py` admits goes on by the "
        "newest, and the reverse. Then the numbers are the same but for the order in which sums are rounded: weights "
        "after 18 steps within 0.2 % of the largest of their array. The shipped network gives the same maps by the "
        "oldest versions, Tmax within 0.02 s. What the bounds in `setup.py` say is what was tried, on a CPU."
    ),
    kept=(SAME_BYTES, SAME_NUMBERS),
    broken=(DIFFERENT, LOST),
    test="tests/training/test_sharding.py",
)
FIRST, ALL = 8, 18  # steps
EIGHT = "--xla_force_host_platform_device_count=8"


def run(workdir: pathlib.Path, count: int) -> None:
    """Does what is still open; the environment of the oldest versions is made once, by pip."""
    folder = workdir.absolute() / "versions"
    carry_out(workdir, PART, {kind: _or_lost(do) for kind, do in KINDS.items()}, count, World(folder / "world"))


def _or_lost(do: Do) -> Do:
    """The same, lost where a command of it does not end well."""

    def harm(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
        try:
            return do(world, area, number)
        except subprocess.CalledProcessError as error:
            return LOST, f"{error.returncode}: {error.stderr}"

    return harm


def _trained(
    world: World, run_folder: pathlib.Path, steps: int, number: int, python: str = sys.executable, flags: str = ""
) -> None:
    """Trains to a step, or goes on to it.

    Raises:
      subprocess.CalledProcessError: it does not end well; with what it said last.
    """
    fields = [one for one in TRAINING if not one.startswith("train.steps")]
    fields += [f"train.steps={steps}", "train.batch_size=8", f"seed={number}"]
    line = [*world.fields(fields, world.folder / "cache"), f"--workdir={run_folder}"]
    _ended([python, "-m", "dscgan_jax.main", *line], world, flags)


def _ended(line: list[str], world: World, flags: str = "") -> None:
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = flags
    try:
        done = Process(line, world.folder / "programs").wait_for(MOST_SECONDS)
    finally:
        os.environ.pop("XLA_FLAGS")
        os.environ.update({} if before is None else {"XLA_FLAGS": before})
    if done.status:
        raise subprocess.CalledProcessError(done.status, line, stderr=done.said)


def _in_two(one: Callable[[World], tuple[str, str]], other: Callable[[World], tuple[str, str]]) -> Do:
    """A run that is begun in one surrounding and goes on in another, against one that stays in the first."""

    def harm(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
        _trained(world, area / "changed", FIRST, number, *one(world))
        _trained(world, area / "changed", ALL, number, *other(world))
        _trained(world, area / "kept", FIRST, number, *one(world))
        _trained(world, area / "kept", ALL, number, *one(world))
        return _compared(area / "kept", area / "changed")

    return harm


def _compared(one: pathlib.Path, other: pathlib.Path) -> tuple[str, str]:
    """By the weights of the last step."""
    trees = [weights.of_run(folder, "latest") for folder in (one, other)]
    if trees[0].step != trees[1].step:
        return LOST, f"steps {trees[0].step} and {trees[1].step}"
    if trees[0].sha256 == trees[1].sha256:
        return SAME_BYTES, ""
    shares = jax.tree.leaves(jax.tree.map(_share, trees[0].variables, trees[1].variables))
    said = f"largest difference {max(shares):.1e} of the largest weight of its array"
    return (SAME_NUMBERS if max(shares) < ROUNDING else DIFFERENT), said


def _share(one: np.ndarray, other: np.ndarray) -> float:
    one, other = np.float64(one), np.float64(other)
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-9))


def _twice(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
    found = []
    for _ in range(2):
        shutil.rmtree(area / "run", ignore_errors=True)
        _trained(world, area / "run", ALL, number)
        found.append(contents(area / "run"))
    odd = differences(*found)
    return (DIFFERENT, ", ".join(odd)) if odd else (SAME_BYTES, "")


def _shipped(world: World, area: pathlib.Path, number: int) -> tuple[str, str]:
    """The shipped network on one exam by the newest and by the oldest versions."""
    subject = f"sub-{1 + number % 4:04d}"
    series = world.exams / subject / "perf" / f"{subject}_dsc.nii.gz"
    maps = []
    for name, python in (("newest", sys.executable), ("oldest", oldest(world)[0])):
        _ended([python, "-m", "dscgan_jax.main", "predict", str(series), str(area / name)], world)
        maps.append(np.asarray(nibabel.load(area / name / f"{subject}_tmax.nii.gz").dataobj))
    inside = (maps[0] > 0) | (maps[1] > 0)
    seconds = float(np.abs(maps[0] - maps[1])[inside].mean())
    same = SAME_BYTES if seconds == 0 else SAME_NUMBERS if seconds < MAP_SECONDS else DIFFERENT
    return same, f"Tmax differs by {seconds:.1e} s"


def oldest_pins(setup_text: str) -> list[str]:
    """The lowest version of each requirement, `name==version`, from the text of setup.py."""
    requirements = setup_text.partition("REQUIREMENTS = [")[2].partition("\n]\n")[0]
    return [
        f"{name}=={version}" for name, version in re.findall(r'^    "([\w-]+)>=([\d.]+)', requirements, re.MULTILINE)
    ]


def newest(world: World) -> tuple[str, str]:
    """This interpreter, on one device."""
    del world
    return sys.executable, ""


def eight_devices(world: World) -> tuple[str, str]:
    """This interpreter, on eight virtual devices."""
    del world
    return sys.executable, EIGHT


def oldest(world: World) -> tuple[str, str]:
    """The interpreter of an environment with the oldest versions, made on the first call."""
    folder = world.folder.parent / "oldest"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        for what in (oldest_pins((ROOT / "setup.py").read_text()), ["--no-deps", "--editable", str(ROOT)]):
            subprocess.run([*pip, *what], check=True, capture_output=True, text=True)
        (folder / "made").touch()
    return str(python), ""


KINDS: dict[str, Do] = {
    "the same run twice": _twice,
    "begun on 8 devices, goes on on 1": _in_two(eight_devices, newest),
    "begun on 1 device, goes on on 8": _in_two(newest, eight_devices),
    "begun by the oldest versions, goes on by the newest": _in_two(oldest, newest),
    "begun by the newest versions, goes on by the oldest": _in_two(newest, oldest),
    "the shipped network by the oldest versions": _shipped,
}
