"""Frames that do not follow each other, several echoes in one series, and a second injection."""

import numpy as np

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion.checks.dip import Dip, find_dip, median_of_three

MAX_ROUGHNESS = 0.8  # squared steps over squared deviations (von Neumann): 0.05-0.45 in order, 2 shuffled
SMOOTHER = 0.9  # path through the frames in another order over that in the given one: 1.05 and more in order
MUCH_SMOOTHER = 0.75  # the same, whatever the gain does: one step of it makes no order better by so much
# Of 140 phantom exams in order and reversed: recovery over fall 1.6-7 and 0.6-1.1, steepest fall over recovery 1.1-3.3
# and 0.1-0.6.
REVERSED = 1.35  # duration of the recovery over that of the fall
REVERSED_STEEPNESS = 0.75  # steepest fall over steepest recovery
SECOND_DIP = 0.5  # of the first dip: recirculation reaches a quarter
SAME_PATTERN = 0.8  # correlation of the two dips' depths over the voxels; motion has another pattern
ALTERNATING = 0.1  # of the signal: frames that alternate by so much are echoes
ECHO_STEP = 0.05  # of the signal: least decay between two echoes
LEAST_FALL = 0.01  # of the signal, in each echo: tissue that is bright in all of them hardly falls
SAME_COURSE = 0.9  # correlation of the mean courses of two echoes over time


def check_order(curves: np.ndarray, gain: np.ndarray | None, found: Findings) -> None:
    """Finds frames that do not follow each other, several echoes, and a second injection.

    Args:
      curves: (time, voxel), scanner units, finite.
      gain: (time,) of `gain_course`: another echo steps too, but its steps do not make frames look out of order.
      found: receives the errors.
    """
    mean = curves.mean(axis=1, dtype=np.float64)
    if _finds_echoes(mean, found):
        return
    order = _better_order(_blocks(curves), MUCH_SMOOTHER)
    if gain is not None:
        curves, mean = curves / gain[:, None], mean / gain
    order = order or _better_order(_blocks(curves), SMOOTHER)
    if order is not None:
        found.error(
            "frame_order",
            f"neighbouring frames do not follow each other: {order}; convert the series again with its "
            "frames in the order of their acquisition",
            order,
        )
        return
    dip = find_dip(mean)
    if dip is None:
        return
    if _is_reversed(mean, dip):
        found.error(
            "frame_order",
            "the signal recovers faster than it falls: the frames seem to be in reverse order; convert the "
            "series again with its frames in the order of their acquisition",
            "reversed",
        )
        return
    _check_second(curves, mean, dip, found)


def _finds_echoes(mean: np.ndarray, found: Findings) -> bool:
    """Whether several echoes are joined in the mean signal (time,)."""
    n_echoes = _alternating(mean)
    if n_echoes is not None:
        found.error(
            "echoes_joined",
            f"the signal alternates from frame to frame with a period of {n_echoes}: {n_echoes} echoes seem "
            "to be joined in one series; give one echo",
            n_echoes,
        )
        return True
    n_echoes = _one_after_another(mean)
    if n_echoes is not None:
        found.error(
            "echoes_joined",
            f"the series shows the bolus {n_echoes} times, each time with less signal, in parts of "
            f"{len(mean) // n_echoes} frames: {n_echoes} echoes seem to follow one another; give one echo",
            n_echoes,
        )
    return n_echoes is not None


def _blocks(curves: np.ndarray) -> np.ndarray:
    """(time, block) logarithm of the mean signal of 64 groups of neighbours, without their medians."""
    groups = np.array_split(np.arange(curves.shape[1]), min(64, curves.shape[1]))
    level = np.log(
        np.maximum(np.stack([curves[:, group].mean(axis=1, dtype=np.float64) for group in groups], axis=1), 1e-6)
    )
    return level - np.median(level, axis=0)


def _better_order(blocks: np.ndarray, smoother: float) -> str | None:
    """In which way the frames are out of order.

    None where no known order shortens the path to `smoother` of what it is.
    """
    n_frames = len(blocks)

    def path(order: np.ndarray) -> float:
        acquired = np.empty_like(blocks)
        acquired[order] = blocks
        return float(np.abs(np.diff(acquired, axis=0)).sum())

    here = path(np.arange(n_frames))
    if not here > 0:
        return None
    for first in (0, 1):
        by_name = np.array(sorted(range(n_frames), key=lambda frame, first=first: str(frame + first)))
        if path(by_name) < smoother * here:
            return "they seem to be sorted by name (1, 10, 11, …, 2, 20, …)"
    for n_parts in (2, 3, 4):
        in_turn = np.concatenate([np.arange(part, n_frames, n_parts) for part in range(n_parts)])
        if path(in_turn) < smoother * here:
            return f"they seem to be sorted in {n_parts} interleaved parts"
    if smoother < SMOOTHER:
        return None
    deviation = ((blocks - blocks.mean(axis=0)) ** 2).sum()
    roughness = float((np.diff(blocks, axis=0) ** 2).sum() / max(deviation, 1e-12))
    return "they seem to be shuffled" if roughness > MAX_ROUGHNESS and _has_signal(blocks) else None


