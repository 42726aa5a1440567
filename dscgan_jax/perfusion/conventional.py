"""One exam -> five conventional maps: realignment, brain mask, arterial input, deconvolution, scale.

No step needs a user; each can be overruled by one. What was assumed, found and left out goes into the result, since a
map without its arterial input and its constants cannot be judged.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion import arterial, brain, deconvolution, kinetics, motion, parametric, signal
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.brain import otsu_threshold
from dscgan_jax.perfusion.parametric import FitSettings
from dscgan_jax.perfusion.signal import BolusTiming

METHODS = ("parametric", *deconvolution.SVD_METHODS)
SCALES = ("none", "reference_wm")
TMAX_OFFSETS = ("none", "healthy")
WHITE_MATTER_CBF = 22.0  # ml/100 g/min, healthy; the usual reference value (Ostergaard et al., JCBFM 1998;18:425)
# Median Tmax of healthy tissue without regularisation, s: the peak of h (*) R follows the first blood by 1 to 3 s.
HEALTHY_TMAX_SECONDS = 2.0
LEAST_USUAL_TMAX_SECONDS = 0.75  # blood needs time from an artery into the tissue
MIN_WHITE_VOXELS = 50
WHITE_DEPTH_MM = 4.0  # below the surface of the tissue: the cortex is 2-4 mm thick
LATE_SECONDS = 2.0  # later than the brain's usual Tmax by this, tissue is no healthy reference
DARK_SHARE = 0.01  # of a given mask that may lie there without a word
DRY = 0.1  # of the blood that passes the brain's mean: less than the core of an infarct keeps
LATEST_SECONDS = 12.0  # after the mean curve
DOUBTFUL_QUALITY = 0.5  # of the arterial curve
FEW_BASELINE_FRAMES = 5
EARLY_SHARE = 0.05  # of the tissue that may fill before the arterial input
NOISY = 20.0  # S0 over noise: below it single voxels tell little
NOISE_VOXELS = 20_000  # tell the noise of all
MIN_NOISE = 0.01  # of the baseline: below it the fit would weigh what its grid of curves leaves out


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the maps are made.

    Attributes:
      method: `parametric`, `osvd`, `csvd` or `ssvd`.
      scale: `none`, `reference_wm` (healthy white matter at 22 ml/100 g/min) or a factor on CBF and CBV.
      motion: `rigid` (frames in which the head moved are realigned; the others stay as they are, bit for bit) or
        `none`.
      tmax_offset: `none`, or `healthy` = Tmax shifted as a whole so that its most frequent value is 2 s: what
        regularisation adds to the Tmax of the SVD methods.
      cut: singular values of `csvd` and `ssvd` below this share of the largest are left out; 0 = the method's usual
        one.
      oscillation: largest oscillation index of `osvd`.
      neighbourhood_mm: FWHM of the neighbourhood that shares delay and dispersion in the parametric fit; 0 = none.
      fit: what the parametric fit assumes.
    """

    method: str = "parametric"
    scale: str | float = "reference_wm"
    motion: str = "rigid"
    tmax_offset: str = "none"
    cut: float = 0.0
    oscillation: float = deconvolution.OSCILLATION
    neighbourhood_mm: float = 5.0
    fit: FitSettings = FitSettings()

    def __post_init__(self):
        for name, choices in (("method", METHODS), ("motion", motion.CORRECTIONS), ("tmax_offset", TMAX_OFFSETS)):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
        is_factor = not isinstance(self.scale, str) and 0 < self.scale < np.inf
        if self.scale not in SCALES and not is_factor:
            raise InputError(f"scale is {self.scale!r}; it must be none, reference_wm or a factor above 0.")
        if not 0 <= self.cut < 1:
            raise InputError(
                f"cut is {self.cut}; it must be a share of the largest singular value, 0 (usual) to below 1."
            )
        if not 0 < self.oscillation < np.inf:
            raise InputError(f"oscillation is {self.oscillation}; it must be above 0 (usual: 0.035).")
        if not 0 <= self.neighbourhood_mm < np.inf:
            raise InputError(f"neighbourhood_mm is {self.neighbourhood_mm}; it must be at least 0 mm, and finite.")
        if not 0 <= self.fit.transit_shape < np.inf:
            raise InputError(
                f"transit_shape is {self.fit.transit_shape}; it must be 0 (what suits the exam best) or above (1 = "
                "exponential residue), and finite."
            )


