"""The AIF (arterial input function): found in the series, averaged over a user's voxels, or taken from a user's curve.

Words: a *curve* is ΔR2* over time. *Half-rise* and *half-fall* are the times at which it crosses half of its peak, the
*width* (FWHM) is the time between them; all are finer than a frame.

An artery differs from tissue and veins: its curve comes early, is high and narrow, rises and falls without a break and
returns (Rempp et al., Radiology 1994;193:637; Mouridsen et al., Magn Reson Med 2006;55:524). An artery is useless where
its signal is down in the noise, where blood and tissue share a voxel, and behind an occlusion, where blood is late.
"""

import dataclasses

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.arterial_voxels import (
    FEW_VOXELS,
    GIVE_CURVE,
    MAX_REMAINDER,
    MIN_PEAK_OVER_NOISE,
    CurveShape,
    NoArterialInputError,
    agreement,
    check_brain,
    choose,
    describe,
    high_of,
    is_early,
    signal_noise,
    smoothed,
    usable_of,
)
from dscgan_jax.perfusion.signal import BolusTiming

# Which voxels are looked at.
MIN_BASELINE_OVER_NOISE = 10.0  # in bone and air the logarithm of noise has peaks of any height

# What an artery's curve must be.
MIN_SIGNAL_OVER_NOISE = 4.0  # at the peak; below, a magnitude image shows its noise floor and the curve is flattened
MIN_QUALITY = 0.25  # of a curve chosen here: voxels that hardly agree, or a single one, are no artery

# Findings for the reader.
SURE_PEAK_OVER_BRAIN = 3.0  # cortex has about twice the blood volume of the brain's mean; a higher curve is a vessel's
# Arteries at the base lead the brain's mean curve by 0.27 to 0.36 of its width, half-rise to half-rise; the narrower
# the AIF is beside that curve, the less. Where both together are below `LARGE_LEAD`, the slices hold distal arteries,
# or none that fills a voxel, and Tmax is 0.3 to 2.5 s shorter than in the whole stack (phantom exams). An AIF below
# `LOW_PEAK_OVER_BRAIN` holds tissue besides, and must lead by `LOW_LEAD`. Both were chosen on 132 varied exams and on
# 88 stacks of a few slices of ten others, all of seeds that no study draws.
LARGE_LEAD = 0.41
LOW_PEAK_OVER_BRAIN, LOW_LEAD = 3.5, 0.45
NARROWER = 0.1  # of lead for each width of the AIF that fits into the mean curve's
USUAL_WIDTH_SECONDS = 11.0  # of the mean curve, at most: with a wider bolus the lead hardly grows
PARTLY_PEAK_OVER_BRAIN = 4.5  # a lower curve that is late may be tissue's besides
# Lower than this and wider, the highest voxels hold so much tissue that their curve peaks late, however early it rises:
# by 2.9 s in the median of 21 phantom exams (1.3 to 4.7 s), whose Tmax is 1.2 s too short (3.0 s at most); by 0.4 s
# in 17 with a higher curve (`studies/arteries.py`).
MOSTLY_PEAK_OVER_BRAIN = 2.5
NARROW = 1.5  # widths of the AIF that fit into the mean curve's
LARGE_PEAK_OVER_BRAIN = 6.0  # no thin artery's is as high
FLATTENED = 0.15  # of S0, signal at the peak: by then the tissue of the same voxel gives most of it
DOUBTFUL = 0.5  # a part of the quality below it is told
SURE_PEAK_OVER_NOISE = 30.0  # from here on noise does not limit the quality
TIME_TOLERANCE = 0.1  # frames: rounded times in a file

# What a curve from a file may be.
HIGHEST_PEAK_MM = 200.0  # a bolus of 0.1 mmol/kg peaks at 5-30 mM, undiluted contrast agent has 500-1000
LOWEST_PEAK_MM = 0.01  # in the noise: 30 ms of echo time would lose 0.2 % of the signal
OTHER_TIMES = {1000.0: "ms", 1 / 60: "minutes"}  # how many of them make a second's number


