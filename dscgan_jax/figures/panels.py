"""Panels of maps, curves of training, agreement of volumes.

Pictures are drawn on Matplotlib figures of their own (no pyplot, no display). Images are (row, col) in radiological
order: row 0 anterior, the patient's right on the image's left. Each map has one fixed window (`maps.py`), the same for
reference, prediction and every subject; errors have half its width.
"""

import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dscgan_jax.maps import MAPS

CONTOUR_SECONDS = 6.0  # Tmax above which tissue is called hypoperfused
ERROR_COLOURS = "magma"
INK, MUTED, ACCENTS = "#1f2933", "#616e7c", ("#1565a9", "#c2571a", "#2f855a", "#6b46c1", "#b7791f")
_TITLES = {
    "network_batch": "network (slice statistics)",
    "network_running": "network (running statistics)",
    "blank": "null: blank",
    "null_median": "null: training median",
    "csvd": "cSVD",
    "osvd": "oSVD",
    "parametric": "parametric fit",
}


def source_title(name: str) -> str:
    """The name of a source of maps as it is printed."""
    return _TITLES.get(name, name)


@dataclasses.dataclass(frozen=True)
class PanelRow:
    """One slice of one map.

    Attributes:
      map_name: a name of `MAPS`; it gives unit, window and colour map.
      label: subject and slice, e.g. "sub-0003, slice 12".
      source: (row, col) frame of the series at the bolus peak, scanner units.
      reference: (row, col) measured map, in the map's unit.
      predictions: {source name: (row, col)}, in the map's unit; |error| is shown for the first.
      brain: (row, col) bool; outside it errors are not shown. None: everything is.
      aspect: height of a pixel over its width.
    """

    map_name: str
    label: str
    source: np.ndarray
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]
    brain: np.ndarray | None = None
    aspect: float = 1.0


def panel(
    source: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    map_name: str,
    *,
    subject: str,
    slice_index: int,
    brain: np.ndarray | None = None,
) -> Figure:
    """Source frame, reference, prediction, |error| of one slice, each (row, col)."""
    return subject_figure(
        [PanelRow(map_name, f"{subject}, slice {slice_index}", source, reference, {"prediction": prediction}, brain)]
    )


def subject_figure(rows: Sequence[PanelRow], title: str = "") -> Figure:
    """Rows of source frame, reference, prediction(s) and |error|, with colour bars and the contour of Tmax > 6 s.

    All rows have the same predictions. A solid contour is that of the picture's own map; a dashed one, on source and
    error, is the reference's.
    """
    names = list(rows[0].predictions)
    if any(list(row.predictions) != names for row in rows):
        raise ValueError("the rows of a figure must show the same predictions")
    headings = ["source, bolus peak", "reference", *(source_title(name) for name in names), "|error|"]
    height = 2.3 * len(rows) + 0.3 + (0.4 if title else 0.0)
    figure = Figure(figsize=(2.35 * len(headings) + 1.5, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.02)
    axes = figure.subplots(len(rows), len(headings), squeeze=False)
    for row_axes, row in zip(axes, rows, strict=True):
        _draw_row(figure, list(row_axes), row)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=10, color=INK)
    if title:
        figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left", weight="bold")
    return figure