@dataclasses.dataclass(frozen=True)
class Given:
    """What the user gives instead of letting it be found; None = is found.

    Attributes:
      tissue: (x, y, z) bool, where maps are made.
      arterial_mask: (x, y, z), arterial voxels.
      arterial_seconds, arterial_mm: (time,) arterial curve, s and mM.
      tissue_was_found: `tissue` is what `brain.brain_mask` finds in this series: it need not be found again, and is
        treated as found.
    """

    tissue: np.ndarray | None = None
    arterial_mask: np.ndarray | None = None
    arterial_seconds: np.ndarray | None = None
    arterial_mm: np.ndarray | None = None
    tissue_was_found: bool = False


NOTHING_GIVEN = Given()


@dataclasses.dataclass(frozen=True)
class Measured:
    """What an exam shows before any inversion; the same for every method.

    Attributes:
      tissue: (x, y, z) bool, where maps are made.
      tissue_source: `found` or `given`.
      curves: (voxel, time) concentration in `tissue`, mM; 0 in transient frames.
      arterial_mm: (time,) concentration in arterial blood, mM; 0 in transient frames.
      noise: (voxel,) standard deviation of one frame of `curves`, mM.
      arterial: where `arterial_mm` comes from.
      timing: baseline and bolus.
      realignment: None where none was asked for.
      voxel_mm: (3,) edge lengths.
      frame_seconds: TR.
      baseline_over_noise: S0 over the noise of one frame, median over the tissue.
      relative: True where the echo time is unknown: concentrations have no unit then.
      findings: for the reader of the maps.
    """

    tissue: np.ndarray
    tissue_source: str
    curves: np.ndarray
    arterial_mm: np.ndarray
    noise: np.ndarray
    arterial: ArterialInput
    timing: BolusTiming
    realignment: motion.Realignment | None
    voxel_mm: np.ndarray
    frame_seconds: float
    baseline_over_noise: float
    relative: bool
    findings: tuple[Finding, ...]

    def motion_courses(self) -> np.ndarray | None:
        """What realigned curves keep of the motion, (time, course); None where nothing moved."""
        return _motion_courses(self.realignment)


@dataclasses.dataclass(frozen=True)
class ConventionalMaps:
    """Five maps of one exam and how they came about.

    Attributes:
      maps: cbf, cbv, mtt, tmax, ttp: (x, y, z) float32 in the units of `maps.MAPS`, 0 outside the tissue.
      measured: what they were made from.
      scale_factor: what CBF and CBV were multiplied with.
      referenced: whether that factor comes from white matter.
      tmax_shift_seconds: what was added to Tmax.
      transit_shape: of the transit times in the parametric fit, given or found; None for the SVD methods.
      findings: for the reader of the maps.
    """

    maps: dict[str, np.ndarray]
    measured: Measured
    scale_factor: float
    referenced: bool
    tmax_shift_seconds: float
    transit_shape: float | None
    findings: tuple[Finding, ...]

    @property
    def absolute(self) -> bool:
        """Whether CBF and CBV have a unit: from the echo time, or from a reference that was found."""
        return not self.measured.relative or self.referenced

    def record(self) -> dict[str, Any]:
        """Plain values for a sidecar: arterial input, constants, scale, timing, and motion."""
        found, realigned = self.measured.arterial, self.measured.realignment
        record: dict[str, Any] = {
            "ArterialInput": {
                "Source": found.source,
                "Voxels": found.n_voxels,
                "Quality": _rounded(found.quality),
                "ArrivalSeconds": _rounded(found.arrival_seconds),
                "PeakSeconds": _rounded(found.peak_seconds),
                "WidthSeconds": _rounded(found.width_seconds),
            },
            "Constants": {
                name: {"Value": constant.value, "Unit": constant.unit, "Source": constant.source}
                for name, constant in kinetics.CONSTANTS.items()
            },
            "MaskSource": self.measured.tissue_source,
            "ScaleFactor": _rounded(self.scale_factor, 5),
            "ReferenceWhiteMatterCbf": WHITE_MATTER_CBF if self.referenced else None,
            "TmaxShiftSeconds": _rounded(self.tmax_shift_seconds),
            "TransitShape": self.transit_shape,
            "Timing": dataclasses.asdict(self.measured.timing),
            "BaselineOverNoise": _rounded(self.measured.baseline_over_noise, 1),
            "RelativeUnits": self.measured.relative,
        }
        if realigned is not None:
            record["Motion"] = {
                "ResampledFrames": int(realigned.resampled.sum()),
                "LargestMillimetres": _rounded(realigned.largest_mm),
                "LargestDegrees": _rounded(realigned.largest_degrees),
            }
        return record


