"""CT perfusion -> a series that falls as DSC-MRI does, so that every later step works on it unchanged.

Contrast agent raises attenuation (Hounsfield units, HU) in proportion to its concentration (Konstas et al. 2009, AJNR
30:662), as it raises delta R2*. A voxel of attenuation HU, with HU0 before the bolus, becomes

    S = S0 exp(-k (HU - HU0)),    S0 = S1 exp(-c (HU0 - 35))

so that -ln(S/S0) = k (HU - HU0) gives back the enhancement. S0 is as bright as in a T2*-weighted image, where fluid is
brighter than tissue; skull, scalp and air are left out, so that what looks for the brain finds it stripped. Neither k
nor c enters a map: concentrations have no unit, as without an echo time.
"""

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import brain, morphology, signal

PER_HU = 0.01  # k: a brain that rises by 4 to 8 HU falls by 4 to 8 %, and an artery of 300 HU to 5 %
TISSUE_HU = 35.0  # white matter 25-32, grey 35-40
TISSUE_SIGNAL = 1000.0  # S1
FLUID_PER_HU = 0.02  # c: fluid of 5 HU is 1.8 times as bright as tissue
# Of the mean image, whose noise is that of one frame over the root of their number.
SOFT_HU = (-20.0, 120.0)  # brain, fluid and most vessels; not air, fat (-100), bone or calcium
MASKED_HU = (-60.0, 500.0)  # within the brain: between fat and bone, as vessels full of contrast agent are brighter
USUAL_HU = (10.0, 80.0)  # median of a brain, contrast agent and fluid in it
AIR_HU = -500.0
STRIPPED = 0.1  # share of exact zeros
WRONG = (
    "the values are no attenuation of a head in HU (air -1000 or cut off, brain 20 to 60, bone above 300)",
    "the mean signal falls, as on DSC-MRI, and CT rises",
)
FLAG_MR, FLAG_CT = "--config.data.modality=mr", "--config.data.modality=ct"


def falling(series: np.ndarray, affine: np.ndarray, found: Findings) -> np.ndarray:
    """The equivalent falling series of a CT series.

    Args:
      series: (x, y, z, time), float32, HU, slices along z; NaN where a value is missing.
      affine: (4, 4) voxel index -> millimetres.
      found: receives a note, or the error that this is no CT series.

    Returns:
      (x, y, z, time), float32, scanner-like units; 0 outside the brain. The given array where the error was found.
    """
    voxel_mm = voxel_sizes(np.asarray(affine, np.float64))
    mean = _mean(series)
    inside = brain_on_ct(mean, voxel_mm)
    if not _is_attenuation(mean, inside):
        found.error("modality", WRONG[0], None, FLAG_MR)
        return series
    curves = series[inside]
    timing = _bolus(curves, PER_HU)
    if timing is None:
        if _bolus(curves, -PER_HU) is not None:
            found.error("modality", WRONG[1], None, FLAG_MR)
            return series
        baseline = _mean(curves)  # whoever looks for the bolus says why there is none
    else:
        baseline = _mean(curves[:, timing.baseline_begin : timing.baseline_end])
    bright = TISSUE_SIGNAL * np.exp(-FLUID_PER_HU * (np.clip(baseline, *MASKED_HU) - TISSUE_HU))
    converted = np.zeros(series.shape, np.float32)
    converted[inside] = bright[:, None] * np.exp(-PER_HU * (curves - baseline[:, None]))
    found.note(
        "modality",
        "CT: the enhancement was turned into a series that falls; CBF and CBV have no unit but that of a reference",
        "ct",
    )
    return converted


def brain_on_ct(mean: np.ndarray, voxel_mm: np.ndarray) -> np.ndarray:
    """Soft tissue inside the skull, with fluid and vessels, of a mean image (x, y, z) in HU: (x, y, z) bool.

    What is neither air nor bone is opened, which cuts scalp, muscles and orbits off, and the largest part of it is the
    brain; holes of each slice, such as large vessels, are filled. Exactly 0 is what somebody stripped.
    """
    soft = (mean > SOFT_HU[0]) & (mean < SOFT_HU[1]) & (mean != 0)
    core = morphology.filled(morphology.largest(morphology.opened(soft, brain.SCALP_MM, voxel_mm)))
    return core & (mean > MASKED_HU[0]) & (mean < MASKED_HU[1]) & (mean != 0)


def _is_attenuation(mean: np.ndarray, inside: np.ndarray) -> bool:
    """Whether a mean image (x, y, z) is in HU: its brain is, and around it is air, or nothing where it was cut off."""
    around = np.percentile(mean, 1) < AIR_HU or (mean == 0).mean() > STRIPPED
    return bool(around and inside.any() and USUAL_HU[0] < np.median(mean[inside]) < USUAL_HU[1])


def refuse_ct(series: np.ndarray, found: Findings) -> None:
    """An error where a series (x, y, z, time) that was given as MRI rises as CT does."""
    step = max(1, min(series.shape[:2]) // 32)
    some = np.nan_to_num(series[::step, ::step])
    mean = some.mean(axis=-1, dtype=np.float64)
    air = np.percentile(mean, 1) < AIR_HU
    lit = (mean > SOFT_HU[0]) & (mean < SOFT_HU[1]) if air else mean >= 0.25 * np.percentile(mean, 99)
    if not lit.any() or not _rises(signal.mean_curve(some, lit)):
        return
    text = "the mean signal rises instead of falling, as on CT (or DCE-MRI)" + (
        ", and air is below -500" if air else ""
    )
    found.error("modality", text, None, FLAG_CT)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, of what is finite; 0 where nothing is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=-1, dtype=np.float64)
    return total / np.maximum(finite.sum(axis=-1), 1)


def _rises(curve: np.ndarray) -> bool:
    """Whether a mean curve (time,) has a first pass that goes up, and none that goes down."""
    if _has_bolus(curve):
        return False
    return _has_bolus(np.maximum(2 * np.median(curve[: signal.MIN_FRAMES // 2]) - curve, 0.0))


def _has_bolus(curve: np.ndarray) -> bool:
    try:
        signal.find_bolus(curve)
    except signal.NoBolusError:
        return False
    return True


def _bolus(curves: np.ndarray, per_hu: float) -> signal.BolusTiming | None:
    """Timing of the mean of (voxel, time) HU; None where it has no bolus."""
    mean = _mean(curves.T)
    try:
        return signal.find_bolus(TISSUE_SIGNAL * np.exp(-per_hu * (mean - np.median(mean))))
    except signal.NoBolusError:
        return None
