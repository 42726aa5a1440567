"""The AIF (arterial input function): found in the series, averaged over a user's voxels, or taken from a user's curve.

Words: a *curve* is ΔR2* over time. *Half-rise* and *half-fall* are the times at which it crosses half of its peak, the
*width* (FWHM) is the time between them; all are finer than a frame.

An artery differs from tissue and veins: its curve comes early, is high and narrow, rises and falls without a break and
returns (Rempp et al., Radiology 1994;193:637; Mouridsen et al., Magn Reson Med 2006;55:524). An artery is useless where
its signal is down in the noise, where blood and tissue share a voxel, and behind an occlusion, where blood is late.
"""

import dataclasses

import numpy as np
from scipy.cluster import vq

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.signal import BolusTiming

# Which voxels are looked at.
MIN_BASELINE_OVER_NOISE = 10.0  # in bone and air the logarithm of noise has peaks of any height
TALLEST_SHARE = 0.05  # of the candidates, by peak: large arteries and veins fill less than this of a head
TALLEST_VOXELS = 200  # but as many as this where there are few candidates

# What an artery's curve must be.
MIN_SIGNAL_OVER_NOISE = 4.0  # at the peak; below, a magnitude image shows its noise floor and the curve is flattened
MIN_PEAK_OVER_NOISE = 8.0  # peak over the fluctuation before the bolus, of noise and pulsation
MIN_PEAK_OVER_BRAIN = 1.5  # peak over the mean curve's: an artery holds many times the blood of tissue
MIN_QUALITY = 0.25  # of a curve chosen here: voxels that hardly agree, or a single one, are no artery
MAX_DETOUR = 0.2  # of the peak: how far a curve goes back on its way up and down
MAX_REMAINDER = 0.5  # of the peak, level after the first pass: recirculation is lower, a step by motion is not

# Which of them are taken.
CLUSTERS = 5  # as Mouridsen et al.
MIN_CLUSTER = 5  # fewer voxels are no cluster, and the best of this number set the standard for the others
MIN_SCORE_SHARE = 0.7  # of the best voxels' score: a curve that is lower, later or wider by more holds less blood
MAX_VOXELS = 20  # more would hardly lower the noise, but hold less blood each
MAX_DEVIATIONS = 3.0  # robust standard deviations: a curve further from the median of the chosen ones is an outlier

# Findings for the reader.
FEW_VOXELS = 5
SURE_PEAK_OVER_BRAIN = 3.0  # cortex has about twice the blood volume of the brain's mean; a higher curve is a vessel's
FLATTENED = 0.15  # of S0, signal at the peak: by then the tissue of the same voxel gives most of it
SURE_PEAK_OVER_NOISE = 30.0  # from here on noise does not limit the quality
RETURNED = 0.3  # of the peak: a curve that falls so low has shown its first pass
ARRIVAL = 0.1  # of the peak, on the rising flank: where the bolus counts as arrived
TIME_TOLERANCE = 0.1  # frames: rounded times in a file

# What a curve from a file may be.
HIGHEST_PEAK_MM = 200.0  # a bolus of 0.1 mmol/kg peaks at 5-30 mM, undiluted contrast agent has 500-1000
LOWEST_PEAK_MM = 0.01  # in the noise: 30 ms of echo time would lose 0.2 % of the signal
OTHER_TIMES = {1000.0: "ms", 1 / 60: "minutes"}  # how many of them make a second's number

_GIVE_CURVE = "give the AIF with --aif=FILE"


class NoArterialInputError(InputError):
    """No usable AIF. The caller adds subject and file."""


