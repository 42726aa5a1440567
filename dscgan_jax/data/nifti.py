"""NIfTI volumes in and out, with affine and frame length.

Words: the *affine* takes voxel indices to millimetres in RAS+ world space. Arrays are (x, y, z) or (x, y, z, time), on
the axes of their file.
"""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import io
import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any, cast

import nibabel
import numpy as np
from isal import igzip, igzip_lib

from dscgan_jax.data.headers import LARGEST_SCALING, Header, Path, Unpacked, read_header, too_short
from dscgan_jax.errors import InputError, brief
from dscgan_jax.files import replacing
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion.signal import MIN_FRAMES

COMPRESSION_LEVEL = 1  # ISA-L's; noise does not compress: zlib's level 9 takes fifty times as long and saves 3 %
# Phantoms: slices differ by 0.18 to 0.36 of the mean signal, 3 to 8 times as much as frames; noise alone gives a ratio
# of 1.
FRAMES_ALIKE = 0.4  # frames differ by less than this part of what slices differ by
SLICES_DIFFER = 0.1  # slices differ by more than this part of the mean signal
# DEFLATE writes at least 2 bits for 258 bytes: a packed file cannot hold more than this many times itself.
DEFLATE_RATIO = 1032
CHUNK = 1 << 24  # bytes that are unpacked in one go
# What `read_ahead` began to read, and the file's size and time of change then.
_ahead: dict[tuple[str, int], tuple[concurrent.futures.Future["Volume"], tuple[int, int] | None]] = {}


@dataclasses.dataclass(frozen=True)
class Volume:
    """One NIfTI file.

    Attributes:
      data: (x, y, z) or (x, y, z, time), float32, `scl_slope` applied.
      affine: (4, 4) voxel index -> millimetres, RAS+.
      frame_seconds: frame length according to the header; None for a map and where the header cannot be trusted.
      findings: what is doubtful about the header.
      header_time: `pixdim` of the time axis as it is stored; None for a map and where it is no positive number.
      time_unit: seconds per unit of `header_time`; None where the header names no unit of time.
    """

    data: np.ndarray
    affine: np.ndarray
    frame_seconds: float | None
    findings: tuple[Finding, ...] = ()
    header_time: float | None = None
    time_unit: float | None = None


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI."""
    return str(path).endswith((".nii", ".nii.gz"))


def stem_of(path: Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    name = pathlib.Path(path).name
    for ending in (".nii.gz", ".nii"):
        if name.endswith(ending):
            return name[: -len(ending)]
    raise InputError(f"{path}: expected a NIfTI file (.nii or .nii.gz); convert it first (DICOM: dcm2niix).")


def sidecar_path(path: Path) -> pathlib.Path:
    """The JSON file that BIDS puts beside a NIfTI file."""
    return pathlib.Path(path).with_name(stem_of(path) + ".json")


def present(path: Path) -> bool:
    """Whether the path is a file.

    Raises:
      InputError: it is a symbolic link that leads nowhere.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{path}: a symbolic link to {os.readlink(path)}, which does not exist: its data were not fetched; "
            "run `datalad get` or `git annex get` on it."
        )
    return os.path.isfile(path)


def read_ahead(path: Path, dims: int) -> None:
    """Begins to read a file in a thread; the next `read_volume` of the same file takes what it read, or its error.

    Unpacking lets other threads run: it is done while what will need the file is imported.
    """
    reader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read_ahead")
    _ahead.clear()  # of a file that nobody asked for after all
    _ahead[str(path), dims] = reader.submit(_read_now, path, dims), _state_of(path)
    reader.shutdown(wait=False)


def read_volume(path: Path, dims: int) -> Volume:
    """Reads a NIfTI file.

    Args:
      path: `.nii` or `.nii.gz`.
      dims: 3 for a map, 4 for a series. A 5-D series (x, y, z, 1, time) becomes 4-D, as ISLES 2017 stores it.

    Raises:
      InputError: the file is absent, is not NIfTI, is cut off or damaged, has another number of axes, or its header
        contradicts itself or the data.
    """
    begun, state = _ahead.pop((str(path), dims), (None, None))
    return begun.result() if begun is not None and state == _state_of(path) else _read_now(path, dims)


def _state_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no such file."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _read_now(path: Path, dims: int) -> Volume:
    stem_of(path)
    with _opened(path) as (file, most):
        header = read_header(path, file, most)
        shape = _with_axes(path, header.shape, dims)
        _check_memory(path, header)
        stored = _stored(path, file, header, most)
    data = _scaled(path, stored, header).reshape(shape, order="F")
    if dims == 4:
        _check_time_last(path, data)
    return _volume(header, data)


def read_shape(path: Path) -> tuple[int, ...]:
    """Shape according to the header alone, singleton axis of 5-D series removed; quick also on large files."""
    stem_of(path)
    with _opened(path) as (file, most):
        shape = read_header(path, file, most).shape
    return _joined(shape) if len(shape) == 5 and 1 in shape[3:] else shape


