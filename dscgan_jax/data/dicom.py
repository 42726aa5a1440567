"""A folder of DICOM files -> the NIfTI file of its perfusion series, by dcm2niix (extra `dicom`).

Words: a *series* is what a scanner calls one; a *position* is where a slice lies, and a series has as many *frames* as
it has images at one position. Headers are read for these, and for whose exam it is; nothing that names a patient, a
hospital or a protocol leaves this module: files are called by the number of their series, and of what dcm2niix writes
beside them times alone are kept.
"""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion.signal import MIN_FRAMES

EXTRA = "reading DICOM needs dcm2niix and pydicom: pip install 'dscgan_jax[dicom]' (or convert the exam to NIfTI first)"
LAST_TAG = 0x00280010  # Rows: nothing behind it is needed, and what is behind it is long
TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "EchoNumbers",
    "TriggerTime",
    "AcquisitionTime",
    "NumberOfFrames",
    "Rows",
)
MILLISECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class Image:
    """What the header of one file says.

    Attributes:
      path: of the file.
      exam: patient and study, to tell exams apart; never shown.
      series: identifier of the series, never shown.
      number: of the series; -1 where it has none.
      instance: number of the image in it, by which it is put in order; -1 where it has none.
      place: position and echo of the slice.
      frames: that the file holds, slices counted.
      seconds: times of acquisition by two clocks, NaN where unknown.
    """

    path: pathlib.Path
    exam: tuple[str, str]
    series: str
    number: int
    instance: int
    place: tuple[str, str]
    frames: int
    seconds: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Series:
    """The images of one series.

    Attributes:
      number: of the series.
      images: in the order of their files.
    """

    number: int
    images: tuple[Image, ...]

    @property
    def multi_frame(self) -> bool:
        """Whether files hold several images each: how many are frames only the converter knows."""
        return any(image.frames > 1 for image in self.images)

    @property
    def per_place(self) -> Counter[tuple[str, str]]:
        """Images at each position."""
        return Counter(image.place for image in self.images)

    @property
    def frames(self) -> int:
        """The most images at one position; of multi-frame files, all of their images."""
        return sum(image.frames for image in self.images) if self.multi_frame else max(self.per_place.values())

    def in_words(self) -> str:
        """Its number and size."""
        if self.multi_frame:
            return f"series {self.number} ({self.frames} images)"
        return f"series {self.number} ({_count(self.frames, 'frame')} of {_count(len(self.per_place), 'slice')})"

    def times(self) -> list[float] | None:
        """Of its frames in s, by the first clock that goes on from each to the next; None where none does."""
        first = [image for image in self.images if image.place == self.images[0].place]
        for clock in range(2):
            seconds = [image.seconds[clock] for image in sorted(first, key=lambda image: image.instance)]
            if len(seconds) > 1 and np.isfinite(seconds).all() and (np.diff(seconds) > 0).all():
                return [round(second - seconds[0], 4) for second in seconds]
        return None


def is_dicom(path: pathlib.Path) -> bool:
    """Whether a file is DICOM: the letters DICM follow 128 bytes, whatever its name."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
    return False


@contextlib.contextmanager
def converted(folder: pathlib.Path, number: int | None = None) -> Iterator[tuple[pathlib.Path, tuple[Finding, ...]]]:
    """The perfusion series of a folder as NIfTI with its sidecar, as long as the block lasts.

    Args:
      folder: of one exam, with folders below it.
      number: of the series to take; None: the one that has at least 10 frames.

    Yields:
      the file, and what is to be said about the choice.

    Raises:
      InputError: the extra is not installed, several exams are mixed, none or several series have enough frames, slices
        are missing, or the conversion fails.
    """
    program = _program()
    images = _scanned(folder)
    _check_one_exam(folder, images)
    series = _grouped(images)
    with tempfile.TemporaryDirectory(prefix="dscgan-dicom-") as place:
        path, chosen = _perfusion(folder, series, number, program, pathlib.Path(place))
        yield path, _told(series, chosen)


def _program() -> str:
    """Where dcm2niix is.

    Raises:
      InputError: the extra is not installed.
    """
    try:
        import dcm2niix
        import pydicom  # noqa: F401 - looked for before anything is read
    except ImportError as error:
        raise InputError(f"{EXTRA}.") from error
    return str(dcm2niix.bin)


# ------------------------------------------------------------------------------------------------------ headers


def _scanned(folder: pathlib.Path) -> list[Image]:
    """The images in a folder and below it; other files, and DICOM that holds no image, are passed over."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    images = [image for path in paths if (image := _image(path))]
    if not images:
        raise InputError(f"{folder}: expected DICOM images, found none in {_count(len(paths), 'file')}.")
    return images