@dataclasses.dataclass(frozen=True)
class ArterialInput:
    """An AIF and how far to trust it. Times count from the first frame.

    Attributes:
      delta_r2star: (time,) float32, ΔR2*, 1/s (or in the unit of the series' ΔR2*), mean over the voxels of `mask`.
      mask: (x, y, z) bool, the voxels; None for a curve from a file.
      quality: 0..1, the weakest of: agreement (1 - area between the median voxel's curve and the mean, both of area 1;
        fewer than 5 voxels count in proportion), smoothness (1 - detours on the way up and down, of the peak), peak
        over noise (1 from 30 on), peak over that of the brain's mean (0 at 1, 1 from 3 on), return (1 where the curve
        falls below 30 % of its peak within the exam). For a curve from a file only smoothness and return are known.
      source: `auto`, `mask` or `curve`.
      findings: for the reader of the maps.
      arrival_seconds: where the rising flank crosses 10 % of the peak; NaN where the exam does not show that.
      peak_seconds, peak_delta_r2star: top of the parabola through the highest frame and its neighbours.
      width_seconds: full width at half maximum; NaN where the exam ends before the half-fall.
      n_voxels: of `mask`; 0 for a curve from a file.
    """

    delta_r2star: np.ndarray
    mask: np.ndarray | None
    quality: float
    source: str
    findings: tuple[Finding, ...]
    arrival_seconds: float
    peak_seconds: float
    peak_delta_r2star: float
    width_seconds: float
    n_voxels: int


# ------------------------------------------------------------------------------------------------ three sources


def find_arterial_input(
    delta_r2star: np.ndarray,
    candidates: np.ndarray,
    baseline: np.ndarray,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
) -> ArterialInput:
    """Chooses arterial voxels in an exam.

    Of the highest curves those are kept that come before the brain's mean curve, are narrower than it, smooth, above
    the noise floor, and return. If there are more than can be averaged, they are divided into clusters of like shape.
    Their score is peak / (time to peak * width), times the share of the curve's area that belongs to the first pass;
    the best cluster is divided once more, and its best voxels are averaged, outliers left out. Nothing is random.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      candidates: (x, y, z) bool, the brain with its fluid spaces, since arteries run outside the tissue.
      baseline: (x, y, z) S0, scanner units.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed (1 where it is unknown); it leads back to the signal.

    Raises:
      NoArterialInputError: the exam ends too early, or no curve is like an artery's.
    """
    n_frames = delta_r2star.shape[-1]
    flat, flat_baseline = delta_r2star.reshape(-1, n_frames), baseline.reshape(-1)
    where = np.flatnonzero(candidates.reshape(-1) & (flat_baseline > 0))
    if not len(where):
        raise NoArterialInputError(f"no AIF: the brain mask holds no voxel with signal; {_GIVE_CURVE}.")
    curves, level = flat[where], flat_baseline[where]
    noise = _signal_noise(curves, level, timing, echo_seconds)
    bright = level > MIN_BASELINE_OVER_NOISE * noise
    if not bright.any():
        raise NoArterialInputError(f"no AIF: before the bolus the series is mere noise; {_GIVE_CURVE}.")
    brain = _describe(curves[bright].mean(axis=0, dtype=np.float64)[None], timing)
    _check_brain(brain, n_frames)

    first_pass = slice(timing.baseline_end, int(np.ceil(2 * brain.half_fall[0] - brain.peak_frame[0])) + 1)
    tallest = _tallest(curves, bright, timing, first_pass)
    where, curves, level = where[tallest], curves[tallest], level[tallest]
    shape = _describe(curves, timing)
    saturated = signal.signal_after(level, shape.peak, echo_seconds) < MIN_SIGNAL_OVER_NOISE * noise
    usable = _usable(shape, brain, saturated)
    chosen = usable[_choose(curves[usable], shape[usable], timing, first_pass)]
    clipped = int((_is_early(shape, brain) & saturated).sum())
    found = []
    if len(chosen) < clipped:
        text = f"{clipped} early voxels were not taken as AIF because their signal falls to the noise floor"
        found.append(Finding("arterial_flattened", "note", text, clipped))
    return _of_voxels(delta_r2star, where[chosen], brain.peak[0], timing, frame_seconds, echo_seconds, "auto", found)


