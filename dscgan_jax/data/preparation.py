"""An exam onto the network grid (`data.grid`): what the network sees of it, in space, in time and as int16.

With `outside_brain="zero"` the series is 0 outside the brain, before anything is interpolated, but for what may be
shown in the corners afterwards (`reference_curves`). The brain is always looked for in the series itself, whatever mask
or maps an exam brings: so a network sees the same of an exam in training, in evaluation and of a lone file, and air,
scalp, noise and a stripped skull are the same to it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dscgan_jax.data.batch import Batch
from dscgan_jax.data.exams import Exam, with_motion_finding
from dscgan_jax.data.grid import NetworkGrid, maps_on_network, nearest_on_network, restore, series_on_network
from dscgan_jax.data.reference_curves import ReferenceCurves, reference_curves, show, tell_hidden
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import TTP
from dscgan_jax.perfusion import brain, motion
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.settings import CHOICES
from dscgan_jax.threads import in_threads

TIME_MODES = CHOICES["data.time_mode"]
NON_STEADY_STATE = CHOICES["data.non_steady_state"]
OUTSIDE_BRAIN = CHOICES["data.outside_brain"]
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
      non_steady_state: `keep`, or `hold` = frames before steady state are replaced by the first steady one.
      lead_seconds: in `seconds`, how long before the bolus arrives the first frame lies; 0 = at the first acquired
        frame.
      motion: `none`, or `rigid` = the series is realigned first.
      outside_brain: `keep`, or `zero` = the series is 0 outside the brain (with its fluid spaces).
      arterial_input: whether the exam's AIF and its brain's mean curve are shown in the corners of each slice
        (`reference_curves`), which needs `zero`.
    """

    size: int
    slices: int
    frames: int
    time_mode: str
    frame_seconds: float
    non_steady_state: str
    lead_seconds: float = 0.0
    motion: str = "none"
    outside_brain: str = "keep"
    arterial_input: bool = False

    def __post_init__(self):
        if self.time_mode not in TIME_MODES:
            raise InputError(f"config.data.time_mode is {self.time_mode!r}; it must be one of {', '.join(TIME_MODES)}.")
        if self.non_steady_state not in NON_STEADY_STATE:
            raise InputError(
                f"config.data.non_steady_state is {self.non_steady_state!r}; it must be one of "
                f"{', '.join(NON_STEADY_STATE)}."
            )
        if self.motion not in motion.CORRECTIONS:
            raise InputError(
                f"config.data.motion is {self.motion!r}; it must be one of {', '.join(motion.CORRECTIONS)}."
            )
        if self.outside_brain not in OUTSIDE_BRAIN:
            raise InputError(
                f"config.data.outside_brain is {self.outside_brain!r}; it must be one of {', '.join(OUTSIDE_BRAIN)}."
            )
        if self.arterial_input and self.outside_brain != "zero":
            raise InputError("config.model.arterial_input is True, which needs config.data.outside_brain=zero.")
        if self.size < 1 or self.slices < 0 or self.frames < 2 or not self.frame_seconds > 0:
            raise InputError(
                "config.data: expected size of at least 1, slices of at least 0, frames of at least 2 and "
                f"a positive frame_seconds, got {self.size}, {self.slices}, {self.frames}, {self.frame_seconds}."
            )

    @classmethod
    def from_config(cls, config: Any) -> "PreparationSettings":
        """From a whole config: from what its `data` say, and whether its network is shown the AIF."""
        data = config.data
        return cls(
            int(data.size),
            int(data.slices),
            int(data.frames),
            str(data.time_mode),
            float(data.frame_seconds),
            str(data.non_steady_state),
            float(data.lead_seconds),
            str(data.motion),
            str(data.outside_brain),
            bool(config.model.arterial_input),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as prepared data keep them and are recognised by them."""
        record = dataclasses.asdict(self)
        # The name that this setting had when the first data were prepared: their folder's name is a digest of it.
        record["transients"] = record.pop("non_steady_state")
        if not self.arterial_input:  # as before there was a choice
            del record["arterial_input"]
        return record

    def grid_of(self, exam: Exam) -> NetworkGrid:
        """The network grid over an exam."""
        return NetworkGrid.of(exam.mask.shape, exam.affine, self.size, self.slices)

    def first_seconds_of(self, exam: Exam) -> float:
        """When the first network frame lies, from the exam's first acquired one; as `prepare` says it."""
        if not (self.arterial_input and self.lead_seconds):
            return _first_seconds(exam, self, None)
        exam, _, curves = _seen_of(exam, self, Findings(), look_for_motion=False)
        return _first_seconds(exam, self, curves)


@dataclasses.dataclass(frozen=True)
class PreparedExam:
    """An exam on the network grid.

    Attributes:
      dsc: (slice, time, row, col) int16; times `dsc_scale` it is scanner signal.
      maps: (slice, row, col, map) float32 in the order of `MAP_NAMES`; 0 where absent.
      has_map: (map,) bool.
      mask: (slice, row, col) bool.
      brain: (x, y, z) bool on the exam's grid, RAS, what the network saw of it; None where it saw everything.
      baseline_begin, baseline_end: half-open range of network frames before the bolus.
      brain_signal: median baseline signal of the brain, scanner units.
      echo_seconds: echo time; NaN if unknown.
      frame_seconds: length of a network frame.
      first_seconds: when the first network frame lies, from the first acquired one; with `lead_seconds` it may be
        negative. A network's TTP counts from its own first frame: TTP in `maps` is the exam's less this.
      findings: the exam's and the preparation's, the worst first.
      grid: the way back.
      series: (x, y, z, time), RAS, scanner units, what was put onto the grid: the exam's own, or its realigned one.
      artery: the AIF that the network is shown, of ΔR2* times the echo time; None where it is shown none.
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
    grid: NetworkGrid
    series: np.ndarray
    brain: np.ndarray | None = None
    first_seconds: float = 0.0
    artery: ArterialInput | None = None

    def inputs(self, slices: np.ndarray) -> Batch:
        """What a network takes of some slices, by their numbers."""

        def same(value: float, dtype: Any) -> np.ndarray:
            return np.full(len(slices), value, dtype)

        return Batch(
            self.dsc[slices],
            dsc_scale=same(self.dsc_scale, np.float32),
            baseline_begin=same(self.baseline_begin, np.int32),
            baseline_end=same(self.baseline_end, np.int32),
            brain_signal=same(self.brain_signal, np.float32),
            echo_seconds=same(self.echo_seconds, np.float32),
        )

    def restored(self, maps: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Maps that were made on the network grid, back on the exam's.

        Args:
          maps: (slice, row, col, map), physical; TTP from the first network frame.
          names: of the last axis.

        Returns:
          {map: (x, y, z)} float32, RAS, 0 outside `brain`; TTP from the first acquired frame.
        """
        volumes = restore(maps, self.grid)
        if "ttp" in names:
            channel = list(names).index("ttp")
            volumes[..., channel] = np.maximum(volumes[..., channel] + np.float32(self.first_seconds), 0)
        if self.brain is not None:
            volumes = np.where(self.brain[..., None], volumes, np.float32(0))
        return {name: volumes[..., channel] for channel, name in enumerate(names)}


def prepare(exam: Exam, settings: PreparationSettings, *, look_for_motion: bool = True) -> PreparedExam:
    """Puts an exam onto the network grid.

    Series and maps are interpolated linearly with anti-aliasing, masks by the nearest voxel.

    `look_for_motion`: whether a head that moved becomes a finding, which takes most of the time.

    Raises:
      InputError: the mask has no voxel on the network grid.
    """
    found = Findings()
    exam, inside, curves = _seen_of(exam, settings, found, look_for_motion=look_for_motion)
    grid = settings.grid_of(exam)
    first_seconds = _first_seconds(exam, settings, curves)
    weights, network_seconds = _time_matrix(exam, settings, first_seconds, found)
    series = series_on_network(exam.series, grid, weights, inside)
    maps, has_map, mask = maps_on_network(exam.maps, exam.mask, grid)
    count_ttp_from(first_seconds, maps)
    if not mask.any():
        raise InputError(
            f"{exam.subject}: the brain mask has no voxel on the network grid of {settings.size} x "
            f"{settings.size}; raise config.data.size or check the mask."
        )
    if settings.non_steady_state == "hold" and exam.timing.non_steady_frames:
        found.note(
            "transients_held",
            f"frames before the steady state, replaced by the first steady one: {exam.timing.non_steady_frames}",
            exam.timing.non_steady_frames,
        )
    seen = _seen(mask, inside, grid)
    dsc, scale = _as_int16(series, seen, found)
    begin, end = _baseline_on_network(exam, first_seconds, network_seconds, settings.frames)
    baseline = dsc[:, begin:end].mean(axis=1, dtype=np.float32)  # (slice, row, col)
    brain_counts = float(np.median(baseline[seen]))
    if curves is not None:
        tell_hidden(seen, found)
        show(dsc, curves, weights, brain_counts)
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
        brain_signal=brain_counts * scale,
        echo_seconds=exam.echo_seconds,
        frame_seconds=network_seconds,
        findings=by_severity((*exam.findings, *found.listed())),
        grid=grid,
        series=exam.series,
        brain=inside,
        first_seconds=first_seconds,
        artery=None if curves is None else curves.artery,
    )


