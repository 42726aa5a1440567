"""Where an exam's frame length and echo time come from: the user, its sidecar, its header; compared and within bounds.

Words: the *frame length* is the time from one frame to the next (BIDS: RepetitionTime of a series, or the steps of
VolumeTiming). A header's frame length of exactly 1 is a *placeholder*: libraries write it when they join volumes.
"""

import contextlib
import dataclasses
import re
from typing import Any

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Findings

UNITS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"))
SAME = 1.05  # ratio of two times that agree
SLICE_OR_SHOT = 3.0  # ratio of two frame lengths from which on the shorter may be the time of one slice or shot
EQUAL_STEPS = 0.02  # of the frame length: how far the steps of VolumeTiming may differ
SHORT_STEP = 0.05  # share of the steps that may be shorter than the equal frames they become: single ones are jitter
MOST_FRAMES = 4  # times the acquired ones, when unequal frames are resampled
PLACEHOLDER = 1.0
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
HEADER = "the header"
MISSING = object()  # a field that is not there; null is no number
PART = " (of one slice or shot?)"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one exam.

    Attributes:
      frame_seconds: frame length.
      echo_seconds: echo time; NaN if unknown.
      acquired_seconds: (frame,) times of the frames in the file, from the first one.
    """

    frame_seconds: float
    echo_seconds: float
    acquired_seconds: np.ndarray

    @property
    def equal(self) -> bool:
        """Whether the frames were acquired at equal steps."""
        return _are_equal(self.acquired_seconds)

    @property
    def end_seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.acquired_seconds[-1]) + self.frame_seconds


@dataclasses.dataclass(frozen=True)
class _Quantity:
    """A time that files tell.

    Attributes:
      name: of its findings; `name_unit` of those about units.
      bounds: seconds that an exam can have.
      acceptable: seconds that --accept can take; beyond, nothing could be computed.
      flag: what overrules it.
    """

    name: str
    bounds: tuple[float, float]
    acceptable: tuple[float, float]
    flag: str


# Perfusion series have frames of 0.5 to 3 s, none are known below 0.2; gradient echoes of 20 to 50 ms, spin echoes up
# to 100.
FRAME = _Quantity("frame_length", (0.2, 10.0), (0.01, 60.0), "--tr=SECONDS")
ECHO = _Quantity("echo_time", (0.001, 0.2), (1e-4, 10.0), "--te=SECONDS")


@dataclasses.dataclass(frozen=True)
class _Source:
    """The frame length by one source, in seconds: one length, and the range of the single steps around it.

    A source out of bounds has its finding already.
    """

    where: str
    seconds: float
    least: float
    most: float
    in_bounds: bool = True

    def agrees(self, other: "_Source") -> bool:
        return max(self.least, other.least) <= SAME * min(self.most, other.most)


def read_timing(
    volume: nifti.Volume,
    sidecar: dict[str, Any],
    found: Findings,
    *,
    n_frames: int,
    series: nifti.Path,
    sidecar_name: str,
    frame_seconds: float = 0.0,
    echo_seconds: float = 0.0,
    usual_seconds: float = 0.0,
) -> Timing:
    """Frame length and echo time of an exam.

    Args:
      volume: of the series; its header counts.
      sidecar: what lies beside it.
      found: receives what is doubtful; errors in it must be refused by the caller.
      n_frames: of the file.
      series, sidecar_name: where things stand, for messages.
      frame_seconds, echo_seconds: given by the user; 0 = not given.
      usual_seconds: frame length where no source tells it; 0 = none is assumed.

    Raises:
      InputError: no source tells the frame length, or a field is not a number.
    """
    echo = _echo_time(sidecar, found, sidecar_name, echo_seconds)
    if frame_seconds:
        length = _given_length(volume, sidecar, found, n_frames, sidecar_name, frame_seconds)
        return Timing(length, echo, np.arange(n_frames) * length)
    times = _volume_timing(sidecar, n_frames, sidecar_name, found)
    sources = _sidecar_sources(volume, sidecar, times, found, sidecar_name)
    sources += _header_source(volume, sources, found)
    if not sources and usual_seconds:
        found.warning(
            FRAME.name,
            f"no file tells the frame length; {usual_seconds:g} s was assumed, as is usual in this data set",
            usual_seconds,
            FRAME.flag,
        )
        return Timing(usual_seconds, echo, np.arange(n_frames) * usual_seconds)
    length = _compared_length(sources, volume, series, found)
    if times is None:
        return Timing(length, echo, np.arange(n_frames) * length)
    _tell_unequal(times, length, found)
    return Timing(length, echo, times)


def given_timing(
    where: str, n_frames: int, frame_seconds: float, echo_seconds: float | None, found: Findings
) -> Timing:
    """Frame length and echo time (None: unknown) of a series without files.

    Raises:
      InputError: one of them is no number, or none that an exam can have.
    """
    length, _ = _in_seconds(frame_seconds, f"{where}: repetition_time", FRAME, found)
    echo = float("nan")
    if echo_seconds is not None:
        echo, _ = _in_seconds(echo_seconds, f"{where}: echo_time", ECHO, found)
    found.refuse_errors(where)
    return Timing(length, echo, np.arange(n_frames) * length)


def resampled(series: np.ndarray, timing: Timing) -> np.ndarray:
    """(x, y, z, time) at equal steps, linearly, from frames at `acquired_seconds`.

    The given array where they were equal.

    The series may have fewer frames than the file, where empty ones at the end were left out.
    """
    if timing.equal:
        return series
    times = timing.acquired_seconds[: series.shape[-1]]
    wanted = np.arange(int(times[-1] / timing.frame_seconds + 1e-6) + 1) * timing.frame_seconds
    after = np.clip(np.searchsorted(times, wanted, side="right"), 1, len(times) - 1)
    shares = ((wanted - times[after - 1]) / (times[after] - times[after - 1])).astype(np.float32)
    equal = np.empty_like(series, shape=(*series.shape[:-1], len(wanted)))
    for frame, (at, share) in enumerate(zip(after, shares, strict=True)):  # one by one: no copies of the whole series
        equal[..., frame] = (1 - share) * series[..., at - 1] + share * series[..., at]
    return equal


# ------------------------------------------------------------------------------------------------------ frame length


def _given_length(
    volume: nifti.Volume, sidecar: dict[str, Any], found: Findings, n_frames: int, sidecar_name: str, given: float
) -> float:
    """The user's frame length counts, whatever the files hold; a note where it is none of theirs."""
    seconds, _ = _in_seconds(given, "--tr", FRAME, found)
    unheard, sources, times = Findings(), [], None
    with contextlib.suppress(InputError):
        times = _volume_timing(sidecar, n_frames, sidecar_name, unheard)
    with contextlib.suppress(InputError):
        sources += _sidecar_sources(volume, sidecar, times, unheard, sidecar_name)
    with contextlib.suppress(InputError):
        sources += _header_source(volume, sources, unheard)
    mine = _Source("--tr", seconds, seconds, seconds)
    if sources and not any(source.agrees(mine) for source in sources):
        others = ", ".join(f"{source.where} says {source.seconds:.6g} s" for source in sources)
        found.note(FRAME.name, f"frames of {seconds:g} s as given, while {others}", seconds)
    if times is not None and not _are_equal(times):
        found.warning(
            "unequal_frames",
            f"{_steps(times)}; they were taken as equal ones of {seconds:g} s, as given",
            None,
            FRAME.flag,
        )
    return seconds


