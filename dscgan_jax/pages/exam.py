"""The page of one exam's conventional maps: what a reader must see before trusting them, with its pictures."""

import dataclasses
import datetime
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data import geometry
from dscgan_jax.figures import curves, ink, panels
from dscgan_jax.files import write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS, spec_of
from dscgan_jax.pages import parts
from dscgan_jax.pages.parts import bullets, counted, definitions, image, section
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.conventional import HEALTHY_TMAX_SECONDS, WHITE_MATTER_CBF, ConventionalMaps, Settings
from dscgan_jax.perfusion.measurement import Measured
from dscgan_jax.perfusion.motion import Realignment

UNSCALED = ("cbf", "cbv")  # without echo time and reference they have no unit
MAPS_NOTE = """<p>Tmax is the time of the maximum of the residue function, arterial delay included; 0 is the AIF. TTP
counts from the first acquired frame and is shown from the arrival of the bolus on. Times are finer than a frame. Slice
timing is not corrected.</p>"""


def write(
    folder: pathlib.Path,
    stem: str,
    found: ConventionalMaps,
    series: np.ndarray,
    affine: np.ndarray,
    settings: Settings,
    findings: Sequence[Finding],
) -> None:
    """Writes `<stem>_maps.png`, `<stem>_aif.png` and `<stem>_qc.html`.

    Args:
      folder: where.
      stem: the files' first part.
      found: the maps and what was found on the way, RAS.
      series: (x, y, z, time), RAS, as it was inverted.
      affine: (4, 4) of both.
      settings: of the method.
      findings: of the exam and its maps.
    """
    voxel_mm = voxel_sizes(affine)
    aspect = float(voxel_mm[1] / voxel_mm[0])
    maps_png, aif_png = folder / f"{stem}_maps.png", folder / f"{stem}_aif.png"
    title = f"{stem}, {ink.METHOD_TITLES[settings.method]}"
    arrival = found.measured.timing.arrival_seconds(found.measured.frame_seconds)
    panels.maps_picture(maps_png, found.maps, series, aspect=aspect, title=title, arrival_seconds=arrival)
    _draw_aif(aif_png, stem, found.measured, series, aspect)
    pictures = maps_png.read_bytes(), aif_png.read_bytes()
    sections = _sections(found, *pictures, geometry.voxel_ml(affine), settings, findings)
    subtitle = f"conventional maps by {ink.METHOD_TITLES[settings.method]}"
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    write_whole(folder / f"{stem}_qc.html", parts.page(stem, subtitle, created, sections))


def _draw_aif(path: pathlib.Path, stem: str, measured: Measured, series: np.ndarray, aspect: float) -> None:
    unit = "arbitrary units" if measured.relative else "mM"
    figure = curves.aif_figure(
        _frame_times(measured),
        kinetics.concentration_of(measured.arterial.delta_r2star, kinetics.BLOOD_RELAXIVITY),
        measured.curves.mean(axis=0),
        f"concentration [{unit}]",
        signal.baseline_signal(series, measured.timing),
        measured.arterial.mask,
        non_steady_frames=measured.timing.non_steady_frames,
        aspect=aspect,
        title=f"{stem}: AIF, quality {measured.arterial.quality:.2f}",
    )
    ink.save_png(figure, path)


def _frame_times(measured: Measured) -> np.ndarray:
    """(time,) s from the first frame."""
    return np.arange(measured.curves.shape[1]) * measured.frame_seconds


def _sections(
    found: ConventionalMaps,
    maps_png: bytes,
    aif_png: bytes,
    voxel_ml: float,
    settings: Settings,
    findings: Sequence[Finding],
) -> list[str]:
    """All sections of the page as HTML; empty ones are empty texts."""
    measured = found.measured
    return [
        section("In brief", bullets(_brief(found, voxel_ml, settings)), kind="brief"),
        *parts.of_findings(findings),
        section("Maps", MAPS_NOTE, image(maps_png, "maps")),
        section("Arterial input function (AIF)", _aif_note(measured.arterial), image(aif_png, "AIF")),
        _motion(measured, measured.realignment) if measured.realignment is not None else "",
        section("How the maps were made", definitions(_provenance(found, settings))),
    ]


