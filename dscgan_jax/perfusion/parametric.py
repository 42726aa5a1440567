"""The parametric fit: CBF, arterial delay, MTT and dispersion of each voxel from its curve.

Model of a voxel's curve (after Mouridsen et al., J Cereb Blood Flow Metab 2014;34:1511; equation in `kinetics.py`):

  C_t(t) = CBF a(t; delay, MTT, dispersion) + offset + slope t + nuisance regressors + noise

a is the curve of unit flow with gamma-distributed transit times and a gamma-shaped vascular transport function, whose
scale is the dispersion. Offset and slope take up the error of the baseline and the drift of the scanner, which would
look like a longer or later first pass; further nuisance regressors, if given, take up what is left of the head's motion
in a realigned series. Delay, ln MTT and ln dispersion have normal priors, so that noise does not look like physiology.
The answer is the maximum of the posterior.

How it is found: the curves of a grid of parameters span a space of few dimensions, into which data and grid are
projected once (`dictionary.py`). Levenberg-Marquardt steps go uphill in the posterior from two starts, the best nodes
of a coarse grid: a bolus may have been widened by its way through the tissue or by its way there, and both can be
maxima. The shape of the transit times, between well mixed and plug flow, is one for the whole exam: the one for which
its voxels are the best evidence, between the shapes that are tried where the parabola through their evidence says so.

With `neighbourhood_mm`, neighbours are expected to share an artery (`neighbours.py`): the mean curve around a voxel,
which has less noise, is fitted first, and its dispersion, and more loosely its MTT, are what the voxel's own are pulled
to. The mean of the voxels' own maxima would not do: each of them is pulled to the prior by its own noise, so a
dispersion that a single voxel cannot tell would stay that of the prior in all of them. The delay is that of the mean
arrival of the voxels' own curves.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dscgan_jax.kept import programs
from dscgan_jax.perfusion import kinetics, neighbours
from dscgan_jax.perfusion.deconvolution import BLOCK, by_chunks, in_blocks
from dscgan_jax.perfusion.deconvolved import Deconvolved
from dscgan_jax.perfusion.dictionary import (
    DISPERSIONS,
    MTTS,
    Dictionary,
    blank,
    build_dictionary,
    continuous_curve,
)
from dscgan_jax.perfusion.passage import free_of_line
from dscgan_jax.threads import in_threads

SHAPES = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 50.0)  # that are tried, of the transit times: exponential to nearly a box
SHAPE_VOXELS = BLOCK  # decide which of them, and whether neighbours share an artery: what fits them fits all
USUAL_DISPERSION = 0.25  # s
DISPERSION_MEDIANS = (0.05, 0.25, 0.5, 1.0)  # s; usual ones of exams whose voxels are fitted alone
# In mean log evidence; on curves without dispersion up to 0.03 is gained, since the prior of the MTT is no exact one.
DISPERSION_GAIN = 0.035
LONE_DISPERSION_SPREAD = 0.7  # of ln dispersion within one exam
NEIGHBOURS_APART = 0.5  # s, noise aside: further apart, delays of neighbours are not those of one artery
MOST_GAIN = 1.0  # in log evidence of one voxel
SHAPE_GAIN = 0.06  # in log evidence per voxel; less can come from an AIF that is not quite the true one
# An unusual shape costs half of this times ln(shape / usual)^2, in log evidence per voxel, for the same reason. With
# 0.3 chronic phantom exams (SNR 30 to 40) got too high a shape, with 1.0 acute ones too usual a one.
USUAL_SHAPE_WEIGHT = 0.6
COARSE = (4, 4, 4)  # a start is looked for on every so many-th node of arrival, MTT and dispersion
# Where the spread of the travelling times is above this share of the MTT, travelling widens the bolus about as much as
# transit does, and the two maxima of the posterior lie on different sides (0.25 to 0.5 for shapes of 1 to 5).
WIDENED = 0.4
STEPS = 8  # Levenberg-Marquardt steps
PULLED_STEPS = 5  # of voxels that start where their neighbours are, or where they were themselves
LARGEST_STEP = np.float32([[1.0, 0.5, 1.0]])  # of delay, s, ln MTT and ln dispersion
FIRST_DAMPING, LESS_DAMPING, MORE_DAMPING = 1e-2, 0.2, 8.0  # of the curvature; after a better place, after a worse one


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """What the fit assumes.

    Attributes:
      transit_shape: of the gamma-distributed transit times; 1 is the exponential residue. 0 = what suits the exam best,
        from the first to the last of `SHAPES`.
      dispersion: whether dispersion is fitted; without it the vascular transport function is thin.
      delay_range: first and last delay, s; negative ones since the measured artery may fill late.
      delay_seconds, delay_spread: prior mean and standard deviation of the delay, s; hardly a restriction.
      mtt_seconds, mtt_spread: prior median, s, and standard deviation of ln MTT; grey matter to penumbra.
      dispersion_seconds, dispersion_spread: likewise of the dispersion; the mean travelling time is three times it.
        Behind a chronic stenosis it is three times the usual one. 0 s = the usual one; where voxels are fitted alone,
        that which suits the exam best, with a spread of 0.7 at most.
      neighbour_delay_spread: how far a voxel's delay is expected to lie from that of its neighbours, s.
      neighbour_mtt_spread: likewise ln MTT: that of grey and white matter, which meet, differs by about as much.
      neighbour_dispersion_spread: likewise ln dispersion.
    """

    transit_shape: float = 0.0
    dispersion: bool = True
    delay_range: tuple[float, float] = (-3.5, 16.0)
    delay_seconds: float = 1.5
    delay_spread: float = 6.0
    mtt_seconds: float = 5.0
    mtt_spread: float = 0.5
    dispersion_seconds: float = 0.0
    dispersion_spread: float = 1.4
    neighbour_delay_spread: float = 0.15
    neighbour_mtt_spread: float = 0.2
    neighbour_dispersion_spread: float = 0.1


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


@programs.named_tuple
class Maximum(NamedTuple):
    """Where the posterior of each voxel is largest.

    Attributes:
      place: (voxel, 3) delay in s, ln MTT and ln dispersion.
      flow: (voxel,) over noise.
      gain: (voxel,) in log likelihood over no flow.
      times: (voxel, 2) Tmax and TTP, s.
      value: (voxel,) log posterior; 0 for a curve without noise of the expected parameters.
      curvature: (voxel, 3, 3) of the negative log posterior over the place.
    """

    place: np.ndarray
    flow: np.ndarray
    gain: np.ndarray
    times: np.ndarray
    value: np.ndarray
    curvature: np.ndarray


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
      neighbourhood_mm: FWHM of the Gaussian over the neighbours to whose delay, MTT and dispersion a voxel is pulled; 0
        fits every voxel alone, as is done where the delays of neighbours have nothing in common.

    Raises:
      ValueError: a neighbourhood without `mask` and `voxel_mm`.
    """
    if neighbourhood_mm > 0 and (mask is None or voxel_mm is None):
        raise ValueError("a neighbourhood needs the mask of the voxels and their size; give mask= and voxel_mm=.")
    tissue, noise = np.asarray(tissue, np.float32), np.asarray(noise, np.float32)
    some = np.linspace(0, len(tissue) - 1, SHAPE_VOXELS).round().astype(int)

    @functools.cache
    def tables_of(shape: float) -> Dictionary:
        built = build_dictionary(
            arterial,
            frame_seconds,
            first_frame,
            shape,
            settings.delay_range,
            settings.dispersion,
            nuisance_regressors,
        )
        return jax.device_put(built)

    shape = settings.transit_shape or _likeliest_shape(tissue[some], noise[some], tables_of, settings)
    settings, tables = dataclasses.replace(settings, transit_shape=shape), tables_of(shape)
    data = in_blocks(functools.partial(_projected, basis=tables.basis), tissue, noise)
    found = None
    if neighbourhood_mm > 0:
        around = neighbours.Neighbourhood(mask, np.asarray(voxel_mm), neighbourhood_mm)
        found = _with_neighbours(data, noise, tables, settings, some, around)
    if found is None:
        settings = _suited(data[some], tables, settings, least_gain=DISPERSION_GAIN)[0]
        mean, spread = _prior(settings)
        found = in_blocks(functools.partial(_fit, tables=tables, mean=mean, spread=spread), data)
    delay, log_mtt, log_dispersion = found.place.T
    tmax, ttp = found.times.T
    return Fitted(found.flow * noise, delay, np.exp(log_mtt), np.exp(log_dispersion), tmax, ttp, settings.transit_shape)


