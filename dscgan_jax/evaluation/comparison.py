"""A study's records -> what is compared: each method's scores, and paired differences of methods on the same patients.

Knows no network and no file of an exam: everything comes from rows of `subjects.csv`.
"""

import csv
import dataclasses
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dscgan_jax.evaluation import agreement, records
from dscgan_jax.evaluation.agreement import PairedDifference
from dscgan_jax.evaluation.records import Row
from dscgan_jax.evaluation.sources import BLANK, NULL_MEDIAN
from dscgan_jax.maps import MAP_NAMES

# The paper's four metrics (Kossen et al. 2023, 2.5), of whole slices in [-1, 1].
PAPER_METRICS = {"scaled_mae": "MAE", "scaled_nrmse": "NRMSE", "scaled_ssim": "SSIM", "scaled_psnr": "PSNR [dB]"}
# What the paper prints (results; discussion for NRMSE and CBV), acute and chronic: of other patients than ours.
PAPER_SSIM = {
    "acute": {"temp": {"tmax": 0.92, "ttp": 0.95, "cbv": 0.986}, "pix2pix": {"tmax": 0.86, "ttp": 0.91}},
    "chronic": {"temp": {"mtt": 0.84, "ttp": 0.86}, "pix2pix": {"mtt": 0.78, "ttp": 0.82}},
}
PAPER_TMAX_NRMSE = 0.095  # acute, temp-pix2pix
BRAIN_ERROR = "brain_mae"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method on one cohort.

    Attributes:
      cohort: `acute`, `chronic` or `difficult`.
      method: its short name.
      title: in tables and pictures.
      part: of the study that it belongs to.
      rows: of `subjects.csv`, one for each patient and map, of this method alone.
      refused: patients of whom it makes no maps.
      hours: of all its trainings; None where nothing was trained, or it is not known.
      resumed: whether one of them was stopped in between, so that hours are missing.
      steps_per_second: of the first of them; None likewise.
      against: method that it is compared with; empty: the recommended temp-pix2pix.
    """

    cohort: str
    method: str
    title: str
    part: str
    rows: tuple[Row, ...]
    refused: tuple[str, ...] = ()
    hours: float | None = None
    resumed: bool = False
    steps_per_second: float | None = None
    against: str = ""

    @property
    def maps(self) -> list[str]:
        """Names of its maps."""
        return [name for name in MAP_NAMES if any(row["map"] == name for row in self.rows)]

    def of_map(self, name: str) -> list[Row]:
        """Its rows of one map."""
        return [row for row in self.rows if row["map"] == name]

    def statistics(self, name: str, column: str) -> dict[str, Any]:
        """Mean, SD, ... of a column over patients, as `records.statistics`."""
        return records.statistics([row[column] for row in self.of_map(name)])

    def by_patient(self, name: str, column: str) -> dict[str, float]:
        """{patient: value} where it is defined."""
        return {row["subject"]: row[column] for row in self.of_map(name) if row[column] is not None}

    @functools.cached_property
    def hypoperfused(self) -> "Hypoperfused | None":
        """Agreement of its Tmax, whose intervals take a while; None where it has no Tmax."""
        return _hypoperfused(self)


@dataclasses.dataclass(frozen=True)
class Hypoperfused:
    """Agreement of the volume of Tmax > 6 s, and of what follows from it.

    Attributes:
      dice_pooled: of all patients' voxels as one.
      dice_mean: over patients of whom it is defined.
      volumes: bias and limits of agreement, mL.
      pearson_r, icc, concordance: of volumes.
      defuse3, extend: eligibility by both trials, with the reference's core; None where no core is known.
    """

    dice_pooled: float | None
    dice_mean: float | None
    volumes: agreement.BlandAltman
    pearson_r: agreement.Estimate
    icc: agreement.Estimate
    concordance: agreement.Estimate
    defuse3: agreement.Eligibility | None
    extend: agreement.Eligibility | None


def _hypoperfused(entry: Entry) -> Hypoperfused | None:
    rows = entry.of_map("tmax")
    if not rows:
        return None
    columns = records.overlap_columns(agreement.HYPOPERFUSED_SECONDS)
    dice = [row[columns["dice"]] for row in rows]
    predicted = [row[columns["volume_predicted_ml"]] for row in rows]
    reference = [row[columns["volume_reference_ml"]] for row in rows]
    core = [row.get("core_ml") for row in rows]
    known = any(value is not None for value in core)
    trials = {
        name: agreement.eligibility(name, core, predicted, reference) if known else None for name in agreement.TRIALS
    }
    return Hypoperfused(
        records.pooled_dice(dice, np.array(predicted, float) + np.array(reference, float)),
        records.statistics(dice)["mean"],
        agreement.bland_altman(predicted, reference),
        agreement.pearson_r(predicted, reference),
        agreement.intraclass_correlation(predicted, reference),
        agreement.concordance(predicted, reference),
        **trials,
    )


def over_null(entry: Entry, name: str, nulls: Entry | None) -> float | None:
    """MAE in the brain over that of the training median on the same patients."""
    if nulls is None:
        return None
    own, null = entry.by_patient(name, BRAIN_ERROR), nulls.by_patient(name, BRAIN_ERROR)
    same = [patient for patient in own if patient in null]
    below = sum(null[patient] for patient in same)
    return sum(own[patient] for patient in same) / below if below else None


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two methods on the same patients of a cohort.

    Attributes:
      cohort: of the patients.
      first, second: titles of the methods.
      map_name: of `MAP_NAMES`.
      column: of `subjects.csv`.
      found: first - second.
    """

    cohort: str
    first: str
    second: str
    map_name: str
    column: str
    found: PairedDifference


