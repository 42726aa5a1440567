"""Signal that was cut off at a largest value, by the receiver, a conversion to few bits, or a window."""

import numpy as np

from dscgan_jax.findings import Findings

MOST_SATURATED = 0.01  # of the brain's values; of fat under the skin more are often cut off, which harms no map


def tell_saturated(curves: np.ndarray, found: Findings) -> None:
    """Warns where many values of the brain are the largest one: the baseline is too low there, and CBV with it.

    The largest one of each frame, of which one voxel does not count: steps of the gain may have been taken back.

    Args:
      curves: (voxel, time) of the brain, scanner units.
      found: receives the warning.
    """
    largest = curves.max(axis=0)
    share = float((((curves == largest) & (largest > 0)).sum(axis=0) - 1).clip(0).sum() / curves.size)
    if share > MOST_SATURATED:
        found.warning(
            "signal_saturated",
            f"{100 * share:.0f} % of the brain's values are the largest one, {largest.max():g}: brighter signal was "
            "cut off, and CBV and CBF are too low there; export the series with all its bits",
            round(share, 3),
        )