def _draw_row(figure: Figure, axes: list[Any], row: PanelRow) -> None:
    spec = MAPS[row.map_name]
    low, high = spec.window
    error_high = (high - low) / 2
    error = np.abs(np.asarray(next(iter(row.predictions.values())), float) - row.reference)
    if row.brain is not None:
        error = np.where(row.brain, error, 0.0)
    maps = [row.reference, *row.predictions.values()]

    axes[0].imshow(row.source, cmap="gray", vmin=0.0, vmax=_bright(row.source, row.brain), aspect=row.aspect)
    for axis, values in zip(axes[1:-1], maps, strict=True):
        axis.imshow(values, cmap=spec.colour_map, vmin=low, vmax=high, aspect=row.aspect, interpolation="nearest")
    axes[-1].imshow(error, cmap=ERROR_COLOURS, vmin=0.0, vmax=error_high, aspect=row.aspect, interpolation="nearest")
    if row.map_name == "tmax":
        for axis, values in zip(axes[1:-1], maps, strict=True):
            _contour(axis, values, row.brain, "solid")
        for axis in (axes[0], axes[-1]):
            _contour(axis, row.reference, row.brain, "dashed")
    for axis in axes:
        _bare(axis)
    _mark_sides(axes[0])
    axes[0].set_ylabel(f"{spec.title}\n{row.label}", fontsize=9, color=INK)
    _colour_bar(figure, axes[-2], spec.colour_map, (low, high), f"{spec.title} [{spec.unit}]")
    _colour_bar(figure, axes[-1], ERROR_COLOURS, (0.0, error_high), f"|error| [{spec.unit}]")


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _mark_sides(axis: Any) -> None:
    for text, x, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
        axis.text(x, 0.98, text, transform=axis.transAxes, color="white", fontsize=9, ha=side, va="top")


def _colour_bar(figure: Figure, axes: Any, colours: str, window: tuple[float, float], label: str) -> None:
    share = 0.05 / (len(axes) if isinstance(axes, list) else 1)
    bar = figure.colorbar(
        ScalarMappable(Normalize(*window), colours), ax=axes, fraction=share, pad=0.4 * share, aspect=18, extend="max"
    )
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def _contour(axis: Any, values: np.ndarray, brain: np.ndarray | None, style: str) -> None:
    over = np.asarray(values) > CONTOUR_SECONDS
    if brain is not None:
        over &= brain
    if over.any() and not over.all():
        axis.contour(over.astype(float), levels=[0.5], colors="white", linewidths=0.9, linestyles=style)


def _bright(frame: np.ndarray, brain: np.ndarray | None) -> float:
    """White of the source picture: the brain's 99th percentile, so that bright scalp does not darken the brain."""
    values = np.asarray(frame)[brain] if brain is not None and brain.any() else np.asarray(frame)
    values = values[np.isfinite(values)]
    return max(float(np.percentile(values, 99)) * 1.1, 1e-6) if values.size else 1.0


def axial(volume: np.ndarray, z: int) -> np.ndarray:
    """Slice `z` of a RAS volume (x, y, z, ...) as a picture (row, col, ...): anterior on top, right at left."""
    return np.swapaxes(volume[::-1, ::-1, z], 0, 1)


def bolus_frame(series: np.ndarray, brain: np.ndarray | None = None) -> int:
    """The frame where the brain is darkest.

    Args:
      series: (time, row, col), scanner units.
      brain: (row, col) bool; None: pixels above a quarter of the brightest, which leaves the air out.
    """
    mean_image = series.mean(axis=0)
    if brain is None or not brain.any():
        brain = mean_image > mean_image.max() / 4
    return int(series[:, brain].mean(axis=1).argmin()) if brain.any() else 0


def sample_panel(
    path: pathlib.Path,
    *,
    series: np.ndarray,
    predicted: np.ndarray,
    reference: np.ndarray,
    targets: Sequence[str],
    titles: Sequence[str],
    brain: np.ndarray | None = None,
) -> np.ndarray:
    """Writes the panel that training leaves every few epochs and returns it as (row, col, 3) uint8.

    Args:
      path: PNG file.
      series: (slice, time, row, col), scanner units.
      predicted, reference: (slice, row, col, target), physical units.
      targets: names of the maps.
      titles: subject and slice of each slice.
      brain: (slice, row, col) bool.
    """
    rows = []
    for i, title in enumerate(titles):
        inside = None if brain is None else np.asarray(brain[i], bool)
        frame = series[i, bolus_frame(series[i], inside)]
        rows += [
            PanelRow(name, title, frame, reference[i, ..., channel], {"prediction": predicted[i, ..., channel]}, inside)
            for channel, name in enumerate(targets)
        ]
    figure = subject_figure(rows)
    save_png(figure, path)
    return to_rgb(figure)


