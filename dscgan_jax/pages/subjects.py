"""Which subjects are worth a picture, and the picture: an exam and its maps -> a PNG file beside the records.

A scoring has each exam in memory once. What its picture would show is kept then, a few slices, and drawn at the end if
the subject is worth it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dscgan_jax.data.exams import Exam
from dscgan_jax.figures import ink, panels
from dscgan_jax.maps import MAP_NAMES

MOST_SOURCES = 4  # more columns of predictions than this cannot be read
N_SLICES = 3  # where one map is shown

Volumes = Mapping[str, np.ndarray]  # map -> (x, y, z)


@dataclasses.dataclass(frozen=True)
class SubjectPicture:
    """What the picture of one subject shows: slices alone, which keep no volume in memory.

    Five maps of two sources at 128 x 128 pixels take about 1.5 MB.

    Attributes:
      subject: identifier.
      rows: from top to bottom, (row, col) arrays in float32, the brain in bool.
    """

    subject: str
    rows: tuple[panels.PanelRow, ...]


def notable_subjects(rows: Sequence[Mapping[str, Any]], source: str, map_name: str) -> dict[str, str]:
    """{`best`, `median`, `worst`: subject} by brain MAE; fewer with fewer subjects, no subject twice."""
    errors = sorted(
        (row["brain_mae"], row["subject"]) for row in rows if row["source"] == source and row["map"] == map_name
    )
    subjects = [subject for _, subject in errors]
    if len(subjects) < 3:
        return dict(zip(("best", "worst"), subjects, strict=False))
    return {"best": subjects[0], "median": subjects[len(subjects) // 2], "worst": subjects[-1]}


def picture_of(exam: Exam, names: Sequence[str], predictions: Mapping[str, Volumes]) -> SubjectPicture:
    """What the picture of one exam shows.

    Args:
      exam: with its reference maps.
      names: maps to show, where the exam and all sources have them; a single one is shown in three slices.
      predictions: {source: {map: (x, y, z)}} on the exam's grid, RAS; the first few sources are shown.
    """
    shown = [name for name in names if name in exam.maps and all(name in maps for maps in predictions.values())]
    n_slices = 1 if len(shown) > 1 else N_SLICES
    peak = int(np.argmin(exam.series[exam.mask].mean(axis=0)))
    rows = [
        _row(exam, name, z, peak, predictions)
        for name in shown
        for z in slices_to_show(exam.maps[name], exam.mask, name, n_slices)
    ]
    return SubjectPicture(exam.subject, tuple(rows))


def _row(exam: Exam, name: str, z: int, peak: int, predictions: Mapping[str, Volumes]) -> panels.PanelRow:
    """One slice of one map; `peak` is the frame at the bolus peak."""
    return panels.PanelRow(
        map_name=name,
        label=f"slice {z}",
        frame=_slice(exam.series[..., peak], z),
        reference=_slice(exam.maps[name], z),
        predictions={source: _slice(predictions[source][name], z) for source in list(predictions)[:MOST_SOURCES]},
        brain=panels.axial(exam.mask, z).copy(),
        aspect=float(exam.voxel_mm[1] / exam.voxel_mm[0]),
        arrival_seconds=exam.timing.arrival_seconds(exam.frame_seconds),
    )


def _slice(volume: np.ndarray, z: int) -> np.ndarray:
    """(row, col) float32: a copy, which does not keep the volume in memory."""
    return panels.axial(volume, z).astype(np.float32, order="C", copy=True)


def slices_to_show(values: np.ndarray, brain: np.ndarray, name: str, n_slices: int) -> list[int]:
    """The slice with most hypoperfused tissue (Tmax) or most brain, and its second neighbours, upwards.

    Args:
      values: (x, y, z), RAS, of the map.
      brain: (x, y, z) bool.
      name: of the map.
      n_slices: how many at most.
    """
    areas = brain.sum(axis=(0, 1))
    over = (brain & (values > ink.CONTOUR_SECONDS)).sum(axis=(0, 1)) if name == "tmax" else np.zeros_like(areas)
    centre = int((over if over.any() else areas).argmax())
    around = [centre + 2 * (i - n_slices // 2) for i in range(n_slices)]
    return [z for z in around if 0 <= z < len(areas) and (areas[z] > 0 or z == centre)]


def draw(path: pathlib.Path, title: str, picture: SubjectPicture) -> None:
    """Writes one subject's picture as a PNG file; `title` is e.g. `best`."""
    ink.save_png(panels.subject_figure(picture.rows, f"{title} subject: {picture.subject}"), path)


class Gallery:
    """Pictures of the subjects of one scoring, collected while their exams are in memory."""

    def __init__(self, offers: Mapping[str, Sequence[str]]):
        """Nothing yet.

        Args:
          offers: {source: its maps} of the sources that are shown, nulls not among them; by the first one subjects are
            chosen.
        """
        self._sources = tuple(offers)
        self._names = [name for name in MAP_NAMES if any(name in maps for maps in offers.values())]
        self._pictures: dict[str, SubjectPicture] = {}

    def add(self, exam: Exam, offered: Mapping[str, Volumes]) -> None:
        """Keeps what the picture of an exam would show; `offered` is as in `picture_of`, and may hold other sources."""
        predictions = {source: offered[source] for source in self._sources if offered.get(source)}
        if predictions:
            self._pictures[exam.subject] = picture_of(exam, self._names, predictions)

    def draw(self, folder: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes `<title>_subject.png` of the notable subjects, in place of what an earlier scoring left.

        Args:
          folder: of the records.
          rows: of `subjects.csv`; the first source's error of the first map decides who is notable.
        """
        for old in folder.glob("*_subject.png"):
            old.unlink()
        scored = {row["map"] for row in rows if row["source"] in self._sources}
        names = [name for name in MAP_NAMES if name in scored]
        if names:
            for title, subject in notable_subjects(rows, self._sources[0], names[0]).items():
                draw(folder / f"{title}_subject.png", title, self._pictures[subject])
