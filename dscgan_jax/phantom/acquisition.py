"""How the scanner sees the phantom: coil bias, non-steady-state frames, drift, pulsation, motion and noise."""

import dataclasses

import numpy as np

from dscgan_jax.phantom.anatomy import Grid, SmoothField, Tissues, rotation_matrix
from dscgan_jax.threads import in_threads

# Signal before the bolus, grey matter = 1, gradient-echo EPI: long T2* is bright, air and bone are dark.
SIGNAL_OF = {"grey": 1.0, "white": 0.82, "csf": 1.70, "sinus": 0.90, "skull": 0.05, "scalp": 0.38}
DEEP_GREY_LOSS = 0.14  # iron
BLOOD_SIGNAL = 0.90
# How much stronger than in grey matter the first frame exceeds the steady state: it grows with T1.
TRANSIENT_OF = {"grey": 1.0, "white": 0.75, "csf": 2.4, "sinus": 0.5, "skull": 0.5, "scalp": 0.3}
# Air in the sinuses of the face and of the ear costs signal: centre in head coordinates (mirrored), mm; radius, mm;
# share of the signal that is lost.
AIR_CAVITIES = (((0.0, 42.0, -34.0), 17.0, 0.85), ((46.0, -20.0, -40.0), 11.0, 0.7))
LARGEST_SIGNAL = 32767
# Standard deviations along and about x, y, z of a movement: the head nods and slides along the bed.
SHIFT_MM, TURN_DEGREES = (0.9, 0.9, 1.6), (1.8, 0.7, 1.2)
_NOT_DRAWN = ("scalp_signal", "air_loss", "air_reach")  # by a `Scanner`; a preset may change them
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class Imperfections:
    """Imperfections of an exam, besides kinetics.

    Attributes:
      bias: sensitivity of the coil.
      non_steady_state: brighter first frames.
      drift: of the scanner.
      pulsation: of CSF and arteries, and respiration.
      motion: of the head; None draws whether the subject moves (about 15 %).
      noise: of the receiver.
      rounding: to integers; without it the series stays float32.
    """

    bias: bool = True
    non_steady_state: bool = True
    drift: bool = True
    pulsation: bool = True
    motion: bool | None = None
    noise: bool = True
    rounding: bool = True


REAL = Imperfections()
IDEAL = Imperfections(
    bias=False, non_steady_state=False, drift=False, pulsation=False, motion=False, noise=False, rounding=False
)


