"""What is around the program goes wrong: disks that are full, read-only or gone, no home, two runs at once, few files.

Disks are real ones: a file system in memory (tmpfs) of the size that the harm wants, which root alone can mount: nobody
else can do this part. A limit on processes does not bind root, and is not tried.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from harm import readers
from harm.mutants import Hang, watched
from harm.records import Harm, Part, Records

import command_line  # isort: skip - of the tests, which `readers` has put on the path

PART = Part(
    name="surroundings",
    title="Full, read-only and vanished disks, no home, two runs at once",
    promise=(
        "Where the disk is full or read-only, or a folder is removed while the program writes into it, the program "
        "ends with one line and exit status 1; nothing half-written stays, whatever was there before is whole, and the "
        "same command ends well once there is space again. Exams of a cohort and checkpoints that were finished "
        "before are kept and not made again. Without HOME everything runs that is not told to keep something in it. "
        "Two commands on one output, cache or work directory at the same time either both end well, or one of them "
        "ends with one line. 256 open files are enough for prediction, a cohort and training. The disks of the study "
        "are real: file systems in memory of the size that the harm wants."
    ),
    kept=("went on", "one line, nothing half-written"),
    broken=("traceback", "hang", "half written", "lost"),
    test="tests/studies/test_surroundings.py",
)
COUNT = 10  # of each kind; of those that start programs of their own, a fifth
SECONDS = 240  # until it hangs
PLENTY = "400m"
FILLER = "somebody-elses"
NEVER_COMPARED = (".lock", ".html", ".json", ".jsonl", ".csv", ".png", ".log", ".md", ".tsv")  # times stand in them


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
      arguments: of the program, by its world and the place in which it writes.
      given: copies what must be in the place before.
      leaves: whether a failure may leave whole parts, which the next start takes up.
    """

    arguments: Callable[["World", pathlib.Path], list[str]]
    given: Callable[["World", pathlib.Path], None] = lambda world, place: None
    leaves: bool = False


