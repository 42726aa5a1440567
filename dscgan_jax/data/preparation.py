"""An exam onto the network grid, in space and in time, and predictions back onto the exam's own grid.

Words: the *network grid* is (slice, row, col), `size` x `size` pixels over the square field of view, row 0 at the front
of the head, col 0 at the patient's right (on the left of the picture, as radiologists look). The *canonical* grid is
the exam's, axes permuted and flipped to RAS. Between the two stand three small matrices, one for each axis.

With `outside_brain="zero"` the series is 0 outside the brain, before anything is interpolated. The brain is always
looked for in the series itself, whatever mask or maps an exam brings: so a network sees the same of an exam in
training, in evaluation and of a lone file, and air, scalp, noise and a stripped skull are the same to it.
"""

import dataclasses
from typing import Any

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.data.exams import Exam, with_motion_told
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion import brain, motion

TIME_MODES = ("stretch", "seconds")
TRANSIENTS = ("keep", "hold")
OUTSIDE_BRAIN = ("keep", "zero")
INT16_MAX = 32767
OUTLIER = 16.0  # times the brain's 99.9 percentile: brighter signal is clipped, or int16 would be too coarse for brain


@dataclasses.dataclass(frozen=True)
class PreparationSettings:
    """What decides the network grid. Other settings make another data set.

    Attributes:
      size: rows and columns.
      slices: slices over the exam's extent; 0 = those of the exam.
      frames: frames of the network input.
      time_mode: `stretch` maps the whole duration to `frames`; `seconds` takes real time.
      frame_seconds: frame length in `seconds`.
      transients: `keep`, or `hold` = frames before steady state are replaced by the first steady one.
      lead_seconds: in `seconds`, how long before the bolus arrives the first frame lies; 0 = at the first acquired
        frame.
      motion: `none`, or `rigid` = the series is realigned first.
      outside_brain: `keep`, or `zero` = the series is 0 outside the brain (with its fluid spaces).
    """

    size: int
    slices: int
    frames: int
    time_mode: str
    frame_seconds: float
    transients: str
    lead_seconds: float = 0.0
    motion: str = "none"
    outside_brain: str = "keep"

    def __post_init__(self):
        if self.time_mode not in TIME_MODES:
            raise InputError(f"config.data.time_mode is {self.time_mode!r}; it must be one of {', '.join(TIME_MODES)}.")
        if self.transients not in TRANSIENTS:
            raise InputError(
                f"config.data.transients is {self.transients!r}; it must be one of {', '.join(TRANSIENTS)}."
            )
        if self.motion not in motion.CORRECTIONS:
            raise InputError(
                f"config.data.motion is {self.motion!r}; it must be one of {', '.join(motion.CORRECTIONS)}."
            )
        if self.outside_brain not in OUTSIDE_BRAIN:
            raise InputError(
                f"config.data.outside_brain is {self.outside_brain!r}; it must be one of {', '.join(OUTSIDE_BRAIN)}."
            )
        if self.size < 1 or self.slices < 0 or self.frames < 2 or not self.frame_seconds > 0:
            raise InputError(
                "config.data: expected size of at least 1, slices of at least 0, frames of at least 2 and "
                f"a positive frame_seconds, got {self.size}, {self.slices}, {self.frames}, "
                f"{self.frame_seconds}."
            )

    @classmethod
    def from_config(cls, data: Any) -> "PreparationSettings":
        """From `config.data`."""
        return cls(
            int(data.size),
            int(data.slices),
            int(data.frames),
            str(data.time_mode),
            float(data.frame_seconds),
            str(data.transients),
            float(data.lead_seconds),
            str(data.motion),
            str(data.outside_brain),
        )


