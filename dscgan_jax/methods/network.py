"""One exam -> maps on the exam's own grid, from a checkpoint that needs no other setting."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import jax
import ml_collections
import numpy as np

from dscgan_jax import settings
from dscgan_jax.configs import default
from dscgan_jax.data import batches as pipeline
from dscgan_jax.data import features, layouts, nifti, preparation
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.errors import InputError
from dscgan_jax.figures import panels as figures
from dscgan_jax.files import all_or_nothing
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAPS
from dscgan_jax.training import checkpoints, state, steps

SLICES_PER_CALL, SLICES_PER_CALL_ON_CPU = 8, 4  # one compilation serves every exam: the last call is padded


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says of one exam.

    Attributes:
      scaled: (slice, row, col, target), [-1, 1], on the network grid, before anything is written back.
      volumes: target name -> (x, y, z) on the exam's grid, in the units of `MAPS`.
      findings: of the exam, of its preparation for the network, and of what the network was not trained for.
      seconds: from the series in memory to the maps in memory.
      norm: whose statistics batch norm took: `batch` or `running`.
    """

    scaled: np.ndarray
    volumes: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    seconds: float
    norm: str


class Predictor:
    """A generator restored from a work directory, with everything that goes around it.

    Attributes:
      record: what the checkpoint says of itself.
      config: the config it was trained with.
      norm: how batch norm works in `predict`, unless that is told otherwise.
      step: the checkpoint's step.
      scaling, preparation: how exams become network input.
    """

    def __init__(
        self, workdir: pathlib.Path | str, which: str = "best", *, norm: str | None = None, motion: str | None = None
    ):
        """Restores a checkpoint.

        Args:
          workdir: work directory of a run.
          which: `best` on validation, `latest`, or a step.
          norm: of batch norm in `predict`: `batch` or `running`; None = the config's.
          motion: `none`, or `rigid` = series are realigned first; None = as in training.

        Raises:
          InputError: there is no such checkpoint, it is damaged, or its network has no such norm.
        """
        self.step = checkpoints.choose_step(workdir, which)
        self.selected_by = which
        self.record = checkpoints.load_record(workdir, self.step)
        self.config = settings.from_json(self.record["config"], default.get_config())
        self.scaling = Scaling.from_json(self.record["scaling"])
        if norm is not None and self.config.model.norm == "instance":
            raise InputError(
                f"--config.evaluate.norm_at_test={norm} is given, which nothing reads: the network of {workdir} has "
                "instance norm, which has one way; leave it out."
            )
        self.norm = norm or self.config.evaluate.norm_at_test
        self.preparation = preparation.PreparationSettings.from_config(self.config.data)
        if motion is not None:
            self.preparation = dataclasses.replace(self.preparation, motion=motion)
        self._networks, like = abstract_state(self.config)
        if jax.default_backend() == "cpu":  # which only emulates 16 bits
            self._networks = dataclasses.replace(self._networks, compute="float32")
        self._variables = checkpoints.load_generator(workdir, self.step, like.generator)

    @functools.cached_property
    def sha256(self) -> str:
        """Digest of the generator's weights and statistics."""
        return checkpoints.digest(self._variables)

    @functools.cached_property
    def software(self) -> dict[str, str | None]:
        """Versions of what runs now; the record tells those that trained."""
        return checkpoints.software_versions()

    @functools.lru_cache  # noqa: B019 - one predictor lives as long as the process
    def _step(self, norm: str) -> Any:
        return jax.jit(
            functools.partial(steps.predict_step, networks=self._networks, scaling=self.scaling, mode=norm),
            compiler_options=steps.compiler_options(),
        )

    def predict(self, exam: layouts.Exam, norm: str | None = None) -> Prediction:
        """Maps of one exam.

        Args:
          exam: as `layouts.load_exam` or `layouts.load_series` reads it.
          norm: `batch` (each slice's own statistics) or `running`; default: the predictor's.

        A network that sees nothing outside the brain says nothing about it: its maps are 0 there, as those it learned
          from.
        """
        begun = time.perf_counter()
        prepared = preparation.prepare(exam, self.preparation)
        norm = norm or self.norm
        step = self._step(norm)
        sent = []
        for n, batch in _calls(prepared):
            if (
                len(sent) > 1 and jax.default_backend() == "cpu"
            ):  # an accelerator has a queue, a CPU would start them all
                jax.block_until_ready(sent[-1][1])
            sent.append((n, step(self._variables, batch)))
        scaled = np.concatenate([np.asarray(maps)[:n] for n, maps in sent])  # (slice, row, col, target)
        restored = preparation.restore(np.asarray(self.scaling.physical_maps(scaled)), prepared.grid)
        if prepared.brain is not None:
            restored = np.where(prepared.brain[..., None], restored, np.float32(0))
        volumes = {name: restored[..., channel] for channel, name in enumerate(self.scaling.targets)}
        findings = by_severity((*prepared.findings, *self._untrained_for(exam)))
        return Prediction(scaled, volumes, findings, time.perf_counter() - begun, norm)

    def _untrained_for(self, exam: layouts.Exam) -> tuple[Finding, ...]:
        """Warnings about a network that sees the air, and about an exam unlike those it was trained on."""
        sees_air = self.preparation.outside_brain == "keep"
        found = (
            [
                Finding(
                    "air_reaches_network",
                    "warning",
                    "this network sees what lies outside the brain, and its maps depend "
                    "on it; train it again with config.data.outside_brain=zero",
                )
            ]
            if sees_air
            else []
        )
        known = self.record["data"].get("features")  # networks of older versions have none
        return (*found, *(features.unlike(features.features_of(exam), known, self._unseen()) if known else ()))

    def _unseen(self) -> tuple[str, ...]:
        """Features of an exam that do not reach the network."""
        return (
            *(("surroundings",) if self.preparation.outside_brain == "zero" else ()),
            *(("before_bolus_seconds",) if self.preparation.lead_seconds else ()),
        )  # every bolus arrives at the same frame

    def sidecar(self, name: str, exam: layouts.Exam, prediction: Prediction) -> dict[str, Any]:
        """What lies beside a predicted map.

        Unit, model, training data, how it was used, and what was assumed of the exam.
        """
        return {
            "Units": MAPS[name].unit,
            "Description": f"{MAPS[name].description}, predicted by a network",
            "Model": {"generator": self.config.model.generator, "step": self.step, "sha256": self.sha256},
            "TrainingData": {key: self.record["data"].get(key) for key in ("source", "fingerprint", "n_train")},
            "Exam": {"FrameSeconds": exam.frame_seconds},
            "Settings": {
                "norm_at_test": prediction.norm,
                "motion": self.preparation.motion,
                "outside_brain": self.preparation.outside_brain,
            },
            "Findings": [finding.to_json() for finding in prediction.findings],
            "Software": self.software,
            "TrainingSoftware": self.record["software"],
            "IntendedUse": "research only",
        }