def compile_fit(n_frames: int, settings: FitSettings = USUAL_FIT) -> None:
    """What the first `fit` with neighbours would trace and compile, for those who have something else to do meanwhile.

    Args:
      n_frames: of the curves.
      settings: of the fit.
    """
    tables = jax.device_put(blank(n_frames, settings.delay_range, settings.dispersion))
    mean, spread = _prior(settings)
    curves, noise = np.zeros((BLOCK, n_frames), np.float32), np.ones(BLOCK, np.float32)
    data = np.asarray(_projected(curves, noise, basis=tables.basis))
    _log_evidence(data, tables, settings)
    places = np.broadcast_to(mean, (BLOCK, 3))
    jax.block_until_ready(_refine(data, places, places, tables=tables, spread=spread, steps=PULLED_STEPS))


def fitted_curves(
    fitted: Fitted,
    tissue: np.ndarray,
    arterial: np.ndarray,
    frame_seconds: float,
    *,
    first_frame: int = 0,
    nuisance_regressors: np.ndarray | None = None,
) -> np.ndarray:
    """The curve that the fit made of each voxel's, (voxel, time) mM, with its offset, slope and nuisance regressors.

    Frames before `first_frame` are 0. Arguments as of `fit`.
    """
    seconds = np.arange(len(arterial)) * frame_seconds
    earliest = min(float(fitted.delay.min(initial=0.0)), 0.0)  # the AIF is read earlier by it, all else comes later
    arterial_curve = continuous_curve(np.asarray(arterial, np.float64), frame_seconds)
    perfusion = kinetics.Perfusion(
        fitted.cbf[:, None], fitted.mtt[:, None], fitted.delay - earliest, fitted.dispersion, fitted.transit_shape
    )
    curves = kinetics.tissue_concentration(lambda t: arterial_curve(np.asarray(t) - earliest), perfusion, seconds)
    regressors = None if nuisance_regressors is None else nuisance_regressors[first_frame:]
    free = np.float32(free_of_line(seconds[first_frame:], regressors))
    rest = np.asarray(tissue, np.float32)[:, first_frame:] - curves[:, first_frame:]
    curves[:, first_frame:] += rest - rest @ free
    curves[:, :first_frame] = 0.0
    return curves


