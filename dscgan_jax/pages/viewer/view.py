"""What a viewer shows, and the HTML of it."""

import base64
import dataclasses
import functools
import html
import importlib.resources
import json
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.figures import apart, ink
from dscgan_jax.maps import spec_of
from dscgan_jax.pages.viewer import packing
from dscgan_jax.pages.viewer.packing import Packed

PALETTES = {"perceptual": "viridis", "grey": "gray"}  # besides each map's own; name on the page -> in Matplotlib
DIGITS = 2
MARGIN_MM = 14.0  # around the tissue: scalp and skull are shown, the air beside them is not
# A page is data: what a file is called must not end the element that holds it, nor begin one.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Concentration over time.

    Attributes:
      tissue: (x, y, z) bool, RAS: where there are curves.
      measured: (voxel, time) in `tissue`.
      unit: of all of them; empty where it is not known.
      fitted: (voxel, time) what the method of the maps made of them; None: nothing that can be shown.
      arterial: (time,) the AIF; None: the method needs none.
      arterial_voxels: (x, y, z) bool; None: not known.
      non_steady_frames: at the start, which do not count.
    """

    tissue: np.ndarray
    measured: np.ndarray
    unit: str = ""
    fitted: np.ndarray | None = None
    arterial: np.ndarray | None = None
    arterial_voxels: np.ndarray | None = None
    non_steady_frames: int = 0


@dataclasses.dataclass(frozen=True)
class ExamView:
    """What the viewer of one exam shows.

    Attributes:
      methods: {title of the method: its maps}; all on one grid.
      series: (x, y, z, time), RAS, scanner units.
      frame_seconds: frame length.
      arrival_seconds: of the bolus, from which on TTP is shown; None: not known.
      curves: of the tissue.
    """

    methods: dict[str, ExamMaps]
    series: np.ndarray
    frame_seconds: float
    arrival_seconds: float | None
    curves: Curves


def viewer(view: ExamView, beside: str = "") -> str:
    """The viewer as HTML with everything that it needs in it.

    Args:
      view: what it shows.
      beside: HTML at the side of the curves.
    """
    packed, exam = _packed(view)
    data = json.dumps(exam, allow_nan=False).translate(_ESCAPES)
    arrays = "".join(
        f'<script type="text/plain" id="viewer-{name}">{text}</script>\n' for name, text in packed.texts.items()
    )
    return (
        f"<style>{_file('viewer.css')}</style>\n{_markup(view, exam, beside)}\n"
        f'<script type="application/json" id="viewer-exam">{data}</script>\n'
        f"{arrays}<script>{_file('viewer.js')}</script>"
    )


@functools.cache
def _file(name: str) -> str:
    return (importlib.resources.files("dscgan_jax.pages.viewer") / name).read_text("utf-8")


# --------------------------------------------------------------------------------------------------------- data


def _packed(view: ExamView) -> tuple[Packed, dict[str, Any]]:
    """The arrays, and everything else that the script reads."""
    curves, shape = view.curves, view.series.shape[:3]
    stored = next(iter(view.methods.values())).stored
    box = _box(curves.tissue, voxel_sizes(stored.ras_affine))
    codes = packing.curve_codes(curves.tissue[box], curves.measured, curves.fitted)
    white = ink.white_level(view.series.mean(axis=3), curves.tissue)
    film = packing.film_codes(view.series[box], white)
    arrays: dict[str, np.ndarray] = {
        "tissue": packing.as_shown(curves.tissue[box]).astype(np.uint8),
        "film": film,
        "measured": codes.measured,
        "curve_low": codes.low,
        "curve_high": codes.high,
    }
    if codes.fitted is not None:
        arrays["fitted"] = codes.fitted
    maps = []
    for title, made in view.methods.items():
        inside = curves.tissue if made.mask is None else made.mask
        for name, volume in made.volumes.items():
            array = f"map{len(maps)}"
            codes_of = packing.map_codes(packing.as_shown(volume[box]), packing.as_shown(inside[box]))
            arrays[array], low, high = codes_of
            maps.append(_map(title, made, name, view.arrival_seconds) | {"array": array, "low": low, "high": high})
    packed = Packed.of(**arrays)
    shown_mm = stored.ras_affine @ _corner(box) @ packing.shown_to_ras(curves.tissue[box].shape)
    voxel_mm = voxel_sizes(stored.ras_affine)
    arteries = np.zeros(shape, bool) if curves.arterial_voxels is None else curves.arterial_voxels
    exam = {
        "shape": list(curves.tissue[box].shape),
        "frames": view.series.shape[3],
        "frame_seconds": view.frame_seconds,
        "aspect": float(voxel_mm[1] / voxel_mm[0]),
        "to_mm": shown_mm.tolist(),
        "to_file": (np.linalg.inv(stored.affine) @ shown_mm).tolist(),
        "maps": maps,
        "film": {"shape": [film.shape[3], film.shape[2]], "step": 255 / packing.GREYS},
        "block": codes.block,
        "levels": packing.LEVELS,
        "curve_text": f"concentration [{curves.unit}]" if curves.unit else "concentration, no unit",
        "aif": None if curves.arterial is None else [round(float(value), 6) for value in curves.arterial],
        "non_steady_frames": curves.non_steady_frames,
        "arteries": np.argwhere(packing.as_shown(arteries[box]))[:, ::-1].tolist(),
        "arrays": list(packed.dtypes.items()),
        "palettes": _palettes({one["colours"] for one in maps}),
        "first": _first(view, box),
    }
    return packed, exam


def _box(tissue: np.ndarray, voxel_mm: np.ndarray) -> tuple[slice, slice, slice]:
    """What is shown of each slice: the tissue with a margin; all slices."""
    if not tissue.any():
        return slice(None), slice(None), slice(None)
    ends = []
    for axis in (0, 1):
        places = np.flatnonzero(tissue.any(axis=tuple({0, 1, 2} - {axis})))
        margin = int(np.ceil(MARGIN_MM / voxel_mm[axis]))
        ends.append(slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin))
    return ends[0], ends[1], slice(None)


def _corner(box: tuple[slice, slice, slice]) -> np.ndarray:
    """(4, 4) from voxel indices within the box to those of the whole."""
    shift = np.eye(4)
    shift[:3, 3] = [one.start or 0 for one in box]
    return shift


def _map(title: str, made: ExamMaps, name: str, arrival_seconds: float | None) -> dict[str, Any]:
    spec = spec_of(name)
    window = [round(float(end), 1 if spec.seconds_shown else 3) for end in spec.window_of(arrival_seconds)]
    return {
        "method": title,
        "name": name,
        "title": spec.title,
        "unit": "" if made.unit(name) in ("1", "relative") else made.unit(name),
        "digits": DIGITS if max(map(abs, window)) >= 1 else DIGITS + 2,
        "window": window,
        "usual": window,
        "colours": spec.colour_map,
    }


def _palettes(names: set[str]) -> dict[str, str]:
    """256 colours of 3 bytes each, in base64: of each map's own, and of those for all maps."""
    tables = {name: name for name in names} | PALETTES
    return {
        name: base64.b64encode(apart.drawn(ink.colour_table, table)).decode("ascii") for name, table in tables.items()
    }