def maps_picture(
    path: pathlib.Path,
    volumes: Mapping[str, np.ndarray],
    series: np.ndarray,
    *,
    title: str = "",
    most_slices: int = 6,
    aspect: float = 1.0,
) -> None:
    """Writes one exam's maps as a light box: the source frame and each map, slice beside slice.

    Args:
      path: PNG file.
      volumes: {map name: (x, y, z)} in RAS order, physical units.
      series: (x, y, z, time), scanner units.
      title: e.g. the file's name.
      most_slices: evenly spaced slices that are shown.
      aspect: height of a voxel (y) over its width (x).
    """
    n_slices = series.shape[2]
    shown = np.unique(
        np.linspace(0, n_slices - 1, min(n_slices, most_slices) + 2).round().astype(int)[1:-1]
        if n_slices > most_slices
        else np.arange(n_slices)
    )
    curve = np.moveaxis(series, 3, 0)
    peak = bolus_frame(curve.reshape(curve.shape[0], curve.shape[1], -1))
    pictures = {"": series[..., peak], **volumes}
    many = len(shown) > 1  # rows are maps; a single slice lies on its side instead
    shape = (len(pictures), len(shown)) if many else (1, len(pictures))
    figure = Figure(
        figsize=(2.2 * shape[1] + (0.9 if many else 0.9 * len(volumes)), 2.3 * shape[0] + 0.6),
        layout="constrained",
        facecolor="white",
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.02)
    axes = figure.subplots(*shape, squeeze=False)
    for i, (name, volume) in enumerate(pictures.items()):
        mine = list(axes[i]) if many else [axes[0, i]]
        colours, window = (MAPS[name].colour_map, MAPS[name].window) if name else ("gray", (0.0, _bright(volume, None)))
        heading = f"{MAPS[name].title} [{MAPS[name].unit}]" if name else "source, bolus peak"
        for axis, z in zip(mine, shown, strict=True):
            axis.imshow(
                axial(volume, z), cmap=colours, vmin=window[0], vmax=window[1], aspect=aspect, interpolation="nearest"
            )
            _bare(axis)
            if not name:
                axis.set_title(f"slice {z}" if many else heading, fontsize=9, color=INK)
                _mark_sides(axis)
        if many:
            mine[0].set_ylabel(MAPS[name].title if name else heading, fontsize=9, color=INK)
        elif name:
            mine[0].set_title(MAPS[name].title, fontsize=9, color=INK)
        if name:
            _colour_bar(figure, mine if many else mine[0], colours, window, heading)
    if title:
        figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left", weight="bold")
    save_png(figure, path)


def arterial_figure(
    seconds: np.ndarray,
    arterial: np.ndarray,
    tissue: np.ndarray,
    unit: str,
    background: np.ndarray,
    voxels: np.ndarray | None,
    *,
    transient_frames: int = 0,
    title: str = "",
    aspect: float = 1.0,
) -> Figure:
    """The arterial curve beside the brain's mean curve, and the arterial voxels on the slices that hold most of them.

    Args:
      seconds: (time,).
      arterial, tissue: (time,) arterial curve, and mean over the tissue.
      unit: of both.
      background: (x, y, z) in RAS order, signal before the bolus.
      voxels: (x, y, z) bool; None for a curve from a file.
      transient_frames: at the begin, shaded: they do not count.
      title: e.g. the subject and how good the curve is.
      aspect: height of a voxel (y) over its width (x).
    """
    counts = np.zeros(background.shape[2], int) if voxels is None else voxels.sum(axis=(0, 1))
    shown = np.sort(np.argsort(-counts, kind="stable")[: min(3, int((counts > 0).sum()))])
    figure = Figure(figsize=(5.6 + 2.7 * len(shown), 3.2), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(1, 1 + len(shown), width_ratios=[2.1] + [1.0] * len(shown)))
    curve = axes[0]
    curve.plot(seconds, arterial, color=ACCENTS[1], marker=".", label="arterial input")
    gain = float(np.max(arterial) / max(np.max(tissue), 1e-12))
    curve.plot(seconds, tissue * gain, color=ACCENTS[0], label=f"mean of tissue x {gain:.3g}")
    if transient_frames:
        curve.axvspan(seconds[0], seconds[transient_frames - 1], color="#eceff3", label="not in steady state")
    curve.axhline(0.0, color=MUTED, linewidth=0.6)
    curve.set_xlabel("time from the first frame [s]", fontsize=9, color=INK)
    curve.set_ylabel(unit, fontsize=9, color=INK)
    curve.legend(fontsize=8, frameon=False)
    _quiet(curve)
    for axis, z in zip(axes[1:], shown, strict=True):
        picture = axial(background, z)
        axis.imshow(picture, cmap="gray", vmin=0.0, vmax=_bright(picture, None), aspect=aspect)
        rows, cols = np.nonzero(axial(voxels, z))
        axis.scatter(cols, rows, s=14, marker="s", facecolors="none", edgecolors=ACCENTS[1], linewidths=1.0)
        axis.set_title(f"slice {z}: {counts[z]} voxel{'s' if counts[z] != 1 else ''}", fontsize=9, color=INK)
        _bare(axis)
    if len(shown):
        _mark_sides(axes[1])
    if title:
        figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left", weight="bold")
    return figure


