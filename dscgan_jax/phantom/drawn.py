"""Phantom exams that are drawn, and prepared, by processes of their own while a network trains on them.

Exam i is the same whoever draws it and whenever, and stays in a folder of the cache that is named by everything that
decides it: a run that starts again, or another one, finds it there. Of an exam some slices are kept, and of these the
pixels that a network sees. It has no more rows and columns than the network grid.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from dscgan_jax.data import dataset
from dscgan_jax.data.batches import Example
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.preparation import PreparationSettings, PreparedExam, prepare
from dscgan_jax.errors import InputError, brief
from dscgan_jax.files import expanded, replacing
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.phantom.cohort import check_disk
from dscgan_jax.phantom.exam import PHANTOM_VERSION, draw_phantom
from dscgan_jax.phantom.presets import PRESETS
from dscgan_jax.settings import LEAST_PHANTOM_SIZE

LEAST_BRAIN = 0.01  # of a slice's pixels: emptier ones teach nothing
MOST_PROCESSES = 32
BESIDE = 5  # niceness over that of the run, which waits for an exam only where it is really late
OLD_SECONDS = 600  # no exam takes so long to write
# Of a process that draws: as many processes as cores, each with a thread for every core, would wait for one another;
# and none of them has business on the accelerator.
ONE_EACH = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
_WAIT_SECONDS = 0.05
KEPT_SHARE = 0.43  # of a prepared slice's series, by bytes; a little more than measured


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What decides the exams.

    Attributes:
      preset, seed, size, slices: as of `draw_phantom`; exam i has the seed (seed, i).
      settings: how exams are prepared.
      slices_kept: of each exam, at most.
    """

    preset: str
    seed: int
    size: int
    slices: int
    settings: PreparationSettings
    slices_kept: int

    @classmethod
    def from_config(cls, config: Any) -> "Drawing":
        """From a whole config."""
        wanted = config.phantom
        settings = PreparationSettings.from_config(config)
        return cls(
            str(wanted.preset),
            int(wanted.seed),
            int(wanted.size),
            int(wanted.slices),
            settings,
            int(wanted.drawn_slices),
        )

    @property
    def most_slices(self) -> int:
        """Slices that are kept of the largest exam."""
        return min(self.slices or max(PRESETS[self.preset].slices), self.slices_kept)

    def folder(self, cache_dir: pathlib.Path | str) -> pathlib.Path:
        """Where these exams are kept."""
        record = dataclasses.asdict(self) | {
            "phantom": PHANTOM_VERSION,
            "prepared": str(dataset.VERSION),
        }
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
        return expanded(cache_dir, "--config.data.cache_dir") / f"drawn-{digest}"

    def prepared(self, number: int) -> PreparedExam | None:
        """Exam `number` on the network grid; None where it is not one that the program would take."""
        largest = max(self.settings.size, LEAST_PHANTOM_SIZE)
        phantom = draw_phantom(
            self.preset, (self.seed, number), size=self.size, slices=self.slices or None, largest=largest
        )
        try:
            exam = Exam.from_arrays(
                phantom.series,
                phantom.affine,
                repetition_time=phantom.frame_seconds,
                echo_time=phantom.echo_seconds,
                maps=phantom.maps,
                mask=phantom.mask,
                subject=f"drawn-{number:06d}",
            )
            return prepare(exam, self.settings, look_for_motion=False)  # which decides nothing here, and takes longest
        except InputError:
            return None