def _image(path: pathlib.Path) -> Image | None:
    """What one header says; None if the file holds no image."""
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    try:
        with path.open("rb") as file:
            header = read_partial(
                file,
                stop_when=lambda tag, vr, length: tag > LAST_TAG,
                specific_tags=[Tag(name) for name in TAGS],
            )
        if "Rows" not in header:
            return None
        return Image(
            path,
            (str(header.get("PatientID", "")), str(header.get("StudyInstanceUID", ""))),
            str(header.get("SeriesInstanceUID", "")),
            -1 if header.get("SeriesNumber") in (None, "") else int(header.SeriesNumber),
            -1 if header.get("InstanceNumber") in (None, "") else int(header.InstanceNumber),
            (str(header.get("ImagePositionPatient", "")), str(header.get("EchoNumbers", ""))),
            int(header.get("NumberOfFrames") or 1),
            (_trigger_seconds(header.get("TriggerTime")), _clock_seconds(header.get("AcquisitionTime"))),
        )
    except InvalidDicomError:
        return None
    except (OSError, EOFError, ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path}: the DICOM header cannot be read; copy the file again.") from error


def _trigger_seconds(value: Any) -> float:
    return float("nan") if value in (None, "") else float(value) * MILLISECONDS


def _clock_seconds(value: Any) -> float:
    """hhmmss.ffffff as seconds."""
    text = str(value or "")
    if len(text) < 6 or not text[:6].isdigit():
        return float("nan")
    return 3600 * int(text[:2]) + 60 * int(text[2:4]) + float(text[4:])


def _grouped(images: Iterable[Image]) -> list[Series]:
    of: dict[tuple[int, str], list[Image]] = {}
    for image in images:
        of.setdefault((image.number, image.series), []).append(image)
    return [Series(number, tuple(of[number, name])) for number, name in sorted(of)]


def _check_one_exam(folder: pathlib.Path, images: Sequence[Image]) -> None:
    """Two exams in one folder would be one patient's maps under another's name."""
    exams: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        exams.setdefault(image.exam, []).append(image)
    if len(exams) > 1:
        patients = len({patient for patient, _ in exams})
        what = f"{patients} patients" if patients > 1 else f"{len(exams)} exams of one patient"
        held = " and ".join(
            f"{_count(len(group), 'file')} (series {', '.join(map(str, sorted({image.number for image in group})))})"
            for group in sorted(exams.values(), key=len, reverse=True)
        )
        raise InputError(
            f"{folder}: expected the DICOM files of one exam, these are of {what}: {held}; put each exam into a folder "
            "of its own."
        )


# ----------------------------------------------------------------------------------------------------- conversion