@dataclasses.dataclass(frozen=True)
class ArterialInput:
    """An AIF and how far to trust it. Times count from the first frame.

    Attributes:
      delta_r2star: (time,) float32, ΔR2*, 1/s (or in the unit of the series' ΔR2*), mean over the voxels of `mask`,
        smoothed where they were found.
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
    noise_floor: bool = True,
) -> ArterialInput:
    """Chooses arterial voxels in an exam.

    Of the high curves those are kept that come before the brain's mean curve, are narrower than it, smooth, above the
    noise floor, and return. Their score is peak * lead^2 / width, times the share of the curve's area that belongs to
    the first pass; the lead is from half-rise to the half-rise of the brain's mean curve. The best voxels are averaged,
    outliers left out, and smoothed over a part of the bolus' width. Nothing is random.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      candidates: (x, y, z) bool, the brain with its fluid spaces, since arteries run outside the tissue.
      baseline: (x, y, z) S0, scanner units.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed (1 where it is unknown); it leads back to the signal.
      noise_floor: whether the signal is a magnitude, of which nothing is seen below the noise; that of CT is none.

    Raises:
      NoArterialInputError: the exam ends too early, or no curve is like an artery's.
    """
    n_frames = delta_r2star.shape[-1]
    flat, flat_baseline = delta_r2star.reshape(-1, n_frames), baseline.reshape(-1)
    where = np.flatnonzero(candidates.reshape(-1) & (flat_baseline > 0))
    if not len(where):
        raise NoArterialInputError(f"no AIF: the brain mask holds no voxel with signal; {GIVE_CURVE}.")
    curves, level = flat[where], flat_baseline[where]
    noise = signal_noise(curves, level, timing, echo_seconds)
    bright = level > MIN_BASELINE_OVER_NOISE * noise if noise_floor else np.ones(len(level), bool)
    if not bright.any():
        raise NoArterialInputError(f"no AIF: before the bolus the series is mere noise; {GIVE_CURVE}.")
    brain = describe(curves[bright].mean(axis=0, dtype=np.float64)[None], timing)
    check_brain(brain, n_frames)

    first_pass = slice(timing.baseline_end, int(np.ceil(2 * brain.half_fall[0] - brain.peak_frame[0])) + 1)
    high = high_of(curves, bright, brain, timing, first_pass)
    where, curves, level = where[high], curves[high], level[high]
    shape = describe(curves, timing)
    lowest = signal.signal_after(level, shape.peak, echo_seconds)
    saturated = (lowest < MIN_SIGNAL_OVER_NOISE * noise) & noise_floor
    usable = usable_of(shape, brain, saturated)
    chosen = usable[choose(curves[usable], shape[usable], brain, timing, first_pass)]
    clipped = int((is_early(shape, brain) & saturated).sum())
    found = []
    if len(chosen) < clipped:
        text = f"{clipped} early voxels were not taken as AIF because their signal falls to the noise floor"
        found.append(Finding("arterial_flattened", "note", text, clipped))
    found_in = where[chosen]
    return _of_voxels(delta_r2star, found_in, brain, timing, frame_seconds, echo_seconds, noise_floor, "auto", found)


def arterial_input_from_mask(
    delta_r2star: np.ndarray,
    mask: np.ndarray,
    brain: np.ndarray,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
    noise_floor: bool = True,
) -> ArterialInput:
    """Averages the user's voxels; those without signal, whose curve is 0 throughout, do not count.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      mask: (x, y, z), the user's voxels, non-zero = arterial.
      brain: (x, y, z) bool, the brain with its fluid spaces.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed (1 where it is unknown).
      noise_floor: as of `find_arterial_input`.

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
    brain_shape = describe(delta_r2star[brain].mean(axis=0, dtype=np.float64)[None], timing)
    outside = int(mask.sum()) - inside
    found = []
    seen = mask & delta_r2star.any(axis=-1)
    if outside:
        text = f"{outside} of the {mask.sum()} voxels of the arterial mask are outside the brain"
        if dark := int(mask.sum() - seen.sum()):
            text += f"; {dark} of them have no signal and do not count"
        found.append(Finding("arterial_outside", "warning", text, outside, "--aif=FILE"))
    where = np.flatnonzero(seen)
    return _of_voxels(delta_r2star, where, brain_shape, timing, frame_seconds, echo_seconds, noise_floor, "mask", found)


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
    shape = describe(delta_r2star[None], BolusTiming(0, 0, 0, n_frames - 1))
    quality = min(shape.smoothness(), shape.returned())
    found = _weakness({"smoothness": shape.smoothness()})
    return _arterial_input(delta_r2star, None, quality, "curve", found, shape, frame_seconds)


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


