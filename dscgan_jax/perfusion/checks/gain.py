"""Steps of the receiver's gain: found, and taken back where the first pass does not hide them.

Words: the *depth* of a voxel is -ln(signal at the dip / signal before it).

How a step of the gain differs from the bolus and from motion: the gain changes every voxel by the same factor, the
bolus each by its depth, motion each differently. The logarithm of the mean signal of groups of voxels is therefore
explained, frame by frame, as g(t) - b(t) depth; a step in g that is abrupt, lasts and is the same in all groups and
voxels is a step of the gain.
"""

import numpy as np

from dscgan_jax.findings import Findings
from dscgan_jax.perfusion.checks.dip import Dip, find_dip
from dscgan_jax.perfusion.signal import robust_sd

REGIONS = 8  # groups of voxels: by place
DEPTHS = 6  # and, within each region, by depth
LEAST_STEP = 0.05  # of the logarithm of the signal
NEAR = 4  # frames on either side of a step
LASTING = 0.6  # share of a step that remains to the end
UNIFORM = 0.25  # spread of a step over the groups, of the step
VOXELS_UNIFORM = 0.3  # the same over the voxels, whose noise comes on top
MOST_STEPS = 4
LEAST_STEP_WITHIN = 0.18  # the same, within the first pass, where delays look like small steps


def gain_course(curves: np.ndarray) -> np.ndarray | None:
    """(time,) float32 factor that the gain was multiplied with, 1 at first; None where it never stepped.

    Args:
      curves: (time, voxel), scanner units, positive.
    """
    dip = find_dip(curves.mean(axis=1, dtype=np.float64))
    if dip is None or len(curves) < 3 * NEAR:
        return None
    logs, depth = _groups(curves, dip)
    total = np.zeros(len(curves))
    for _ in range(MOST_STEPS):
        step = _largest_step(logs - total[:, None], depth)
        if step is None:
            break
        frame, size = step
        if not _is_everywhere(curves, _depth(curves, dip), frame, size):
            break
        total[frame:] += size
    return np.exp(total).astype(np.float32) if total.any() else None


def _groups(curves: np.ndarray, dip: Dip) -> tuple[np.ndarray, np.ndarray]:
    """(time, group) logarithm of the mean signal of groups of voxels, and their (group,) depth."""
    depth = _depth(curves, dip)
    groups = [
        region[part]
        for region in np.array_split(np.arange(curves.shape[1]), REGIONS)
        for part in np.array_split(np.argsort(depth[region]), DEPTHS)
        if len(part)
    ]
    logs = np.log(
        np.maximum(np.stack([curves[:, group].mean(axis=1, dtype=np.float64) for group in groups], axis=1), 1e-6)
    )
    return logs - logs[1 : _baseline_end(dip)].mean(axis=0), np.array([depth[group].mean() for group in groups])


def _baseline_end(dip: Dip) -> int:
    """Last frame before the dip, exclusive."""
    return max(int(dip.begin) - 1, 2)


def _depth(curves: np.ndarray, dip: Dip) -> np.ndarray:
    """(voxel,) depth at the bottom of the dip, of (time, voxel)."""
    before = np.median(curves[1 : _baseline_end(dip)], axis=0)
    lowest = curves[max(dip.bottom - 1, 0) : dip.bottom + 2].mean(axis=0)
    return np.log(np.maximum(before, 1e-6)) - np.log(np.maximum(lowest, 1e-6))


def _largest_step(logs: np.ndarray, depth: np.ndarray) -> tuple[int, float] | None:
    """Frame and size (of the logarithm) of the largest step of the gain; None where there is none."""
    model = np.stack([np.ones_like(depth), -depth], axis=1)
    gain, bolus = np.linalg.lstsq(model, logs.T, rcond=None)[0]  # (time,) each
    frame, largest, near = 0, LEAST_STEP, 0.0
    for place in range(3, len(gain) - 2):
        change = np.median(gain[place : place + NEAR]) - np.median(gain[max(place - NEAR, 1) : place])
        jump = gain[place] - gain[place - 1]
        if change * jump > 0 and min(abs(change), abs(jump)) > largest:
            frame, largest, near = place, min(abs(change), abs(jump)), change
    if not frame:
        return None
    size = _lasting(gain, bolus, frame)
    if size * near < 0 or abs(size) < max(LASTING * abs(near), LEAST_STEP) or abs(size) > 2 * abs(near):
        return None
    # Each group's own step, without what the bolus does to it.
    free = logs + bolus[:, None] * depth
    own = np.median(free[frame : frame + NEAR], axis=0) - np.median(free[max(frame - NEAR, 1) : frame], axis=0)
    return (frame, size) if robust_sd(own) < UNIFORM * abs(size) else None


def _is_everywhere(curves: np.ndarray, depth: np.ndarray, frame: int, size: float) -> bool:
    """Whether all voxels step alike, apart from the bolus and from noise; where the head moved they do not.

    Args:
      curves: (time, voxel), scanner units.
      depth: (voxel,).
      frame: of the step.
      size: of the step, of the logarithm.
    """
    logs = np.log(np.maximum(curves, 1e-6))
    before, after = logs[max(frame - NEAR, 1) : frame], logs[frame : frame + NEAR]
    own = after.mean(axis=0) - before.mean(axis=0)
    noise = robust_sd(np.diff(logs, 2, axis=0), 0.0) / np.sqrt(6)
    expected = noise * np.sqrt(1 / len(before) + 1 / len(after))
    own = own - np.polynomial.Polynomial.fit(depth, own, 1)(depth)
    return robust_sd(own) < max(VOXELS_UNIFORM * abs(size), 2 * expected)


def _lasting(gain: np.ndarray, bolus: np.ndarray, frame: int) -> float:
    """Size of a step at `frame` beside level and drift, from the frames outside the first pass."""
    frames = np.arange(len(gain))
    quiet = (np.abs(bolus) < 0.25 * np.abs(bolus).max()) & (frames > 1)
    if (quiet & (frames < frame)).sum() < 2 or (quiet & (frames >= frame)).sum() < 2:
        return float(np.median(gain[frame:]) - np.median(gain[1:frame]))
    model = np.stack([np.ones(len(gain)), frames / len(gain), frames >= frame], axis=1)[quiet]
    return float(np.linalg.lstsq(model, gain[quiet], rcond=None)[0][2])


def taken_back(curves: np.ndarray, gain: np.ndarray, found: Findings) -> bool:
    """Whether the steps of `gain` (time,) can be taken back: not within the first pass, whose shape they hide."""
    dip = find_dip(curves.mean(axis=1, dtype=np.float64) / gain)
    steps = np.flatnonzero(np.diff(gain)) + 1
    changes = ", ".join(f"by {100 * (gain[step] / gain[step - 1] - 1):+.0f} % at frame {step}" for step in steps)
    text = f"the signal of the whole head changes {changes}, as by a step of the receiver's gain"
    if dip is not None and any(dip.begin - 1 <= step <= dip.end + 1 for step in steps):
        within = [step for step in steps if abs(np.log(gain[step] / gain[step - 1])) > LEAST_STEP_WITHIN]
        if within:
            found.error("signal_step", f"{text}, within the first pass, where it cannot be taken back", changes)
        return False
    found.warning("signal_step", f"{text}; the signal was divided by that factor", changes)
    return True