def read_outline(path: Path, dims: int = 4) -> Volume:
    """What `read_volume` gives, but from the header alone: the data are zeros that hold no memory."""
    stem_of(path)
    with _opened(path) as (file, most):
        header = read_header(path, file, most)
    data = np.broadcast_to(np.float32(0), _with_axes(path, header.shape, dims))
    if dims == 4:
        _check_time_last(path, data)
    return _volume(header, data)


def _volume(header: Header, data: np.ndarray) -> Volume:
    if data.ndim < 4:
        return Volume(data, header.affine, None, header.findings, None, header.time_unit)
    return Volume(data, header.affine, header.frame_seconds, header.findings, header.time, header.time_unit)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Unpacked, int]]:
    """The unpacked content of a file, and the most bytes that it can have.

    Raises:
      InputError: reading fails, here or in the caller's block.
    """
    present(path)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with igzip.IGzipFile(fileobj=file) as unpacked:  # in a third of the time that gzip takes
                    yield unpacked, size * DEFLATE_RATIO
            else:
                yield file, size
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (EOFError, zlib.error, igzip_lib.IsalError, gzip.BadGzipFile) as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise InputError(
            f"{path}: the compressed file is cut off or damaged ({brief(error)}); copy or convert it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({brief(error)}).") from error
    except MemoryError as error:
        raise InputError(
            f"{path}: does not fit into memory; use a machine with more or convert fewer slices."
        ) from error


def _check_memory(path: Path, header: Header) -> None:
    needed, there = header.size + 4 * math.prod(header.shape), _memory_bytes()
    if needed > there:
        raise InputError(
            f"{path}: {header.in_words()}; reading it takes {needed / 1e9:.1f} GB of memory, this machine has "
            f"{there / 1e9:.1f}; convert the file again or use a larger machine."
        )


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return math.inf


def _stored(path: Path, file: Unpacked, header: Header, most: int) -> np.ndarray:
    """The voxels as stored, shape as in the header. Reading to the end lets gzip verify its checksum.

    Raises:
      InputError: the file holds fewer or more bytes than the header says.
    """
    if not isinstance(file, gzip.GzipFile) and most > header.size:
        raise _too_long(path, header, most - header.size)
    file.seek(0)
    content, filled = np.empty(header.size, np.uint8), 0
    view = memoryview(content)  # pyright: ignore[reportArgumentType] - an array is a buffer
    readable = cast(io.BufferedIOBase, file)
    while filled < header.size and (count := readable.readinto(view[filled : filled + CHUNK])):
        filled += count
    if filled < header.size:
        raise too_short(path, header, filled)
    if file.read(1):
        raise _too_long(path, header, _size_of_packed(path) - header.size)
    return content[header.offset :].view(header.dtype).reshape(header.shape, order="F")


def _size_of_packed(path: Path) -> int:
    """Unpacked size by the last four bytes: right up to 4 GB unless several gzip files were put behind one another."""
    with open(path, "rb") as packed:
        packed.seek(-4, os.SEEK_END)
        return int.from_bytes(packed.read(4), "little")


def _too_long(path: Path, header: Header, surplus: int) -> InputError:
    more = surplus if surplus > 0 else "some"
    return InputError(
        f"{path}: {header.in_words()}, the file holds {more} bytes more than that: header and data contradict each "
        "other; convert the file again."
    )


def _scaled(path: Path, stored: np.ndarray, header: Header) -> np.ndarray:
    """float32 in the order of the file; frame by frame in double precision where a slope applies."""
    with np.errstate(over="ignore", invalid="ignore"):
        if (header.slope, header.inter) == (1.0, 0.0):
            return stored.astype(np.float32, copy=not stored.flags.aligned)
        data = np.empty(stored.shape, np.float32, order="F")
        for frame in range(stored.shape[-1]):
            values = stored[..., frame].astype(np.float64) * header.slope + header.inter
            if (np.isfinite(stored[..., frame]) & (np.abs(values) > LARGEST_SCALING)).any():
                raise InputError(
                    f"{path}: scl_slope {header.slope:g} and scl_inter {header.inter:g} make values beyond "
                    f"{LARGEST_SCALING:g}; convert the file again."
                )
            data[..., frame] = values
    return data


def _with_axes(path: Path, stored: tuple[int, ...], dims: int) -> tuple[int, ...]:
    """The shape in which the data are used: (x, y, z) or (x, y, z, time)."""
    shape = stored
    if dims == 4 and len(shape) == 5 and 1 in shape[3:]:
        shape = _joined(shape)
    elif dims == 3:
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        shape += (1,) if len(shape) == 2 else ()
    if len(shape) != dims:
        expected = "a 4-D series (x, y, z, time)" if dims == 4 else "a 3-D map (x, y, z)"
        raise InputError(
            f"{path}: expected {expected}, the file has shape {stored}; "
            + ("give the whole perfusion series." if dims == 4 else "give one map per file.")
        )
    return shape


