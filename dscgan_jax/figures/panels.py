"""Pictures of maps: slices of series, reference and predictions beside each other, and one exam's maps as a light box.

Images are (row, col) in radiological order: row 0 anterior, the patient's right on the image's left. Each map has one
window (`maps.py`), the same for reference, prediction and every subject (TTP: each subject its own); errors have half
its width.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dscgan_jax.figures import ink
from dscgan_jax.maps import MAPS, MapSpec, spec_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERROR_COLOURS = "magma"
MOST_SLICES = 6  # of a light box
GAP = 0.03  # between the slices of a light box, of a slice's width
LABEL_INCHES, BAR_INCHES = 0.26, 0.72  # left and right of a light box's rows
TITLES_INCHES, ROW_GAP_INCHES = 0.52, 0.16  # above all rows, and between them
FRAME_TITLE = "source, bolus peak"


@dataclasses.dataclass(frozen=True)
class PanelRow:
    """One slice of one map.

    Attributes:
      map_name: a name of `MAPS`; it gives unit, window and colour map.
      label: subject and slice, e.g. "sub-0003, slice 12".
      frame: (row, col) frame of the series at the bolus peak, scanner units.
      reference: (row, col) measured map, in the map's unit.
      predictions: {source name: (row, col)}, in the map's unit; |error| is shown for the first.
      brain: (row, col) bool; outside it errors are not shown. None: everything is.
      aspect: height of a pixel over its width.
      arrival_seconds: of the exam's bolus, from which on TTP is shown; None: not known.
    """

    map_name: str
    label: str
    frame: np.ndarray
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]
    brain: np.ndarray | None = None
    aspect: float = 1.0
    arrival_seconds: float | None = None

    def error(self) -> np.ndarray:
        """(row, col) |first prediction - reference|, 0 outside the brain."""
        error = np.abs(np.asarray(next(iter(self.predictions.values())), float) - self.reference)
        return error if self.brain is None else np.where(self.brain, error, 0.0)


def panel(
    frame: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    map_name: str,
    *,
    subject: str,
    slice_index: int,
    brain: np.ndarray | None = None,
) -> "Figure":
    """Frame of the series, reference, prediction and |error| of one slice.

    Args:
      frame: (row, col) frame at the bolus peak, scanner units.
      prediction: (row, col), in the map's unit.
      reference: (row, col), likewise.
      map_name: a name of `MAPS`.
      subject: identifier, for the label.
      slice_index: for the label.
      brain: (row, col) bool, or None.
    """
    label = f"{subject}, slice {slice_index}"
    return subject_figure([PanelRow(map_name, label, frame, reference, {"prediction": prediction}, brain)])


def subject_figure(rows: Sequence[PanelRow], title: str = "") -> "Figure":
    """Rows of frame, reference, prediction(s) and |error|, with colour bars and the contour of Tmax > 6 s.

    A solid contour is that of the picture's own map; a dashed one, on frame and error, is the reference's.

    Args:
      rows: at least one; all with the same predictions.
      title: of the figure.

    Raises:
      ValueError: the rows have different predictions.
    """
    names = list(rows[0].predictions)
    if any(list(row.predictions) != names for row in rows):
        raise ValueError("the rows of a figure must show the same predictions")
    headings = [FRAME_TITLE, "reference", *(ink.source_title(name) for name in names), "|error|"]
    height = 2.3 * len(rows) + 0.3 + (0.4 if title else 0.0)
    figure = ink.new_figure(2.35 * len(headings) + 1.5, height)
    axes = ink.grid_of_axes(figure, len(rows), len(headings))
    for row_axes, row in zip(axes, rows, strict=True):
        _draw_row(figure, list(row_axes), row)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=10, color=ink.INK)
    ink.add_title(figure, title)
    return figure


def _draw_row(figure: "Figure", axes: "list[Axes]", row: PanelRow) -> None:
    spec = MAPS[row.map_name]
    window = spec.window_of(row.arrival_seconds)
    error_window = (0.0, (window[1] - window[0]) / 2)
    maps = [row.reference, *row.predictions.values()]
    _show(axes[0], row.frame, "gray", (0.0, ink.white_level(row.frame, row.brain)), row.aspect, None)
    for axis, values in zip(axes[1:-1], maps, strict=True):
        _show(axis, values, spec.colour_map, window, row.aspect)
    _show(axes[-1], row.error(), ERROR_COLOURS, error_window, row.aspect)
    if row.map_name == "tmax":
        for axis, values in zip(axes[1:-1], maps, strict=True):
            _contour(axis, values, row.brain, "solid")
        for axis in (axes[0], axes[-1]):
            _contour(axis, row.reference, row.brain, "dashed")
    ink.mark_sides(axes[0])
    axes[0].set_ylabel(f"{spec.title}\n{row.label}", fontsize=9, color=ink.INK, parse_math=False)
    ink.add_colour_bar(figure, axes[-2], spec.colour_map, window, _with_unit(spec))
    ink.add_colour_bar(figure, axes[-1], ERROR_COLOURS, error_window, f"|error| [{spec.unit}]")


def _show(
    axis: "Axes",
    values: np.ndarray,
    colour_map: str,
    window: tuple[float, float],
    aspect: float,
    interpolation: str | None = "nearest",
) -> None:
    """A picture (row, col) without frame."""
    axis.imshow(values, cmap=colour_map, vmin=window[0], vmax=window[1], aspect=aspect, interpolation=interpolation)
    ink.without_frame(axis)


def _with_unit(spec: MapSpec) -> str:
    return f"{spec.title} [{spec.unit}]"


def _contour(axis: "Axes", values: np.ndarray, brain: np.ndarray | None, style: str) -> None:
    over = np.asarray(values) > ink.CONTOUR_SECONDS
    if brain is not None:
        over &= brain
    if over.any() and not over.all():
        axis.contour(over.astype(float), levels=[0.5], colors="white", linewidths=0.9, linestyles=style)


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
    where = np.flatnonzero(brain)
    return int(np.argmin([frame.take(where).mean() for frame in series.reshape(len(series), -1)])) if len(where) else 0


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
      predicted: (slice, row, col, target), physical units.
      reference: (slice, row, col, target), physical units.
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
    ink.save_png(figure, path)
    return ink.to_rgb(figure)


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A volume of a light box, and how it is shown."""

    volume: np.ndarray
    label: str  # at the side of its row
    heading: str  # of its colour bar, or above a lone slice
    colour_map: str
    window: tuple[float, float]
    has_bar: bool


