"""What is asked of the shipped network, and whether the study's record shows that it is reached."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from shipped_network_records import COHORTS, METHODS, NETWORK, SOURCES, Record, compare, demanded, read, summary_of

from dscgan_jax.maps import MAPS

MET = {True: "yes", False: "**no**", None: "not measured"}
LEAST, MOST = "≥", "≤"
# Cohort -> what is asked of Tmax there: (name, sign, limit, unit).
ASKED = {
    "acute": (
        ("MAE over the null's", MOST, 0.27, ""),
        ("Dice of Tmax > 6 s, pooled", LEAST, 0.95, ""),
        ("volume r", LEAST, 0.98, ""),
        ("volume bias, size", MOST, 5.0, " mL"),
    ),
    "chronic": (("MAE over the null's", MOST, 0.38, ""), ("Dice of Tmax > 6 s, pooled", LEAST, 0.78, "")),
}
MAP_OVER_NULL = 0.50  # every map, both cohorts
REAL = (
    ("ttp", "r", "TTP against the time of the lowest signal: r", LEAST, 0.9, ""),
    ("ttp", "centred_mae", "TTP against the time of the lowest signal: centred MAE", MOST, 1.0, " s"),
    ("ttp_first_pass", "r", "the same in voxels whose lowest signal is in the first pass: r", LEAST, 0.9, ""),
    (
        "ttp_first_pass",
        "centred_mae",
        "the same in voxels whose lowest signal is in the first pass: centred MAE",
        MOST,
        1.0,
        " s",
    ),
    ("tmax", "r", "Tmax against the parametric fit: r", LEAST, 0.8, ""),
)
WEIGHTS_MB = 10.0


@dataclasses.dataclass(frozen=True)
class Demand:
    """A line of the list.

    Attributes:
      what: is asked of whom.
      asked, measured: as they are printed.
      met: None: not measured here.
    """

    what: str
    asked: str
    measured: str
    met: bool | None

    @property
    def row(self) -> list[str]:
        """Its cells."""
        return [self.what, self.asked, self.measured, MET[self.met]]


def limit(what: str, sign: str, asked: float, unit: str, value: float | None) -> Demand:
    """A demand on one number; None and NaN are not measured."""
    words = f"{sign} {asked:g}{unit}"
    if value is None or not math.isfinite(value):
        return Demand(what, words, "–", None)
    return Demand(what, words, f"{value:.3f}{unit}", value <= asked if sign == MOST else value >= asked)


def of_cohorts(exams: Sequence[Record]) -> list[Demand]:
    """Tmax of each cohort, and every map."""
    demands = []
    for cohort, asked in ASKED.items():
        found = summary_of(read(exams, cohort), NETWORK)
        values = (
            (found.over_null["tmax"], found.dice, found.volume_r, abs(found.volume_bias)) if found else (math.nan,) * 4
        )
        demands += [
            limit(f"{cohort}, Tmax: {name}", sign, most, unit, value)
            for (name, sign, most, unit), value in zip(asked, values, strict=False)
        ]
    for cohort in ASKED:
        found = summary_of(read(exams, cohort), NETWORK)
        over_null = found.over_null if found else {}
        worst = max(over_null, key=over_null.__getitem__, default="")
        title = f" (worst: {MAPS[worst].title})" if worst else ""
        demands.append(
            limit(f"{cohort}, every map: MAE over the null's{title}", MOST, MAP_OVER_NULL, "", over_null.get(worst))
        )
    return demands


def of_methods(exams: Sequence[Record]) -> list[Demand]:
    """Against conventional maps with an automatic AIF: overall, and in each stratum."""
    read_all = [one for cohort in COHORTS for one in read(exams, cohort)]
    groups = {f"{cohort}, overall": read(exams, cohort) for cohort in COHORTS}
    groups |= {f"all cohorts, {name}": some for name, some in demanded(read_all).items()}
    return [against(group, some, method) for method in METHODS for group, some in groups.items()]


def against(group: str, exams: Sequence[Record], method: str) -> Demand:
    """One comparison; a stratum without lesions is compared by its error alone."""
    what, asked = f"{group}: against {SOURCES[method]}", "Tmax MAE lower, Dice higher"
    found = compare(exams, method)
    if found is None:
        return Demand(what, asked, "no such exam", None)
    numbers = [f"{found.mae[0]:.2f} against {found.mae[1]:.2f} s"]
    if not np.isnan(found.dice).any():
        numbers.append(f"{found.dice[0]:.3f} against {found.dice[1]:.3f}")
    exam_words = f"{found.exams} exam{'s' * (found.exams != 1)}"
    return Demand(what, asked, f"{'; '.join(numbers)} ({exam_words})", not found.losses)


def of_changes(changes: Sequence[Record]) -> list[Demand]:
    """The worst exam of each change counts; one that is refused is not met."""
    demands = []
    for name in dict.fromkeys(name for one in changes for name in one["changes"]):
        found = [one["changes"][name] for one in changes if name in one["changes"]]
        values = [one["change"] for one in found if one.get("change") is not None]
        refused = len(found) - len(values)
        words = f"{max(values):.3f} s in the worst of {len(values)} exams" if values else "–"
        demands.append(
            Demand(
                f"Tmax, {name}",
                f"changes by < {found[0]['asked']:g} s",
                words + (f"; {refused} refused" if refused else ""),
                not refused and max(values) < found[0]["asked"],
            )
        )
    return demands


def of_real(real: Record | None) -> list[Demand]:
    """The real exam."""
    return [
        limit(f"real exam, {what}", sign, asked, unit, real[name][key] if real else None)
        for name, key, what, sign, asked, unit in REAL
    ]


def checklist(results: Record) -> list[Demand]:
    """All that is asked; what this study cannot measure is listed as such."""
    weights = results["run"]["network"]["file_bytes"]
    elsewhere = "by others, with exams that are not given"
    return [
        *of_cohorts(results["exams"]),
        *of_methods(results["exams"]),
        *of_changes(results["changes"]),
        *of_real(results["real"]),
        limit("file of weights", MOST, WEIGHTS_MB, " MB", weights / 1e6 if weights else None),
        Demand("an independent simulator", "as acute and chronic above, Dice minus 0.02", elsewhere, None),
        Demand(
            "`predict` from start to files, against the demo network before; memory; wheel",
            "≤ 0.8 times; ≤ 1 GB; ≤ 12 MB",
            "not by this command",
            None,
        ),
    ]
