"""Spoiled files: what the program makes of exams, tables, prepared data, checkpoints and weights that are damaged.

Kind and number decide every byte. Each mutant goes the program's own way in one process, under a watchdog.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dscgan_jax.errors import InputError
from harm import readers, spoil
from harm.readers import Read, Reader
from harm.records import Harm, Part, Records

PART = Part(
    name="mutants",
    title="Damaged and contradictory files",
    promise=(
        "A file that is cut off, damaged, empty, or contradicts itself or the files beside it costs one line that "
        "names it, exit status 1, and nothing is written; or the maps are right; or what differs is told by a finding "
        "that stands on the page and in every sidecar. Maps count as wrong where Tmax, MTT or TTP are off by 0.1 s in "
        "the mean of the brain, or by 1 s in more than 1 % of it (CBF and CBV: 3 % and 10 % of what the clean map "
        "reaches in 95 % of the brain), where more than 2 % of the brain has none, or where a corner of the volume is "
        "more than a voxel elsewhere; prepared data, "
        "networks and states of training where one bit differs. What nobody can see in a file is not promised: a value "
        "that is wrong and could be right (another echo time, another split of a subject, single voxels), a file that "
        "keeps its size and its time of change under a prepared data set, and a file of weights whose digests were "
        "forged with it, which is another network, and executes nothing."
    ),
    kept=("refused in one line", "right", "told"),
    broken=("traceback", "hang", "wrong in silence", "half written"),
    test="tests/studies/test_mutants.py",
)
COUNT = 50  # of each kind
SECONDS = 60  # until it hangs

Spoiler = Callable[[pathlib.Path, spoil.Random], str]  # folder of a copy -> what was done


@dataclasses.dataclass(frozen=True)
class Kind:
    """Who reads, and how its files are spoiled."""

    reader: type[Reader]
    spoiler: Spoiler


# ------------------------------------------------------------------------------------------------ how a copy is spoiled


def a_file(pattern: str, *ways: spoil.Spoil) -> Spoiler:
    """One file of that pattern, in one of these ways."""

    def spoiler(folder: pathlib.Path, random: spoil.Random) -> str:
        paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
        path = paths[int(random.integers(len(paths)))]
        return f"{path.name}: {spoil.one_of(ways, path, random)}"

    return spoiler


def packed_series(folder: pathlib.Path, random: spoil.Random) -> str:
    """Bytes of the compressed series."""
    return spoil.one_of(spoil.FILES, spoil.packed_again(folder / "sub-1_dsc.nii"), random)


def voxel_bytes(folder: pathlib.Path, random: spoil.Random) -> str:
    """Bytes of the unpacked series, mostly of its voxels: no checksum covers them."""
    return spoil.one_of(spoil.BYTES, folder / "sub-1_dsc.nii", random)


def _frame(values: np.ndarray, random: spoil.Random) -> tuple[Any, ...]:
    return (..., int(random.integers(values.shape[-1])))


def _lost_slice(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    values[:, :, int(random.integers(values.shape[2])), int(random.integers(values.shape[3]))] = 0
    return values


def _nan_frame(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    values[_frame(values, random)] = random.choice([np.nan, np.inf, -np.inf])
    return values


def _nan_voxels(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    values[random.random(values.shape) < random.choice([0.001, 0.05, 0.5, 1.0])] = random.choice([np.nan, np.inf])
    return values


def _overflow(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    """Brighter than int16 can hold: what does not fit comes out negative."""
    scaled = np.rint(values * (random.uniform(1.05, 4.0) * 32767 / values.max()))
    return (scaled + 32768) % 65536 - 32768


def _clipped(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    """Bright values all the same, as from 8 or 12 bits."""
    return np.minimum(values, np.percentile(values, random.choice([50, 80, 95])))


def _negative(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return values - random.choice([values.mean(), values.max(), 1024.0])


def _normalised(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    del random
    return (values - values.mean()) / values.std()


def _constant(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return np.full_like(values, random.choice([0.0, 100.0]))


def _shuffled(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return values[..., random.permutation(values.shape[-1])]


def _reversed(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    del random
    return values[..., ::-1]


def _short(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return values[..., : int(random.integers(1, 20))]


def _noise(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return random.integers(0, 1000, values.shape).astype(float)


def _spiked_frame(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    values[_frame(values, random)] *= random.choice([0.1, 0.5, 1.5, 10.0])
    return values


SERIES_VALUES = (
    *(_lost_slice, _nan_frame, _nan_voxels, _overflow, _clipped, _negative, _normalised, _constant, _shuffled),
    *(_reversed, _short, _noise, _spiked_frame),
)


def _rolled(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return np.roll(values, int(random.integers(3, 9)), axis=int(random.integers(2)))


def _inverted(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    del random
    return values.max() - values


def _few(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    kept = np.flatnonzero(values)[: int(random.choice([0, 5, 30]))]
    few = np.zeros(values.size)
    few[kept] = 1
    return few.reshape(values.shape)


MASK_VALUES = (_nan_voxels, _constant, _rolled, _inverted, _few, _negative)


def _fill(value: float) -> Callable[[np.ndarray, spoil.Random], np.ndarray]:
    def filled(values: np.ndarray, random: spoil.Random) -> np.ndarray:
        outside = values == 0
        outside |= random.random(values.shape) < random.choice([0.0, 0.02])
        return np.where(outside, value, values)

    filled.__name__ = f"fill value {value:g}"
    return filled


def _other_unit(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    return values * random.choice([1000.0, 0.001, 100.0, -1.0])


def _huge(values: np.ndarray, random: spoil.Random) -> np.ndarray:
    values[random.random(values.shape) < 0.01] = random.choice([1e6, 1e30, 32767.0])
    return values


MAP_VALUES = (_fill(-30), _fill(-1), _fill(-32768), _nan_voxels, _constant, _other_unit, _huge, _few)


def _values(ways: tuple[Callable[..., np.ndarray], ...], path: str) -> Spoiler:
    return a_file(path, *map(spoil.with_values, ways))


def sidecar_value(path: pathlib.Path, random: spoil.Random) -> str:
    """A field of the series' sidecar that counts."""
    keys = ("RepetitionTime", "RepetitionTime", "EchoTime", "VolumeTiming", "Modality")
    return spoil.json_value(path, random, (keys[int(random.integers(len(keys)))],))


