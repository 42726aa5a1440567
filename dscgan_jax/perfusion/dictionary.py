"""Curves of unit flow on a grid of parameters, projected into a space of few dimensions: the tables of the fit.

The grid's curves are freed of offset, slope and nuisance regressors (`free_of_line`) and span the space; between its
nodes a curve is a polynomial of second order, whose error is far below the noise. `parametric.py` fits with them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import interpolate

from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.kinetics import Perfusion
from dscgan_jax.perfusion.passage import free_of_line

DIMENSIONS = 20  # of the projection; what it leaves out of the grid's curves is far below any noise
ARRIVAL_STEP = 0.25  # s
MTTS = np.geomspace(0.8, 40.0, 33)  # s
# s, scale of the vascular transport function; its square widens curves, so nodes are dense where it is large
DISPERSIONS = np.linspace(0.05**0.5, 2.5**0.5, 13) ** 2
THIN = 0.01  # s, scale of a vascular transport function that hardly disperses
LARGEST_TTP_SLOPE = 3.0  # s per node: between nodes whose peaks belong to different passes there is no slope


class Dictionary(NamedTuple):
    """Curves of unit flow on a grid of arrival x ln MTT x root of the dispersion, projected.

    The arrival is delay and mean travelling time together: beside it the dispersion changes a curve little, and few
    nodes will do. Terms count in nodes from the node.

    Attributes:
      origin, spacing: (3,) of the grid, in s, ln s and root s.
      curves: (arrival, MTT, dispersion, 10, dimension): terms 1, x, y, z, xx / 2, yy / 2, zz / 2, xy, xz, yz.
      times: (arrival, MTT, dispersion, 4, 2): terms 1, x, y, z of Tmax and TTP in s.
      basis: (time, dimension), from a curve in mM into the space.
      delays: (2,) first and last delay, s.
      residue_seconds: mean of the time under the residue function, in units of the MTT.
    """

    origin: np.ndarray
    spacing: np.ndarray
    curves: np.ndarray
    times: np.ndarray
    basis: np.ndarray
    delays: np.ndarray
    residue_seconds: np.ndarray


def continuous_curve(arterial: np.ndarray, frame_seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    """The AIF between its frames by a cubic spline; 0 before the first, its last value after the last."""
    end = (len(arterial) - 1) * frame_seconds
    spline = interpolate.CubicSpline(np.linspace(0.0, end, len(arterial)), arterial, bc_type="natural")
    return lambda seconds: np.where(np.asarray(seconds) >= 0, spline(np.clip(seconds, 0.0, end)), 0.0)


def build_dictionary(
    arterial: np.ndarray,
    frame_seconds: float,
    first_frame: int,
    transit_shape: float,
    delay_range: tuple[float, float],
    disperses: bool = True,
    nuisance_regressors: np.ndarray | None = None,
) -> Dictionary:
    """Tables of the fit for one AIF.

    Args:
      arterial: (time,), mM.
      frame_seconds: TR.
      first_frame: frames before it (not in steady state) do not count.
      transit_shape: of the gamma-distributed transit times.
      delay_range: first and last delay, s.
      disperses: whether the grid has an axis of dispersion; without it the vascular transport function is thin.
      nuisance_regressors: (time, regressor) that any curve may hold besides offset and slope; None: no others.
    """
    seconds = np.arange(len(arterial)) * frame_seconds
    axes = arrivals, _, roots = _axes(delay_range, disperses)
    first = arrivals[0]
    shape = tuple(len(axis) for axis in axes)
    mtt, dispersion = (axis.ravel() for axis in np.meshgrid(MTTS, roots**2, indexing="ij"))
    # Nodes differ in MTT and dispersion at the first arrival, where the longest travelling time leaves no delay, and
    # all others are these later on. Negative delays: the AIF is read earlier by the earliest one.
    delay = kinetics.DISPERSION_SHAPE * (dispersion.max() - dispersion)
    earliest = first - kinetics.DISPERSION_SHAPE * dispersion.max()
    later = arrivals - first
    curve = continuous_curve(np.asarray(arterial, np.float64), frame_seconds)
    unit = Perfusion(np.ones((len(delay), 1)), mtt[:, None], delay, dispersion, transit_shape)
    curves, ttp = kinetics.delayed_concentration_and_ttp(
        lambda t: curve(np.asarray(t) - earliest), unit, later, seconds
    )
    tmax = (later[:, None] + kinetics.residue_peak_seconds(unit) + earliest).reshape(shape)
    ttp = ttp.reshape(shape)

    free = free_of_line(
        seconds[first_frame:], None if nuisance_regressors is None else nuisance_regressors[first_frame:]
    )
    curves = curves.reshape(-1, len(seconds))[:, first_frame:]
    strength, directions = np.linalg.eigh(free @ (curves.T @ curves).astype(np.float64) @ free)
    directions = directions[:, np.argsort(strength)[::-1][:DIMENSIONS]]
    basis = np.zeros((len(arterial), DIMENSIONS))
    basis[first_frame:, : directions.shape[1]] = free @ directions

    curves = (curves @ np.float32(basis[first_frame:])).reshape(*shape, DIMENSIONS)
    ttp_slopes = (np.clip(slope, -LARGEST_TTP_SLOPE, LARGEST_TTP_SLOPE) for slope in _slopes(ttp))
    times = np.stack([np.stack([tmax, *_slopes(tmax)], axis=-1), np.stack([ttp, *ttp_slopes], axis=-1)], axis=-1)
    return Dictionary(
        origin=np.float32([axis[0] for axis in axes]),
        spacing=np.float32([axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes]),
        curves=_second_order(curves.astype(np.float32)),
        times=times.astype(np.float32),
        basis=basis.astype(np.float32),
        delays=np.float32(delay_range),
        residue_seconds=np.float32(0.5 + 0.5 / transit_shape),
    )


def blank(n_frames: int, delay_range: tuple[float, float], disperses: bool) -> Dictionary:
    """Zeros of the shapes and types that `build_dictionary` gives, for who compiles what will use it."""
    shape = tuple(len(axis) for axis in _axes(delay_range, disperses))
    tables = (*shape, 10, DIMENSIONS), (*shape, 4, 2), (n_frames, DIMENSIONS)
    return Dictionary(*(np.zeros(size, np.float32) for size in ((3,), (3,), *tables, (2,), ())))


def _axes(delay_range: tuple[float, float], disperses: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of arrival in s, ln MTT and root of the dispersion."""
    roots = np.sqrt(DISPERSIONS if disperses else [THIN])
    first, last = delay_range + kinetics.DISPERSION_SHAPE * roots[[0, -1]] ** 2
    arrivals = np.linspace(first, last, 2 * int(np.ceil((last - first) / (2 * ARRIVAL_STEP))) + 1)
    return arrivals, np.log(MTTS), roots


def _slopes(values: np.ndarray) -> list[np.ndarray]:
    """Slopes along the first three axes, per node."""
    return [
        np.gradient(values, axis=axis, edge_order=2) if values.shape[axis] > 2 else np.zeros_like(values)
        for axis in range(3)
    ]


def _second_order(values: np.ndarray) -> np.ndarray:
    """(arrival, MTT, dispersion, dimension) to the terms of `Dictionary.curves`, by central differences."""
    slopes = _slopes(values)
    bends = []
    for axis in range(3):
        bend = np.zeros_like(values)
        if values.shape[axis] > 2:
            inner = np.moveaxis(np.diff(values, 2, axis=axis), axis, 0)
            np.moveaxis(bend, axis, 0)[:] = np.concatenate([inner[:1], inner, inner[-1:]])
        bends.append(bend)
    (_, xy, xz), (_, _, yz) = _slopes(slopes[0]), _slopes(slopes[1])
    return np.stack([values, *slopes, *bends, xy, xz, yz], axis=3)