def _sidecar_sources(
    volume: nifti.Volume, sidecar: dict[str, Any], times: np.ndarray | None, found: Findings, sidecar_name: str
) -> list[_Source]:
    """What the sidecar says, in the order in which it counts."""
    stored, sources = volume.frame_seconds, []
    if times is not None:
        steps = np.diff(times)
        sources.append(_Source(f"{sidecar_name}: VolumeTiming", _step(times), float(steps.min()), float(steps.max())))
    if "RepetitionTime" in sidecar:
        beside = f", {HEADER} says {stored:.6g} s" if stored else ""
        sources.append(_source(f"{sidecar_name}: RepetitionTime", sidecar["RepetitionTime"], found, beside, PART))
    return sources


def _header_source(volume: nifti.Volume, others: list[_Source], found: Findings) -> list[_Source]:
    """What the header says: nothing where it is a placeholder and others know it, or the placeholder has no unit."""
    stored = volume.frame_seconds
    if not stored or (_is_placeholder(volume) and (others or volume.time_unit != 1.0)):
        return []
    beside = f", {others[0].where} says {others[0].seconds:.6g} s" if others else ""
    return [_source(HEADER, stored, found, beside)]


def _source(where: str, value: Any, found: Findings, beside: str, shorter: str = "") -> _Source:
    seconds, in_bounds = _in_seconds(value, where, FRAME, found, beside, shorter)
    return _Source(where, seconds, seconds, seconds, in_bounds)