def changed_exam(folder: pathlib.Path, random: spoil.Random) -> str:
    """A file of an exam becomes another after the data set was built."""
    paths = sorted(path for path in (folder / "root").rglob("*") if path.is_file())
    path = paths[int(random.integers(len(paths)))]
    if path.suffix == ".gz" and random.random() < 0.5:  # one that can be read
        other = sorted((folder / "root").rglob("*_" + path.name.partition("_")[2]))
        path.write_bytes(other[int(random.integers(len(other)))].read_bytes())
        return f"{path.name}: that of another exam"
    return f"{path.name}: {spoil.one_of((*spoil.BYTES, spoil.removed), path, random)}"


def odd_folder(folder: pathlib.Path, random: spoil.Random) -> str:
    """A folder of exams as it may come: somebody twice, a file under another name, links, files for folders."""
    root = folder / "root"
    perf = root / "sub-0002" / "perf"
    series = perf / "sub-0002_dsc.nii.gz"

    def twice_on_disk() -> None:
        shutil.copytree(root / "sub-0002", root / "derivatives" / "sub-0002")

    def two_series() -> None:
        shutil.copy(series, perf / "sub-0002_dsc.nii")

    def of_somebody_else() -> None:
        shutil.copy(root / "sub-0001" / "perf" / "sub-0001_tmax.nii", perf / "sub-0002_tmax.nii.gz")

    def renamed() -> None:
        series.rename(perf / "sub-0003_dsc.nii.gz")

    def dangling() -> None:
        series.unlink()
        series.symlink_to("../nowhere.nii.gz")

    def a_loop() -> None:
        series.unlink()
        series.symlink_to(series.name)

    def a_fifo() -> None:
        series.unlink()
        os.mkfifo(series)

    def perf_is_a_file() -> None:
        shutil.rmtree(perf)
        perf.touch()

    def no_series() -> None:
        series.unlink()

    def empty_subject() -> None:
        (root / "sub-0009").mkdir()

    def other_case() -> None:
        (root / "sub-0002").rename(root / "SUB-0002")

    def a_loop_of_folders() -> None:
        (perf / "again").symlink_to(root)

    def other_grid() -> None:
        invented = readers.invented
        series_of = invented.write_fake_exam(folder / "other", "sub-0002", shape=(12, 16, 3))
        shutil.copy(series_of / "sub-0002_cbf.nii.gz", perf / "sub-0002_cbf.nii.gz")
        shutil.rmtree(folder / "other")

    def table_of_others() -> None:
        (root / "participants.tsv").write_text("participant_id\tsplit\nsub-x\ttrain\n")

    ways = (
        *(twice_on_disk, two_series, of_somebody_else, renamed, dangling, a_loop, a_fifo, perf_is_a_file, no_series),
        *(empty_subject, other_case, a_loop_of_folders, other_grid, table_of_others),
    )
    way = ways[int(random.integers(len(ways)))]
    way()
    return way.__name__


def weights_metadata(folder: pathlib.Path, random: spoil.Random) -> str:
    """The metadata of a file of weights, changed."""
    return _with_metadata(folder, random, sealed=False)


