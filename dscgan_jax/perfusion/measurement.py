"""One exam -> concentration in tissue and artery: realignment, brain mask, AIF, noise. No method of inversion yet.

No step needs a user; each can be overruled by one.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion import arterial, brain, kinetics, motion, passage, signal
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.arterial_voxels import NoArterialInputError
from dscgan_jax.perfusion.signal import BolusTiming
from dscgan_jax.threads import at_once

DARK_SHARE = 0.01  # of a given mask that may be dark without a warning
MOST_LEFT_OUT = (0.25, 0.4)  # of the tissue that is found, and of one slice of it, without a warning
DRY = 0.1  # of the blood that passes the brain's mean: no first pass
SEEN = 4.0  # standard deviations: a weaker first pass has no time
CORE_SHARE = 0.005  # of the tissue: fewer voxels without a first pass may be a cistern
NOISE_VOXELS = 20_000  # show the noise of all
# Width of the AIF over that in frames blurred alike: 0.87 to 1.04 in 43 acute phantom exams that move and 0.84 to 1.02
# in 22 of 24 varied ones, 0.44 to 0.6 in four where the movement had cut it to half or two thirds.
CUT_SHORT = 0.8
MIN_NOISE = 0.01  # of the baseline: below it the fit would weigh what its grid of curves leaves out


@dataclasses.dataclass(frozen=True)
class Given:
    """What a user gives; None = it is found in the exam.

    Attributes:
      tissue: (x, y, z) bool, where maps are made.
      arterial_mask: (x, y, z), arterial voxels; where the head moved during the first pass, their curve may come from
        frames blurred alike.
      arterial_seconds, arterial_mm: (time,) AIF, s and mM.
      tissue_was_found: `tissue` is what `brain.brain_mask` finds in this series: it need not be found again, and is
        treated as found.
      tissue_of_maps: `tissue` is where maps have values: nobody drew it, so it is not held against the brain.
    """

    tissue: np.ndarray | None = None
    arterial_mask: np.ndarray | None = None
    arterial_seconds: np.ndarray | None = None
    arterial_mm: np.ndarray | None = None
    tissue_was_found: bool = False
    tissue_of_maps: bool = False


NOTHING_GIVEN = Given()


@dataclasses.dataclass(frozen=True)
class Measured:
    """An exam before any inversion; the same for every method.

    Attributes:
      tissue: (x, y, z) bool, where maps are made.
      tissue_source: `found` or `given`.
      curves: (voxel, time) concentration in `tissue`, mM; 0 in non-steady-state frames.
      arterial_mm: (time,) concentration in arterial blood, mM; 0 in non-steady-state frames.
      noise: (voxel,) standard deviation of one frame of `curves`, mM.
      first_pass: (voxel,) how much blood passes, over the brain's mean.
      infarcted: (voxel,) bool, in an infarct or near one.
      not_seen: (voxel,) bool, those of them whose first pass is not seen: their times cannot be measured.
      arterial: the AIF, from which `arterial_mm` comes.
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
    first_pass: np.ndarray
    infarcted: np.ndarray
    not_seen: np.ndarray
    arterial: ArterialInput
    timing: BolusTiming
    realignment: motion.Realignment | None
    voxel_mm: np.ndarray
    frame_seconds: float
    baseline_over_noise: float
    relative: bool
    findings: tuple[Finding, ...]

    def nuisance_regressors(self) -> np.ndarray | None:
        """What is left of the motion in realigned curves, (time, regressor); None where nothing moved."""
        return _nuisance_regressors(self.realignment)


