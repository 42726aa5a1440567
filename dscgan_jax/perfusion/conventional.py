"""One exam -> five conventional maps: concentration inverted, scaled, and judged.

What was assumed, found and left out is part of the result, since a map without its AIF and its constants cannot be
judged.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import spatial

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion import deconvolution, hemispheres, kinetics, leakage, morphology, motion, parametric, signal
from dscgan_jax.perfusion.brain import most_frequent, otsu_threshold
from dscgan_jax.perfusion.deconvolved import Deconvolved
from dscgan_jax.perfusion.measurement import NOTHING_GIVEN, Given, Measured, measure
from dscgan_jax.perfusion.parametric import USUAL_FIT, FitSettings, Fitted
from dscgan_jax.threads import at_once

METHODS = ("parametric", *deconvolution.SVD_METHODS)
SCALES = ("none", "reference_wm")
TMAX_OFFSETS = ("none", "healthy")
WHITE_MATTER_CBF = 22.0  # mL/100 g/min, healthy; the usual reference value (Ostergaard et al., JCBFM 1998;18:425)
# Median Tmax of healthy tissue without regularisation, s: the peak of h (*) R follows the first blood by 1 to 3 s.
HEALTHY_TMAX_SECONDS = 2.0
LEAST_USUAL_TMAX_SECONDS = 0.75  # blood needs time from an artery into the tissue
MOST_USUAL_TMAX_SECONDS = 4.0  # from here on tissue counts as hypoperfused, and not most of a brain can be
MIN_WHITE_VOXELS = 50
SCALE_VOXELS = 16384  # the most frequent flow of fewer is less sure
# s; voxels fitted alone have about the flow of the fit with neighbours if a little more dispersion is expected of them.
LONE_DISPERSION = 0.3
WHITE_DEPTH_MM = 4.0  # below the surface of the tissue: the cortex is 2-4 mm thick
LATE_SECONDS = 2.0  # later than the brain's usual Tmax by this, tissue is no healthy reference
FEW_BASELINE_FRAMES = 5
EARLY_SHARE = 0.05  # of the tissue that may fill before the AIF
SOME_FLOW = 0.7  # of the brain's mean first pass: cortex has more, unless it is ill
NEAR_VOXELS = 32  # whose times a voxel without a first pass is given: single ones are noise
NOISY = 20.0  # S0 over noise: below it single voxels mean little


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the maps are made.

    Attributes:
      method: `parametric`, `osvd`, `csvd` or `ssvd`.
      scale: `none`, `reference_wm` (healthy white matter at 22 mL/100 g/min) or a factor on CBF and CBV.
      motion: `rigid` (frames in which the head moved are realigned; the others stay as they are, bit for bit) or
        `none`.
      tmax_offset: `none`, or `healthy` = Tmax shifted as a whole so that its most frequent value is 2 s: what
        regularisation adds to the Tmax of the SVD methods.
      truncation_threshold: singular values of `csvd` and `ssvd` below this share of the largest are left out; 0 = the
        method's usual one.
      oscillation_index: the largest one of `osvd`.
      neighbourhood_mm: FWHM of the neighbourhood that shares delay and dispersion in the parametric fit; 0 = none.
      fit: what the parametric fit assumes.
      leakage: `none`, `bsw` or `bidirectional`: how leaked contrast agent is taken out of the curves.
    """

    method: str = "parametric"
    scale: str | float = "reference_wm"
    motion: str = "rigid"
    tmax_offset: str = "none"
    truncation_threshold: float = 0.0
    oscillation_index: float = deconvolution.OSCILLATION_INDEX
    neighbourhood_mm: float = 5.0
    fit: FitSettings = USUAL_FIT
    leakage: str = leakage.NONE

    def __post_init__(self):
        for name, choices in (
            ("method", METHODS),
            ("motion", motion.CORRECTIONS),
            ("tmax_offset", TMAX_OFFSETS),
            ("leakage", leakage.MODELS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
        is_factor = not isinstance(self.scale, str) and 0 < self.scale < np.inf
        if self.scale not in SCALES and not is_factor:
            raise InputError(f"scale is {self.scale!r}; it must be none, reference_wm or a factor above 0.")
        if not 0 <= self.truncation_threshold < 1:
            raise InputError(
                f"truncation_threshold is {self.truncation_threshold}; it must be a share of the largest singular "
                "value, 0 (usual) to below 1."
            )
        if not 0 < self.oscillation_index < np.inf:
            raise InputError(f"oscillation_index is {self.oscillation_index}; it must be above 0 (usual: 0.035).")
        if not 0 <= self.neighbourhood_mm < np.inf:
            raise InputError(f"neighbourhood_mm is {self.neighbourhood_mm}; it must be at least 0 mm, and finite.")
        if not 0 <= self.fit.transit_shape < np.inf:
            raise InputError(
                f"transit_shape is {self.fit.transit_shape}; it must be 0 (what suits the exam best) or above (1 = "
                "exponential residue), and finite."
            )


USUAL_SETTINGS = Settings()


@dataclasses.dataclass(frozen=True)
class ConventionalMaps:
    """Maps of one exam and how they were made.

    Attributes:
      maps: cbf, cbv, mtt, tmax, ttp: (x, y, z) float32 in the units of `maps.MAPS`, 0 outside the tissue; with a
        correction of leakage k1, k2 and, where it is known, ncbv besides (`maps.MORE_MAPS`).
      measured: what they were made from.
      scale_factor: what CBF was multiplied with.
      volume_factor: what CBV was multiplied with; another one where an SVD method is scaled to white matter.
      referenced: whether that factor comes from white matter.
      tmax_shift_seconds: what was added to Tmax.
      fitted: parameters of the parametric fit, CBF before scaling; None for the SVD methods.
      findings: for the reader of the maps.
    """

    maps: dict[str, np.ndarray]
    measured: Measured
    scale_factor: float
    volume_factor: float
    referenced: bool
    tmax_shift_seconds: float
    fitted: Fitted | None
    findings: tuple[Finding, ...]

    @property
    def transit_shape(self) -> float | None:
        """Shape of the transit times in the parametric fit, given or found; None for the SVD methods."""
        return self.fitted.transit_shape if self.fitted else None

    @property
    def absolute(self) -> bool:
        """Whether CBF and CBV have a unit: from the echo time, or from a reference that was found."""
        return not self.measured.relative or self.referenced

    def fitted_curves(self) -> np.ndarray | None:
        """(voxel, time) mM: what the parametric fit made of `measured.curves`; None for the SVD methods."""
        if self.fitted is None:
            return None
        measured = self.measured
        return parametric.fitted_curves(
            self.fitted,
            measured.curves,
            measured.arterial_mm,
            measured.frame_seconds,
            first_frame=measured.timing.baseline_begin,
            nuisance_regressors=measured.nuisance_regressors(),
        )

    def record(self) -> dict[str, Any]:
        """Plain values for a sidecar: AIF, constants, scale, timing, and motion."""
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
            "VolumeScaleFactor": _rounded(self.volume_factor, 5),
            "ReferenceWhiteMatterCbf": WHITE_MATTER_CBF if self.referenced else None,
            "TmaxShiftSeconds": _rounded(self.tmax_shift_seconds),
            "TransitShape": _rounded(self.transit_shape) if self.transit_shape else None,
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
    settings: Settings = USUAL_SETTINGS,
    given: Given = NOTHING_GIVEN,
) -> ConventionalMaps:
    """CBF, CBV, MTT, Tmax and TTP of one exam; arguments and errors as in `measurement.measure` and `invert`."""
    return invert(measure(series, affine, frame_seconds, echo_seconds, settings.motion, given), settings)


def invert(measured: Measured, settings: Settings = USUAL_SETTINGS) -> ConventionalMaps:
    """From concentration to maps.

    Raises:
      InputError: the AIF is in mM, the tissue without echo time, and nothing brings them together.
    """
    if measured.relative and measured.arterial.source == "curve" and settings.scale != "reference_wm":
        raise InputError("an AIF in mM needs the echo time; give --te= in seconds, or --scale=reference_wm.")
    found = Findings()
    found.extend(measured.findings)
    if settings.leakage == leakage.NONE:  # nothing waits for what is only told
        corrected, (result, ttp, fitted) = at_once(
            lambda: leakage.corrected(measured, settings.leakage), lambda: _inverted(measured, settings, False)
        )
    else:
        corrected = leakage.corrected(measured, settings.leakage)
        result, ttp, fitted = _inverted(corrected.measured, settings, corrected.applied)
    found.extend(corrected.findings)
    measured = corrected.measured
    result, ttp = result._replace(tmax=_seen(result.tmax, measured)), _seen(ttp, measured)
    healthy = most_frequent(result.tmax)
    if settings.method == "parametric" and healthy < LEAST_USUAL_TMAX_SECONDS:
        found.warning(
            "arterial_late",
            f"most of the tissue has a Tmax of {healthy:.1f} s: the AIF comes as late as the tissue's own curve, as "
            "that of a distant artery, of a vein or of tissue does, so times and flow are doubtful",
            round(healthy, 2),
            "--aif=FILE",
        )
    if settings.method == "parametric" and healthy > MOST_USUAL_TMAX_SECONDS:
        found.warning(
            "arterial_early",
            f"most of the tissue has a Tmax of {healthy:.1f} s, where 1 to 3 s are usual: the AIF is cut short or too "
            "early, or the whole brain fills late; times and flow are doubtful, look at the AIF",
            round(healthy, 2),
            "--aif=FILE",
        )
    found.extend(judge(measured, result.tmax, settings))
    shift = HEALTHY_TMAX_SECONDS - healthy if settings.tmax_offset == "healthy" else 0.0
    factor, referenced = 1.0 if settings.scale == "none" else settings.scale, False
    volume_factor = factor
    if settings.scale == "reference_wm":
        white = _white_matter_factor(result, measured, found)
        factor, referenced = white or 1.0, white is not None
        volume_factor = factor
        if referenced and settings.method != "parametric":
            volume_factor = _unregularised_factor(measured) or factor
            if volume_factor == factor:
                found.warning(
                    "white_matter_missing",
                    "the parametric fit found no healthy white matter: CBV was scaled with the factor of CBF, which "
                    "makes up for regularisation too, and is too high",
                    round(float(factor), 3),
                    "--scale=FACTOR",
                )
    values = {
        "cbf": result.cbf * factor,
        "cbv": result.cbv * volume_factor,
        "mtt": result.mtt * (volume_factor / factor),
        "tmax": result.tmax + shift,
        "ttp": ttp,
        **corrected.maps,
    }
    if settings.leakage != leakage.NONE:
        white = hemispheres.white_matter_opposite(
            result, measured.tissue, corrected.leaking, measured.voxel_mm, healthy, found
        )
        values |= {} if white is None else {"ncbv": result.cbv / np.float32(most_frequent(result.cbv[white]))}
    maps = {name: np.zeros(measured.tissue.shape, np.float32) for name in values}
    for name, volume in maps.items():
        volume[measured.tissue] = values[name]
    return ConventionalMaps(
        maps, measured, float(factor), float(volume_factor), referenced, float(shift), fitted, found.listed()
    )


def _inverted(
    measured: Measured, settings: Settings, leakage_removed: bool
) -> tuple[Deconvolved, np.ndarray, Fitted | None]:
    """Maps without scale, TTP (voxel,) in s, and the parameters of the parametric fit (None for the SVD methods)."""
    curves, arterial_mm, tr = measured.curves, measured.arterial_mm, measured.frame_seconds
    if settings.method == "parametric":
        fitted = parametric.fit(
            curves,
            arterial_mm,
            tr,
            measured.noise,
            first_frame=measured.timing.baseline_begin,
            nuisance_regressors=measured.nuisance_regressors(),
            settings=settings.fit,
            mask=measured.tissue,
            voxel_mm=measured.voxel_mm,
            neighbourhood_mm=settings.neighbourhood_mm,
        )
        return fitted.deconvolved(), fitted.ttp, fitted
    result = deconvolution.deconvolve_svd(
        curves, arterial_mm, tr, settings.method, settings.truncation_threshold or None, settings.oscillation_index
    )
    cbv = result.cbv
    if not leakage_removed:  # its correction takes out what a wrong baseline or motion adds, too
        cbv = deconvolution.response_cbv(curves, arterial_mm, tr, measured.nuisance_regressors())
    cbv = np.maximum(cbv, 0.0)
    result = result._replace(cbv=cbv, mtt=deconvolution.transit_seconds(result.cbf, cbv))
    return result, signal.peak_seconds(curves, tr), None


def _seen(times: np.ndarray, measured: Measured) -> np.ndarray:
    """Times (voxel,), those of voxels without a first pass replaced.

    A curve without a first pass has no time of its own, only that of the prior or of the noise. It gets the upper
    quartile of the nearest ones of the infarct that have some flow, since blood reaches it no earlier than them.
    """
    some = measured.infarcted & ~measured.not_seen & (measured.first_pass < SOME_FLOW)
    if not measured.not_seen.any() or some.sum() < NEAR_VOXELS:
        return times
    places = np.argwhere(measured.tissue) * measured.voxel_mm
    _, nearest = spatial.cKDTree(places[some]).query(places[measured.not_seen], k=NEAR_VOXELS)
    seen = times.copy()
    seen[measured.not_seen] = np.percentile(times[some][nearest], 75, axis=1)
    return seen


def judge(measured: Measured, tmax: np.ndarray, settings: Settings) -> tuple[Finding, ...]:
    """Findings about the baseline, the noise and the times.

    Args:
      measured: of the exam.
      tmax: (voxel,) in the tissue, s.
      settings: what the maps were made with.
    """
    timing, found = measured.timing, Findings()
    n_baseline = timing.baseline_end - timing.baseline_begin
    if n_baseline < FEW_BASELINE_FRAMES:
        found.note(
            "few_baseline_frames",
            f"there are only {n_baseline} steady frames before the bolus: baseline and maps are noisy",
            n_baseline,
        )
    early = float((tmax < 0).mean())
    if early > EARLY_SHARE:
        found.note(
            "tmax_negative",
            f"{100 * early:.0f} % of the tissue has a Tmax below 0: it fills before the AIF, "
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


def _white_matter_factor(result: Deconvolved, measured: Measured, found: Findings) -> float | None:
    """Factor that brings healthy white matter to its reference flow; None where there is none.

    Args:
      result: in the tissue.
      measured: the exam.
      found: receives a warning where there is no white matter.
    """
    deep = _deep(measured)
    factor, count = _factor_of(result.cbf[deep], result.tmax[deep], most_frequent(result.tmax))
    if factor is None:
        found.warning(
            "white_matter_missing",
            f"only {count} voxels could be healthy white matter: CBF and CBV were not scaled",
            count,
            "--scale=FACTOR",
        )
    return factor


def _unregularised_factor(measured: Measured) -> float | None:
    """The factor of the usual parametric fit, which loses no flow to regularisation; None without white matter.

    That of an SVD method's CBF undoes two things: what the AIF lacks (partial volume, relaxivity), and what
    regularisation takes from the peak of the response. CBV is an area and lacks the first alone.
    """
    deep = _deep(measured)
    some = deep[np.linspace(0, len(deep) - 1, min(SCALE_VOXELS, len(deep))).round().astype(int)]
    fitted = parametric.fit(
        measured.curves[some],
        measured.arterial_mm,
        measured.frame_seconds,
        measured.noise[some],
        first_frame=measured.timing.baseline_begin,
        nuisance_regressors=measured.nuisance_regressors(),
        settings=FitSettings(dispersion_seconds=LONE_DISPERSION),
    )
    return _factor_of(fitted.cbf, fitted.tmax, most_frequent(fitted.tmax))[0]


def _deep(measured: Measured) -> np.ndarray:
    """Indices of the voxels of the tissue below its surface."""
    return np.flatnonzero(morphology.depth_mm(measured.tissue, measured.voxel_mm)[measured.tissue] > WHITE_DEPTH_MM)


def _factor_of(flow: np.ndarray, tmax: np.ndarray, healthy_tmax: float) -> tuple[float | None, int]:
    """Reference flow over that of white matter, None where there is too little, and how many voxels could be some.

    White matter: the most frequent value in the lower class of CBF (Otsu 1979) of tissue that is neither late nor at
    the surface; voxels that hold grey matter too change only the upper end of that class.

    Args:
      flow: (voxel,) CBF before scaling, below the surface.
      tmax: (voxel,) of these voxels, s.
      healthy_tmax: most frequent Tmax, s.
    """
    flow = flow[(flow > 0) & (tmax < healthy_tmax + LATE_SECONDS)]
    count = len(flow)
    if count < MIN_WHITE_VOXELS:
        return None, count
    flow = flow[flow <= np.percentile(flow, 99)]
    white = flow[flow < otsu_threshold(flow)] if np.ptp(flow) > 0 else flow
    return WHITE_MATTER_CBF / most_frequent(white if len(white) else flow), count


def _rounded(value: float, digits: int = 3) -> float | None:
    """None where the value is not finite, which JSON does not know."""
    return round(float(value), digits) if np.isfinite(value) else None
