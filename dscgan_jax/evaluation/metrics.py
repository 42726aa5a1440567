"""How far a predicted map lies from the reference, under two protocols, and the validation error of training.

Words:
- *Scaled* (paper) protocol: on the network grid, in [-1, 1], whole slices, background included; one number per slice,
  then the mean over a subject's slices. Definitions are those of scikit-image.
- *Brain* (physical) protocol: on the exam's own grid, inside the mask, in the map's unit; errors are summed over the
  voxels of an exam and divided once.
- *Undefined* is `None`, never NaN: the r of a constant map, the PSNR of identical slices, the Dice of two empty masks.
  Whoever averages leaves undefined values out and says how many there were.

Records are float64 NumPy; `abs_error_and_count` alone runs on the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from dscgan_jax.maps import MAPS

SCALED_RANGE = 2.0  # [-1, 1]
SSIM_WINDOW = 7  # pixels, uniform
SSIM_K1, SSIM_K2 = 0.01, 0.03  # Wang et al. 2004

SCALED_METRICS = ("mae", "mse", "nrmse", "ssim", "psnr")

Number = float | None


def abs_error_and_count(predicted: jax.Array, measured: jax.Array, brain: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of |predicted - measured| in the brain, and its pixels, per slice; add up both, divide once.

    Args:
      predicted, measured: (slice, row, col), one unit for both.
      brain: (slice, row, col), true inside the mask; what lies outside may be NaN.

    Returns:
      (slice,) sums and (slice,) counts, float32 both; an empty slice weighs nothing.
    """
    error = jnp.where(brain, jnp.abs(predicted - measured), 0.0)
    return error.sum((1, 2)), brain.astype(jnp.float32).sum((1, 2))


