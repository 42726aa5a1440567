"""Deconvolution by singular values: concentration in tissue and artery -> CBF, CBV, MTT, Tmax, without a tissue model.

The equation is that of `kinetics.py`: C_t = (rho / kappa) (CBF / 6000) C_a (*) (h (*) R). It is solved for the impulse
response f = (rho / kappa) (CBF / 6000) (h (*) R) in 1/s, regularised by leaving out the weak singular values:

  ssvd  the plain one, lower triangular matrix (Ostergaard et al., Magn Reson Med 1996;36:715); a late AIF breaks it.
        For tests and teaching.
  csvd  block-circulant on twice the length: the singular values are the sizes of the spectrum of the AIF
  osvd  the same, each voxel with the lowest truncation threshold whose response oscillates little (Wu et al., Magn
        Reson Med 2003;50:164)

CBF is the peak of f, Tmax its time. Regularisation flattens and delays the peak: CBF comes out too low, Tmax too late
by an amount that grows with MTT and truncation threshold, not with the arterial delay (docs/validation.md). A *lag* is
a time of f. Lags of the circulant methods are signed: the artery that was measured need not be the one that fills
first. All times are finer than a frame. `parametric.py` is the other way.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.kept import programs
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.deconvolved import Deconvolved
from dscgan_jax.threads import in_threads

SVD_METHODS = ("ssvd", "csvd", "osvd")
# Shares of the largest singular value; the usual ones (Wu et al. 2003).
TRUNCATION_THRESHOLD = {"ssvd": 0.2, "csvd": 0.1}
OSCILLATION_INDEX = 0.035  # the largest one of osvd, in common use
OSVD_THRESHOLDS = np.arange(0.95, 0.04, -0.05)  # strongest regularisation first

BLOCK = 2048  # voxels per call: one compilation serves exams of any size, and threads end together
EARLIEST_SECONDS, LATEST_SECONDS = -10.0, 40.0  # lags at which the peak is looked for: noise has peaks at any lag
VOLUME_LAGS = (-5.0, 30.0)  # s: of `response_cbv`; longer lags add more noise than blood
_UPSAMPLED = 2  # the block-circulant response is evaluated so much finer than a frame before its peak is refined
_CHUNK = 1024  # voxels at a time within a call
_COEFFICIENTS = 32  # their number is padded to multiples
_FLOW = 6000.0 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR  # impulse response in 1/s -> mL/100 g/min


def transit_seconds(cbf: np.ndarray, cbv: np.ndarray) -> np.ndarray:
    """MTT = 60 CBV / CBF, s, (voxel,) float32; 0 where nothing flows or the area is negative (noise)."""
    return kinetics.mean_transit_seconds(cbf, np.maximum(cbv, 0.0)).astype(np.float32)


def area_cbv(tissue: np.ndarray, arterial: np.ndarray) -> np.ndarray:
    """CBV from the ratio of the areas, mL/100 g, (voxel,): needs no deconvolution (Rempp et al., Radiology 1994).

    Args:
      tissue: (voxel, time), mM.
      arterial: (time,), mM.
    """
    return (100.0 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR / arterial.sum() * tissue.sum(axis=1)).astype(np.float32)


def response_cbv(
    tissue: np.ndarray, arterial: np.ndarray, frame_seconds: float, nuisance_regressors: np.ndarray | None = None
) -> np.ndarray:
    """CBV from the area of the impulse response, mL/100 g, (voxel,).

    The same quantity as `area_cbv`, with a third of its noise: an error of the baseline signal adds up over all frames
    of a ratio of areas. Here the level of the curve is fitted beside the response, which is 0 except at the lags at
    which blood can be in the voxel. All of it is linear: one weight for each frame. The price is blood that stays
    longer than these lags: 1 % of CBV at an MTT of 4 s, 12 % at 12 s.

    Frames before the steady state, where curves are 0, count: they hold the level where it belongs, which is nearer to
    the truth in phantoms with drift than leaving them out, and farther where the baseline itself is wrong.

    Args:
      tissue: (voxel, time), mM.
      arterial: (time,), mM.
      frame_seconds: TR.
      nuisance_regressors: (time, regressor) that any curve may hold besides its level, such as what is left of motion;
        None: no others.
    """
    n = len(arterial)
    lags = np.arange(np.ceil(VOLUME_LAGS[0] / frame_seconds), np.floor(VOLUME_LAGS[1] / frame_seconds) + 1)
    frame = np.arange(n)[:, None] - lags.astype(int)
    seen = (frame >= 0) & (frame < n)
    matrix = frame_seconds * np.where(seen, _interpolated(np.asarray(arterial, np.float64))[frame.clip(0, n - 1)], 0.0)
    others = np.ones((n, 1)) if nuisance_regressors is None else np.column_stack([np.ones(n), nuisance_regressors])
    free = np.eye(n) - others @ np.linalg.pinv(others)
    inverse = np.linalg.pinv(free @ matrix, rcond=TRUNCATION_THRESHOLD["csvd"])
    weights = frame_seconds * (inverse @ free).sum(axis=0)
    return (100.0 / kinetics.DENSITY_OVER_HAEMATOCRIT_FACTOR * (tissue @ np.float32(weights))).astype(np.float32)


# ----------------------------------------------------------------------------------------------------- SVD


def deconvolve_svd(
    tissue: np.ndarray,
    arterial: np.ndarray,
    frame_seconds: float,
    method: str = "osvd",
    truncation_threshold: float | None = None,
    oscillation_index: float = OSCILLATION_INDEX,
) -> Deconvolved:
    """CBF, CBV, MTT and Tmax without a model of the tissue.

    Args:
      tissue: (voxel, time), mM.
      arterial: (time,), mM.
      frame_seconds: TR.
      method: `ssvd`, `csvd` or `osvd`.
      truncation_threshold: singular values below this share of the largest are left out (`ssvd`, `csvd`; None: that
        of `TRUNCATION_THRESHOLD`).
      oscillation_index: the largest one (`osvd`): each voxel has the weakest regularisation that stays below it.
    """
    arterial = np.asarray(arterial, np.float64)
    if method == "ssvd":
        step, lags = frame_seconds, np.arange(len(arterial)) * frame_seconds
    else:  # the second half of the period are the lags before zero
        step, count = frame_seconds / _UPSAMPLED, 2 * len(arterial) * _UPSAMPLED
        lags = (np.arange(count) - count * (np.arange(count) > count // 2)) * step
    allowed = (lags >= EARLIEST_SECONDS) & (lags <= LATEST_SECONDS)
    if method in TRUNCATION_THRESHOLD and truncation_threshold is None:
        truncation_threshold = TRUNCATION_THRESHOLD[method]
    if method == "ssvd":
        inverse = standard_inverse(arterial, frame_seconds, truncation_threshold)
        find_peaks = functools.partial(_peaks_of_product, inverse=jnp.float32(inverse), allowed=None)
    elif method == "csvd":
        inverse = circulant_inverse(arterial, frame_seconds, truncation_threshold, _UPSAMPLED)
        find_peaks = functools.partial(_peaks_of_product, inverse=jnp.float32(inverse), allowed=jnp.asarray(allowed))
    elif method == "osvd":
        analysis, strength, synthesis, fine = _spectral_parts(arterial, frame_seconds)
        find_peaks = functools.partial(
            _calm_peaks,
            analysis=jnp.float32(analysis),
            keep=jnp.float32(strength >= OSVD_THRESHOLDS[:, None]),
            synthesis=jnp.float32(synthesis),
            fine=jnp.float32(fine),
            largest_index=jnp.float32(oscillation_index),
            allowed=jnp.asarray(allowed),
        )
    else:
        raise ValueError(f"method {method!r}: expected one of {', '.join(SVD_METHODS)}")
    peak, lag = in_blocks(find_peaks, tissue)
    if method != "ssvd":
        lag = np.where(lag > len(lags) // 2, lag - len(lags), lag)
    cbf = _FLOW * np.maximum(peak, 0.0)
    cbv = area_cbv(tissue, arterial)
    return Deconvolved(cbf, cbv, transit_seconds(cbf, cbv), (lag * step).astype(np.float32))


def standard_inverse(arterial: np.ndarray, frame_seconds: float, truncation_threshold: float) -> np.ndarray:
    """(time, time) matrix from a tissue curve to its impulse response: the pseudo-inverse of the Toeplitz matrix."""
    n = len(arterial)
    lags = np.arange(n)[:, None] - np.arange(n)[None, :]
    matrix = frame_seconds * np.where(lags >= 0, _interpolated(arterial)[lags], 0.0)
    left, strength, right = np.linalg.svd(matrix)
    weight = np.where(strength >= truncation_threshold * strength[0], 1.0 / np.maximum(strength, 1e-300), 0.0)
    return (right.T * weight) @ left.T


def circulant_inverse(
    arterial: np.ndarray, frame_seconds: float, truncation_threshold: float, upsampled: int = 1
) -> np.ndarray:
    """(2 upsampled time, time) matrix from a tissue curve to its impulse response over twice the length.

    A block-circulant matrix is diagonal in the Fourier basis; its singular values are the sizes of the spectrum of the
    zero-padded AIF. `upsampled` evaluates the response between the frames as well.
    """
    n = len(arterial)
    spectrum = frame_seconds * np.fft.rfft(_padded(arterial))
    strength = np.abs(spectrum)
    kept = strength >= truncation_threshold * strength.max()
    inverse = np.where(kept, 1.0 / np.where(strength > 0, spectrum, 1.0), 0.0)
    unit = np.fft.rfft(np.eye(n), 2 * n, axis=1)
    spectrum = unit * inverse
    if upsampled > 1:  # the highest frequency stands for itself alone, as it does without upsampling
        spectrum[:, -1] *= 0.5
    return np.fft.irfft(spectrum, 2 * n * upsampled, axis=1).T * upsampled


def oscillation_index_of(response: jax.Array) -> jax.Array:
    """Mean size of the second difference over the largest value, (voxel,), of (voxel, time) (Wu et al. 2003)."""
    bend = response[:, 2:] - 2.0 * response[:, 1:-1] + response[:, :-2]
    return jnp.abs(bend).sum(axis=1) / response.shape[1] / jnp.maximum(response.max(axis=1), 1e-30)


def _interpolated(arterial: np.ndarray) -> np.ndarray:
    """Weights of the convolution sum for curves that are linear between frames (Ostergaard et al. 1996, Eq. 10)."""
    padded = np.concatenate([arterial[:1], arterial, arterial[-1:]])
    return (padded[:-2] + 4.0 * padded[1:-1] + padded[2:]) / 6.0


def _padded(arterial: np.ndarray) -> np.ndarray:
    return np.concatenate([_interpolated(arterial), np.zeros(len(arterial))])


def _spectral_parts(
    arterial: np.ndarray, frame_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the block-circulant inversion, apart at the singular values.

    Returns the product of transform and unregularised inversion (time, coefficient), each coefficient's singular value
    over the largest (coefficient,), and the way back to frames and to finer times (coefficient, time). A coefficient is
    the real or the imaginary part of a frequency.
    """
    n = len(arterial)
    spectrum = frame_seconds * np.fft.rfft(_padded(arterial))
    strength = np.abs(spectrum) / np.abs(spectrum).max()
    used = strength >= OSVD_THRESHOLDS.min()
    inverted = np.fft.rfft(np.eye(n), 2 * n, axis=1)[:, used] / spectrum[used]
    analysis = np.concatenate([inverted.real, inverted.imag], axis=1)
    frequency = np.flatnonzero(used)
    weight = np.where((frequency == 0) | (frequency == n), 1.0, 2.0) / (2 * n)
    spare = [(0, -2 * len(frequency) % _COEFFICIENTS)]  # exams share compiled code

    def back(upsampled: int) -> np.ndarray:
        angle = np.pi * np.outer(frequency, np.arange(2 * n * upsampled)) / (n * upsampled)
        waves = np.concatenate([weight[:, None] * np.cos(angle), -weight[:, None] * np.sin(angle)])
        return np.pad(waves, [*spare, (0, 0)])

    return np.pad(analysis, [(0, 0), *spare]), np.pad(np.tile(strength[used], 2), spare), back(1), back(_UPSAMPLED)


