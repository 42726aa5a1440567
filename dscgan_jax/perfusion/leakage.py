"""Contrast agent that leaks out of vessels: which tissue leaks, how much, and curves without the leaked agent.

Where the blood-brain barrier is open, as in many tumours, agent gathers between the cells. It shortens T1, which makes
the signal brighter, and T2*, which makes it darker; the curve of a voxel is then no longer that of its blood. After
Boxerman, Schmainda and Weisskoff (AJNR 2006;27:859) it is

  C(t) = K1 m(t) - K2 ∫ m(tau) dtau,

m being the mean curve of the tissue that does not leak. K1 is the voxel's blood volume over the mean one; K2, in 1/s,
is above 0 where T1 dominates and below where T2* does. In the bidirectional form (Leu et al., AJNR 2016;37:777) agent
returns into the blood at the rate kep: the integral is weighted with exp(-kep (t - tau)); kep = 0 is the first form.

Both take it that blood comes and goes everywhere as it does in the mean: what is late or slow would look like T2*
leakage. Therefore m comes as late as the voxel's blood does (arrival-time correction; Leigh et al., PLoS ONE
2012;7:e52656), and in the first term it may be slower than the mean, convolved with an exponential transit (transit
times must not decide K2: Bjornerud et al., J Cereb Blood Flow Metab 2011;31:2041).

What is corrected are the curves, by + K2 ∫ m, before any method inverts them. Their area, the blood volume, changes by
K2 ∬ m, which is the correction of both papers; blood flow, transit times and Tmax come from the same curves.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dscgan_jax.findings import Finding, Findings
from dscgan_jax.perfusion import morphology, signal
from dscgan_jax.perfusion.measurement import Measured

NONE, UNIDIRECTIONAL, BIDIRECTIONAL = MODELS = ("none", "bsw", "bidirectional")
ARRIVALS = np.arange(-3.0, 8.1, 0.5)  # s, of a voxel's blood after the mean curve; behind an occlusion it is late
TRANSITS = (0.0, 1.0, 2.0, 3.0, 5.0)  # s, by which a voxel's blood is slower than the mean; tumours have 1 to 4 s
# 1/s. Gliomas have 0.2 to 1 per minute; a mean Ktrans of 0.1 1/min over a ve of 0.29 lies between (Skinner et al., AJNR
# 2016;37:80). Neighbouring values differ in the curve by less than noise.
REFLUX_RATES = (0.0, *np.geomspace(0.001, 0.03, 9).tolist())
LEAKING_SD = 4.0  # K2 farther from the brain's middle, in robust standard deviations, is no part of the mean curve
MEAN_VOXELS = 10_000  # show the mean curve of all
ROUNDS = 4  # of finding the mean curve and the tissue that leaks, each from the other
# Tissue of which it is sure that it leaks.
LATE_FRAMES = 10  # the last ones show what has leaked (Boxerman et al. 2006)
STILL_THERE = 0.15  # of the peak, and more: twice what circulates by then in tissue that does not leak
PROMPT_SECONDS = 1.5  # blood that comes later is behind an occlusion, where agent is still there for another reason
EXPLAINED = 1.3  # of the noise, where the head moved: a step that is left of it stays, but is not of leakage's form
SPECK_MM = 3.0  # radius of the smallest disc in a slice that counts
LEAKING_ML = 1.0  # one connected piece; the largest of 59 phantom exams without leakage has 0.35 mL
PEAK_PERCENT = 97.0  # of a curve: the highest frames without their noise
MM3_PER_ML = 1000.0
_FINE = 10  # points per frame at which the mean curve is convolved
_CHUNK = 1024  # voxels at a time: the work arrays stay in the processor's cache


class Leakage(NamedTuple):
    """How the voxels of an exam leak.

    Attributes:
      k1: (voxel,) blood volume over that of the mean curve.
      k2: (voxel,) 1/s, above 0 where T1 dominates.
      kep: (voxel,) 1/s, 0 in the unidirectional form.
      arrival_seconds: (voxel,) of the blood, after the mean curve.
      integrals: (tried, time) -∫ m for every arrival and rate that was tried, mM s.
      chosen: (voxel,) which of them.
      motion: (voxel, course) how far each follows the courses of the head's motion, mM.
      courses: (time, course) of it; none where nothing moved.
      unexplained: (voxel,) root mean square of what the fit leaves of a curve, mM.
      stands_out: (voxel,) bool, K2 is far from that of most tissue: not part of the mean curve.
    """

    k1: np.ndarray
    k2: np.ndarray
    kep: np.ndarray
    arrival_seconds: np.ndarray
    integrals: np.ndarray
    chosen: np.ndarray
    motion: np.ndarray
    courses: np.ndarray
    unexplained: np.ndarray
    stands_out: np.ndarray

    def removed_from(self, measured: Measured) -> Measured:
        """The exam as if no agent had leaked, and without what follows the motion, which the fit tells from it."""
        curves = measured.curves - self.motion @ self.courses.T
        curves -= self.k2[:, None] * self.integrals[self.chosen]
        return dataclasses.replace(measured, curves=curves)

    def tissue(self, measured: Measured) -> np.ndarray:
        """(x, y, z) bool, where it is sure that tissue leaks; nowhere if no piece is as large as `LEAKING_ML`.

        The blood came in time, and the curve falls below it, which a change of T1 explains, or stays well above the
        baseline; where the head moved, the fit has to explain the curve.
        """
        late = measured.curves[:, -LATE_FRAMES:].mean(axis=1) - self.motion @ self.courses[-LATE_FRAMES:].mean(axis=0)
        sure = self.stands_out & (np.abs(self.arrival_seconds) <= PROMPT_SECONDS)
        darker = sure & (self.k2 <= 0)
        peak = np.percentile(measured.curves[darker] - self.motion[darker] @ self.courses.T, PEAK_PERCENT, axis=1)
        sure[darker] = late[darker] > STILL_THERE * peak
        if self.courses.size:
            sure &= self.unexplained < EXPLAINED * measured.noise
        leaks = np.zeros(measured.tissue.shape, bool)
        leaks[measured.tissue] = sure
        labels, count = ndimage.label(morphology.opened(leaks, SPECK_MM, measured.voxel_mm))
        sizes = np.bincount(labels.ravel(), minlength=count + 1) * np.prod(measured.voxel_mm) / MM3_PER_ML
        sizes[0] = 0.0
        return (sizes >= LEAKING_ML)[labels]


class Corrected(NamedTuple):
    """An exam whose leakage was looked for, and corrected where that was asked for.

    Attributes:
      measured: to be inverted; the very one that was given where no correction was asked for, or nothing leaks.
      applied: whether it was corrected.
      maps: k1 and k2, (voxel,) each, of the fit; empty where no correction was asked for.
      leaking: (x, y, z) bool, where it is sure that tissue leaks.
      findings: what a user should know.
    """

    measured: Measured
    applied: bool
    maps: dict[str, np.ndarray]
    leaking: np.ndarray
    findings: tuple[Finding, ...]


def corrected(measured: Measured, model: str) -> Corrected:
    """Looks for leakage, and takes it out of the curves if `model` is not `none` and some tissue leaks.

    Where none does, K2 is what noise and late blood make of it: to correct it would only change the maps.
    """
    leakage, found = fit(measured, UNIDIRECTIONAL if model == NONE else model), Findings()
    leaking = leakage.tissue(measured)
    volume = float(leaking.sum() * np.prod(measured.voxel_mm) / MM3_PER_ML)
    if model == NONE:
        if volume > 0:
            found.warning(
                "leakage",
                f"{volume:.0f} mL of the tissue leak contrast agent (the signal rises above that of its blood, or "
                "stays far below the baseline): CBV, CBF and MTT are wrong there",
                round(volume, 1),
                f"--leakage={BIDIRECTIONAL}",
            )
        return Corrected(measured, False, {}, leaking, found.listed())
    maps = {"k1": leakage.k1, "k2": leakage.k2}
    if volume == 0:
        found.note(
            "leakage_absent",
            f"no tissue leaks contrast agent: the curves stay as they are in spite of --leakage={model}, and K1 and K2 "
            "are those of the fit",
            None,
            f"--leakage={NONE}",
        )
        return Corrected(measured, False, maps, leaking, found.listed())
    return Corrected(leakage.removed_from(measured), True, maps, leaking, found.listed())


def fit(measured: Measured, model: str) -> Leakage:
    """K1, K2 and the leaked agent of each voxel.

    Tissue that leaks is no part of the mean curve. The papers leave out voxels whose last frames are brighter than the
    baseline by a standard deviation, which finds T1 effects alone; here those stand out whose K2, of either sign, is
    far from the brain's middle in units of its scatter.

    Args:
      measured: of the exam.
      model: `bsw` or `bidirectional`.
    """
    some = measured.curves[:: max(len(measured.curves) // MEAN_VOXELS, 1)]
    leaks = np.zeros(len(some), bool)
    for _ in range(ROUNDS):
        mean = some[~leaks].mean(axis=0, dtype=np.float64)
        before, leaks = leaks, _stands_out(_fitted(some, measured, mean, (0.0,)).k2)
        if np.array_equal(before, leaks) or leaks.all():
            break
    found = _fitted(measured.curves, measured, mean, (0.0,))
    stands_out = _stands_out(found.k2)
    if model == BIDIRECTIONAL:
        found = _fitted(measured.curves, measured, mean, REFLUX_RATES)
    return found._replace(stands_out=stands_out)


def _stands_out(k2: np.ndarray) -> np.ndarray:
    """(voxel,) bool."""
    middle = float(np.median(k2))
    return np.abs(k2 - middle) > LEAKING_SD * signal.robust_sd(k2, middle)


def _fitted(curves: np.ndarray, measured: Measured, mean: np.ndarray, rates: tuple[float, ...]) -> Leakage:
    """Least squares over all frames in the steady state, at the best of all arrivals, transits and rates.

    Args:
      curves: (voxel, time), all or some of the exam's, mM.
      measured: of the exam.
      mean: (time,) curve of tissue that does not leak, mM.
      rates: kep that are tried, 1/s.
    """
    first = measured.timing.baseline_begin
    tried = np.array(list(itertools.product(ARRIVALS, TRANSITS, rates)))
    terms = np.stack([_terms(mean, measured, *one) for one in tried])  # (tried, time, 2)
    courses = _courses_of_motion(measured)
    free = np.eye(len(mean) - first) - courses[first:] @ courses[first:].T
    orthogonal, upper = np.linalg.qr(free @ terms[:, first:])
    flat = np.float32(np.concatenate(orthogonal.transpose(2, 0, 1)).T)  # (time, term and tried)
    terms = terms.astype(np.float32)
    chosen, factors = np.empty(len(curves), np.int64), np.empty((len(curves), 2), np.float32)
    motion, unexplained = np.empty((len(curves), courses.shape[1]), np.float32), np.empty(len(curves), np.float32)
    for begin in range(0, len(curves), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        along = (curves[rows, first:] @ flat).reshape(-1, 2, len(tried))
        best = (along**2).sum(axis=1).argmax(axis=1)  # least squares: most of the curve is explained
        along = np.take_along_axis(along, best[:, None, None], axis=2)
        fitted = np.linalg.solve(upper[best], along)  # (voxel, term, 1)
        left = curves[rows] - (terms[best] @ fitted)[..., 0]
        motion[rows] = left @ courses
        left = left[:, first:] - motion[rows] @ courses[first:].T
        unexplained[rows] = np.sqrt((left**2).mean(axis=1))
        chosen[rows], factors[rows] = best, fitted[..., 0]
    return Leakage(
        k1=factors[:, 0],
        k2=factors[:, 1],
        kep=np.float32(tried[chosen, 2]),
        arrival_seconds=np.float32(tried[chosen, 0]),
        integrals=terms[..., 1],
        chosen=chosen,
        motion=motion,
        courses=np.float32(courses),
        unexplained=unexplained,
        stands_out=np.zeros(len(curves), bool),
    )


def _terms(mean: np.ndarray, measured: Measured, arrival: float, transit: float, rate: float) -> np.ndarray:
    """(time, 2): the first pass as K1 wants it, and minus the weighted integral that K2 wants.

    Args:
      mean: (time,) curve of tissue that does not leak, mM.
      measured: of the exam.
      arrival, transit: how much later and slower than the mean blood passes, s.
      rate: kep, 1/s.
    """
    frames = np.arange(len(mean))
    fine = np.arange(0.0, len(mean) - 1 + 0.5 / _FINE, 1.0 / _FINE)
    step = measured.frame_seconds / _FINE
    later = np.interp(fine - arrival / measured.frame_seconds, frames, mean)
    bolus = np.where(fine < measured.timing.baseline_end, 0.0, later)  # before it there is noise alone
    passing = _decaying(later - later[0], 1.0 / transit, step) / transit + later[0] if transit else later
    return np.stack([passing, -_decaying(bolus, rate, step)], axis=1)[::_FINE]


def _decaying(values: np.ndarray, rate: float, step: float) -> np.ndarray:
    """∫ values(tau) exp(-rate (t - tau)) dtau, (time,), by the trapezoidal rule; `step` in s."""
    kept = float(np.exp(-rate * step))
    added = 0.5 * step * (values[1:] + kept * values[:-1])
    return np.array([0.0, *itertools.accumulate(added.tolist(), lambda integral, more: kept * integral + more)])


def _courses_of_motion(measured: Measured) -> np.ndarray:
    """(time, course) orthonormal courses that are left of the head's motion; none where nothing moved."""
    regressors = measured.nuisance_regressors()
    if regressors is None:
        return np.zeros((measured.curves.shape[1], 0))
    first = measured.timing.baseline_begin
    left, strength, _ = np.linalg.svd(regressors[first:], full_matrices=False)
    courses = np.zeros((len(regressors), int((strength > 1e-6 * strength[0]).sum())))
    courses[first:] = left[:, : courses.shape[1]]
    return courses
