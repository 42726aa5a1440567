"""The first pass as a dip of the mean signal, found without a baseline or a brain mask."""

import dataclasses

import numpy as np

LEVEL = 0.25  # of the dip, where its flanks are measured


@dataclasses.dataclass(frozen=True)
class Dip:
    """The first pass in a mean signal. Times in frames, finer than a frame.

    Attributes:
      bottom: frame of the lowest signal.
      level: signal before it.
      fall: signal lost at the bottom.
      begin, end: where a quarter of it is lost, before and behind the bottom.
    """

    bottom: int
    level: float
    fall: float
    begin: float
    end: float


def find_dip(mean: np.ndarray) -> Dip | None:
    """The dip of (time,) mean signal that is deepest below what comes before *and* after it.

    None where nothing falls.
    """
    calm = median_of_three(mean)
    depth = _below_both_sides(calm)
    bottom = 2 + int(np.argmax(depth[2:]))
    level = float(np.median(calm[1 : max(bottom // 2, 2)]))
    level = level if level > calm[bottom] else float(calm[:bottom].max())
    fall = level - float(calm[bottom])
    if not depth[bottom] > 0.01 * level:
        return None
    lost = (level - calm) / fall
    return Dip(
        bottom,
        level,
        fall,
        crossing(lost, bottom, LEVEL, -1),
        crossing(lost, bottom, LEVEL, 1),
    )


def median_of_three(mean: np.ndarray) -> np.ndarray:
    """Median of three frames; the ends are left."""
    middle = np.median(np.stack([mean[:-2], mean[1:-1], mean[2:]]), axis=0)
    return np.concatenate([mean[:1], middle, mean[-1:]])


def _below_both_sides(calm: np.ndarray) -> np.ndarray:
    """(time,) how far the signal lies below the highest before it and the highest behind it, the lesser of both."""
    before, after = np.maximum.accumulate(calm[1:]), np.maximum.accumulate(calm[::-1])[::-1]
    return np.minimum(np.concatenate([calm[:1], before]), after) - calm


def crossing(lost: np.ndarray, bottom: int, level: float, step: int) -> float:
    """Frame at which the dip, followed from its bottom, is less deep than `level`; the end of the series otherwise."""
    frame = bottom
    while 0 <= frame + step < len(lost):
        if lost[frame + step] <= level:
            return frame + step * (lost[frame] - level) / max(lost[frame] - lost[frame + step], 1e-9)
        frame += step
    return float(frame)