def count_ttp_from(first_seconds: float, maps: np.ndarray) -> None:
    """Makes TTP of maps (slice, row, col, map) count from then on; 0 stays, since it stands outside the brain."""
    maps[..., TTP] = np.where(maps[..., TTP] != 0, maps[..., TTP] - np.float32(first_seconds), 0)


def realigned(exam: Exam) -> Exam:
    """The exam with every frame in the pose of the first ones; the very same exam where the head lay still."""
    found, findings = motion.realign_if_possible(exam.series, exam.affine)
    if findings:
        exam = dataclasses.replace(exam, findings=by_severity((*exam.findings, *findings)))
    return exam if found is None or not found.moved else dataclasses.replace(exam, series=found.series)


def brain_of(exam: Exam, found: Findings, *, mask_is_of_series: bool) -> np.ndarray:
    """The whole brain, (x, y, z) bool, from the series alone; from the exam's mask only if none is found there.

    `mask_is_of_series`: the exam's mask is the tissue that was found in this very series, and need not be found again.
    """
    try:
        if mask_is_of_series:
            inside = brain.with_fluid_spaces(exam.mask, exam.voxel_mm)
        else:
            inside = brain.brain_mask(exam.series, exam.affine).brain
    except InputError as error:
        reason = str(error).partition(";")[0]
        found.note(
            "brain_from_mask",
            f"the series was set to zero outside the exam's mask, since no brain was found in it: {reason}",
        )
        inside = brain.with_fluid_spaces(exam.mask, exam.voxel_mm)
    # What is cut off here is lost to the network: dents of the outline are filled.
    return brain.without_notches(inside, exam.voxel_mm)