def differences(first: Entry, second: Entry, columns: Sequence[str]) -> list[Difference]:
    """All maps that both have, column by column, on the patients of whom both have them."""
    found = []
    for name in [name for name in first.maps if name in second.maps]:
        for column in columns:
            one, other = first.by_patient(name, column), second.by_patient(name, column)
            same = sorted(one.keys() & other.keys())
            if same:
                paired = agreement.paired_difference([one[who] for who in same], [other[who] for who in same])
                found.append(Difference(first.cohort, first.title, second.title, name, column, paired))
    return found


def of_source(rows: Iterable[Row], source: str) -> tuple[Row, ...]:
    """Rows of one source."""
    return tuple(row for row in rows if row["source"] == source)


def nulls_of(rows: Iterable[Row], cohort: str) -> tuple[Entry, Entry]:
    """The training median and the blank map of a cohort; of rows of the same patient and map the first counts."""
    first: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        first.setdefault((row["source"], row["subject"], row["map"]), row)
    return (
        Entry(cohort, NULL_MEDIAN, "null: training median", "nulls", of_source(first.values(), NULL_MEDIAN)),
        Entry(cohort, BLANK, "null: blank", "nulls", of_source(first.values(), BLANK)),
    )


def without_scaled(rows: Iterable[Row], maps: Iterable[str] = MAP_NAMES) -> tuple[Row, ...]:
    """Rows whose metrics in [-1, 1] are left out for some maps: of other ranges than those beside them."""
    blank = dict.fromkeys(records.SCALED_COLUMNS)
    return tuple({**row, **blank} if row["map"] in maps else row for row in rows)


def study_csv(entries: Iterable[Entry]) -> str:
    """`study.csv`: all rows of all methods, with cohort and method before the columns of `subjects.csv`."""
    head = ("cohort", "method", *records.COLUMNS)
    lines = [
        {"cohort": entry.cohort, "method": entry.method, **{name: _plain(row[name]) for name in records.COLUMNS}}
        for entry in entries
        for row in entry.rows
    ]
    return as_csv(head, lines)


def summary_csv(entries: Iterable[Entry]) -> str:
    """`study_summary.csv`: mean, SD and number of patients of each method, map and column."""
    columns = (*records.SCALED_COLUMNS, *records.BRAIN_COLUMNS)
    lines = []
    for entry in entries:
        for name in entry.maps:
            for column in columns:
                stat = entry.statistics(name, column)
                if stat["n"]:
                    lines.append(
                        {
                            "cohort": entry.cohort,
                            "method": entry.method,
                            "map": name,
                            "column": column,
                            **{field: _plain(stat[field]) for field in ("n", "mean", "sd", "median")},
                        }
                    )
    return as_csv(("cohort", "method", "map", "column", "n", "mean", "sd", "median"), lines)


def differences_csv(found: Iterable[Difference]) -> str:
    """`study_differences.csv`: paired differences with their 95 % intervals."""
    head = ("cohort", "first", "second", "map", "column", "n", "mean", "low", "high", "p_value")
    lines = []
    for one in found:
        mean = one.found.mean
        low, high = mean.interval or (None, None)
        cells = (one.cohort, one.first, one.second, one.map_name, one.column, mean.n, mean.value, low, high)
        lines.append(dict(zip(head, map(_plain, (*cells, one.found.p_value)), strict=True)))
    return as_csv(head, lines)


def as_csv(head: Sequence[str], lines: Iterable[Mapping[str, str]]) -> str:
    """Text of a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)