def ssim_map(measured: np.ndarray, predicted: np.ndarray, data_range: float) -> np.ndarray:
    """Structural similarity of every pixel with its 7 x 7 neighbourhood, slice by slice.

    Uniform window, sample covariance, K1 0.01, K2 0.03: `skimage.metrics.structural_similarity` with its defaults. The
    image is reflected at its border, so the outer three pixels are less trustworthy; the slice mean leaves them out.

    Args:
      measured, predicted: (slice, row, col).
      data_range: difference of the largest and smallest possible value.

    Returns:
      (slice, row, col), at most 1.

    Raises:
      ValueError: the slices differ in shape or are smaller than the window.
    """
    measured, predicted = _as_pair(measured, predicted)
    if min(measured.shape[1:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {measured.shape[1:]}.")

    def local_mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, size=(1, SSIM_WINDOW, SSIM_WINDOW))

    n_window = SSIM_WINDOW**2
    sample = n_window / (n_window - 1)
    mean_m, mean_p = local_mean(measured), local_mean(predicted)
    variance_m = sample * (local_mean(measured * measured) - mean_m * mean_m)
    variance_p = sample * (local_mean(predicted * predicted) - mean_p * mean_p)
    covariance = sample * (local_mean(measured * predicted) - mean_m * mean_p)
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    likeness = (2 * mean_m * mean_p + c1) * (2 * covariance + c2)
    return likeness / ((mean_m**2 + mean_p**2 + c1) * (variance_m + variance_p + c2))


def scaled_slices(predicted: np.ndarray, measured: np.ndarray) -> dict[str, np.ndarray]:
    """The paper's five metrics of every slice.

    Args:
      predicted, measured: (slice, row, col) in [-1, 1].

    Returns:
      {metric of `SCALED_METRICS`: (slice,) float64}. `psnr` is infinite for identical slices, `nrmse` NaN for a
      measured slice that is 0 everywhere.
    """
    measured, predicted = _as_pair(measured, predicted)
    difference = predicted - measured
    mse = (difference**2).mean(axis=(1, 2))
    edge = SSIM_WINDOW // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        nrmse = np.sqrt(mse) / np.sqrt((measured**2).mean(axis=(1, 2)))  # Euclidean norm
        psnr = 10 * np.log10(SCALED_RANGE**2 / mse)
    similarity = ssim_map(measured, predicted, SCALED_RANGE)[:, edge:-edge, edge:-edge].mean(axis=(1, 2))
    return {"mae": np.abs(difference).mean(axis=(1, 2)), "mse": mse, "nrmse": nrmse, "ssim": similarity, "psnr": psnr}


def scaled_record(predicted: np.ndarray, measured: np.ndarray) -> dict[str, Number]:
    """One subject under the paper's protocol: the mean over its slices, of those where the metric is finite."""
    return {name: mean_of_finite(values) for name, values in scaled_slices(predicted, measured).items()}


def brain_record(
    predicted: np.ndarray, measured: np.ndarray, brain: np.ndarray, data_range: float
) -> dict[str, Number]:
    """One subject inside the brain, in the map's unit.

    Args:
      predicted, measured: (x, y, z), exam grid; z runs over slices.
      brain: (x, y, z) bool. What lies outside is never read.
      data_range: of the brain SSIM, in the map's unit. We give it the width of the map's usual values, so that the
        number does not depend on the data a network was trained on.

    Returns:
      `mae`, `rmse`, `bias`, `pearson_r`, `ssim`, `scale` and `mae_after_scale`. `bias` is the mean of predicted -
      measured. `ssim` is the mean of the SSIM map over the mask's voxels, both maps being 0 outside the mask. `scale`
      is the one factor that fits the prediction to the measurement best (least squares through the origin),
      `mae_after_scale` the error that it leaves.

    Raises:
      ValueError: the mask is empty, or a value inside it is not finite.
    """
    inside_p, inside_m = (np.asarray(values, np.float64)[brain] for values in (predicted, measured))
    if not inside_m.size:
        raise ValueError("the brain mask is empty")
    for name, values in (("predicted", inside_p), ("reference", inside_m)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{bad} {name} values inside the brain mask are not finite")
    error = inside_p - inside_m
    power = float(inside_p @ inside_p)
    scale = float(inside_p @ inside_m) / power if power > 0 else None
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "pearson_r": pearson_r(inside_p, inside_m),
        "ssim": _brain_ssim(predicted, measured, brain, data_range),
        "scale": scale,
        "mae_after_scale": float(np.abs(scale * inside_p - inside_m).mean()) if scale is not None else None,
    }


def overlap_record(
    predicted: np.ndarray, measured: np.ndarray, brain: np.ndarray, threshold: float, voxel_ml: float
) -> dict[str, Number]:
    """Agreement of the tissue above a threshold, inside the brain.

    Args:
      predicted, measured: (x, y, z) in the threshold's unit.
      brain: (x, y, z) bool.
      threshold: tissue counts where the value is larger, e.g. Tmax > 6 s.
      voxel_ml: volume of a voxel in ml.

    Returns:
      `dice` (undefined where both are empty), `volume_predicted_ml`, `volume_reference_ml`.
    """
    over_p, over_m = ((np.asarray(values)[brain] > threshold) for values in (predicted, measured))
    n_predicted, n_measured, n_both = int(over_p.sum()), int(over_m.sum()), int((over_p & over_m).sum())
    either = n_predicted + n_measured
    return {
        "dice": 2 * n_both / either if either else None,
        "volume_predicted_ml": n_predicted * voxel_ml,
        "volume_reference_ml": n_measured * voxel_ml,
    }


def pearson_r(first: np.ndarray, second: np.ndarray) -> Number:
    """Correlation of two lists of numbers; undefined where one is constant or there are fewer than two."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:  # exact: a mean may round away from a constant
        return None
    first, second = first - first.mean(), second - second.mean()
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1.0, 1.0))


def mean_of_finite(values: np.ndarray) -> Number:
    """Mean of the finite values; undefined without any."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if finite.size else None


def usual_width(map_name: str) -> float:
    """Width of the range of the map's usual values, in its unit."""
    low, high = MAPS[map_name].usual
    return high - low


def _brain_ssim(predicted: np.ndarray, measured: np.ndarray, brain: np.ndarray, data_range: float) -> Number:
    if min(brain.shape[:2]) < SSIM_WINDOW:
        return None
    first, second = (np.moveaxis(np.where(brain, values, 0.0), 2, 0) for values in (measured, predicted))
    return float(ssim_map(first, second, data_range)[np.moveaxis(brain, 2, 0)].mean())


def _as_pair(measured: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    measured, predicted = np.asarray(measured, np.float64), np.asarray(predicted, np.float64)
    if measured.shape != predicted.shape or measured.ndim != 3:
        raise ValueError(
            f"expected two (slice, row, col) arrays of one shape, got {measured.shape} and {predicted.shape}."
        )
    return measured, predicted
