"""Conventional maps in files: of one exam, or how those of a cohort are made."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from dscgan_jax.data import aif as arterial_inputs
from dscgan_jax.data.derivatives import write_turned
from dscgan_jax.data.exams import NOTHING_OVERRULED, Exam, Overrules, SubjectFiles, load_exam, lone_series
from dscgan_jax.errors import InputError
from dscgan_jax.files import all_or_nothing
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MORE_MAPS
from dscgan_jax.methods.conventional import DEFAULTS, Deconvolved, deconvolved, plain
from dscgan_jax.methods.exam_files import Maker, Result
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.conventional import Settings


def deconvolve_file(
    series: pathlib.Path | str,
    output: pathlib.Path | str,
    settings: Settings = DEFAULTS,
    *,
    aif: pathlib.Path | str = arterial_inputs.AUTOMATIC,
    mask: pathlib.Path | str | None = None,
    overrules: Overrules = NOTHING_OVERRULED,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """One 4-D file -> maps, AIF, pictures and page in `output`.

    Returns:
      what was written and is worth opening, and the findings.

    Raises:
      InputError: the file is not a usable series, or there is no usable AIF.
    """
    series, output = pathlib.Path(series), pathlib.Path(output)
    exam = load_exam(lone_series(series, overrules, mask))
    own_aif = series.with_name(f"{exam.subject}_aif.tsv")
    given = arterial_inputs.given_of(exam, aif, own_aif if own_aif.is_file() else None)
    result = deconvolved(exam, settings, given)
    with all_or_nothing(output) as folder:
        paths = write_all(result, exam, folder, exam.subject)
    _remove_stale(result, output, exam.subject)
    return [output / path.name for path in paths], result.maps.findings


@dataclasses.dataclass(frozen=True)
class DeconvolveWork:
    """Conventional maps of a cohort (`cohort.Work`).

    Attributes:
      settings: how the maps are made.
      aif: `auto`, or `files`: each exam's own.
    """

    settings: Settings = DEFAULTS
    aif: str = arterial_inputs.AUTOMATIC

    def made_of(self) -> dict[str, Any]:
        """Every setting.

        Raises:
          InputError: one file is given as the AIF of all exams.
        """
        if self.aif not in (arterial_inputs.AUTOMATIC, arterial_inputs.FROM_FOLDER):
            raise InputError(
                f"--aif={self.aif}: one file cannot serve a whole folder; give auto, or files (each "
                "exam's own aif.tsv)."
            )
        return {"mode": "deconvolve", "settings": plain(self.settings), "aif": self.aif}

    def about(self) -> dict[str, str]:
        """The method."""
        return {"method": self.settings.method}

    def maker(self) -> Maker:
        """What deconvolves an exam."""
        return self._make

    def _make(self, exam: Exam, files: SubjectFiles) -> Result:
        result = deconvolved(exam, self.settings, arterial_inputs.given_of(exam, self.aif, files.aif))

        def write(folder: pathlib.Path) -> str:
            return write_all(result, exam, folder, exam.subject)[-1].name

        return Result(result.maps, write, float(result.found.measured.arterial.quality))


def write_all(result: Deconvolved, exam: Exam, folder: pathlib.Path, stem: str) -> list[pathlib.Path]:
    """The maps, where they were made, the AIF and its voxels, pictures and a page."""
    paths = result.maps.save(folder, stem)
    measured = result.found.measured
    write_turned(folder / f"{stem}_mask.nii.gz", measured.tissue.astype(np.uint8), exam.stored, dtype=np.uint8)
    arterial = measured.arterial.delta_r2star.astype(np.float64)
    concentration = kinetics.concentration_of(arterial, kinetics.BLOOD_RELAXIVITY)
    seconds = np.arange(len(concentration)) * exam.frame_seconds
    arterial_inputs.write_curve(folder / f"{stem}_aif.tsv", seconds, concentration)
    if measured.arterial.mask is not None:
        arteries = measured.arterial.mask.astype(np.uint8)
        write_turned(folder / f"{stem}_aifmask.nii.gz", arteries, exam.stored, dtype=np.uint8)
    exam_page.write(folder, stem, result.found, result.series, exam.affine, result.settings, result.maps.findings)
    return [*paths, *(folder / f"{stem}_{name}" for name in ("maps.png", "aif.png", "qc.html"))]


def _remove_stale(result: Deconvolved, folder: pathlib.Path, stem: str) -> None:
    """What an earlier run wrote and this one does not: arterial voxels, maps of a correction of leakage."""
    for name in MORE_MAPS:
        if name not in result.maps.volumes:
            for ending in (".nii.gz", ".json"):
                (folder / f"{stem}_{name}{ending}").unlink(missing_ok=True)
    if result.found.measured.arterial.mask is None:
        (folder / f"{stem}_aifmask.nii.gz").unlink(missing_ok=True)