def _has_signal(blocks: np.ndarray) -> bool:
    """Whether the courses hold more than noise: part of a bolus, in whatever order."""
    mean = blocks.mean(axis=1)
    return float(np.quantile(mean, 0.9) - mean.min()) > 0.08


def _is_reversed(mean: np.ndarray, dip: Dip) -> bool:
    """Whether the mean signal (time,) falls more slowly than it recovers."""
    steps = np.diff(mean[1:])
    steepness = -steps.min() / max(steps.max(), 1e-9)
    duration = (dip.end - dip.bottom) / max(dip.bottom - dip.begin, 0.3)
    return duration < REVERSED and steepness < REVERSED_STEEPNESS


def _alternating(mean: np.ndarray) -> int | None:
    """The period with which the signal alternates all along; None where it does not."""
    for period in (2, 3, 4):
        n_rounds = len(mean) // period
        if n_rounds < 4:
            return None
        rounds = mean[: n_rounds * period].reshape(n_rounds, period)
        change = np.diff(np.log(np.maximum(rounds, 1e-6)), axis=1)  # (round, period - 1)
        typical = np.median(change, axis=0)
        again = np.log(np.maximum(rounds[1:, 0], 1e-6)) - np.log(np.maximum(rounds[:-1, -1], 1e-6))
        falls = (np.sign(change) == np.sign(typical)).mean() > 0.9 and (
            np.sign(again) == -np.sign(typical.sum())
        ).mean() > 0.9
        if falls and np.abs(typical).min() > ALTERNATING:
            return period
    return None


def _check_second(curves: np.ndarray, mean: np.ndarray, dip: Dip, found: Findings) -> None:
    """A second dip with the pattern of the first one, as of another injection."""
    other = _second_bottom(mean, dip)
    if other is None:
        return
    first, second = sorted((dip.bottom, other))
    if _pattern_correlation(curves, first, second) < SAME_PATTERN:
        return
    found.error(
        "second_bolus",
        f"the signal falls twice, in frames {first} and {second}: more than one injection; give the part of the "
        "series that holds one of them, with its baseline",
        f"{first} and {second}",
    )


def _one_after_another(mean: np.ndarray) -> int | None:
    """How many parts of equal length show the same course at lower and lower levels; None where they do not."""
    for n_parts in (2, 3, 4):
        if len(mean) % n_parts or len(mean) < 10 * n_parts:
            continue
        parts = mean.reshape(n_parts, -1)[:, 2:]
        levels = np.median(parts, axis=1)
        courses = np.log(np.maximum(parts / levels[:, None], 1e-6))
        if not courses.std(axis=1).all():
            continue
        alike = all(np.corrcoef(courses[0], course)[0, 1] > SAME_COURSE for course in courses[1:])
        falls = (np.quantile(courses, 0.75, axis=1) - courses.min(axis=1) > LEAST_FALL).all()
        if alike and falls and (np.diff(np.log(levels)) < -ECHO_STEP).all():
            return n_parts
    return None


def _second_bottom(mean: np.ndarray, dip: Dip) -> int | None:
    """The bottom of another dip of at least half the depth; None where there is none."""
    calm, width = median_of_three(mean), max(dip.end - dip.begin, 2.0)
    outside = np.ones(len(mean), bool)
    outside[:2] = False
    outside[max(int(dip.begin - 0.5 * width), 0) : int(np.ceil(dip.end + 0.5 * width)) + 1] = False
    for part in np.split(np.arange(len(mean)), np.flatnonzero(np.diff(outside.astype(int))) + 1):
        if not outside[part[0]] or len(part) < 4:
            continue
        bottom = int(part[np.argmin(calm[part])])
        before, after = calm[max(part[0] - 1, 1) : bottom + 1].max(), calm[bottom : part[-1] + 2].max()
        if min(before, after) - calm[bottom] > SECOND_DIP * dip.fall * min(
            1.0, calm[bottom] / max(mean[dip.bottom], 1e-6)
        ):
            return bottom
    return None


def _pattern_correlation(curves: np.ndarray, first: int, second: int) -> float:
    """Correlation over groups of voxels of how far the signal falls at two frames against the frames before each."""
    span = max(second - first, 4)

    def depth(bottom: int) -> np.ndarray:
        before = np.quantile(np.log(np.maximum(curves[max(bottom - span, 1) : bottom + 1], 1e-3)), 0.75, axis=0)
        return before - np.log(np.maximum(curves[max(bottom - 1, 0) : bottom + 2], 1e-3)).mean(axis=0)

    return float(np.corrcoef(depth(first), depth(second))[0, 1])
