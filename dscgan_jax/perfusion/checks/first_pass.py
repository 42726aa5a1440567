"""Checks of a series by its first pass: whether the frame length fits, whether the exam shows the whole pass.

Words: a *course* is a number for each frame; the *first pass* lasts from half of the mean ΔR2* peak to half of it
again.
"""

import dataclasses

import numpy as np

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import signal
from dscgan_jax.perfusion.checks.dip import crossing
from dscgan_jax.perfusion.signal import BolusTiming

# Full width at half maximum of the mean ΔR2* of tissue, s: 8.3 to 12.2 in 140 phantom exams. Arterial curves of 77
# patients (CT) are 7.3 to 25.1 s wide, and tissue is a few seconds wider.
IMPOSSIBLE_WIDTH = (3.5, 45.0)
# As agent is injected for MR, and for CT. Chosen on phantoms: of 46 `varied` exams two are wider than 18.5 s, and of 11
# whose frame length was doubled all; of 132 others one is narrower than 6.8 s. A slow injection or a weak heart can be
# wider.
USUAL_WIDTH, USUAL_WIDTH_CT = (6.7, 20.0), (6.0, 32.0)
REFUTING_WIDTH = (6.0, 32.0)  # outside, a frame length that is only filled in is refuted
TOO_SHORT_SECONDS = 30.0  # after the peak: tissue that is 14 s late has had its own peak, and hardly any of its fall
LONG_SECONDS = 60.0  # after the peak: what is still high then has moved or drifted
TRUNCATED_SECONDS = 15.0  # after the peak: where the mean has not fallen to half, the exam ends within the first pass
HALF = 0.5  # of the way from where most curves end to its own peak: a voxel that ends higher was not seen to its end
MAX_UNFINISHED = 0.05  # of the voxels with a peak that stands out
MOST_TAIL = 0.5  # of the peak: agent that recirculates leaves no higher one; most curves end higher where they are cut
# At 4, a frame or three of noise kept 6 to 8 % of whole exams above half of their peak (40 drawn exams), which counted
# as unfinished then.
MIN_PEAK_OVER_NOISE = 8.0
MOST_VOXELS = 20_000


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """The mean first pass of an exam.

    Attributes:
      width_seconds: full width at half maximum of the mean ΔR2*; NaN where the exam does not show it.
      seconds_after_peak: from the lowest mean signal to the last frame.
      unfinished: share of voxels that have not come half of the way back at the end, less those that a movement or
        drift explains.
    """

    width_seconds: float
    seconds_after_peak: float
    unfinished: float


def first_pass(curves: np.ndarray, timing: BolusTiming, frame_seconds: float) -> FirstPass:
    """Measures the first pass.

    Args:
      curves: (voxel, time) signal of the brain, scanner units, finite.
      timing: baseline and bolus of their mean.
      frame_seconds: frame length.
    """
    some = np.float32(curves[:: max(1, len(curves) // MOST_VOXELS)])
    some = some[some[:, timing.baseline_begin : timing.baseline_end].mean(axis=1) > 0]
    delta_r2star = signal.delta_r2star(some, signal.baseline_signal(some, timing), 1.0)
    mean = delta_r2star.mean(axis=0, dtype=np.float64)
    share = mean / max(float(mean[timing.peak_frame]), 1e-9)
    edges = [crossing(share, timing.peak_frame, HALF, step) for step in (-1, 1)]
    seen = edges[0] > 0 and edges[1] < len(mean) - 1
    return FirstPass(
        (edges[1] - edges[0]) * frame_seconds if seen else float("nan"),
        (len(mean) - 1 - timing.peak_frame) * frame_seconds,
        _unfinished(delta_r2star, timing),
    )


def _unfinished(delta_r2star: np.ndarray, timing: BolusTiming) -> float:
    """Share of the voxels (voxel, time) with a visible first pass that have not come half of the way back.

    The way leads from their own peak to where most curves end, over it: agent recirculates, and in some people leaves a
    high tail. As many as end that far below it are taken off: a movement, or drift, raises as many as it lowers.
    The last three frames count.
    """
    smooth = (delta_r2star[:, :-2] + delta_r2star[:, 1:-1] + delta_r2star[:, 2:]) / 3
    noise = signal.robust_sd(np.diff(delta_r2star, 2, axis=1), 0.0) / np.sqrt(6 * 3)
    peak = smooth[:, max(timing.baseline_end - 1, 0) :].max(axis=1)
    visible = peak > MIN_PEAK_OVER_NOISE * noise
    if not visible.any():
        return 0.0
    ends = smooth[visible, -1] / peak[visible]
    most = float(np.clip(np.median(ends), 0.0, MOST_TAIL))
    far = HALF * (1.0 - most)
    return max(float((ends > most + far).mean() - (ends < most - far).mean()), 0.0)


def check_first_pass(
    found_pass: FirstPass,
    frame_seconds: float,
    found: Findings,
    *,
    unsure_length: bool = False,
    usual: tuple[float, float] = USUAL_WIDTH,
) -> None:
    """Finds what is impossible or unusual in a first pass.

    Args:
      found_pass: of the exam.
      frame_seconds: frame length that it was measured with.
      found: receives errors and warnings.
      unsure_length: the frame length is one that writers fill in; an unusually short first pass then refutes it.
      usual: seconds that a first pass lasts, as agent is injected for this kind of exam.
    """
    width = found_pass.width_seconds
    if np.isfinite(width):
        _check_width(width, frame_seconds, found, unsure_length, usual)
    after = found_pass.seconds_after_peak
    if not np.isfinite(width) and after < TRUNCATED_SECONDS:
        found.error(
            "truncated",
            f"the exam ends {after:.0f} s after the bolus is strongest, within the first pass: delayed tissue is not "
            "seen, so times and volumes would be wrong",
            round(after, 1),
        )
    elif after < TOO_SHORT_SECONDS or (after < LONG_SECONDS and found_pass.unfinished > MAX_UNFINISHED):
        found.warning(
            "truncated",
            f"the exam ends {after:.0f} s after the bolus is strongest, when {100 * found_pass.unfinished:.0f} % of "
            "the brain has not come half of the way back: delayed tissue may not be seen to its end",
            round(after, 1),
        )


def _check_width(
    width: float, frame_seconds: float, found: Findings, unsure_length: bool, usual: tuple[float, float]
) -> None:
    """Of the first pass, s."""
    text = f"with frames of {frame_seconds:g} s the first pass lasts {width:.1f} s"
    low, high = usual
    if unsure_length and not REFUTING_WIDTH[0] <= width <= REFUTING_WIDTH[1]:
        found.error(
            "frame_length",
            f"{text}, which is too {'short' if width < REFUTING_WIDTH[0] else 'long'}: the frame length in the "
            "header is only filled in",
            round(frame_seconds, 4),
            "--tr=SECONDS",
        )
    elif not IMPOSSIBLE_WIDTH[0] <= width <= IMPOSSIBLE_WIDTH[1]:
        found.error(
            "first_pass_width",
            f"{text}, which no bolus does: the frame length is wrong",
            round(width, 2),
            "--tr=SECONDS",
        )
    elif not low <= width <= high:
        found.warning(
            "first_pass_width",
            f"{text}, which is unusual: check the frame length, or the injection was slow",
            round(width, 2),
            "--tr=SECONDS",
        )
