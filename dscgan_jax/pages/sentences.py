"""What the records of an evaluation say, in sentences: the result, warnings, and the limits of what it shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dscgan_jax.data.scaling import MUCH_AT_ENDS
from dscgan_jax.evaluation import records
from dscgan_jax.figures.ink import CONTOUR_SECONDS
from dscgan_jax.maps import MAPS
from dscgan_jax.pages.parts import NULLS, counted, listed, number

FEW_SUBJECTS = 10  # below it, means are called uncertain
MUCH_CLIPPED = 0.01  # of the brain's voxels
# Where conventional methods got their AIF.
AIF_SOURCES = {
    "auto": "found the AIF automatically; exams without a plausible AIF are missing in their rows",
    "files": "used each exam's own AIF (aif.tsv; of a phantom the true one), which the network was not given; exams "
    "without one are missing in their rows",
}
MASK_SOURCES = {"maps": "the union of their maps", "threshold": "the brain found in the series"}
PHANTOM_LIMIT = "on digital phantom exams: nothing here shows how good the maps are in patients."

Summary = Mapping[str, Any]


def map_names(results: Mapping[str, Iterable[str]]) -> list[str]:
    """Maps that any of the sources has, in the order of `MAPS`; `results` is {source: its maps}."""
    return [name for name in MAPS if any(name in result for result in results.values())]


def primary_source(summary: Summary) -> str:
    """The source that the page is about: the first that is no null."""
    return next((name for name in summary["results"] if name not in NULLS), next(iter(summary["results"])))


def in_brief(summary: Summary) -> list[str]:
    """The result: the first source beside the training median."""
    source = primary_source(summary)
    result = summary["results"][source]
    null = {} if source in NULLS else summary["results"].get("null_median", {})
    found = [_error_of(name, result[name], null.get(name)) for name in map_names({source: result})]
    overlap = result.get("hypoperfusion", {}).get(f"tmax_over_{CONTOUR_SECONDS:g}s")
    if overlap:
        found.append(
            f"Hypoperfused tissue (Tmax > {CONTOUR_SECONDS:g} s): Dice {number(overlap['dice_pooled'])} over all "
            f"voxels; mean volume {overlap['volume_predicted_ml']:.0f} mL, reference "
            f"{overlap['volume_reference_ml']:.0f} mL."
        )
    return found


def _error_of(name: str, result: Mapping[str, Any], null: Mapping[str, Any] | None) -> str:
    """Error, correlation and whole-slice SSIM of one map, beside those of the training median."""
    error, unit = result["brain"]["mae"]["mean"], MAPS[name].unit
    text = f"{MAPS[name].title}: mean absolute error {number(error)} {unit} inside the brain"
    null_error = null["brain"]["mae"]["mean"] if null else None
    if null_error:
        text += f", {error / null_error:.2f} times that of the training median ({null_error:.2f} {unit})"
    correlation = result["brain"]["pearson_r"]["mean"]
    text += f"; r = {correlation:.2f}" if correlation is not None else ""
    similarity = result["scaled"]["ssim"]["mean"]
    if similarity is not None:
        text += f"; whole-slice SSIM {similarity:.3f}"
        text += f" (training median: {number(null['scaled']['ssim']['mean'], '.3f')})" if null else ""
    return text + "."


def warnings(summary: Summary) -> list[str]:
    """What may be wrong: maps that are no better than a null, then the findings of exams."""
    source = primary_source(summary)
    result, null = summary["results"][source], summary["results"].get("null_median", {})
    useless = [
        f"{MAPS[name].title} is no closer to the reference than the training median in the whole brain: these maps "
        "carry no information about the patient."
        for name in map_names({source: result})
        if source not in NULLS
        and name in null
        and result[name]["brain"]["mae"]["mean"] >= null[name]["brain"]["mae"]["mean"]
    ]
    return [*useless, *exam_warnings(summary)]


def exam_warnings(summary: Summary) -> list[str]:
    """What is doubtful about exams, with their subjects; records of older versions know none."""
    subjects: dict[str, list[str]] = {}
    for subject, found in summary.get("findings", {}).items():
        for finding in found:
            if finding["Severity"] != "note":
                text = f"{finding['Text']}{' (accepted)' if finding['Accepted'] else ''}"
                subjects.setdefault(text, []).append(subject)
    return [f"{names[0] if len(names) == 1 else f'{len(names)} exams'}: {text}" for text, names in subjects.items()]


def limitations(summary: Summary, rows: Sequence[records.Row]) -> list[str]:
    """What the tables cannot show.

    Args:
      summary: the record.
      rows: of `subjects.csv`.
    """
    source = primary_source(summary)
    mine = [row for row in rows if row["source"] == source]
    n_subjects = len(summary["subjects"])
    found = _phantoms(summary["data"])
    if n_subjects < FEW_SUBJECTS:
        found.append(f"Only {counted(n_subjects, 'subject')} scored, so means over subjects are uncertain.")
    found += [text for name in map_names({source: summary["results"][source]}) for text in _clipped(mine, name)]
    if moved := _subjects_with(mine, "moved", True):
        found.append(f"{len(moved)} of {n_subjects} subjects moved during the series: {listed(moved)}.")
    if truncated := _subjects_with(mine, "truncated", True):
        found.append(f"The series ends early in {len(truncated)} of {n_subjects} subjects: {listed(truncated)}.")
    for kind, used in MASK_SOURCES.items():
        if without := _subjects_with(mine, "mask_source", kind):
            found.append(
                f"{counted(len(without), 'subject')} without a brain mask; used instead: {used} ({listed(without)})."
            )
    if origin := aif_source(summary):
        found.append(f"The {origin}.")
    if summary["excluded"]:
        reasons = [f"{row['subject']} ({row['reason']})" for row in summary["excluded"]]
        found.append(f"{counted(len(reasons), 'subject')} excluded: {listed(reasons)}.")
    return found


def aif_source(summary: Summary) -> str:
    """Where conventional methods got their AIF; empty where there are none."""
    origin = AIF_SOURCES.get(summary["data"].get("arterial_input"))
    return f"conventional methods {origin}" if origin else ""


def _phantoms(data: Mapping[str, Any]) -> list[str]:
    trained, scored = data.get("source"), data.get("scored_source")
    if records.PHANTOM not in (trained, scored):
        return []
    verb = "Trained and scored" if trained == scored else "Trained" if trained == records.PHANTOM else "Scored"
    return [f"{verb} {PHANTOM_LIMIT}"]


def _clipped(rows: Sequence[records.Row], name: str) -> list[str]:
    """Whether much of the reference is outside the range that the network can reach."""
    shares = [
        (row["clipped_fraction"], row["subject"])
        for row in rows
        if row["map"] == name and (row["clipped_fraction"] or 0) > MUCH_CLIPPED
    ]
    if not shares:
        return []
    worst, subject = max(shares)
    return [
        f"{MAPS[name].title}: in {counted(len(shares), 'subject')} more than {MUCH_CLIPPED:.0%} of the brain is "
        f"outside the range of the network's output (up to {worst:.0%}, {subject})."
    ]


def saturated(summary: Summary, rows: Sequence[records.Row]) -> list[str]:
    """Maps that rest at the ends of their range where the reference does not: differences there are lost.

    Args:
      summary: the record.
      rows: of `subjects.csv`; those of older versions do not know it.
    """
    source = primary_source(summary)
    mine = [row for row in rows if row["source"] == source and source not in NULLS]
    return [text for name in map_names({source: summary["results"][source]}) for text in _saturated(mine, name)]


def _saturated(rows: Sequence[records.Row], name: str) -> list[str]:
    pairs = [
        (row["saturated_fraction"], row["saturated_reference"], row["subject"])
        for row in rows
        if row["map"] == name and row.get("saturated_fraction") is not None
    ]
    much = [(made - measured, made, measured, who) for made, measured, who in pairs if made - measured > MUCH_AT_ENDS]
    if not much:
        return []
    _, made, measured, who = max(much)
    return [
        f"{MAPS[name].title}: in {counted(len(much), 'subject')} of {len(pairs)} many voxels rest at an end of the "
        f"range of the network's output, where differences are lost (up to {made:.0%} of the brain, {measured:.0%} in "
        f"the reference, {who})."
    ]


def _subjects_with(rows: Sequence[records.Row], column: str, value: Any) -> list[str]:
    return records.unique(row["subject"] for row in rows if row[column] == value)