def conventional_maps(
    series: np.ndarray,
    affine: np.ndarray,
    frame_seconds: float,
    echo_seconds: float,
    settings: Settings = Settings(),
    given: Given = NOTHING_GIVEN,
) -> ConventionalMaps:
    """CBF, CBV, MTT, Tmax and TTP of one exam; arguments and errors as in `measure` and `invert`."""
    return invert(measure(series, affine, frame_seconds, echo_seconds, settings.motion, given), settings)


def measure(
    series: np.ndarray,
    affine: np.ndarray,
    frame_seconds: float,
    echo_seconds: float,
    realign: str = "rigid",
    given: Given = NOTHING_GIVEN,
) -> Measured:
    """From signal to concentration in tissue and artery.

    Args:
      series: (x, y, z, time), RAS, scanner units, finite and not negative.
      affine: (4, 4), voxel index -> millimetres.
      frame_seconds: TR.
      echo_seconds: TE; NaN where unknown: concentrations are relative then.
      realign: `none` or `rigid`.
      given: mask and arterial input of the user; they always win.

    Raises:
      InputError: no brain, no bolus, no arterial input, or a given mask or curve that does not belong to the exam.
    """
    found = Findings()
    realignment = _realigned(series, affine, realign, found)
    if realignment is not None:
        series = realignment.series
    relative = not np.isfinite(echo_seconds)
    te = 1.0 if relative else echo_seconds
    if relative:
        found.note(
            "echo_time_unknown",
            "the echo time is unknown: concentrations have no unit, and only a reference scales CBF and CBV",
            None,
            "--te=SECONDS",
        )

    voxel_mm = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    find_tissue = given.tissue is None or given.tissue_was_found
    realigned = realignment is not None and realignment.moved
    if given.tissue is None or (given.tissue_was_found and realigned):
        tissue = brain.brain_mask(series, affine).tissue
    else:
        tissue = given.tissue
    whole = brain.with_fluid_spaces(tissue, voxel_mm)  # arteries run outside the tissue
    if not find_tissue:
        _check_given_tissue(series, tissue, found)
    timing = signal.find_bolus(series[tissue].mean(axis=0, dtype=np.float64))
    baseline = signal.baseline_signal(series, timing)
    tissue = tissue & (baseline > 0)

    relaxation = np.zeros(series.shape, np.float32)
    relaxation[whole] = signal.delta_r2star(np.float32(series[whole]), np.float32(baseline[whole]), te)
    artery = _arterial_input(relaxation, whole, baseline, timing, frame_seconds, te, given)
    curves = kinetics.concentration_of(relaxation[tissue])
    arterial_mm = kinetics.concentration_of(artery.relaxation, kinetics.K_BLOOD)
    # Before the steady state the signal is brighter, which is no contrast agent.
    curves[:, : timing.transient_frames] = 0.0
    arterial_mm[: timing.transient_frames] = 0.0
    if find_tissue:
        tissue, curves = _without_fluid(tissue, curves, frame_seconds, timing, voxel_mm, _motion_courses(realignment))

    sigma, baseline_over_noise = _noise(series[tissue], baseline[tissue], timing)
    noise = np.float32(sigma / te / kinetics.K_TISSUE / baseline[tissue])
    source = "found" if find_tissue else "given"
    return Measured(
        tissue,
        source,
        curves,
        arterial_mm,
        noise,
        artery,
        timing,
        realignment,
        voxel_mm,
        frame_seconds,
        baseline_over_noise,
        relative,
        (*found.listed(), *artery.findings),
    )


