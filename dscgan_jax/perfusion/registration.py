"""Registration: how the pose of the head in each frame is found.

The first pass of the bolus changes the signal of each tissue and place differently, by up to 40 %, which least squares
on intensities would take for motion. Each frame is therefore explained as

  frame(T_f p) = sum_k a_k reference(p)^m_k q_k(p) + gradient of the reference . small motion,

with polynomials q of the position (coil, drift, arrival times) times powers m of the reference's brightness (tissue
classes: those that enhance, those that do not). Amplitudes a and motion are solved together, so that only a change that
no smooth change of the tissues' signal explains counts as motion: linear models of geometry and illumination, Hager &
Belhumeur, IEEE Trans Pattern Anal 1998;20:1025; for brains Friston et al., Hum Brain Mapp 1995;3:165. The update is the
inverse compositional one of Baker & Matthews, Int J Comput Vis 2004;56:221. Arteries and other voxels that do not
follow get low weights (Geman-McClure). Two resolutions.

Motion that the bolus still mimics follows its time course, while a head jerks, stays or comes back at its own times.
From the course of each parameter, the multiple of the mean curve (also two frames later) is subtracted that leaves the
least total variation, but only where that explains nearly all of the variation: a bump in the shape of the first pass
goes, a jerk during the first pass stays.

With fewer than three slices nothing is known about motion through the slices: only the two shifts and the rotation
within the plane are estimated.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.errors import InputError
from dscgan_jax.kept import programs
from dscgan_jax.perfusion import signal
from dscgan_jax.threads import in_threads

NOT_STEADY = 0.02  # brighter than the reference by this share: not in steady state
REFERENCE_FRAMES = (1, 6)  # half-open; the first frame is brighter (T1), later ones may see the bolus
MIN_SLICES = 3  # for motion through the slices
MIN_POINTS = 600  # voxels of the head: a slice of 5 mm voxels has as many; fewer do not separate bolus and motion
MAX_POINTS = 12288  # twice as many are nearer by 0.03 mm at most, of 0.02 to 0.16 mm: studies/poses.py
HEAD_SHARE = 0.15  # of the bright tissue's signal
MIN_INSIDE = 0.5  # share of the head that must be within a frame
MAX_DEGREES, MAX_MM = 30.0, 40.0  # what leads farther is no registration
BOLUS_SHIFTS = (0, 2)  # frames
SMALL_STEP = 0.02  # mm or degrees from frame to frame: noise of the estimate
MAX_MIMICKED = 1.5  # mm or degrees
LARGEST_REST = 0.2  # of the variation, where all of it comes from the bolus
LINEAR, CUBIC = 1, 3  # orders of interpolation
_PADDING = 4096  # points are padded to multiples, so that exams share compiled code
_RIDGE = 1e-5


class NoHeadError(InputError):
    """Too little is bright to find its pose."""


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution.

    Attributes:
      voxel_mm: finer voxels are averaged up to this size.
      blur_mm: full width at half maximum, along axes whose voxels are smaller than half of it; 0 = none.
      degree: of the polynomials.
      rounds: of robust weights.
      steps: of motion, in each round.
    """

    voxel_mm: float
    blur_mm: float
    degree: int
    rounds: int
    steps: int


# The finest structures separate motion best from the bolus: the fine level is not blurred.
LEVELS = (Level(6.0, 10.0, 2, 2, 4), Level(2.0, 0.0, 4, 3, 2))


