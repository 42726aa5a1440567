"""NIfTI volumes in and out, with affine and frame length. The only file that imports NiBabel.

Words: the *affine* takes voxel indices to millimetres in RAS+ world space; *canonical* is the axis order and direction
closest to RAS, reached by permuting and flipping axes alone, so that the affine stays exact.
Arrays are (x, y, z) or (x, y, z, time).
"""

import contextlib
import dataclasses
import gzip
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import IO, Any

import nibabel
import numpy as np

from dscgan_jax.errors import DISK_FULL, InputError
from dscgan_jax.findings import Finding, Findings

Path = pathlib.Path | str

COMPRESSION_LEVEL = 1  # noise does not compress: level 9 takes five times longer and saves 3 %
SPATIAL_UNITS = {1: ("metre", 1e3), 3: ("micron", 1e-3)}  # xyzt_units & 7 -> mm; every other code is mm
TIME_UNITS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # xyzt_units & 56 -> seconds; 56 is nothing
NO_TIMES = (32, 40, 48)  # Hz, ppm, rad/s
SMALLEST_EDGE, LARGEST_EDGE = 0.05, 100.0  # mm: thinner than any scanner's voxels, thicker than half a head
LARGEST_POSITION = 1e5  # mm: 100 m from the scanner's centre is no place, it is a damaged header
SAME_EDGE = 0.05  # pixdim and sform may differ by rounding and a gantry's tilt, not by more than 5 %
LARGEST_HEADER_TIME = 1e9  # longer than 16 minutes even in microseconds: no frame length, whatever the unit
LARGEST_SCALING = 1e30  # no signal and no map: slopes and intercepts beyond, and what they make, leave float32 (3.4e38)
# Phantoms: slices differ by 0.18 to 0.36 of the mean signal, 3 to 8 times as much as frames; noise alone gives a ratio
# of 1.
FRAMES_ALIKE = 0.4  # frames differ by less than this part of what slices differ by
SLICES_DIFFER = 0.1  # slices differ by more than this part of the mean signal
FEWEST_FRAMES = 10  # what has fewer entries is no perfusion series: the series' axis must have at least as many
DEFLATE_RATIO = (
    1032  # DEFLATE writes at least 2 bits for 258 bytes: a packed file cannot hold more than this many times itself
)
CHUNK = 1 << 24  # bytes that are unpacked in one go


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


@dataclasses.dataclass(frozen=True)
class _Header:
    """What a NIfTI header says, checked.

    Attributes:
      shape: as stored, empty axes beyond the fifth left out.
      dtype: stored type, byte order included.
      offset: bytes before the first voxel.
      slope, inter: value = stored * slope + inter; (1, 0) where nothing is scaled.
      affine: (4, 4) voxel index -> millimetres.
      findings: what is doubtful.
      times: `pixdim` of the axes from the fourth on.
      time_unit: seconds per unit of these; None: not known.
      is_time: whether their unit can be one of time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    findings: tuple[Finding, ...]
    times: tuple[float, ...]
    time_unit: float | None
    is_time: bool

    @property
    def size(self) -> int:
        """Bytes that the unpacked file must have."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def told(self) -> str:
        """What the header says about the data."""
        return f"the header says {' x '.join(map(str, self.shape))} voxels of {self.dtype.itemsize} bytes"


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


def read_volume(path: Path, dims: int) -> Volume:
    """Reads a NIfTI file.

    Args:
      path: `.nii` or `.nii.gz`.
      dims: 3 for a map, 4 for a series. A 5-D series (x, y, z, 1, time) becomes 4-D, as ISLES 2017 stores it.

    Raises:
      InputError: the file is absent, is not NIfTI, is cut off or damaged, has another number of axes, or its header
        contradicts itself or the data.
    """
    stem_of(path)
    with _opened(path) as (file, most):
        header = _header(path, file, most)
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
        shape = _header(path, file, most).shape
    return _joined(shape) if len(shape) == 5 and 1 in shape[3:] else shape


def read_outline(path: Path) -> Volume:
    """A 4-D series as `read_volume` gives it, but from the header alone: its data are zeros that hold no memory."""
    stem_of(path)
    with _opened(path) as (file, most):
        header = _header(path, file, most)
    data = np.broadcast_to(np.float32(0), _with_axes(path, header.shape, 4))
    _check_time_last(path, data)
    return _volume(header, data)