def motion_figure(seconds: np.ndarray, millimetres: np.ndarray, degrees: np.ndarray, resampled: np.ndarray) -> Figure:
    """The head's pose in every frame.

    Args:
      seconds: (time,).
      millimetres, degrees: (time, 3) about x (to the right), y (to the front) and z (upwards).
      resampled: (time,) frames that were brought back.
    """
    figure = Figure(figsize=(9.5, 2.6), layout="constrained", facecolor="white")
    for axis, values, label in zip(
        figure.subplots(1, 2), (millimetres, degrees), ("shift [mm]", "rotation [degrees]"), strict=True
    ):
        for column, (name, colour) in enumerate(zip("xyz", ACCENTS, strict=False)):
            axis.plot(seconds, values[:, column], color=colour, label=name)
        top = max(float(np.abs(values).max()) * 1.1, 0.3)
        axis.set_ylim(-top, top)
        axis.fill_between(seconds, -top, top, where=resampled, color="#fdf1d8", step="mid", label="brought back")
        axis.set_xlabel("time from the first frame [s]", fontsize=9, color=INK)
        axis.set_ylabel(label, fontsize=9, color=INK)
        _quiet(axis)
    figure.axes[0].legend(fontsize=8, frameon=False, ncols=4)
    return figure


_GROUPS = (
    ("generator loss", lambda name: name in ("loss_g", "loss_adversarial", "loss_l1")),
    ("discriminator loss", lambda name: name.startswith("loss_d")),
    ("discriminator accuracy", lambda name: name.startswith("accuracy")),
    ("validation", lambda name: name.startswith("validation_")),
)


def curves_figure(rows: Sequence[Mapping[str, Any]], chosen_step: int | None = None) -> Figure | None:
    """Training and validation curves over steps; None where there is nothing to draw.

    Args:
      rows: of `metrics.jsonl`.
      chosen_step: marked on the validation curves.
    """
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    groups = [(title, [name for name in curves if belongs(name)]) for title, belongs in _GROUPS]
    groups = [(title, names) for title, names in groups if names]
    if sum(name.startswith("validation_brain_mae") for name in curves) == 1:  # the mean over maps is the same curve
        groups = [(title, [name for name in names if name != "validation_error"]) for title, names in groups]
    if not groups:
        return None
    columns = min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(4.8 * columns, 2.7 * lines), layout="constrained", facecolor="white")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (title, names) in zip(axes, groups, strict=False):
        for name, colour in zip(names, _cycle(ACCENTS), strict=False):
            steps, values = curves[name]
            axis.plot(
                steps,
                values,
                color=colour,
                linewidth=1.4,
                label=_curve_label(name),
                marker="o" if len(steps) < 30 else None,
                markersize=3,
            )
        if "accuracy" in title:
            axis.set_ylim(-0.02, 1.02)
        if title == "validation" and len(names) > 1 and min(min(curves[name][1]) for name in names) > 0:
            axis.set_yscale("log")  # several units on one axis
        if title == "validation" and chosen_step is not None:
            axis.axvline(chosen_step, color=MUTED, linewidth=1, linestyle="dashed")
        axis.set_title(title, fontsize=10, color=INK, loc="left")
        axis.legend(fontsize=8, framealpha=0.8, edgecolor="none")
        axis.set_xlabel("step", fontsize=9, color=MUTED)
        _quiet(axis)
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    return figure


