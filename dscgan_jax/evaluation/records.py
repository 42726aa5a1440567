"""`subjects.csv` and `summary.json`: what was measured of each subject, and what follows from it.

One row of `subjects.csv` is one subject, source and map; an empty field is undefined. `summary.json` is computed from
that file alone (and from what describes the run), so that anybody can recompute it; undefined is null, never NaN.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import agreement
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAP_NAMES, MAPS

SCHEMA_VERSION = 1
FORMER_SOURCES = {"network_batch": "network_per_slice"}  # what older versions called them
PHANTOM = "phantom exams"  # the source of data that were drawn, not scanned
SCALED_COLUMNS = ("scaled_mae", "scaled_mse", "scaled_nrmse", "scaled_ssim", "scaled_psnr")
BRAIN_COLUMNS = (
    "brain_mae",
    "brain_rmse",
    "brain_bias",
    "brain_pearson_r",
    "brain_ssim",
    "brain_scale",
    "brain_mae_after_scale",
)
THRESHOLDS = MAPS["tmax"].thresholds  # seconds
_TEXT = ("subject", "split", "source", "map", "unit")
_COUNTS = ("n_slices", "n_brain_voxels")
_FLAGS = ("moved", "truncated")

Row = dict[str, Any]


def overlap_columns(threshold: float) -> dict[str, str]:
    """Columns of one Tmax threshold, by the names of `metrics.overlap_record`."""
    return {
        "dice": f"dice_over_{threshold:g}s",
        "volume_predicted_ml": f"volume_predicted_over_{threshold:g}s_ml",
        "volume_reference_ml": f"volume_reference_over_{threshold:g}s_ml",
    }


COLUMNS = (
    *_TEXT,
    *_COUNTS,
    "mask_source",
    *SCALED_COLUMNS,
    *BRAIN_COLUMNS,
    "clipped_fraction",
    "saturated_fraction",  # of the map, and of its reference: share of the brain at the ends of the range
    "saturated_reference",
    *(column for threshold in THRESHOLDS for column in overlap_columns(threshold).values()),
    "core_ml",  # of the reference, in rows of Tmax: the same for every source
    *_FLAGS,
    "seconds_predict",
)


def write_subjects(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes `subjects.csv`, whole or not at all; numbers keep every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    write_whole(path, text.getvalue())


def read_subjects(path: pathlib.Path) -> list[Row]:
    """Inverse of `write_subjects`; an empty field becomes None, a former name of a source its name now.

    Raises:
      InputError: the file is absent, lacks the columns that say of whom a row is, or has one that nobody knows.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run --mode=evaluate first.") from error
    head = lines[0] if lines else []
    if not set(_TEXT) <= set(head) <= set(COLUMNS) or any(len(line) != len(head) for line in lines):
        raise InputError(f"{path}: expected the columns {','.join(COLUMNS[:4])},...; evaluate again with this version.")
    lacking = dict.fromkeys(COLUMNS)  # columns that are younger than the file
    return [lacking | {name: _value(name, field) for name, field in zip(head, line, strict=True)} for line in lines[1:]]