def arterial_input_from_mask(
    delta_r2star: np.ndarray,
    mask: np.ndarray,
    brain: np.ndarray,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
) -> ArterialInput:
    """Averages the user's voxels.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      mask: (x, y, z), the user's voxels, non-zero = arterial.
      brain: (x, y, z) bool, the brain with its fluid spaces.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed (1 where it is unknown).

    Raises:
      InputError: the mask has another shape, is empty or is mostly outside the brain.
      NoArterialInputError: no bolus in the mean curve of its voxels.
    """
    if mask.shape != delta_r2star.shape[:3]:
        raise InputError(
            f"arterial mask: expected the series' {delta_r2star.shape[:3]} voxels, it has {mask.shape}; draw it on the "
            "series."
        )
    mask = mask != 0
    if not mask.any():
        raise InputError("arterial mask: expected at least one voxel that is not 0, it has none; draw it again.")
    inside = int((mask & brain).sum())
    if 2 * inside < mask.sum():
        raise InputError(
            f"arterial mask: expected it within the brain, {inside} of its {mask.sum()} voxels are there; check that "
            "it was drawn on this series."
        )
    brain_peak = _describe(delta_r2star[brain].mean(axis=0, dtype=np.float64)[None], timing).peak[0]
    outside = int(mask.sum()) - inside
    found = []
    if outside:
        text = f"{outside} of the {mask.sum()} voxels of the arterial mask are outside the brain"
        found.append(Finding("arterial_outside", "warning", text, outside, "--aif=FILE"))
    return _of_voxels(
        delta_r2star, np.flatnonzero(mask), brain_peak, timing, frame_seconds, echo_seconds, "mask", found
    )


def arterial_input_from_curve(
    seconds: np.ndarray, concentration_mm: np.ndarray, n_frames: int, frame_seconds: float
) -> ArterialInput:
    """Takes the user's curve: ΔR2* = k C with the transverse relaxivity of blood (`kinetics.BLOOD_RELAXIVITY`).

    Args:
      seconds: (time,) of the frames, from 0.
      concentration_mm: (time,) contrast agent in arterial blood, mM; values below 0 may be noise.
      n_frames: of the series.
      frame_seconds: TR of the series.

    Raises:
      InputError: lengths or times differ from the series', a value is not finite, none is positive, or the peak is no
        possible one in mM.
    """
    seconds, concentration = np.asarray(seconds, np.float64), np.asarray(concentration_mm, np.float64)
    if seconds.shape != (n_frames,) or concentration.shape != (n_frames,):
        raise InputError(
            f"AIF: expected one time and one concentration for each of the {n_frames} frames, it has {seconds.size} "
            f"times and {concentration.size} concentrations; sample it at the frames of the series."
        )
    finite = np.isfinite(seconds) & np.isfinite(concentration)
    if not finite.all():
        raise InputError(
            f"AIF: expected finite numbers, {(~finite).sum()} of {n_frames} rows have others; correct them."
        )
    _check_times(seconds, frame_seconds)
    _check_concentration(concentration)
    delta_r2star = kinetics.delta_r2star_of(concentration, kinetics.BLOOD_RELAXIVITY)
    shape = _describe(delta_r2star[None], BolusTiming(0, 0, 0, n_frames - 1))
    quality = min(shape.smoothness(), shape.returned())
    return _arterial_input(delta_r2star, None, quality, "curve", [], shape, frame_seconds)


def _check_times(seconds: np.ndarray, frame_seconds: float) -> None:
    """Refuses times (time,) that are not those of the frames."""
    last = frame_seconds * (len(seconds) - 1)
    if np.abs(seconds - frame_seconds * np.arange(len(seconds))).max() <= TIME_TOLERANCE * frame_seconds:
        return
    step = float(np.median(np.diff(seconds)))
    for factor, unit in OTHER_TIMES.items():
        if abs(step / (factor * frame_seconds) - 1) < 0.1:
            raise InputError(
                f"AIF: expected times in s, in steps of {frame_seconds:g} s, it has steps of {step:g}, which look like "
                f"{unit}; convert them."
            )
    raise InputError(
        f"AIF: expected the times of the frames, 0 to {last:g} s in steps of {frame_seconds:g} s, it has "
        f"{seconds[0]:g} to {seconds[-1]:g} s in steps of {step:g} s; sample it at the frames."
    )


def _check_concentration(concentration: np.ndarray) -> None:
    """Refuses concentrations (time,) that are none in mM."""
    highest = concentration.max()
    if highest <= 0 or concentration.sum() <= 0:
        raise InputError(
            f"AIF: expected positive concentrations, they are between {concentration.min():g} and {highest:g} mM with "
            f"a mean of {concentration.mean():g} mM; check sign and columns."
        )
    if not LOWEST_PEAK_MM <= highest <= HIGHEST_PEAK_MM:
        raise InputError(
            f"AIF: expected concentrations in mM, with a peak of {LOWEST_PEAK_MM:g} to {HIGHEST_PEAK_MM:g} mM, the "
            f"peak is {highest:.4g}; {_unit_guess(highest)}; convert it to mM."
        )


