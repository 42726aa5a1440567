"""Rigid realignment of a DSC series: whether and how far the head moved, and the frames brought back to the first ones.

Words: the *reference* is the median of the first frames after the very first one; the *pose* of a frame is the rigid
transform, world mm -> world mm, from the place of a point of the head in the reference to its place in that frame.
`registration.py` finds it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding
from dscgan_jax.kept import programs
from dscgan_jax.perfusion import registration
from dscgan_jax.threads import in_threads

CORRECTIONS = ("none", "rigid")  # the choices of a user
# A head whose largest motion is below both of these lay still: still phantoms of 1 to 27 slices reach 0.77 mm, 0.7
# degrees.
MOVED_MM = 0.8
MOVED_DEGREES = 0.8
# In a head that moved:
STILL_MM = 0.2  # below both, a frame counts as still: less than a tenth of a voxel
STILL_DEGREES = 0.2
STILL_IN_PLANE = 2.5  # times as much where slices are too few: the bolus of a single slice mimics as much
# mm and degrees: where the coarse resolution finds less in all frames, the fine one is not asked. Jerks of 0.8 to 1.4
# are 0.8 or more there, still heads mostly below 0.5, with few slices up to 1.7 (studies/poses.py).
SURELY_STILL = 0.6
MUCH = 1.0  # mm or degrees: half a voxel, which costs a third of the Dice of Tmax > 6 s
# mm or degrees: from here on frames that were brought back lack too much. Up to 2 mm and 3 degrees Dice of Tmax > 6 s
# is that of a still head (docs/validation.md); jerks of 5-8 mm double to quadruple the error (docs/phantom.md).
BEYOND_REPAIR = 5.0
FEWER_POINTS = 8192  # where nothing is realigned: the error of the pose is that of all points, within 0.03 mm


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
        return float(registration.angle_degrees(self.transforms).max())

    def nuisance_regressors(self) -> np.ndarray:
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
    1981;29:1153). A voxel that comes from outside the volume has the course of the nearest acquired voxel
    with its own reference signal.

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
        raise InputError("realignment: the series is not finite; replace such values before.")
    centre, millimetres, degrees = registration.estimate_poses(series, affine, still=SURELY_STILL)
    about_centre = registration.pose_matrices(millimetres, degrees)
    transforms = registration.translation(centre) @ about_centre @ registration.translation(-centre)
    in_plane = series.shape[2] < registration.MIN_SLICES
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


def sampled_alike(realignment: Realignment, affine: np.ndarray, frames: slice) -> np.ndarray | None:
    """The realigned series with frames at rest blurred about as much as those that were brought back, (x, y, z, time).

    What moved was sampled elsewhere and interpolated back, so that thin arteries share their voxels with more of what
    is around: their signal falls less than in frames that lay still. A head that moves while the bolus passes thus cuts
    an artery's curve short. Here frames that lay still, or nearly so, are taken to the pose of the middle one of those
    that moved far, and back.

    Args:
      realignment: of the series.
      affine: (4, 4), voxel index -> world mm.
      frames: in which all should be about alike.

    Returns:
      the series; None where the frames are alike already: all of them moved far, or none.
    """
    angle = registration.angle_degrees(realignment.transforms)
    far = (np.linalg.norm(realignment.millimetres, axis=1) >= MOVED_MM) | (angle >= MOVED_DEGREES)
    moved = np.arange(len(far))[frames][far[frames]]
    if not len(moved) or far[frames].all():
        return None
    still = np.flatnonzero(~far)
    poses = np.broadcast_to(realignment.transforms[moved[len(moved) // 2]], realignment.transforms.shape)
    reference = realignment.series[..., slice(*registration.reference_frames(realignment.series))].mean(
        axis=3, dtype=np.float32
    )
    away = _bring_back(realignment.series, affine, np.linalg.inv(poses), still, reference)
    return _bring_back(away, affine, poses, still, reference)


Realigned = tuple[Realignment | None, tuple[Finding, ...]]


def realign_if_possible(series: np.ndarray, affine: np.ndarray) -> Realigned:
    """As `realign`, with findings; None, and a finding, where too little is bright to find a pose."""
    try:
        realignment = realign(series, affine)
    except registration.NoHeadError as error:
        return None, (Finding("motion", "note", f"head motion was not looked for ({error})"),)
    return realignment, findings_of(realignment)


def look_for_motion(series: np.ndarray, affine: np.ndarray) -> tuple[Finding, ...]:
    """How far the head moved in a series that is used as it is; no finding where it lay still.

    Args:
      series: (x, y, z, time), scanner units, finite.
      affine: (4, 4), voxel index -> world mm.
    """
    affine = np.asarray(affine, np.float64)
    try:
        _, millimetres, degrees = registration.estimate_poses(
            series, affine, most_points=FEWER_POINTS, still=SURELY_STILL
        )
    except registration.NoHeadError as error:
        return (Finding("motion", "note", f"head motion was not looked for ({error})"),)
    poses = registration.pose_matrices(millimetres, degrees)
    moved = _has_moved(millimetres, poses, series.shape[2] < registration.MIN_SLICES)
    if not moved.any():
        return ()
    largest_mm = float(np.linalg.norm(millimetres, axis=1).max())
    largest_degrees = float(registration.angle_degrees(poses).max())
    text = (
        f"the head moved by up to {largest_mm:.1f} mm and {largest_degrees:.1f} degrees in {int(moved.sum())} of "
        f"{len(moved)} frames, which were not realigned"
    )
    severity = "warning" if max(largest_mm, largest_degrees) >= MUCH else "note"
    return (Finding("motion", severity, text, round(largest_mm, 2), "--motion=rigid"),)


def _has_moved(millimetres: np.ndarray, transforms: np.ndarray, in_plane: bool) -> np.ndarray:
    """(time,) whether a frame counts as moved; none does where the head lay still."""
    least = STILL_IN_PLANE if in_plane else 1.0
    moved_mm, turned_degrees = np.linalg.norm(millimetres, axis=1), registration.angle_degrees(transforms)
    if moved_mm.max() < MOVED_MM and turned_degrees.max() < MOVED_DEGREES:
        return np.zeros(len(moved_mm), bool)
    return (moved_mm >= least * STILL_MM) | (turned_degrees >= least * STILL_DEGREES)


def findings_of(realignment: Realignment) -> tuple[Finding, ...]:
    """That frames were realigned, and by how much; a warning where too far; nothing where the head lay still."""
    if not realignment.moved:
        return ()
    text = (
        f"{int(realignment.resampled.sum())} of {len(realignment.resampled)} frames were realigned: the head moved by "
        f"up to {realignment.largest_mm:.1f} mm and {realignment.largest_degrees:.1f} degrees"
    )
    severity = "note"
    if max(realignment.largest_mm, realignment.largest_degrees) >= BEYOND_REPAIR:
        severity, text = "warning", f"{text}, further than realigning makes up for, so the maps may be wrong"
    return (Finding("motion_corrected", severity, text, round(realignment.largest_mm, 2), "--motion=none"),)


def _bring_back(
    series: np.ndarray,
    affine: np.ndarray,
    transforms: np.ndarray,
    frames: np.ndarray,
    baseline: np.ndarray | None = None,
) -> np.ndarray:
    """The series with the given frames in the pose of the reference; itself where there are none.

    `baseline` (x, y, z) is the reference, by default the mean of those of its frames that are not given.
    """
    if not len(frames):
        return series
    if baseline is None:
        still = np.setdiff1d(np.arange(series.shape[3])[slice(*registration.REFERENCE_FRAMES)], frames)
        baseline = (series[..., still] if len(still) else series[..., :1]).mean(axis=3, dtype=np.float32)
    back = np.array(series, order="K")

    def bring_back(frame: int) -> None:
        there = np.linalg.inv(affine) @ transforms[frame] @ affine
        volume = jnp.asarray(np.ascontiguousarray(series[..., frame]), jnp.float32)
        back_again = jnp.asarray(np.linalg.inv(there), jnp.float32)
        moved = np.asarray(_resample(volume, baseline, jnp.asarray(there, jnp.float32), back_again))
        if np.issubdtype(series.dtype, np.integer):
            limits = np.iinfo(series.dtype)
            moved = np.clip(np.rint(moved), limits.min, limits.max)
        back[..., frame] = moved

    in_threads(bring_back, frames)
    return back


@programs.jit
def _resample(volume: jax.Array, baseline: jax.Array, there: jax.Array, back: jax.Array) -> jax.Array:
    """(x, y, z) of a frame in the pose of the reference.

    Args:
      volume: (x, y, z), the frame as acquired.
      baseline: (x, y, z), the reference.
      there: (4, 4), voxel index in the reference -> in the frame.
      back: (4, 4), its inverse.
    """
    high = jax.lax.Precision.HIGHEST
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in volume.shape), indexing="ij"))
    index = jnp.matmul(there[:3, :3], grid.reshape(3, -1), precision=high) + there[:3, 3:]
    values, inside = registration.interpolate(volume, index, registration.CUBIC)
    # From outside the volume: the nearest voxel's change, on this voxel's own signal.
    nearest = jnp.clip(index, 0.0, jnp.array(volume.shape, jnp.float32)[:, None] - 1.0)
    origin = jnp.matmul(back[:3, :3], nearest, precision=high) + back[:3, 3:]
    before = registration.interpolate(baseline, origin, registration.LINEAR)[0]
    own = baseline.reshape(-1)
    ratio = jnp.clip(own / jnp.maximum(before, 1e-3), 0.5, 2.0)
    return jnp.maximum(jnp.where(inside, values, values * ratio), 0.0).reshape(volume.shape)
