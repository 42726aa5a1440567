"""One exam -> conventional maps, by deconvolution with an AIF that is found or given."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from dscgan_jax import provenance
from dscgan_jax.data import aif as arterial_inputs
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.features import ExamFeatures, features_of
from dscgan_jax.data.subject_files import CT
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import consistency, quality
from dscgan_jax.findings import Finding, by_severity
from dscgan_jax.maps import MAP_NAMES, spec_of
from dscgan_jax.perfusion import conventional
from dscgan_jax.perfusion.conventional import ConventionalMaps, Settings
from dscgan_jax.perfusion.measurement import NOTHING_GIVEN, Given, Measured, measure
from dscgan_jax.perfusion.motion import Realigned
from dscgan_jax.perfusion.parametric import FitSettings

DEFAULTS = Settings()


@dataclasses.dataclass(frozen=True)
class Deconvolved:
    """The conventional maps of one exam with all that a reader may want to check.

    Attributes:
      maps: for whoever uses them.
      found: the same maps, the AIF and everything that was measured on the way, RAS.
      series: (x, y, z, time), RAS, as it was inverted: realigned where that was asked for.
      settings: how the maps were made.
    """

    maps: ExamMaps
    found: ConventionalMaps
    series: np.ndarray
    settings: Settings


def deconvolve(
    exam: Exam,
    method: str = "parametric",
    *,
    aif: pathlib.Path | str = arterial_inputs.AUTOMATIC,
    scale: str | float = DEFAULTS.scale,
    motion: str = DEFAULTS.motion,
    leakage: str = DEFAULTS.leakage,
) -> ExamMaps:
    """Conventional maps of one exam: cbf, cbv, mtt, tmax and ttp.

    Args:
      exam: from `load_exam` or `Exam.from_arrays`.
      method: `parametric`, `osvd`, `csvd` or `ssvd`.
      aif: `auto`, a table with time_seconds and concentration_mM, or a NIfTI mask of arterial voxels.
      scale: `none`, `reference_wm` (healthy white matter at 22 mL/100 g/min) or a factor on CBF and CBV.
      motion: `rigid` (frames in which the head moved are realigned) or `none`.
      leakage: `none`, or how leaked contrast agent is taken out of the curves, `bsw` or `bidirectional`: for tumours.
        The maps k1, k2 and, where it is known, ncbv come besides.

    Raises:
      InputError: a setting has no such value, or no usable AIF was found or given.
    """
    settings = dataclasses.replace(DEFAULTS, method=method, scale=scale, motion=motion, leakage=leakage)
    return deconvolved(exam, settings, arterial_inputs.given_of(exam, aif)).maps


def deconvolved(
    exam: Exam,
    settings: Settings = DEFAULTS,
    given: Given = NOTHING_GIVEN,
    realigned: Callable[[], Realigned] | None = None,
    on_measured: Callable[[Measured, np.ndarray], Any] | None = None,
) -> Deconvolved:
    """As `deconvolve`, with everything that was measured on the way; what is `given` is on RAS axes.

    `realigned` is as of `measure`; `on_measured` is called before the inversion, with what was measured and the series
    that is inverted, for whoever can begin with them.

    Raises:
      InputError: as `perfusion.conventional.conventional_maps`, with the subject.
    """
    try:
        [result] = by_methods(exam, settings, (settings.method,), given, realigned, on_measured).values()
    except InputError as error:
        raise InputError(f"{exam.subject}: {error}") from error
    return result


def by_methods(
    exam: Exam,
    settings: Settings,
    methods: Sequence[str],
    given: Given = NOTHING_GIVEN,
    realigned: Callable[[], Realigned] | None = None,
    on_measured: Callable[[Measured, np.ndarray], Any] | None = None,
) -> dict[str, Deconvolved]:
    """The same exam by several methods; the AIF is found once.

    Raises:
      InputError: as `perfusion.conventional.conventional_maps`.
    """
    measured = measure(
        exam.series,
        exam.affine,
        exam.frame_seconds,
        exam.echo_seconds,
        settings.motion,
        given,
        realigned,
        of_ct=exam.modality == CT,
    )
    if on_measured is not None:
        on_measured(measured, _series(exam, measured))
    taken = features_of(exam)
    return {
        method: _deconvolved(exam, measured, dataclasses.replace(settings, method=method), taken) for method in methods
    }


def _deconvolved(exam: Exam, measured: Measured, settings: Settings, taken: ExamFeatures) -> Deconvolved:
    found = conventional.invert(measured, settings)
    relative = () if found.absolute else ("cbf", "cbv")
    maps = ExamMaps(
        subject=exam.subject,
        volumes=found.maps,
        units={name: "relative" if name in relative else spec_of(name).unit for name in found.maps},
        stored=exam.stored,
        how="by deconvolution",
        provenance=_provenance(exam, found, settings),
        mask=measured.tissue,
    )
    series = _series(exam, measured)
    agreement = consistency.consistency_of(maps.volumes, measured.tissue, exam, series)
    found_of_all = by_severity((*exam.findings, *found.findings, *consistency.doubts(agreement, {})))
    maps = dataclasses.replace(maps, findings=found_of_all)
    record = quality.quality_of(exam, maps, taken, aif_quality=measured.arterial.quality, consistency=agreement)
    return Deconvolved(dataclasses.replace(maps, quality=record), found, series, settings)


def _series(exam: Exam, measured: Measured) -> np.ndarray:
    """As it is inverted."""
    return exam.series if measured.realignment is None else measured.realignment.series


def _provenance(exam: Exam, found: ConventionalMaps, settings: Settings) -> dict[str, Any]:
    """Method with every setting and constant, AIF, what was assumed of the exam, versions."""
    echo = exam.echo_seconds if math.isfinite(exam.echo_seconds) else None
    return {
        "Settings": plain(settings),
        **found.record(),
        "Exam": {"FrameSeconds": exam.frame_seconds, "EchoSeconds": echo},
        "Software": provenance.software_versions(),
    }


def plain(record: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(record)))


class ConventionalSource:
    """Conventional maps by several methods, each a source, written into a folder as they are made (`MapSource`).

    Attributes:
      findings: by subject, of its conventional maps alone.
      refused: why a subject has none.
    """

    def __init__(
        self,
        settings: Settings,
        methods: Sequence[str],
        names: Sequence[str],
        folder: pathlib.Path,
        aif: str = arterial_inputs.AUTOMATIC,
        own_aif: Mapping[str, pathlib.Path | None] | None = None,
    ):
        """A source.

        Args:
          settings: of all methods.
          methods: each offers its maps under its name.
          names: maps to offer.
          folder: receives `<method>/<subject>_<map>.nii.gz`.
          aif: `auto`, or `files` = each exam's own.
          own_aif: {subject: its own AIF}, for `files`.
        """
        self._settings, self._folder, self._aif, self._own_aif = settings, folder, aif, own_aif or {}
        self.offers = {method: tuple(name for name in MAP_NAMES if name in names) for method in methods}
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self.refused: dict[str, str] = {}

    def maps_of(self, exam: Exam) -> dict[str, ExamMaps]:
        """Deconvolves and writes; nothing where no AIF is usable."""
        try:
            given = arterial_inputs.given_of(exam, self._aif, self._own_aif.get(exam.subject))
            results = by_methods(exam, self._settings, tuple(self.offers), given)
        except InputError as error:
            self.refused[exam.subject] = str(error)
            return {}
        self.findings[exam.subject] = by_severity(one for result in results.values() for one in result.found.findings)
        for method, result in results.items():
            result.maps.save(self._folder / method, names=self.offers[method])
        return {method: _only(result.maps, self.offers[method]) for method, result in results.items()}


def _only(maps: ExamMaps, names: Sequence[str]) -> ExamMaps:
    return dataclasses.replace(maps, volumes={name: maps[name] for name in names})


# ------------------------------------------------------------------------------------------------------- settings


def settings_of(config: ml_collections.ConfigDict) -> Settings:
    """From `config.conventional`.

    Raises:
      InputError: names the field, its value and what it may be.
    """
    fields = config.conventional
    scale: str | float = fields.scale
    if scale not in conventional.SCALES:
        try:
            scale = float(fields.scale)
        except ValueError:
            raise InputError(
                f"scale is {fields.scale!r}; it must be {', '.join(conventional.SCALES)} or a factor above 0."
            ) from None
    fit = FitSettings(transit_shape=float(fields.transit_shape), dispersion=bool(fields.dispersion))
    return Settings(
        str(fields.method),
        scale,
        str(fields.motion),
        str(fields.tmax_offset),
        float(fields.truncation_threshold),
        float(fields.oscillation_index),
        float(fields.neighbourhood_mm),
        fit,
        str(fields.leakage),
    )


def check_baselines(config: ml_collections.ConfigDict) -> None:
    """Refuses methods that do not exist, before anything long starts.

    Raises:
      InputError: names the field, its value and what it may be.
    """
    known = (arterial_inputs.AUTOMATIC, arterial_inputs.FROM_FOLDER)
    for method in config.evaluate.baselines:
        if method not in conventional.METHODS:
            raise InputError(
                f"config.evaluate.baselines names {method!r}; known methods are {', '.join(conventional.METHODS)}."
            )
    if config.conventional.aif not in known:
        raise InputError(f"config.conventional.aif is {config.conventional.aif!r}; it must be {' or '.join(known)}.")
    settings_of(config)
