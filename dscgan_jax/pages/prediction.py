"""The page of one exam's maps by a network: which network, what is doubtful, and its picture."""

import datetime
import json
import pathlib

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import geometry
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.figures import panels
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS, spec_of
from dscgan_jax.pages import parts
from dscgan_jax.pages.parts import bullets, definitions, image, section
from dscgan_jax.training.weights import Weights

OUTSIDE_NOTE = "Outside the brain all maps are 0."
TTP_NOTE = " TTP counts from the first acquired frame."


def write(
    folder: pathlib.Path, maps: ExamMaps, series: np.ndarray, weights: Weights, arrival_seconds: float | None
) -> pathlib.Path:
    """Writes `<subject>_maps.png` and `<subject>_prediction.html`; returns the page's path.

    Args:
      folder: where.
      maps: of the exam, with the mask of its brain.
      series: (x, y, z, time), RAS, scanner units.
      weights: of the network that made the maps.
      arrival_seconds: of the bolus, from which on TTP is shown; None: not known.
    """
    voxel_mm = voxel_sizes(maps.affine)
    picture, title = folder / f"{maps.subject}_maps.png", f"{maps.subject}, {weights.name} {weights.version}"
    aspect = float(voxel_mm[1] / voxel_mm[0])
    panels.maps_picture(picture, maps.volumes, series, title=title, aspect=aspect, arrival_seconds=arrival_seconds)
    sections = [
        section("In brief", bullets([f"Maps by the network {weights.in_words}.", *_brief(maps)]), kind="brief"),
        *parts.of_findings(maps.findings),
        section(
            "Maps",
            f"<p>{OUTSIDE_NOTE}{TTP_NOTE if 'ttp' in maps.volumes else ''}</p>",
            image(picture.read_bytes(), "maps"),
        ),
        section("How the maps were made", definitions(_provenance(maps))),
    ]
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    path = folder / f"{maps.subject}_prediction.html"
    write_whole(path, parts.page(maps.subject, f"maps predicted by {weights.in_words}", created, sections))
    return path


def _brief(maps: ExamMaps) -> list[str]:
    """Volumes of late tissue, and medians."""
    inside = maps.mask
    if inside is None or not inside.any():
        return []
    lines = []
    if "tmax" in maps.volumes:
        voxel_ml = geometry.voxel_ml(maps.affine)
        late = ", ".join(
            f"> {threshold:g} s: {(inside & (maps['tmax'] > threshold)).sum() * voxel_ml:.0f} mL"
            for threshold in MAPS["tmax"].thresholds
        )
        lines.append(f"Volume of the brain by Tmax: {late}; in all {inside.sum() * voxel_ml:.0f} mL.")
    medians = ", ".join(
        f"{spec_of(name).title} {np.median(volume[inside]):.3g} {maps.unit(name)}"
        for name, volume in maps.volumes.items()
    )
    return [*lines, f"Medians in the brain: {medians}."]


def _provenance(maps: ExamMaps) -> list[tuple[str, str]]:
    """What the sidecars hold: (name, text)."""
    return [
        (name, ", ".join(f"{key} = {value}" for key, value in values.items() if value is not None))
        if isinstance(values, dict)
        else (name, json.dumps(values))
        for name, values in maps.provenance.items()
    ]