# ---------------------------------------------------------------------------------------------------- result


def _of_voxels(
    delta_r2star: np.ndarray,
    where: np.ndarray,
    brain: CurveShape,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
    noise_floor: bool,
    source: str,
    found: list[Finding],
) -> ArterialInput:
    """Mean of the voxels with the flat indices `where`, described and judged; smoothed, where they were found.

    Args:
      delta_r2star: (x, y, z, time) ΔR2*, 1/s.
      where: (voxel,) flat indices.
      brain: of the brain's mean curve.
      timing: `signal.find_bolus` of the mean curve.
      frame_seconds: TR.
      echo_seconds: TE with which `delta_r2star` was computed.
      noise_floor: as of `find_arterial_input`.
      source: `auto` or `mask`.
      found: findings so far.

    Raises:
      NoArterialInputError: no bolus in the mean, or voxels that were found are no artery after all.
    """
    curves = delta_r2star.reshape(-1, delta_r2star.shape[-1])[where]
    mean = curves.mean(axis=0, dtype=np.float64)
    # The user's voxels may be later than the mean curve of the brain.
    shape = describe(mean[None], timing if source == "auto" else dataclasses.replace(timing, peak_frame=len(mean) - 1))
    over_noise = float(min(shape.peak[0] / shape.noise[0], 999.0)) if shape.noise[0] > 0 else 999.0
    if not (shape.stands_out()[0] and np.isfinite(shape.half_rise[0])):
        raise NoArterialInputError(
            f"no bolus in the mean curve of the {len(where)} arterial voxels: its peak is {over_noise:.1f} times the "
            f"noise (expected {MIN_PEAK_OVER_NOISE:g}) and {shape.remainder[0]:.0%} of it remain afterwards (expected "
            f"less than {MAX_REMAINDER:.0%}); choose other voxels or {GIVE_CURVE}."
        )
    over_brain = float(shape.peak[0] / brain.peak[0]) if brain.peak[0] > 0 else np.inf
    parts = {
        "agreement of the voxels": agreement(curves, mean, timing.baseline_end),
        "smoothness": shape.smoothness(),
        "peak over noise": over_noise / SURE_PEAK_OVER_NOISE,
        "peak over the brain's": (over_brain - 1.0) / (SURE_PEAK_OVER_BRAIN - 1.0),
        "return": shape.returned(),
    }
    weakest = min(parts, key=parts.__getitem__)
    if source == "auto" and parts[weakest] < MIN_QUALITY:
        raise NoArterialInputError(
            f"no AIF: the {len(where)} most arterial voxels give a curve of quality {parts[weakest]:.2f} in {weakest}, "
            f"expected {MIN_QUALITY:g}; {GIVE_CURVE}."
        )
    # Height, few voxels and an early end have findings of their own.
    apart = {name: parts[name] for name in ("smoothness", "peak over noise")}
    apart["agreement of the voxels"] = parts["agreement of the voxels"] / min(len(curves) / FEW_VOXELS, 1.0)
    highest = np.median(curves[:, timing.baseline_end :].max(axis=1))
    lowest = float(signal.signal_after(1.0, highest, echo_seconds)) if noise_floor else 1.0
    narrowness = _narrowness(shape, brain)
    least_lead = LARGE_LEAD if over_brain > LOW_PEAK_OVER_BRAIN else LOW_LEAD
    late = _lead(shape, brain, narrowness, frame_seconds) < least_lead
    found = [*found, *_doubts(len(where), over_brain, late, narrowness > NARROW, lowest), *_weakness(apart)]
    mask = np.zeros(delta_r2star.shape[:3], bool)
    mask.reshape(-1)[where] = True
    # What a user has chosen is only averaged.
    curve = smoothed(mean, float(shape.width[0]), timing.baseline_begin) if source == "auto" else mean
    return _arterial_input(curve, mask, parts[weakest], source, found, shape, frame_seconds)