def _perfusion(
    folder: pathlib.Path, series: Sequence[Series], number: int | None, program: str, place: pathlib.Path
) -> tuple[pathlib.Path, Series]:
    """The NIfTI file of the one series that can be perfusion, and that series."""
    held = ", ".join(one.in_words() for one in series)
    if number is not None and not any(one.number == number for one in series):
        raise InputError(f"{folder}: there is no series {number}; it holds {held}.")
    chosen = [one for one in series if one.frames >= MIN_FRAMES and number in (None, one.number)]
    found, doubts = {}, []
    for index, one in enumerate(chosen):
        try:
            _check_whole(folder, one)
            _check_numbers(folder, one)
            for path in _convert(folder, one, program, place / str(index)):
                found[path] = one
        except InputError as error:  # another series of the exam, such as a T1 of many slices, may be in order
            doubts.append(error)
    if not found and doubts:
        raise doubts[0]
    if not found:
        raise InputError(
            f"{folder}: expected a perfusion series of at least {MIN_FRAMES} frames, the folder holds {held}; give the "
            "folder of the whole exam, or of its perfusion series."
        )
    if len({one.number for one in found.values()}) > 1:
        several = " and ".join(f"series {one.number}" for one in found.values())
        raise InputError(
            f"{folder}: {several} have at least {MIN_FRAMES} frames each, and only one can be the perfusion series; "
            f"say which with --series=NUMBER (the folder holds {held})."
        )
    if len(found) > 1:
        raise InputError(
            f"{folder}: series {chosen[0].number} became {len(found)} series of at least {MIN_FRAMES} frames (several "
            "echoes, or magnitude and phase?); convert it with dcm2niix and give the one file as --input."
        )
    return next(iter(found.items()))


def _check_whole(folder: pathlib.Path, series: Series) -> None:
    """As many images at each position.

    Raises:
      InputError: says how many are missing.
    """
    counts = series.per_place
    if not series.multi_frame and len(set(counts.values())) > 1:
        most = max(counts.values())
        missing = sum(most - count for count in counts.values())
        raise InputError(
            f"{folder}: series {series.number} is not whole: expected {_count(most, 'frame')} of each of its "
            f"{len(counts)} slices, {_count(missing, 'image')} {'is' if missing == 1 else 'are'} missing; export it "
            "from the scanner or archive again."
        )


def _check_numbers(folder: pathlib.Path, series: Series) -> None:
    """Images are put in order by their numbers.

    Raises:
      InputError: some have none, or two images at one position have the same.
    """
    numbers = [image.instance for image in series.images]
    unnumbered = numbers.count(-1)
    twice = len(series.images) - len({(image.place, image.instance) for image in series.images})
    if not series.multi_frame and (0 < unnumbered < len(numbers) or (twice and not unnumbered)):
        what = f"{_count(unnumbered, 'image')} without" if unnumbered else f"{_count(twice, 'image')} twice with one"
        raise InputError(
            f"{folder}: series {series.number} has {what} InstanceNumber, so that their order is not known; export it "
            "from the scanner or archive again."
        )


def _convert(folder: pathlib.Path, series: Series, program: str, place: pathlib.Path) -> list[pathlib.Path]:
    """What dcm2niix makes of a series and has enough frames, with sidecars that hold times alone."""
    source, target = place / "dicom", place / "nifti"
    source.mkdir(parents=True)
    target.mkdir()
    for index, image in enumerate(series.images):  # links under names that say nothing
        (source / f"{index:06d}").symlink_to(image.path.absolute())
    # Sidecars without dates and names, volumes as stored, no file of defaults in the user's home.
    # Frames are not taken apart by their times (--ignore_trigger_times), as those of a heart would be.
    times = "--ignore_trigger_times"
    options = (times, "-b", "y", "-ba", "y", "-f", "%s", "-z", "n", "-l", "o", "-x", "i", "-g", "i", "-o", str(target))
    done = subprocess.run([program, *options, str(source)], capture_output=True, check=False)
    paths = sorted(target.glob("*.nii"))
    if not paths:
        raise InputError(
            f"{folder}: dcm2niix could not convert series {series.number} (exit status {done.returncode}): the files "
            "are damaged, incomplete or no images of slices; export them again."
        )
    try:
        shapes = {path: nifti.read_shape(path) for path in paths}
    except InputError as error:  # what headers say of places and sizes is carried over
        why = str(error).partition(": ")[2].rstrip(".")
        raise InputError(
            f"{folder}: dcm2niix made no usable volume of series {series.number} ({why}): its DICOM headers are "
            "damaged or incomplete; export them again."
        ) from error
    usable = [path for path, shape in shapes.items() if len(shape) == 4 and shape[3] >= MIN_FRAMES]
    if paths and not usable:
        raise InputError(
            f"{folder}: series {series.number} has enough images, and dcm2niix made no series of at least {MIN_FRAMES} "
            f"frames of them, but {_count(len(paths), 'file')}; convert it by hand and give the NIfTI file as --input."
        )
    for path in usable:
        _check_order(folder, series, path)
        _keep_times(path, series, shapes[path][3])
    return usable