def _is_placeholder(volume: nifti.Volume) -> bool:
    """Whether the header's frame length is the 1 that writers fill in where they know none."""
    return volume.header_time == PLACEHOLDER and volume.frame_seconds == PLACEHOLDER * (volume.time_unit or 1.0)


def _compared_length(sources: list[_Source], volume: nifti.Volume, series: nifti.Path, found: Findings) -> float:
    """The length of the source that counts most; an error where another one contradicts it."""
    if not sources:
        raise InputError(
            f"{series}: the frame length is unknown: neither the header nor a sidecar gives it; give --tr= "
            f"(--config.data.tr_seconds=) in seconds, or RepetitionTime in {nifti.sidecar_path(series).name}."
        )
    first, *others = sources
    for other in others:
        if first.in_bounds and other.in_bounds and not first.agrees(other):
            _tell_contradiction(first, other, found)
    if first.where == HEADER and first.in_bounds:
        _tell_header_alone(first.seconds, _is_placeholder(volume), found)
    return first.seconds


def _tell_contradiction(first: _Source, other: _Source, found: Findings) -> None:
    part = PART if other.seconds > SLICE_OR_SHOT * first.seconds else ""
    one, two = f"{first.seconds:.6g}", f"{other.seconds:.6g}"
    found.error(
        FRAME.name,
        f"{first.where} says frames of {one} s{part}, {other.where} says {two} s: one of them is wrong",
        f"{one} and {two}",
        FRAME.flag,
    )


def _tell_header_alone(seconds: float, placeholder: bool, found: Findings) -> None:
    if placeholder:
        found.warning(
            FRAME.name,
            "the header says frames of exactly 1 s, which image libraries write when they join volumes, "
            "and nothing else gives the frame length: check it",
            seconds,
            FRAME.flag,
        )
    else:
        found.note(
            "frame_length_from_header",
            f"the frame length of {seconds:g} s was found in the header alone",
            seconds,
            FRAME.flag,
        )


# ----------------------------------------------------------------------------------------------------- VolumeTiming


def _volume_timing(sidecar: dict[str, Any], n_frames: int, sidecar_name: str, found: Findings) -> np.ndarray | None:
    """(frame,) times of the sidecar's VolumeTiming, from the first frame on; None where there is none."""
    given, what = sidecar.get("VolumeTiming"), f"{sidecar_name}: VolumeTiming"
    if given is None or n_frames < 2:
        return None
    if not isinstance(given, list) or len(given) != n_frames:
        held = f"{len(given)} times" if isinstance(given, list) else _shown(given)
        raise InputError(
            f"{what} is {held}, expected a list of {n_frames} times in seconds, one for each frame; correct it, "
            f"or give {FRAME.flag}."
        )
    times = np.array([_number(value, what, FRAME) for value in given])
    with np.errstate(over="ignore"):
        times -= times[0]
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise InputError(f"{what} does not increase from frame to frame; correct it, or give {FRAME.flag}.")
    usual = float(np.median(np.diff(times)))
    times *= _in_seconds(usual, f"the step of {what}", FRAME, found)[0] / usual
    if (longest := np.diff(times).max()) > FRAME.acceptable[1]:
        raise InputError(
            f"{what} has a gap of {longest:.3g} s, expected frames that follow each other; correct it, or give "
            f"{FRAME.flag}."
        )
    return times