def _seen(mask: np.ndarray, inside: np.ndarray | None, grid: NetworkGrid) -> np.ndarray:
    """(slice, row, col) bool: the part of the mask that the network sees, for a given mask may reach into the air."""
    if inside is None:
        return mask
    seen = mask & nearest_on_network(inside, grid)
    return seen if seen.any() else mask


def _seen_of(
    exam: Exam, settings: PreparationSettings, found: Findings, *, look_for_motion: bool
) -> tuple[Exam, np.ndarray | None, ReferenceCurves | None]:
    """The exam, realigned if it shall be; its brain, if the rest is not seen; its curves, if they are shown."""
    as_read = exam
    if settings.motion == "rigid":
        exam = realigned(exam)
    elif look_for_motion:
        exam = with_motion_finding(exam)
    if settings.outside_brain != "zero":
        return exam, None, None
    mask_is_of_series = exam.series is as_read.series and exam.mask_source == "threshold"
    inside = brain_of(exam, found, mask_is_of_series=mask_is_of_series)
    shown = settings.arterial_input and inside.any()
    return exam, inside, reference_curves(exam, inside, found) if shown else None


def _first_seconds(exam: Exam, settings: PreparationSettings, curves: ReferenceCurves | None) -> float:
    """When the first network frame lies, from the first acquired frame; negative where the bolus comes early.

    The bolus comes when the AIF rises, where there is one, and otherwise with the frame that ends the brain's baseline.
    """
    if settings.time_mode == "stretch" or not settings.lead_seconds:
        return 0.0
    arrival = None if curves is None else curves.arrival_seconds
    return (exam.timing.baseline_end * exam.frame_seconds if arrival is None else arrival) - settings.lead_seconds


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
                f"the series is longer than the network's input: its last {cut_seconds:.2f} s were left out",
                round(cut_seconds, 2),
            )
        position = np.clip(position, 0, n_exam - 1)
    held = exam.timing.non_steady_frames if settings.non_steady_state == "hold" else 0
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
    whole = highest <= INT16_MAX and all((plane == np.rint(plane)).all() for plane in series)  # most stop at the first
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
    counts = np.empty(series.shape, np.int16)

    def convert(plane: int) -> None:
        counts[plane] = np.rint(np.clip(series[plane], 0, highest) / scale)

    in_threads(convert, range(len(series)))
    return counts, scale
