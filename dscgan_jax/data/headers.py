"""What a NIfTI header says, held against its file before anything is allocated.

Words: *edges* are the lengths of a voxel's sides; *sform* and *qform* are the header's two ways to place it.
"""

import dataclasses
import gzip
import itertools
import math
import pathlib
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.quaternions import quat2mat
from nibabel.volumeutils import shape_zoom_affine

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding

Path = pathlib.Path | str
Unpacked = BinaryIO | gzip.GzipFile  # the content of a file, whether it is packed or not

SPATIAL_UNITS = {1: ("metre", 1e3), 3: ("micron", 1e-3)}  # xyzt_units & 7 -> mm; every other code is mm
TIME_UNITS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # xyzt_units & 56 -> seconds; 56 is nothing
NO_TIMES = (32, 40, 48)  # Hz, ppm, rad/s
SMALLEST_EDGE, LARGEST_EDGE = 0.05, 100.0  # mm: thinner than any scanner's voxels, thicker than half a head
LARGEST_POSITION = 1e5  # mm: 100 m from the scanner's centre is no place, it is a damaged header
SAME_EDGE = 0.05  # pixdim and sform may differ by rounding and a gantry's tilt, not by more than 5 %
LARGEST_HEADER_TIME = 1e9  # longer than 16 minutes even in microseconds: no frame length, whatever the unit
LARGEST_SCALING = 1e30  # no signal and no map: slopes and intercepts beyond, and what they make, leave float32 (3.4e38)


@dataclasses.dataclass(frozen=True)
class Header:
    """The content of a NIfTI header, checked.

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

    @property
    def time(self) -> float | None:
        """`pixdim` of the time axis: of two, the last that has more than one entry (5-D series end with time)."""
        axes = [axis for axis in range(len(self.times)) if self.shape[3 + axis] > 1] or [len(self.times) - 1]
        time = self.times[axes[-1]]
        return time if 0 < time <= LARGEST_HEADER_TIME else None

    @property
    def frame_seconds(self) -> float | None:
        """Frame length from `pixdim`; None where it is 0, or where writers fill it in.

        They fill in 1, in another unit than seconds or in a 5-D file.
        """
        if not self.is_time:
            return None
        for zoom in reversed(self.times):  # 5-D series: the last axis is time
            filled_in = zoom == 1.0 and (self.time_unit != 1.0 or len(self.times) > 1)
            if 0 < zoom <= LARGEST_HEADER_TIME and not filled_in:
                return zoom * (self.time_unit or 1.0)
        return None

    def in_words(self) -> str:
        """What the header says about the data."""
        return f"the header says {' x '.join(map(str, self.shape))} voxels of {self.dtype.itemsize} bytes"


def read_header(path: Path, file: Unpacked, most: int) -> Header:
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
    header = Header(
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
        raise too_short(path, header, None if isinstance(file, gzip.GzipFile) else most)
    return header


def _fields(path: Path, head: bytes) -> Any:
    """The header's fields as NiBabel names them, unchecked."""
    orders = {int.from_bytes(head[:4], "little"): "<", int.from_bytes(head[:4], "big"): ">"}
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    size = next((size for size in kinds if size in orders), 0)
    if not size or len(head) < size:
        refuse_pointer(path, head)
        raise InputError(f"{path}: not a NIfTI file (its header is missing); convert it first (DICOM: dcm2niix).")
    fields = kinds[size](head[:size], orders[size], check=False)
    if bytes(fields["magic"])[:3] not in (b"n+1", b"ni1", b"n+2", b"ni2"):
        raise InputError(
            f"{path}: the NIfTI header is damaged (magic is {bytes(fields['magic'])!r}, expected n+1 or n+2); "
            "convert the file again."
        )
    return fields


def refuse_pointer(path: Path, content: bytes) -> None:
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
        affine = shape_zoom_affine(((*shape, 1, 1))[:3], pixdim, x_flip=True)
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
            "volumes in mL would be wrong"
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
    edges = voxel_sizes(affine)
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
    affine[:3, :3] = quat2mat([first, *quaternion]) * edges
    affine[:3, 2] *= -1.0 if fields["pixdim"][0] < 0 else 1.0
    affine[:3, 3] = [float(fields[f"qoffset_{axis}"]) * mm for axis in "xyz"]
    return affine


def _other_edges(affine: np.ndarray, pixdim: np.ndarray) -> tuple[Finding, ...]:
    """A warning where `pixdim` (3,) in mm contradicts the sform; NaN edges say nothing."""
    edges = voxel_sizes(affine)
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
        "right may be wrong; the sform is used"
    )
    return (Finding(name, "warning", text, round(float(apart), 3)),)


def too_short(path: Path, header: Header, n_bytes: int | None) -> InputError:
    """The error about a file of fewer bytes than its header asks for; None: how many is not known."""
    less = (
        "the file cannot hold that much"
        if n_bytes is None
        else f"the file holds {header.size - n_bytes} bytes less than that"
    )
    return InputError(
        f"{path}: the file ends before its last voxel or is damaged: {header.in_words()}, {less}; copy or convert "
        "it again."
    )