def _with_neighbours(
    data: np.ndarray,
    noise: np.ndarray,
    tables: Dictionary,
    settings: FitSettings,
    some: np.ndarray,
    around: neighbours.Neighbourhood,
) -> Maximum | None:
    """The fit of voxels that share an artery with their neighbours; None where some of them say that they do not.

    The mean curves tell MTT and dispersion. Their arrival leans to the neighbours with the most flow, so that of each
    voxel's own curve is found with these, and its mean is what the last fit expects.
    """
    mean, spread = _prior(settings)
    alone = functools.partial(_fit, tables=tables, mean=mean, spread=spread)
    shared = in_blocks(alone, around.mean_curves(data, noise))
    means = neighbours.shared_by_neighbours(shared.place, shared.gain, around, mean)
    means[:, 0] = means[:, 0].clip(*settings.delay_range)
    lone = jax.tree.map(np.asarray, alone(data[some]))
    if neighbours.seconds_apart(lone.place, lone.gain, lone.curvature, means[some]) > NEIGHBOURS_APART:
        return None

    def pulled(start: np.ndarray, means: np.ndarray, delay_spread: float) -> Maximum:
        spread = [delay_spread, settings.neighbour_mtt_spread, settings.neighbour_dispersion_spread]
        refine = functools.partial(_refine, tables=tables, spread=np.float32(spread), steps=PULLED_STEPS)
        return in_blocks(refine, data, start, means)

    own = pulled(means, means, settings.delay_spread)
    means = neighbours.with_mean_arrival(means, own.place, own.gain, around)
    means[:, 0] = means[:, 0].clip(*settings.delay_range)
    return pulled(own.place, means, settings.neighbour_delay_spread)