def _joined(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:3], shape[3] * shape[4])


def _check_time_last(path: Path, data: np.ndarray) -> None:
    """Refuses a series (x, y, time, z).

    Frames are near copies of each other, slices are not: from frame to frame the bolus changes a voxel by a few per
    cent, while 5 mm of head change most of them by more. What has fewer than `MIN_FRAMES` entries is no time.
    """
    third, fourth = data.shape[2:]
    if third >= MIN_FRAMES and _third_is_time(data):
        raise InputError(
            f"{path}: expected (x, y, slice, time), the third axis seems to be time (x, y, time, slice), the file "
            f"has shape {data.shape}; reorder its axes and write it again."
        )
    if third >= MIN_FRAMES > fourth:
        raise InputError(
            f"{path}: expected at least {MIN_FRAMES} frames along the last axis, the file has shape "
            f"{data.shape}; give the whole perfusion series, or reorder the axes if the third one is time."
        )


def _third_is_time(data: np.ndarray) -> bool:
    """Several lags along the fourth axis, as echoes or gains in turn make neighbouring frames unlike."""
    lags = range(1, min(4, data.shape[3]))
    if not lags:
        return False
    third, fourth = _unlike(data, 2, 1), min(_unlike(data, 3, lag) for lag in lags)
    return fourth > SLICES_DIFFER and third < FRAMES_ALIKE * fourth


def _unlike(data: np.ndarray, axis: int, lag: int) -> float:
    """How much a sample's entries `lag` apart along axis 2 or 3 differ.

    Median of mean |difference|, 1 = mean |value|.
    """
    small = data[:: max(1, data.shape[0] // 24), :: max(1, data.shape[1] // 24)]
    along = np.unique(np.linspace(0, data.shape[axis] - 1 - lag, 12).astype(int))
    across = np.unique(np.linspace(0, data.shape[5 - axis] - 1, 6).astype(int))
    small = np.moveaxis(small, axis, 3)[:, :, across]
    one, other = (np.nan_to_num(small[..., along + shift], posinf=0.0, neginf=0.0) for shift in (0, lag))
    level = float(np.abs(one).mean())
    return float(np.median(np.abs(other - one).mean((0, 1, 2)))) / level if level else 0.0


def write_volume(
    path: Path,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    dtype: Any = np.float32,
    frame_seconds: float | None = None,
    sidecar: dict[str, Any] | None = None,
) -> None:
    """Writes a NIfTI file, whole or not at all; the same arguments give the same bytes.

    Args:
      path: `.nii` or `.nii.gz`; the folder exists.
      data: (x, y, z) or (x, y, z, time).
      affine: (4, 4), written as qform and sform.
      dtype: stored type; integers are rounded, never scaled.
      frame_seconds: frame length of a series.
      sidecar: written as JSON beside it, before it.

    Raises:
      InputError: a value, the affine or the frame length is not finite; the disk is full or the folder cannot be
        written.
      ValueError: values do not fit `dtype`.
    """
    dtype = np.dtype(dtype)
    data = np.asarray(data)
    _check_finite(path, data, dtype, affine, frame_seconds)
    if dtype.kind in "iu" and data.dtype != dtype:
        limits = np.iinfo(dtype)
        if data.size and not (data.min() >= limits.min and data.max() <= limits.max):
            raise ValueError(f"{path}: values from {data.min()} to {data.max()} do not fit {dtype}.")
        data = np.rint(data) if data.dtype.kind == "f" else data
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    image = nibabel.Nifti1Image(data.astype(dtype, copy=False), affine, header)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header["pixdim"][4] = frame_seconds or 0.0  # NiBabel would put 1, as if that were known
    if sidecar is not None:
        with replacing(sidecar_path(path)) as file:
            file.write((json.dumps(sidecar, indent=1, allow_nan=False) + "\n").encode())
    content = image.to_bytes()
    with replacing(path) as file:
        if str(path).endswith(".gz"):
            with igzip.IGzipFile(
                filename="", mode="wb", fileobj=file, compresslevel=COMPRESSION_LEVEL, mtime=0
            ) as packed:
                packed.write(content)
        else:
            file.write(content)


def _check_finite(
    path: Path, data: np.ndarray, dtype: np.dtype, affine: np.ndarray, frame_seconds: float | None
) -> None:
    if data.dtype.kind not in "biu":
        with np.errstate(over="ignore", invalid="ignore"):
            stored = data.astype(dtype, copy=False) if dtype.kind == "f" else data  # 1e39 is infinite as float32
        if lost := stored.size - int(np.count_nonzero(np.isfinite(stored))):
            raise InputError(
                f"{path}: expected finite numbers, {lost} of {stored.size} values are NaN or infinite as {dtype}; "
                "nothing was written; give them a value first."
            )
    if not (np.isfinite(affine).all() and math.isfinite(frame_seconds or 0.0)):
        raise InputError(
            f"{path}: expected a finite affine and frame length, they hold NaN or infinity; nothing was written; "
            "correct them first."
        )