def _exam(world: "World") -> str:
    return str(world.exams / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz")


QUICK = ["--method=csvd", "--motion=none", "--scale=none"]
STAGES = {
    "drawing exams": Stage(
        lambda world, place: ["phantom", f"{place}/out", "--subjects=3", "--size=32", "--slices=2"],
    ),
    "preparing": Stage(lambda world, place: ["prepare", *world.tiny(place / "cache", network=False)]),
    "training": Stage(lambda world, place: ["train", f"--workdir={place}/run", *world.tiny(world.cache)], leaves=True),
    "evaluating": Stage(
        lambda world, place: ["evaluate", f"--workdir={place}/run"],
        lambda world, place: None if (place / "run").exists() else _copy(world.run, place / "run"),
        leaves=True,
    ),
    "predicting": Stage(lambda world, place: ["predict", _exam(world), f"{place}/out", f"--model={world.run}"]),
    "deconvolving": Stage(lambda world, place: ["deconvolve", _exam(world), f"{place}/out", *QUICK]),
    "making a cohort": Stage(
        lambda world, place: ["deconvolve", str(world.exams), f"{place}/out", *QUICK, "--aif=files", "--workers=1"],
        leaves=True,
    ),
}


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    shutil.copytree(source, target, symlinks=True)


class World:
    """Exams, their prepared data and a trained network, made once; and what each stage leaves when nothing is wrong.

    Args:
      folder: of all that.
      network: whether one is trained; without it three stages can be done.
    """

    def __init__(self, folder: pathlib.Path, network: bool = True):
        self.folder = folder
        self.exams, self.cache, self.run = folder / "exams", folder / "cache", folder / "run"
        self._clean: dict[str, tuple[dict[str, bytes], int, float]] = {}
        if not network:
            self._do("phantom", str(self.exams), "--subjects=3", "--size=32", "--slices=2")
        elif not (self.run / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._do("phantom", str(self.exams), "--subjects=3", "--size=32", "--slices=2")
            self._do("train", f"--workdir={self.run}", *self.tiny(self.cache))
            (self.run / "done").touch()

    def _do(self, *arguments: str) -> None:
        command_line.program(*arguments, check=True)

    def tiny(self, cache: pathlib.Path, network: bool = True) -> list[str]:
        """Arguments of a tiny run."""
        write = readers.runs.overrides if network else readers.runs.exam_overrides
        tiny = {"tiny": readers.runs.QUICK, "train__steps": 4} if network else {"data__size": 16}
        return write(self.exams, cache, **tiny)

    def clean(self, stage: str, place: pathlib.Path) -> tuple[dict[str, bytes], int, float]:
        """(what it leaves, bytes of it, seconds) of a stage without harm."""
        if stage not in self._clean:
            for _ in range(2):  # the first time things are compiled
                with disk(place, PLENTY):
                    STAGES[stage].given(self, place)
                    begun = time.perf_counter()
                    done = command_line.program(*STAGES[stage].arguments(self, place))
                    seconds = time.perf_counter() - begun
                    assert done.returncode == 0, (stage, done)
                    left = results(place)
                    self._clean[stage] = left, _used(place), seconds
        return self._clean[stage]


def results(place: pathlib.Path) -> dict[str, bytes]:
    """{name: content} of what a stage leaves; of files in which times stand, the names alone."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if "checkpoints/" in name or path.name.endswith((".lock", ".tmp")) or "tfevents" in name:
            continue  # Orbax calls its files otherwise each time
        if ".array_record" in name:  # each process writes the fields of a slice in an order of its own
            found[name] = str(path.stat().st_size).encode()
        elif path.is_file() and not path.is_symlink():
            found[name] = b"" if name.endswith(NEVER_COMPARED) else path.read_bytes()
    return found


# ------------------------------------------------------------------------------------------------------------- disks


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    return os.geteuid() == 0 and sys.platform == "linux" and shutil.which("mount") is not None


@contextmanager
def disk(place: pathlib.Path, size: str) -> Iterator[None]:
    """A file system in memory at a place, gone afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remounted(place: pathlib.Path, how: str) -> None:
    """The same file system otherwise: `ro`, `rw`, `size=...`."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


# ------------------------------------------------------------------------------------------------------------- harms


def full(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """A disk that is too small for a random part of what is needed, or that somebody else fills at a random moment.

    Half of the time there is an earlier result on it.
    """
    clean, size, seconds = world.clean(stage, place)
    earlier = number // 2 % 2 == 1
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)
        before = _earlier(world, stage, place) if earlier else results(place)
        if number % 2:
            timer = threading.Timer(random.uniform(0.02, 0.9) * seconds, lambda: _filled(place))
            timer.start()
            done = _done(world, stage, place)
            timer.cancel()
            timer.join()
        else:
            used = _used(place)
            space = int(used + random.uniform(0.0, 0.9) * max(size - (0 if earlier else used), 4096))
            remounted(place, f"size={max(space // 1024, 4)}k")
            done = _done(world, stage, place)
        (place / FILLER).unlink(missing_ok=True)
        kept = _kept(place, before, done)
        remounted(place, f"size={PLENTY}")
        return _judged(world, stage, place, done, kept, clean)


def _used(place: pathlib.Path) -> int:
    """Bytes of all files."""
    return sum(one.lstat().st_blocks * 512 for one in place.rglob("*"))


def _filled(place: pathlib.Path) -> None:
    """Somebody else's file takes all the space that is left."""
    with suppress(OSError), (place / FILLER).open("wb") as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()


def read_only(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """Nothing can be written, with or without an earlier result."""
    del random
    clean, _, _ = world.clean(stage, place)
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)
        before = _earlier(world, stage, place) if number % 2 else results(place)
        remounted(place, "ro")
        done = _done(world, stage, place)
        kept = _kept(place, before, done)
        remounted(place, "rw")
        return _judged(world, stage, place, done, kept, clean)


def vanished(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """Somebody removes the folder at a random moment, as a whole: it is moved away first."""
    del number
    clean, _, seconds = world.clean(stage, place)
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)

        def remove() -> None:
            for index, folder in enumerate(place.iterdir()):
                away = place.with_name(f"{place.name}-away{index}")  # on a disk in memory it cannot leave it
                with suppress(OSError):
                    folder.rename(away if place.stat().st_dev == place.parent.stat().st_dev else place / away.name)
                for moved in (away, place / away.name):
                    shutil.rmtree(moved, ignore_errors=True)

        timer = threading.Timer(random.uniform(0.02, 1.0) * seconds, remove)
        timer.start()
        done = _done(world, stage, place)
        timer.cancel()
        timer.join()
        return _judged(world, stage, place, done, "", clean, is_gone=True)


def _earlier(world: World, stage: str, place: pathlib.Path) -> dict[str, bytes]:
    """What an earlier run of the same command left; of exams that are drawn there is none: the folder is taken."""
    if stage != "drawing exams":
        command_line.program(*STAGES[stage].arguments(world, place), check=True)
    return results(place)


def _done(world: World, stage: str, place: pathlib.Path) -> command_line.Done:
    """The command, in this process; 124 where it hangs."""
    try:
        with watched(SECONDS):
            return command_line.program(*STAGES[stage].arguments(world, place))
    except Hang:
        return command_line.Done(124, "", "")
    except Exception as error:
        return command_line.Done(70, "", f"{type(error).__name__}: {error}")


def _kept(place: pathlib.Path, before: dict[str, bytes], done: command_line.Done) -> str:
    """What became of files that were there before; empty where they are whole."""
    if done.returncode == 0:
        return ""
    after = results(place)
    return next((name for name, content in before.items() if after.get(name) != content), "")


def _judged(
    world: World,
    stage: str,
    place: pathlib.Path,
    done: command_line.Done,
    lost: str,
    clean: dict[str, bytes],
    *,
    is_gone: bool = False,
) -> Harm:
    """The outcome: how it ended, what it left, and whether the same command ends well now."""
    said = (done.stderr.strip().splitlines() or [""])[-1]
    outcome, why = _ended(done)
    left = [] if is_gone or STAGES[stage].leaves else [name for name in _half(place) if name not in clean]
    if outcome in PART.kept and lost:
        outcome, why = "lost", f"{lost} is another file or gone"
    elif outcome in PART.kept and done.returncode and left:
        outcome, why = "half written", left[0]
    elif outcome in PART.kept:
        if is_gone and stage == "evaluating":  # nothing is left to evaluate
            shutil.rmtree(place / "run", ignore_errors=True)
        if is_gone:
            STAGES[stage].given(world, place)
        again = done if done.returncode == 0 and not is_gone else _done(world, stage, place)
        refused = stage == "drawing exams" and "has content already" in again.stderr  # it had ended well
        missing = [name for name, content in clean.items() if results(place).get(name) != content]
        if again.returncode and not refused:
            outcome, why = "half written", f"the same command afterwards: {again.stderr.strip()[-200:]}"
        elif missing:
            outcome, why = "half written", f"afterwards {missing[0]} is missing or another one"
    return Harm("", 0, outcome, f"{why} {said}".replace(str(place), ".").replace(str(world.folder), ".")[:400].strip())


def _half(place: pathlib.Path) -> list[str]:
    """Files that stay, but for locks and empty folders."""
    return [
        path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"
    ]


def _ended(done: command_line.Done) -> tuple[str, str]:
    """Whether a program ended well or with one line."""
    if done.returncode == 124:
        return "hang", ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    if done.returncode == 0:
        return "went on", ""
    is_line = done.returncode == 1 and len(lines) == 1 and "defect" not in lines[0] and "Traceback" not in done.stderr
    return ("one line, nothing half-written", "") if is_line else ("traceback", done.stderr.strip()[-300:])


# -------------------------------------------------------------------------------------- programs of their own


def started(arguments: list[str], limits: str = "", **environment: str | None) -> subprocess.Popen:
    """The program in a process of its own; a variable that is None is not set."""
    known = {**readers.runs.environment(), **environment}
    known = {name: value for name, value in known.items() if value is not None}
    line = readers.runs.command(*arguments)
    line = ["bash", "-c", f'{limits} exec "$@"', "bash", *line]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=known)


def ended(process: subprocess.Popen) -> command_line.Done:
    """Waits for it."""
    try:
        out, error = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return command_line.Done(124, "", "")
    return command_line.Done(process.returncode, out, error)


def without_home(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """HOME is not set, and nobody knows the user; or it leads nowhere. Of prepare and train also the default cache."""
    del random
    clean, _, _ = world.clean(stage, place)
    arguments = STAGES[stage].arguments(world, place)
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)
        done = ended(started(arguments, HOME=None if number % 2 else "/nowhere/at/all"))
        return _judged(world, stage, place, done, "", clean)


def twice(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """The same command twice at the same time."""
    clean, _, seconds = world.clean(stage, place)
    arguments = STAGES[stage].arguments(world, place)
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)
        one = started(arguments)
        time.sleep(0 if number == 0 else random.uniform(0, seconds))
        other = started(arguments)
        both = [ended(one), ended(other)]
        worst = max(both, key=lambda done: (_ended(done)[0] in PART.broken, done.returncode))
        if all(done.returncode for done in both):
            return Harm("", 0, "lost", "neither of both ended well: " + both[0].stderr.strip()[-300:])
        if _ended(worst)[0] in PART.broken:
            return Harm("", 0, _ended(worst)[0], worst.stderr.strip()[-300:])
        well = next(done for done in both if done.returncode == 0)
        return _judged(world, stage, place, well, "", clean)


def few_files(world: World, stage: str, place: pathlib.Path, random: np.random.Generator, number: int) -> Harm:
    """256 open files, as old limits are."""
    del random, number
    clean, _, _ = world.clean(stage, place)
    arguments = [one.replace("--workers=1", "--workers=2") for one in STAGES[stage].arguments(world, place)]
    with disk(place, PLENTY):
        STAGES[stage].given(world, place)
        return _judged(world, stage, place, ended(started(arguments, "ulimit -n 256;")), "", clean)


Done = Callable[[World, str, pathlib.Path, np.random.Generator, int], Harm]
WITHIN: dict[str, tuple[Done, str]] = {
    f"{how} while {stage}": (harm, stage)
    for how, harm in (("a full disk", full), ("a read-only disk", read_only), ("a removed folder", vanished))
    for stage in STAGES
}
APART: dict[str, tuple[Done, str]] = {
    **{f"no HOME, {stage}": (without_home, stage) for stage in STAGES},
    **{
        f"two at once, {stage}": (twice, stage)
        for stage in ("preparing", "training", "deconvolving", "making a cohort")
    },
    **{f"256 open files, {stage}": (few_files, stage) for stage in ("training", "predicting", "making a cohort")},
}


def run(workdir: pathlib.Path, count: int = COUNT, kinds: list[str] | None = None) -> None:
    """Does what was not done yet.

    Args:
      workdir: keeps records and the clean world.
      count: of each kind that is done in this process; of the others a fifth, at least one.
      kinds: some of `WITHIN` and `APART`; None: all.

    Raises:
      PermissionError: this user may not mount file systems.
    """
    if not can_mount():
        raise PermissionError("disks that are full or read-only are file systems in memory, which root alone mounts")
    records, world = Records(workdir, PART), World(workdir / "surroundings")
    place = workdir / "surroundings-disk"
    todo = records.open_ones([kind for kind in WITHIN if kinds is None or kind in kinds], count)
    todo += records.open_ones([kind for kind in APART if kinds is None or kind in kinds], max(1, count // 5))
    for index, (kind, number) in enumerate(todo):
        harm, stage = {**WITHIN, **APART}[kind]
        random = np.random.default_rng([list({**WITHIN, **APART}).index(kind), number])
        made = dataclasses.replace(harm(world, stage, place, random, number), kind=kind, number=number)
        records.add(made)
        print(
            f"{index + 1}/{len(todo)} {kind} {number}: {made.outcome}. {made.said[:200]}", file=sys.stderr, flush=True
        )
    with suppress(OSError):
        place.rmdir()