@dataclasses.dataclass(frozen=True)
class GridRecord:
    """How an exam came onto the network grid: all that `restore` needs.

    Attributes:
      shape: (x, y, z) of the exam as stored.
      affine: (4, 4) of the exam as stored, rows as tuples.
      orientation: how its axes became canonical (`nifti.to_canonical`).
      canonical_shape: (x, y, z) after that.
      voxel_mm: voxel size along the canonical axes.
      size, slices: the network grid.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    orientation: nifti.Orientation
    canonical_shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    size: int
    slices: int

    @property
    def field_of_view_mm(self) -> float:
        """Side of the square field of view: the longer in-plane side of the exam."""
        return max(self.canonical_shape[axis] * self.voxel_mm[axis] for axis in (0, 1))

    def axes(self) -> tuple["_Axis", "_Axis", "_Axis"]:
        """The canonical x, y and z axes, each with its own step and the network's."""
        pixel_mm = self.field_of_view_mm / self.size
        z_mm = self.canonical_shape[2] * self.voxel_mm[2]
        return (
            _Axis(self.canonical_shape[0], self.voxel_mm[0], self.size, pixel_mm),
            _Axis(self.canonical_shape[1], self.voxel_mm[1], self.size, pixel_mm),
            _Axis(self.canonical_shape[2], self.voxel_mm[2], self.slices, z_mm / self.slices),
        )


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of exam and network grid, which share their centre: counts, and steps in mm."""

    n_exam: int
    exam_mm: float
    n_network: int
    network_mm: float

    def to_network(self) -> np.ndarray | None:
        """(network, exam) interpolation matrix; None where the grids agree."""
        return resampling_matrix(self.n_exam, self.exam_mm, self.n_network, self.network_mm)

    def to_exam(self) -> np.ndarray | None:
        """(exam, network) interpolation matrix; None where the grids agree."""
        return resampling_matrix(self.n_network, self.network_mm, self.n_exam, self.exam_mm)

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """For each network position the exam voxel that contains it, and whether there is one."""
        centre = _centres(self.n_network, self.network_mm) / self.exam_mm + self.n_exam / 2
        index = np.floor(centre + 1e-6).astype(int)  # a centre on the border of two voxels must not depend on rounding
        return np.clip(index, 0, self.n_exam - 1), (index >= 0) & (index < self.n_exam)


def _centres(count: int, step_mm: float) -> np.ndarray:
    """Positions of `count` samples around their common centre, mm."""
    return (np.arange(count) - (count - 1) / 2) * step_mm


def resampling_matrix(n_from: int, from_mm: float, n_to: int, to_mm: float) -> np.ndarray | None:
    """(to, from) matrix of linear interpolation, widened against aliasing where it samples down.

    Weights are a triangle over the distance, as wide as the coarser of both steps. A position outside the input's
    extent
    has zero weights: padding is zero, not the repeated edge. Both grids share their centre. None stands for the
      identity.
    """
    if n_from == n_to and abs(from_mm - to_mm) < 1e-6 * from_mm:
        return None
    to, source = _centres(n_to, to_mm), _centres(n_from, from_mm)
    reach = max(from_mm, to_mm)
    weights = np.maximum(0.0, 1.0 - np.abs(to[:, None] - source[None, :]) / reach)
    weights[weights < 1e-6] = 0.0  # where grids agree up to an offset, copying stays exact
    inside = np.abs(to) <= n_from * from_mm / 2 * (1 + 1e-6)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(inside[:, None], weights / np.maximum(total, 1e-12), 0.0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PreparedExam:
    """An exam on the network grid.

    Attributes:
      dsc: (slice, time, row, col) int16; times `dsc_scale` it is scanner signal.
      maps: (slice, row, col, map) float32 in the order of `MAP_NAMES`; 0 where absent.
      has_map: (map,) bool.
      mask: (slice, row, col) bool.
      brain: (x, y, z) bool on the exam's own grid, what the network saw of it; None where it saw everything.
      baseline_begin, baseline_end: half-open range of network frames before the bolus.
      brain_signal: median baseline signal of the brain, scanner units.
      echo_seconds: echo time; NaN if unknown.
      frame_seconds: length of a network frame.
      findings: the exam's and the preparation's, the worst first.
      grid: the way back.
    """

    subject: str
    dsc: np.ndarray
    dsc_scale: float
    maps: np.ndarray
    has_map: np.ndarray
    mask: np.ndarray
    mask_source: str
    baseline_begin: int
    baseline_end: int
    brain_signal: float
    echo_seconds: float
    frame_seconds: float
    findings: tuple[Finding, ...]
    grid: GridRecord
    brain: np.ndarray | None = None


def grid_of(shape: tuple[int, ...], affine: np.ndarray, settings: PreparationSettings) -> GridRecord:
    """The network grid over an exam of `shape` (x, y, z) with `affine`."""
    probe = np.broadcast_to(np.int8(0), shape[:3])
    canonical, canonical_affine, orientation = nifti.to_canonical(probe, affine)
    voxel_mm = np.linalg.norm(canonical_affine[:3, :3], axis=0)
    return GridRecord(
        shape=tuple(int(n) for n in shape[:3]),
        affine=tuple(tuple(float(value) for value in row) for row in affine),
        orientation=orientation,
        canonical_shape=tuple(int(n) for n in canonical.shape),
        voxel_mm=tuple(float(size) for size in voxel_mm),
        size=settings.size,
        slices=settings.slices or int(canonical.shape[2]),
    )


def prepare(exam: Exam, settings: PreparationSettings) -> PreparedExam:
    """Puts an exam onto the network grid.

    Series and maps are interpolated linearly with anti-aliasing, masks by the nearest voxel. A map is averaged over the
    voxels where it has values, so that the zeros outside the brain do not pull its rim down.

    Raises:
      InputError: the mask has no voxel on the network grid.
    """
    as_read = exam
    exam = realigned(exam) if settings.motion == "rigid" else with_motion_told(exam)
    grid = grid_of(exam.series.shape, exam.affine, settings)
    found = Findings()
    first_seconds = _first_seconds(exam, settings)
    weights, network_seconds = _time_matrix(exam, settings, first_seconds, found)
    mask_is_of_series = exam.series is as_read.series and exam.mask_source == "threshold"
    inside = _brain_of(exam, mask_is_of_series, found) if settings.outside_brain == "zero" else None
    series = _series_on_network(exam.series, grid, weights, inside)
    maps, has_map, mask, _ = prepare_maps(exam.maps, exam.mask, exam.affine, settings)
    if not mask.any():
        raise InputError(
            f"{exam.subject}: the brain mask has no voxel on the network grid of {settings.size} x "
            f"{settings.size}; raise config.data.size or check the mask."
        )
    if settings.transients == "hold" and exam.timing.transient_frames:
        found.note(
            "transients_held",
            f"{exam.timing.transient_frames} frames before the steady state were replaced by the first steady one",
            exam.timing.transient_frames,
        )
    seen = _seen(mask, inside, grid)
    dsc, scale = _as_int16(series, seen, found)
    begin, end = _baseline_on_network(exam, first_seconds, network_seconds, settings.frames)
    baseline = dsc[:, begin:end].mean(axis=1, dtype=np.float32)  # (slice, row, col)
    return PreparedExam(
        subject=exam.subject,
        dsc=dsc,
        dsc_scale=scale,
        maps=maps,
        has_map=has_map,
        mask=mask,
        mask_source=exam.mask_source,
        baseline_begin=begin,
        baseline_end=end,
        brain_signal=float(np.median(baseline[seen])) * scale,
        echo_seconds=exam.echo_seconds,
        frame_seconds=network_seconds,
        findings=by_severity((*exam.findings, *found.listed())),
        grid=grid,
        brain=inside,
    )


def realigned(exam: Exam) -> Exam:
    """The exam with every frame in the pose of the first ones; the very same exam where the head lay still."""
    series, affine, orientation = nifti.to_canonical(exam.series, exam.affine)
    found, told = motion.realign_if_possible(series, affine)
    if found is None or not found.moved:
        return dataclasses.replace(exam, findings=by_severity((*exam.findings, *told))) if told else exam
    return dataclasses.replace(
        exam,
        series=np.ascontiguousarray(nifti.from_canonical(found.series, orientation)),
        findings=by_severity((*exam.findings, *told)),
    )


def _brain_of(exam: Exam, mask_is_of_series: bool, found: Findings) -> np.ndarray:
    """The whole brain, (x, y, z) bool as stored, from the series alone.

    From the exam's mask only if none is found there.

    `mask_is_of_series` says that the exam's mask is the tissue that was found in this very series.
    """
    mask, affine, orientation = nifti.to_canonical(exam.mask, exam.affine)
    try:
        if mask_is_of_series:
            inside = brain.with_fluid_spaces(mask, _edges_mm(affine))
        else:
            series, _, _ = nifti.to_canonical(exam.series, exam.affine)
            inside = brain.brain_mask(series, affine).brain
    except InputError as error:
        reason = str(error).partition(";")[0]
        found.note(
            "brain_from_mask", f"what lies outside the exam's mask was set to zero, for in the series itself: {reason}"
        )
        inside = brain.with_fluid_spaces(mask, _edges_mm(affine))
    # What is cut off here is lost to the network: dents of the outline are filled.
    inside = brain.without_notches(inside, _edges_mm(affine))
    return np.ascontiguousarray(nifti.from_canonical(inside, orientation))


def _edges_mm(affine: np.ndarray) -> np.ndarray:
    """(3,) edge lengths of a voxel."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def _seen(mask: np.ndarray, inside: np.ndarray | None, grid: GridRecord) -> np.ndarray:
    """(slice, row, col) bool: the part of the mask that the network sees, for a given mask may reach into the air."""
    if inside is None:
        return mask
    seen = mask & nearest_on_network(inside, grid)
    return seen if seen.any() else mask


