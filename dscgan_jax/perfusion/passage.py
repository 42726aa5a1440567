"""How much blood passes a voxel, free of level, drift and motion, wherever its curve comes late."""

import numpy as np

LATEST_SECONDS = 12.0  # after the mean curve
HALF_SEEN = 0.5  # of the mean curve's strength


def free_of_line(seconds: np.ndarray, nuisance_regressors: np.ndarray | None = None) -> np.ndarray:
    """(time, time) projection that takes a constant, a line and nuisance regressors out of a curve.

    Args:
      seconds: (time,).
      nuisance_regressors: (time, regressor); None: no others.
    """
    columns = np.stack([np.ones_like(seconds), seconds - seconds.mean()], axis=1)
    if nuisance_regressors is not None:
        columns = np.concatenate([columns, nuisance_regressors], axis=1)
    left, strength, _ = np.linalg.svd(columns / np.linalg.norm(columns, axis=0).clip(1e-12), full_matrices=False)
    basis = left[:, strength > 1e-6 * strength[0]]
    return np.eye(len(seconds)) - basis @ basis.T


def over_mean(
    curves: np.ndarray, begin: int, frame_seconds: float, nuisance_regressors: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """How much blood passes each voxel over the mean of all, (voxel,), and the strength of that mean, as the curves.

    The best fit of the mean curve, coming later by any number of frames, free of level, drift and motion. The noise of
    one frame over the strength is the error of that share.

    Args:
      curves: (voxel, time) concentration or ΔR2*, any unit.
      begin: first frame in steady state.
      frame_seconds: TR.
      nuisance_regressors: (time, regressor) of the motion; None: none.
    """
    mean = curves.mean(axis=0, dtype=np.float64)
    mean[:begin] = 0.0  # shifted, they would reach the frames that count
    frames = np.arange(len(mean))
    shifts = range(-1, min(int(LATEST_SECONDS / frame_seconds) + 1, len(mean)))
    shifted = np.stack([np.interp(frames - shift, frames, mean)[begin:] for shift in shifts])
    shifted = shifted @ free_of_line(
        np.arange(shifted.shape[1], dtype=np.float64),
        None if nuisance_regressors is None else nuisance_regressors[begin:],
    )
    strength = np.linalg.norm(shifted, axis=1)
    shifted = shifted[strength >= HALF_SEEN * strength.max()]  # the others leave the exam, and nothing but noise
    weights = np.float32(shifted / np.maximum((shifted**2).sum(axis=1, keepdims=True), 1e-30))
    return (curves[:, begin:] @ weights.T).max(axis=1), float(strength.max())