class Scanner:
    """What one acquisition does to the signal; numbers are drawn at once, so that they do not depend on the grid."""

    def __init__(self, rng: np.random.Generator):
        self.gain = float(np.exp(rng.uniform(np.log(350.0), np.log(1500.0))))  # scanner units of grey matter
        self.signal_to_noise = float(rng.uniform(30.0, 80.0))
        # By how much the first frame of grey matter is brighter; 0: dummy scans were run.
        self.transient_height = float(rng.uniform(0.05, 0.28) * (rng.random() > 0.2))
        self.transient_frames = float(rng.uniform(0.35, 1.1))  # decay constant
        self.drift = float(0.015 * rng.standard_normal())  # change of the signal over the exam
        self.drift_slope = 0.006 * rng.standard_normal(3)  # per 100 mm
        self.pulsation = float(rng.uniform(0.01, 0.03))  # of CSF and arteries
        self.pulsation_hertz = float(rng.uniform(0.05, 0.22))  # the heart beat, aliased
        self.respiration = float(rng.uniform(0.001, 0.003))
        self.respiration_hertz = float(rng.uniform(0.16, 0.3))
        self.bias_linear = 0.10 * rng.standard_normal(3).clip(-2, 2)  # logarithm, per 100 mm
        self.bias_square = rng.uniform(0.0, 0.35, 3)  # per (100 mm)^2: brighter at the coil
        self.csf_signal = SIGNAL_OF["csf"] * float(rng.uniform(0.85, 1.15))
        self.scalp_signal, self.air_loss, self.air_reach = SIGNAL_OF["scalp"], 1.0, 1.0
        self.texture, self.phase = SmoothField(rng, 9.0), SmoothField(rng, 30.0, waves=12)

    def parameters(self) -> dict[str, object]:
        """The drawn numbers."""
        plain = {
            name: value for name, value in vars(self).items() if isinstance(value, float) and name not in _NOT_DRAWN
        }
        return plain | {
            "drift_slope_per_100mm": self.drift_slope.tolist(),
            "bias_linear_per_100mm": self.bias_linear.tolist(),
            "bias_square_per_100mm2": self.bias_square.tolist(),
        }

    def baseline_signal(self, tissues: Tissues, points: np.ndarray) -> np.ndarray:
        """(voxel,) S0 in the steady state, without coil bias, scanner units."""
        level = SIGNAL_OF | {"csf": self.csf_signal, "scalp": self.scalp_signal}
        signal = sum(level[name] * getattr(tissues, name) for name in level) - DEEP_GREY_LOSS * tissues.deep_grey
        for (x, y, z), radius, loss in AIR_CAVITIES:
            distance = (np.abs(points[:, 0]) - x) ** 2 + (points[:, 1] - y) ** 2 + (points[:, 2] - z) ** 2
            lost = min(loss * self.air_loss, 1.0)
            signal = signal * (1.0 - lost * np.exp(-distance / (radius * self.air_reach) ** 2))
        return (self.gain * signal * (1.0 + 0.03 * self.texture(points))).astype(np.float32)

    def transient_share(self, tissues: Tissues, imperfections: Imperfections) -> np.ndarray:
        """(voxel,) by how much the first frame exceeds the steady state, as a share of it."""
        if not imperfections.non_steady_state:
            return np.zeros(len(tissues.grey), np.float32)
        weight = sum(TRANSIENT_OF[name] * SIGNAL_OF[name] * getattr(tissues, name) for name in TRANSIENT_OF)
        total = sum(SIGNAL_OF[name] * getattr(tissues, name) for name in TRANSIENT_OF)
        return (self.transient_height * weight / np.maximum(total, 1e-3)).astype(np.float32)

    def modulation(
        self,
        seconds: np.ndarray,
        world: np.ndarray,
        points: np.ndarray,
        pulsating: np.ndarray,
        transient: np.ndarray,
        imperfections: Imperfections,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loadings (voxel, k) and time courses (k, time), float32: the signal is multiplied by 1 + loadings @ courses.

        Args:
          seconds: (time,).
          world: (voxel, 3) scanner mm.
          points: (voxel, 3) head mm.
          pulsating: (voxel,) share of CSF and blood.
          transient: (voxel,) from `transient_share`.
          imperfections: which of them the exam has.
        """
        frames = np.arange(len(seconds))
        through = seconds / max(seconds[-1], 1.0)
        phase = 2.0 * self.phase(points)
        turn = 2 * np.pi * self.pulsation_hertz * seconds
        ones = np.ones(len(world))
        loadings = [transient]
        courses = [np.exp(-frames / self.transient_frames)]
        if imperfections.drift:
            loadings.append(self.drift + world @ self.drift_slope / 100.0)
            courses.append(through * (1.4 - 0.4 * through))
        if imperfections.pulsation:
            loadings += [
                self.pulsation * pulsating * np.cos(phase),
                self.pulsation * pulsating * np.sin(phase),
                self.respiration * ones,
            ]
            courses += [np.cos(turn), np.sin(turn), np.sin(2 * np.pi * self.respiration_hertz * seconds)]
        return np.stack(loadings, axis=1).astype(np.float32), np.stack(courses).astype(np.float32)

    def bias(self, world: np.ndarray) -> np.ndarray:
        """(...,) sensitivity of the coil at world positions (..., 3) mm; 1 in the middle."""
        position = world / 100.0
        return np.exp(position @ self.bias_linear + (position**2) @ self.bias_square).astype(np.float32)


# ------------------------------------------------------------------------------------------------ motion


@dataclasses.dataclass(frozen=True)
class Motion:
    """A rigid movement of the head during the exam, as a pose for each frame.

    Convention: a point of the head at world position p (mm, RAS) in the first frame is at R (p - c) + c + t in frame f,
    with R = Rz Ry Rx of `degrees[f]` (about the fixed x, y, z axes), t = `millimetres[f]` and c the centre of the
    volume, which is the world's origin. Truth maps show the head of the first frame, whose pose is zero.

    Attributes:
      millimetres: (time, 3).
      degrees: (time, 3).
    """

    millimetres: np.ndarray
    degrees: np.ndarray

    @property
    def moved(self) -> bool:
        """Whether the head is elsewhere in any frame than in the first."""
        return bool(np.any(self.millimetres) or np.any(self.degrees))

    def transforms(self) -> np.ndarray:
        """(time, 4, 4), world mm in the first frame -> world mm in each frame."""
        matrices = np.tile(np.eye(4), (len(self.degrees), 1, 1))
        for frame, angles in enumerate(self.degrees):
            matrices[frame, :3, :3] = rotation_matrix(angles)
            matrices[frame, :3, 3] = self.millimetres[frame]
        return matrices

    def record(self) -> dict[str, object]:
        """Plain values: the convention and, if the subject moved, the pose of each frame."""
        convention = (
            "a point at world position p (mm, RAS) in the first frame lies at R p + t in frame f; R = Rz Ry Rx of "
            "degrees about the fixed axes through the centre of the volume, which is the world's origin; t in mm"
        )
        if not self.moved:
            return {"convention": convention}
        return {
            "convention": convention,
            "degrees": np.round(self.degrees, 9).tolist(),
            "millimetres": np.round(self.millimetres, 9).tolist(),
            "transforms": self.transforms().tolist(),
        }


def draw_motion(rng: np.random.Generator, frames: int, moves: bool | None, probability: float = 0.15) -> Motion:
    """A movement within one to three frames; the head stays where it is then, or comes back after a while."""
    drawn = rng.random() < probability
    millimetres, degrees = np.zeros((frames, 3)), np.zeros((frames, 3))
    begin = int(rng.uniform(0.2, 0.8) * frames)
    ramp = int(rng.integers(1, 4))
    shift, turn = rng.normal(0, SHIFT_MM), rng.normal(0, TURN_DEGREES)
    shift *= max(1.0, 1.2 / np.linalg.norm(shift))  # smaller ones are not events
    turn *= max(1.0, 1.0 / np.linalg.norm(turn))
    back = begin + ramp + int(rng.integers(3, 15)) if rng.random() < 0.4 else 10 * frames
    remains = rng.uniform(0.0, 0.4)
    if drawn if moves is None else moves:
        frame = np.arange(frames)
        course = np.clip((frame - begin + 1) / ramp, 0, 1) - (1 - remains) * np.clip((frame - back + 1) / ramp, 0, 1)
        course = np.round(course, 6)
        millimetres, degrees = course[:, None] * shift, course[:, None] * turn
    return Motion(millimetres, degrees)


def move_frames(series: np.ndarray, affine: np.ndarray, transforms: np.ndarray, repeat_ends: bool = False) -> None:
    """Moves each frame of a series in place by its transform; linear interpolation, zero from outside the volume.

    Args:
      series: (x, y, z, time), float32, every frame in the pose of the first.
      affine: (4, 4), voxel index -> world mm.
      transforms: (time, 4, 4), as in `Motion`.
      repeat_ends: below the first and above the last slice the head goes on as in them.
    """
    poses, which = np.unique(transforms.reshape(len(transforms), 16), axis=0, return_inverse=True)
    for number, pose in enumerate(poses.reshape(-1, 4, 4)):
        if not np.allclose(pose, np.eye(4), atol=1e-12):
            _move(series, np.flatnonzero(which.ravel() == number), affine, pose, repeat_ends)


def _move(series: np.ndarray, frames: np.ndarray, affine: np.ndarray, pose: np.ndarray, repeat_ends: bool) -> None:
    """Gives some frames one pose."""
    shape = np.array(series.shape[:3])
    padded = np.zeros((*(shape + 2), len(frames)), np.float32)  # a rim of zeros: what comes from outside the volume
    padded[1:-1, 1:-1, 1:-1] = series[..., frames]
    if repeat_ends:
        padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    source = padded.reshape(-1, len(frames))
    lit = source.any(axis=1)
    steps = [np.ravel_multi_index(offset, padded.shape[:3]) for offset in np.ndindex(2, 2, 2)]
    # The value seen at x comes from the point that has moved to x.
    back = np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine
    target = series.reshape(-1, series.shape[3])

    def fill(begin: int) -> None:
        rows = np.arange(begin, min(begin + _CHUNK, len(target)))
        index = np.stack(np.unravel_index(rows, series.shape[:3]), axis=1) @ back[:3, :3].T + back[:3, 3] + 1.0
        index = np.clip(index, 0.0, shape + 1.0)
        corner = np.minimum(index.astype(np.int64), shape)
        fraction = (index - corner).astype(np.float32)
        start = np.ravel_multi_index(corner.T, padded.shape[:3])
        moved = np.zeros((len(rows), len(frames)), np.float32)
        for offset, step in zip(np.ndindex(2, 2, 2), steps, strict=True):
            weight = np.prod(np.where(offset, fraction, 1 - fraction), axis=1)
            some = np.flatnonzero(lit[start + step] & (weight > 0))
            moved[some] += weight[some, None] * source[start[some] + step]
        target[rows[0] : rows[-1] + 1, frames] = moved

    in_threads(fill, range(0, len(target), _CHUNK))


# ------------------------------------------------------------------------------------------------ noise


def measure(
    series: np.ndarray, bias: np.ndarray | None, sigma: float, seed: np.random.SeedSequence, rounding: bool
) -> np.ndarray:
    """Coil sensitivity, Rician noise and rounding to the scanner's integers.

    Args:
      series: (x, y, z, time), float32, true signal; changed in place.
      bias: (x, y, z) or None.
      sigma: standard deviation of the noise in each of the two channels; 0 = none.
      seed: of the noise; each plane of the volume has its own stream, so that threads cannot change it.
      rounding: int16 instead of float32.
    """
    measured = np.empty(series.shape, np.int16) if rounding else series
    seeds = seed.spawn(len(series))

    def measure_plane(plane: int) -> None:
        values = series[plane].reshape(-1, series.shape[3])
        if bias is not None:
            values *= bias[plane].reshape(-1, 1)
        if sigma > 0:
            rng = np.random.Generator(np.random.SFC64(seeds[plane]))
            lit = np.flatnonzero(values.any(axis=1))
            noise = np.float32(sigma)
            real = values[lit] + noise * rng.standard_normal((len(lit), values.shape[1]), dtype=np.float32)
            imaginary = noise * rng.standard_normal(real.shape, dtype=np.float32)
            # Without signal the magnitude is Rayleigh distributed: the root of an exponential.
            values[...] = noise * np.sqrt(2.0 * rng.standard_exponential(values.shape, dtype=np.float32))
            values[lit] = np.sqrt(real * real + imaginary * imaginary)
        if rounding:
            measured[plane] = np.clip(np.rint(values), 0, LARGEST_SIGNAL).reshape(series.shape[1:])

    in_threads(measure_plane, range(len(series)))
    return measured


def signal_courses(
    baseline: np.ndarray,
    delta_r2star: np.ndarray,
    echo_seconds: float,
    loadings: np.ndarray,
    courses: np.ndarray,
    out: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Writes S0 exp(-TE ΔR2*) (1 + loadings @ courses) into `out[rows]`.

    Args:
      baseline: (voxel,) S0.
      delta_r2star: (voxel, time), 1/s, or (0, time) where nothing changes.
      echo_seconds: TE.
      loadings: (voxel, k), from `Scanner.modulation`.
      courses: (k, time), likewise.
      out: (all voxels, time), float32.
      rows: (voxel,) of `out`.
    """

    def write(begin: int) -> None:
        part = slice(begin, begin + _CHUNK)
        values = loadings[part] @ courses
        values += 1.0
        values *= baseline[part, None]
        if len(delta_r2star):
            values *= np.exp(np.float32(-echo_seconds) * delta_r2star[part])
        out[rows[part]] = values

    in_threads(write, range(0, len(rows), _CHUNK))


def grid_bias(scanner: Scanner, grid: Grid) -> np.ndarray:
    """(x, y, z) sensitivity of the coil over the whole volume."""
    return scanner.bias(grid.points())