def _first(view: ExamView, box: tuple[slice, slice, slice]) -> dict[str, int]:
    """What is shown first: where most tissue is late, else the middle; the frame in which the tissue is darkest."""
    tissue = view.curves.tissue[box]
    late = tissue
    for made in view.methods.values():
        if "tmax" in made.volumes and (tissue & (made["tmax"][box] > ink.CONTOUR_SECONDS)).any():
            late = tissue & (made["tmax"][box] > ink.CONTOUR_SECONDS)
            break
    z = int(late.sum(axis=(0, 1)).argmax())
    places = np.argwhere(late[:, :, z])
    x, y = places[((places - np.median(places, axis=0)) ** 2).sum(axis=1).argmin()] if len(places) else (0, 0)
    shape = tissue.shape
    frame = int(view.curves.measured.mean(axis=0).argmax()) if len(view.curves.measured) else 0
    return {"slice": z, "column": int(shape[0] - 1 - x), "row": int(shape[1] - 1 - y), "frame": frame}


# ------------------------------------------------------------------------------------------------------- markup


def _markup(view: ExamView, exam: dict[str, Any], beside: str) -> str:
    slices, frames = exam["shape"][2], exam["frames"]
    blocks = []
    for title in view.methods:
        panes = "".join(_pane(number, one) for number, one in enumerate(exam["maps"]) if one["method"] == title)
        heading = f"<h3>{html.escape(title)}</h3>" if len(view.methods) > 1 else ""
        blocks.append(f'{heading}<div class="panes">{panes}</div>')
    has_late = any(one["name"] == "tmax" for one in exam["maps"])
    mean_of = f" Curves are means over {exam['block']} x {exam['block']} voxels." if exam["block"] > 1 else ""
    return f"""<div class="viewer" id="viewer" tabindex="0" role="group" aria-label="Maps, slice by slice">
<p class="failed" data-part="failed" hidden></p>
<div class="controls">
<label class="slice-control"><span data-part="slice-text">slice</span>
<input type="range" data-part="slice" min="0" max="{slices - 1}" aria-label="slice"></label>
<label{"" if has_late else " hidden"}><input type="checkbox" data-part="overlay" checked> Tmax &gt;
<select data-part="threshold" aria-label="threshold of Tmax in seconds">
<option>4</option><option selected>6</option><option>8</option><option>10</option></select> s</label>
<label{"" if has_late else " hidden"}>opacity
<input type="range" data-part="opacity" min="0" max="100" value="50" aria-label="opacity of the overlay"></label>
<label{"" if exam["arteries"] else " hidden"}><input type="checkbox" data-part="arteries" checked>
arterial voxels</label>
<label>colours <select data-part="palette"><option value="clinical">clinical</option>
<option value="perceptual">perceptual</option><option value="grey">grey</option></select></label>
<button type="button" data-part="windows">Usual windows</button>
</div>
{"".join(blocks)}
<div class="below">
<figure><figcaption><b>Series</b></figcaption><canvas class="slice" data-part="film"></canvas>
<div class="film-control"><button type="button" data-part="play">Play</button>
<input type="range" data-part="frame" min="0" max="{frames - 1}" aria-label="frame of the series"></div>
<p class="film-text" data-part="frame-text"></p></figure>
<figure><svg data-part="chart" viewBox="0 0 440 250" role="img" aria-label="curves of the chosen voxel"></svg>
<p class="voxel" data-part="voxel" aria-live="polite"></p></figure>
<div>{beside}</div>
</div>
<p class="keys">Click a voxel for its curve and values. Wheel or ↑ ↓: slices · ← →: frames · Shift and arrows: voxel ·
space: film · O: overlay · A: arterial voxels.{mean_of}</p>
<noscript><p class="failed">Scripts are off in this browser: the maps are in the picture further down.</p></noscript>
</div>"""


def _pane(number: int, one: dict[str, Any]) -> str:
    title = html.escape(one["title"])
    unit = html.escape(one["unit"])
    low, high = (
        f'<input type="number" step="any" aria-label="{end} end of the window of {title}">'
        for end in ("lower", "upper")
    )
    return (
        f'<figure data-map="{number}"><figcaption><b title="{unit}">{title}</b><output></output></figcaption>'
        f'<canvas class="slice" role="img" aria-label="{title}"></canvas><div class="window">{low}'
        f'<canvas class="bar" width="128" height="1"></canvas>{high}</div></figure>'
    )