def _curve_label(name: str) -> str:
    prefix = "validation_brain_mae_"
    if name.startswith(prefix) and (spec := MAPS.get(name.removeprefix(prefix))):
        return f"brain MAE of {spec.title} [{spec.unit}]"
    return "mean error, share of the range" if name == "validation_error" else name


def bland_altman_figure(
    reference: Sequence[float], predicted: Sequence[float], *, quantity: str, unit: str, title: str = ""
) -> Figure:
    """Two views of the same agreement: predicted over reference, and their difference over their mean.

    Args:
      reference, predicted: one number per subject.
      quantity, unit: e.g. "volume of Tmax > 6 s", "ml".
      title: e.g. the source's name.

    Lines at the right: mean difference and the limits of agreement, mean ± 1.96 SD (Bland and Altman 1986).
    """
    reference, predicted = np.asarray(reference, float), np.asarray(predicted, float)
    figure = Figure(figsize=(9.6, 3.5), layout="constrained", facecolor="white")
    scatter, difference = figure.subplots(1, 2)
    top = max(float(max(reference.max(initial=0), predicted.max(initial=0))) * 1.08, 1e-6)
    scatter.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle="dashed")
    scatter.scatter(reference, predicted, s=26, color=ACCENTS[0], alpha=0.8, edgecolor="white", linewidth=0.5)
    scatter.set_xlim(0, top)
    scatter.set_ylim(0, top)
    scatter.set_xlabel(f"reference [{unit}]", fontsize=9, color=MUTED)
    scatter.set_ylabel(f"predicted [{unit}]", fontsize=9, color=MUTED)
    scatter.set_title(f"{quantity}: predicted and reference", fontsize=10, color=INK, loc="left")

    errors = predicted - reference
    difference.scatter(
        (predicted + reference) / 2, errors, s=26, color=ACCENTS[0], alpha=0.8, edgecolor="white", linewidth=0.5
    )
    if errors.size > 1:
        mean, spread = float(errors.mean()), 1.96 * float(errors.std(ddof=1))
        for level, text, style in (
            (mean, "mean", "solid"),
            (mean - spread, "mean - 1.96 SD", "dashed"),
            (mean + spread, "mean + 1.96 SD", "dashed"),
        ):
            difference.axhline(level, color=ACCENTS[1], linewidth=1, linestyle=style)
            difference.annotate(
                f"{text} {level:+.1f}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                color=ACCENTS[1],
                ha="right",
                va="bottom",
            )
        difference.margins(y=0.2)
    difference.axhline(0.0, color=MUTED, linewidth=0.8)
    difference.set_xlabel(f"mean of both [{unit}]", fontsize=9, color=MUTED)
    difference.set_ylabel(f"predicted - reference [{unit}]", fontsize=9, color=MUTED)
    difference.set_title("difference (Bland-Altman)", fontsize=10, color=INK, loc="left")
    for axis in (scatter, difference):
        _quiet(axis)
    if title:
        figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left", weight="bold")
    return figure


def _quiet(axis: Any) -> None:
    axis.grid(color="#e4e7eb", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#9aa5b1")
    axis.tick_params(labelsize=8, colors=MUTED)


def _cycle(colours: Sequence[str]) -> Any:
    while True:
        yield from colours


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_png(figure: Figure, path: pathlib.Path, dpi: int = 110) -> None:
    """Writes the figure as a PNG file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure, dpi))


def to_rgb(figure: Figure, dpi: int = 80) -> np.ndarray:
    """The figure as (row, col, 3) uint8, for TensorBoard."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