def _motion(measured: Measured, realigned: Realignment) -> str:
    figure = curves.motion_figure(_frame_times(measured), realigned.millimetres, realigned.degrees, realigned.resampled)
    return section("Motion", image(ink.to_png(figure), "pose of the head in every frame"))


def _brief(found: ConventionalMaps, voxel_ml: float, settings: Settings) -> list[str]:
    """Volumes of late tissue, medians, and what the maps were multiplied by or shifted by."""
    lines = [_volumes(found, voxel_ml, settings), f"Medians in the tissue: {_medians(found)}."]
    if found.scale_factor != 1.0:
        flow = f"{WHITE_MATTER_CBF:g} {MAPS['cbf'].unit}"
        reason = f" so that healthy white matter has {flow}" if found.referenced else ""
        both = found.volume_factor == found.scale_factor
        factors = f"{found.scale_factor:.3g}" if both else f"{found.scale_factor:.3g} and {found.volume_factor:.3g}"
        lines.append(f"CBF and CBV were multiplied by {factors}{reason}.")
    if found.tmax_shift_seconds:
        lines.append(
            f"Tmax was shifted by {found.tmax_shift_seconds:+.2f} s so that healthy tissue has "
            f"{HEALTHY_TMAX_SECONDS:g} s."
        )
    return lines


def _volumes(found: ConventionalMaps, voxel_ml: float, settings: Settings) -> str:
    tmax, tissue = found.maps["tmax"], found.measured.tissue
    late = ", ".join(
        f"> {threshold:g} s: {(tissue & (tmax > threshold)).sum() * voxel_ml:.0f} mL"
        for threshold in MAPS["tmax"].thresholds
    )
    is_raw = settings.method != "parametric" and settings.tmax_offset == "none"
    doubt = " (raw SVD: later than the truth)" if is_raw else ""
    return f"Volume of tissue by Tmax: {late}; in all {tissue.sum() * voxel_ml:.0f} mL{doubt}."


def _medians(found: ConventionalMaps) -> str:
    tissue = found.measured.tissue
    unit = {name: spec_of(name).unit if found.absolute or name not in UNSCALED else "(relative)" for name in found.maps}
    return ", ".join(
        f"{spec_of(name).title} {np.median(volume[tissue]):.3g} {unit[name]}" for name, volume in found.maps.items()
    )


def _aif_note(aif: ArterialInput) -> str:
    voxels = counted(aif.n_voxels, "voxel")
    origin = {
        "auto": f"found in {voxels}",
        "mask": f"the mean of {voxels} that were given",
        "curve": "given as a curve",
    }[aif.source]
    times = {
        "arrival": aif.arrival_seconds,
        "peak": aif.peak_seconds,
        "width at half maximum": aif.width_seconds,
    }
    known = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items() if np.isfinite(seconds))
    return f"<p>The AIF was {origin}; {known}; quality {aif.quality:.2f} of 1.</p>"


def _provenance(found: ConventionalMaps, settings: Settings) -> list[tuple[str, str]]:
    """What decided the maps: (name, text); an empty text does not apply."""
    measured = found.measured
    timing = measured.timing
    of_method = dataclasses.asdict(settings)
    of_fit = of_method.pop("fit")
    fit = of_fit if settings.method == "parametric" else {}
    constants = {
        name: f"{constant.value:g} {constant.unit if constant.unit != '1' else ''}".strip()
        for name, constant in kinetics.CONSTANTS.items()
    }
    return [
        ("Settings", _assigned(of_method)),
        ("Fit", _assigned(fit)),
        ("Transit times", f"gamma distributed, shape {found.transit_shape:g}" if found.transit_shape else ""),
        ("Constants", _assigned(constants)),
        (
            "Frames, from 0",
            f"{counted(timing.non_steady_frames, 'non-steady-state frame')}, baseline signal from "
            f"{timing.baseline_begin} to {timing.baseline_end - 1}, lowest mean signal in {timing.peak_frame}; "
            f"{measured.frame_seconds:g} s each",
        ),
        ("Baseline over noise", f"{measured.baseline_over_noise:.0f} (median over the tissue)"),
    ]


def _assigned(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} = {value}" for name, value in values.items())
