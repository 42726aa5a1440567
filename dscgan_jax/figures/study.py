"""Pictures of a study: bars and scatter over patients as in the paper's figures 4 and 6, and a patient by all methods.

Source: Kossen et al. 2023, figures 3 to 7. Colours go by method, in the order in which methods are given.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.figures.panels import ERROR_COLOURS
from dscgan_jax.maps import MAPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_SHARE = 0.8  # of the room of a map that its bars take
COLUMN_INCHES, ROW_INCHES = 1.75, 1.75  # of a picture of one map


@dataclasses.dataclass(frozen=True)
class Spread:
    """A number over patients.

    Attributes:
      mean: of the patients.
      sd: standard deviation; None with fewer than two.
    """

    mean: float
    sd: float | None


def bars_figure(values: Mapping[str, Mapping[str, Mapping[str, Spread]]], title: str = "") -> "Figure":
    """Mean and SD over patients: a panel for each metric, a group of bars for each map, a bar for each method.

    Args:
      values: {metric: {method: {map: spread}}}; a map that a method has not leaves a gap.
      title: of the figure.
    """
    figure = ink.new_figure(10.5, 3.0 * math.ceil(len(values) / 2) + 0.5)
    axes = figure.subplots(math.ceil(len(values) / 2), 2, squeeze=False).ravel()
    for axis, (metric, methods) in zip(axes, values.items(), strict=False):
        _draw_bars(axis, metric, methods)
    for axis in axes[len(values) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, labelcolor=ink.INK, loc="outside upper right", ncols=2)
    ink.add_title(figure, title)
    return figure


def _draw_bars(axis: "Axes", metric: str, methods: Mapping[str, Mapping[str, Spread]]) -> None:
    names = [name for name in MAPS if any(name in maps for maps in methods.values())]
    width = BAR_SHARE / max(len(methods), 1)
    for number, (method, maps) in enumerate(methods.items()):
        at = [index for index, name in enumerate(names) if name in maps]
        spreads = [maps[names[index]] for index in at]
        axis.bar(
            [index + (number - (len(methods) - 1) / 2) * width for index in at],
            [spread.mean for spread in spreads],
            0.92 * width,
            yerr=[spread.sd or 0.0 for spread in spreads],
            label=method,
            color=_colour(number),
            error_kw={"ecolor": ink.MUTED, "elinewidth": 1.0, "capsize": 2},
        )
    axis.set_xticks(range(len(names)), [MAPS[name].title for name in names])
    axis.set_title(metric, fontsize=10, color=ink.INK, loc="left")
    ink.with_quiet_grid(axis)


def scatter_figure(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_title: str, y_title: str, title: str = ""
) -> "Figure":
    """Each patient's error by one method over that by another; below the dashed line the second one is better.

    Args:
      pairs: {map: (errors by the first, by the second)} in the map's unit, patient by patient.
      x_title: the first method.
      y_title: the second.
      title: of the figure.
    """
    figure = ink.new_figure(2.5 * len(pairs) + 0.4, 3.0)
    for axis, (name, (first, second)) in zip(
        figure.subplots(1, len(pairs), squeeze=False)[0], pairs.items(), strict=True
    ):
        top = 1.06 * max(*first, *second, 1e-9)
        axis.plot([0, top], [0, top], color=ink.MUTED, linewidth=1, linestyle="dashed")
        axis.scatter(first, second, s=20, color=ink.ACCENTS[0], alpha=0.8, edgecolor="white", linewidth=0.5)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
        axis.set_aspect("equal")
        axis.set_title(f"{MAPS[name].title} [{MAPS[name].unit}]", fontsize=10, color=ink.INK, loc="left")
        axis.set_xlabel(x_title, fontsize=8, color=ink.MUTED)
        ink.with_quiet_grid(axis)
    figure.axes[0].set_ylabel(y_title, fontsize=8, color=ink.MUTED)
    ink.add_title(figure, title)
    return figure


@dataclasses.dataclass(frozen=True)
class PatientMap:
    """One slice of one map of a patient, by all methods.

    Attributes:
      map_name: a name of `MAPS`.
      reference: (row, col) in the map's unit.
      by_method: {method: (row, col)}; absent where a method refuses the exam.
      brain: (row, col) bool.
      aspect: height of a pixel over its width.
      arrival_seconds: of the bolus, from which on TTP is shown; None: not known.
      heading: above the column; empty: the map's title.
    """

    map_name: str
    reference: np.ndarray
    by_method: Mapping[str, np.ndarray]
    brain: np.ndarray
    aspect: float = 1.0
    arrival_seconds: float | None = None
    heading: str = ""


def patient_figure(
    maps: Sequence[PatientMap], methods: Sequence[str], title: str = "", errors: bool = True
) -> "Figure":
    """A patient: a column for each map, below each other the reference and each method, with its |error| below it.

    Args:
      maps: columns, each with the methods that made it.
      methods: rows, in their order.
      title: of the figure.
      errors: whether |error| is shown.
    """
    kinds = (False, True) if errors else (False,)  # whether a row shows |error|
    rows = [("reference", False), *((method, kind) for method in methods for kind in kinds)]
    figure = ink.new_figure(COLUMN_INCHES * len(maps) + 0.5, ROW_INCHES * len(rows) + 0.45 * (1 + len(kinds)))
    axes = ink.grid_of_axes(figure, len(rows), len(maps))
    for column, one in zip(axes.T, maps, strict=True):
        for axis, (method, is_error) in zip(column, rows, strict=True):
            _draw_cell(axis, one, method, is_error)
        column[0].set_title(one.heading or MAPS[one.map_name].title, fontsize=10, color=ink.INK)
        for is_error in reversed(kinds):  # the first is the farthest
            _add_bar(figure, list(column), one, is_error)
    for axis, (method, is_error) in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel("|error|" if is_error else method.replace(", ", ",\n"), fontsize=8, color=ink.INK)
    ink.mark_sides(axes[0, 0])
    ink.add_title(figure, title)
    return figure


def _draw_cell(axis: "Axes", one: PatientMap, method: str, is_error: bool) -> None:
    """The map of the reference or of a method, or its |error|."""
    values = one.reference if method == "reference" else one.by_method.get(method)
    ink.without_frame(axis)
    if values is None:
        axis.text(0.5, 0.5, "no map", transform=axis.transAxes, ha="center", color=ink.MUTED, fontsize=9)
        return
    if is_error:
        values = np.where(one.brain, np.abs(values - one.reference), 0.0)
    colours, (low, high) = _look(one, is_error)
    axis.imshow(values, cmap=colours, vmin=low, vmax=high, aspect=one.aspect, interpolation="nearest")


def _add_bar(figure: "Figure", column: "list[Axes]", one: PatientMap, is_error: bool) -> None:
    """A bar below a column."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours, window = _look(one, is_error)
    spec = MAPS[one.map_name]
    shown = ScalarMappable(Normalize(*window), colours)
    bar = figure.colorbar(shown, ax=column, location="bottom", fraction=0.012, pad=0.004, aspect=14, extend="max")
    bar.set_label(f"{'|error|' if is_error else spec.title} [{spec.unit}]", fontsize=8, color=ink.INK)
    bar.ax.tick_params(labelsize=7, colors=ink.INK)
    bar.outline.set_visible(False)


def _look(one: PatientMap, is_error: bool) -> tuple[str, tuple[float, float]]:
    """Colours and window."""
    spec = MAPS[one.map_name]
    low, high = spec.window_of(one.arrival_seconds)
    return (ERROR_COLOURS, (0.0, (high - low) / 2)) if is_error else (spec.colour_map, (low, high))


def _colour(number: int) -> str:
    return ink.ACCENTS[number % len(ink.ACCENTS)]
