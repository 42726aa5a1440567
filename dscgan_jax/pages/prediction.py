"""What the page of an exam says of a network's maps: which network, and how the maps were made."""

import json

import numpy as np

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.maps import spec_of
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.pages.exam import ExamPage
from dscgan_jax.pages.parts import definitions, section
from dscgan_jax.pages.readout import sentences
from dscgan_jax.pages.viewer.view import Curves, ExamView
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.training.weights import Weights


def page_of(maps: ExamMaps, exam: Exam, weights: Weights, read_out: ReadOut) -> ExamPage:
    """The page of a network's maps.

    Args:
      maps: of the exam, with the mask of its brain.
      exam: with the series as it was read.
      weights: of the network that made the maps.
      read_out: what is read from them.
    """
    title = title_of(weights)
    view = ExamView(
        methods={title: maps},
        series=exam.series,
        frame_seconds=exam.frame_seconds,
        arrival_seconds=exam.timing.arrival_seconds(exam.frame_seconds),
        curves=curves_of(exam, maps),
    )
    return ExamPage(
        maps.subject,
        f"maps predicted by {weights.in_words}",
        view,
        {title: read_out},
        [f"Maps by the network {weights.in_words}.", *_brief(maps, read_out)],
        maps.findings,
        [section(f"How the maps by {title} were made", definitions(_provenance(maps)))],
    )


def title_of(weights: Weights) -> str:
    """The network, as headings name it."""
    return f"{weights.name} {weights.version}"


def picture(maps: ExamMaps, exam: Exam, weights: Weights) -> bytes:
    """The maps as a light box, PNG; arguments as of `page_of`."""
    return exam_page.picture(maps, title_of(weights), exam.series, exam.timing.arrival_seconds(exam.frame_seconds))


def curves_of(exam: Exam, maps: ExamMaps) -> Curves:
    """Concentration in the brain, and in the artery that the network was shown; it fits no curve."""
    tissue = exam.mask if maps.mask is None else maps.mask
    series, relative = signal.curves_in(exam.series, tissue), not np.isfinite(exam.echo_seconds)
    baseline = signal.baseline_signal(series, exam.timing)
    bright = baseline > 0
    echo_seconds = 1.0 if relative else exam.echo_seconds
    curves = np.zeros(series.shape, np.float32)
    curves[bright] = kinetics.concentration_of(signal.delta_r2star(series[bright], baseline[bright], echo_seconds))
    non_steady_frames = exam.timing.non_steady_frames
    curves[:, :non_steady_frames] = 0.0
    artery, arterial = maps.artery, None
    if artery is not None:
        arterial = kinetics.concentration_of(artery.delta_r2star / echo_seconds, kinetics.BLOOD_RELAXIVITY)
        arterial[:non_steady_frames] = 0.0
    return Curves(
        tissue,
        curves,
        "" if relative else "mM",
        arterial=arterial,
        arterial_voxels=None if artery is None else artery.mask,
        non_steady_frames=non_steady_frames,
    )


def _brief(maps: ExamMaps, read_out: ReadOut) -> list[str]:
    """What is read from the maps, and their medians."""
    inside = maps.mask
    if inside is None or not inside.any():
        return []
    medians = ", ".join(
        f"{spec_of(name).title} {np.median(volume[inside]):.3g} {maps.unit(name)}"
        for name, volume in maps.volumes.items()
    )
    late = sentences(read_out) if "tmax" in maps.volumes else []
    return [*late, f"Medians in the brain: {medians}."]


def _provenance(maps: ExamMaps) -> list[tuple[str, str]]:
    """What the sidecars hold: (name, text)."""
    return [
        (name, ", ".join(f"{key} = {value}" for key, value in values.items() if value is not None))
        if isinstance(values, dict)
        else (name, json.dumps(values))
        for name, values in maps.provenance.items()
    ]