def _volume(header: _Header, data: np.ndarray) -> Volume:
    if data.ndim < 4:
        return Volume(data, header.affine, None, header.findings, None, header.time_unit)
    return Volume(data, header.affine, _header_seconds(header), header.findings, _header_time(header), header.time_unit)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
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
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked, size * DEFLATE_RATIO
            else:
                yield file, size
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: the compressed file is cut off or damaged ({_brief(error)}); copy or convert it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_brief(error)}).") from error
    except MemoryError as error:
        raise InputError(
            f"{path}: does not fit into memory; use a machine with more or convert fewer slices."
        ) from error


def _header(path: Path, file: IO[bytes], most: int) -> _Header:
    """Reads the 348 or 540 bytes of the header and nothing else.

    Args:
      path: for messages.
      file: unpacked content.
      most: bytes that the content can have at most.

    Raises:
      InputError: not NIfTI, or a header that contradicts itself or needs more bytes than there can be.
    """
    fields = _fields(path, file.read(540))
    space, time = int(fields["xyzt_units"]) & 7, int(fields["xyzt_units"]) & 56
    unit, mm = SPATIAL_UNITS.get(space, ("mm", 1.0))
    shape = _shape(path, fields)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # NaN that signals, numbers whose squares are infinite: checked there
        affine, findings = _affine(path, fields, shape, unit, mm)
    if mm != 1.0:
        findings += (Finding("spatial_unit", "note", f"lengths in the header are in {unit}, converted to mm", unit),)
    slope, inter = _scaling(path, fields)
    times = tuple(float(zoom) for zoom in fields["pixdim"][4 : len(shape) + 1])
    header = _Header(
        shape,
        _dtype(path, fields),
        _offset(path, fields, most),
        slope,
        inter,
        affine,
        findings,
        times,
        TIME_UNITS.get(time),
        time not in NO_TIMES,
    )
    if header.size > most:
        raise _too_short(path, header, None if isinstance(file, gzip.GzipFile) else most)
    return header


def _fields(path: Path, head: bytes) -> Any:
    """The header's fields as NiBabel names them, unchecked."""
    orders = {int.from_bytes(head[:4], name): order for name, order in (("little", "<"), ("big", ">"))}
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    size = next((size for size in kinds if size in orders), 0)
    if not size or len(head) < size:
        _refuse_pointer(path, head)
        raise InputError(f"{path}: not a NIfTI file (its header is missing); convert it first (DICOM: dcm2niix).")
    fields = kinds[size](head[:size], orders[size], check=False)
    if bytes(fields["magic"])[:3] not in (b"n+1", b"ni1", b"n+2", b"ni2"):
        raise InputError(
            f"{path}: the NIfTI header is damaged (magic is {bytes(fields['magic'])!r}, expected n+1 or n+2); "
            "convert the file again."
        )
    return fields


def _refuse_pointer(path: Path, content: bytes) -> None:
    """Git leaves one where an annexed file is unlocked or a large one not fetched."""
    if b"/annex/objects/" in content[:200] or content.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a pointer, its data were not fetched; run `git annex get` or `git lfs pull` on it.")


def _shape(path: Path, fields: Any) -> tuple[int, ...]:
    dim = [int(n) for n in fields["dim"]]
    if not 1 <= dim[0] <= 7:
        raise InputError(f"{path}: dim[0] in the header is {dim[0]}, expected 1 to 7 axes; convert the file again.")
    shape = tuple(dim[1 : dim[0] + 1])
    if min(shape) < 1:
        raise InputError(
            f"{path}: the header's dimensions are {' x '.join(map(str, shape))}, expected at least 1 each; "
            "convert the file again."
        )
    while len(shape) > 5 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _dtype(path: Path, fields: Any) -> np.dtype:
    try:
        dtype = np.dtype(fields.get_data_dtype())
    except Exception as error:  # NiBabel raises its own kinds for a code that it does not know
        raise InputError(
            f"{path}: datatype in the header is {int(fields['datatype'])}, which NIfTI does not know; "
            "convert the file again."
        ) from error
    if dtype.kind not in "iuf":
        raise InputError(
            f"{path}: expected real numbers, the file holds {dtype}; save magnitudes as integers or floats."
        )
    return dtype