def _narrowness(shape: CurveShape, brain: CurveShape) -> float:
    """Width of the brain's mean curve over that of an AIF; 1 where the exam ends before a half-fall."""
    narrowness = float(brain.width[0] / shape.width[0])
    return narrowness if np.isfinite(narrowness) else 1.0


def _lead(shape: CurveShape, brain: CurveShape, narrowness: float, frame_seconds: float) -> float:
    """By how much of its width an AIF leads the brain's mean curve, and by how much it is narrower, together."""
    lead = float(brain.half_rise[0] - shape.half_rise[0])
    usual = float(np.fmin(brain.width[0], USUAL_WIDTH_SECONDS / frame_seconds))
    return lead / usual + NARROWER * narrowness


def _weakness(parts: dict[str, float]) -> list[Finding]:
    """A finding about the weakest of these parts of the quality {name: 0..1}, if it is doubtful."""
    weakest = min(parts, key=parts.__getitem__)
    if parts[weakest] >= DOUBTFUL:
        return []
    text = f"the AIF is doubtful ({weakest} {parts[weakest]:.2f} of 1): look at its curve and voxels"
    return [Finding("arterial_quality", "note", text, round(parts[weakest], 3), "--aif=FILE")]


def _doubts(n_voxels: int, over_brain: float, late: bool, narrow: bool, lowest: float) -> list[Finding]:
    """Findings about an AIF that was averaged.

    Args:
      n_voxels: that were averaged.
      over_brain: its peak over that of the brain's mean curve.
      late: it leads that curve by less than a large artery's does.
      narrow: whether it is much narrower than that curve.
      lowest: signal at the peak over the baseline signal, median over the voxels.
    """
    found = []
    if n_voxels < FEW_VOXELS:
        text = f"the AIF is the mean of only {n_voxels} voxels"
        found.append(Finding("arterial_few_voxels", "note", text, n_voxels, "--aif=FILE"))
    height = f"the AIF is only {over_brain:.1f} times as high as the brain's mean curve"
    if late and over_brain < PARTLY_PEAK_OVER_BRAIN:
        text = (
            f"{height}, and not as early as a large artery's: it may be tissue's, mixed with tissue's or a distant "
            "artery's, and Tmax up to 2 s too short"
        )
        found.append(Finding("arterial_low", "warning", text, round(over_brain, 2), "--aif=FILE"))
    elif over_brain < MOSTLY_PEAK_OVER_BRAIN and not narrow:
        text = (
            f"{height}, and hardly narrower: its voxels are mostly tissue, so that it peaks later than the artery's "
            "blood, and Tmax may be 1 to 3 s too short"
        )
        found.append(Finding("arterial_low", "warning", text, round(over_brain, 2), "--aif=FILE"))
    elif late and over_brain < LARGE_PEAK_OVER_BRAIN:
        text = (
            "the AIF is not as early before the brain's mean curve as a large artery's: it may be a distant artery's, "
            "and Tmax up to 1 s too short"
        )
        found.append(Finding("arterial_late", "warning", text, None, "--aif=FILE"))
    elif over_brain < SURE_PEAK_OVER_BRAIN:
        early = "early and narrow as an artery's" if narrow else "as early as an artery's, but wide"
        text = f"{height}: {early}, its voxels hold tissue besides"
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
    shape: CurveShape,
    frame_seconds: float,
) -> ArterialInput:
    """The result, with a warning where the exam ends within the first pass of the curve (time,) of this shape."""
    lowest = float(shape.lowest_after[0])
    if shape.returned() < 1.0:
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