class DrawnExams:
    """Slices of drawn exams by number; they are waited for where they are not there yet."""

    def __init__(self, drawing: Drawing, folder: pathlib.Path, first: int, count: int, processes: int | None = None):
        """Starts the processes that draw what is missing.

        Args:
          drawing: what decides the exams.
          folder: where they are kept.
          first: number of the first exam.
          count: how many there are.
          processes: how many draw; None = on half of the cores.

        Raises:
          InputError: the disk is too small for what is missing.
        """
        self._folder, self._first, self._count = folder, first, count
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        missing = [number for number in range(first, first + count) if not _file(folder, number).exists()]
        slice_bytes = KEPT_SHARE * 2 * drawing.settings.frames * drawing.settings.size**2
        check_disk(folder, int(len(missing) * drawing.most_slices * slice_bytes))
        spawned = multiprocessing.get_context("spawn")  # a forked one would share JAX's threads
        n_processes = min(processes or max((os.cpu_count() or 2) // 2, 1), MOST_PROCESSES, len(missing))
        self._processes = [
            spawned.Process(target=draw, args=(drawing, folder, missing[rank::n_processes]), daemon=True)
            for rank in range(n_processes)
        ]
        with _inherited(ONE_EACH):
            for process in self._processes:
                process.start()

    def slice_of(self, position: int, chance: float) -> Example:
        """A slice of the exam at a position (0 is the first), the one that `chance` in 0..1 points at.

        An exam that cannot be used stands for the next one.

        Raises:
          InputError: the exams are no longer drawn, or one is damaged.
        """
        for step in range(self._count):
            with self._stored((position + step) % self._count) as stored:
                if n_slices := int(stored.get_tensor("n_slices")):
                    return _unpacked(stored, chosen_slice(n_slices, chance))
        raise self.none_usable()

    def slices_of(self, position: int) -> list[Example]:
        """All slices of the exam at a position; none where it cannot be used.

        Raises:
          InputError: the exams are no longer drawn, or one is damaged.
        """
        with self._stored(position) as stored:
            return [_unpacked(stored, place) for place in range(int(stored.get_tensor("n_slices")))]

    def none_usable(self) -> InputError:
        """What to raise where no exam can be used."""
        return InputError(f"{self._folder}: none of {self._count} drawn exams can be used; check config.phantom.")

    def _stored(self, position: int) -> Any:
        path = _file(self._folder, self._first + position)
        self._wait_for(path)
        try:
            return safetensors.safe_open(path, "numpy")  # NumPy parses its own as Python, which threads cannot share
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f"{path}: the drawn exam is damaged ({brief(error)}); remove it and run again.") from None

    def _wait_for(self, path: pathlib.Path) -> None:
        while not path.exists():
            ended = [process for process in self._processes if not process.is_alive()]
            failed = len(ended) == len(self._processes) or any(process.exitcode for process in ended)
            if failed and not path.exists():
                raise InputError(
                    f"{path}: the process that draws this phantom exam has ended before it was there; see above "
                    "for the reason, and run again."
                )
            time.sleep(_WAIT_SECONDS)


@contextlib.contextmanager
def _inherited(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def chosen_slice(n_slices: int, chance: float) -> int:
    """The slice that `chance` in 0..1 points at."""
    return min(int(chance * n_slices), n_slices - 1)


def draw(drawing: Drawing, folder: pathlib.Path, numbers: list[int]) -> None:
    """Draws exams into a folder, each file whole or not at all; ends when the process that asked for them does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this one
    if multiprocessing.parent_process() is not None:
        os.nice(BESIDE)
    parent = os.getppid()
    for number in numbers:
        if os.getppid() != parent:
            return
        path = _file(folder, number)
        if not path.exists():
            packed = _packed(drawing.prepared(number), drawing.most_slices, number)
            with replacing(path) as file:
                file.write(safetensors.numpy.save(packed))


def _sweep(folder: pathlib.Path) -> None:
    """Removes what killed processes left half written."""
    for debris in folder.glob(".exam-*"):
        with contextlib.suppress(OSError):  # another run may sweep too
            if time.time() - debris.stat().st_mtime > OLD_SECONDS:
                debris.unlink()


def _file(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"exam-{number:06d}.safetensors"


def _packed(exam: PreparedExam | None, most_slices: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays of one file: scalars of the exam, and of its slices with brain the pixels that are not zero.

    Of more slices than `most_slices` some are drawn.
    """
    if exam is None:
        return {"n_slices": np.array(0)}
    chosen = np.flatnonzero(exam.mask.mean(axis=(1, 2)) >= LEAST_BRAIN)
    if len(chosen) > most_slices:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most_slices, replace=False))
    packed = {
        "n_slices": np.array(len(chosen)),
        "shape": np.array(exam.dsc.shape[1:]),
        "dsc_scale": np.array(exam.dsc_scale, np.float32),
        "baseline_begin": np.array(exam.baseline_begin, np.int32),
        "baseline_end": np.array(exam.baseline_end, np.int32),
        "brain_signal": np.array(exam.brain_signal, np.float32),
        "echo_seconds": np.array(exam.echo_seconds, np.float32),
        "has_map": exam.has_map,
    }
    for place, number in enumerate(chosen):
        dsc, maps, mask = exam.dsc[number], exam.maps[number], exam.mask[number]
        kept = np.flatnonzero((dsc != 0).any(axis=0) | (maps != 0).any(axis=-1) | mask)
        packed |= {
            f"kept{place}": kept.astype(np.int32),
            f"dsc{place}": dsc.reshape(len(dsc), -1)[:, kept],
            f"maps{place}": maps.reshape(-1, len(MAP_NAMES))[kept],
            f"mask{place}": mask.ravel()[kept],
        }
    return {name: np.asarray(array, order="C") for name, array in packed.items()}  # safetensors takes memory as it lies


def _unpacked(stored: Any, place: int) -> Example:
    """One slice, inverse of `_packed`."""
    time_points, rows, cols = (int(count) for count in stored.get_tensor("shape"))
    kept = stored.get_tensor(f"kept{place}")
    dsc = np.zeros((time_points, rows * cols), np.int16)
    maps, mask = np.zeros((rows * cols, len(MAP_NAMES)), np.float32), np.zeros(rows * cols, bool)
    dsc[:, kept], maps[kept], mask[kept] = (stored.get_tensor(f"{name}{place}") for name in ("dsc", "maps", "mask"))
    scalars = ("dsc_scale", "baseline_begin", "baseline_end", "brain_signal", "echo_seconds", "has_map")
    return {
        "dsc": dsc.reshape(time_points, rows, cols),
        "maps": maps.reshape(rows, cols, -1),
        "mask": mask.reshape(rows, cols),
        **{name: stored.get_tensor(name) for name in scalars},
    }