def prepare_maps(
    maps: dict[str, np.ndarray], mask: np.ndarray, affine: np.ndarray, settings: PreparationSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, GridRecord]:
    """Maps alone onto the network grid.

    Args:
      maps: (x, y, z) by name, all on one grid.
      mask: (x, y, z) bool.

    Returns:
      maps (slice, row, col, map), has_map (map,), mask (slice, row, col), and the grid.
    """
    grid = grid_of(mask.shape, affine, settings)
    network_mask = nearest_on_network(mask, grid)
    stacked = np.zeros((*network_mask.shape, len(MAP_NAMES)), np.float32)
    for index, name in enumerate(MAP_NAMES):
        if name not in maps:
            continue
        support = mask | (maps[name] != 0)
        total = _linear_on_network(np.where(support, maps[name], 0).astype(np.float32), grid)
        weight = _linear_on_network(support.astype(np.float32), grid)
        inside = nearest_on_network(support, grid) & (weight > 0)
        # Dividing by a weight of exactly 1 changes nothing: on an identical grid the map comes through bit by bit.
        stacked[..., index] = np.where(inside, total / np.where(inside, weight, 1), 0)
    return stacked, np.array([name in maps for name in MAP_NAMES]), network_mask, grid


def restore(maps: np.ndarray, grid: GridRecord, mask: np.ndarray | None = None) -> np.ndarray:
    """Inverse of the preparation's way through space.

    Args:
      maps: (slice, row, col, k) on the network grid.
      grid: of the prepared exam.
      mask: (slice, row, col) bool; where given, only its pixels contribute, and where none reaches the result is 0.

    Returns:
      (x, y, z, k) float32 on the exam's own grid and axes.
    """
    maps = np.asarray(maps, dtype=np.float32)
    if mask is not None:
        weight = restore(mask[..., None].astype(np.float32), grid)
        total = restore(np.where(mask[..., None], maps, 0), grid)
        return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), 0).astype(np.float32)
    canonical = maps[:, ::-1, ::-1].transpose(2, 1, 0, 3)  # (slice, row, col, k) -> (x, y, z, k)
    for axis, matrix in enumerate(axis.to_exam() for axis in grid.axes()):
        canonical = _along(canonical, matrix, axis)
    return np.ascontiguousarray(nifti.from_canonical(canonical, grid.orientation))


