"""How pictures look: colours, titles of sources and methods, axes without clutter, and figures as files.

Pictures are drawn on Matplotlib figures of their own (no pyplot, no display). Matplotlib is imported with the first
picture: who only wants a title does not wait for it.
"""

import importlib
import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTOUR_SECONDS = 6.0  # Tmax above which tissue is called hypoperfused
INK, MUTED, ACCENTS = "#1f2933", "#616e7c", ("#1565a9", "#c2571a", "#2f855a", "#6b46c1", "#b7791f")
TITLE_INCHES = 0.05  # of a figure's title from its upper edge
PNG_LEVEL = 3  # zlib's; 6, the default, takes twice as long for a tenth less of a light box
GRID, SPINE, SHADE, HIGHLIGHT = "#e4e7eb", "#9aa5b1", "#eceff3", "#fdf1d8"

METHOD_TITLES = {"parametric": "parametric fit", "osvd": "oSVD", "csvd": "cSVD", "ssvd": "sSVD (for teaching only)"}
NULL_TITLES = {"blank": "null: blank", "null_median": "null: training median"}
_SOURCE_TITLES = {
    "network_per_slice": "network, per-slice statistics",
    "network_running": "network, running statistics",
    "trees": "trees on curves",
    **NULL_TITLES,
    **METHOD_TITLES,
}


def source_title(name: str) -> str:
    """The name of a source of maps as it is printed; a folder's own name stays as it is."""
    return _SOURCE_TITLES.get(name, name)


def load_matplotlib() -> None:
    """Imports what draws: half a second."""
    importlib.import_module("matplotlib.figure")
    importlib.import_module("matplotlib.backends.backend_agg")


def new_figure(width: float, height: float, *, laid_out: bool = True) -> "Figure":
    """An empty white figure, in inches, whose axes are `laid_out` without overlaps, or where they are put."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if laid_out else None, facecolor="white")


def grid_of_axes(figure: "Figure", n_rows: int, n_cols: int) -> "np.ndarray":
    """Axes for pictures close together, (row, col)."""
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.02)
    return figure.subplots(n_rows, n_cols, squeeze=False)


def add_title(figure: "Figure", text: str, size: float = 12) -> None:
    """A bold line at the top left; an empty text adds nothing."""
    if text:
        # Where axes are put and not laid out, its place is told, too.
        place = {} if figure.get_layout_engine() else {"y": 1.0 - TITLE_INCHES / figure.get_figheight(), "va": "top"}
        figure.suptitle(text, fontsize=size, color=INK, x=0.01, ha="left", weight="bold", parse_math=False, **place)


def without_frame(axis: "Axes") -> None:
    """Takes ticks and spines away: the axes hold a picture."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def with_quiet_grid(axis: "Axes") -> None:
    """Pale grid and spines: the axes hold a plot."""
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(SPINE)
    axis.tick_params(labelsize=8, colors=MUTED)


def mark_sides(axis: "Axes", parts: Sequence[tuple[float, float]] = ((0.0, 1.0),)) -> None:
    """R and L of the patient on pictures in radiological order.

    Args:
      axis: where they are.
      parts: left and right end of each picture, shares of the axis' width.
    """
    for left, right in parts:
        margin = 0.02 * (right - left)
        for text, x, side in (("R", left + margin, "left"), ("L", right - margin, "right")):
            axis.text(x, 0.98, text, transform=axis.transAxes, color="white", fontsize=9, ha=side, va="top")


def add_colour_bar(
    figure: "Figure",
    axis: "Axes",
    colour_map: str,
    window: tuple[float, float],
    label: str,
    n_pictures: int = 1,
    place: "Axes | None" = None,
) -> None:
    """A bar at the right of an axis.

    Args:
      figure: of the axes.
      axis: with one picture or a row of pictures.
      colour_map: its name in Matplotlib.
      window: lowest and highest value that is shown.
      label: quantity and unit.
      n_pictures: in the row.
      place: the bar's own axis; None: a part of the other one.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    share = 0.05 / n_pictures
    shown = ScalarMappable(Normalize(*window), colour_map)
    where = {"cax": place} if place else {"ax": axis, "fraction": share, "pad": 0.4 * share, "aspect": 18}
    bar = figure.colorbar(shown, extend="max", **where)
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def white_level(frame: np.ndarray, brain: np.ndarray | None) -> float:
    """Value shown as white: 1.1 times the 99th percentile of the brain, so that bright scalp does not darken the brain.

    Args:
      frame: (row, col) or a volume, scanner units.
      brain: bool, of the same shape; None: everything counts.
    """
    values = np.asarray(frame)[brain] if brain is not None and brain.any() else np.asarray(frame)
    values = values[np.isfinite(values)]
    return max(float(np.percentile(values, 99)) * 1.1, 1e-6) if values.size else 1.0


def colour_table(colour_map: str) -> bytes:
    """256 colours of a map by its name in Matplotlib, 3 bytes each."""
    from matplotlib import colormaps

    return colormaps[colour_map](np.arange(256), bytes=True)[:, :3].tobytes()


def to_png(figure: "Figure", dpi: int = 110) -> bytes:
    """The figure as the content of a PNG file, drawn once; Matplotlib's own way lays it out by drawing it twice."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(to_rgb(figure, dpi)).save(buffer, format="png", dpi=(dpi, dpi), compress_level=PNG_LEVEL)
    return buffer.getvalue()


def save_png(figure: "Figure", path: pathlib.Path, dpi: int = 110) -> None:
    """Writes the figure as a PNG file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure, dpi))


def to_rgb(figure: "Figure", dpi: int = 80) -> np.ndarray:
    """The figure as (row, col, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
