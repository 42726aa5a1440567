"""Rigid realignment of a DSC series: where the head lies in each frame, and the frames brought back to the first ones.

Words: the *reference* is the median of the first frames after the very first one; the *pose* of a frame is the rigid
transform, world mm -> world mm, from where a point of the head lies in the reference to where it lies in that frame.

How the pose is found. The passage of the bolus changes the signal of each tissue and place differently, by up to 40 %,
which least squares on intensities would take for motion. Each frame is therefore explained as

  frame(T_f p) = sum_k a_k reference(p)^m_k q_k(p) + gradient of the reference . small motion,

with polynomials q of the position (coil, drift, arrival times) times powers m of the reference's brightness (tissue
classes: what enhances, what does not). Amplitudes a and motion are solved together, so that only what no smooth change
of the tissues' signal explains counts as motion: linear models of geometry and illumination, Hager & Belhumeur, IEEE
Trans Pattern Anal 1998;20:1025; for brains Friston et al., Hum Brain Mapp 1995;3:165. The update is the inverse
compositional one of Baker & Matthews, Int J Comput Vis 2004;56:221. Arteries and other voxels that do not follow get
low weights (Geman-McClure). Two resolutions.

What the bolus still feigns follows its time course, while a head jerks, stays or comes back at its own times. Of each
parameter's course as much of the mean curve (also two frames later) is taken away as makes its total variation least,
where that explains nearly all of the variation: a bump in the shape of the passage goes, a jerk during the passage
stays.

With fewer than three slices nothing is known about motion through the slices: only the two shifts and the rotation
within the plane are estimated.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.phantom.anatomy import rotation_matrix

CORRECTIONS = ("none", "rigid")  # what may be asked for
# A head whose largest motion is below both of these lay still: still phantoms of 1 to 27 slices reach 0.77 mm, 0.7
# degrees.
MOVED_MM = 0.8
MOVED_DEGREES = 0.8
# In a head that moved:
STILL_MM = 0.2  # below both, a frame counts as still: less than a tenth of a voxel
STILL_DEGREES = 0.2
STILL_IN_PLANE = 2.5  # times as much where slices are too few: the bolus of a single slice cannot be told so finely
TRANSIENT = 0.02  # brighter than the reference by this share: not in steady state
REFERENCE_FRAMES = (1, 6)  # half-open; the first frame is brighter (T1), later ones may see the bolus
SUSPECT = 1.0  # mm or degrees at the coarse resolution: still heads of a few slices reach 0.9 mm and 1.7 degrees there
MUCH = 1.0  # mm or degrees: half a voxel, which costs a third of the Dice of Tmax > 6 s
MIN_SLICES = 3  # for motion through the slices
MIN_POINTS = 600  # voxels of the head: a slice of 5 mm voxels has as many; fewer do not tell the bolus from motion
MAX_POINTS = 24576  # more do not make the pose more certain
POINTS_TO_TELL = 8192  # where the pose is only told: within 0.05 mm of what all points say, in half the time
HEAD_SHARE = 0.15  # of the bright tissue's signal
MIN_INSIDE = 0.5  # share of the head that must lie within a frame
MAX_DEGREES, MAX_MM = 30.0, 40.0  # what leads farther is no registration
BOLUS_SHIFTS = (0, 2)  # frames
SMALL_STEP = 0.02  # mm or degrees from frame to frame: noise of the estimate
MAX_FEIGNED = 1.5  # mm or degrees
LARGEST_REST = 0.2  # of the variation, where the bolus is to blame for all of it
_FRAMES = 2  # solved together: more take more memory and no less time
_PADDING = 8192  # points are padded to multiples, so that exams share compiled code
_RIDGE = 1e-5
_LINEAR, _CUBIC = 1, 3


class NoHeadError(InputError):
    """Too little is bright to find its pose."""


@dataclasses.dataclass(frozen=True)
class _Level:
    """One resolution."""

    voxel_mm: float  # finer voxels are averaged up to this size
    blur_mm: float  # full width at half maximum, along axes whose voxels are smaller than half of it; 0 = none
    degree: int  # of the polynomials
    rounds: int  # of robust weights
    steps: int  # of motion for each


# The finest structures are told apart best from what the bolus does: the fine level is not blurred.
_LEVELS = (_Level(6.0, 10.0, 2, 2, 4), _Level(2.0, 0.0, 4, 3, 2))


@dataclasses.dataclass(frozen=True)
class Realignment:
    """A series in the pose of its first frames, and how the head moved.

    Attributes:
      series: (x, y, z, time) in the type of the given series; the given array itself where no frame moved. Frames that
        count as still are the acquired ones, bit for bit.
      transforms: (time, 4, 4), estimated pose of every frame, also of those that count as still: world mm of the head
        in the reference -> world mm in the frame.
      millimetres, degrees: (time, 3), the same poses as R (p - c) + c + t with R = Rz Ry Rx of `degrees` about fixed
        axes, t = `millimetres` and c the centre of the volume (`centre_mm`).
      centre_mm: (3,) world mm.
      resampled: (time,) whether the frame moved and was interpolated.
      in_plane: True where there were too few slices for motion through them.
    """

    series: np.ndarray
    transforms: np.ndarray
    millimetres: np.ndarray
    degrees: np.ndarray
    centre_mm: np.ndarray
    resampled: np.ndarray
    in_plane: bool

    @property
    def moved(self) -> bool:
        """Whether any frame was brought back."""
        return bool(self.resampled.any())

    @property
    def largest_mm(self) -> float:
        """Largest estimated shift of the volume's centre."""
        return float(np.linalg.norm(self.millimetres, axis=1).max())

    @property
    def largest_degrees(self) -> float:
        """Largest estimated angle of rotation."""
        return float(_angle_degrees(self.transforms).max())

    def courses(self) -> np.ndarray:
        """(time, 2) courses that the signal may follow after frames were brought back.

        They are the main one of the pose and its square (Friston et al., Magn Reson Med 1996;35:346): interpolation
        blurs, so that a moved frame is never quite like a still one.
        """
        pose = np.where(self.resampled[:, None], np.concatenate([self.millimetres, self.degrees], axis=1), 0.0)
        left, strength, _ = np.linalg.svd(pose - pose.mean(axis=0), full_matrices=False)
        main = left[:, 0] * strength[0]
        return np.stack([main, main**2], axis=1)


