"""Conventional maps in files: of one exam, or how those of a cohort are made."""

import dataclasses
import pathlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dscgan_jax.data import aif as arterial_inputs
from dscgan_jax.data.derivatives import write_turned
from dscgan_jax.data.exams import Exam, load_exam
from dscgan_jax.data.subject_files import NOTHING_OVERRULED, Overrules, SubjectFiles, lone_series
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.files import all_or_nothing
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS
from dscgan_jax.methods.asked import NOTHING_ASKED, Asked, Extras, as_it_is, refuse_overwriting, remove_stale
from dscgan_jax.methods.conventional import DEFAULTS, Deconvolved, deconvolved, plain
from dscgan_jax.methods.exam_files import Maker, Result, write_mask
from dscgan_jax.pages import conventional as conventional_page
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.pages.conventional import Pictures
from dscgan_jax.pages.viewer.view import Curves
from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.conventional import Settings
from dscgan_jax.perfusion.measurement import Measured
from dscgan_jax.perfusion.motion import Realigned
from dscgan_jax.threads import at_once

OWN_FILES = (*(f"_{name}.nii.gz" for name in MAPS), "_mask.nii.gz", "_aif.tsv")


def deconvolve_file(
    series: SubjectFiles | pathlib.Path | str,
    output: pathlib.Path | str,
    settings: Settings = DEFAULTS,
    *,
    aif: pathlib.Path | str = arterial_inputs.AUTOMATIC,
    mask: pathlib.Path | str | None = None,
    overrules: Overrules = NOTHING_OVERRULED,
    asked: Asked = NOTHING_ASKED,
    read: Callable[[], Exam] | None = None,
    realigned: Callable[[], Realigned] | None = None,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """One exam -> maps, read-out, AIF, pictures and page in `output`, and what else is `asked` for.

    Args:
      series: the files of an exam, or the path of a lone series, to which `mask` and `overrules` belong.
      output: the folder.
      settings: how the maps are made.
      aif: as in `data.aif.given_of`.
      mask: NIfTI mask of the tissue of the brain.
      overrules: what the user knows better than the files.
      asked: what is wanted besides.
      read: gives the exam of these files, where somebody began to read it; None: it is read here.
      realigned: as of `measure`, likewise.

    Returns:
      what was written and is worth opening, and the findings.

    Raises:
      InputError: the file is not a usable series, there is no usable AIF, or as `Extras.of`.
    """
    files = series if isinstance(series, SubjectFiles) else lone_series(series, overrules, mask)
    output = pathlib.Path(output)
    refuse_overwriting(output, asked.stem(files.subject), OWN_FILES)
    with ThreadPoolExecutor(1) as other:
        return _deconvolve_file(
            files, output, settings, aif, asked, read or (lambda: load_exam(files)), realigned, other
        )


def _deconvolve_file(
    files: SubjectFiles,
    output: pathlib.Path,
    settings: Settings,
    aif: pathlib.Path | str,
    asked: Asked,
    read: Callable[[], Exam],
    realigned: Callable[[], Realigned] | None,
    other: ThreadPoolExecutor,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """As `deconvolve_file`, with a thread beside this one, which sees to the pictures."""
    exam = read()
    extras = Extras.of(asked, exam)
    exam = extras.noted(exam)
    own_aif = files.series.with_name(f"{exam.subject}_aif.tsv")
    given = arterial_inputs.given_of(exam, aif, own_aif if own_aif.is_file() else None)
    pictures: list[Future[Pictures]] = []

    def draw(measured: Measured, series: np.ndarray) -> None:
        pictures.append(other.submit(conventional_page.pictures_of, exam.subject, exam.affine, measured, series))

    result = deconvolved(exam, settings, given, realigned, draw)
    drawn = Drawn(pictures[0], other.submit(_picture, result))
    read_out, curves = _read_out_and_curves(result, extras)
    with all_or_nothing(output) as folder:
        paths = write_all(result, exam, folder, extras, read_out, drawn, curves)
        written = {path.name for path in folder.iterdir()}
    remove_stale(output, asked.stem(exam.subject), written)
    return [output / path.name for path in paths], result.maps.findings


@dataclasses.dataclass(frozen=True)
class DeconvolveWork:
    """Conventional maps of a cohort (`cohort.Work`).

    Attributes:
      settings: how the maps are made.
      aif: `auto`, or `files`: each exam's own.
      desc: of the `desc-` entity in the names of maps; empty = none.
      offered: as of `Asked`.
    """

    settings: Settings = DEFAULTS
    aif: str = arterial_inputs.AUTOMATIC
    desc: str = ""
    offered: Callable[[Finding], Finding] = as_it_is

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
        return {"mode": "deconvolve", "settings": plain(self.settings), "aif": self.aif, "desc": self.desc}

    def about(self) -> dict[str, str]:
        """The method."""
        return {"method": self.settings.method}

    def maker(self) -> Maker:
        """What deconvolves an exam."""
        return self._make

    def _make(self, exam: Exam, files: SubjectFiles) -> Result:
        result = deconvolved(exam, self.settings, arterial_inputs.given_of(exam, self.aif, files.aif))
        extras = Extras(Asked(desc=self.desc, offered=self.offered))
        read_out, curves = _read_out_and_curves(result, extras)

        def write(folder: pathlib.Path) -> str:
            write_mask(folder, result.maps)  # under the name by which a layout finds it, whatever maps are called
            with ThreadPoolExecutor(1) as other:  # it draws in Python, while this one computes and compresses
                series, measured = result.series, result.found.measured
                pictures = other.submit(conventional_page.pictures_of, exam.subject, exam.affine, measured, series)
                drawn = Drawn(pictures, other.submit(_picture, result))
                return write_all(result, exam, folder, extras, read_out, drawn, curves)[-1].name

        return Result(result.maps, read_out, write, float(result.found.measured.arterial.quality))


class Drawn(NamedTuple):
    """Pictures that a thread draws or waits for: of what was measured, and of the maps."""

    measured: "Future[Pictures]"
    maps: "Future[bytes]"


def _picture(result: Deconvolved) -> bytes:
    return conventional_page.picture(result.maps, result.found, result.series, result.settings)


def _read_out_and_curves(result: Deconvolved, extras: Extras) -> tuple[ReadOut, Curves]:
    """What is read from the maps, and the curves of the page, at the same time."""
    read_out, curves = at_once(lambda: extras.read_out(result.maps), lambda: conventional_page.curves_of(result.found))
    return read_out, curves


def write_all(
    result: Deconvolved,
    exam: Exam,
    folder: pathlib.Path,
    extras: Extras,
    read_out: ReadOut,
    drawn: Drawn,
    curves: Curves,
) -> list[pathlib.Path]:
    """The maps, their read-out, where they were made, the AIF and its voxels, pictures and the page, which is last."""
    stem = extras.asked.stem(exam.subject)
    paths, aif_path = _write_maps(result, exam, folder, extras, read_out), folder / f"{stem}_aif.png"
    pictures = drawn.measured.result()
    aif_path.write_bytes(pictures.aif)
    page = conventional_page.page_of(
        result.maps, result.found, result.series, result.settings, read_out, pictures, curves
    )
    page = exam_page.with_flags(page, extras.asked.offered)
    return [*paths, aif_path, *exam_page.write(folder, page, stem, drawn.maps.result)]


def _write_maps(
    result: Deconvolved, exam: Exam, folder: pathlib.Path, extras: Extras, read_out: ReadOut
) -> list[pathlib.Path]:
    """All but pictures and page; returns the paths of maps and read-out."""
    stem = extras.asked.stem(exam.subject)
    paths = [*result.maps.save(folder, stem), *extras.write(folder, result.maps, read_out)]
    measured = result.found.measured
    write_turned(folder / f"{stem}_mask.nii.gz", measured.tissue.astype(np.uint8), exam.stored, dtype=np.uint8)
    arterial = measured.arterial.delta_r2star.astype(np.float64)
    concentration = kinetics.concentration_of(arterial, kinetics.BLOOD_RELAXIVITY)
    seconds = np.arange(len(concentration)) * exam.frame_seconds
    arterial_inputs.write_curve(folder / f"{stem}_aif.tsv", seconds, concentration, measured.relative)
    if measured.arterial.mask is not None:
        arteries = measured.arterial.mask.astype(np.uint8)
        write_turned(folder / f"{stem}_aifmask.nii.gz", arteries, exam.stored, dtype=np.uint8)
    return paths