def _likeliest_shape(
    tissue: np.ndarray, noise: np.ndarray, tables_of: Callable[[float], Dictionary], settings: FitSettings
) -> float:
    """The shape for which the curves are the best evidence, from the first to the last of `SHAPES`.

    Between them it is the top of the parabola through the best and its neighbours, over the log of the shape: the next
    one of `SHAPES` makes MTT wrong by a tenth, and Tmax of lesions by up to half a second.

    Log evidence: a shape that suits curves only with parameters tuned as finely as no prior would expect is not
    preferred. Each shape has the usual dispersion with which it suits them best, since a wide one and a broad
    distribution of transit times look alike.

    Args:
      tissue: (voxel, time), mM, of `SHAPE_VOXELS` voxels.
      noise: (voxel,) of one frame.
      tables_of: the dictionary of a shape.
      settings: of the fit.
    """

    @functools.cache
    def evidence(shape: float) -> np.ndarray:
        tables = tables_of(shape)
        return _suited(_projected(tissue, noise, basis=tables.basis), tables, settings, least_gain=0.0)[1]

    best = SHAPES.index(kinetics.TRANSIT_SHAPE)
    in_threads(evidence, SHAPES[best - 1 : best + 2])  # these are needed in any case
    for step in (1, -1):  # uphill from the usual shape, first towards plug flow, then towards the mixed pool
        while 0 <= best + step < len(SHAPES):
            if _gain(evidence(SHAPES[best + step]), evidence(SHAPES[best])) < SHAPE_GAIN:
                break
            best += step
    if best in (0, len(SHAPES) - 1):
        return SHAPES[best]
    around = SHAPES[best - 1 : best + 2]
    gains = [_gain(evidence(shape), evidence(around[1])) for shape in around]
    unusual = np.log(np.array(around) / kinetics.TRANSIT_SHAPE)
    return float(np.exp(_top(np.log(around), np.array(gains) - 0.5 * USUAL_SHAPE_WEIGHT * unusual**2)))


def _top(places: np.ndarray, values: np.ndarray) -> float:
    """Where the parabola through three values is highest, no further than the outer places; the middle, if nowhere."""
    bend, slope, _ = np.polyfit(places - places[1], values, 2)
    if bend >= 0:
        return float(places[1])
    return float(np.clip(places[1] - slope / (2.0 * bend), places[0], places[2]))


def _suited(
    data: jax.Array, tables: Dictionary, settings: FitSettings, least_gain: float
) -> tuple[FitSettings, np.ndarray]:
    """Settings with the usual dispersion that suits curves which no neighbour helps, and their log evidence (voxel,).

    A single curve hardly tells its dispersion, many curves tell the usual one. It is the smallest of
    `DISPERSION_MEDIANS` from which on the next one gains less than `least_gain`.

    Args:
      data: (voxel, dimension), over noise.
      tables: a `Dictionary`.
      settings: of the fit.
      least_gain: in log evidence per voxel.
    """
    best, *wider = _usual_dispersions(settings)
    evidence = _log_evidence(data, tables, best)
    for tried in wider:
        more = _log_evidence(data, tables, tried)
        if _gain(more, evidence) < least_gain:
            break
        best, evidence = tried, more
    return best, evidence


def _usual_dispersions(settings: FitSettings) -> list[FitSettings]:
    """Settings with each of `DISPERSION_MEDIANS`, or as they are where dispersion is not fitted or is given."""
    if not settings.dispersion or settings.dispersion_seconds > 0:
        return [settings]
    spread = min(settings.dispersion_spread, LONE_DISPERSION_SPREAD)
    return [
        dataclasses.replace(settings, dispersion_seconds=median, dispersion_spread=spread)
        for median in DISPERSION_MEDIANS
    ]


def _log_evidence(data: jax.Array, tables: Dictionary, settings: FitSettings) -> np.ndarray:
    """(voxel,) log evidence of curves over no flow, after Laplace, since each shape has a space of its own."""
    mean, spread = _prior(settings)
    return np.asarray(_laplace(data, _fit(data, tables=tables, mean=mean, spread=spread), spread))


@programs.jit
def _laplace(data: jax.Array, found: Maximum, spread: jax.Array) -> jax.Array:
    """(voxel,) log evidence from a maximum and its curvature."""
    value = found.value + 0.5 * (data * data).sum(axis=1)
    return value - 0.5 * jnp.linalg.slogdet(found.curvature * jnp.outer(spread, spread)[None])[1]


def _gain(evidence: np.ndarray, other: np.ndarray) -> float:
    """Mean gain in log evidence per voxel.

    Few curves tell most, so none is left out, but none counts for more than `MOST_GAIN`: what the head's motion does to
    a curve suits some shape by chance.
    """
    return float(np.clip(evidence - other, -MOST_GAIN, MOST_GAIN).mean())