def _unit_guess(peak: float) -> str:
    """In words, for a peak that is impossible in mM."""
    if peak < LOWEST_PEAK_MM:
        return "this looks like mol/L, or like a normalised curve"
    if 1e3 * LOWEST_PEAK_MM <= peak <= 1e3 * HIGHEST_PEAK_MM:
        return "this looks like µmol/L"
    return "no unit explains that"


# ---------------------------------------------------------------------------------------------- shape of a curve


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Measures of each curve, (curve,) each. Times in frames; NaN where a flank is not seen.

    Attributes:
      peak: height.
      peak_frame, half_rise, half_fall, arrival: finer than a frame.
      noise: standard deviation before the bolus.
      detour: sum of the steps down before the peak and up before the last frame above half of it, of the peak.
      remainder: median level behind the first pass, of the peak; that of the last frame where the exam ends before.
      lowest_after: lowest level behind the peak, of the peak.
    """

    peak: np.ndarray
    peak_frame: np.ndarray
    half_rise: np.ndarray
    half_fall: np.ndarray
    arrival: np.ndarray
    noise: np.ndarray
    detour: np.ndarray
    remainder: np.ndarray
    lowest_after: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "_Shape":
        return _Shape(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    @property
    def width(self) -> np.ndarray:
        """FWHM, frames."""
        return self.half_fall - self.half_rise

    def stands_out(self) -> np.ndarray:
        """Whether a curve rises above the fluctuation before it and comes back."""
        return (self.peak > MIN_PEAK_OVER_NOISE * self.noise) & (np.abs(self.remainder) < MAX_REMAINDER)

    def smoothness(self) -> float:
        """Of the first curve, 0..1."""
        return float(np.clip(1.0 - self.detour[0], 0.0, 1.0))

    def returned(self) -> float:
        """How much of the first curve's fall the exam shows, 0..1."""
        return float(np.clip((1.0 - self.lowest_after[0]) / (1.0 - RETURNED), 0.0, 1.0))