def abstract_state(config: ml_collections.ConfigDict) -> tuple[state.Networks, state.GanState]:
    """The networks of a config and the shapes of their state; no weights are drawn."""
    networks = None

    def create() -> state.GanState:
        nonlocal networks
        networks, _, created = state.create(
            config.model,
            config.train,
            frames=config.data.frames,
            n_targets=len(config.target),
            seed=config.seed,
            total_steps=1,
        )
        return created

    return (shapes := jax.eval_shape(create)) and networks, shapes


def _calls(prepared: preparation.PreparedExam) -> Iterable[tuple[int, dict[str, np.ndarray]]]:
    """Batches of equally many slices with the number of them that count."""
    n_slices = prepared.dsc.shape[0]
    per_call = SLICES_PER_CALL_ON_CPU if jax.default_backend() == "cpu" else SLICES_PER_CALL
    for first in range(0, n_slices, per_call):
        slices = np.minimum(np.arange(first, first + per_call), n_slices - 1)
        yield min(per_call, n_slices - first), pipeline.inputs_of_exam(prepared, slices)


def write_maps(
    prediction: Prediction,
    predictor: Predictor,
    exam: layouts.Exam,
    folder: pathlib.Path,
    stem: str,
    *,
    scaled: bool = False,
) -> list[pathlib.Path]:
    """Writes `<stem>_<map>.nii.gz` with JSON sidecars, and `<stem>_scaled.npz` where asked; returns the maps' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, volume in prediction.volumes.items():
        paths.append(folder / f"{stem}_{name}.nii.gz")
        nifti.write_volume(paths[-1], volume, exam.affine, sidecar=predictor.sidecar(name, exam, prediction))
    if scaled:
        np.savez(
            folder / f"{stem}_scaled.npz",
            scaled=prediction.scaled,
            targets=np.array(predictor.scaling.targets),
            seconds=prediction.seconds,
        )
    return paths


def predict_file(
    workdir: pathlib.Path | str,
    series: pathlib.Path | str,
    output: pathlib.Path | str,
    *,
    which: str = "best",
    overrules: layouts.Overrules = layouts.NOTHING_OVERRULED,
    norm: str | None = None,
    motion: str | None = None,
) -> tuple[list[pathlib.Path], tuple[Finding, ...]]:
    """One 4-D file -> maps, sidecars and a picture in `output`; `which`, `norm` and `motion` as for `Predictor`.

    Returns:
      the paths of the maps, and the findings (also in each sidecar).

    Raises:
      InputError: the file is not a usable series, or the checkpoint cannot be used.
    """
    series, output = pathlib.Path(series), pathlib.Path(output)
    exam = layouts.load_series(series, overrules)
    predictor = Predictor(workdir, which, norm=norm, motion=motion)
    if predictor.scaling.signal == "delta_r2star" and not np.isfinite(exam.echo_seconds):
        raise InputError(
            f"{series}: the checkpoint works on delta_r2star and needs the echo time; give --te= in seconds, "
            "or EchoTime in the sidecar."
        )
    prediction = predictor.predict(exam)
    stem = nifti.stem_of(series).removesuffix("_dsc")  # sub-1_dsc.nii.gz -> sub-1
    canonical = {name: nifti.to_canonical(volume, exam.affine)[0] for name, volume in prediction.volumes.items()}
    series_canonical, affine, _ = nifti.to_canonical(exam.series, exam.affine)
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    with all_or_nothing(output) as folder:
        paths = write_maps(prediction, predictor, exam, folder, stem)
        figures.maps_picture(
            folder / f"{stem}_maps.png",
            canonical,
            series_canonical,
            title=stem,
            aspect=float(voxel_mm[1] / voxel_mm[0]),
        )
    return [output / path.name for path in paths], prediction.findings
