"""Pictures of the study of the shipped network, from its record alone: slices are kept in it as text."""

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from shipped_network_records import LEAST_LESION_ML, NETWORK, Record, dice, shown

from dscgan_jax.figures import ink, panels
from dscgan_jax.maps import MAPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A window's range in so many steps; a value is rounded up, so that Tmax > 6 s of 12 stays what it is. Higher values are
# kept as far as a byte goes.
STEPS = 240
COLOURS = {"acute": ink.ACCENTS[0], "chronic": ink.ACCENTS[1], "varied": ink.ACCENTS[2]}
MARKERS = {"acute": "o", "chronic": "^", "varied": "s"}


def packed(picture: np.ndarray, low: float, high: float) -> Record:
    """A picture (row, col) as plain values, in steps of a 240th of a window."""
    step = (high - low) / STEPS
    levels = np.clip(np.ceil((np.asarray(picture, np.float64) - low) / step), 0, 255).astype(np.uint8)
    text = base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()
    return {"shape": list(levels.shape), "low": low, "high": high, "levels": text}


def unpacked(record: Record) -> np.ndarray:
    """Inverse of `packed`, within a step."""
    levels = np.frombuffer(zlib.decompress(base64.b64decode(record["levels"])), np.uint8).reshape(record["shape"])
    return record["low"] + levels * ((record["high"] - record["low"]) / STEPS)


def exams_figure(exams: Sequence[Record], cohort: str) -> "Figure | None":
    """Tmax of the exams of a cohort with the median and the lowest Dice: truth, network, parametric fit, oSVD."""
    rows = []
    for title, exam in shown(exams).items():
        if "slice" not in exam:
            continue
        kept = exam["slice"]
        maps = {name: unpacked(one) for name, one in kept["tmax"].items()}
        missing = np.zeros_like(maps["truth"])  # of a method that refuses
        rows.append(
            panels.PanelRow(
                "tmax",
                f"{cohort} {exam['subject']}, slice {kept['slice']}\n{title} {dice(exam['scores'][NETWORK]):.2f}",
                unpacked(kept["frame"]),
                maps["truth"],
                {name: maps.get(name, missing) for name in (NETWORK, "parametric", "osvd")},
                unpacked(kept["brain"]) > 0,
                kept["aspect"],
            )
        )
    return panels.subject_figure(rows) if rows else None


def volumes_figure(exams: Sequence[Record]) -> "Figure":
    """Found minus true volume of Tmax > 6 s over the true one, network and parametric fit on one scale."""
    figure = ink.new_figure(11.0, 4.0)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, source in zip(axes, (NETWORK, "parametric"), strict=True):
        differences = []
        for cohort in dict.fromkeys(one["cohort"] for one in exams):
            scores = [one["scores"][source] for one in exams if one["cohort"] == cohort and source in one["scores"]]
            true = np.array([one["real_ml"] for one in scores])
            differences += (more := np.array([one["found_ml"] for one in scores]) - true).tolist()
            style = {"color": COLOURS[cohort], "markersize": 5, "alpha": 0.7, "markeredgewidth": 0}
            axis.plot(true, more, MARKERS[cohort], label=cohort, **style)
        if differences:
            mean, spread = float(np.mean(differences)), float(np.std(differences))
            axis.axhline(mean, color=ink.MUTED, linewidth=1.0)
            axis.axhspan(mean - 1.96 * spread, mean + 1.96 * spread, color=ink.SHADE, zorder=0)
            axis.set_title(
                f"{ink.source_title(source)}: {mean:+.1f} mL, limits of agreement "
                f"{mean - 1.96 * spread:+.0f} to {mean + 1.96 * spread:+.0f} mL",
                fontsize=10,
                color=ink.INK,
            )
        axis.set_xscale("symlog", linthresh=LEAST_LESION_ML)
        axis.set_yscale("symlog", linthresh=10.0)
        axis.set_xlim(left=-1.0)
        axis.set_xticks([0, 5, 10, 30, 100, 300], ["0", "5", "10", "30", "100", "300"])
        axis.set_yticks([-100, -30, -10, 0, 10, 30, 100], ["−100", "−30", "−10", "0", "+10", "+30", "+100"])
        axis.minorticks_off()
        axis.set_xlabel("true volume of Tmax > 6 s [mL]", fontsize=10, color=ink.INK)
        ink.with_quiet_grid(axis)
    axes[0].set_ylabel("found − true volume [mL]", fontsize=10, color=ink.INK)
    axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def real_figure(kept: Record) -> "Figure":
    """A frame of the real exam and the maps of network and parametric fit below each other, on one scale."""
    names = list(kept["network"])
    figure = ink.new_figure(2.5 * (len(names) + 1), 5.0)
    axes = ink.grid_of_axes(figure, 2, len(names) + 1)
    show: dict[str, Any] = {"aspect": kept["aspect"], "interpolation": "nearest"}
    frame = unpacked(kept["frame"])
    axes[0, 0].imshow(frame, cmap="gray", vmin=0, vmax=kept["frame"]["high"], **show)
    axes[0, 0].set_title(panels.FRAME_TITLE, fontsize=10, color=ink.INK)
    ink.mark_sides(axes[0, 0])
    _curves(axes[1, 0], kept["curves"])
    for row, source in zip(axes, ("network", "parametric"), strict=True):
        for axis, name in zip(row[1:], names, strict=True):
            one = kept[source][name]
            window = (one["low"], one["high"])
            axis.imshow(unpacked(one), cmap=MAPS[name].colour_map, vmin=window[0], vmax=window[1], **show)
            ink.add_colour_bar(figure, axis, MAPS[name].colour_map, window, f"[{MAPS[name].unit}]")
            axis.set_title(f"{MAPS[name].title}, {ink.source_title(source)}", fontsize=10, color=ink.INK)
            ink.without_frame(axis)
    ink.without_frame(axes[0, 0])
    return figure


def _curves(axis: Any, curves: Mapping[str, Sequence[float]]) -> None:
    """The mean signal of the brain."""
    axis.plot(curves["seconds"], curves["signal"], color=ink.INK, linewidth=1.2)
    axis.set_xlabel("time [s]", fontsize=9, color=ink.INK)
    axis.set_title("mean signal, network's brain", fontsize=10, color=ink.INK)
    axis.set_box_aspect(1)
    ink.with_quiet_grid(axis)


def scatter_figure(kept: Record) -> "Figure":
    """Network against the measured time of the lowest signal, and against the parametric fit, voxel by voxel."""
    figure = ink.new_figure(9.0, 4.2)
    for axis, (title, one) in zip(figure.subplots(1, 2), kept["voxels"].items(), strict=True):
        x, y = np.array(one["x"]), np.array(one["y"])
        axis.plot(x, y, ".", color=ink.ACCENTS[0], markersize=2, alpha=0.4)
        ends = [math.floor(min(x.min(), y.min())), math.ceil(max(x.max(), y.max()))]
        axis.plot(ends, ends, color=ink.MUTED, linewidth=0.8)
        axis.set_xlabel(one["of_x"], fontsize=10, color=ink.INK)
        axis.set_ylabel(f"{title}, network [s]", fontsize=10, color=ink.INK)
        ink.with_quiet_grid(axis)
    return figure
