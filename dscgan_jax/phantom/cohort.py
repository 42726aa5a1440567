"""Phantom arrays -> a folder of exams in the `bids` layout, as a user would bring it."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dscgan_jax import workers
from dscgan_jax.data import aif, layouts, nifti
from dscgan_jax.errors import InputError
from dscgan_jax.files import expanded, partial_of, sweep_partial
from dscgan_jax.maps import MAPS
from dscgan_jax.phantom.exam import PHANTOM_VERSION, Phantom, draw_phantom
from dscgan_jax.phantom.presets import PRESETS

EXAM_BYTES = 2 << 30  # that drawing an exam may take
Progress = Callable[[int], object]  # is called with the number of new exams, like `tqdm.update`


def write_cohort(
    root: pathlib.Path | str,
    *,
    preset: str,
    subjects: int,
    seed: int,
    size: int = 128,
    slices: int | None = None,
    split_fractions: Sequence[float] = (0.70, 0.10, 0.20),
    progress: Progress | None = None,
) -> pathlib.Path:
    """Draws a cohort into a new folder, whole or not at all.

    Args:
      root: must not exist or be empty; its parents are made.
      preset: `acute`, `chronic`, `tumour`, `varied` or `difficult`.
      subjects: number of exams; exam i is the same whatever their number.
      seed: of the cohort.
      size: rows and columns; 0 = the preset's own number.
      slices: 0 or None = the preset's own number.
      split_fractions: train, validation, test, by subject; with three subjects or more none is empty.
      progress: called after each exam.

    Raises:
      InputError: the folder has content, the disk is too small, or an argument makes no sense.
    """
    root = expanded(root, "--output")
    if preset not in PRESETS:
        raise InputError(f"phantom preset {preset!r} is unknown; known are {', '.join(PRESETS)}.")
    if subjects < 1:
        raise InputError(f"phantom subjects {subjects}: expected at least 1.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: the folder for phantom exams has content already; choose a new one or empty it.")
    splits = split_subjects(subjects, split_fractions, seed)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root.parent}: cannot be made ({error.strerror}); choose another folder.") from error
    sweep_partial(root)
    check_disk(root.parent, disk_need_bytes(preset, subjects, size, slices))
    partial = partial_of(root)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        layouts.write_participants(partial, splits)
        _write_subjects(partial, list(splits), preset, seed, size, slices, progress)
        if not (partial / "participants.tsv").is_file():  # it was written first
            raise InputError(f"{root}: its folder was removed while exams were drawn; give the command again.")
        with contextlib.suppress(FileNotFoundError):
            root.rmdir()  # the empty folder that the user made
        os.rename(partial, root)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror or error}); choose another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def phantom_folder(
    config: Any,
    cache_dir: pathlib.Path | str,
    progress: Progress | None = None,
    announce: Callable[[str], object] | None = None,
) -> pathlib.Path:
    """The folder of phantom exams that a configuration asks for; they are drawn if they are not there yet.

    Args:
      config: the whole configuration; `config.phantom` and `config.data.split_fractions` are read.
      cache_dir: parent of such folders.
      progress: as in `write_cohort`.
      announce: called with a sentence before exams are drawn, e.g. `print`.

    Raises:
      InputError: as `write_cohort`.
    """
    wanted = config.phantom
    settings = {
        "preset": wanted.preset,
        "subjects": int(wanted.subjects),
        "size": int(wanted.size),
        "slices": int(wanted.slices or 0),
        "seed": int(wanted.seed),
        "split_fractions": [float(fraction) for fraction in config.data.split_fractions],
        "phantom_version": PHANTOM_VERSION,
    }
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = expanded(cache_dir, "--config.data.cache_dir") / f"phantom-{fingerprint}"
    if (folder / "participants.tsv").is_file():
        return folder
    if announce is not None:
        need = disk_need_bytes(wanted.preset, wanted.subjects, wanted.size, wanted.slices)
        announce(f"Simulating {wanted.subjects} {wanted.preset} phantom exams into {folder} (about {_readable(need)}).")
    try:
        return write_cohort(
            folder, progress=progress, **{key: value for key, value in settings.items() if key != "phantom_version"}
        )
    except InputError:
        if (folder / "participants.tsv").is_file():  # another process was quicker
            return folder
        raise


def split_subjects(subjects: int, fractions: Sequence[float], seed: int) -> dict[str, str]:
    """Subject -> split, drawn once by subject: {'sub-0001': 'train', ...}, in the order of the subjects.

    Raises:
      InputError: not three fractions, a negative one, or a sum other than 1.
    """
    fractions = [float(fraction) for fraction in fractions]
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6:
        raise InputError(
            f"config.data.split_fractions is {tuple(fractions)}; expected three shares (train, validation, test) "
            "that add up to 1."
        )
    order = np.random.default_rng([seed, 977]).permutation(subjects)
    names = np.repeat(layouts.SPLITS, _split_counts(subjects, fractions))
    split_of = dict(zip(order.tolist(), names.tolist(), strict=True))
    return {f"sub-{index + 1:04d}": split_of[index] for index in range(subjects)}


def _split_counts(subjects: int, fractions: Sequence[float]) -> list[int]:
    """Subjects of each split; three subjects or more leave no split empty that has a fraction.

    `layouts.assign_splits` counts by largest remainders instead. These counts belong to the cohorts of this phantom
    version: others would put other people into the test split.
    """
    counts = [math.floor(fraction * subjects + 0.5) for fraction in fractions]
    counts[0] = subjects - counts[1] - counts[2]
    for index in range(3):
        least = int(subjects >= 3 and fractions[index] > 0)  # nobody can train, choose or score without exams
        while counts[index] < least:
            counts[int(np.argmax(counts))] -= 1
            counts[index] += 1
    return counts


def disk_need_bytes(preset: str, subjects: int, size: int, slices: int | None) -> int:
    """Bytes that a cohort takes, a little more than measured: series of noise hardly compress."""
    protocol = PRESETS[preset]
    side = size or protocol.matrix
    voxels = side * side * (slices or protocol.slices[1])
    return int(subjects * voxels * (1.7 * np.mean(protocol.frames) + 12.0)) + 1_000_000


def write_exam(folder: pathlib.Path, subject: str, phantom: Phantom) -> None:
    """Writes one exam's files into `folder/<subject>/perf`."""
    perf = folder / subject / "perf"
    perf.mkdir(parents=True)
    sidecar = {
        "RepetitionTime": phantom.frame_seconds,
        "EchoTime": phantom.echo_seconds,
        "MagneticFieldStrength": phantom.field_tesla,
        "Manufacturer": "dscgan_jax phantom",
    }
    nifti.write_volume(
        perf / f"{subject}_dsc.nii.gz",
        phantom.series,
        phantom.affine,
        dtype=phantom.series.dtype,
        frame_seconds=phantom.frame_seconds,
        sidecar=sidecar,
    )
    for name in MAPS:
        nifti.write_volume(perf / f"{subject}_{name}.nii.gz", phantom.maps[name], phantom.affine)
    nifti.write_volume(perf / f"{subject}_mask.nii.gz", phantom.mask.astype(np.uint8), phantom.affine, dtype=np.uint8)
    nifti.write_volume(perf / f"{subject}_lesion.nii.gz", phantom.lesion, phantom.affine, dtype=np.uint8)
    if phantom.leakage is not None:
        nifti.write_volume(perf / f"{subject}_leakage.nii.gz", phantom.leakage, phantom.affine, dtype=np.uint8)
    aif.write_curve(perf / f"{subject}_aif.tsv", phantom.arterial_seconds, phantom.arterial_mm)
    (perf / f"{subject}_truth.json").write_text(
        json.dumps(phantom.truth, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )


def _write_subjects(
    folder: pathlib.Path,
    subjects: Sequence[str],
    preset: str,
    seed: int,
    size: int,
    slices: int | None,
    progress: Progress | None,
) -> None:
    """Draws exams, several at a time where there are cores for it, else one while the one before is packed."""
    drawing = _Drawing(folder, preset, seed, size, slices)
    tasks = list(enumerate(subjects))
    if (processes := workers.fitting(len(tasks), EXAM_BYTES)) > 1:
        with contextlib.closing(workers.results(drawing, tasks, processes)) as written:
            for (_, subject), result in written:
                if isinstance(result, workers.Lost):
                    raise InputError(f"{subject}: {result}")
                if isinstance(result, Exception):
                    raise result
                if progress is not None:
                    progress(1)
        return
    pending: Future | None = None
    with ThreadPoolExecutor(1) as writer:
        for index, subject in tasks:
            phantom = drawing.drawn(index)
            if pending is not None:
                pending.result()
                if progress is not None:
                    progress(1)
            pending = writer.submit(write_exam, folder, subject, phantom)
        pending.result()
        if progress is not None:
            progress(1)


@dataclasses.dataclass(frozen=True)
class _Drawing:
    """The exams of a cohort, for `workers`; a task is the number and the name of one."""

    folder: pathlib.Path
    preset: str
    seed: int
    size: int
    slices: int | None

    def begin(self) -> Callable[[tuple[int, str]], Exception | None]:
        return self.write

    def drawn(self, index: int) -> Phantom:
        return draw_phantom(self.preset, (self.seed, index), size=self.size, slices=self.slices)

    def write(self, task: tuple[int, str]) -> Exception | None:
        """Nothing, or what kept the exam from being written."""
        index, subject = task
        try:
            write_exam(self.folder, subject, self.drawn(index))
        except (InputError, OSError) as error:
            return error
        return None


def check_disk(folder: pathlib.Path, need: int) -> None:
    """Refuses a folder with fewer than `need` free bytes."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            f"{folder}: phantom exams need about {_readable(need)}, {_readable(free)} are free; free some space, "
            "simulate fewer or smaller exams, or choose another folder."
        )


def _readable(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
