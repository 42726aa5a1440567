"""One exam -> maps on the exam's own grid, from a trained network that needs no other setting."""

import concurrent.futures
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from dscgan_jax import platforms, provenance, settings
from dscgan_jax.data import exams, features, preparation
from dscgan_jax.data.batch import Batch
from dscgan_jax.data.derivatives import ExamMaps, ScaledMaps
from dscgan_jax.data.quality import Consistency
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import consistency, quality
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import MAPS
from dscgan_jax.methods import programs
from dscgan_jax.perfusion import brain
from dscgan_jax.perfusion.arterial import ArterialInput
from dscgan_jax.shipped import PHYSICS
from dscgan_jax.threads import in_threads
from dscgan_jax.training import weights as training_weights
from dscgan_jax.training.weights import Weights

if TYPE_CHECKING:
    # What makes conventional maps, or exports, is imported for these alone.
    from dscgan_jax.training.program import ProgramInputs

NORMS = {"network_per_slice": "per_slice", "network_running": "running"}  # source -> how its batch norm works
SLICES_PER_CALL, SLICES_PER_CALL_ON_CPU = 8, 2  # one compilation serves every exam: the last call is padded
MUCH_BEYOND = 0.02  # share of a given mask outside the brain that was found: drawn by hand, outlines differ by a rim
MOST_LEFT_OUT = (0.5, 0.5)  # of the brain and of one slice of it, fluid spaces counted, which masks of tissue leave out
SEES_AIR = Finding(
    "air_reaches_network",
    "warning",
    "this network's input is not masked: its maps depend on what is outside the brain; train it again with "
    "config.data.outside_brain=zero",
)