def measure(
    series: np.ndarray,
    affine: np.ndarray,
    frame_seconds: float,
    echo_seconds: float,
    realign: str = "rigid",
    given: Given = NOTHING_GIVEN,
    realigned: Callable[[], motion.Realigned] | None = None,
    of_ct: bool = False,
) -> Measured:
    """From signal to concentration in tissue and artery.

    Args:
      series: (x, y, z, time), RAS, scanner units, finite and not negative.
      affine: (4, 4), voxel index -> millimetres.
      frame_seconds: TR.
      echo_seconds: TE; NaN where unknown: concentrations are relative then.
      realign: `none` or `rigid`.
      given: mask and AIF of the user, which always win.
      realigned: gives what `motion.realign_if_possible` makes of the series, where somebody began it.
      of_ct: the series is that of `ct.falling`: it has no echo time, and no noise floor.

    Raises:
      InputError: no brain, no bolus, no AIF, or a given mask or curve that does not belong to the exam.
    """
    found = Findings()
    realignment = _realigned(series, affine, realign, found, realigned)
    if realignment is not None:
        series = realignment.series
    relative = not np.isfinite(echo_seconds)
    te = 1.0 if relative else echo_seconds
    if relative and not of_ct:
        found.note(
            "echo_time_unknown",
            "the echo time is unknown: concentrations have no unit, and only a reference scales CBF and CBV",
            None,
            "--te=SECONDS",
        )

    voxel_mm = voxel_sizes(np.asarray(affine))
    find_tissue = given.tissue is None or given.tissue_was_found
    tissue = _tissue(series, affine, given, realignment, found)
    whole = brain.with_fluid_spaces(tissue, voxel_mm)  # arteries run outside the tissue
    timing = signal.find_bolus(signal.mean_curve(series, tissue))
    baseline = signal.baseline_signal(series, timing)
    tissue = tissue & (baseline > 0)

    where = whole
    if given.arterial_mask is not None and given.arterial_mask.shape == whole.shape:  # the user may know better
        where = whole | ((given.arterial_mask != 0) & (baseline > 0))
    delta_r2star = _delta_r2star(series, baseline, where, te)

    arterial_input_of = functools.partial(
        _arterial_input,
        whole=whole,
        timing=timing,
        frame_seconds=frame_seconds,
        echo_seconds=te,
        given=given,
        noise_floor=not of_ct,
    )

    def arterial_input() -> ArterialInput:
        alike = None
        if realignment is not None and given.arterial_mm is None:
            first_pass = slice(timing.baseline_end, 2 * timing.peak_frame - timing.baseline_end)
            alike = motion.sampled_alike(realignment, affine, first_pass)
        if alike is None:
            return arterial_input_of(delta_r2star, baseline)
        level = signal.baseline_signal(alike, timing)
        return _uncut(
            lambda: arterial_input_of(delta_r2star, baseline),
            lambda: arterial_input_of(_delta_r2star(alike, level, where, te), level),
        )

    def tissue_alone() -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """Its curves, how much blood passes (x, y, z), the strength of the mean curve, and where an infarct is."""
        curves = kinetics.concentration_of(delta_r2star[tissue])
        # Before the steady state the signal is brighter, which is no contrast agent.
        curves[:, : timing.non_steady_frames] = 0.0
        passes = np.zeros(tissue.shape, np.float32)
        passes[tissue], strength = passage.over_mean(
            curves, timing.baseline_begin, frame_seconds, _nuisance_regressors(realignment)
        )
        brightness = brain.relative_baseline(baseline, tissue, voxel_mm)
        return curves, passes, strength, brain.infarct(passes, brightness, tissue, voxel_mm)

    artery, (curves, passes, strength, infarct) = at_once(arterial_input, tissue_alone)
    arterial_mm = kinetics.concentration_of(artery.delta_r2star, kinetics.BLOOD_RELAXIVITY)
    arterial_mm[: timing.non_steady_frames] = 0.0
    infarcted = brain.around_infarct(infarct, voxel_mm)
    if find_tissue:
        # Fluid beside bone can look like tissue at rest. What tissue surrounds, or an infarct, is none.
        rim = brain.at_rim(tissue, voxel_mm) & (passes < DRY) & ~infarcted
        tissue, curves = tissue & ~rim, curves[~rim[tissue]]

    some = signal.curves_in(series, signal.some_of(tissue, NOISE_VOXELS))
    sigma, baseline_over_noise = _noise(some, baseline[tissue], timing)
    noise = np.float32(sigma / te / kinetics.TISSUE_RELAXIVITY / baseline[tissue])
    passing = passes[tissue]
    not_seen = infarcted[tissue] & ((passing < DRY) | (passing * strength < SEEN * noise))
    _tell_core(not_seen & infarct[tissue], found)
    return Measured(
        tissue=tissue,
        tissue_source="found" if find_tissue else "given",
        curves=curves,
        arterial_mm=arterial_mm,
        noise=noise,
        first_pass=passing,
        infarcted=infarcted[tissue],
        not_seen=not_seen,
        arterial=artery,
        timing=timing,
        realignment=realignment,
        voxel_mm=voxel_mm,
        frame_seconds=frame_seconds,
        baseline_over_noise=baseline_over_noise,
        relative=relative,
        findings=(*found.listed(), *artery.findings),
    )


# ------------------------------------------------------------------------------------------------- parts


def _realigned(
    series: np.ndarray,
    affine: np.ndarray,
    realign: str,
    found: Findings,
    realigned: Callable[[], motion.Realigned] | None,
) -> motion.Realignment | None:
    """The realigned series; None where none is wanted or possible. `found` receives how far the head moved."""
    if realign == "none":
        found.extend(motion.look_for_motion(series, affine))
        return None
    realignment, findings = realigned() if realigned else motion.realign_if_possible(series, affine)
    found.extend(findings)
    return realignment


def _tissue(
    series: np.ndarray, affine: np.ndarray, given: Given, realignment: motion.Realignment | None, found: Findings
) -> np.ndarray:
    """(x, y, z) bool, the given mask; found in the series where none is given, or where the series has changed."""
    moved = realignment is not None and realignment.moved
    if given.tissue is None or (given.tissue_was_found and moved):
        return brain.brain_mask(series, affine).tissue
    if not given.tissue_was_found:
        _check_given_tissue(series, given.tissue, found)
        if not given.tissue_of_maps:
            _tell_left_out(series, affine, given.tissue, found)
    return given.tissue


