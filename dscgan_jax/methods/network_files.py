"""A network's maps in files: of one exam, or how those of a cohort are made."""

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dscgan_jax.data import exams, subject_files
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.files import all_or_nothing
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.methods.asked import NOTHING_ASKED, Asked, Extras, as_it_is, refuse_overwriting, remove_stale
from dscgan_jax.methods.exam_files import Maker, Result, write_mask
from dscgan_jax.methods.network import Predictor, check_norm
from dscgan_jax.pages import exam as exam_page
from dscgan_jax.pages import prediction
from dscgan_jax.shipped import PHYSICS
from dscgan_jax.training import weights as training_weights
from dscgan_jax.training.weights import Weights

if TYPE_CHECKING:
    from dscgan_jax.methods.conventional import Deconvolved


def predict_file(
    predictor: Predictor,
    exam: exams.Exam,
    output: pathlib.Path | str,
    asked: Asked = NOTHING_ASKED,
    motion: Callable[[], tuple[Finding, ...]] | None = None,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """Maps, sidecars, read-out, a picture and a page of one exam in `output`, and what else is `asked` for.

    `motion` is as of `Predictor.predict`.

    Returns:
      the paths of the maps and of the page, and the findings (also in each sidecar).

    Raises:
      InputError: as `Predictor.predict`, `ExamMaps.save` and `Extras.of`.
    """
    output = pathlib.Path(output)
    refuse_overwriting(output, asked.stem(exam.subject), [f"_{name}.nii.gz" for name in predictor.scaling.targets])
    extras = Extras.of(asked, exam)
    exam = extras.noted(exam)
    maps = predictor.predict(exam, motion=motion)
    beside, found = extras.conventional(exam)
    maps = dataclasses.replace(maps, findings=by_severity((*maps.findings, *found)))
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        # It is drawn in Python, while NumPy and zlib let other threads run. With two methods the page's series counts.
        drawn = other.submit(prediction.picture, maps, exam, predictor.weights).result if beside is None else None
        read_out = extras.read_out(maps)
        with all_or_nothing(output) as folder:
            paths = _write_all(predictor, maps, exam, folder, extras, read_out, beside, drawn)
            written = {path.name for path in folder.iterdir()}
    remove_stale(output, asked.stem(exam.subject), written)
    told = maps.findings if beside is None else by_severity((*maps.findings, *beside.maps.findings))
    return [output / path.name for path in paths], told


def _write_all(
    predictor: Predictor,
    maps: ExamMaps,
    exam: exams.Exam,
    folder: pathlib.Path,
    extras: Extras,
    read_out: ReadOut,
    beside: "Deconvolved | None" = None,
    drawn: Callable[[], bytes] | None = None,
) -> list[pathlib.Path]:
    """Maps and sidecars, what is read from them, the picture and the page, which comes last."""
    page = prediction.page_of(maps, exam, predictor.weights, read_out)
    stem = extras.asked.stem(exam.subject)
    paths = [*maps.save(folder, stem), *extras.write(folder, maps, read_out)]
    if beside is not None:
        from dscgan_jax.pages import conventional as conventional_page

        found, other = extras.read_out(beside.maps), extras.of_beside()
        paths += beside.maps.save(folder, other.asked.stem(exam.subject))
        paths += other.write(folder, beside.maps, found)
        pictures = conventional_page.pictures_of(
            beside.maps.subject, beside.maps.affine, beside.found.measured, beside.series
        )
        of_both = conventional_page.page_of(beside.maps, beside.found, beside.series, beside.settings, found, pictures)
        page = exam_page.together(page, of_both)
    page = exam_page.with_flags(page, extras.asked.offered)
    return [*paths, *exam_page.write(folder, page, stem, drawn)]


@dataclasses.dataclass(frozen=True)
class PredictWork:
    """Maps of a cohort by a network (`cohort.Work`).

    Attributes:
      model: `physics`, the path of a file of weights, or the work directory of a run.
      which: step of a run.
      norm, motion: as of `Predictor`.
      desc: of the `desc-` entity in the names of maps; empty = none.
      offered: as of `Asked`.
    """

    model: pathlib.Path | str = PHYSICS
    which: str = "best"
    norm: str | None = None
    motion: str | None = None
    desc: str = ""
    offered: Callable[[Finding], Finding] = as_it_is

    def made_of(self) -> dict[str, Any]:
        """The network, by its digest, and how it is used.

        Raises:
          InputError: there is no such network, it is damaged, or it has no such norm.
        """
        weights = _weights(self.model, self.which)
        check_norm(weights, self.norm)
        network = {"name": weights.name, "version": weights.version, "step": weights.step, "sha256": weights.sha256}
        return {"mode": "predict", "network": network, "norm": self.norm, "motion": self.motion, "desc": self.desc}

    def about(self) -> dict[str, str]:
        """The network."""
        weights = _weights(self.model, self.which)
        names = {"network": weights.name, "network_version": weights.version, "network_sha256": weights.sha256}
        return {"method": "network", **names}

    def maker(self) -> Maker:
        """What predicts the maps of an exam."""
        predictor = Predictor(_weights(self.model, self.which), norm=self.norm, motion=self.motion)
        extras = Extras(Asked(desc=self.desc, offered=self.offered))

        def make(exam: exams.Exam, files: subject_files.SubjectFiles) -> Result:
            del files
            maps = predictor.predict(exam)
            read_out = extras.read_out(maps)

            def write(folder: pathlib.Path) -> str:
                write_mask(folder, maps)
                return _write_all(predictor, maps, exam, folder, extras, read_out)[-1].name

            return Result(maps, read_out, write, aif_quality=None if maps.artery is None else maps.artery.quality)

        return make


@functools.lru_cache(maxsize=1)
def _weights(model: pathlib.Path | str, which: str) -> Weights:
    """A network, which is read once in a process."""
    return training_weights.load(model, which)
