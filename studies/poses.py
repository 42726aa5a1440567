"""How far off the pose of the head is, by how many of its voxels are compared: what `registration.MAX_POINTS` rests on.

python studies/poses.py      # a minute on two cores; prints one line for each phantom and number of voxels
"""

import numpy as np

from dscgan_jax.perfusion import registration
from dscgan_jax.phantom import acquisition, exam

POINTS = (24576, registration.MAX_POINTS, 8192)
PHANTOMS = ((1, True, 128, 20), (2, True, 128, 20), (3, True, 96, 12), (4, False, 128, 20), (5, False, 96, 12))
HEAD_MM = 40.0  # standard deviation of the places at which poses are compared
REST = 3  # frame at rest: poses count from there, since no frame is known to be the reference


def errors_mm(drawn: exam.Phantom, points: int) -> np.ndarray:
    """(frame,) mean distance between where the head was found and where it was, mm."""
    _, millimetres, degrees = registration.estimate_poses(drawn.series, drawn.affine, most_points=points)
    found, true = registration.pose_matrices(millimetres, degrees), drawn.motion.transforms()
    places = np.random.default_rng(0).normal(0, HEAD_MM, (200, 3))
    places = np.c_[places, np.ones(len(places))]
    apart = found @ np.linalg.inv(found[REST]) - true @ np.linalg.inv(true[REST])
    return np.linalg.norm((apart @ places.T)[:, :3], axis=1).mean(axis=1)


def main() -> None:
    for seed, moves, size, slices in PHANTOMS:
        imperfections = acquisition.Imperfections(motion=moves)
        drawn = exam.draw_phantom("acute", (200, seed), size=size, slices=slices, imperfections=imperfections)
        for points in POINTS:
            errors = errors_mm(drawn, points)
            head = f"{size} x {size} x {slices} x {len(errors)}, {'moves' if moves else 'still'}, {points} voxels"
            print(f"{head}: {errors.mean():.3f} mm, at most {errors.max():.3f} mm", flush=True)


if __name__ == "__main__":
    main()
