"""`summary.csv` of a cohort: what became of each exam, its volumes and medians, and which exams are unlike the others.

One row is one exam; an empty field is undefined. A column is a field of `ExamRow`: a new field is a new column.
"""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.files import write_whole
from dscgan_jax.findings import Finding
from dscgan_jax.maps import MAPS

MADE, FAILED = "made", "failed"
FEWEST_TO_COMPARE = 8  # exams; a spread of fewer says little
FAR = 3.5  # robust standard deviations from the median: Iglewicz and Hoaglin 1993, "How to detect and handle outliers"
NORMAL_SPREAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
SMALL_ML = 10.0  # volumes of late tissue below it are all small: none is far from another
_SEPARATOR = " "  # between names of findings
_WORDS = {
    "brain_ml": "brain volume",
    "tmax_over_6s_ml": "volume of Tmax > 6 s",
    **{f"{name}_median": f"median {spec.title}" for name, spec in MAPS.items()},
}


@dataclasses.dataclass(frozen=True)
class ExamRow:
    """What is known of one exam of a cohort.

    Attributes:
      subject: its name in the output.
      split: as `participants.tsv` of the input has it.
      status: `made`, or `failed`: then there are no maps.
      reason: why it failed, in one line.
      seconds: from its files to its maps and page on disk.
      brain_ml: volume in which there are maps.
      tmax_over_4s_ml, tmax_over_6s_ml, tmax_over_8s_ml, tmax_over_10s_ml: volumes of late tissue, as in the exam's
        read-out, from which what follows comes too.
      hypoperfusion_intensity_ratio: None where nothing is late.
      core_ml, core_source: `mask`, or `research: CBF`.
      mismatch_ml, mismatch_ratio: of late tissue and core.
      cbf_median, cbv_median, mtt_median, tmax_median, ttp_median: in the brain, in the units of `maps.MAPS`, or
        relative: a warning says so.
      aif_quality: 0 to 1, where there is an AIF.
      signal_to_noise, first_pass_seconds, seconds_after_peak, motion_mm, training_distance: of its quality record
        (`quality.Quality`).
      warnings, notes: names of findings.
      method: of deconvolution, or `network`.
      network, network_version, network_sha256: name, version and digest.
      page, thumbnail: paths from the folder of the cohort; empty where there is none.
    """

    subject: str
    split: str | None = None
    status: Literal["made", "failed"] = MADE
    reason: str = ""
    seconds: float | None = None
    brain_ml: float | None = None
    tmax_over_4s_ml: float | None = None
    tmax_over_6s_ml: float | None = None
    tmax_over_8s_ml: float | None = None
    tmax_over_10s_ml: float | None = None
    hypoperfusion_intensity_ratio: float | None = None
    core_ml: float | None = None
    core_source: str = ""
    mismatch_ml: float | None = None
    mismatch_ratio: float | None = None
    cbf_median: float | None = None
    cbv_median: float | None = None
    mtt_median: float | None = None
    tmax_median: float | None = None
    ttp_median: float | None = None
    aif_quality: float | None = None
    signal_to_noise: float | None = None
    first_pass_seconds: float | None = None
    seconds_after_peak: float | None = None
    motion_mm: float | None = None
    training_distance: float | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    method: str = ""
    network: str = ""
    network_version: str = ""
    network_sha256: str = ""
    page: str = ""
    thumbnail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"warnings": list(self.warnings), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ExamRow":
        """Inverse of `to_json`; fields that are younger than the record have their defaults.

        Raises:
          TypeError: the record has a field that this version does not know.
        """
        return cls(**{**record, "warnings": tuple(record["warnings"]), "notes": tuple(record["notes"])})


COLUMNS = tuple(field.name for field in dataclasses.fields(ExamRow))
_OF_READ_OUT = COLUMNS[COLUMNS.index("tmax_over_4s_ml") : COLUMNS.index("mismatch_ratio") + 1]
_OF_QUALITY = COLUMNS[COLUMNS.index("signal_to_noise") : COLUMNS.index("training_distance") + 1]
_NUMBERS = tuple(field.name for field in dataclasses.fields(ExamRow) if field.type == (float | None))