class Predictor:
    """A trained generator with everything that goes around it.

    Attributes:
      weights: the network, with the record of its training.
      record: of its training.
      config: the config that the network was trained with.
      norm: how batch norm works in `predict`, unless another one is given there: `per_slice` or `running`.
      step: the checkpoint's step.
      selected_by: how that step was chosen: `best`, `latest` or its number.
      sha256: digest of the generator's weights and statistics.
      scaling, preparation: how exams become network input.
    """

    def __init__(self, weights: Weights, *, norm: str | None = None, motion: str | None = None):
        """Takes a network that is in memory; `shipped`, `from_file`, `from_run` and `load` find one.

        Args:
          weights: the network.
          norm: of batch norm in `predict`: `per_slice` or `running`; None = the config's.
          motion: `none`, or `rigid` = series are realigned first; None = as in training.

        Raises:
          InputError: the network has no such norm.
        """
        self.weights, self.record = weights, weights.record
        self.step, self.selected_by, self.sha256 = weights.step, weights.selected_by, weights.sha256
        self.config, self.scaling = self.record.config, self.record.scaling
        check_norm(weights, norm)
        self.modality = self.record.modality
        self.norm = norm or self.config.evaluate.norm_at_test
        self.preparation = preparation.PreparationSettings.from_config(self.config)
        if motion is not None:
            self.preparation = dataclasses.replace(self.preparation, motion=motion)
        self._variables = jax.device_put(weights.variables)
        self._steps: dict[str, Any] = {}
        # A network that sees neighbours takes an exam in one call: all of its slices on the network grid.
        self._per_call = settings.exam_slices(self.config) if self.config.model.neighbours else _slices_per_call()

    @classmethod
    def load(
        cls,
        model: pathlib.Path | str = PHYSICS,
        which: str = "best",
        *,
        norm: str | None = None,
        motion: str | None = None,
    ) -> "Predictor":
        """A shipped network by its name, or that of a file of weights, or of a run.

        Args:
          model: `physics`, the path of a file, or the work directory of a run.
          which: step of a run: `best` on validation, `latest`, or a number.
          norm: as of `Predictor`.
          motion: likewise.

        Raises:
          InputError: there is no such network, or it is damaged.
        """
        return cls(training_weights.load(model, which), norm=norm, motion=motion)

    @classmethod
    def shipped(cls, *, norm: str | None = None, motion: str | None = None) -> "Predictor":
        """The network that comes with the package; arguments and errors as of `load`."""
        return cls.load(PHYSICS, norm=norm, motion=motion)

    @classmethod
    def from_file(cls, path: pathlib.Path | str, *, norm: str | None = None, motion: str | None = None) -> "Predictor":
        """The network of a file of weights; arguments and errors as of `load`."""
        return cls(training_weights.read(path), norm=norm, motion=motion)

    @classmethod
    def from_run(
        cls, workdir: pathlib.Path | str, which: str = "best", *, norm: str | None = None, motion: str | None = None
    ) -> "Predictor":
        """The network of a run; arguments and errors as of `load`."""
        return cls(training_weights.of_run(workdir, which), norm=norm, motion=motion)

    @functools.cached_property
    def software(self) -> dict[str, str | None]:
        """Versions of what runs now; the record holds those of the training."""
        return provenance.software_versions()

    @property
    def looks_for_motion(self) -> bool:
        """Whether motion is looked for alone: a series that is realigned tells of it in any case."""
        return self.preparation.motion == "none"

    def predict(
        self, exam: exams.Exam, norm: str | None = None, motion: Callable[[], tuple[Finding, ...]] | None = None
    ) -> ExamMaps:
        """Maps of one exam.

        Args:
          exam: from `load_exam` or `Exam.from_arrays`.
          norm: `per_slice` (each slice's own statistics) or `running`; default: the predictor's.
          motion: gives what was found of motion in the exam's series, where somebody began to look for it.

        Returns:
          The maps, 0 outside the brain that is found in the series, and outside the exam's mask if one was given.

        Raises:
          InputError: the network needs an echo time that the exam lacks, or the exam has no brain on the network grid.
        """
        return _inside(self.predict_all(exam, (norm or self.norm,), motion)[0], exam)

    def predict_all(
        self, exam: exams.Exam, norms: Sequence[str], motion: Callable[[], tuple[Finding, ...]] | None = None
    ) -> list[ExamMaps]:
        """By several norms of the same prepared exam, as the network gives them.

        Of a network that sees nothing outside the brain they are 0 there, as those it learned from; of others they are
        not, and no given mask cuts them.
        """
        self._check(exam)
        begun = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            # Nothing waits for what is found of motion in a series that is used as it is, and it takes longest.
            if motion is None and self.looks_for_motion:
                motion = beside.submit(lambda: exams.with_motion_finding(exam).findings).result
            prepared = preparation.prepare(exam, self.preparation, look_for_motion=False)
            prepared_seconds = time.perf_counter() - begun
            maps = [self._maps(exam, prepared, norm, prepared_seconds) for norm in norms]
            taken = features.features_of(exam)
            found = (*prepared.findings, *(motion() if motion else ()), *self._untrained_for(taken))
        return [self._judged(one, found, exam, prepared.series, taken) for one in maps]

    def program_inputs(self, exam: exams.Exam) -> "ProgramInputs":
        """What the exported program of this network takes of an exam (`dscgan-jax export --format=stablehlo`).

        Raises:
          InputError: as `predict`.
        """
        from dscgan_jax.training.program import ProgramInputs

        self._check(exam)
        return ProgramInputs.of(preparation.prepare(exam, self.preparation, look_for_motion=False))

    def _check(self, exam: exams.Exam) -> None:
        """Refuses an exam that this network cannot see."""
        if exam.modality != self.modality:
            raise InputError(
                f"{exam.subject}: an exam of {exam.modality.upper()}, and the network learned from "
                f"{self.modality.upper()}; give the other --model, or conventional maps (--mode=deconvolve)."
            )
        if self.scaling.signal == "delta_r2star" and not np.isfinite(exam.echo_seconds):
            raise InputError(
                f"{exam.subject}: the network works on delta_r2star and needs the echo time; give --te= in seconds, or "
                "EchoTime in the sidecar."
            )

    def _judged(
        self,
        maps: ExamMaps,
        found: tuple[Finding, ...],
        exam: exams.Exam,
        series: np.ndarray,
        taken: features.ExamFeatures,
    ) -> ExamMaps:
        """The maps with all findings, `found` among them, and with the quality record of their exam.

        `series` is what they were made of: the exam's, or its realigned one.
        """
        judged = exam.mask if maps.mask is None else maps.mask
        agreement = consistency.consistency_of(maps.volumes, judged, exam, series)
        maps = dataclasses.replace(
            maps, findings=by_severity((*found, *consistency.doubts(agreement, self.weights.usual)))
        )
        far = features.distances(taken, self.record.data.features, self._unseen())
        record = quality.quality_of(
            exam,
            maps,
            taken,
            aif_quality=None if maps.artery is None else maps.artery.quality,
            training_distance=max(far.values()) if far else None,
            at_range_ends=quality.at_range_ends(maps, self.scaling),
            consistency=agreement,
        )
        return dataclasses.replace(maps, quality=record)

    def _maps(
        self, exam: exams.Exam, prepared: preparation.PreparedExam, norm: str, prepared_seconds: float
    ) -> ExamMaps:
        """Without findings."""
        begun = time.perf_counter()
        scaled = self._scaled(prepared, norm)
        volumes = self._volumes(scaled, prepared)
        return ExamMaps(
            subject=exam.subject,
            volumes=volumes,
            units={name: MAPS[name].unit for name in volumes},
            stored=exam.stored,
            how="predicted by a network",
            provenance=self._provenance(exam, norm) | _told(prepared.artery),
            mask=prepared.brain,
            scaled=scaled,
            artery=prepared.artery,
            seconds=prepared_seconds + time.perf_counter() - begun,
        )

    def _scaled(self, prepared: preparation.PreparedExam, norm: str) -> ScaledMaps:
        step, calls = self._compiled(norm), _calls(prepared, self._per_call)

        def apply(call: tuple[int, Batch]) -> np.ndarray:
            n, batch = call
            return np.asarray(step(self._variables, batch))[:n]

        if platforms.on_cpu():  # where one call leaves a core idle for a third of its time
            parts = in_threads(apply, calls)
        else:  # which have a queue
            parts = [np.asarray(maps)[:n] for n, maps in [(n, step(self._variables, batch)) for n, batch in calls]]
        return ScaledMaps(np.concatenate(parts), self.scaling.targets)

    def _volumes(self, scaled: ScaledMaps, prepared: preparation.PreparedExam) -> dict[str, np.ndarray]:
        """{map: (x, y, z)} in physical units."""
        return prepared.restored(np.asarray(self.scaling.physical_maps(scaled.values)), self.scaling.targets)

    def compile(self) -> None:
        """What the first `predict` would do, for those who have something else to do meanwhile."""
        self._compiled(self.norm)

    def _compiled(self, norm: str) -> Any:
        if norm not in self._steps:
            self._steps[norm] = programs.compiled(self.weights, norm, _one_call(self.preparation, self._per_call))
        return self._steps[norm]

    def _untrained_for(self, taken: features.ExamFeatures) -> tuple[Finding, ...]:
        """Warnings about a network that sees the air, and about an exam unlike those it was trained on."""
        found = (SEES_AIR,) if self.preparation.outside_brain == "keep" else ()
        known = self.record.data.features  # networks of older versions have none: nothing is compared
        return (*found, *features.unlike(taken, known, self._unseen()))

    def _unseen(self) -> tuple[str, ...]:
        """Features of an exam that do not reach the network."""
        surroundings = ("surroundings",) if self.preparation.outside_brain == "zero" else ()
        before = ("before_bolus_seconds",) if self.preparation.lead_seconds else ()  # each bolus comes at one frame
        return surroundings + before

    def _provenance(self, exam: exams.Exam, norm: str) -> dict[str, Any]:
        """Model, training data, how it was used, what was assumed of the exam, versions."""
        return {
            "Model": {
                "name": self.weights.name,
                "version": self.weights.version,
                "trained_on": self.weights.trained_on,
                "generator": self.config.model.generator,
                "step": self.step,
                "sha256": self.sha256,
            },
            "TrainingData": {key: self.record.data.summary[key] for key in ("source", "fingerprint", "n_train")}
            | ({"n_drawn_beside": self.record.drawn_beside} if self.record.drawn_beside else {}),
            "Exam": {"FrameSeconds": exam.frame_seconds},
            "Settings": {
                "norm_at_test": norm,
                "motion": self.preparation.motion,
                "outside_brain": self.preparation.outside_brain,
                "arterial_input": self.preparation.arterial_input,
            },
            "Software": self.software,
            "TrainingSoftware": dict(self.record.software),
        }


