"""Processes that are killed, or asked to end, at moments drawn at random; given again, the command must end alike.

Every harm has a folder to itself, of the same path for all harms of a kind, in which the command runs as a user gives
it. What it leaves there when nobody disturbs it is what it must leave when it was killed and given again.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from harm.contents import contents, debris, differences
from harm.records import Harm, Part, Records

COUNT = 30
SAME, TOO_LATE = "the same bytes", "ended before it could be killed"
DIFFERENT, LOST, LEFT_OVER, WRONG_END = "different", "lost", "debris", "wrong end"
PART = Part(
    name="kills",
    title="Killed, or asked to end",
    promise=(
        "A process that is killed at any moment (SIGKILL: by hand, by the system where memory is short) loses no "
        "more than what it did since its last checkpoint, or the exam of a cohort that it was on; drawing exams, "
        "preparing and evaluating begin again. The same command can be given at once (where all exams were already "
        "drawn, it says that the folder has content), and ends with the same bytes "
        "as one that nobody disturbed, on the same machine: weights, optimisers and prepared slices by value, "
        "`metrics.jsonl`, samples, maps, pages and records but for their clocks; TensorBoard's events alone are "
        "other files. No half-written file, temporary folder or lock is left. So does a training that is asked to "
        "end (SIGTERM, as batch systems send it before they kill, or Ctrl-C once): it finishes its step, saves it, "
        "says from where it goes on, and ends with status 143 or 130. Where a step and its save, a compilation or "
        "another long call take longer, it is cut off 25 s after SIGTERM, as by a kill; Ctrl-C once waits for as long "
        "as it takes, and Ctrl-C twice ends it at once, within 3 s. Of several processes that train together, one is "
        "ended at once by SIGTERM, and the run goes on from its last checkpoint."
    ),
    kept=(SAME, TOO_LATE),
    broken=(DIFFERENT, LOST, LEFT_OVER, WRONG_END),
    test="tests/studies/test_kills.py",
)
MOST_SECONDS = 900.0  # for any of these tiny jobs on a busy machine; what takes longer hangs
GRACE_SECONDS = 40.0  # after which a process that was asked to end has not listened
TRIES = 5  # other moments, where the process had ended before it could be killed,
SOONER = 0.7  # each in so much less time: the machine may be less busy than when the undisturbed ones were timed
LOOK_SECONDS = 0.002
ROOT = pathlib.Path(__file__).resolve().parents[2]

EXAMS = ("--preset=acute", "--subjects=4", "--size=32", "--slices=3")
GRID = ("data.size=16", "evaluate.baselines=()")
TRAINING = (
    *GRID,
    "model.generator=unet",
    "model.width=2",
    "model.depth=2",
    "model.discriminator_width=2",
    "train.steps=18",
    "train.batch_size=4",
    "train.log_every_steps=1",
    "train.checkpoint_every_epochs=2.0",
    "train.sample_every_epochs=6.0",
)


@dataclasses.dataclass(frozen=True)
class World:
    """What all harms share: exams, their prepared data set, and a trained run.

    Attributes:
      folder: of all of it.
    """

    folder: pathlib.Path

    @property
    def exams(self) -> pathlib.Path:
        """Phantom exams."""
        return self.folder / "exams"

    @property
    def run(self) -> pathlib.Path:
        """A run that was trained and not evaluated."""
        return self.folder / "run"

    def fields(self, fields: Sequence[str], cache: pathlib.Path) -> list[str]:
        """Arguments for a config on these exams."""
        of_data = (f"data.root={self.exams}", f"data.cache_dir={cache}")
        return ["--config=configs/temp_tmax.py:demo", *(f"--config.{one}" for one in (*of_data, *fields))]

    def train(self, workdir: pathlib.Path) -> list[str]:
        """The command that trains and evaluates."""
        return [*self.fields(TRAINING, self.folder / "cache"), f"--workdir={workdir}"]

    def make(self) -> None:
        """Whatever of it is not there yet."""
        for folder, line in ((self.exams, _phantom(self.exams)), (self.run, self.train(self.run))):
            made = folder.with_name(f"{folder.name}.made")
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                done = self.started(line).wait_for(MOST_SECONDS)
                if done.status:
                    raise RuntimeError(f"{line}: {done.said}")
                for name in ("evaluation", "maps", "report.html"):
                    _remove(folder / name)
                made.touch()

    def started(self, line: Sequence[str]) -> "Process":
        """A process of the program, as a user starts it."""
        return Process([sys.executable, "-m", "dscgan_jax.main", *line], self.folder / "programs")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: status (negative: the signal), what it said last, and after how many seconds."""

    status: int
    said: str
    seconds: float