def _are_equal(times: np.ndarray) -> bool:
    steps = np.diff(times)
    return len(steps) == 0 or bool(np.abs(steps - steps.mean()).max() <= EQUAL_STEPS * steps.mean())


def _step(times: np.ndarray) -> float:
    """Frame length of (frame,) times.

    Unequal frames become as long as the shortest usual ones, so that nothing is lost.
    """
    steps = np.diff(times)
    if _are_equal(times):
        return float(steps.mean())
    fewest = times[-1] / (MOST_FRAMES * len(times) - 1)
    return float(max(np.quantile(steps, SHORT_STEP, method="lower"), FRAME.bounds[0], fewest))


def _steps(times: np.ndarray) -> str:
    steps = np.diff(times)
    return f"frames were acquired at unequal steps of {steps.min():.3g} to {steps.max():.3g} s"


def _tell_unequal(times: np.ndarray, length: float, found: Findings) -> None:
    if not _are_equal(times):
        found.note(
            "unequal_frames",
            f"{_steps(times)}; they were resampled to equal ones of {length:.3g} s",
            round(length, 4),
            FRAME.flag,
        )


# --------------------------------------------------------------------------------------------------------- echo time


def _echo_time(sidecar: dict[str, Any], found: Findings, sidecar_name: str, given: float) -> float:
    """The one given, else the sidecar's, else NaN."""
    stored, where = sidecar.get("EchoTime", MISSING), f"{sidecar_name}: EchoTime"
    if not given:
        return float("nan") if stored is MISSING else _in_seconds(stored, where, ECHO, found)[0]
    seconds, _ = _in_seconds(given, "--te", ECHO, found)
    with contextlib.suppress(InputError):  # no number, or none at all
        other, _ = _in_seconds(stored, where, ECHO, Findings())
        if not max(seconds, other) <= SAME * min(seconds, other):
            found.note(ECHO.name, f"an echo time of {seconds:g} s as given, while {where} says {other:g} s", seconds)
    return seconds


# ----------------------------------------------------------------------------------------------------------- numbers


def _in_seconds(
    value: Any, what: str, quantity: _Quantity, found: Findings, beside: str = "", shorter: str = ""
) -> tuple[float, bool]:
    """A number as seconds, from whichever unit puts it within the bounds, and whether one does; else an error finding.

    Args:
      value: as the file holds it.
      what: the field and its file.
      quantity: what it is.
      found: receives findings.
      beside: what else is known, for the error.
      shorter: what too short a number may be.

    Raises:
      InputError: it is no number, or the user accepts one with which nothing can be computed.
    """
    number = _number(value, what, quantity)
    low, high = quantity.bounds
    for factor, unit in UNITS:
        if low <= number * factor * (1 + 1e-9) and number * factor <= high * (1 + 1e-9):
            if factor != 1.0:
                tell = found.note if unit == "milliseconds" else found.warning
                tell(f"{quantity.name}_unit", f"{what} is {number:g}, which was read as {unit}", number, quantity.flag)
            return number * factor, True
    part = shorter if 0 < number < low else ""
    text = f"{what} is {number:g}{part}{beside}; expected seconds, {low:g} to {high:g}"
    found.error(quantity.name, text, number, quantity.flag)
    possible = float(np.clip(number, *quantity.acceptable))
    if possible != number and any(finding.accepted for finding in found.listed() if finding.name == quantity.name):
        raise InputError(
            f"{text}; nothing can be computed with that, --accept={quantity.name} or not; give {quantity.flag}."
        )
    return possible, False


def _number(value: Any, what: str, quantity: _Quantity) -> float:
    """A finite number, or a text that is a plain decimal one.

    Raises:
      InputError: something else.
    """
    if isinstance(value, str) and DECIMAL.fullmatch(value.strip()):
        value = float(value)
    try:
        is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        number = float(value) if is_number else float("nan")
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        several = " (several echoes? give one)" if isinstance(value, list) and quantity is ECHO else ""
        raise InputError(
            f"{what} is {_shown(value)}{several}, expected a number of seconds; correct it, or give {quantity.flag}."
        )
    return number


def _shown(value: Any) -> str:
    """The beginning of a value, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]} ..."