def realign(series: np.ndarray, affine: np.ndarray) -> Realignment:
    """Estimates the pose of each frame and brings moved frames back to the pose of the first ones.

    A frame that moved is interpolated once, from the acquired one (cubic convolution, Keys, IEEE Trans Acoust
    1981;29:1153). What comes from outside the volume is the nearest acquired voxel's course with this voxel's own
    reference signal.

    Args:
      series: (x, y, z, time), scanner units, finite.
      affine: (4, 4), voxel index -> world mm.

    Raises:
      InputError: not such a series, or no head in it.
    """
    series = np.asarray(series)
    affine = np.asarray(affine, np.float64)
    if series.ndim != 4 or series.shape[3] < 2 or affine.shape != (4, 4):
        raise InputError(
            f"realignment: expected a series (x, y, z, time) of at least 2 frames and an affine (4, 4), came "
            f"{series.shape} and {affine.shape}; give the whole series."
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError("realignment: the affine cannot be inverted; check the header of the series.")
    if not np.isfinite(series.sum(dtype=np.float64)):
        raise InputError("realignment: the series is not finite; replace what is not before.")
    centre, millimetres, degrees = _estimate(series, affine, _LEVELS)
    transforms = _translation(centre) @ _pose(millimetres, degrees) @ _translation(-centre)
    in_plane = series.shape[2] < MIN_SLICES
    resampled = _has_moved(millimetres, transforms, in_plane)
    return Realignment(
        series=_bring_back(series, affine, transforms, np.flatnonzero(resampled)),
        transforms=transforms,
        millimetres=millimetres,
        degrees=degrees,
        centre_mm=centre,
        resampled=resampled,
        in_plane=in_plane,
    )


def realign_if_possible(series: np.ndarray, affine: np.ndarray) -> tuple[Realignment | None, tuple[Finding, ...]]:
    """As `realign`, with what to tell; None where too little is bright to find a pose, which is told as well."""
    try:
        realignment = realign(series, affine)
    except NoHeadError as error:
        return None, (Finding("motion", "note", f"head motion was not looked for ({error})"),)
    return realignment, findings_of(realignment)


def look_for_motion(series: np.ndarray, affine: np.ndarray) -> tuple[Finding, ...]:
    """Tells how far the head moved in a series that is used as it is; nothing where it lay still.

    Quick on a still head: only what looks like motion at a coarse resolution is measured at the fine one.

    Args:
      series: (x, y, z, time), scanner units, finite.
      affine: (4, 4), voxel index -> world mm.
    """
    affine = np.asarray(affine, np.float64)
    try:
        _, millimetres, degrees = _estimate(series, affine, _LEVELS[:1], POINTS_TO_TELL)
        if np.linalg.norm(millimetres, axis=1).max() < SUSPECT and np.abs(degrees).max() < SUSPECT:
            return ()
        _, millimetres, degrees = _estimate(series, affine, _LEVELS, POINTS_TO_TELL)
    except NoHeadError as error:
        return (Finding("motion", "note", f"head motion was not looked for ({error})"),)
    moved = _has_moved(millimetres, _pose(millimetres, degrees), series.shape[2] < MIN_SLICES)
    if not moved.any():
        return ()
    largest_mm = float(np.linalg.norm(millimetres, axis=1).max())
    largest_degrees = float(_angle_degrees(_pose(millimetres, degrees)).max())
    text = (
        f"the head moved by up to {largest_mm:.1f} mm and {largest_degrees:.1f} degrees in {int(moved.sum())} of "
        f"{len(moved)} frames, which were not realigned"
    )
    severity = "warning" if max(largest_mm, largest_degrees) >= MUCH else "note"
    return (Finding("motion", severity, text, round(largest_mm, 2), "--motion=rigid"),)


def _has_moved(millimetres: np.ndarray, transforms: np.ndarray, in_plane: bool) -> np.ndarray:
    """(time,) whether a frame counts as moved; none does where the head lay still."""
    least = STILL_IN_PLANE if in_plane else 1.0
    moved_mm, turned_degrees = np.linalg.norm(millimetres, axis=1), _angle_degrees(transforms)
    if moved_mm.max() < MOVED_MM and turned_degrees.max() < MOVED_DEGREES:
        return np.zeros(len(moved_mm), bool)
    return (moved_mm >= least * STILL_MM) | (turned_degrees >= least * STILL_DEGREES)


def _estimate(
    series: np.ndarray, affine: np.ndarray, levels: Sequence["_Level"], most_points: int = MAX_POINTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre of the volume, and pose of each frame about it: (3,) mm, (time, 3) mm, (time, 3) degrees."""
    centre = affine[:3, :3] @ ((np.array(series.shape[:3]) - 1) / 2) + affine[:3, 3]
    transforms = np.tile(np.eye(4), (series.shape[3], 1, 1))
    for level in levels:
        transforms = _register_level(series, affine, centre, transforms, level, most_points)
    about_centre = _translation(-centre) @ transforms @ _translation(centre)
    course = np.concatenate([about_centre[:, :3, 3], _euler_degrees(about_centre)], axis=1)
    bolus = _mean_change(series)
    course -= _feigned_by_bolus(course, np.maximum(bolus, 0.0))
    # The very first frames are brighter, tissue by tissue, which feigns motion as well; no map is made of them.
    steady = int(np.argmax(bolus > -TRANSIENT))
    course[:steady] = course[steady]
    return centre, course[:, :3], course[:, 3:]


def findings_of(realignment: Realignment) -> tuple[Finding, ...]:
    """That frames were realigned, and by how much; nothing where the head lay still."""
    if not realignment.moved:
        return ()
    text = (
        f"{int(realignment.resampled.sum())} of {len(realignment.resampled)} frames were realigned: the head moved by "
        "up to "
        f"{realignment.largest_mm:.1f} mm and {realignment.largest_degrees:.1f} degrees"
    )
    return (Finding("motion_corrected", "note", text, round(realignment.largest_mm, 2), "--motion=none"),)


# ---------------------------------------------------------------------------------------------------------- the pose


def _register_level(
    series: np.ndarray, affine: np.ndarray, centre: np.ndarray, transforms: np.ndarray, level: _Level, most_points: int
) -> np.ndarray:
    """(time, 4, 4) poses, improved from `transforms` at one resolution."""
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    factors = tuple(
        int(np.clip(level.voxel_mm / mm + 1e-3, 1, max(1, size // 8)))
        for mm, size in zip(voxel_mm, series.shape[:3], strict=True)
    )
    sigma = tuple(float(level.blur_mm / 2.3548 / mm) if mm <= 0.5 * level.blur_mm else 0.0 for mm in voxel_mm * factors)
    # World coordinates count from the centre of the volume: float32 is finest there.
    to_world = _translation(-centre) @ affine @ np.diag([*factors, 1.0])
    to_world[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)

    begin, end = _reference_frames(series)
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

    about_centre = (_translation(-centre) @ transforms @ _translation(centre)).astype(np.float32)
    known = [
        jnp.asarray(array, jnp.float32) for array in (points.T, model, weights, np.linalg.inv(to_world), directions)
    ]
    found = []
    for first in range(0, series.shape[3], _FRAMES):
        frames = np.minimum(np.arange(first, first + _FRAMES), series.shape[3] - 1)
        volumes = _smaller(np.moveaxis(series[..., frames], 3, 0), factors, sigma)
        found.append(_register(volumes, about_centre[frames], *known, rounds=level.rounds, steps=level.steps))
    found = np.concatenate([np.asarray(part, np.float64) for part in found])[: series.shape[3]]
    return _translation(centre) @ found @ _translation(-centre)


def _reference_frames(series: np.ndarray) -> tuple[int, int]:
    """Half-open range; of a series that is shorter, all frames."""
    return REFERENCE_FRAMES if series.shape[3] >= REFERENCE_FRAMES[1] else (0, series.shape[3])


@functools.partial(jax.jit, static_argnames=("factors", "sigma"))
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
    for axis in (0, 1):  # the rim: the border of the head tells most about its pose
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
    """(point, image) what the signal may do without motion: orthonormal, zero for images that say nothing new.

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


@functools.partial(jax.jit, static_argnames=("rounds", "steps"))
def _register(
    volumes: jax.Array,
    transforms: jax.Array,
    points: jax.Array,
    model: jax.Array,
    weights: jax.Array,
    to_voxel: jax.Array,
    directions: jax.Array,
    rounds: int,
    steps: int,
) -> jax.Array:
    """(frame, 4, 4) poses of some frames; a frame that cannot be explained keeps the one it came with.

    Args:
      volumes: (frame, x, y, z).
      transforms: (frame, 4, 4) first guess.
      points: (3, point), mm.
      model: (point, image) nuisance images, then k motion images.
      weights: (point,).
      to_voxel: (4, 4), mm -> voxel index.
      directions: (6, k) of the motion images.
    """
    high = jax.lax.Precision.HIGHEST

    def sample(volume, transform):
        index = jnp.matmul(to_voxel, transform, precision=high)
        return _interpolate(volume, jnp.matmul(index[:3, :3], points, precision=high) + index[:3, 3:], _LINEAR)

    def register(volume, given):
        def one_round(state, _):
            transform, trust = state
            weight = weights * trust * sample(volume, transform)[1]
            weighted = model * weight[:, None]
            gram = jnp.matmul(weighted.T, model, precision=high)
            scale = jnp.sqrt(jnp.diagonal(gram)) + 1e-6
            gram = gram / scale[:, None] / scale[None, :] + _RIDGE * jnp.eye(len(gram), dtype=gram.dtype)
            factor = jax.scipy.linalg.cho_factor(gram)

            def one_step(transform, _):
                values, _ = sample(volume, transform)
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
        inside = jnp.sum(weights * sample(volume, transform)[1]) / jnp.sum(weights)
        cosine = 0.5 * (jnp.trace(transform[:3, :3]) - 1.0)
        plausible = (
            (inside >= MIN_INSIDE)
            & (cosine >= np.cos(np.radians(MAX_DEGREES)))
            & (jnp.linalg.norm(transform[:3, 3]) <= MAX_MM)
        )
        return jnp.where(plausible, transform, given)

    return jax.vmap(register)(volumes, transforms)


def _rigid(motion: jax.Array) -> jax.Array:
    """(4, 4) of a small shift (mm) and rotation vector (radian), (6,); the inverse up to second order is of -motion."""
    x, y, z = motion[3], motion[4], motion[5]
    angle = jnp.sqrt(jnp.sum(motion[3:] ** 2) + 1e-20)
    axis = jnp.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) / angle
    square = jnp.matmul(axis, axis, precision=jax.lax.Precision.HIGHEST)
    rotation = jnp.eye(3, dtype=motion.dtype) + jnp.sin(angle) * axis + (1.0 - jnp.cos(angle)) * square
    return jnp.eye(4, dtype=motion.dtype).at[:3, :3].set(rotation).at[:3, 3].set(motion[:3])


# ------------------------------------------------------------------------------------------------------- the bolus'
# share


def _mean_change(series: np.ndarray) -> np.ndarray:
    """(time,) -ln(S/S0) of the mean of the bright voxels, S0 of the reference."""
    begin, end = _reference_frames(series)
    before = series[..., begin:end].mean(axis=3, dtype=np.float32)
    signal = series[before > HEAD_SHARE * np.quantile(before, 0.95)].mean(axis=0, dtype=np.float64)
    return -np.log(np.maximum(signal, 1e-6) / max(np.median(signal[begin:end]), 1e-6)).clip(-3, 3)


def _feigned_by_bolus(course: np.ndarray, bolus: np.ndarray) -> np.ndarray:
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
    feigned = (shapes @ amplitudes).clip(-MAX_FEIGNED, MAX_FEIGNED)
    before, after = (np.abs(np.diff(rest[REFERENCE_FRAMES[0] :], axis=0)) for rest in (course, course - feigned))
    noise = 3.0 * np.median(before, axis=0)
    explained = np.maximum(after - noise, 0).sum(axis=0) < LARGEST_REST * np.maximum(before - noise, 0).sum(axis=0)
    return np.where(explained, feigned, 0.0)


# ----------------------------------------------------------------------------------------------------- interpolation


def _interpolate(volume: jax.Array, index: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
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
        reach = (0, 1) if order == _LINEAR else (-1, 0, 1, 2)
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
    if order == _LINEAR:
        return [1.0 - share, share]
    square, cube = share**2, share**3
    return [
        0.5 * (2 * square - cube - share),
        0.5 * (2 - 5 * square + 3 * cube),
        0.5 * (share + 4 * square - 3 * cube),
        0.5 * (cube - square),
    ]


def _bring_back(series: np.ndarray, affine: np.ndarray, transforms: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The series with the given frames in the pose of the reference; itself where there are none."""
    if not len(frames):
        return series
    still = np.setdiff1d(np.arange(series.shape[3])[slice(*REFERENCE_FRAMES)], frames)
    baseline = (series[..., still] if len(still) else series[..., :1]).mean(axis=3, dtype=np.float32)
    back = np.array(series, order="K")
    for frame in frames:
        there = np.linalg.inv(affine) @ transforms[frame] @ affine
        volume = jnp.asarray(np.ascontiguousarray(series[..., frame]), jnp.float32)
        moved = np.asarray(
            _resample(volume, baseline, jnp.asarray(there, jnp.float32), jnp.asarray(np.linalg.inv(there), jnp.float32))
        )
        if np.issubdtype(series.dtype, np.integer):
            limits = np.iinfo(series.dtype)
            moved = np.clip(np.rint(moved), limits.min, limits.max)
        back[..., frame] = moved
    return back


@jax.jit
def _resample(volume: jax.Array, baseline: jax.Array, there: jax.Array, back: jax.Array) -> jax.Array:
    """(x, y, z) of a frame in the pose of the reference.

    Args:
      volume: (x, y, z), the frame as acquired.
      baseline: (x, y, z), the reference.
      there, back: (4, 4), voxel index in the reference -> in the frame, and its inverse.
    """
    high = jax.lax.Precision.HIGHEST
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in volume.shape), indexing="ij"))
    index = jnp.matmul(there[:3, :3], grid.reshape(3, -1), precision=high) + there[:3, 3:]
    values, inside = _interpolate(volume, index, _CUBIC)
    # From outside: the nearest voxel's change, on this voxel's own signal.
    nearest = jnp.clip(index, 0.0, jnp.array(volume.shape, jnp.float32)[:, None] - 1.0)
    origin = jnp.matmul(back[:3, :3], nearest, precision=high) + back[:3, 3:]
    before = _interpolate(baseline, origin, _LINEAR)[0]
    own = baseline.reshape(-1)
    ratio = jnp.clip(own / jnp.maximum(before, 1e-3), 0.5, 2.0)
    return jnp.maximum(jnp.where(inside, values, values * ratio), 0.0).reshape(volume.shape)


# ---------------------------------------------------------------------------------------------------------- geometry


def _translation(millimetres: np.ndarray) -> np.ndarray:
    """(4, 4)."""
    matrix = np.eye(4)
    matrix[:3, 3] = millimetres
    return matrix


def _pose(millimetres: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """(time, 4, 4) of (time, 3) each, R = Rz Ry Rx; inverse of `_euler_degrees`."""
    matrices = np.tile(np.eye(4), (len(degrees), 1, 1))
    matrices[:, :3, 3] = millimetres
    matrices[:, :3, :3] = [rotation_matrix(angles) for angles in degrees]
    return matrices


def _angle_degrees(transforms: np.ndarray) -> np.ndarray:
    """(time,) angle of rotation of (time, 4, 4)."""
    rotation = transforms[:, :3, :3]
    sine = np.linalg.norm(rotation - np.swapaxes(rotation, 1, 2), axis=(1, 2)) / np.sqrt(8.0)
    cosine = 0.5 * (np.trace(rotation, axis1=1, axis2=2) - 1.0)
    return np.degrees(np.arctan2(sine, cosine))


def _euler_degrees(transforms: np.ndarray) -> np.ndarray:
    """(time, 3) angles about x, y, z of (time, 4, 4), R = Rz Ry Rx."""
    rotation = transforms[:, :3, :3]
    about_x = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    about_y = np.arcsin(np.clip(-rotation[:, 2, 0], -1.0, 1.0))
    about_z = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.degrees(np.stack([about_x, about_y, about_z], axis=1))