def _told(artery: ArterialInput | None) -> dict[str, Any]:
    """Of the AIF that the network was shown."""
    if artery is None:
        return {}
    found = {"quality": artery.quality, "voxels": artery.n_voxels, "peak_seconds": artery.peak_seconds}
    return {"ArterialInput": {name: round(float(value), 3) for name, value in found.items()}}


def rows_of(predictor: Predictor, of: Iterable[exams.Exam]) -> list[Consistency]:
    """How far a network's maps of exams that it was not trained on are from agreeing (`consistency.usual_limits`).

    Exams with a warning of their own, such as one about head motion, do not count.

    Raises:
      InputError: as `Predictor.predict`.
    """
    rows = []
    for exam in of:
        [maps] = predictor.predict_all(exam, (predictor.norm,))
        own = [one for one in maps.findings if one != SEES_AIR and one.name != "maps_contradict"]
        if maps.quality and all(one.severity == "note" for one in own):
            rows.append(maps.quality.consistency)
    return rows


def check_norm(weights: Weights, norm: str | None) -> None:
    """Refuses a choice that the network does not have.

    Raises:
      InputError: it has no batch norm.
    """
    if norm is not None and not settings.has_batch_norm(weights.record.config.model):
        raise InputError(
            f"--norm={norm} is given, which has no effect: the network of {weights.name} has "
            "no batch norm, and one way; leave it out."
        )