class Process:
    """A running program. What JAX compiles is kept in `programs`, as it is for users."""

    def __init__(self, line: Sequence[str], programs: pathlib.Path):
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "OMP_NUM_THREADS": "1",
        }
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self._said.append(line.split("\r")[-1].strip())

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def send(self, number: int) -> None:
        """A signal, to this process alone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait_for(self, seconds: float) -> Ended:
        """Its end; one that does not come is brought about, and has status -9 and says so."""
        try:
            status, words = self.process.wait(seconds), ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            status, words = self.process.wait(), f"did not end within {seconds:g} s; "
        self._reader.join(2)
        said = [line for line in self._said if line]
        return Ended(status, (words + (said[-1] if said else ""))[:300], time.monotonic() - self.begun)


Aim = Callable[["Process", pathlib.Path, float, np.random.Generator], None]


def anywhere(process: Process, area: pathlib.Path, seconds: float, rng: np.random.Generator) -> None:
    """Waits for a moment anywhere in the life of the process."""
    del area
    _sleep(process, process.begun + rng.uniform(0, seconds))


def within_steps(process: Process, area: pathlib.Path, seconds: float, rng: np.random.Generator) -> None:
    """Waits for a moment after the first step: the share of all rows that must be there, and a little longer."""
    del seconds
    wanted, rows = int(rng.integers(1, 22)), area / "run" / "metrics.jsonl"
    while process.runs and time.monotonic() < process.begun + MOST_SECONDS:
        if rows.is_file() and rows.read_bytes().count(b"\n") >= wanted:
            break
        time.sleep(LOOK_SECONDS)
    _sleep(process, time.monotonic() + rng.uniform(0, 0.3))


def within_a_save(process: Process, area: pathlib.Path, seconds: float, rng: np.random.Generator) -> None:
    """Waits for a moment while one of the checkpoints is written, which takes some tenths of a second."""
    del seconds
    wanted, seen, folder = int(rng.integers(1, 7)), set[str](), area / "run" / "checkpoints"
    while process.runs and time.monotonic() < process.begun + MOST_SECONDS:
        with contextlib.suppress(OSError):
            seen |= {name for name in os.listdir(folder) if "orbax-checkpoint-tmp" in name}
        if len(seen) >= wanted:
            break
        time.sleep(LOOK_SECONDS)
    _sleep(process, time.monotonic() + rng.uniform(0, 0.4))


def _sleep(process: Process, until: float) -> None:
    while process.runs and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command, and how it is disturbed.

    Attributes:
      line: its arguments, given the world and the folder to write into.
      begins: what lies in that folder before.
      aim: waits for the moment.
      number: of the signal.
      statuses: with which the process may end then.
    """

    line: Callable[[World, pathlib.Path], list[str]]
    begins: Callable[[World, pathlib.Path], None] = lambda world, area: None
    aim: Aim = anywhere
    number: int = signal.SIGKILL
    statuses: tuple[int, ...] = (-signal.SIGKILL,)


def _phantom(folder: pathlib.Path) -> list[str]:
    return ["--mode=phantom", f"--output={folder}", *EXAMS]


def _train(world: World, area: pathlib.Path) -> list[str]:
    return world.train(area / "run")


def _with_run(world: World, area: pathlib.Path) -> None:
    shutil.copytree(world.run, area / "run")


def _network(world: World, series: pathlib.Path, area: pathlib.Path, *more: str) -> list[str]:
    return ["--mode=predict", f"--input={series}", f"--output={area / 'maps'}", f"--workdir={world.run}", *more]


def _evaluate(world: World, area: pathlib.Path) -> list[str]:
    return ["--mode=evaluate", f"--workdir={area / 'run'}"]