def maps_png(
    volumes: Mapping[str, np.ndarray],
    frame: np.ndarray,
    *,
    slices: Sequence[int],
    white: float,
    title: str = "",
    aspect: float = 1.0,
    arrival_seconds: float | None = None,
) -> bytes:
    """One exam's maps as a light box, PNG: a frame of the series and each map, slice beside slice.

    Args:
      volumes: {map name: (x, y, slice)} in RAS order, physical units; the slices that are shown alone.
      frame: (x, y, slice) of the series, scanner units, likewise; of the `darkest_frame`.
      slices: which ones of the exam they are, from 0; `evenly_spaced`.
      white: what is white in the frame; `ink.white_level` of all its slices.
      title: e.g. the file's name.
      aspect: height of a voxel (y) over its width (x).
      arrival_seconds: of the bolus, from which on TTP is shown; None: not known.
    """
    maps = [_map_shown(name, volume, arrival_seconds) for name, volume in volumes.items()]
    shown = [_Shown(frame, FRAME_TITLE, FRAME_TITLE, "gray", (0.0, white), False), *maps]
    figure = _rows_of_slices(shown, slices, aspect) if len(slices) > 1 else _lone_slices(shown, aspect)
    ink.add_title(figure, title)
    return ink.to_png(figure)


def evenly_spaced(n_slices: int, most: int = MOST_SLICES) -> list[int]:
    """At most so many slices, the first and the last left out where not all are taken."""
    if n_slices <= most:
        return list(range(n_slices))
    return sorted(set(np.linspace(0, n_slices - 1, most + 2).round().astype(int)[1:-1].tolist()))


