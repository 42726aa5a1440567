"""NIfTI volumes in and out, with affine and frame length. The only file that imports NiBabel.

Words: the *affine* takes voxel indices to millimetres in RAS+ world space; *canonical* is the axis order and direction
closest to RAS, reached by permuting and flipping axes alone, so that the affine stays exact.
Arrays are (x, y, z) or (x, y, z, time).
"""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel
import numpy as np

from dscgan_jax.errors import DISK_FULL, InputError

Path = pathlib.Path | str

LARGEST_FRAME_SECONDS = 20.0  # no perfusion series has longer frames: larger numbers are milliseconds
SMALLEST_FRAME_SECONDS = 0.05  # nor shorter ones
LARGEST_ECHO_SECONDS = 1.0  # the same for echo times
COMPRESSION_LEVEL = 1  # noise does not compress: level 9 takes five times longer and saves 3 %
TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclasses.dataclass(frozen=True)
class Volume:
    """One NIfTI file.

    Attributes:
      data: (x, y, z) or (x, y, z, time), float32, `scl_slope` applied.
      affine: (4, 4) voxel index -> millimetres, RAS+.
      frame_seconds: frame length according to the header; None for a map and where the header cannot be trusted.
    """

    data: np.ndarray
    affine: np.ndarray
    frame_seconds: float | None


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


def read_volume(path: Path, dims: int) -> Volume:
    """Reads a NIfTI file.

    Args:
      path: `.nii` or `.nii.gz`.
      dims: 3 for a map, 4 for a series. A 5-D series (x, y, z, 1, time) becomes 4-D, as ISLES 2017 stores it.

    Raises:
      InputError: the file is absent, is not NIfTI, is cut off or damaged, or has another number of axes.
    """
    stem_of(path)
    image = _image(path, _content(path))
    try:
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InputError(f"{path}: the file ends before its last voxel or is damaged ({_brief(error)}); "
                         "copy or convert it again.") from error
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: the header's affine is not invertible; convert the file again or repair its sform.")
    data = _with_axes(path, data, dims)
    seconds = _header_seconds(image.header) if dims == 4 else None
    return Volume(data, affine, seconds)


def read_shape(path: Path) -> tuple[int, ...]:
    """Shape according to the header alone, singleton time axis of 5-D series removed; quick also on large files."""
    stem_of(path)
    shape = tuple(int(n) for n in _image(path, _content(path, 4096)).shape)
    return shape[:3] + shape[4:] if len(shape) == 5 and shape[3] == 1 else shape


def _content(path: Path, n_bytes: int = -1) -> bytes:
    """The whole file or its first `n_bytes`, unpacked. Reading to the end lets gzip verify its checksum."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            return file.read(n_bytes)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the compressed file is cut off or damaged ({_brief(error)}); "
                         "copy or convert it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_brief(error)}).") from error


def _image(path: Path, content: bytes) -> nibabel.Nifti1Image:
    size_of_header = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    kind = nibabel.Nifti2Image if 540 in size_of_header else nibabel.Nifti1Image
    if not size_of_header & {348, 540}:
        raise InputError(f"{path}: not a NIfTI file (its header is missing); convert it first (DICOM: dcm2niix).")
    try:
        holder = nibabel.FileHolder(fileobj=io.BytesIO(content))
        image = kind.from_file_map({"header": holder, "image": holder})
    except Exception as error:  # NiBabel raises many kinds for a damaged header
        raise InputError(f"{path}: the NIfTI header is damaged ({_brief(error)}); convert the file again.") from error
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: expected real numbers, the file holds {image.get_data_dtype()}; "
                         "save magnitudes as integers or floats.")
    return image


def _with_axes(path: Path, data: np.ndarray, dims: int) -> np.ndarray:
    shape = data.shape
    if dims == 4 and data.ndim == 5 and 1 in shape[3:]:
        data = data.reshape(shape[:3] + (shape[3] * shape[4],))
    elif dims == 3:
        while data.ndim > 3 and data.shape[-1] == 1:
            data = data[..., 0]
        if data.ndim == 2:
            data = data[:, :, None]
    if data.ndim != dims or 0 in data.shape:
        expected = "a 4-D series (x, y, z, time)" if dims == 4 else "a 3-D map (x, y, z)"
        raise InputError(f"{path}: expected {expected}, the file has shape {shape}; "
                         + ("give the whole perfusion series." if dims == 4 else "give one map per file."))
    return data


def _header_seconds(header: nibabel.Nifti1Header) -> float | None:
    """Frame length from `pixdim`; None where it is 0, or 1 without a unit or in a 5-D file: writers' filling."""
    unit = TIME_UNITS.get(header.get_xyzt_units()[1])
    zooms = [float(zoom) for zoom in header.get_zooms()[3:]]
    for zoom in reversed(zooms):  # 5-D series: the last axis is time
        if np.isfinite(zoom) and zoom > 0 and not (zoom == 1.0 and (unit is None or len(zooms) > 1)):
            seconds = zoom * (unit or 1.0)
            return seconds * 1e-3 if seconds > LARGEST_FRAME_SECONDS else seconds
    return None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def read_sidecar(path: Path) -> dict[str, Any]:
    """A JSON sidecar; an absent file is an empty one."""
    try:
        sidecar = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a JSON file ({_brief(error)}); repair or remove it.") from error
    if not isinstance(sidecar, dict):
        raise InputError(f"{path}: expected a JSON object such as {{\"RepetitionTime\": 1.5}}; repair or remove it.")
    return sidecar