def forged_metadata(folder: pathlib.Path, random: spoil.Random) -> str:
    """The same with a digest that fits, as nobody's accident is."""
    return _with_metadata(folder, random, sealed=True)


def _with_metadata(folder: pathlib.Path, random: spoil.Random, *, sealed: bool) -> str:
    import safetensors.numpy

    from dscgan_jax.training import weights

    path = folder / "small.safetensors"
    header = weights._header(path)
    entry = folder / "entry.json"
    entry.write_text(header["__metadata__"][weights.ENTRY])
    what = spoil.json_value(entry, random)
    record = json.loads(entry.read_text())
    entry.unlink()
    if sealed:
        record[weights.ENTRY_DIGEST] = weights._entry_digest(record)
    tensors = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save(tensors, {weights.ENTRY: json.dumps(record)}))
    return what


WHOLE = ("Rows", "BitsAllocated", "InstanceNumber", "SeriesNumber")  # tags that are whole numbers


def dicom_file(folder: pathlib.Path, random: spoil.Random) -> str:
    """Some of the files of a DICOM exam damaged, gone, there twice, or of somebody else."""
    import pydicom

    paths = sorted((folder / "exam").iterdir())
    path = paths[int(random.integers(len(paths)))]
    if random.random() < 0.5:
        return spoil.one_of(spoil.FILES, path, random)
    many = paths if random.random() < 0.5 else [path]
    tags = ("PatientID", "RepetitionTime", "EchoTime", "ImagePositionPatient", "InstanceNumber", "Rows", "PixelSpacing")
    tag = str(random.choice([*tags, "SeriesInstanceUID", "BitsAllocated", "SeriesNumber", "ImageOrientationPatient"]))
    odd = int(random.integers(3))
    for one in many:
        image = pydicom.dcmread(one)
        if odd == 0:
            delattr(image, tag)
        elif odd == 1:
            image[tag].value = image[tag].value[:1] if isinstance(image[tag].value, str) else None
        else:
            image[tag].value = "" if isinstance(image[tag].value, str) else 0 if tag in WHOLE else None
        image.save_as(one)
    return f"{tag} of {len(many)} files, way {odd}"


def files_of_run(folder: pathlib.Path, random: spoil.Random) -> str:
    """A file of a checkpoint."""
    return a_file("*", *spoil.FILES)(folder / "run" / "checkpoints", random)


def record_of_run(folder: pathlib.Path, random: spoil.Random) -> str:
    """The record of a checkpoint: config, scaling, data."""
    return a_file("metadata", spoil.json_value)(folder / "run" / "checkpoints" / "6" / "record", random)


# New ones come last: the place of a kind decides its random numbers.
KINDS: dict[str, Kind] = {
    "a field of a series' header": Kind(readers.OneExam, a_file("*_dsc.nii", spoil.header_field)),
    "bits of a series' header": Kind(readers.OneExam, a_file("*_dsc.nii", spoil.header_bits)),
    "bytes of a packed series": Kind(readers.OneExam, packed_series),
    "bytes of an unpacked series": Kind(readers.OneExam, voxel_bytes),
    "values of a series": Kind(readers.OneExam, _values(SERIES_VALUES, "*_dsc.nii")),
    "values of a sidecar": Kind(readers.OneExam, a_file("*_dsc.json", sidecar_value)),
    "text of a sidecar": Kind(readers.OneExam, a_file("*_dsc.json", spoil.json_text, spoil.one_of_bytes)),
    "a given mask": Kind(
        readers.WithMask, a_file("mask.nii", spoil.header_field, *spoil.BYTES, *map(spoil.with_values, MASK_VALUES))
    ),
    "a given arterial curve": Kind(
        readers.WithCurve, a_file("aif.tsv", spoil.table_cell, spoil.table_shape, spoil.table_cell, *spoil.BYTES)
    ),
    "header and bytes of a reference map": Kind(
        readers.Folder, a_file("*_tmax.nii", spoil.header_field, spoil.header_bits, *spoil.BYTES)
    ),
    "values of a reference map": Kind(readers.Folder, _values(MAP_VALUES, "*_tmax.nii")),
    "participants.tsv": Kind(
        readers.Table, a_file("participants.tsv", spoil.table_cell, spoil.table_shape, *spoil.BYTES, spoil.made_folder)
    ),
    "a folder of exams": Kind(readers.Folder, odd_folder),
    "exams changed under prepared data": Kind(readers.Changed, changed_exam),
    "bytes of prepared slices": Kind(readers.Prepared, a_file("*.array_record*", *spoil.FILES)),
    "bytes of prepared descriptions": Kind(readers.Prepared, a_file("*.json", *spoil.FILES)),
    "values of prepared descriptions": Kind(readers.Prepared, a_file("*.json", spoil.json_value)),
    "files of a checkpoint": Kind(readers.Checkpoint, files_of_run),
    "values of a checkpoint's record": Kind(readers.Checkpoint, record_of_run),
    "bytes of a file of weights": Kind(readers.WeightsFile, a_file("*.safetensors", *spoil.FILES)),
    "metadata of a file of weights": Kind(readers.WeightsFile, weights_metadata),
    "forged metadata of a file of weights": Kind(readers.Forged, forged_metadata),
    "DICOM files": Kind(readers.Dicom, dicom_file),
}


