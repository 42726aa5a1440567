"""What a study of phantom exams should reach, and what this one did."""

from collections.abc import Callable

from dscgan_jax.evaluation import comparison
from dscgan_jax.evaluation.agreement import Eligibility
from dscgan_jax.evaluation.comparison import BRAIN_ERROR
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages.parts import UNDEFINED, number
from dscgan_jax.pages.study.differences import architectures, fine_tuning
from dscgan_jax.pages.study.record import RECOMMENDED, StudyRecord

Add = Callable[..., None]


def checklist(record: StudyRecord) -> list[list[str]]:
    """What a study of phantom exams should reach, and what this one did: demand, asked, measured, met."""
    lines: list[list[str]] = []

    def add(demand: str, asked: str, value: float | None, met: Callable[[float], bool], form: str = ".2f") -> None:
        verdict = UNDEFINED if value is None else "yes" if met(value) else "no"
        lines.append([demand, asked, number(value, form), verdict])

    _add_acute(record, add)
    _add_chronic(record, add)
    of_methods = [one for one in architectures(record) if one.cohort == "acute" and one.map_name in ("tmax", "ttp")]
    for one in [*of_methods, *(one for one in fine_tuning(record) if one.map_name == "tmax")]:
        if one.column == BRAIN_ERROR:
            high = one.found.mean.interval[1] if one.found.mean.interval else None
            demand = f"{one.cohort}, MAE of {MAPS[one.map_name].title}: {one.first} - {one.second}, end of the interval"
            add(demand, "< 0", high, lambda x: x < 0)
    return lines


def _add_acute(record: StudyRecord, add: Add) -> None:
    """The recommended temp-pix2pix on acute exams."""
    best, null = record.entry("acute", RECOMMENDED), record.median("acute")
    for name in MAP_NAMES:
        most = 0.35 if name == "tmax" else 0.5
        value = comparison.over_null(best, name, null) if best and name in best.maps else None
        demand = f"recommended temp-pix2pix, acute, {MAPS[name].title}: MAE over null"
        add(demand, f"≤ {most}", value, lambda x, most=most: x <= most)
    overlap = best.hypoperfused if best else None
    if overlap:
        add("… Dice of Tmax > 6 s, all voxels", "≥ 0.93", overlap.dice_pooled, lambda x: x >= 0.93, ".3f")
        add("… volume r", "≥ 0.98", overlap.pearson_r.value, lambda x: x >= 0.98, ".3f")
        add("… size of the volume bias, mL", "< 5", _size(overlap.volumes.bias.value), lambda x: x < 5, ".1f")
        add("… concordance", "≥ 0.95", overlap.concordance.value, lambda x: x >= 0.95, ".3f")
        for title, trial in (("DEFUSE 3", overlap.defuse3), ("EXTEND", overlap.extend)):
            value = trial.kappa.value if trial else None
            add(f"… kappa of eligibility, {title}{_interval(trial)}", "≥ 0.85", value, lambda x: x >= 0.85)


def _interval(trial: Eligibility | None) -> str:
    """The interval of a kappa, which a few patients leave wide."""
    interval = trial.kappa.interval if trial else None
    return f" (interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""


def _add_chronic(record: StudyRecord, add: Add) -> None:
    """The same, fine-tuned on chronic exams."""
    tuned, null = record.entry("chronic", RECOMMENDED), record.median("chronic")
    if tuned is None or "tmax" not in tuned.maps:
        return
    value, overlap = comparison.over_null(tuned, "tmax", null), tuned.hypoperfused
    add("fine-tuned, chronic, Tmax: MAE over null", "≤ 0.5", value, lambda x: x <= 0.5)
    add(
        "… Dice of Tmax > 6 s, all voxels", "≥ 0.7", overlap.dice_pooled if overlap else None, lambda x: x >= 0.7, ".3f"
    )


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)
