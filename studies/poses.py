"""How far off the pose of the head is: what `registration.MAX_POINTS` and `motion.SURELY_STILL` rest on.

python studies/poses.py      # three minutes on two cores

Prints the error for each phantom and number of voxels that are compared, then the largest motion that each resolution
finds in heads that lay still, or jerked once by 0.8 to 1.4 mm or degrees.
"""

import numpy as np
from scipy import ndimage

from dscgan_jax.perfusion import registration
from dscgan_jax.phantom import acquisition, exam

POINTS = (24576, registration.MAX_POINTS, 8192)
PHANTOMS = ((1, True, 128, 20), (2, True, 128, 20), (3, True, 96, 12), (4, False, 128, 20), (5, False, 96, 12))
HEAD_MM = 40.0  # standard deviation of the places at which poses are compared
HEADS = 32  # still ones, and as many that jerk
SLICES = (3, 8, 20)
JERK = (0.8, 1.4)  # mm or degrees
REST = 3  # frame at rest: poses count from there, since no frame is known to be the reference


def errors_mm(drawn: exam.Phantom, points: int) -> np.ndarray:
    """(frame,) mean distance between where the head was found and where it was, mm."""
    _, millimetres, degrees = registration.estimate_poses(drawn.series, drawn.affine, most_points=points)
    found, true = registration.pose_matrices(millimetres, degrees), drawn.motion.transforms()
    places = np.random.default_rng(0).normal(0, HEAD_MM, (200, 3))
    places = np.c_[places, np.ones(len(places))]
    apart = found @ np.linalg.inv(found[REST]) - true @ np.linalg.inv(true[REST])
    return np.linalg.norm((apart @ places.T)[:, :3], axis=1).mean(axis=1)


def jerked(drawn: exam.Phantom, rng: np.random.Generator) -> np.ndarray:
    """The series with one shift or turn in any direction, from some frame on or for some frames."""
    series, affine = drawn.series.astype(np.float32), drawn.affine
    way = rng.normal(size=3)
    way *= rng.uniform(*JERK) / np.linalg.norm(way)
    shift, turn = (way, 0 * way) if rng.random() < 0.5 else (0 * way, way)
    begin = rng.integers(6, series.shape[3] - 3)
    end = series.shape[3] if rng.random() < 0.5 else begin + rng.integers(1, 6)
    centre = registration.translation(affine[:3, :3] @ ((np.array(series.shape[:3]) - 1) / 2) + affine[:3, 3])
    there = centre @ registration.pose_matrices(shift[None], turn[None])[0] @ np.linalg.inv(centre)
    back = np.linalg.inv(affine) @ np.linalg.inv(there) @ affine
    for frame in range(begin, min(end, series.shape[3])):
        series[..., frame] = ndimage.affine_transform(series[..., frame], back[:3, :3], back[:3, 3], mode="nearest")
    return series


def largest(series: np.ndarray, affine: np.ndarray, levels: tuple[registration.Level, ...]) -> float:
    """Of all frames, mm or degrees."""
    _, *course = registration.estimate_poses(series, affine, levels)
    return max(float(np.linalg.norm(part, axis=1).max()) for part in course)


def print_levels(number: int) -> None:
    """Of one head that lies still, and jerks."""
    still = acquisition.Imperfections(motion=False)
    slices = SLICES[number % len(SLICES)]
    drawn = exam.draw_phantom("acute", (201, number), size=96, slices=slices, imperfections=still)
    for what, series in (("still", drawn.series), ("jerks", jerked(drawn, np.random.default_rng(number)))):
        coarse, fine = (
            largest(series, drawn.affine, levels) for levels in (registration.LEVELS[:1], registration.LEVELS)
        )
        print(f"{number}: {slices} slices, {what}: coarse {coarse:.2f}, fine {fine:.2f} mm or degrees", flush=True)


def main() -> None:
    for seed, moves, size, slices in PHANTOMS:
        imperfections = acquisition.Imperfections(motion=moves)
        drawn = exam.draw_phantom("acute", (200, seed), size=size, slices=slices, imperfections=imperfections)
        for points in POINTS:
            errors = errors_mm(drawn, points)
            head = f"{size} x {size} x {slices} x {len(errors)}, {'moves' if moves else 'still'}, {points} voxels"
            print(f"{head}: {errors.mean():.3f} mm, at most {errors.max():.3f} mm", flush=True)
    for number in range(HEADS):
        print_levels(number)


if __name__ == "__main__":
    main()