def _describe(curves: np.ndarray, timing: BolusTiming) -> _Shape:
    """Shapes of (curve, time) whose peak lies between the end of the baseline and the frame after the mean's peak."""
    n_curves, n_frames = curves.shape
    rows, frames = np.arange(n_curves), np.arange(n_frames)
    last = min(timing.peak_frame + 1, n_frames - 1)
    top = timing.baseline_end + curves[:, timing.baseline_end : last + 1].argmax(axis=1)
    middle = np.clip(top, 1, n_frames - 2)
    left, centre, right = (curves[rows, middle + step] for step in (-1, 0, 1))
    shift, height = signal.parabola_top(left, centre, right)
    inside = middle == top
    shift, peak = np.where(inside, shift, 0.0), np.where(inside, height, curves[rows, top])
    half_rise = _crossing(curves, top, 0.5 * peak, -1)
    half_fall = _crossing(curves, top, 0.5 * peak, +1)

    step, scale = np.diff(curves, axis=1), np.where(peak > 0, peak, np.inf)
    up = (frames[:-1] >= timing.baseline_end) & (frames[:-1] < top[:, None])
    last_high = n_frames - 1 - (curves >= 0.5 * peak[:, None])[:, ::-1].argmax(axis=1)
    down = (frames[:-1] >= top[:, None]) & (frames[:-1] < last_high[:, None])
    detour = (np.where(up, np.maximum(-step, 0), 0) + np.where(down, np.maximum(step, 0), 0)).sum(axis=1) / scale
    fallen = np.where(np.isfinite(half_fall), half_fall, n_frames)
    behind = frames >= (2 * fallen - top)[:, None]  # as long again as it took to fall by half
    behind |= frames == n_frames - 1
    remainder = np.nanmedian(np.where(behind, curves, np.nan), axis=1) / scale
    lowest = np.where(frames > top[:, None], curves, np.inf).min(axis=1) / scale
    begin, end = timing.baseline_begin, timing.baseline_end
    calm = curves[:, begin : max(end - (end - begin) // 4, begin + 2)]  # arteries fill before the mean curve shows it
    return _Shape(
        peak=peak,
        peak_frame=top + shift,
        half_rise=half_rise,
        half_fall=half_fall,
        arrival=_crossing(curves, top, ARRIVAL * peak, -1),
        noise=calm.std(axis=1) if end > begin else np.zeros(n_curves),
        detour=detour,
        remainder=remainder,
        lowest_after=np.minimum(lowest, 1.0),
    )


def _crossing(curves: np.ndarray, top: np.ndarray, level: np.ndarray, direction: int) -> np.ndarray:
    """(curve,) frame where each curve, followed from its peak back (-1) or on (+1), falls below the level, or NaN."""
    n_frames = curves.shape[1]
    frames = np.arange(n_frames)
    below = (curves < level[:, None]) & (direction * (frames - top[:, None]) > 0)
    found = below.any(axis=1)
    first = below.argmax(axis=1) if direction > 0 else n_frames - 1 - below[:, ::-1].argmax(axis=1)
    first = np.where(found, first, top)
    rows, inner = np.arange(len(curves)), np.where(found, first - direction, top)
    low, high = curves[rows, first], curves[rows, inner]
    share = np.where(found, (high - level) / np.where(found, high - low, 1.0), np.nan)
    return inner + direction * share


def _signal_noise(curves: np.ndarray, baseline: np.ndarray, timing: BolusTiming, echo_seconds: float) -> float:
    """Standard deviation of the noise, scanner units, from neighbouring baseline frames of all voxels.

    Args:
      curves: (voxel, time) ΔR2*.
      baseline: (voxel,) S0, scanner units.
      timing: baseline and bolus.
      echo_seconds: TE.
    """
    calm = signal.signal_after(baseline[:, None], curves[:, timing.baseline_begin : timing.baseline_end], echo_seconds)
    return float(signal.robust_sd(np.diff(calm, axis=1), 0.0) / np.sqrt(2))


# ------------------------------------------------------------------------------------------------ choice of voxels


def _check_brain(brain: _Shape, n_frames: int) -> None:
    """Refuses an exam whose mean curve shows no first pass."""
    if not brain.peak[0] > MIN_PEAK_OVER_NOISE * brain.noise[0]:
        raise NoArterialInputError(f"no AIF: the brain's mean curve shows no bolus; {_GIVE_CURVE}.")
    if not np.isfinite(brain.width[0]):
        raise NoArterialInputError(
            f"no AIF: the brain's mean curve does not rise and fall to half of its peak within the {n_frames} frames; "
            f"give the whole series, or {_GIVE_CURVE}."
        )


def _tallest(curves: np.ndarray, bright: np.ndarray, timing: BolusTiming, first_pass: slice) -> np.ndarray:
    """Rows of the highest curves (voxel, time), highest first, of voxels that are bright and whose curve returns."""
    height = curves[:, timing.baseline_end : timing.peak_frame + 2].max(axis=1)
    behind = curves[:, min(first_pass.stop, curves.shape[1] - 1) :].mean(axis=1)
    possible = bright & (np.abs(behind) < MAX_REMAINDER * height)  # not where a border has moved
    n_tallest = min(max(TALLEST_VOXELS, int(TALLEST_SHARE * bright.sum())), int(possible.sum()))
    return np.argsort(-np.where(possible, height, -np.inf), kind="stable")[:n_tallest]


def _is_early(shape: _Shape, brain: _Shape) -> np.ndarray:
    """(curve,) bool, whether a curve comes before the brain's mean curve."""
    return (shape.half_rise <= brain.half_rise) & (shape.peak_frame <= brain.peak_frame)


def _usable(shape: _Shape, brain: _Shape, saturated: np.ndarray) -> np.ndarray:
    """Rows of the curves that are like an artery's and stay above the noise floor.

    Args:
      shape: of the curves.
      brain: of the brain's mean curve.
      saturated: (curve,) whether the signal falls to the noise floor.

    Raises:
      NoArterialInputError: there is none.
    """
    early = _is_early(shape, brain)
    narrow = early & (shape.width < brain.width)
    clean = narrow & shape.stands_out() & (shape.detour < MAX_DETOUR) & (shape.peak > MIN_PEAK_OVER_BRAIN * brain.peak)
    if not clean.any():
        raise NoArterialInputError(
            f"no AIF: of the {len(early)} highest curves {early.sum()} come before the brain's mean, {narrow.sum()} of "
            f"these are narrower, and none of these is smooth, high and returns; {_GIVE_CURVE}."
        )
    usable = np.flatnonzero(clean & ~saturated)
    if not len(usable):
        raise NoArterialInputError(
            f"no AIF: in all {clean.sum()} voxels with an arterial curve the signal falls to the noise floor; "
            f"{_GIVE_CURVE}."
        )
    return usable


def _choose(curves: np.ndarray, shape: _Shape, timing: BolusTiming, first_pass: slice) -> np.ndarray:
    """Rows of the curves to average: the best of the best cluster, without outliers."""
    since = shape.peak_frame - (timing.baseline_end - 1)  # the last frame before the bolus reached the brain
    within = curves[:, first_pass].sum(axis=1) / np.abs(curves[:, timing.baseline_end :]).sum(axis=1)
    score = shape.peak / (since * shape.width) * within
    rows = np.arange(len(curves))
    for _ in range(2):
        if len(rows) > MAX_VOXELS:
            rows = rows[_best_cluster(curves[rows, first_pass], shape.half_fall[rows], score[rows])]
    rows = rows[np.argsort(-score[rows], kind="stable")]
    rows = rows[score[rows] >= MIN_SCORE_SHARE * score[rows[:MIN_CLUSTER]].mean()][:MAX_VOXELS]
    return np.sort(rows[_agreeing(curves[rows, timing.baseline_begin :] / shape.peak[rows, None])])


def _agreeing(unit: np.ndarray) -> np.ndarray:
    """(curve,) bool: curves of height 1 that are no further from their median than noise makes the others."""
    distance = np.sqrt(((unit - np.median(unit, axis=0)) ** 2).mean(axis=1))
    return distance <= np.median(distance) + MAX_DEVIATIONS * signal.robust_sd(distance)


def _best_cluster(curves: np.ndarray, half_fall: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Rows of the cluster with the best median score.

    k-means on curves of area 1, begun from groups of like half-fall, so that the clusters are the same each time.
    """
    unit = curves / curves.sum(axis=1, keepdims=True)
    groups = np.array_split(np.argsort(half_fall, kind="stable"), CLUSTERS)
    centres, _ = vq.kmeans(unit, np.stack([unit[group].mean(axis=0) for group in groups]))
    label, _ = vq.vq(unit, centres)
    large = [cluster for cluster in range(len(centres)) if (label == cluster).sum() >= MIN_CLUSTER]
    best = max(large, key=lambda cluster: np.median(score[label == cluster]))
    return np.flatnonzero(label == best)


def _agreement(curves: np.ndarray, mean: np.ndarray, begin: int) -> float:
    """0..1: 1 - median over the curves of the area between each and the mean, both with area 1 from `begin` on."""
    unit = curves[:, begin:] / np.maximum(
        np.abs(curves[:, begin:]).sum(axis=1, keepdims=True), np.finfo(np.float32).tiny
    )
    between = np.abs(unit - mean[begin:] / np.abs(mean[begin:]).sum()).sum(axis=1)
    return float(np.clip(1.0 - np.median(between), 0.0, 1.0)) * min(len(curves) / FEW_VOXELS, 1.0)


# ---------------------------------------------------------------------------------------------------- result


def _of_voxels(
    delta_r2star: np.ndarray,
    where: np.ndarray,
    brain_peak: float,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
    source: str,
    found: list[Finding],
) -> ArterialInput:
    """Mean of the voxels with the flat indices `where`, described and judged.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      where: (voxel,) flat indices.
      brain_peak: of the brain's mean curve, 1/s.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed.
      source: `auto` or `mask`.
      found: findings so far.

    Raises:
      NoArterialInputError: no bolus in the mean, or voxels that were found are no artery after all.
    """
    curves = delta_r2star.reshape(-1, delta_r2star.shape[-1])[where]
    mean = curves.mean(axis=0, dtype=np.float64)
    # The user's voxels may be later than the mean curve of the brain.
    shape = _describe(mean[None], timing if source == "auto" else dataclasses.replace(timing, peak_frame=len(mean) - 1))
    over_noise = float(min(shape.peak[0] / shape.noise[0], 999.0)) if shape.noise[0] > 0 else 999.0
    if not (shape.stands_out()[0] and np.isfinite(shape.half_rise[0])):
        raise NoArterialInputError(
            f"no bolus in the mean curve of the {len(where)} arterial voxels: its peak is {over_noise:.1f} times the "
            f"noise (expected {MIN_PEAK_OVER_NOISE:g}) and {shape.remainder[0]:.0%} of it remain afterwards (expected "
            f"less than {MAX_REMAINDER:.0%}); choose other voxels or {_GIVE_CURVE}."
        )
    over_brain = shape.peak[0] / brain_peak if brain_peak > 0 else np.inf
    parts = {
        "agreement of the voxels": _agreement(curves, mean, timing.baseline_end),
        "smoothness": shape.smoothness(),
        "peak over noise": over_noise / SURE_PEAK_OVER_NOISE,
        "peak over the brain's": (over_brain - 1.0) / (SURE_PEAK_OVER_BRAIN - 1.0),
        "return": shape.returned(),
    }
    weakest = min(parts, key=parts.__getitem__)
    if source == "auto" and parts[weakest] < MIN_QUALITY:
        raise NoArterialInputError(
            f"no AIF: the {len(where)} most arterial voxels give a curve of quality {parts[weakest]:.2f} in {weakest}, "
            f"expected {MIN_QUALITY:g}; {_GIVE_CURVE}."
        )
    lowest = float(signal.signal_after(1.0, np.median(curves[:, timing.baseline_end :].max(axis=1)), echo_seconds))
    found = [*found, *_doubts(len(where), float(over_brain), lowest)]
    mask = np.zeros(delta_r2star.shape[:3], bool)
    mask.reshape(-1)[where] = True
    return _arterial_input(mean, mask, parts[weakest], source, found, shape, frame_seconds)


def _doubts(n_voxels: int, over_brain: float, lowest: float) -> list[Finding]:
    """Findings about an AIF that was averaged.

    Args:
      n_voxels: that were averaged.
      over_brain: its peak over that of the brain's mean curve.
      lowest: signal at the peak over the baseline signal, median over the voxels.
    """
    found = []
    if n_voxels < FEW_VOXELS:
        text = f"the AIF is the mean of only {n_voxels} voxels"
        found.append(Finding("arterial_few_voxels", "note", text, n_voxels, "--aif=FILE"))
    if over_brain < SURE_PEAK_OVER_BRAIN:
        text = f"the AIF is only {over_brain:.1f} times as high as the brain's mean curve: it may be tissue's"
        found.append(Finding("arterial_low", "note", text, round(over_brain, 2), "--aif=FILE"))
    if lowest < FLATTENED:
        text = f"the signal of the arterial voxels falls to {lowest:.0%} of its baseline: the peak may be flattened"
        found.append(Finding("arterial_flattened", "note", text, round(lowest, 3), "--aif=FILE"))
    return found


def _arterial_input(
    delta_r2star: np.ndarray,
    mask: np.ndarray | None,
    quality: float,
    source: str,
    found: list[Finding],
    shape: _Shape,
    frame_seconds: float,
) -> ArterialInput:
    """The result, with a warning where the exam ends within the first pass of the curve (time,) of this shape."""
    lowest = float(shape.lowest_after[0])
    if lowest > RETURNED:
        text = f"the exam ends before the first pass of the AIF does: it falls to {lowest:.0%} of its peak only"
        found = [*found, Finding("arterial_incomplete", "warning", text, round(lowest, 3))]
    return ArterialInput(
        delta_r2star=np.asarray(delta_r2star, np.float32),
        mask=mask,
        quality=float(np.clip(quality, 0.0, 1.0)),
        source=source,
        findings=tuple(found),
        arrival_seconds=float(shape.arrival[0] * frame_seconds),
        peak_seconds=float(shape.peak_frame[0] * frame_seconds),
        peak_delta_r2star=float(shape.peak[0]),
        width_seconds=float(shape.width[0] * frame_seconds),
        n_voxels=0 if mask is None else int(mask.sum()),
    )