def _along(array: np.ndarray, matrix: np.ndarray | None, axis: int) -> np.ndarray:
    """Multiplies one axis by an (out, in) matrix; None is the identity."""
    if matrix is None:
        return array
    return np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)


def _linear_on_network(volume: np.ndarray, grid: GridRecord) -> np.ndarray:
    """(x, y, z) as stored -> (slice, row, col), linear."""
    canonical, _, _ = nifti.to_canonical(volume, np.array(grid.affine))
    for axis, matrix in enumerate(axis.to_network() for axis in grid.axes()):
        canonical = _along(canonical, matrix, axis)
    return canonical.transpose(2, 1, 0)[:, ::-1, ::-1]


def nearest_on_network(mask: np.ndarray, grid: GridRecord) -> np.ndarray:
    """(x, y, z) bool as stored -> (slice, row, col), nearest voxel; False outside the exam."""
    canonical, _, _ = nifti.to_canonical(mask, np.array(grid.affine))
    (x, x_inside), (y, y_inside), (z, z_inside) = (axis.nearest() for axis in grid.axes())
    inside = z_inside[:, None, None] & y_inside[None, :, None] & x_inside[None, None, :]
    return (canonical[np.ix_(x, y, z)].transpose(2, 1, 0) & inside)[:, ::-1, ::-1]


def _series_on_network(
    series: np.ndarray, grid: GridRecord, weights: np.ndarray | None, inside: np.ndarray | None
) -> np.ndarray:
    """(x, y, z, time) as stored -> (slice, time, row, col) float32; slice by slice, so that little memory is held.

    Where `inside` (x, y, z) is given, the series counts as 0 elsewhere.
    """
    canonical, _, _ = nifti.to_canonical(series, np.array(grid.affine))
    if inside is not None:
        inside, _, _ = nifti.to_canonical(inside, np.array(grid.affine))
    by_col, by_row, by_slice = (axis.to_network() for axis in grid.axes())
    n_frames = series.shape[-1] if weights is None else weights.shape[0]
    planes = np.empty((canonical.shape[2], n_frames, grid.size, grid.size), np.float32)
    for z in range(canonical.shape[2]):
        # Each step is one large matrix product: a product for each frame is many times slower on a busy machine.
        plane = canonical[:, :, z].transpose(1, 2, 0)  # (y, time, x)
        if inside is not None:
            plane = np.where(inside[:, :, z].T[:, None], plane, np.float32(0))
        n_y, n_time, n_x = plane.shape
        if by_col is not None:
            plane = (plane.reshape(n_y * n_time, n_x) @ by_col.T).reshape(n_y, n_time, grid.size)
        if by_row is not None:
            plane = (by_row @ plane.reshape(n_y, n_time * grid.size)).reshape(grid.size, n_time, grid.size)
        plane = plane[::-1, :, ::-1].transpose(1, 0, 2)  # (time, row, col)
        planes[z] = plane if weights is None else np.tensordot(weights, plane, axes=1)
    return _along(planes, by_slice, 0)


