"""Which subjects are worth a picture, and the picture: exams and maps -> PNG files beside the records."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dscgan_jax.data import exams as exam_files
from dscgan_jax.data import nifti
from dscgan_jax.figures import panels as figures

MOST_SOURCES = 4  # more columns of predictions than this cannot be read
N_SLICES = 3  # where one map is shown


def notable_subjects(rows: Sequence[Mapping[str, Any]], source: str, map_name: str) -> dict[str, str]:
    """{`best`, `median`, `worst`: subject} by brain MAE; fewer with fewer subjects, no subject twice."""
    errors = sorted(
        (row["brain_mae"], row["subject"]) for row in rows if row["source"] == source and row["map"] == map_name
    )
    subjects = [subject for _, subject in errors]
    if len(subjects) < 3:
        return dict(zip(("best", "worst"), subjects, strict=False))
    return {"best": subjects[0], "median": subjects[len(subjects) // 2], "worst": subjects[-1]}


def draw_subject(
    path: pathlib.Path,
    title: str,
    subject: str,
    exam: exam_files.Exam,
    names: Sequence[str],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Writes one subject's picture.

    Args:
      path: PNG file.
      title: e.g. "best".
      subject: identifier.
      exam: with its reference maps.
      names: maps to show, where the exam has them; a single one is shown in three slices.
      predictions: {source: {map: (x, y, z)}} on the exam's grid and axes.
    """
    shown = [name for name in names if name in exam.maps and all(name in maps for maps in predictions.values())]
    canonical = {name: _canonical(exam.maps[name], exam.affine) for name in shown}
    brain = _canonical(exam.mask, exam.affine)
    series = _canonical(exam.series, exam.affine)
    voxel_mm = np.linalg.norm(nifti.to_canonical(exam.mask, exam.affine)[1][:3, :3], axis=0)
    peak = int(np.argmin(exam.series[exam.mask].mean(axis=0)))
    sources = list(predictions)[:MOST_SOURCES]
    rows = []
    for name in shown:
        for z in telling_slices(canonical[name], brain, name, 1 if len(shown) > 1 else N_SLICES):
            rows.append(
                figures.PanelRow(
                    name,
                    f"slice {z}",
                    figures.axial(series, z)[..., peak],
                    figures.axial(canonical[name], z),
                    {
                        source: figures.axial(_canonical(predictions[source][name], exam.affine), z)
                        for source in sources
                    },
                    figures.axial(brain, z),
                    float(voxel_mm[1] / voxel_mm[0]),
                )
            )
    figures.save_png(figures.subject_figure(rows, f"{title} subject: {subject}"), path)


def telling_slices(values: np.ndarray, brain: np.ndarray, name: str, n_slices: int) -> list[int]:
    """The slice with most hypoperfused tissue (Tmax) or most brain, and its second neighbours, upwards.

    Args:
      values, brain: (x, y, z), RAS.
      name: of the map.
      n_slices: how many at most.
    """
    areas = brain.sum(axis=(0, 1))
    over = (brain & (values > figures.CONTOUR_SECONDS)).sum(axis=(0, 1)) if name == "tmax" else np.zeros_like(areas)
    centre = int((over if over.any() else areas).argmax())
    around = [centre + 2 * (i - n_slices // 2) for i in range(n_slices)]
    return [z for z in around if 0 <= z < len(areas) and (areas[z] > 0 or z == centre)]


def _canonical(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return nifti.to_canonical(volume, affine)[0]
