"""What a reader must see before trusting conventional maps: one page and its pictures for each exam."""

import datetime
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dscgan_jax.figures import panels as figures
from dscgan_jax.files import write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts as page_parts
from dscgan_jax.pages.parts import bullets, counted, image, section
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.conventional import ConventionalMaps

METHOD_TITLES = {"parametric": "parametric fit", "osvd": "oSVD", "csvd": "cSVD", "ssvd": "sSVD (for teaching only)"}

SECONDS_NOTE = """<p>Tmax is the time at which the tissue's residue function, as it reaches the voxel, is largest;
lag 0 is the arterial input. TTP counts from the first acquired frame. Times are finer than a frame. Slice timing is
ignored.</p>"""


def write(
    folder: pathlib.Path,
    stem: str,
    found: ConventionalMaps,
    series: np.ndarray,
    affine: np.ndarray,
    settings: Mapping[str, Any],
    findings: Sequence[Finding],
) -> None:
    """Writes `<stem>_maps.png`, `<stem>_aif.png` and `<stem>_qc.html`.

    Args:
      folder, stem: where, and the files' first part.
      found: the maps and what was found on the way, RAS.
      series: (x, y, z, time), RAS, as it was inverted.
      affine: (4, 4) of both.
      settings: plain values.
      findings: of the exam and its maps.
    """
    measured = found.measured
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    aspect = float(voxel_mm[1] / voxel_mm[0])
    seconds = np.arange(series.shape[-1]) * measured.frame_seconds
    figures.maps_picture(
        folder / f"{stem}_maps.png",
        found.maps,
        series,
        aspect=aspect,
        title=f"{stem}, {METHOD_TITLES[settings['method']]}",
    )
    unit = "arbitrary units" if measured.relative else "mM"
    arterial = kinetics.concentration_of(measured.arterial.relaxation, kinetics.K_BLOOD)
    figures.save_png(
        figures.arterial_figure(
            seconds,
            arterial,
            measured.curves.mean(axis=0),
            f"concentration [{unit}]",
            signal.baseline_signal(series, measured.timing),
            measured.arterial.mask,
            transient_frames=measured.timing.transient_frames,
            aspect=aspect,
            title=f"{stem}: arterial input, quality {measured.arterial.quality:.2f}",
        ),
        folder / f"{stem}_aif.png",
    )
    write_whole(
        folder / f"{stem}_qc.html",
        _page(folder, stem, found, seconds, abs(np.linalg.det(affine[:3, :3])) / 1000.0, settings, findings),
    )


def _page(folder, stem, found, seconds, voxel_ml, settings, findings) -> str:
    measured = found.measured
    warnings = [finding for finding in findings if finding.severity != "note"]
    notes = [finding for finding in findings if finding.severity == "note"]
    sections = [
        section("In brief", bullets(_brief(found, voxel_ml, settings)), kind="brief"),
        section("Warnings", bullets(map(_sentence, warnings)), kind="warnings") if warnings else "",
        section("Notes", bullets(map(_sentence, notes))) if notes else "",
        section("Maps", SECONDS_NOTE, image((folder / f"{stem}_maps.png").read_bytes(), "maps")),
        section(
            "Arterial input",
            _arterial_note(measured),
            image((folder / f"{stem}_aif.png").read_bytes(), "arterial input"),
        ),
    ]
    if (realigned := measured.realignment) is not None:
        figure = figures.motion_figure(seconds, realigned.millimetres, realigned.degrees, realigned.resampled)
        sections.append(section("Motion", image(figures.to_png(figure), "pose of the head in every frame")))
    sections.append(section("How it was made", _provenance(found, settings)))
    return page_parts.PAGE.format(
        title=html.escape(stem),
        style=page_parts.STYLE,
        subtitle=f"conventional maps by {html.escape(METHOD_TITLES[settings['method']])}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")[:16].replace("T", " "),
        body="\n".join(part for part in sections if part),
    )


def _sentence(finding: Finding) -> str:
    """A finding as a reader of the page sees it."""
    accepted = " It was accepted." if finding.accepted else ""
    overruled = f" ({finding.flag} overrules it.)" if finding.flag else ""
    return f"{finding.text[:1].upper()}{finding.text[1:]}.{accepted}{overruled}"


def _brief(found: ConventionalMaps, voxel_ml: float, settings: Mapping[str, Any]) -> list[str]:
    tmax, tissue = found.maps["tmax"], found.measured.tissue
    late = ", ".join(
        f"> {threshold:g} s: {(tissue & (tmax > threshold)).sum() * voxel_ml:.0f} ml"
        for threshold in MAPS["tmax"].thresholds
    )
    raw = settings["method"] != "parametric" and settings["tmax_offset"] == "none"
    lines = [
        f"Tmax {late} of {tissue.sum() * voxel_ml:.0f} ml of tissue{' (raw SVD: later than the truth)' if raw else ''}."
    ]
    medians = ", ".join(
        f"{MAPS[name].title} {np.median(volume[tissue]):.3g} {MAPS[name].unit}" for name, volume in found.maps.items()
    )
    lines.append(f"Medians in the tissue: {medians}.")
    if found.scale_factor != 1.0:
        lines.append(
            f"CBF and CBV were multiplied with {found.scale_factor:.3g}"
            + (" so that healthy white matter has 22 ml/100g/min." if settings["scale"] == "reference_wm" else ".")
        )
    if found.tmax_shift_seconds:
        lines.append(f"Tmax was shifted by {found.tmax_shift_seconds:+.2f} s so that healthy tissue has 2 s.")
    return lines


def _arterial_note(measured) -> str:
    found = measured.arterial
    where = {
        "auto": f"found in {counted(found.n_voxels, 'voxel')}",
        "mask": f"the mean of {counted(found.n_voxels, 'voxel')} that were given",
        "curve": "given as a curve",
    }[found.source]
    times = [
        f"{name} {value:.1f} s"
        for name, value in (
            ("arrival", found.arrival_seconds),
            ("peak", found.peak_seconds),
            ("width at half maximum", found.width_seconds),
        )
        if np.isfinite(value)
    ]
    return f"<p>The arterial input was {where}; {', '.join(times)}; quality {found.quality:.2f} of 1.</p>"


def _provenance(found: ConventionalMaps, settings: Mapping[str, Any]) -> str:
    measured = found.measured
    timing = measured.timing
    constants = "; ".join(
        f"{name} = {constant.value:g} {constant.unit if constant.unit != '1' else ''}".strip()
        for name, constant in kinetics.CONSTANTS.items()
    )
    rows = {
        "Settings": "; ".join(f"{name} = {value}" for name, value in settings.items() if name != "fit"),
        "Fit": "; ".join(f"{name} = {value}" for name, value in settings["fit"].items())
        if settings["method"] == "parametric"
        else "",
        "Transit times": f"gamma distributed, shape {found.transit_shape:g}" if found.transit_shape else "",
        "Constants": constants,
        "Frames": f"{timing.transient_frames} before the steady state, baseline {timing.baseline_begin} to "
        f"{timing.baseline_end - 1}, lowest mean signal in {timing.peak_frame} (from 0), "
        f"{measured.frame_seconds:g} s each",
        "Baseline over noise": f"{measured.baseline_over_noise:.0f} (median over the tissue)",
    }
    return (
        "<dl>"
        + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in rows.items() if text)
        + "</dl>"
    )