def invert(measured: Measured, settings: Settings = Settings()) -> ConventionalMaps:
    """From concentration to maps.

    Raises:
      InputError: an arterial curve in mM stands beside tissue without echo time, and nothing brings them together.
    """
    if measured.relative and measured.arterial.source == "curve" and settings.scale != "reference_wm":
        raise InputError("an arterial curve in mM needs the echo time; give --te= in seconds, or --scale=reference_wm.")
    found = Findings()
    found.extend(measured.findings)
    tissue, curves, arterial_mm, tr = measured.tissue, measured.curves, measured.arterial_mm, measured.frame_seconds
    if settings.method == "parametric":
        fitted = parametric.fit(
            curves,
            arterial_mm,
            tr,
            measured.noise,
            first_frame=measured.timing.baseline_begin,
            courses=measured.motion_courses(),
            settings=settings.fit,
            mask=tissue,
            voxel_mm=measured.voxel_mm,
            neighbourhood_mm=settings.neighbourhood_mm,
        )
        result, ttp, shape = fitted.deconvolved(), fitted.ttp, fitted.transit_shape
    else:
        shape = None
        result = deconvolution.deconvolve_svd(
            curves, arterial_mm, tr, settings.method, settings.cut or None, settings.oscillation
        )
        result = result._replace(cbv=np.maximum(result.cbv, 0.0))
        ttp = signal.peak_seconds(curves, tr)

    healthy = _mode(result.tmax)
    if settings.method == "parametric" and healthy < LEAST_USUAL_TMAX_SECONDS:
        found.warning(
            "arterial_late",
            f"most of the tissue has a Tmax of {healthy:.1f} s: the arterial curve comes as late as "
            "the tissue's own and may be no artery's, so times and flow are doubtful",
            round(healthy, 2),
            "--aif=FILE",
        )
    found.extend(judge(measured, result.tmax, settings))
    shift = HEALTHY_TMAX_SECONDS - healthy if settings.tmax_offset == "healthy" else 0.0
    factor, referenced = 1.0 if settings.scale == "none" else settings.scale, False
    if settings.scale == "reference_wm":
        factor = _white_matter_factor(result, tissue, measured.voxel_mm, healthy, found)
        factor, referenced = factor or 1.0, factor is not None
    values = {
        "cbf": result.cbf * factor,
        "cbv": result.cbv * factor,
        "mtt": result.mtt,
        "tmax": result.tmax + shift,
        "ttp": ttp,
    }
    maps = {name: np.zeros(tissue.shape, np.float32) for name in values}
    for name, volume in maps.items():
        volume[tissue] = values[name]
    return ConventionalMaps(maps, measured, float(factor), referenced, float(shift), shape, found.listed())


def judge(measured: Measured, tmax: np.ndarray, settings: Settings) -> tuple[Finding, ...]:
    """What a reader must know of the arterial curve, the noise and the times.

    Args:
      measured: of the exam.
      tmax: (voxel,) in the tissue, s.
      settings: what the maps were made with.
    """
    artery, timing, found = measured.arterial, measured.timing, Findings()
    if artery.quality < DOUBTFUL_QUALITY:
        found.note(
            "arterial_quality",
            f"the arterial curve is doubtful (quality {artery.quality:.2f}): look at its curve and voxels",
            round(artery.quality, 3),
            "--aif=FILE",
        )
    n_baseline = timing.baseline_end - timing.baseline_begin
    if n_baseline < FEW_BASELINE_FRAMES:
        found.note(
            "few_baseline_frames",
            f"only {n_baseline} steady frames lie before the bolus: baseline and maps are noisy",
            n_baseline,
        )
    if (early := float((tmax < 0).mean())) > EARLY_SHARE:
        found.note(
            "tmax_negative",
            f"{100 * early:.0f} % of the tissue has a Tmax below 0: it fills before the arterial curve, "
            "which may come from behind a narrowed artery or from further down the tree",
            round(early, 3),
            "--aif=FILE",
        )
    if measured.baseline_over_noise < NOISY:
        found.note(
            "noisy",
            f"the series is noisy: the baseline is {measured.baseline_over_noise:.0f} times the noise of a frame",
            round(measured.baseline_over_noise, 1),
        )
    if settings.method != "parametric" and settings.tmax_offset == "none":
        found.note(
            "tmax_raw_svd",
            "Tmax of the SVD methods peaks late by some seconds, since regularisation flattens the "
            "residue function: thresholds such as 6 s do not mean the same as in the parametric fit",
            None,
            "--config.conventional.tmax_offset=healthy",
        )
    return found.listed()


def _check_given_tissue(series, tissue, found) -> None:
    """A mask of another exam reaches into the air: a warning, or a refusal where most of it lies there."""
    dark = brain.dark_share(series, tissue)
    if dark > 0.5:
        raise InputError(
            f"the mask of the tissue: {100 * dark:.0f} % of its voxels have no signal; check that it was drawn on "
            "this series."
        )
    if dark > DARK_SHARE:
        found.warning(
            "mask_dark",
            f"{100 * dark:.0f} % of the given mask has hardly any signal: it may belong to another exam",
            round(dark, 3),
            "--mask=FILE",
        )


