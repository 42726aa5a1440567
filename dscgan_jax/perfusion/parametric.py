"""The parametric fit: CBF, arterial delay, MTT and dispersion of each voxel from its curve.

Model of a voxel's curve (after Mouridsen et al., J Cereb Blood Flow Metab 2014;34:1511; equation in `kinetics.py`):

  C_t(t) = CBF a(t; delay, MTT, dispersion) + offset + slope t + nuisance regressors + noise

a is the curve of unit flow with gamma-distributed transit times and a gamma-shaped vascular transport function, whose
scale is the dispersion. Offset and slope take up the error of the baseline and the drift of the scanner, which would
look like a longer or later first pass; further nuisance regressors, if given, take up what is left of the head's motion
in a realigned series. Delay, ln MTT and ln dispersion have normal priors, so that noise does not look like physiology.
The answer is the maximum of the posterior.

How it is found: the curves of a grid of parameters, freed of offset and slope, span a space of few dimensions. Data and
grid are projected into it once. A coarse grid, as one matrix product, gives each voxel its start; Levenberg-Marquardt
steps on the fine grid, whose values, slopes and inner products are tables, go on from there to places between the
nodes. With `neighbourhood_mm`, delay and dispersion are then pulled towards their mean among the neighbours, which
share an artery. The shape of the transit times, between well mixed and plug flow, is one for the whole exam: the one
under which its voxels are likeliest.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import interpolate, ndimage, stats

from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.deconvolution import Deconvolved, by_chunks, in_blocks
from dscgan_jax.perfusion.kinetics import Perfusion

DIMENSIONS = 20  # of the projection; what it leaves out of the grid's curves is far below any noise
DELAY_STEP = 0.25  # s
MTTS = np.geomspace(0.8, 40.0, 33)  # s
DISPERSIONS = np.geomspace(0.05, 1.6, 11)  # s, scale of the vascular transport function
THIN = 0.01  # s, scale of a vascular transport function that hardly disperses
SHAPES = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 50.0)  # of the transit times: exponential residue to nearly a box
SHAPE_VOXELS = 2048  # decide which of them
SHAPE_GAIN = 0.1  # in log likelihood per voxel; less can come from an AIF that is not quite the true one
COARSE = (2, 2, 3)  # the start is looked for on every so many-th node of delay, MTT and dispersion
STEPS = 8  # Levenberg-Marquardt steps
LARGEST_STEP = 2.0  # nodes
FIRST_DAMPING, LESS_DAMPING, MORE_DAMPING = 1e-2, 0.2, 8.0  # of the curvature; after a better place, after a worse one
LARGEST_TTP_SLOPE = 3.0  # s per node: between nodes whose peaks belong to different passes there is no slope
DETECTED = 8.0  # gain in log likelihood over no flow (4 sigma) from which on a voxel counts for its neighbours
FWHM_PER_SIGMA = 2.3548


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """What the fit assumes.

    Attributes:
      transit_shape: of the gamma-distributed transit times; 1 is the exponential residue. 0 = that of `SHAPES` which
        suits the exam best.
      dispersion: whether dispersion is fitted; without it the vascular transport function is thin.
      delay_range: first and last delay, s; negative ones since the measured artery may fill late.
      delay_seconds, delay_spread: prior mean and standard deviation of the delay, s; hardly a restriction.
      mtt_seconds, mtt_spread: prior median, s, and standard deviation of ln MTT; grey matter to penumbra.
      dispersion_seconds, dispersion_spread: likewise of the dispersion; the mean travelling time is three times it.
      neighbour_delay_spread: how far a voxel's delay is expected to lie from the mean of its neighbours, s.
      neighbour_dispersion_spread: likewise ln dispersion.
    """

    transit_shape: float = 0.0
    dispersion: bool = True
    delay_range: tuple[float, float] = (-3.5, 16.0)
    delay_seconds: float = 1.5
    delay_spread: float = 6.0
    mtt_seconds: float = 5.0
    mtt_spread: float = 0.5
    dispersion_seconds: float = 0.3
    dispersion_spread: float = 0.8
    neighbour_delay_spread: float = 0.15
    neighbour_dispersion_spread: float = 0.15


USUAL_FIT = FitSettings()


class Fitted(NamedTuple):
    """Parameters of each voxel, (voxel,) float32, and the shape of the transit times.

    Attributes:
      cbf: mL/100 g/min.
      delay: arterial delay, s.
      mtt, dispersion, tmax, ttp: s.
      transit_shape: the one of the whole exam, given or found.
    """

    cbf: np.ndarray
    delay: np.ndarray
    mtt: np.ndarray
    dispersion: np.ndarray
    tmax: np.ndarray
    ttp: np.ndarray
    transit_shape: float

    def deconvolved(self) -> Deconvolved:
        """The maps that deconvolution gives."""
        return Deconvolved(self.cbf, self.cbf * self.mtt / 60.0, self.mtt, self.tmax)


class Dictionary(NamedTuple):
    """Curves of unit flow on a grid of delay x ln MTT x ln dispersion, projected. Slopes are per node.

    Attributes:
      origin, spacing: (3,) of the grid, in s and ln s.
      vectors: (delay, MTT, dispersion, 4, dimension): the curve and its slopes along the three axes.
      products: (delay, MTT, dispersion, 4, 4): inner products of the vectors.
      times: (delay, MTT, dispersion, 2, 4): Tmax and TTP in s, each with its slopes.
      basis: (time, dimension), from a curve in mM into the space.
    """

    origin: np.ndarray
    spacing: np.ndarray
    vectors: np.ndarray
    products: np.ndarray
    times: np.ndarray
    basis: np.ndarray


def fit(
    tissue: np.ndarray,
    arterial: np.ndarray,
    frame_seconds: float,
    noise: np.ndarray,
    *,
    first_frame: int = 0,
    nuisance_regressors: np.ndarray | None = None,
    settings: FitSettings = USUAL_FIT,
    mask: np.ndarray | None = None,
    voxel_mm: np.ndarray | None = None,
    neighbourhood_mm: float = 0.0,
) -> Fitted:
    """Fits every voxel.

    Args:
      tissue: (voxel, time), mM.
      arterial: (time,), mM.
      frame_seconds: TR.
      noise: (voxel,) standard deviation of one frame of `tissue`, mM, > 0.
      first_frame: frames before it (not in steady state) do not count.
      nuisance_regressors: (time, regressor) that any curve may hold besides offset and slope; None: no others.
      settings: of the fit.
      mask: (x, y, z) bool, the voxels in the order of `tissue`; for the neighbours.
      voxel_mm: (3,) edge lengths, likewise.
      neighbourhood_mm: FWHM of the Gaussian over the neighbours to whose mean delay and dispersion a voxel is pulled; 0
        fits every voxel alone.

    Raises:
      ValueError: a neighbourhood without `mask` and `voxel_mm`.
    """
    if neighbourhood_mm > 0 and (mask is None or voxel_mm is None):
        raise ValueError("a neighbourhood needs the mask of the voxels and their size; give mask= and voxel_mm=.")
    tissue, noise = np.asarray(tissue, np.float32), np.asarray(noise, np.float32)
    if settings.transit_shape == 0:
        shape = likeliest_shape(tissue, arterial, frame_seconds, noise, first_frame, settings, nuisance_regressors)
        settings = dataclasses.replace(settings, transit_shape=shape)
    mean, spread = _prior(settings)
    tables = jax.tree.map(
        jnp.asarray, build_dictionary(arterial, frame_seconds, first_frame, settings, nuisance_regressors)
    )
    fit_block = functools.partial(_fit, tables=tables, mean=mean, spread=spread)
    data, place, amplitude, gain, times = in_blocks(fit_block, tissue, noise)
    if neighbourhood_mm > 0:
        means = _neighbour_means(place, gain, mask, voxel_mm, neighbourhood_mm, mean)
        means[:, 1] = mean[1]  # transit is the tissue's own
        spread = np.float32([settings.neighbour_delay_spread, spread[1], settings.neighbour_dispersion_spread])
        refine_block = functools.partial(_refine, tables=tables, spread=spread)
        place, amplitude, gain, times = in_blocks(refine_block, data, place, means)
    return Fitted(
        amplitude * noise,
        place[:, 0],
        np.exp(place[:, 1]),
        np.exp(place[:, 2]),
        times[:, 0],
        times[:, 1],
        settings.transit_shape,
    )


def likeliest_shape(
    tissue: np.ndarray,
    arterial: np.ndarray,
    frame_seconds: float,
    noise: np.ndarray,
    first_frame: int,
    settings: FitSettings,
    nuisance_regressors: np.ndarray | None = None,
) -> float:
    """The shape among `SHAPES` under which the curves are likeliest.

    Trimmed mean of the log posterior over some of them.
    """
    some = slice(None, None, max(len(tissue) // SHAPE_VOXELS, 1))
    mean, spread = _prior(settings)

    @functools.cache
    def scores(shape: float) -> np.ndarray:
        tried = dataclasses.replace(settings, transit_shape=shape)
        tables = build_dictionary(arterial, frame_seconds, first_frame, tried, nuisance_regressors, every=2)
        fit_block = functools.partial(_fit, tables=tables, mean=mean, spread=spread)
        _, place, _, gain, _ = in_blocks(fit_block, tissue[some], noise[some])
        return gain - 0.5 * (((place - mean) / spread) ** 2).sum(axis=1)

    best = SHAPES.index(kinetics.TRANSIT_SHAPE)
    for step in (1, -1):  # uphill from the usual shape, first towards plug flow, then towards the mixed pool
        while 0 <= best + step < len(SHAPES):
            if stats.trim_mean(scores(SHAPES[best + step]) - scores(SHAPES[best]), 0.1) < SHAPE_GAIN:
                break
            best += step
    return SHAPES[best]


def _prior(settings: FitSettings) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of delay, ln MTT and ln dispersion of a voxel that knows no neighbours."""
    mean = [settings.delay_seconds, np.log(settings.mtt_seconds), np.log(settings.dispersion_seconds)]
    return np.float32(mean), np.float32([settings.delay_spread, settings.mtt_spread, settings.dispersion_spread])