def _offset(path: Path, fields: Any, most: int) -> int:
    """Bytes before the first voxel: never fewer than the header itself, whatever `vox_offset` says (often 0)."""
    offset, least = float(fields["vox_offset"]), fields.single_vox_offset
    if not (0 <= offset <= max(most, least) and offset == int(offset)):
        raise InputError(
            f"{path}: vox_offset in the header is {offset:g}, expected {least} or a little more, within the file; "
            "convert the file again."
        )
    return max(int(offset), least)


def _scaling(path: Path, fields: Any) -> tuple[float, float]:
    """Slope and intercept; (1, 0) where the slope is 0, or both are NaN, as in headers that nobody set."""
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or (math.isnan(slope) and math.isnan(inter)):
        return 1.0, 0.0
    for field, value, least in (("scl_slope", slope, 1 / LARGEST_SCALING), ("scl_inter", inter, 0.0)):
        if not least <= abs(value) <= LARGEST_SCALING:
            raise InputError(
                f"{path}: {field} in the header is {value:g}, expected {least:g} to {LARGEST_SCALING:g}; convert "
                "the file again."
            )
    return slope, inter


def _affine(
    path: Path, fields: Any, shape: tuple[int, ...], unit: str, mm: float
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """The affine in mm by the standard's order (sform, qform, edges alone), and what is doubtful about it."""
    pixdim = _edges(path, fields, len(shape), unit, mm)
    sform, qform = int(fields["sform_code"]) > 0, int(fields["qform_code"]) > 0
    if sform:
        affine = np.array([fields["srow_x"], fields["srow_y"], fields["srow_z"], [0, 0, 0, 1]], np.float64)
        affine[:3] *= mm
    elif qform:
        affine = _qform(path, fields, pixdim, mm)
    else:  # as NiBabel does: x from right to left, centred
        affine = nibabel.volumeutils.shape_zoom_affine(((*shape, 1, 1))[:3], pixdim, x_flip=True)
    _check_affine(path, affine, unit)
    findings = _other_edges(affine, pixdim) if sform else ()
    if sform and qform:
        findings += _other_place(path, fields, shape, affine, pixdim, mm)
    return affine, findings + _says_nothing(affine, pixdim, sform or qform)


def _says_nothing(affine: np.ndarray, pixdim: np.ndarray, oriented: bool) -> tuple[Finding, ...]:
    """Warnings about a header that was filled by somebody who knew neither orientation nor voxel size."""
    findings = ()
    if not oriented:
        text = "no orientation in the header (both form codes are 0): left and right are not known"
        findings += (Finding("orientation_unknown", "warning", text),)
    if np.array_equal(np.abs(affine if oriented else np.diag([*pixdim, 1.0])), np.eye(4)):
        text = (
            "the header gives 1 x 1 x 1 mm without a position: image libraries write this when they know nothing; "
            "volumes in "
            "ml would be wrong"
        )
        findings += (Finding("voxel_size", "warning", text, "1 x 1 x 1"),)
    return findings


def _edges(path: Path, fields: Any, n_axes: int, unit: str, mm: float) -> np.ndarray:
    """`pixdim[1..3]` in mm, (3,).

    NaN where an edge is not given and an sform makes up for it, 1 for an axis that is not there.

    Raises:
      InputError: an edge that no voxel has, or an edge missing where it decides.
    """
    edges = np.array(fields["pixdim"][1:4], np.float64) * mm
    for axis, edge in enumerate(edges):
        if edge > 0:
            _check_edge(path, f"pixdim[{axis + 1}]", edge, unit)
        elif int(fields["sform_code"]) > 0:
            edges[axis] = np.nan
        elif axis >= n_axes and edge == 0:
            edges[axis] = 1.0
        else:
            raise InputError(
                f"{path}: pixdim[{axis + 1}] in the header is {edge:g}, expected the voxel's edge in mm; correct it "
                "or convert the file again."
            )
    return edges


def _check_edge(path: Path, what: str, edge: float, unit: str) -> None:
    if not SMALLEST_EDGE <= edge <= LARGEST_EDGE:
        raise InputError(
            f"{path}: {what} in the header makes a voxel's edge of {edge:g} mm (unit: {unit}), expected "
            f"{SMALLEST_EDGE:g} to {LARGEST_EDGE:g} mm; correct it or convert the file again."
        )


def _check_affine(path: Path, affine: np.ndarray, unit: str) -> None:
    if not np.isfinite(affine).all() or np.abs(affine[:3, 3]).max() > LARGEST_POSITION:
        raise InputError(
            f"{path}: the header's affine is not finite or lies beyond {LARGEST_POSITION:g} mm; convert the file "
            "again or repair its sform."
        )
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not edges.min() or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-6:
        raise InputError(f"{path}: the header's affine is not invertible; convert the file again or repair its sform.")
    for axis, edge in enumerate(edges):
        _check_edge(path, f"column {axis + 1} of the affine (srow)", edge, unit)


def _qform(path: Path, fields: Any, edges: np.ndarray, mm: float) -> np.ndarray:
    """Edges and `qoffset` in mm, rotation by the quaternion; a `pixdim[0]` of 0 counts as 1, as the standard says."""
    quaternion = np.array([fields["quatern_b"], fields["quatern_c"], fields["quatern_d"]], np.float64)
    squared = float(quaternion @ quaternion)
    if not squared <= 1.0 + 1e-3:  # float32 rounding leaves 1e-7; other tools round further
        raise InputError(
            f"{path}: quatern_b, c, d in the header have length {math.sqrt(squared):g}, expected at most 1; "
            "convert the file again."
        )
    first = math.sqrt(max(0.0, 1.0 - squared))
    affine = np.eye(4)
    affine[:3, :3] = nibabel.quaternions.quat2mat([first, *quaternion]) * edges
    affine[:3, 2] *= -1.0 if fields["pixdim"][0] < 0 else 1.0
    affine[:3, 3] = [float(fields[f"qoffset_{axis}"]) * mm for axis in "xyz"]
    return affine


def _other_edges(affine: np.ndarray, pixdim: np.ndarray) -> tuple[Finding, ...]:
    """A warning where `pixdim` (3,) in mm contradicts the sform; NaN edges say nothing."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore"):
        if not (np.abs(pixdim / edges - 1) > SAME_EDGE).any():
            return ()
    mine, theirs = (" x ".join(f"{edge:.3g}" for edge in which) for which in (edges, pixdim))
    text = f"the header's sform gives voxels of {mine} mm, its pixdim {theirs} mm; the sform is used"
    return (Finding("voxel_size", "warning", text, mine),)


def _other_place(
    path: Path, fields: Any, shape: tuple[int, ...], affine: np.ndarray, edges: np.ndarray, mm: float
) -> tuple[Finding, ...]:
    """A warning where sform and qform place a corner of the volume more than one voxel apart."""
    try:
        other = _qform(path, fields, edges, mm)
    except InputError:
        return ()
    if not np.isfinite(other).all():  # an edge is missing: the qform says nothing
        return ()
    corners = np.array(list(itertools.product(*((0, n - 1) for n in ((*shape, 1, 1))[:3]), (1,)))).T
    apart = np.abs(np.linalg.solve(affine, other @ corners) - corners)[:3].max()
    if apart <= 1.0 + 1e-3:
        return ()
    name = "voxel_size" if _other_edges(affine, edges) else "orientation_unknown"
    text = (
        f"the header's sform and qform place a corner of the volume {apart:.3g} voxels apart: position, left and "
        "right may "
        "be wrong; the sform is used"
    )
    return (Finding(name, "warning", text, round(float(apart), 3)),)


def _too_short(path: Path, header: _Header, n_bytes: int | None) -> InputError:
    less = (
        "the file cannot hold that much"
        if n_bytes is None
        else f"the file holds {header.size - n_bytes} bytes less than that"
    )
    return InputError(
        f"{path}: the file ends before its last voxel or is damaged: {header.told()}, {less}; copy or convert it again."
    )


def _check_memory(path: Path, header: _Header) -> None:
    needed, there = header.size + 4 * math.prod(header.shape), _memory_bytes()
    if needed > there:
        raise InputError(
            f"{path}: {header.told()}; reading it takes {needed / 1e9:.1f} GB of memory, this machine has "
            f"{there / 1e9:.1f}; convert the file again or use a larger machine."
        )


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return math.inf


def _stored(path: Path, file: IO[bytes], header: _Header, most: int) -> np.ndarray:
    """The voxels as stored, shape as in the header. Reading to the end lets gzip verify its checksum.

    Raises:
      InputError: the file holds fewer or more bytes than the header says.
    """
    if not isinstance(file, gzip.GzipFile) and most > header.size:
        raise _too_long(path, header, most - header.size)
    file.seek(0)
    content, filled = np.empty(header.size, np.uint8), 0
    view = memoryview(content)
    while filled < header.size and (count := file.readinto(view[filled : filled + CHUNK])):
        filled += count
    if filled < header.size:
        raise _too_short(path, header, filled)
    if file.read(1):
        raise _too_long(path, header, _size_of_packed(file) - header.size)
    return content[header.offset :].view(header.dtype).reshape(header.shape, order="F")


def _size_of_packed(file: gzip.GzipFile) -> int:
    """Unpacked size by the last four bytes: right up to 4 GB unless several gzip files were put behind one another."""
    file.fileobj.seek(-4, os.SEEK_END)
    return int.from_bytes(file.fileobj.read(4), "little")


def _too_long(path: Path, header: _Header, surplus: int) -> InputError:
    more = surplus if surplus > 0 else "some"
    return InputError(
        f"{path}: {header.told()}, the file holds {more} bytes more than that: header and data contradict each "
        "other; convert the file again."
    )


def _scaled(path: Path, stored: np.ndarray, header: _Header) -> np.ndarray:
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

    Frames are near copies of each other, slices are not: the bolus changes a voxel by a few per cent from frame to
      frame,
    5 mm of head change most of them by more. What has fewer than `FEWEST_FRAMES` entries is no time.
    """
    third, fourth = data.shape[2:]
    if third >= FEWEST_FRAMES and _third_is_time(data):
        raise InputError(
            f"{path}: expected (x, y, slice, time), the third axis seems to be time (x, y, time, slice), the file "
            f"has shape {data.shape}; reorder its axes and write it again."
        )
    if third >= FEWEST_FRAMES > fourth:
        raise InputError(
            f"{path}: expected at least {FEWEST_FRAMES} frames along the last axis, the file has shape "
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


def _header_time(header: _Header) -> float | None:
    """`pixdim` of the time axis: of two, the last that has more than one entry (5-D series end with time)."""
    axes = [axis for axis in range(len(header.times)) if header.shape[3 + axis] > 1] or [len(header.times) - 1]
    time = header.times[axes[-1]]
    return time if 0 < time <= LARGEST_HEADER_TIME else None


def _header_seconds(header: _Header) -> float | None:
    """Frame length from `pixdim`; None where it is 0, or 1 in another unit than seconds or in a 5-D file.

    Writers' filling.
    """
    unit = header.time_unit
    if not header.is_time:
        return None
    for zoom in reversed(header.times):  # 5-D series: the last axis is time
        if 0 < zoom <= LARGEST_HEADER_TIME and not (zoom == 1.0 and (unit != 1.0 or len(header.times) > 1)):
            return zoom * (unit or 1.0)
    return None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def read_sidecar(path: Path, found: Findings | None = None) -> dict[str, Any]:
    """A JSON sidecar in UTF-8, UTF-16 or UTF-32, with or without byte order mark, or Latin-1.

    An absent file is an empty one.

    Args:
      path: of the sidecar.
      found: is told of Latin-1.

    Returns:
      Whatever the file holds: NaN, huge integers and wrong types are for those to judge who use a field.

    Raises:
      InputError: the file cannot be read, is not JSON or holds no JSON object.
    """
    if not present(path):
        return {}
    content = b""
    try:
        content = pathlib.Path(path).read_bytes()
        sidecar = json.loads(_decoded(path, content, found))
    except (OSError, ValueError) as error:
        _refuse_pointer(path, content)
        raise InputError(f"{path}: not a JSON file ({_brief(error)}); repair or remove it.") from error
    except RecursionError as error:
        raise InputError(f"{path}: not a sidecar (brackets nested too deeply); repair or remove it.") from error
    if not isinstance(sidecar, dict):
        raise InputError(f'{path}: expected a JSON object such as {{"RepetitionTime": 1.5}}; repair or remove it.')
    return sidecar


def _decoded(path: Path, content: bytes, found: Findings | None) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:  # old converters write names of hospitals and protocols in Latin-1
        if found:
            found.note("sidecar_encoding", f"{pathlib.Path(path).name} is not UTF-8; it was read as Latin-1")
        return content.decode("latin-1")


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
            with gzip.GzipFile(
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
