"""Plots of curves and numbers: the AIF of an exam, the motion of the head, training, agreement of volumes."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.figures.panels import axial
from dscgan_jax.maps import MAPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_AIF_SLICES = 3
SECONDS_LABEL = "time from the first frame [s]"
MAP_ERROR, MEAN_ERROR = "validation_brain_mae_", "validation_error"  # columns of metrics.jsonl
VALIDATION = "validation"

Curve = tuple[list[int], list[float]]  # steps and values


def aif_figure(
    seconds: np.ndarray,
    aif: np.ndarray,
    tissue: np.ndarray,
    unit: str,
    background: np.ndarray,
    voxels: np.ndarray | None,
    *,
    non_steady_frames: int = 0,
    title: str = "",
    aspect: float = 1.0,
) -> "Figure":
    """The AIF beside the mean curve of the tissue, and the arterial voxels on the slices that hold most of them.

    Args:
      seconds: (time,).
      aif: (time,) arterial input function.
      tissue: (time,) mean over the tissue.
      unit: of both.
      background: (x, y, z) in RAS order, signal before the bolus.
      voxels: (x, y, z) bool, arterial voxels; None for an AIF from a file.
      non_steady_frames: at the start, shaded: they do not count.
      title: e.g. the subject and how good the AIF is.
      aspect: height of a voxel (y) over its width (x).
    """
    counts = np.zeros(background.shape[2], int) if voxels is None else voxels.sum(axis=(0, 1))
    slices = np.sort(np.argsort(-counts, kind="stable")[: min(MOST_AIF_SLICES, int((counts > 0).sum()))])
    figure = ink.new_figure(5.6 + 2.7 * len(slices), 3.2)
    axes = np.atleast_1d(figure.subplots(1, 1 + len(slices), width_ratios=[2.1] + [1.0] * len(slices)))
    _draw_aif(axes[0], seconds, aif, tissue, unit, non_steady_frames)
    for axis, z in zip(axes[1:], slices, strict=True):
        _draw_arterial_voxels(axis, axial(background, z), axial(voxels, z), aspect)
        axis.set_title(f"slice {z + 1}: {counts[z]} voxel{'s' if counts[z] != 1 else ''}", fontsize=9, color=ink.INK)
    if len(slices):
        ink.mark_sides(axes[1])
    ink.add_title(figure, title, 11)
    return figure


def _draw_aif(
    axis: "Axes", seconds: np.ndarray, aif: np.ndarray, tissue: np.ndarray, unit: str, non_steady_frames: int
) -> None:
    axis.plot(seconds, aif, color=ink.ACCENTS[1], marker=".", label="AIF")
    gain = float(np.max(aif) / max(np.max(tissue), 1e-12))  # as high as the AIF, to compare the shapes
    axis.plot(seconds, tissue * gain, color=ink.ACCENTS[0], label=f"mean of tissue x {gain:.3g}")
    if non_steady_frames:
        half = 0.5 * float(seconds[1] - seconds[0]) if len(seconds) > 1 else 0.5  # a frame is as long as it lasts
        ends = seconds[0] - half, seconds[non_steady_frames - 1] + half
        axis.axvspan(*ends, color=ink.SHADE, label="not in steady state")
    axis.axhline(0.0, color=ink.MUTED, linewidth=0.6)
    axis.set_xlabel(SECONDS_LABEL, fontsize=9, color=ink.INK)
    axis.set_ylabel(unit, fontsize=9, color=ink.INK)
    axis.legend(fontsize=8, frameon=False)
    ink.with_quiet_grid(axis)


def _draw_arterial_voxels(axis: "Axes", picture: np.ndarray, voxels: np.ndarray, aspect: float) -> None:
    axis.imshow(picture, cmap="gray", vmin=0.0, vmax=ink.white_level(picture, None), aspect=aspect)
    rows, cols = np.nonzero(voxels)
    axis.scatter(cols, rows, s=14, marker="s", facecolors="none", edgecolors=ink.ACCENTS[1], linewidths=1.0)
    ink.without_frame(axis)


def aif_png(*values: Any, **named: Any) -> bytes:
    """`aif_figure` as the content of a PNG file."""
    return ink.to_png(aif_figure(*values, **named))


def motion_png(*values: Any) -> bytes:
    """`motion_figure`, likewise."""
    return ink.to_png(motion_figure(*values))


def motion_figure(seconds: np.ndarray, millimetres: np.ndarray, degrees: np.ndarray, resampled: np.ndarray) -> "Figure":
    """The head's pose in every frame.

    Args:
      seconds: (time,).
      millimetres: (time, 3) shifts along x (to the right), y (to the front) and z (upwards).
      degrees: (time, 3) rotations about them.
      resampled: (time,) bool, frames that were realigned.
    """
    figure = ink.new_figure(9.5, 2.6)
    quantities = ((millimetres, "shift [mm]"), (degrees, "rotation [degrees]"))
    for axis, (values, label) in zip(figure.subplots(1, 2), quantities, strict=True):
        for column, (name, colour) in enumerate(zip("xyz", ink.ACCENTS, strict=False)):
            axis.plot(seconds, values[:, column], color=colour, label=name)
        top = max(float(np.abs(values).max()) * 1.1, 0.3)
        axis.set_ylim(-top, top)
        axis.fill_between(seconds, -top, top, where=resampled, color=ink.HIGHLIGHT, step="mid", label="realigned")
        axis.set_xlabel(SECONDS_LABEL, fontsize=9, color=ink.INK)
        axis.set_ylabel(label, fontsize=9, color=ink.INK)
        ink.with_quiet_grid(axis)
    figure.axes[0].legend(fontsize=8, frameon=False, ncols=4)
    return figure


_GROUPS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("generator loss", lambda name: name in ("loss_g", "loss_adversarial", "loss_l1")),
    ("discriminator loss", lambda name: name.startswith("loss_d")),
    ("discriminator accuracy", lambda name: name.startswith("accuracy")),
    (VALIDATION, lambda name: name.startswith(f"{VALIDATION}_")),
)


def training_figure(rows: Sequence[Mapping[str, Any]], chosen_step: int | None = None) -> "Figure | None":
    """Training and validation curves over steps; None where there is nothing to plot.

    Args:
      rows: of `metrics.jsonl`.
      chosen_step: marked on the validation curves.
    """
    groups = _grouped(_curves(rows))
    if not groups:
        return None
    n_cols = min(2, len(groups))
    n_rows = math.ceil(len(groups) / n_cols)
    figure = ink.new_figure(4.8 * n_cols, 2.7 * n_rows)
    axes = figure.subplots(n_rows, n_cols, squeeze=False).ravel()
    for axis, (title, curves) in zip(axes, groups.items(), strict=False):
        _draw_curves(axis, title, curves)
        if title == VALIDATION and chosen_step is not None:
            axis.axvline(chosen_step, color=ink.MUTED, linewidth=1, linestyle="dashed")
        axis.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    return figure


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Every number of the rows but the step, by name."""
    curves: dict[str, Curve] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def _grouped(curves: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """{title of the axes: its curves by name}, without empty ones."""
    if sum(name.startswith(MAP_ERROR) for name in curves) == 1:  # the mean over maps is the same curve
        curves = {name: curve for name, curve in curves.items() if name != MEAN_ERROR}
    groups = {title: {name: curve for name, curve in curves.items() if belongs(name)} for title, belongs in _GROUPS}
    return {title: members for title, members in groups.items() if members}


def _draw_curves(axis: "Axes", title: str, curves: Mapping[str, Curve]) -> None:
    for (name, (steps, values)), colour in zip(curves.items(), itertools.cycle(ink.ACCENTS), strict=False):
        marker = "o" if len(steps) < 30 else None
        axis.plot(steps, values, color=colour, linewidth=1.4, label=_curve_label(name), marker=marker, markersize=3)
    if "accuracy" in title:
        axis.set_ylim(-0.02, 1.02)
    if title == VALIDATION and len(curves) > 1 and min(min(values) for _, values in curves.values()) > 0:
        axis.set_yscale("log")  # several units on one axis
    axis.set_title(title, fontsize=10, color=ink.INK, loc="left")
    axis.set_xlabel("step", fontsize=9, color=ink.MUTED)
    ink.with_quiet_grid(axis)


def _curve_label(name: str) -> str:
    if name.startswith(MAP_ERROR) and (spec := MAPS.get(name.removeprefix(MAP_ERROR))):
        return f"brain MAE of {spec.title} [{spec.unit}]"
    return "mean error, share of the range" if name == MEAN_ERROR else name


def bland_altman_figure(
    reference: Sequence[float], predicted: Sequence[float], *, quantity: str, unit: str, title: str = ""
) -> "Figure":
    """Two views of the same agreement: predicted over reference, and their difference over their mean.

    Lines at the right: mean difference and the limits of agreement, mean ± 1.96 SD (Bland and Altman 1986).

    Args:
      reference: one number per subject.
      predicted: likewise.
      quantity: e.g. "volume of Tmax > 6 s".
      unit: e.g. "mL".
      title: e.g. the source's name.
    """
    reference, predicted = np.asarray(reference, float), np.asarray(predicted, float)
    figure = ink.new_figure(9.6, 3.5)
    agreement, difference = figure.subplots(1, 2)
    _draw_agreement(agreement, reference, predicted, quantity, unit)
    _draw_difference(difference, reference, predicted, unit)
    for axis in (agreement, difference):
        ink.with_quiet_grid(axis)
    ink.add_title(figure, title, 11)
    return figure


def _draw_agreement(axis: "Axes", reference: np.ndarray, predicted: np.ndarray, quantity: str, unit: str) -> None:
    top = max(float(max(reference.max(initial=0), predicted.max(initial=0))) * 1.08, 1e-6)
    axis.plot([0, top], [0, top], color=ink.MUTED, linewidth=1, linestyle="dashed")
    _draw_points(axis, reference, predicted)
    axis.set_xlim(0, top)
    axis.set_ylim(0, top)
    axis.set_xlabel(f"reference [{unit}]", fontsize=9, color=ink.MUTED)
    axis.set_ylabel(f"predicted [{unit}]", fontsize=9, color=ink.MUTED)
    axis.set_title(f"{quantity}: predicted and reference", fontsize=10, color=ink.INK, loc="left")


def _draw_difference(axis: "Axes", reference: np.ndarray, predicted: np.ndarray, unit: str) -> None:
    errors = predicted - reference
    _draw_points(axis, (predicted + reference) / 2, errors)
    if errors.size > 1:
        mean, spread = float(errors.mean()), 1.96 * float(errors.std(ddof=1))
        _draw_level(axis, mean, "mean", "solid")
        _draw_level(axis, mean - spread, "mean - 1.96 SD", "dashed")
        _draw_level(axis, mean + spread, "mean + 1.96 SD", "dashed")
        axis.margins(y=0.2)
    axis.axhline(0.0, color=ink.MUTED, linewidth=0.8)
    axis.set_xlabel(f"mean of both [{unit}]", fontsize=9, color=ink.MUTED)
    axis.set_ylabel(f"predicted - reference [{unit}]", fontsize=9, color=ink.MUTED)
    axis.set_title("difference (Bland-Altman)", fontsize=10, color=ink.INK, loc="left")


def _draw_points(axis: "Axes", x: np.ndarray, y: np.ndarray) -> None:
    axis.scatter(x, y, s=26, color=ink.ACCENTS[0], alpha=0.8, edgecolor="white", linewidth=0.5)


def _draw_level(axis: "Axes", level: float, text: str, style: str) -> None:
    """A horizontal line with its name and value at the right."""
    axis.axhline(level, color=ink.ACCENTS[1], linewidth=1, linestyle=style)
    axis.annotate(
        f"{text} {level:+.1f}",
        (1.0, level),
        xycoords=("axes fraction", "data"),
        fontsize=8,
        color=ink.ACCENTS[1],
        ha="right",
        va="bottom",
    )