# ------------------------------------------------------------------------------------------------- what became of them


class Hang(BaseException):
    """It took too long."""


@contextmanager
def watched(seconds: int) -> Iterator[None]:
    """Raises `Hang` after that time, again and again; ends the process where even that is not heard."""

    def ring(*_: Any) -> None:
        raise Hang

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def state_of(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def left_behind(output: pathlib.Path) -> list[str]:
    """What a refusal wrote: locks of a cache are not counted, an empty folder of it neither."""
    return [str(path) for path in output.rglob("*") if path.is_file() and path.suffix != ".lock"]


class Bench:
    """Clean worlds and their results, and a place for one spoiled copy at a time."""

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir / "mutants"
        self._known: dict[type[Reader], tuple[Reader, Read]] = {}

    def clean(self, kind: type[Reader]) -> tuple[Reader, Read]:
        """A reader and what it makes of the clean world."""
        if kind not in self._known:
            reader = kind(self.workdir / "clean" / kind.__name__)
            self._known[kind] = reader, reader.read(*self._fresh(reader))
        return self._known[kind]

    def _fresh(self, reader: Reader) -> tuple[pathlib.Path, pathlib.Path]:
        scratch = self.workdir / "spoiled"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        return reader.copied(scratch / "world"), scratch / "output"

    def done(self, name: str, number: int) -> Harm:
        """Does one harm."""
        kind = KINDS[name]
        reader, clean = self.clean(kind.reader)
        folder, output = self._fresh(reader)
        what = kind.spoiler(folder, np.random.default_rng([list(KINDS).index(name), number]))
        before = state_of(folder)
        outcome, text = self._outcome(reader, clean, folder, output)
        if outcome == "refused in one line" and (left := left_behind(output) or _changed(before, state_of(folder))):
            outcome, text = "half written", f"{left[0]}: {text}"
        return Harm(name, number, outcome, f"{what} -> {text}".replace(str(self.workdir), ".")[:400])

    def _outcome(self, reader: Reader, clean: Read, folder: pathlib.Path, output: pathlib.Path) -> tuple[str, str]:
        try:
            with watched(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = reader.read(folder, output)
        except InputError as error:
            text = str(error)
            is_told = "\n" not in text and len(text) < 2000 and _names(text, folder, output)
            return ("refused in one line" if is_told else "traceback"), text
        except Hang:
            return "hang", ""
        except Exception as error:  # whatever else reaches the door is a defect
            return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())}"
        wrong = reader.differs(clean, got)
        more = sorted(got.findings - clean.findings)
        if not wrong:
            return "right", ""
        return ("told", str(more)) if more else ("wrong in silence", wrong)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name) and not name.endswith(".lock")]


def _names(text: str, folder: pathlib.Path, output: pathlib.Path) -> bool:
    """Whether a message names a file, a subject or a field."""
    places = (str(folder), str(output), str(folder.parents[1]), "sub-", "config.", "--")
    return any(place in text for place in places)


def run(workdir: pathlib.Path, count: int = COUNT, kinds: list[str] | None = None) -> None:
    """Does what was not done yet.

    Args:
      workdir: keeps records and clean worlds.
      count: of each kind.
      kinds: some of `KINDS`; None: all.
    """
    records, bench = Records(workdir, PART), Bench(workdir)
    now = workdir / "mutants.now"
    if now.is_file():  # the process died in it
        kind, number = json.loads(now.read_text())
        if not any((harm.kind, harm.number) == (kind, number) for harm in records.harms):
            records.add(Harm(kind, number, "traceback", "the process died"))
    todo = records.open_ones(kinds or KINDS, count)
    hooks = threading.excepthook, sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    threading.excepthook = sys.unraisablehook = lambda _: None  # as main does
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for index, (kind, number) in enumerate(todo):
            now.write_text(json.dumps([kind, number]))
            harm = bench.done(kind, number)
            records.add(harm)
            said = f"{kind} {number}: {harm.outcome}. {harm.said[:200]}"
            print(f"{index + 1}/{len(todo)} {said}", file=sys.stderr, flush=True)
    finally:  # who is stopped has not died of a file
        now.unlink(missing_ok=True)
        threading.excepthook, sys.unraisablehook = hooks[:2]
        signal.signal(signal.SIGTERM, hooks[2])