def _inside(maps: ExamMaps, exam: exams.Exam) -> ExamMaps:
    """The maps, 0 outside the brain."""
    found = Findings()
    of_series = exam.mask_source == "threshold"
    inside = preparation.brain_of(exam, found, mask_is_of_series=of_series) if maps.mask is None else maps.mask
    if exam.mask_source == "file":
        beyond = int((exam.mask & ~inside).sum())
        if beyond > MUCH_BEYOND * exam.mask.sum():
            found.warning(
                "mask_beyond_brain",
                f"{100 * beyond / exam.mask.sum():.0f} % of the given mask lie outside the brain that was found in the "
                "series, and have no maps",
                beyond,
            )
        brain.tell_left_out(exam.mask, inside, found, MOST_LEFT_OUT, "brain")
        inside = inside & exam.mask
    volumes = {name: np.where(inside, volume, np.float32(0)) for name, volume in maps.volumes.items()}
    findings = by_severity((*maps.findings, *found.listed()))
    return dataclasses.replace(maps, volumes=volumes, mask=inside, findings=findings)


def _calls(prepared: preparation.PreparedExam, per_call: int) -> Iterable[tuple[int, Batch]]:
    """Batches of equally many slices with the number of them that count."""
    n_slices = prepared.dsc.shape[0]
    for first in range(0, n_slices, per_call):
        slices = np.minimum(np.arange(first, first + per_call), n_slices - 1)
        yield min(per_call, n_slices - first), prepared.inputs(slices)


def _slices_per_call() -> int:
    return SLICES_PER_CALL_ON_CPU if platforms.on_cpu() else SLICES_PER_CALL


def _one_call(settings: preparation.PreparationSettings, n: int) -> Batch:
    """A batch of `_calls` as shapes: they are the same of every exam."""

    def numbers(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((n, *shape), dtype)

    return Batch(
        numbers(np.int16, settings.frames, settings.size, settings.size),
        dsc_scale=numbers(np.float32),
        baseline_begin=numbers(np.int32),
        baseline_end=numbers(np.int32),
        brain_signal=numbers(np.float32),
        echo_seconds=numbers(np.float32),
    )


class NetworkSource:
    """The maps of a network, one source for each norm, written into a folder as they are made (`MapSource`).

    Attributes:
      findings: by subject, of the exam, its preparation and what the network was not trained for.
    """

    def __init__(self, predictor: Predictor, folder: pathlib.Path):
        self._predictor, self._folder = predictor, folder
        has_norms = settings.has_batch_norm(predictor.config.model)
        self._norms = NORMS if has_norms else {"network_per_slice": "per_slice"}
        self.offers = dict.fromkeys(self._norms, predictor.scaling.targets)
        self.findings: dict[str, tuple[Finding, ...]] = {}

    def maps_of(self, exam: exams.Exam) -> dict[str, ExamMaps]:
        """Predicts, and writes `<folder>/<source>/<subject>_<map>.nii.gz`."""
        predicted = self._predictor.predict_all(exam, tuple(self._norms.values()))
        self.findings[exam.subject] = predicted[0].findings
        made = dict(zip(self._norms, predicted, strict=True))
        for source, maps in made.items():
            maps.save(self._folder / source)
        return made