def _tell_left_out(series: np.ndarray, affine: np.ndarray, tissue: np.ndarray, found: Findings) -> None:
    """A given mask (x, y, z) without much of the brain that is found."""
    with contextlib.suppress(InputError):  # nothing to compare with, and nothing that is needed
        brain.tell_left_out(tissue, brain.brain_mask(series, affine).tissue, found, MOST_LEFT_OUT, "tissue")


def _check_given_tissue(series: np.ndarray, tissue: np.ndarray, found: Findings) -> None:
    """A mask of another exam reaches into the air: a warning, or a refusal where most of it is dark.

    Raises:
      InputError: most of the mask is dark.
    """
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


def _arterial_input(
    delta_r2star: np.ndarray,
    baseline: np.ndarray,
    *,
    whole: np.ndarray,
    timing: BolusTiming,
    frame_seconds: float,
    echo_seconds: float,
    given: Given,
    noise_floor: bool,
) -> ArterialInput:
    """The AIF that the user gives, or the one that is found; other arguments as in `arterial`."""
    if given.arterial_mm is not None:
        n_frames = delta_r2star.shape[-1]
        return arterial.arterial_input_from_curve(given.arterial_seconds, given.arterial_mm, n_frames, frame_seconds)
    if given.arterial_mask is not None:
        return arterial.arterial_input_from_mask(
            delta_r2star, given.arterial_mask, whole, timing, frame_seconds, echo_seconds, noise_floor
        )
    return arterial.find_arterial_input(delta_r2star, whole, baseline, timing, frame_seconds, echo_seconds, noise_floor)


def _delta_r2star(series: np.ndarray, baseline: np.ndarray, where: np.ndarray, echo_seconds: float) -> np.ndarray:
    """(x, y, z, time) float32, 1/s, of some voxels (x, y, z) bool, 0 elsewhere."""
    delta_r2star = np.zeros(series.shape, np.float32)
    curves = np.float32(signal.curves_in(series, where))
    delta_r2star[where] = signal.delta_r2star(curves, np.float32(baseline[where]), echo_seconds)
    return delta_r2star


def _uncut(as_they_are: Callable[[], ArterialInput], alike: Callable[[], ArterialInput]) -> ArterialInput:
    """The AIF of the frames as they are, or that of frames blurred alike where the head's movement has cut it short.

    Blurred alike it is lower, which says nothing of the artery: it is given the height that it has in the frames as
    they are.

    Raises:
      NoArterialInputError: neither has one; of the frames as they are.
    """
    try:
        artery = as_they_are()
    except NoArterialInputError:
        try:
            return _with_note(alike(), "no AIF was found in the realigned frames")
        except NoArterialInputError:
            pass
        raise
    try:
        blurred = alike()
    except NoArterialInputError:
        return artery
    if not artery.width_seconds < CUT_SHORT * blurred.width_seconds:
        return artery
    height = max(artery.peak_delta_r2star / blurred.peak_delta_r2star, 1.0)
    uncut = dataclasses.replace(
        blurred,
        delta_r2star=np.float32(height * blurred.delta_r2star),
        peak_delta_r2star=height * blurred.peak_delta_r2star,
    )
    return _with_note(uncut, f"that had cut the AIF to a width of {artery.width_seconds:.1f} s")


def _with_note(artery: ArterialInput, harm: str) -> ArterialInput:
    """An AIF of frames blurred alike, with a note that says so."""
    text = (
        f"the head moved while the bolus passed, and {harm}: it was looked for in frames that are blurred alike, where "
        f"it is {artery.width_seconds:.1f} s wide; CBF and CBV are sure only with a reference"
    )
    note = Finding("arterial_moved", "note", text, round(artery.width_seconds, 1), "--aif=FILE")
    return dataclasses.replace(artery, findings=(*artery.findings, note))


def _tell_core(core: np.ndarray, found: Findings) -> None:
    """A warning where a share of the tissue, (voxel,) bool, has no first pass."""
    share = float(core.mean())
    if share > CORE_SHARE:
        found.warning(
            "no_first_pass",
            f"{100 * share:.1f} % of the tissue shows no first pass, as the core of an infarct: its Tmax and TTP are "
            "those of the nearest tissue with some flow, its MTT is not known",
            round(share, 4),
            "--mask=FILE",
        )


def _noise(series: np.ndarray, baseline: np.ndarray, timing: BolusTiming) -> tuple[float, float]:
    """Noise of the signal (voxel, time), from differences of neighbouring frames, and the median baseline over it."""
    changes = np.diff(
        np.float32(series[:, timing.baseline_begin :]), 2, axis=1
    )  # neither drift nor the flanks of the first pass are noise
    sigma = signal.robust_sd(changes, 0.0) / np.sqrt(6.0)
    sigma = max(float(sigma), MIN_NOISE * float(np.median(baseline)))
    return sigma, float(np.median(baseline)) / sigma


def _nuisance_regressors(realignment: motion.Realignment | None) -> np.ndarray | None:
    """(time, regressor), None where nothing moved."""
    return realignment.nuisance_regressors() if realignment is not None and realignment.moved else None