def _prior(settings: FitSettings) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of delay, ln MTT and ln dispersion of a voxel that knows no neighbours."""
    dispersion = settings.dispersion_seconds or USUAL_DISPERSION
    mean = [settings.delay_seconds, np.log(settings.mtt_seconds), np.log(dispersion)]
    return np.float32(mean), np.float32([settings.delay_spread, settings.mtt_spread, settings.dispersion_spread])


def _fit(data: jax.Array, *, tables: Dictionary, mean: np.ndarray, spread: np.ndarray) -> Maximum:
    """Of curves (voxel, dimension) in units of the noise, the better of the maxima reached from the starts."""
    starts = _starts(data, tables, mean, spread)
    means = np.broadcast_to(mean, starts[0].shape)
    return functools.reduce(_better, (_refine(data, start, means, tables, spread) for start in starts))


@programs.jit
def _projected(tissue: jax.Array, noise: jax.Array, basis: jax.Array) -> jax.Array:
    """(voxel, dimension) in units of the noise."""
    return (tissue @ basis) / noise[:, None]


@programs.jit
def _starts(data: jax.Array, tables: Dictionary, mean: jax.Array, spread: jax.Array) -> list[jax.Array]:
    """(voxel, 3) delay, ln MTT and ln dispersion of the best node of the coarse grid.

    The best one where transit widens the bolus, and the best one where the travelling does, if dispersion is fitted.
    """
    count = tables.curves.shape[:3]
    axes = [np.unique(np.append(np.arange(0, n, step), n - 1)) for n, step in zip(count, COARSE, strict=True)]
    nodes = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    kinds = [nodes]
    if count[2] > 1:
        widened = kinetics.DISPERSION_SHAPE**0.5 * DISPERSIONS[nodes[:, 2]] > WIDENED * MTTS[nodes[:, 1]]
        kinds = [nodes[~widened], nodes[widened]]

    def best_of(nodes: np.ndarray) -> jax.Array:
        arrival, log_mtt, root = (tables.origin[None] + nodes * tables.spacing[None]).T
        places = jnp.stack([arrival - kinetics.DISPERSION_SHAPE * root**2, log_mtt, 2.0 * jnp.log(root)], axis=1)
        penalty = 0.5 * (((places - mean[None]) / spread[None]) ** 2).sum(axis=1)
        penalty = jnp.where((places[:, 0] - jnp.clip(places[:, 0], *tables.delays)) ** 2 < 1e-6, penalty, jnp.inf)
        curves = tables.curves[tuple(nodes.T)][:, 0]
        unit = curves / jnp.linalg.norm(curves, axis=1, keepdims=True)

        def chunk(data: jax.Array) -> jax.Array:
            explained = jnp.maximum(data @ unit.T, 0.0)
            return places[(0.5 * explained * explained - penalty[None]).argmax(axis=1)]

        return by_chunks(chunk, data)

    return [best_of(nodes) for nodes in kinds]


@programs.jit
def _better(one: Maximum, other: Maximum) -> Maximum:
    """The one or the other of each voxel."""
    better = other.value > one.value
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a), one, other)


class _Best(NamedTuple):
    """The best place so far of each voxel, and the normal equations there."""

    value: jax.Array
    place: jax.Array
    flow: jax.Array
    gain: jax.Array
    curvature: jax.Array
    gradient: jax.Array


@programs.jit(static_argnames=("steps",))
def _refine(
    data: jax.Array, place: jax.Array, means: jax.Array, tables: Dictionary, spread: jax.Array, steps: int = STEPS
) -> Maximum:
    """Maximum of the posterior from a start.

    Args:
      data: (voxel, dimension), in units of the noise.
      place: (voxel, 3) start.
      means: (voxel, 3) prior means.
      tables: a `Dictionary`.
      spread: (3,) prior standard deviations.
      steps: of Levenberg and Marquardt.
    """
    count = tables.curves.shape[:3]
    last = np.array([count]) - 1
    fitted = np.float32(last > 0)  # an axis of one node is not
    origin, spacing = tables.origin[None], tables.spacing[None]
    curves, times = tables.curves.reshape(-1, *tables.curves.shape[3:]), tables.times.reshape(-1, 4, 2)
    ends = tables.origin + (last[0] * tables.spacing)
    lowest = jnp.stack([tables.delays[0], tables.origin[1], 2.0 * jnp.log(tables.origin[2])])[None]
    highest = jnp.stack([tables.delays[1], ends[1], 2.0 * jnp.log(ends[2])])[None]
    precision = spread[None] ** -2  # of the prior
    lateness = jnp.stack([tables.residue_seconds, kinetics.DISPERSION_SHAPE])[None]  # over MTT and dispersion

    def near(place: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The nearest node and the distance from it in nodes, (voxel, 3), and the root of the dispersion."""
        root = jnp.exp(0.5 * place[:, 2])
        position = jnp.stack([place[:, 0] + kinetics.DISPERSION_SHAPE * root * root, place[:, 1], root], axis=1)
        position = (position - origin) / spacing
        node = jnp.clip(jnp.round(position), 0, last).astype(jnp.int32)
        return (node[:, 0] * count[1] + node[:, 1]) * count[2] + node[:, 2], position - node, root

    def curve_at(place: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Curve of unit flow (voxel, dimension), and its slopes over the three coordinates of the place."""
        node, within, root = near(place)
        terms = curves[node]
        x, y, z = (within[:, k, None] for k in range(3))
        xx, yy, zz, xy, xz, yz = (terms[:, k] for k in range(4, 10))
        bends = (x * xx + y * xy + z * xz, x * xy + y * yy + z * yz, x * xz + y * yz + z * zz)
        curve = terms[:, 0]
        for k, bend in enumerate(bends):
            curve += within[:, k, None] * (terms[:, 1 + k] + 0.5 * bend)
        along = [(terms[:, 1 + k] + bend) / tables.spacing[k] for k, bend in enumerate(bends)]
        root = root[:, None]
        travel = 2.0 * kinetics.DISPERSION_SHAPE * root * along[0]
        return curve, [along[0], along[1], 0.5 * root * (along[2] + travel)]

    def chunk(data: jax.Array, place: jax.Array, means: jax.Array) -> Maximum:
        def step(_: jax.Array, carry: tuple[jax.Array, _Best, jax.Array]) -> tuple[jax.Array, _Best, jax.Array]:
            place, best, damping = carry
            curve, slopes = curve_at(place)
            curve_data, curve_curve = (curve * data).sum(axis=1), (curve * curve).sum(axis=1)
            flow = jnp.maximum(curve_data, 0.0) / jnp.maximum(curve_curve, 1e-30)
            away = precision * (place - means)
            rest = data - flow[:, None] * curve  # its square is small: differences of the gain drown in rounding
            value = -0.5 * (rest * rest).sum(axis=1) - 0.5 * (away * (place - means)).sum(axis=1)
            # Normal equations of flow and place; flow is eliminated.
            slopes = [flow[:, None] * slope for slope in slopes]
            gradient = jnp.stack([(slope * rest).sum(axis=1) for slope in slopes], axis=1) - away
            with_curve = [(slope * curve).sum(axis=1) for slope in slopes]
            rows = [
                [
                    (one * other).sum(axis=1) - with_curve[i] * with_curve[j] / curve_curve
                    for j, other in enumerate(slopes)
                ]
                for i, one in enumerate(slopes)
            ]
            curvature = jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1) + jnp.diag(precision[0])[None]
            better = value > best.value
            here = _Best(value, place, flow, 0.5 * flow * curve_data, curvature, gradient)
            best = jax.tree.map(
                lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), here, best
            )
            damping = jnp.where(better, damping * LESS_DAMPING, damping * MORE_DAMPING)
            damped = best.curvature * (1.0 + damping[:, None, None] * jnp.eye(3)[None])
            move = _solved(damped, best.gradient) * fitted
            move *= jnp.minimum(1.0, (LARGEST_STEP / jnp.maximum(jnp.abs(move), 1e-9)).min(axis=1, keepdims=True))
            there = jnp.clip(best.place + move, lowest, highest)
            # The lateness of the curve is linear in the delay alone. It moves as far as the step is meant to move it.
            late, later = (lateness * jnp.exp(place[:, 1:]) for place in (best.place, there))
            beyond = (later - late * (1.0 + there[:, 1:] - best.place[:, 1:])).sum(axis=1)
            there = there.at[:, 0].add(-beyond)
            return jnp.clip(there, lowest, highest), best, damping

        n, nothing = len(place), jnp.zeros(len(place))
        best = _Best(nothing - jnp.inf, place, nothing, nothing, jnp.zeros((n, 3, 3)), jnp.zeros((n, 3)))
        best = jax.lax.fori_loop(0, steps + 1, step, (place, best, jnp.full(n, FIRST_DAMPING)))[1]
        node, within, _ = near(best.place)
        peaks = times[node]
        peaks = peaks[:, 0] + (within[:, :, None] * peaks[:, 1:]).sum(axis=1)
        return Maximum(best.place, best.flow, best.gain, peaks, best.value, best.curvature)

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
