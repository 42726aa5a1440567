"""What voxels of a neighbourhood say together of the artery that feeds them, for the parametric fit.

The mean curve around a voxel has less noise than its own, and dispersion, which no single curve can tell, shows in it.
But mixing curves of different arrival looks like dispersion, and those with the most flow have the most say in it. So
the mean curve tells dispersion and MTT; the arrival is the mean of the voxels' own, each fitted with that dispersion.
"""

import numpy as np
from scipy import ndimage

from dscgan_jax.perfusion import kinetics, morphology
from dscgan_jax.perfusion.smoothing import REACH, smoothed
from dscgan_jax.threads import in_threads

DETECTED = 8.0  # gain in log likelihood over no flow (4 sigma) from which on a voxel counts for its neighbours
DISPERSION_REACH = 2.0  # neighbourhoods: dispersion is hardest to tell, and changes least from place to place
LEAST_SHARE = 0.05  # of a neighbourhood; below it, it is too little to hold a mean
FWHM_PER_SIGMA = 2.3548
MEDIAN_SQUARE = 0.455  # of a normal deviation over its variance


class Neighbourhood:
    """Gaussian sums over the neighbours of each voxel inside the mask."""

    def __init__(self, mask: np.ndarray, voxel_mm: np.ndarray, fwhm_mm: float) -> None:
        """Of a mask (x, y, z) bool with edge lengths (3,)."""
        mask = mask[morphology.box_of(mask)]  # beyond it there is nothing to sum up
        self.shape = mask.shape
        self.where = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
        self.sigma = fwhm_mm / FWHM_PER_SIGMA / voxel_mm

    def sums(self, voxels: np.ndarray, reach: float = 1.0) -> np.ndarray:
        """Weighted sums (voxel,) of values (voxel,); the Gaussian is `reach` times as wide."""
        volume = np.zeros(np.prod(self.shape), np.float32)
        volume[self.where] = voxels
        sums = smoothed(volume.reshape(self.shape, order="F"), reach * self.sigma, mode="constant")
        return sums.ravel(order="F")[self.where]

    def mean_curves(self, data: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Mean curves (voxel, dimension) in units of their own noise; the noise of neighbours is independent.

        Args:
          data: (voxel, dimension), each in units of its noise.
          noise: (voxel,) of one frame, mM.
        """
        # The square of a Gaussian is one of a width smaller by the root of 2.
        squares = 1.0
        for sigma in self.sigma:
            width = int(REACH * sigma + 0.5)
            line = ndimage.gaussian_filter1d(np.eye(2 * width + 1)[width], sigma, mode="constant", truncate=REACH)
            squares *= float((line**2).sum())
        mean_noise = np.sqrt(squares * self.sums(noise**2, 0.5**0.5))
        return np.stack(in_threads(lambda column: self.sums(column * noise) / mean_noise, data.T), axis=1)


def shared_by_neighbours(place: np.ndarray, gain: np.ndarray, around: Neighbourhood, default: np.ndarray) -> np.ndarray:
    """Delay, ln MTT and ln dispersion (voxel, 3) that the mean curves around the voxels tell.

    The dispersion is a mean over a wider neighbourhood, and the arrival stays when it changes. Where the mean curve
    shows no first pass, all three are such means.

    Args:
      place: (voxel, 3) delay, ln MTT and ln dispersion of the mean curve around each voxel.
      gain: (voxel,) of its fit, in log likelihood over no flow.
      around: the neighbourhood.
      default: (3,) where there is no first pass far and wide.
    """
    seen = np.float32(gain > DETECTED)
    total = around.sums(seen, DISPERSION_REACH)
    place = np.where(np.arange(3) == 0, place + travel(place), place)
    default = np.where(np.arange(3) == 0, default + travel(default[None])[0], default)
    wide = np.stack([around.sums(np.where(seen > 0, column, 0.0), DISPERSION_REACH) for column in place.T], axis=1)
    wide = np.where(total[:, None] > LEAST_SHARE, wide / np.maximum(total, LEAST_SHARE)[:, None], default)
    means = np.where((seen[:, None] > 0) & (np.arange(3) < 2), place, wide)
    means[:, 0] -= travel(means)[:, 0]
    return means.astype(np.float32)


def with_mean_arrival(means: np.ndarray, place: np.ndarray, gain: np.ndarray, around: Neighbourhood) -> np.ndarray:
    """`means` (voxel, 3) with the delay that follows from the mean arrival of the neighbours' own curves.

    Args:
      means: from `shared_by_neighbours`; its delay stays where no neighbour shows a first pass.
      place: (voxel, 3) delay, ln MTT and ln dispersion of each voxel's own curve.
      gain: (voxel,) of its fit.
      around: the neighbourhood.
    """
    seen = np.float32(gain > DETECTED)
    total = around.sums(seen)
    own = np.where(seen > 0, (place[:, :1] + travel(place))[:, 0], 0.0)
    arrival = around.sums(own) / np.maximum(total, LEAST_SHARE)
    delay = np.where(total > LEAST_SHARE, arrival - travel(means)[:, 0], means[:, 0])
    return np.stack([delay, *means.T[1:]], axis=1).astype(np.float32)


def travel(place: np.ndarray) -> np.ndarray:
    """Mean travelling time (voxel, 1), s, of places (voxel, 3)."""
    return kinetics.DISPERSION_SHAPE * np.exp(place[:, 2:])


def seconds_apart(place: np.ndarray, gain: np.ndarray, curvature: np.ndarray, means: np.ndarray) -> float:
    """How far arrivals lie from those of the neighbours beyond their own uncertainty, s; 0 where they share them.

    Medians over the voxels that show a first pass, so that borders between territories do not count.

    Args:
      place: (voxel, 3) of some voxels that were fitted alone.
      gain: (voxel,) of their fit.
      curvature: (voxel, 3, 3) of their negative log posterior.
      means: (voxel, 3) of their neighbours.
    """
    sure = gain > DETECTED
    if not sure.any():
        return 0.0
    away = (place[:, :1] + travel(place) - means[:, :1] - travel(means))[sure, 0]
    slopes = np.stack([np.ones(len(place)), np.zeros(len(place)), travel(place)[:, 0]], axis=1)[sure]
    own = np.einsum("vi,vij,vj->v", slopes, np.linalg.inv(curvature[sure]), slopes)
    return float(np.sqrt(max(np.median(away**2) / MEDIAN_SQUARE - np.median(own), 0.0)))