def _fit(
    tissue: jax.Array, noise: jax.Array, *, tables: Dictionary, mean: np.ndarray, spread: np.ndarray
) -> tuple[jax.Array, ...]:
    """Curves in units of the noise and projected, and what `_refine` gives from the best start."""
    data = _projected(tissue, noise, tables.basis)
    place = _start(data, tables, mean, spread)
    return data, *_refine(data, place, jnp.broadcast_to(mean[None], place.shape), tables, spread)


def continuous_curve(arterial: np.ndarray, frame_seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    """The AIF between its frames by a cubic spline; 0 before the first, its last value after the last."""
    end = (len(arterial) - 1) * frame_seconds
    spline = interpolate.CubicSpline(np.linspace(0.0, end, len(arterial)), arterial, bc_type="natural")
    return lambda seconds: np.where(np.asarray(seconds) >= 0, spline(np.clip(seconds, 0.0, end)), 0.0)


def build_dictionary(
    arterial: np.ndarray,
    frame_seconds: float,
    first_frame: int,
    settings: FitSettings,
    nuisance_regressors: np.ndarray | None = None,
    every: int = 1,
) -> Dictionary:
    """Tables of the fit for one AIF; arguments as in `fit`. The grid has every so many-th node."""
    seconds = np.arange(len(arterial)) * frame_seconds
    first, last = settings.delay_range
    delays = np.linspace(first, last, round((last - first) / DELAY_STEP) + 1)
    axes = (delays, np.log(MTTS), np.log(DISPERSIONS if settings.dispersion else [THIN]))
    axes = tuple(axis[::every] for axis in axes)
    delay, log_mtt, log_dispersion = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    # Negative delays: the AIF is read earlier by the first delay, and everything comes later by as much.
    curve = continuous_curve(np.asarray(arterial, np.float64), frame_seconds)
    unit = Perfusion(
        np.ones((len(delay), 1)),
        np.exp(log_mtt)[:, None],
        delay - first,
        np.exp(log_dispersion),
        settings.transit_shape,
    )
    curves, ttp = kinetics.tissue_concentration_and_ttp(lambda t: curve(np.asarray(t) - first), unit, seconds)
    tmax = kinetics.residue_peak_seconds(unit) + first

    free = free_of_line(
        seconds[first_frame:], None if nuisance_regressors is None else nuisance_regressors[first_frame:]
    )
    curves = curves[:, first_frame:]
    strength, directions = np.linalg.eigh(free @ (curves.T @ curves).astype(np.float64) @ free)
    directions = directions[:, np.argsort(strength)[::-1][:DIMENSIONS]]
    basis = np.zeros((len(arterial), DIMENSIONS))
    basis[first_frame:, : directions.shape[1]] = free @ directions

    shape = tuple(len(axis) for axis in axes)
    values = (curves @ basis[first_frame:]).reshape(*shape, DIMENSIONS)
    vectors = np.stack([values, *_slopes(values)], axis=3).astype(np.float32)
    tmax, ttp = tmax.reshape(shape), ttp.reshape(shape)
    ttp_slopes = (np.clip(slope, -LARGEST_TTP_SLOPE, LARGEST_TTP_SLOPE) for slope in _slopes(ttp))
    times = np.stack([np.stack([tmax, *_slopes(tmax)], axis=-1), np.stack([ttp, *ttp_slopes], axis=-1)], axis=-2)
    return Dictionary(
        origin=np.float32([axis[0] for axis in axes]),
        spacing=np.float32([axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes]),
        vectors=vectors,
        products=vectors @ vectors.swapaxes(-1, -2),
        times=times.astype(np.float32),
        basis=basis.astype(np.float32),
    )


def free_of_line(seconds: np.ndarray, nuisance_regressors: np.ndarray | None = None) -> np.ndarray:
    """(time, time) projection that takes a constant, a line and nuisance regressors out of a curve.

    Args:
      seconds: (time,).
      nuisance_regressors: (time, regressor); None: no others.
    """
    columns = np.stack([np.ones_like(seconds), seconds - seconds.mean()], axis=1)
    if nuisance_regressors is not None:
        columns = np.concatenate([columns, nuisance_regressors], axis=1)
    left, strength, _ = np.linalg.svd(columns / np.linalg.norm(columns, axis=0).clip(1e-12), full_matrices=False)
    basis = left[:, strength > 1e-6 * strength[0]]
    return np.eye(len(seconds)) - basis @ basis.T


def _slopes(values: np.ndarray) -> list[np.ndarray]:
    """Slopes along the first three axes, per node."""
    return [
        np.gradient(values, axis=axis, edge_order=2) if values.shape[axis] > 2 else np.zeros_like(values)
        for axis in range(3)
    ]


@jax.jit
def _projected(tissue: jax.Array, noise: jax.Array, basis: jax.Array) -> jax.Array:
    """(voxel, dimension) in units of the noise."""
    return (tissue @ basis) / noise[:, None]


@jax.jit
def _start(data: jax.Array, tables: Dictionary, mean: jax.Array, spread: jax.Array) -> jax.Array:
    """(voxel, 3) delay, ln MTT and ln dispersion of the best node of the coarse grid."""
    count = tables.vectors.shape[:3]
    axes = [np.unique(np.append(np.arange(0, n, step), n - 1)) for n, step in zip(count, COARSE, strict=True)]
    nodes = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    places = tables.origin[None] + nodes * tables.spacing[None]
    penalty = 0.5 * (((places - mean[None]) / spread[None]) ** 2).sum(axis=1)
    coarse = tuple(nodes.T)
    unit = tables.vectors[coarse][:, 0] / jnp.sqrt(tables.products[coarse][:, 0, 0])[:, None]

    def chunk(data: jax.Array) -> jax.Array:
        explained = jnp.maximum(data @ unit.T, 0.0)
        return places[(0.5 * explained * explained - penalty[None]).argmax(axis=1)]

    return by_chunks(chunk, data)


class _Best(NamedTuple):
    """The best place so far of each voxel, and the normal equations there."""

    value: jax.Array
    position: jax.Array
    curvature: jax.Array
    gradient: jax.Array


@jax.jit
def _refine(
    data: jax.Array, place: jax.Array, means: jax.Array, tables: Dictionary, spread: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Maximum of the posterior from a start.

    Args:
      data: (voxel, dimension), in units of the noise.
      place: (voxel, 3) start.
      means: (voxel, 3) prior means.
      tables: a `Dictionary`.
      spread: (3,) prior standard deviations.

    Returns:
      place (voxel, 3), flow over noise (voxel,), gain in log likelihood over no flow (voxel,), Tmax and TTP (voxel, 2).
    """
    count = tables.vectors.shape[:3]
    last = np.array([count]) - 1
    fitted = np.float32(last > 0)  # an axis of one node is not
    origin, spacing = tables.origin[None], tables.spacing[None]
    precision = (spacing / spread[None]) ** 2  # of the prior, per node

    def near(data: jax.Array, position: jax.Array) -> tuple[Any, ...]:
        """The node, weights of its vectors, and their products with the data and with the curve at the position."""
        node = jnp.clip(jnp.round(position), 0, last).astype(jnp.int32)
        node = tuple(node.T)
        within = position - jnp.stack(node, axis=1)
        weights = jnp.concatenate([jnp.ones_like(within[:, :1]), within], axis=1)
        with_data = (tables.vectors[node] * data[:, None, :]).sum(axis=-1)
        with_curve = (tables.products[node] * weights[:, None, :]).sum(axis=-1)
        curve_data, curve_curve = ((weights * products).sum(axis=1) for products in (with_data, with_curve))
        flow = jnp.maximum(curve_data, 0.0) / jnp.maximum(curve_curve, 1e-30)
        return node, weights, with_data, with_curve, curve_curve, flow, 0.5 * flow * curve_data

    def chunk(data: jax.Array, place: jax.Array, means: jax.Array) -> tuple[jax.Array, ...]:
        centre = (means - origin) / spacing

        def step(_: jax.Array, carry: tuple[jax.Array, _Best, jax.Array]) -> tuple[jax.Array, _Best, jax.Array]:
            position, best, damping = carry
            node, _, with_data, with_curve, curve_curve, flow, gain = near(data, position)
            value = gain - 0.5 * (precision * (position - centre) ** 2).sum(axis=1)
            # Normal equations of flow and place; flow is eliminated.
            slope = with_curve[:, 1:]
            squared = (flow * flow)[:, None, None]
            curvature = (
                tables.products[node][:, 1:, 1:] - slope[:, :, None] * slope[:, None, :] / curve_curve[:, None, None]
            )
            curvature = squared * curvature + jnp.diag(precision[0])[None]
            gradient = flow[:, None] * (with_data[:, 1:] - flow[:, None] * slope) - precision * (position - centre)
            better = value > best.value
            here = _Best(value, position, curvature, gradient)
            best = jax.tree.map(
                lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), here, best
            )
            damping = jnp.where(better, damping * LESS_DAMPING, damping * MORE_DAMPING)
            damped = best.curvature * (1.0 + damping[:, None, None] * jnp.eye(3)[None])
            move = jnp.clip(_solved(damped, best.gradient), -LARGEST_STEP, LARGEST_STEP) * fitted
            return jnp.clip(best.position + move, 0.0, last), best, damping

        position = (place - origin) / spacing
        n = len(position)
        nothing = _Best(jnp.full(n, -jnp.inf), position, jnp.zeros((n, 3, 3)), jnp.zeros((n, 3)))
        position = jax.lax.fori_loop(0, STEPS + 1, step, (position, nothing, jnp.full(n, FIRST_DAMPING)))[1].position
        node, weights, *_, flow, gain = near(data, position)
        times = (tables.times[node] * weights[:, None, :]).sum(axis=-1)
        return origin + position * spacing, flow, gain, times

    return by_chunks(chunk, data, place, means)


def _solved(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solutions of symmetric positive 3 x 3 systems, (voxel, 3), by Cramer's rule."""
    a, b, c = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2]
    d, e, f = matrix[:, 1, 1], matrix[:, 1, 2], matrix[:, 2, 2]
    rows = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ]
    determinant = a * rows[0][0] + b * rows[0][1] + c * rows[0][2]
    solved = [sum(cofactor * right[:, k] for k, cofactor in enumerate(row)) for row in rows]
    return jnp.stack(solved, axis=1) / jnp.maximum(determinant, 1e-30)[:, None]


def _neighbour_means(
    place: np.ndarray, gain: np.ndarray, mask: np.ndarray, voxel_mm: np.ndarray, fwhm_mm: float, default: np.ndarray
) -> np.ndarray:
    """(voxel, 3) Gaussian means over those neighbours inside the mask that show a first pass.

    All such voxels count alike: weighted by flow, the means within an infarct would be those of its healthy border.
    """
    sigma = fwhm_mm / FWHM_PER_SIGMA / np.asarray(voxel_mm)

    def blurred(voxels: np.ndarray) -> np.ndarray:
        volume = np.zeros(mask.shape, np.float32)
        volume[mask] = voxels
        return ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=3.0)[mask]

    weight = np.float32(gain > DETECTED)
    total = blurred(weight)[:, None]
    means = np.stack([blurred(weight * column) for column in place.T], axis=1)
    return np.where(total > 0.05, means / np.maximum(total, 0.05), default)