def _check_order(folder: pathlib.Path, series: Series, path: pathlib.Path) -> None:
    """Compares single slices of a multi-frame file with what dcm2niix made of it: it trusts the order of dimensions.

    Files whose pixels need another library to be unpacked are not looked at.

    Raises:
      InputError: slices are elsewhere than their headers say.
    """
    import pydicom

    image, *more = series.images
    if more or not series.multi_frame:
        return
    header = pydicom.dcmread(image.path)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups or header.file_meta.TransferSyntaxUID.is_compressed:
        return
    frames_at: dict[str, list[tuple[int, int]]] = {}
    for index, group in enumerate(groups):
        place = str(group.PlanePositionSequence[0].ImagePositionPatient)
        time = group.FrameContentSequence[0].get("TemporalPositionIndex") or index
        frames_at.setdefault(place, []).append((int(time), index))
    pixels, volume = header.pixel_array, nifti.read_volume(path, 4).data
    for frames in list(frames_at.values())[:: max(1, len(frames_at) - 1)]:  # both ends
        for frame in (0, volume.shape[3] - 1):
            stored = pixels[sorted(frames)[frame][1]].T
            if not any(_same(stored, volume[:, :, z, frame]) for z in (0, volume.shape[2] - 1)):
                raise InputError(
                    f"{folder}: dcm2niix put the images of series {series.number} in another order than their header "
                    "says; export the series as classic DICOM (a file for each image), or as NIfTI."
                )


def _same(stored: np.ndarray, converted: np.ndarray) -> bool:
    """Whether two images (column, row) hold the same, whatever the scale and the direction of rows."""
    one, other = ((image - image.min()) / max(float(np.ptp(image)), 1e-9) for image in (stored, converted))
    return one.shape == other.shape and any(np.allclose(one, flip, atol=1e-3) for flip in (other, other[:, ::-1]))


def _keep_times(path: pathlib.Path, series: Series, n_frames: int) -> None:
    """Replaces the sidecar, in which dcm2niix leaves names of hospitals and protocols."""
    sidecar = nifti.sidecar_path(path)
    try:
        written = read_sidecar(sidecar)
    except InputError as error:
        raise InputError(
            f"{series.images[0].path.parent}: dcm2niix could not tell the times of series {series.number}: its DICOM "
            "headers are damaged or incomplete; export them again."
        ) from error
    kept = {name: written[name] for name in ("Modality", "RepetitionTime", "EchoTime") if name in written}
    times = series.times() or written.get("FrameTimesStart")
    if isinstance(times, list) and len(times) == n_frames:
        kept["VolumeTiming"] = times
    sidecar.write_text(json.dumps(kept), encoding="utf-8")


def _told(series: Sequence[Series], chosen: Series) -> tuple[Finding, ...]:
    """Which series was taken, where there are others."""
    others = [one for one in series if one is not chosen]
    if not others:
        return ()
    words = ", ".join(one.in_words() for one in others)
    text = f"series {chosen.number} of the DICOM folder was taken as the perfusion series; left out: {words}"
    return (Finding("series_chosen", "note", text, chosen.number, "--series=NUMBER"),)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
