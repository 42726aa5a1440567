"""Faults of a series, before anything is measured in it: found, named, and repaired where that is sound."""

import numpy as np

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion import signal
from dscgan_jax.perfusion.checks.frame_order import check_order
from dscgan_jax.perfusion.checks.gain import gain_course, taken_back
from dscgan_jax.perfusion.checks.head import head_curves
from dscgan_jax.perfusion.checks.missing import (
    filled,
    is_normalised,
    not_negative,
    tell_empty_slices,
    without_holes,
    without_spikes,
)


def repaired(series: np.ndarray, slice_axis: int, found: Findings) -> np.ndarray:
    """The series with missing values filled, empty frames at the end left out, and steps of the gain corrected.

    Args:
      series: (x, y, z, time), float32, scanner units; may hold NaN, infinite and negative values.
      slice_axis: of (x, y, z), along which the slices were acquired.
      found: receives what was found. An error in it means that the series must not be used, unless it is accepted.

    Returns:
      (x, y, z, time), finite, not negative; the same array where nothing was wrong.

    Raises:
      InputError: nothing in it, or too much is missing.
    """
    series = without_holes(series, found)
    tell_empty_slices(series, slice_axis, found)
    if is_normalised(series, found):
        return not_negative(series, found)  # taken all the same, or refused by the caller
    head = head_curves(series, 2 - slice_axis)
    if head is None:
        return not_negative(series, found)
    series, head = filled(*without_spikes(series, head, found), found)
    series = not_negative(series, found)
    if head.values.shape[0] < signal.MIN_FRAMES:
        return series
    some = head.always_bright()
    gain = gain_course(some)
    n_before = len(found.listed())
    check_order(some, gain, found)
    if gain is None or len(found.listed()) > n_before:  # what is out of order steps as well
        return series
    return series / gain if taken_back(some, gain, found) else series