@programs.jit
def _peaks_of_product(
    tissue: jax.Array, *, inverse: jax.Array, allowed: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Height and place of the peak of each voxel's response, each (voxel,); `allowed` (lag,) of a circular one."""
    return by_chunks(lambda part: _refined_peak(part @ inverse.T, allowed), tissue)


@programs.jit
def _calm_peaks(
    tissue: jax.Array,
    *,
    analysis: jax.Array,
    keep: jax.Array,
    synthesis: jax.Array,
    fine: jax.Array,
    largest_index: jax.Array,
    allowed: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """As `_peaks_of_product`, with the lowest truncation threshold of each voxel whose response stays calm.

    Thresholds are tried from the lowest on until every voxel of the chunk has one; a response that is calm at no
    threshold gets the highest.

    Args:
      tissue: (voxel, time), mM.
      analysis: (time, coefficient), from a curve to coefficients, of `_spectral_parts`.
      synthesis: (coefficient, time), from coefficients to a response.
      fine: (coefficient, lag), likewise on finer times.
      keep: (threshold, coefficient), 1 where the coefficient is kept, highest threshold first.
      largest_index: oscillation index below which a response is calm.
      allowed: (lag,) bool, where it may peak.
    """
    last = len(keep) - 1

    def chunk(part: jax.Array) -> tuple[jax.Array, jax.Array]:
        coefficients = part @ analysis

        def calm(threshold: jax.Array) -> jax.Array:
            return oscillation_index_of((coefficients * keep[threshold][None]) @ synthesis) < largest_index

        def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            tried, _, found = carry
            return (tried >= 0) & ~found.all()

        def stronger(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            tried, threshold, found = carry
            threshold = jnp.where(found, threshold, tried)
            return tried - 1, threshold, found | calm(tried)

        nobody = jnp.zeros(len(part), bool)
        start = (jnp.int32(last), jnp.zeros(len(part), jnp.int32), nobody)
        _, threshold, _ = jax.lax.while_loop(unfinished, stronger, start)
        return _refined_peak((coefficients * keep[threshold]) @ fine, allowed)

    return by_chunks(chunk, tissue)


def in_blocks(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """`function` over blocks of `BLOCK` rows, the last one padded with its last row, as NumPy arrays, in threads.

    One compilation serves exams of any size.
    """
    arrays = [np.asarray(array) for array in arrays]
    count = len(arrays[0])

    def of_block(begin: int) -> Any:
        rows: slice | np.ndarray = slice(begin, begin + BLOCK)
        if begin + BLOCK > count:
            rows = np.minimum(np.arange(begin, begin + BLOCK), count - 1)
        return jax.tree.map(np.asarray, function(*(array[rows] for array in arrays)))

    results = in_threads(of_block, range(0, count, BLOCK))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


def by_chunks(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """Inside a jitted function: `function` over chunks of rows, so that work arrays stay in the processor's cache."""
    parts = [array.reshape(-1, _CHUNK, *array.shape[1:]) for array in arrays]
    result = jax.lax.map(lambda part: function(*part), parts)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), result)


def _refined_peak(response: jax.Array, allowed: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Largest value of each row and its place, both refined by the parabola through it and its neighbours.

    `allowed` (lag,) bool says where a circular response may peak; None: it is not circular.
    """
    length = response.shape[1]
    index = (response if allowed is None else jnp.where(allowed[None], response, -jnp.inf)).argmax(axis=1)
    middle = jnp.clip(index, 1, length - 2) if allowed is None else index
    take = functools.partial(jnp.take_along_axis, response, axis=1)
    left, centre, right = (take(((middle + step) % length)[:, None])[:, 0] for step in (-1, 0, 1))
    shift, height = signal.parabola_top(left, centre, right, jnp)
    inside = index == middle
    return jnp.where(inside, height, take(index[:, None])[:, 0]), jnp.where(inside, middle + shift, index)