STAGES: dict[str, Stage] = {
    "killed while drawing exams": Stage(lambda world, area: _phantom(area / "exams")),
    "killed while preparing": Stage(
        lambda world, area: ["--mode=prepare", *world.fields(("data.size=16",), area / "cache")]
    ),
    "killed while training": Stage(_train),
    "killed while saving": Stage(_train, aim=within_a_save),
    "killed while evaluating": Stage(_evaluate, begins=_with_run),
    "killed while predicting": Stage(
        lambda world, area: _network(world, world.exams / "sub-0001" / "perf" / "sub-0001_dsc.nii.gz", area)
    ),
    "killed while predicting a cohort": Stage(lambda world, area: _network(world, world.exams, area, "--workers=2")),
    "SIGTERM while training": Stage(_train, aim=within_steps, number=signal.SIGTERM, statuses=(128 + signal.SIGTERM,)),
    "Ctrl-C while training": Stage(_train, aim=within_steps, number=signal.SIGINT, statuses=(128 + signal.SIGINT,)),
}


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nobody disturbs it, and how long it takes at least."""

    left: dict[str, str]
    seconds: float


def undisturbed(world: World, stage: Stage, area: pathlib.Path) -> Undisturbed:
    """Twice, so that what differs by itself is not taken for a harm.

    Raises:
      RuntimeError: it fails, or the two differ.
    """
    found, seconds = [], MOST_SECONDS
    for _ in range(2):
        _begin(world, stage, area)
        done = world.started(stage.line(world, area)).wait_for(MOST_SECONDS)
        if done.status:
            raise RuntimeError(f"{stage.line(world, area)}: {done.said}")
        found.append(contents(area))
        seconds = min(seconds, done.seconds)
    if odd := differences(*found):
        raise RuntimeError(f"{stage.line(world, area)}: two undisturbed ones differ: {', '.join(odd)}")
    if odd := debris(found[0]):
        raise RuntimeError(f"{stage.line(world, area)}: an undisturbed one leaves {', '.join(odd)}")
    return Undisturbed(found[0], seconds)


def one(world: World, kind: str, number: int, expected: Undisturbed, area: pathlib.Path) -> Harm:
    """Does one harm: kind and number decide the moment, as far as a clock can."""
    stage = STAGES[kind]
    for attempt in range(TRIES):
        rng = np.random.default_rng([zlib.crc32(kind.encode()), number, attempt])
        _begin(world, stage, area)
        process = world.started(stage.line(world, area))
        stage.aim(process, area, expected.seconds * SOONER**attempt, rng)
        process.send(stage.number)
        ended = process.wait_for(GRACE_SECONDS)
        if ended.status:
            break
    if ended.status == 0:
        return Harm(kind, number, *_compared(expected.left, area, TOO_LATE))
    if ended.status not in stage.statuses:
        return Harm(kind, number, WRONG_END, f"status {ended.status}: {ended.said}")
    again = world.started(stage.line(world, area)).wait_for(MOST_SECONDS)
    if again.status and "has content already" in again.said:  # the exams were whole; the process had still to end
        return Harm(kind, number, *_compared(expected.left, area, TOO_LATE, again.said))
    if again.status:
        return Harm(kind, number, LOST, f"after {ended.seconds:.2f} s; status {again.status}: {again.said}")
    return Harm(kind, number, *_compared(expected.left, area, SAME, f"after {ended.seconds:.2f} s; {ended.said}"))


def _compared(expected: dict[str, str], area: pathlib.Path, well: str, said: str = "") -> tuple[str, str]:
    found = contents(area)
    if odd := debris(found):
        return LEFT_OVER, f"{said}: {', '.join(odd)}"
    if odd := differences(expected, found):
        return DIFFERENT, f"{said}: {', '.join(odd)}"
    return well, re.sub(r"\s+", " ", said)


def _begin(world: World, stage: Stage, area: pathlib.Path) -> None:
    shutil.rmtree(area, ignore_errors=True)
    area.mkdir(parents=True)
    stage.begins(world, area)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(workdir: pathlib.Path, count: int) -> None:
    """Does the harms that are still open, one of each kind in turn; what is left of a broken promise is kept."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # shells let background jobs, and what they start, ignore it
    records, world = Records(workdir, PART), World(workdir.absolute() / "kills" / "world")
    still_open = sorted(records.open_ones(STAGES, count), key=lambda harm: harm[1])
    world.make()
    expected: dict[str, Undisturbed] = {}
    for kind, number in still_open:
        stage = STAGES[kind]
        line = " ".join(stage.line(world, pathlib.Path("area")))
        area = workdir.absolute() / "kills" / f"{zlib.crc32(line.encode()):08x}"  # one for kinds of the same command
        if line not in expected:
            expected[line] = undisturbed(world, stage, area)
        harm = one(world, kind, number, expected[line], area)
        records.add(harm)
        print(f"{kind}, number {number}: {harm.outcome}. {harm.said}", flush=True)
        if harm.outcome in PART.broken:
            kept = workdir.absolute() / "kills" / "broken" / f"{kind.replace(' ', '-')}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(area, kept, symlinks=True)