def _first_seconds(exam: Exam, settings: PreparationSettings) -> float:
    """When the first network frame lies, from the first acquired frame; negative where the bolus comes early."""
    if settings.time_mode == "stretch" or not settings.lead_seconds:
        return 0.0
    return exam.timing.baseline_end * exam.frame_seconds - settings.lead_seconds


def _time_matrix(
    exam: Exam, settings: PreparationSettings, first_seconds: float, found: Findings
) -> tuple[np.ndarray | None, float]:
    """(network frame, exam frame) matrix of linear interpolation, and the length of a network frame in seconds."""
    n_exam = exam.series.shape[-1]
    if settings.time_mode == "stretch":
        seconds = exam.frame_seconds * (n_exam - 1) / (settings.frames - 1)  # first and last frame stay where they are
        position = np.linspace(0, n_exam - 1, settings.frames)
    else:
        seconds = settings.frame_seconds
        position = (first_seconds + np.arange(settings.frames) * seconds) / exam.frame_seconds
        if n_before := int((position < -1e-6).sum()):
            found.note(
                "early_bolus_frames_repeated",
                f"the bolus comes early: the first frame was repeated {n_before} times for the network",
                n_before,
            )
        n_repeated = int((position > n_exam - 1 + 1e-6).sum())
        if n_repeated:
            found.note(
                "short_frames_repeated",
                f"the series is shorter than the network's input: its last frame was repeated {n_repeated} times",
                n_repeated,
            )
        cut_seconds = (n_exam - 1 - position[-1]) * exam.frame_seconds
        if cut_seconds > 1e-6:
            found.note(
                "cut_seconds",
                f"the series is longer than the network's input: its last {cut_seconds:.2f} s were cut off",
                round(cut_seconds, 2),
            )
        position = np.clip(position, 0, n_exam - 1)
    held = exam.timing.transient_frames if settings.transients == "hold" else 0
    if n_exam == settings.frames and held == 0 and np.allclose(position, np.arange(n_exam), rtol=0, atol=1e-6):
        return None, seconds
    before = np.clip(np.floor(position + 1e-9).astype(int), 0, n_exam - 1)
    after = np.minimum(before + 1, n_exam - 1)
    share = np.clip(position - before, 0, 1)
    matrix = np.zeros((settings.frames, n_exam), np.float32)
    frame = np.arange(settings.frames)
    # Holding is part of the same matrix: a frame before steady state gives its weight to the first steady one.
    np.add.at(matrix, (frame, np.maximum(before, held)), 1 - share)
    np.add.at(matrix, (frame, np.maximum(after, held)), share)
    return matrix, seconds


def _baseline_on_network(exam: Exam, first_seconds: float, network_seconds: float, frames: int) -> tuple[int, int]:
    """The baseline's frames on the network grid: those that lie wholly within it, at least one."""

    def position(frame: int) -> float:
        return (frame * exam.frame_seconds - first_seconds) / network_seconds

    begin = int(np.clip(np.ceil(position(exam.timing.baseline_begin) - 1e-6), 0, frames - 1))
    end = int(np.floor(position(exam.timing.baseline_end - 1) + 1e-6)) + 1
    return begin, max(min(end, frames), begin + 1)


def _as_int16(series: np.ndarray, mask: np.ndarray, found: Findings) -> tuple[np.ndarray, float]:
    """Counts and their scale; whole numbers that fit are kept as they are, with scale 1."""
    highest = float(series.max())
    whole = highest <= INT16_MAX and bool((series == np.rint(series)).all())
    if whole:
        return series.astype(np.int16), 1.0
    brain = np.moveaxis(series, 1, -1)[mask]  # (voxel, time)
    bright = OUTLIER * float(np.percentile(brain[:: max(1, len(brain) // 2000)], 99.9))
    if 0 < bright < highest:
        n_clipped = int((series > bright).sum())
        found.note(
            "signal_clipped",
            f"{n_clipped} values of the series are far brighter than the brain; they were clipped",
            n_clipped,
        )
        highest = bright
    scale = highest / INT16_MAX
    return np.rint(np.clip(series, 0, highest) / scale).astype(np.int16), scale