def darkest_frame(series: np.ndarray) -> np.ndarray:
    """(x, y, z) the frame of a series (x, y, z, time) where the head is darkest."""
    frames = series.reshape((-1, series.shape[3], 1), order="F")  # no copy of a series that lies frame by frame
    return series[..., bolus_frame(np.swapaxes(frames, 0, 1))]


def _map_shown(name: str, volume: np.ndarray, arrival_seconds: float | None) -> _Shown:
    spec = spec_of(name)
    return _Shown(volume, spec.title, _with_unit(spec), spec.colour_map, spec.window_of(arrival_seconds), True)


def _rows_of_slices(shown: Sequence[_Shown], slices: Sequence[int], aspect: float) -> "Figure":
    """One row for each volume; its slices are one picture, since Matplotlib takes its time for each axis.

    Each row has its place: to find where nothing overlaps takes Matplotlib as long as to draw.
    """
    wide, high = 2.2 * len(slices) + 0.9, 2.3 * len(shown) + 0.6  # inches, as all lengths here
    figure, axes = ink.new_figure(wide, high, laid_out=False), []
    for number, one in enumerate(shown):
        row, lefts = _beside_each_other([axial(one.volume, place) for place in range(len(slices))])
        most = wide - LABEL_INCHES - BAR_INCHES, (high - TITLES_INCHES) / len(shown) - ROW_GAP_INCHES
        scale = min(most[0] / row.shape[1], most[1] / (row.shape[0] * aspect))
        width, height = scale * row.shape[1], scale * row.shape[0] * aspect
        bottom = high - TITLES_INCHES - (number + 1) * (most[1] + ROW_GAP_INCHES) + ROW_GAP_INCHES
        bottom += 0.5 * (most[1] - height)
        axis = figure.add_axes((LABEL_INCHES / wide, bottom / high, width / wide, height / high))
        _show(axis, row, one.colour_map, one.window, aspect)
        axis.set_ylabel(one.label, fontsize=9, color=ink.INK, parse_math=False)
        if one.has_bar:
            left = LABEL_INCHES + width + 0.06
            bar = figure.add_axes((left / wide, (bottom + 0.02 * height) / high, 0.1 / wide, 0.96 * height / high))
            ink.add_colour_bar(figure, axis, one.colour_map, one.window, one.heading, place=bar)
        axes.append(axis)
    width = shown[0].volume.shape[0]
    for z, left in zip(slices, lefts, strict=True):
        axes[0].text(
            left + width / 2, -0.03 * width, f"slice {z + 1}", fontsize=9, color=ink.INK, ha="center", va="bottom"
        )
    ink.mark_sides(axes[0], [(left / row.shape[1], (left + width) / row.shape[1]) for left in lefts])
    return figure


def _beside_each_other(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Pictures (row, col) as one, with gaps that show nothing, and the first column of each."""
    n_rows, n_cols = pictures[0].shape
    gap = max(1, round(GAP * n_cols))
    row = np.full((n_rows, len(pictures) * (n_cols + gap) - gap), np.nan, np.float32)
    lefts = [number * (n_cols + gap) for number in range(len(pictures))]
    for left, picture in zip(lefts, pictures, strict=True):
        row[:, left : left + n_cols] = picture
    return row, lefts


def _lone_slices(shown: Sequence[_Shown], aspect: float) -> "Figure":
    """The only slice of each volume, beside each other."""
    n_bars = sum(one.has_bar for one in shown)
    figure = ink.new_figure(2.2 * len(shown) + 0.9 * n_bars, 2.3 + 0.6)
    axes = ink.grid_of_axes(figure, 1, len(shown))[0]
    for axis, one in zip(axes, shown, strict=True):
        _show(axis, axial(one.volume, 0), one.colour_map, one.window, aspect)
        axis.set_title(one.label, fontsize=9, color=ink.INK, parse_math=False)
        if one.has_bar:
            ink.add_colour_bar(figure, axis, one.colour_map, one.window, one.heading)
    ink.mark_sides(axes[0])
    return figure