def _realigned(series: np.ndarray, affine: np.ndarray, realign: str, found: Findings) -> motion.Realignment | None:
    """The realigned series; None where none is wanted or possible. What moved is told either way."""
    if realign == "none":
        found.extend(motion.look_for_motion(series, affine))
        return None
    realignment, told = motion.realign_if_possible(series, affine)
    found.extend(told)
    return realignment


def _arterial_input(relaxation, whole, baseline, timing, frame_seconds, echo_seconds, given: Given) -> ArterialInput:
    if given.arterial_mm is not None:
        return arterial.arterial_input_from_curve(
            given.arterial_seconds, given.arterial_mm, relaxation.shape[-1], frame_seconds
        )
    if given.arterial_mask is not None:
        return arterial.arterial_input_from_mask(
            relaxation, given.arterial_mask, whole, timing, frame_seconds, echo_seconds
        )
    return arterial.find_arterial_input(relaxation, whole, baseline, timing, frame_seconds, echo_seconds)


def _without_fluid(tissue, curves, frame_seconds, timing, voxel_mm, courses) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and its curves without the rims that no blood passes: fluid beside bone can look like tissue at rest.

    How much blood passes, over the brain's mean: the best fit of the mean curve, coming later by any number of frames,
    free of level, drift and motion. A wide region without passage is no rim but an infarct, and stays.
    """
    mean = curves.mean(axis=0, dtype=np.float64)
    shifts = range(-1, int(LATEST_SECONDS / frame_seconds) + 1)
    used = slice(timing.baseline_begin, None)
    shifted = np.stack([np.interp(np.arange(len(mean)) - shift, np.arange(len(mean)), mean)[used] for shift in shifts])
    shifted = shifted @ parametric.free_of_line(
        np.arange(shifted.shape[1], dtype=np.float64), None if courses is None else courses[used]
    )
    passing = (curves[:, used] @ np.float32(shifted / (shifted**2).sum(axis=1, keepdims=True)).T).max(axis=1)
    dry = np.zeros(tissue.shape, bool)
    dry[tissue] = passing < DRY
    rim = dry & ~brain.opened(dry, brain.SULCUS_MM, voxel_mm)
    return tissue & ~rim, curves[~rim[tissue]]


def _noise(series: np.ndarray, baseline: np.ndarray, timing: BolusTiming) -> tuple[float, float]:
    """Noise of the signal, from differences of neighbouring frames of (voxel, time).

    And the baseline over it, median.
    """
    some = np.float32(series[:: max(len(series) // NOISE_VOXELS, 1), timing.baseline_begin :])
    changes = np.diff(some, 2, axis=1)  # neither drift nor the flanks of the passage are noise
    sigma = np.median(np.abs(changes)) * 1.4826 / np.sqrt(6.0)
    sigma = max(float(sigma), MIN_NOISE * float(np.median(baseline)))
    return sigma, float(np.median(baseline)) / sigma


def _mode(values: np.ndarray) -> float:
    """The most frequent value: the peak of a histogram of 100 bins from the 1st to the 99th percentile, smoothed."""
    counts, edges = np.histogram(values, bins=100, range=tuple(np.percentile(values, (1, 99))))
    peak = int(ndimage.gaussian_filter1d(counts.astype(np.float64), 5.0).argmax())
    return float(edges[peak : peak + 2].mean())


def _white_matter_factor(result, mask, voxel_mm, healthy_tmax, found) -> float | None:
    """Factor that brings healthy white matter to its reference flow; None where there is none.

    White matter: the most frequent value in the lower class of CBF (Otsu 1979) of tissue that is neither late nor at
      the
    surface; voxels that hold grey matter too only pull the upper end of that class.
    """
    inner = (brain.depth_mm(mask, voxel_mm)[mask] > WHITE_DEPTH_MM) & (result.cbf > 0)
    inner &= result.tmax < healthy_tmax + LATE_SECONDS
    if inner.sum() < MIN_WHITE_VOXELS:
        found.warning(
            "white_matter_missing",
            f"only {inner.sum()} voxels could be healthy white matter: CBF and CBV were not scaled",
            int(inner.sum()),
            "--scale=FACTOR",
        )
        return None
    flow = result.cbf[inner]
    flow = flow[flow <= np.percentile(flow, 99)]
    white = flow[flow < otsu_threshold(flow)] if np.ptp(flow) > 0 else flow
    return WHITE_MATTER_CBF / _mode(white if len(white) else flow)


def _motion_courses(realignment: motion.Realignment | None) -> np.ndarray | None:
    return realignment.courses() if realignment is not None and realignment.moved else None


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