def summarise(rows: Sequence[Row], run: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
      rows: of `subjects.csv`.
      run: `created, software, split, excluded, findings, checkpoint, config_sha256, data, protocol, wall_seconds`.

    Returns:
      The record; `results[source][map]` holds the statistics over subjects, `results[source]["hypoperfusion"]` the
      agreement of Tmax > 4, 6, 8, 10 s where the source has Tmax, that of 6 s with `eligibility` for two trials.
    """
    results: dict[str, Any] = {}
    for source in unique(row["source"] for row in rows):
        of_source = [row for row in rows if row["source"] == source]
        results[source] = {
            name: _map_summary([row for row in of_source if row["map"] == name])
            for name in MAP_NAMES
            if any(row["map"] == name for row in of_source)
        }
        if "tmax" in results[source]:
            tmax = [row for row in of_source if row["map"] == "tmax"]
            results[source]["hypoperfusion"] = {
                f"tmax_over_{threshold:g}s": _overlap_summary(tmax, threshold) for threshold in THRESHOLDS
            }
            decided = results[source]["hypoperfusion"][f"tmax_over_{agreement.HYPOPERFUSED_SECONDS:g}s"]
            decided["eligibility"] = _eligibility_summary(tmax)
    masks = "+".join(sorted(unique(row["mask_source"] for row in rows)))
    head = {
        "schema_version": SCHEMA_VERSION,
        "created": run["created"],
        "software": run["software"],
        "split": run["split"],
        "subjects": unique(row["subject"] for row in rows),
        "excluded": list(run["excluded"]),
        "findings": dict(run.get("findings", {})),
    }
    tail = {name: run[name] for name in ("checkpoint", "config_sha256", "data")}
    return {
        **head,
        **tail,
        "protocol": {**run["protocol"], "mask_source": masks},
        "results": results,
        "wall_seconds": run["wall_seconds"],
    }


def _map_summary(rows: Sequence[Row]) -> dict[str, Any]:
    def of(columns: Sequence[str], prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): statistics([row[name] for row in rows]) for name in columns}

    return {"unit": rows[0]["unit"], "scaled": of(SCALED_COLUMNS, "scaled_"), "brain": of(BRAIN_COLUMNS, "brain_")}


def statistics(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean, SD (n - 1), median, extremes and number of the defined values; None where undefined."""
    defined = np.array([value for value in values if value is not None], np.float64)
    if not defined.size:
        return {"mean": None, "sd": None, "median": None, "min": None, "max": None, "n": 0}
    return {
        "mean": float(defined.mean()),
        "sd": float(defined.std(ddof=1)) if defined.size > 1 else None,
        "median": float(np.median(defined)),
        "min": float(defined.min()),
        "max": float(defined.max()),
        "n": int(defined.size),
    }


def pooled_dice(dice: Sequence[float | None], volumes: np.ndarray) -> float | None:
    """Dice of all voxels of all subjects as one; None where nobody has any.

    The overlap of a subject is dice (V_p + V_r) / 2, so that pooled Dice = sum(dice (V_p + V_r)) / sum(V_p + V_r).

    Args:
      dice: (subject,), None where both volumes are 0.
      volumes: (subject,) predicted + reference volume, in one unit.
    """
    weighted = sum(value * volume for value, volume in zip(dice, volumes, strict=True) if value is not None)
    return float(weighted / volumes.sum()) if volumes.sum() > 0 else None


def _overlap_summary(rows: Sequence[Row], threshold: float) -> dict[str, Any]:
    """Agreement over subjects. Volumes are means over subjects; percentages leave out empty references.

    `intervals` holds the 95 % interval over subjects of those statistics of volumes that have one, by their names.
    """
    columns = overlap_columns(threshold)
    dice = [row[columns["dice"]] for row in rows]
    predicted = np.array([row[columns["volume_predicted_ml"]] for row in rows], np.float64)
    reference = np.array([row[columns["volume_reference_ml"]] for row in rows], np.float64)
    of_subjects = statistics(dice)
    both = predicted + reference
    some = reference > 0
    percent = 100 * np.abs(predicted - reference)[some] / reference[some]
    apart = agreement.bland_altman(predicted, reference)
    estimates = {
        "volume_bias_ml": apart.bias,
        "volume_pearson_r": agreement.pearson_r(predicted, reference),
        "volume_icc": agreement.intraclass_correlation(predicted, reference),
        "volume_concordance": agreement.concordance(predicted, reference),
    }
    return {
        "dice_mean": of_subjects["mean"],
        "dice_sd": of_subjects["sd"],
        "dice_median": of_subjects["median"],
        "dice_pooled": pooled_dice(dice, both),
        "n_dice": of_subjects["n"],
        "n_both_empty": int((both == 0).sum()),
        "volume_predicted_ml": float(predicted.mean()),
        "volume_reference_ml": float(reference.mean()),
        "volume_bias_ml": apart.bias.value,
        "volume_abs_error_percent_median": float(np.median(percent)) if percent.size else None,
        "volume_pearson_r": estimates["volume_pearson_r"].value,
        "volume_abs_error_ml": float(np.abs(predicted - reference).mean()),
        "volume_limits_ml": _listed(apart.limits),
        "volume_icc": estimates["volume_icc"].value,
        "volume_concordance": estimates["volume_concordance"].value,
        "intervals": {name: _listed(estimate.interval) for name, estimate in estimates.items()},
    }


def _eligibility_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """By trial: who is eligible by the predicted and by the reference's volume, of the `n` subjects with a core."""
    columns = overlap_columns(agreement.HYPOPERFUSED_SECONDS)
    core = [row["core_ml"] for row in rows]
    predicted, reference = ([row[columns[f"volume_{side}_ml"]] for row in rows] for side in ("predicted", "reference"))
    found = {trial: agreement.eligibility(trial, core, predicted, reference) for trial in agreement.TRIALS}
    return {
        trial: {
            "n": of_trial.kappa.n,
            "n_predicted": of_trial.n_first,
            "n_reference": of_trial.n_second,
            "n_both": of_trial.n_both,
            "kappa": of_trial.kappa.value,
            "kappa_interval": _listed(of_trial.kappa.interval),
        }
        for trial, of_trial in found.items()
    }


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    """As JSON has it."""
    return None if interval is None else list(interval)


def write_summary(path: pathlib.Path, summary: Mapping[str, Any]) -> None:
    """Writes `summary.json`, whole or not at all."""
    write_whole(path, json.dumps(summary, indent=1, allow_nan=False) + "\n")


def read_summary(path: pathlib.Path) -> dict[str, Any]:
    """Inverse of `write_summary`; former names of sources become those of now.

    Raises:
      InputError: the file is absent, damaged, or of another version.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run --mode=evaluate first.") from error
    if not isinstance(summary, dict) or summary.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: expected schema_version {SCHEMA_VERSION}; evaluate again with this version.")
    results = summary["results"].items()
    return {**summary, "results": {FORMER_SOURCES.get(source, source): of_source for source, of_source in results}}


def unique(values: Any) -> list[Any]:
    """The values in the order in which they first come."""
    return list(dict.fromkeys(values))


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


def _value(name: str, field: str) -> Any:
    if field == "":
        return None
    if name == "source":
        return FORMER_SOURCES.get(field, field)
    if name in (*_TEXT, "mask_source"):
        return field
    if name in _FLAGS:
        return field == "true"
    return int(field) if name in _COUNTS else float(field)