def estimate_poses(
    series: np.ndarray,
    affine: np.ndarray,
    levels: Sequence[Level] = LEVELS,
    most_points: int = MAX_POINTS,
    still: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the head is in each frame.

    Args:
      series: (x, y, z, time), scanner units, finite.
      affine: (4, 4), voxel index -> world mm.
      levels: resolutions, one after the other.
      most_points: of the head, that are compared.
      still: mm and degrees; where one resolution finds all frames nearer to the reference, finer ones are left out.

    Returns:
      Centre of the volume (3,) mm, and pose of each frame about it: (time, 3) mm and (time, 3) degrees.

    Raises:
      NoHeadError: too little is bright.
    """
    centre = affine[:3, :3] @ ((np.array(series.shape[:3]) - 1) / 2) + affine[:3, 3]
    transforms = np.tile(np.eye(4), (series.shape[3], 1, 1))
    course, bolus = np.zeros((series.shape[3], 6)), _mean_change(series)
    for level in levels:
        transforms = _register_level(series, affine, centre, transforms, level, most_points)
        course = _course(translation(-centre) @ transforms @ translation(centre), bolus)
        if max(np.linalg.norm(part, axis=1).max() for part in (course[:, :3], course[:, 3:])) < still:
            break
    return centre, course[:, :3], course[:, 3:]


def _course(about_centre: np.ndarray, bolus: np.ndarray) -> np.ndarray:
    """(time, 6) mm and degrees of poses (time, 4, 4), without what the bolus mimics; `bolus` is of `_mean_change`."""
    course = np.concatenate([about_centre[:, :3, 3], _euler_degrees(about_centre)], axis=1)
    course -= _mimicked_by_bolus(course, np.maximum(bolus, 0.0))
    # The very first frames are brighter, tissue by tissue, which mimics motion as well; no map is made of them.
    steady = int(np.argmax(bolus > -NOT_STEADY))
    course[:steady] = course[steady]
    return course


def _register_level(
    series: np.ndarray, affine: np.ndarray, centre: np.ndarray, transforms: np.ndarray, level: Level, most_points: int
) -> np.ndarray:
    """(time, 4, 4) poses, improved from `transforms` at one resolution."""
    voxel_mm = voxel_sizes(affine)
    factors = tuple(
        int(np.clip(level.voxel_mm / mm + 1e-3, 1, max(1, size // 8)))
        for mm, size in zip(voxel_mm, series.shape[:3], strict=True)
    )
    sigma = tuple(float(level.blur_mm / 2.3548 / mm) if mm <= 0.5 * level.blur_mm else 0.0 for mm in voxel_mm * factors)
    # World coordinates count from the centre of the volume: float32 is finest there.
    to_world = translation(-centre) @ affine @ np.diag([*factors, 1.0])
    to_world[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)

    begin, end = reference_frames(series)
    reference = np.asarray(
        _smaller(np.median(series[..., begin:end], axis=3).astype(np.float32)[None], factors, sigma)
    )[0]
    where = _choose_points(reference, most_points)
    points = where @ to_world[:3, :3].T + to_world[:3, 3]
    in_plane = series.shape[2] < MIN_SLICES
    directions = _directions(to_world, in_plane)
    brightness = reference[tuple(where.T)].astype(np.float64)
    model = np.concatenate(
        [_nuisance(brightness, points, level.degree), _motion_images(reference, to_world, where, points) @ directions],
        axis=1,
    )
    empty = -len(points) % _PADDING
    model, points = (np.pad(array, ((0, empty), (0, 0))).astype(np.float32) for array in (model, points))
    weights = np.pad(np.ones(len(where), np.float32), (0, empty))

    about_centre = (translation(-centre) @ transforms @ translation(centre)).astype(np.float32)
    known = jax.device_put(
        [np.float32(array) for array in (points.T, model, weights, np.linalg.inv(to_world), directions)]
    )

    def pose_of(frame: int) -> np.ndarray:
        volume = _smaller(series[None, ..., frame], factors, sigma)
        found = _register(volume, about_centre[frame], *known, rounds=level.rounds, steps=level.steps)
        return np.asarray(found, np.float64)

    found = np.stack(in_threads(pose_of, range(series.shape[3])))
    return translation(centre) @ found @ translation(-centre)


def reference_frames(series: np.ndarray) -> tuple[int, int]:
    """Half-open range; of a series that is shorter, all frames."""
    return REFERENCE_FRAMES if series.shape[3] >= REFERENCE_FRAMES[1] else (0, series.shape[3])


@programs.jit(static_argnames=("factors", "sigma"))
def _smaller(volumes: jax.Array, factors: tuple[int, int, int], sigma: tuple[float, float, float]) -> jax.Array:
    """(frame, x, y, z) averaged over blocks of `factors` voxels, then blurred by Gaussians of `sigma` new voxels."""
    volumes = volumes.astype(jnp.float32)
    for axis, (factor, width) in enumerate(zip(factors, sigma, strict=True), start=1):
        size = volumes.shape[axis] // factor
        if factor > 1:
            whole = jax.lax.slice_in_dim(volumes, 0, size * factor, axis=axis)
            volumes = whole.reshape(*volumes.shape[:axis], size, factor, *volumes.shape[axis + 1 :]).mean(axis + 1)
        if width > 0 and size > 1:
            reach = int(np.ceil(3 * width))
            kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
            padded = jnp.pad(volumes, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="edge")
            shifted = (jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis) for shift in range(2 * reach + 1))
            volumes = sum(float(weight) * part for weight, part in zip(kernel / kernel.sum(), shifted, strict=True))
    return volumes


def _choose_points(reference: np.ndarray, most_points: int) -> np.ndarray:
    """(point, 3) voxel indices of the head and a rim of air around it, without the outermost voxels."""
    bright = reference > HEAD_SHARE * np.quantile(reference, 0.95)
    head = bright.copy()
    for axis in (0, 1):  # the rim: the border of the head shows most of its pose
        head |= np.roll(head, 1, axis) | np.roll(head, -1, axis)
    for axis, size in enumerate(reference.shape):
        if axis < 2 or size > MIN_SLICES + 1:
            np.moveaxis(head, axis, 0)[[0, -1]] = False
    where = np.argwhere(head)
    if len(where) < MIN_POINTS or not bright.any() or reference.max() <= 0:
        raise NoHeadError(
            f"realignment: expected a head in the series, {len(where)} voxels have signal; check the file."
        )
    if len(where) > most_points:
        where = where[np.sort(np.random.default_rng(0).choice(len(where), most_points, replace=False))]
    return where


def _nuisance(brightness: np.ndarray, points: np.ndarray, degree: int) -> np.ndarray:
    """(point, image) changes of the signal without motion: orthonormal, zero for images that add nothing new.

    Args:
      brightness: (point,) of the reference.
      points: (point, 3), mm.
      degree: of the polynomials of the position for powers 1 and 2 of the brightness; others are linear.
    """
    level = brightness / np.median(brightness[brightness > np.median(brightness)])
    position = points - points.mean(axis=0)
    position /= np.maximum(np.abs(position).max(axis=0), 1e-6)
    images = [
        level**power * np.prod(position[:, axes], axis=1)
        for power, highest in enumerate((1, degree, degree, 1))
        for order in range(highest + 1)
        for axes in map(list, itertools.combinations_with_replacement(range(3), order))
    ]
    images = np.stack(images, axis=1)
    images /= np.maximum(np.linalg.norm(images, axis=0), 1e-12)
    size, mix = np.linalg.eigh(images.T @ images)
    return images @ np.where(size > 1e-7, mix / np.sqrt(np.maximum(size, 1e-7)), 0.0)


def _motion_images(reference: np.ndarray, to_world: np.ndarray, where: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(point, 6) change of the reference for 1 mm along and 1 radian about each axis through the centre."""
    slopes = [
        np.gradient(reference, axis=axis)[tuple(where.T)] if size > 1 else np.zeros(len(where))
        for axis, size in enumerate(reference.shape)
    ]
    gradient = np.stack(slopes, axis=1) @ np.linalg.inv(to_world[:3, :3])
    return np.concatenate([gradient, np.cross(points, gradient)], axis=1)


def _directions(to_world: np.ndarray, in_plane: bool) -> np.ndarray:
    """(6, k) motions that are looked for: all, or the two shifts within the slice and the turn about its normal."""
    if not in_plane:
        return np.eye(6)
    first, second = (to_world[:3, axis] / np.linalg.norm(to_world[:3, axis]) for axis in (0, 1))
    normal = np.cross(first, second)
    directions = np.zeros((6, 3))
    directions[:3, 0], directions[:3, 1], directions[3:, 2] = first, second, normal / np.linalg.norm(normal)
    return directions


@programs.jit(static_argnames=("rounds", "steps"))
def _register(
    volume: jax.Array,
    given: jax.Array,
    points: jax.Array,
    model: jax.Array,
    weights: jax.Array,
    to_voxel: jax.Array,
    directions: jax.Array,
    rounds: int,
    steps: int,
) -> jax.Array:
    """(4, 4) pose of a frame; one that cannot be explained keeps the pose it came with.

    Args:
      volume: (1, x, y, z).
      given: (4, 4) first guess.
      points: (3, point), mm.
      model: (point, image) nuisance images, then k motion images.
      weights: (point,).
      to_voxel: (4, 4), mm -> voxel index.
      directions: (6, k) of the motion images.
      rounds: of robust weights.
      steps: of motion, in each round.
    """
    high = jax.lax.Precision.HIGHEST

    def sample(transform: jax.Array) -> tuple[jax.Array, jax.Array]:
        index = jnp.matmul(to_voxel, transform, precision=high)
        return interpolate(volume[0], jnp.matmul(index[:3, :3], points, precision=high) + index[:3, 3:], LINEAR)

    def one_round(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        transform, trust = state
        weight = weights * trust * sample(transform)[1]
        weighted = model * weight[:, None]
        gram = jnp.matmul(weighted.T, model, precision=high)
        scale = jnp.sqrt(jnp.diagonal(gram)) + 1e-6
        gram = gram / scale[:, None] / scale[None, :] + _RIDGE * jnp.eye(len(gram), dtype=gram.dtype)
        factor = jax.scipy.linalg.cho_factor(gram)

        def one_step(transform: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            values, _ = sample(transform)
            amplitudes = (
                jax.scipy.linalg.cho_solve(factor, jnp.matmul(values, weighted, precision=high) / scale) / scale
            )
            residual = values - jnp.matmul(model, amplitudes, precision=high)
            motion = jnp.matmul(directions, amplitudes[-directions.shape[1] :], precision=high)
            return jnp.matmul(transform, _rigid(-motion), precision=high), residual

        transform, residuals = jax.lax.scan(one_step, transform, length=steps)
        size = 1.25 * jnp.sum(weight * jnp.abs(residuals[-1])) / (jnp.sum(weight) + 1e-6)
        return (transform, (1.0 + (residuals[-1] / (2.0 * size + 1e-6)) ** 2) ** -2), None

    (transform, _), _ = jax.lax.scan(one_round, (given, jnp.ones_like(weights)), length=rounds)
    inside = jnp.sum(weights * sample(transform)[1]) / jnp.sum(weights)
    cosine = 0.5 * (jnp.trace(transform[:3, :3]) - 1.0)
    plausible = (
        (inside >= MIN_INSIDE)
        & (cosine >= np.cos(np.radians(MAX_DEGREES)))
        & (jnp.linalg.norm(transform[:3, 3]) <= MAX_MM)
    )
    return jnp.where(plausible, transform, given)


def _rigid(motion: jax.Array) -> jax.Array:
    """(4, 4) of a small shift (mm) and rotation vector (radian), (6,); the inverse up to second order is of -motion."""
    x, y, z = motion[3], motion[4], motion[5]
    angle = jnp.sqrt(jnp.sum(motion[3:] ** 2) + 1e-20)
    axis = jnp.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) / angle
    square = jnp.matmul(axis, axis, precision=jax.lax.Precision.HIGHEST)
    rotation = jnp.eye(3, dtype=motion.dtype) + jnp.sin(angle) * axis + (1.0 - jnp.cos(angle)) * square
    return jnp.eye(4, dtype=motion.dtype).at[:3, :3].set(rotation).at[:3, 3].set(motion[:3])


# ------------------------------------------------------------------------------------------------------------ the bolus


def _mean_change(series: np.ndarray) -> np.ndarray:
    """(time,) -ln(S/S0) of the mean of the bright voxels, S0 of the reference."""
    begin, end = reference_frames(series)
    before = series[..., begin:end].mean(axis=3, dtype=np.float32)
    mean = signal.mean_curve(series, before > HEAD_SHARE * np.quantile(before, 0.95))
    return signal.delta_r2star(mean, np.median(mean[begin:end]), 1.0).clip(-3, 3)


def _mimicked_by_bolus(course: np.ndarray, bolus: np.ndarray) -> np.ndarray:
    """(time, parameter) combination of the bolus' curve, shifted too, that leaves the least total variation.

    It is 0 where more than a fifth of the variation above the noise would remain: then the head moved.

    Args:
      course: (time, parameter), mm and degrees.
      bolus: (time,).
    """
    frames = np.arange(len(bolus))
    shapes = np.stack([bolus[np.clip(frames - shift, 0, None).clip(max=frames[-1])] for shift in BOLUS_SHIFTS], axis=1)
    steps, targets = np.diff(shapes, axis=0), np.diff(course, axis=0)
    if not steps.any():
        return np.zeros_like(course)
    ridge = 1e-4 * np.square(steps).sum() * np.eye(shapes.shape[1])
    amplitudes = np.zeros((shapes.shape[1], course.shape[1]))
    for parameter, target in enumerate(targets.T):  # least absolute deviations by reweighted least squares
        for _ in range(50):
            weight = 1.0 / (np.abs(target - steps @ amplitudes[:, parameter]) + SMALL_STEP)
            weighted = steps * (weight / weight.mean())[:, None]
            amplitudes[:, parameter] = np.linalg.solve(weighted.T @ steps + ridge, weighted.T @ target)
    mimicked = (shapes @ amplitudes).clip(-MAX_MIMICKED, MAX_MIMICKED)
    before, after = (np.abs(np.diff(rest[REFERENCE_FRAMES[0] :], axis=0)) for rest in (course, course - mimicked))
    noise = 3.0 * np.median(before, axis=0)
    explained = np.maximum(after - noise, 0).sum(axis=0) < LARGEST_REST * np.maximum(before - noise, 0).sum(axis=0)
    return np.where(explained, mimicked, 0.0)


# -------------------------------------------------------------------------------------------------------- interpolation


def interpolate(volume: jax.Array, index: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
    """Values of (x, y, z) at voxel indices (3, point), from outside the nearest, and whether a point lies inside."""
    inside = jnp.ones(index.shape[1:], bool)
    rows, shares = [], []
    for axis, size in enumerate(volume.shape):
        place = jnp.clip(index[axis], 0.0, size - 1.0)
        if size == 1:
            rows.append([jnp.zeros(place.shape, jnp.int32)])
            shares.append([jnp.ones_like(place)])
            continue
        inside &= jnp.abs(index[axis] - place) < 0.01
        floor = jnp.minimum(place.astype(jnp.int32), size - 2)
        reach = (0, 1) if order == LINEAR else (-1, 0, 1, 2)
        rows.append([jnp.clip(floor + step, 0, size - 1) for step in reach])
        shares.append(_kernel(place - floor, order))
    flat, (_, width, depth) = volume.reshape(-1), volume.shape
    values = jnp.zeros(index.shape[1:], jnp.float32)
    for (x, share_x), (y, share_y) in itertools.product(
        *(zip(rows[axis], shares[axis], strict=True) for axis in (0, 1))
    ):
        start = (x * width + y) * depth
        line = sum(share * jnp.take(flat, start + z, mode="clip") for z, share in zip(rows[2], shares[2], strict=True))
        values += share_x * share_y * line
    return values, inside


def _kernel(share: jax.Array, order: int) -> list[jax.Array]:
    """Weights of the neighbours at `share` of the way between the middle two: linear, or cubic convolution."""
    if order == LINEAR:
        return [1.0 - share, share]
    square, cube = share**2, share**3
    return [
        0.5 * (2 * square - cube - share),
        0.5 * (2 - 5 * square + 3 * cube),
        0.5 * (share + 4 * square - 3 * cube),
        0.5 * (cube - square),
    ]


# ------------------------------------------------------------------------------------------------------------- geometry


def translation(millimetres: np.ndarray) -> np.ndarray:
    """(4, 4) of a shift (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = millimetres
    return matrix


def pose_matrices(millimetres: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """(time, 4, 4) of (time, 3) each, R = Rz Ry Rx; inverse of `_euler_degrees`."""
    from scipy.spatial.transform import Rotation  # which passes while frames are registered

    matrices = np.tile(np.eye(4), (len(degrees), 1, 1))
    matrices[:, :3, 3] = millimetres
    matrices[:, :3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return matrices


def angle_degrees(transforms: np.ndarray) -> np.ndarray:
    """(time,) angle of rotation of (time, 4, 4)."""
    from scipy.spatial.transform import Rotation

    return np.degrees(Rotation.from_matrix(transforms[:, :3, :3]).magnitude())


def _euler_degrees(transforms: np.ndarray) -> np.ndarray:
    """(time, 3) angles about x, y, z of (time, 4, 4), R = Rz Ry Rx.

    From the entries, since estimated matrices are orthogonal in float32 only and SciPy would change them first.
    """
    rotation = transforms[:, :3, :3]
    about_x = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    about_y = np.arcsin(np.clip(-rotation[:, 2, 0], -1.0, 1.0))
    about_z = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.degrees(np.stack([about_x, about_y, about_z], axis=1))