def _positive(value: Any, field: str, path: Path, largest: float) -> float:
    """Seconds; numbers that are too large for seconds are milliseconds."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not (np.isfinite(seconds) and seconds > 0):
        raise InputError(f"{path}: {field} must be a positive number of seconds, it is {value!r}; correct the sidecar.")
    return seconds * 1e-3 if seconds > largest else seconds


def frame_seconds_of(path: Path, volume: Volume, sidecar: dict[str, Any], given_seconds: float = 0.0) -> float:
    """Frame length in seconds: the one given, else the sidecar's RepetitionTime, else the header's.

    Raises:
      InputError: none of them tells, or what it tells is no frame length in seconds.
    """
    if given_seconds:
        return _plausible(_positive(given_seconds, "the given frame length", path, LARGEST_FRAME_SECONDS),
                          f"{path}: the given frame length is {given_seconds:g}")
    if "RepetitionTime" in sidecar:
        source, given = sidecar_path(path), sidecar["RepetitionTime"]
        return _plausible(_positive(given, "RepetitionTime", source, LARGEST_FRAME_SECONDS),
                          f"{source}: RepetitionTime is {given}")
    if volume.frame_seconds is not None:
        return _plausible(volume.frame_seconds, f"{path}: the header's frame length is {volume.frame_seconds:g} s")
    raise InputError(f"{path}: the frame length is unknown: neither the header nor a sidecar tells it; give --tr= "
                     f"(--config.data.tr_seconds=) in seconds, or RepetitionTime in {sidecar_path(path).name}.")


def _plausible(seconds: float, what: str) -> float:
    if seconds < SMALLEST_FRAME_SECONDS:
        raise InputError(f"{what}, expected seconds, {SMALLEST_FRAME_SECONDS:g} to {LARGEST_FRAME_SECONDS:g} (ms or minutes?); "
                         "correct it, or give --tr= (--config.data.tr_seconds=) in seconds.")
    return seconds


def echo_seconds_of(path: Path, sidecar: dict[str, Any], given_seconds: float = 0.0) -> float:
    """Echo time in seconds: the one given, else the sidecar's EchoTime, else NaN."""
    if given_seconds:
        return _positive(given_seconds, "the given echo time", path, LARGEST_ECHO_SECONDS)
    if "EchoTime" in sidecar:
        return _positive(sidecar["EchoTime"], "EchoTime", sidecar_path(path), LARGEST_ECHO_SECONDS)
    return float("nan")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """A binary file that takes the place of `path` once it is whole; on failure nothing is left.

    Raises:
      InputError: the disk is full or the folder cannot be written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise InputError(f"{path}: the disk is full; free some space or choose another folder.") from error
        raise InputError(f"{path}: cannot be written ({_brief(error)}); choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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
      InputError: the disk is full or the folder cannot be written.
      ValueError: values do not fit `dtype`.
    """
    dtype = np.dtype(dtype)
    data = np.asarray(data)
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
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=COMPRESSION_LEVEL, mtime=0) as packed:
                packed.write(content)
        else:
            file.write(content)


Orientation = tuple[tuple[int, int], ...]  # for each stored axis: the canonical axis it becomes, and +1 or -1


def to_canonical(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, Orientation]:
    """Permutes and flips the first three axes to the order closest to RAS.

    Returns:
      The array (a view), its affine, and what `from_canonical` needs to go back. Oblique affines keep their angles.
    """
    orientation = nibabel.io_orientation(affine)
    canonical_affine = affine @ nibabel.orientations.inv_ornt_aff(orientation, data.shape[:3])
    record = tuple((int(axis), int(sign)) for axis, sign in orientation)
    return nibabel.apply_orientation(data, orientation), canonical_affine, record


def from_canonical(data: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Inverse of `to_canonical` for any array on the same grid, (x, y, z, ...)."""
    for canonical_axis, sign in orientation:
        if sign < 0:
            data = np.flip(data, canonical_axis)
    return data.transpose([axis for axis, _ in orientation] + list(range(3, data.ndim)))