def numbers_of(maps: ExamMaps, read_out: ReadOut) -> dict[str, Any]:
    """Volumes, read-out, medians and quality of one exam's maps, by the names of their columns."""
    inside = maps.mask
    if inside is None or not inside.any():
        return {}
    medians = {f"{name}_median": float(np.median(maps[name][inside])) for name in MAPS if name in maps.volumes}
    known = {name: value for name, value in read_out.columns().items() if name in _OF_READ_OUT}
    quality = {name: getattr(maps.quality, name, None) for name in _OF_QUALITY}
    return {"brain_ml": read_out.tissue_ml} | known | medians | quality


def names_of(findings: Iterable[Finding], *, notes: bool) -> tuple[str, ...]:
    """Names of the findings that are notes, or of those that are not, each once."""
    return tuple(dict.fromkeys(one.name for one in findings if (one.severity == "note") == notes))


def write(path: pathlib.Path, rows: Sequence[ExamRow]) -> None:
    """Writes `summary.csv`, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(getattr(row, name)) for name in COLUMNS} for row in rows)
    write_whole(path, text.getvalue())


def read(path: pathlib.Path) -> list[ExamRow]:
    """Inverse of `write`; columns that are younger than the file have their defaults.

    Raises:
      InputError: the file is absent or has other columns.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if any(not {"subject", "status"} <= line.keys() <= set(COLUMNS) for line in lines):
        raise InputError(f"{path}: expected the columns {','.join(COLUMNS[:4])},...; make it again with this version.")
    return [ExamRow(**{name: _value(name, field) for name, field in line.items()}) for line in lines]


def _field(value: Any) -> str:
    if isinstance(value, tuple):
        return _SEPARATOR.join(value)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(name: str, field: str) -> Any:
    if name in ("warnings", "notes"):
        return tuple(field.split())
    if name in _NUMBERS:
        return float(field) if field else None
    return (field or None) if name == "split" else field


def unlike_others(rows: Sequence[ExamRow]) -> dict[str, tuple[str, ...]]:
    """Which numbers of which exams are far from those of the others, in words.

    A number is far if it is more than `FAR` robust standard deviations (1.4826 times the median absolute deviation)
    from the median. Volumes of late tissue are compared as logarithms of `SMALL_ML` more: lesions of any size are
    usual.

    Returns:
      {subject: e.g. ("brain volume 310 (usually 1290)",)}; nothing where fewer than `FEWEST_TO_COMPARE` have maps.
    """
    made = [row for row in rows if row.status == MADE]
    found: dict[str, list[str]] = {}
    for column, words in _WORDS.items():
        known = [(row.subject, value) for row in made if (value := getattr(row, column)) is not None]
        if len(known) < FEWEST_TO_COMPARE:
            continue
        values = np.array([value for _, value in known])
        compared = np.log(SMALL_ML + values) if column.startswith("tmax_over") else values
        middle = np.median(compared)
        spread = NORMAL_SPREAD * float(np.median(np.abs(compared - middle)))
        if not spread > 0 or not math.isfinite(spread):
            continue
        for (subject, value), distance in zip(known, np.abs(compared - middle) / spread, strict=True):
            if distance > FAR:
                found.setdefault(subject, []).append(f"{words} {value:.3g} (usually {np.median(values):.3g})")
    return {subject: tuple(sentences) for subject, sentences in found.items()}


def outliers_first(rows: Iterable[ExamRow], unlike: Mapping[str, Sequence[str]]) -> list[ExamRow]:
    """Those that failed, those with warnings, those unlike the others, then the rest; of each kind the worst first."""

    def rank(row: ExamRow) -> tuple[int, int, int, str]:
        far = len(unlike.get(row.subject, ()))
        kind = 0 if row.status == FAILED else 1 if row.warnings else 2 if far else 3
        return kind, -len(row.warnings), -far, row.subject

    return sorted(rows, key=rank)
