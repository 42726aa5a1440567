"""What the page of an exam says of conventional maps: AIF, motion, and how the maps were made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.figures import apart, curves, ink
from dscgan_jax.maps import MAPS, spec_of
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.pages.exam import ExamPage
from dscgan_jax.pages.parts import counted, definitions, image, section
from dscgan_jax.pages.readout import sentences
from dscgan_jax.pages.viewer.view import Curves, ExamView
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.perfusion.conventional import HEALTHY_TMAX_SECONDS, WHITE_MATTER_CBF, ConventionalMaps, Settings
from dscgan_jax.perfusion.measurement import Measured

UNSCALED = ("cbf", "cbv")  # without echo time and reference they have no unit


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures for the page of conventional maps, PNG.

    Attributes:
      aif: the AIF and its voxels.
      motion: the head's pose in every frame; empty where the series was not realigned.
    """

    aif: bytes
    motion: bytes = b""


def page_of(
    maps: ExamMaps,
    found: ConventionalMaps,
    series: np.ndarray,
    settings: Settings,
    read_out: ReadOut,
    pictures: Pictures,
    shown: Curves | None = None,
) -> ExamPage:
    """The page of an exam's conventional maps.

    Args:
      maps: for whoever uses them.
      found: the same maps, and what was found on the way, RAS.
      series: (x, y, z, time), RAS, as it was inverted.
      settings: of the method.
      read_out: what is read from the maps.
      pictures: their `pictures_of`.
      shown: their `curves_of`, where somebody has them.
    """
    measured, title = found.measured, ink.METHOD_TITLES[settings.method]
    view = ExamView(
        methods={title: maps},
        series=series,
        frame_seconds=measured.frame_seconds,
        arrival_seconds=measured.timing.arrival_seconds(measured.frame_seconds),
        curves=shown or curves_of(found),
    )
    return ExamPage(
        maps.subject,
        f"conventional maps by {title}",
        view,
        {title: read_out},
        _brief(found, read_out),
        maps.findings,
        sections_of(found, settings, pictures),
    )


def picture(maps: ExamMaps, found: ConventionalMaps, series: np.ndarray, settings: Settings) -> bytes:
    """The maps as a light box, PNG; arguments as of `page_of`."""
    timing, frame_seconds = found.measured.timing, found.measured.frame_seconds
    title = ink.METHOD_TITLES[settings.method]
    return exam_page.picture(maps, title, series, timing.arrival_seconds(frame_seconds))


def curves_of(found: ConventionalMaps) -> Curves:
    """Concentration in tissue and artery, with the fit where there is one."""
    measured = found.measured
    return Curves(
        tissue=measured.tissue,
        measured=measured.curves,
        unit="" if measured.relative else "mM",
        fitted=found.fitted_curves(),
        arterial=measured.arterial_mm,
        arterial_voxels=measured.arterial.mask,
        non_steady_frames=measured.timing.non_steady_frames,
    )


def sections_of(found: ConventionalMaps, settings: Settings, pictures: Pictures) -> list[str]:
    """HTML of the AIF, of the head's motion, and of how the maps were made."""
    measured = found.measured
    return [
        section("Arterial input function (AIF)", _aif_note(measured.arterial), image(pictures.aif, "AIF")),
        section("Motion", image(pictures.motion, "pose of the head in every frame")) if pictures.motion else "",
        section(
            f"How the maps by {ink.METHOD_TITLES[settings.method]} were made", definitions(_provenance(found, settings))
        ),
    ]


def pictures_of(subject: str, affine: np.ndarray, measured: Measured, series: np.ndarray) -> Pictures:
    """Those of one exam; the affine is that of the RAS grid, other arguments are as of `page_of`."""
    voxel_mm, realigned = voxel_sizes(affine), measured.realignment
    aif = apart.drawn(
        curves.aif_png,
        _frame_times(measured),
        _arterial_concentration(measured),
        measured.curves.mean(axis=0),
        f"concentration [{'arbitrary units' if measured.relative else 'mM'}]",
        signal.baseline_signal(series, measured.timing),
        measured.arterial.mask,
        non_steady_frames=measured.timing.non_steady_frames,
        aspect=float(voxel_mm[1] / voxel_mm[0]),
        title=f"{subject}: AIF, quality {measured.arterial.quality:.2f}",
    )
    if realigned is None:
        return Pictures(aif)
    pose = realigned.millimetres, realigned.degrees, realigned.resampled
    return Pictures(aif, apart.drawn(curves.motion_png, _frame_times(measured), *pose))


def _arterial_concentration(measured: Measured) -> np.ndarray:
    """(time,) AIF, mM."""
    return kinetics.concentration_of(measured.arterial.delta_r2star, kinetics.BLOOD_RELAXIVITY)


def _frame_times(measured: Measured) -> np.ndarray:
    """(time,) s from the first frame."""
    return np.arange(measured.curves.shape[1]) * measured.frame_seconds


def _brief(found: ConventionalMaps, read_out: ReadOut) -> list[str]:
    """Volumes of late tissue, medians, and what the maps were multiplied by or shifted by."""
    lines = [*sentences(read_out), f"Medians in the tissue: {_medians(found)}."]
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
        ("Transit times", f"gamma distributed, shape {round(found.transit_shape, 2):g}" if found.transit_shape else ""),
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
