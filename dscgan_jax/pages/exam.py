"""The page of one exam, whoever made its maps: what is doubtful, the maps to look at, what is read from them."""

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from nibabel.affines import voxel_sizes

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.quality import WORDS
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.figures import apart, ink, panels
from dscgan_jax.files import write_whole
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.pages import parts, readout
from dscgan_jax.pages.parts import bullets, image, section
from dscgan_jax.pages.viewer.view import ExamView, viewer
from dscgan_jax.threads import at_once

NOTES = {
    "tmax": "Tmax is the time of the maximum of the residue function, arterial delay included; 0 is the AIF.",
    "ttp": "TTP counts from the first acquired frame and is shown from the arrival of the bolus on.",
}
OUTSIDE_NOTE = "Times are finer than a frame; slice timing is not corrected. Outside the tissue all maps are 0."


@dataclasses.dataclass(frozen=True)
class ExamPage:
    """What the page of one exam shows.

    Attributes:
      subject: identifier.
      subtitle: who made the maps.
      view: the maps, the series and its curves.
      read_outs: {title of the method: what is read from its maps}.
      brief: sentences at the top.
      findings: of the exam and its maps.
      sections: HTML of what is particular to a method, after the maps.
    """

    subject: str
    subtitle: str
    view: ExamView
    read_outs: Mapping[str, ReadOut]
    brief: Sequence[str]
    findings: Sequence[Finding]
    sections: Sequence[str] = ()


def with_flags(page: ExamPage, offered: Callable[[Finding], Finding]) -> ExamPage:
    """The page, whose findings name no flag but those that are `offered`."""
    return dataclasses.replace(page, findings=[offered(finding) for finding in page.findings])


def together(first: ExamPage, other: ExamPage) -> ExamPage:
    """One page for two methods on the same exam; series, curves and AIF are the other's."""
    return ExamPage(
        first.subject,
        f"{first.subtitle}, beside {other.subtitle}",
        dataclasses.replace(other.view, methods={**first.view.methods, **other.view.methods}),
        {**first.read_outs, **other.read_outs},
        [*_named(first), *_named(other)],
        by_severity((*first.findings, *other.findings)),
        (*first.sections, *other.sections),
    )


def _named(page: ExamPage) -> list[str]:
    """Its sentences, after the method that they are about."""
    [title] = page.view.methods
    return [f"{title}: {sentence}" for sentence in page.brief]


def write(
    folder: pathlib.Path, page: ExamPage, stem: str = "", drawn: Callable[[], bytes] | None = None
) -> list[pathlib.Path]:
    """Writes `<stem>.html` and `<stem>_maps.png`, and returns their paths, the page last.

    Args:
      folder: where.
      page: what it shows; the picture is of the first method's maps, others have theirs on the page alone.
      stem: how file names begin; empty = the subject.
      drawn: gives the `picture` of the first method, where somebody began to draw it; None: it is drawn here.
    """
    stem = stem or page.subject
    pictures, shown = at_once(  # one draws in Python, the other compresses
        lambda: _pictures(page, drawn),
        lambda: viewer(page.view, readout.table(page.read_outs)),
    )
    path = folder / f"{stem}_maps.png"
    path.write_bytes(pictures[0])
    warnings, notes = parts.of_findings(page.findings)
    sections = [
        warnings,
        section("In brief", bullets(page.brief), kind="brief"),
        section(
            "Maps",
            shown,
            _note(page.view),
            readout.regions(page.read_outs),
            readout.remarks(page.read_outs),
            kind="maps",
        ),
        *page.sections,
        _quality(page),
        notes,
        section("All slices", *(image(png, "maps, slice beside slice") for png in pictures)),
    ]
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    whole = folder / f"{stem}.html"
    write_whole(whole, parts.page(page.subject, page.subtitle, created, sections, wide=True))
    return [path, whole]


def _quality(page: ExamPage) -> str:
    """The quality record of each method's maps, side by side."""
    records = {title: maps.quality.to_json() for title, maps in page.view.methods.items() if maps.quality}
    lines = [
        (f"{words} [{unit}]" if unit else words, [parts.number(one.get(name), ".3g") for one in records.values()])
        for name, (words, unit) in WORDS.items()
        if any(name in record for record in records.values())
    ]
    return section("Quality of the exam", parts.table(["", *records], lines, titles=False)) if lines else ""


def _pictures(page: ExamPage, drawn: Callable[[], bytes] | None) -> list[bytes]:
    """The maps of each method as a light box."""
    view = page.view
    pictures = [] if drawn is None else [drawn()]
    others = list(view.methods)[len(pictures) :]
    return pictures + [picture(view.methods[title], title, view.series, view.arrival_seconds) for title in others]


def picture(maps: ExamMaps, title: str, series: np.ndarray, arrival_seconds: float | None) -> bytes:
    """Maps as a light box, PNG.

    Args:
      maps: of one method.
      title: of the method.
      series: (x, y, z, time), RAS, scanner units.
      arrival_seconds: of the bolus, from which on TTP is shown; None: not known.
    """
    voxel_mm, frame = voxel_sizes(maps.affine), panels.darkest_frame(series)
    slices = panels.evenly_spaced(frame.shape[2])
    return apart.drawn(  # what is not shown is not sent either
        panels.maps_png,
        {name: volume[..., slices] for name, volume in maps.volumes.items()},
        frame[..., slices],
        slices=slices,
        white=ink.white_level(frame, None),
        title=f"{maps.subject}, {title}",
        aspect=float(voxel_mm[1] / voxel_mm[0]),
        arrival_seconds=arrival_seconds,
    )


def _note(view: ExamView) -> str:
    """What the times of the maps mean."""
    names = {name for maps in view.methods.values() for name in maps.volumes}
    return f"<p>{' '.join([*(text for name, text in NOTES.items() if name in names), OUTSIDE_NOTE])}</p>"
