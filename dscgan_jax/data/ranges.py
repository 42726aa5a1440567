"""The values of the training split: ranges for [-1, 1], medians, how much a range clips.

Gathered exam by exam while the shards are written. Minima and maxima are exact; percentiles come from a fixed random
sample of brain voxels, the same for the same subject, so that little memory is held.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dscgan_jax.data.preparation import PreparedExam
from dscgan_jax.data.scaling import SIGNAL_FLOOR, SIGNALS
from dscgan_jax.maps import MAP_NAMES
from dscgan_jax.perfusion.signal import RATIO_LIMITS

PERCENTILES = (0.1, 99.9)
SAMPLES = 6_000_000  # values of each signal and map over the whole training split: 24 MB each
FEWEST_SAMPLES = 2_000  # of one subject


class RangeGatherer:
    """Collects what the training split's exams hold.

    Args:
      n_subjects: how many exams will come; they share the sample.
    """

    def __init__(self, n_subjects: int):
        self._per_subject = max(SAMPLES // max(n_subjects, 1), FEWEST_SAMPLES)
        self._samples: dict[str, list[np.ndarray]] = {name: [] for name in (*SIGNALS, *MAP_NAMES)}
        self._exam_ttp: list[np.ndarray] = []
        self._extremes: dict[str, list[float]] = {}
        self._without_echo = False

    def add(self, exam: PreparedExam) -> None:
        """Takes one exam of the training split."""
        random = np.random.default_rng(zlib.crc32(exam.subject.encode()))
        voxels = np.flatnonzero(exam.mask)
        n_slices, n_frames = exam.dsc.shape[:2]
        flat = exam.dsc.reshape(n_slices, n_frames, -1)
        baseline = flat[:, exam.baseline_begin : exam.baseline_end].mean(
            axis=1, dtype=np.float32
        )  # (slice, pixel), counts
        # Both other signals are monotonic in the first at a given baseline, so extremes over time suffice for extremes.
        extremes = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=-1)  # (slice, pixel, 2)
        z, pixel = np.divmod(random.permutation(voxels)[: max(1, self._per_subject // n_frames)], flat.shape[2])
        if np.isnan(exam.echo_seconds):
            self._without_echo = True
        for name in self._signals():
            self._samples[name].append(_converted(flat[z, :, pixel], baseline[z, pixel], exam, name).ravel())
            values = _converted(extremes, baseline, exam, name)
            self._widen(name, float(values.min()), float(values.max()))
        some = random.permutation(voxels)[: self._per_subject]
        for index, name in enumerate(MAP_NAMES):
            if exam.has_map[index]:
                values = exam.maps[..., index]
                self._samples[name].append(values.ravel()[some])
                if name == "ttp":  # the median serves as a guess of whole exams' maps, in their own time
                    self._exam_ttp.append(values.ravel()[some] + np.float32(exam.first_seconds))
                self._widen(name, float(values.min()), float(values.max()))

    def extend(self, other: "RangeGatherer") -> None:
        """Takes what another one, of as many exams, has collected."""
        self._without_echo |= other._without_echo
        for name, values in other._samples.items():
            self._samples[name] += values
        self._exam_ttp += other._exam_ttp
        for name, (low, high) in other._extremes.items():
            self._widen(name, low, high)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What it has collected, as arrays of numbers."""
        samples = {f"samples/{name}": np.concatenate(values) for name, values in self._samples.items() if values}
        extremes = {f"extremes/{name}": np.array(limits, np.float64) for name, limits in self._extremes.items()}
        ttp = {"exam_ttp": np.concatenate(self._exam_ttp)} if self._exam_ttp else {}
        return {**samples, **extremes, **ttp, "without_echo": np.array(self._without_echo)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RangeGatherer":
        """Inverse of `to_arrays`, to be given to `extend`; other names are passed over."""
        gatherer = cls(1)
        for name, values in arrays.items():
            kind, _, of = name.partition("/")
            if kind == "samples":
                gatherer._samples[of] = [values]
            elif kind == "extremes":
                gatherer._extremes[of] = [float(limit) for limit in values]
        gatherer._exam_ttp = [arrays["exam_ttp"]] if "exam_ttp" in arrays else []
        gatherer._without_echo = bool(arrays["without_echo"])
        return gatherer

    def metadata(self) -> dict[str, Any]:
        """`ranges`, `medians` and `clipped` in plain numbers, as the data set's metadata keeps them."""
        names = (*self._signals(), *(name for name in MAP_NAMES if self._samples[name]))
        ranges: dict[str, dict[str, Any]] = {
            kind: dict.fromkeys((*SIGNALS, *MAP_NAMES)) for kind in ("percentile", "published")
        }
        medians: dict[str, float | None] = dict.fromkeys(MAP_NAMES)
        clipped: dict[str, float | None] = dict.fromkeys((*SIGNALS, *MAP_NAMES))
        for name in names:
            values = np.concatenate(self._samples[name]) if self._samples[name] else np.zeros(1, np.float32)
            low, high = (float(limit) for limit in np.percentile(values, PERCENTILES))
            if name in MAP_NAMES:
                low = min(0.0, low)  # zero stands outside every brain and must be representable
                medians[name] = float(np.median(np.concatenate(self._exam_ttp) if name == "ttp" else values))
            ranges["percentile"][name] = [low, high]
            ranges["published"][name] = list(self._extremes.get(name, (low, high)))
            clipped[name] = float(((values < low) | (values > high)).mean())
        return {"ranges": ranges, "medians": medians, "clipped": clipped}

    def _signals(self) -> tuple[str, ...]:
        """Signals that every exam so far can be converted to: without an echo time there is no ΔR2*."""
        return tuple(name for name in SIGNALS if not (self._without_echo and name == "delta_r2star"))

    def _widen(self, name: str, low: float, high: float) -> None:
        known = self._extremes.setdefault(name, [low, high])
        self._extremes[name] = [min(known[0], low), max(known[1], high)]


def _converted(counts: np.ndarray, baseline: np.ndarray, exam: PreparedExam, signal: str) -> np.ndarray:
    """(..., time) int16 counts with baseline counts (...) -> network input; `scaling.convert_signal` on the host."""
    scale = np.float32(exam.dsc_scale)
    series = counts.astype(np.float32) * scale
    if signal == "raw":
        return series
    baseline = baseline[..., None] * scale
    floor = np.float32(SIGNAL_FLOOR * exam.brain_signal)
    relative = series / np.maximum(np.maximum(baseline, floor), np.float32(1e-6))
    if signal == "relative":
        return relative
    attenuation = -np.log(np.where(baseline > floor, np.clip(relative, *RATIO_LIMITS), np.float32(1)))
    return attenuation / np.float32(exam.echo_seconds)
