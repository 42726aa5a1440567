"""The record of the study of the shipped network: its names, and how numbers are read from it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dscgan_jax.maps import MAP_NAMES

Record = dict[str, Any]

COHORTS = ("acute", "chronic", "varied")
NETWORK, NULL, CONSTANT, ORACLE = "network", "null", "constant", "oracle"
METHODS = ("parametric", "osvd")  # with an automatic AIF
SOURCES = {
    NETWORK: "network",
    "parametric": "parametric fit, automatic AIF",
    "osvd": "oSVD, automatic AIF",
    ORACLE: "parametric fit, true AIF and brain (oracle)",
    NULL: "null: training median",
    CONSTANT: "best constant of each exam",
}
THRESHOLD = 6.0  # s of Tmax
LOW_DICE = 0.8  # below it a lesion's outline is called unreliable
LEAST_LESION_ML = 5.0  # Dice of smaller lesions says little
FREE_SCALE = ("cbf", "cbv")  # scored after one factor an exam
# Strata: property of an exam, and the borders between its classes; a class holds its lower border.
BORDERS: dict[str, tuple[float, ...]] = {
    "signal over noise": (30, 50, 80),
    "frame length [s]": (1.2, 1.8, 2.4),
    "arterial width [s]": (6, 9, 12),
    "time before the bolus [s]": (10, 20, 40),
    "frames": (45, 60, 90),
    "matrix": (96, 160),
    "slices": (6, 15),
    "lesion [mL]": (5, 30, 100),
    "warnings": (1, 2, 3),
}
WORDS = ("motion", "tail", "skull", "disease", "side")  # properties whose classes are their values
# Where the network is asked to be better than the conventional methods.
DEMANDED: dict[str, Callable[[Record], bool]] = {
    "SNR < 50": lambda of: of["signal over noise"] < 50,
    "motion": lambda of: of["motion"] == "moved",
    "≤ 5 slices": lambda of: of["slices"] <= 5,
    "truncated tail": lambda of: of["tail"] == "truncated",
}


def finite(value: Any) -> Any:
    """The same with six digits, and None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def read(exams: Sequence[Record], cohort: str) -> list[Record]:
    """The exams of a cohort that the program takes."""
    return [one for one in exams if one["cohort"] == cohort and "scores" in one]


def dice(sums: Record, where: str = "") -> float:
    """Of volumes found, true and both; NaN where there is neither. `where`: `inside_` = in the true brain alone."""
    whole = sums[f"found_{where}ml"] + sums["real_ml"]
    return 2 * sums["both_ml"] / whole if whole else float("nan")


def pooled(scores: Iterable[Record], where: str = "") -> float:
    """Dice of the volumes of all exams together."""
    scores = list(scores)
    return dice({key: sum(one[key] for one in scores) for key in (f"found_{where}ml", "real_ml", "both_ml")}, where)


# ------------------------------------------------------------------------------------------------ one source


@dataclasses.dataclass(frozen=True)
class Summary:
    """One source over some exams; nulls are those of the same exams. NaN: undefined.

    Attributes:
      exams: that the source gives maps of.
      over_null, over_constant: {map: MAE over that of the null, over that of the best constant of each exam}.
      mae: {map: mean of the exams' MAE}.
      r: {map: mean of the exams' r}.
      dice, dice_inside: pooled; what is found outside the true brain counts in the first as false.
      volume_bias, volume_r: of the lesion, mL.
      low: share of exams with a lesion whose Dice is below `LOW_DICE`.
    """

    exams: int
    over_null: dict[str, float]
    over_constant: dict[str, float]
    mae: dict[str, float]
    r: dict[str, float]
    dice: float
    dice_inside: float
    volume_bias: float
    volume_r: float
    low: float


def summary_of(exams: Iterable[Record], source: str) -> Summary | None:
    """None where the source has no maps."""
    scored = [one["scores"] for one in exams if source in one["scores"]]
    if not scored:
        return None
    found = np.array([one[source]["found_ml"] for one in scored])
    real = np.array([one[source]["real_ml"] for one in scored])
    names = [name for name in MAP_NAMES if name in scored[0][source]]

    def mean(of: str, name: str, what: str = "mae") -> float:
        values = [one[of][name][what] for one in scored if one[of][name][what] is not None]
        return float(np.mean(values)) if values else float("nan")

    mae = {name: mean(source, name) for name in names}
    lesions = [dice(one[source]) for one in scored if one[source]["real_ml"] >= LEAST_LESION_ML]
    varies = len(scored) > 2 and np.ptp(found) > 0 and np.ptp(real) > 0
    return Summary(
        exams=len(scored),
        over_null={name: mae[name] / mean(NULL, name) for name in names},
        over_constant={name: mae[name] / mean(CONSTANT, name) for name in names},
        mae=mae,
        r={name: mean(source, name, "r") for name in names},
        dice=pooled(one[source] for one in scored),
        dice_inside=pooled((one[source] for one in scored), "inside_"),
        volume_bias=float((found - real).mean()),
        volume_r=float(np.corrcoef(found, real)[0, 1]) if varies else float("nan"),
        low=float(np.mean([one < LOW_DICE for one in lesions])) if lesions else float("nan"),
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The network beside another source on the exams of which both give maps: (network's, the other's).

    Attributes:
      exams: how many they are.
      mae: of Tmax, s.
      dice: pooled; NaN without lesions.
    """

    exams: int
    mae: tuple[float, float]
    dice: tuple[float, float]

    @property
    def losses(self) -> list[str]:
        """In what the network is not the better one; what is undefined is no loss."""
        lost = ["Tmax MAE"] if self.mae[0] >= self.mae[1] else []
        return [*lost, *(["Dice"] if self.dice[0] <= self.dice[1] else [])]


def compare(exams: Iterable[Record], other: str) -> Comparison | None:
    """None where there is no exam of which both give maps."""
    both = [one["scores"] for one in exams if NETWORK in one["scores"] and other in one["scores"]]
    if not both:
        return None
    own, others = (summary_of([{"scores": one} for one in both], source) for source in (NETWORK, other))
    assert own and others
    return Comparison(len(both), (own.mae["tmax"], others.mae["tmax"]), (own.dice, others.dice))


def demanded(exams: Sequence[Record]) -> dict[str, list[Record]]:
    """{`overall` or a stratum of `DEMANDED`: its exams}."""
    return {"overall": list(exams)} | {
        name: [one for one in exams if belongs(one["properties"])] for name, belongs in DEMANDED.items()
    }


def strata_of(exams: Sequence[Record]) -> dict[str, list[Record]]:
    """{title of a class: its exams}, of all properties, classes without exams left out."""
    found: dict[str, list[Record]] = {}
    for name, borders in BORDERS.items():
        for low, high in itertools.pairwise((-np.inf, *borders, np.inf)):
            limits = [f"≥ {low:g}"] * (low > -np.inf) + [f"< {high:g}"] * (high < np.inf)
            found[f"{name} {', '.join(limits)}"] = [one for one in exams if low <= one["properties"][name] < high]
    for name in WORDS:
        for word in sorted({one["properties"][name] for one in exams}):
            found[f"{name}: {word}"] = [one for one in exams if one["properties"][name] == word]
    return {title: some for title, some in found.items() if some}


# ------------------------------------------------------------------------------------------------ reliability


@dataclasses.dataclass(frozen=True)
class Prediction:
    """How well a warning tells exams of low Dice, of those that have a lesion.

    Attributes:
      exams, low: how many there are, and how many of them have a Dice below `LOW_DICE`.
      warned, warned_low: how many carry the warning, and how many of these are low.
    """

    exams: int
    low: int
    warned: int
    warned_low: int

    @property
    def seen(self) -> float:
        """Share of the low exams that carry the warning."""
        return self.warned_low / self.low if self.low else float("nan")

    @property
    def right(self) -> float:
        """Share of the warned exams that are low."""
        return self.warned_low / self.warned if self.warned else float("nan")

    @property
    def silent_low(self) -> float:
        """Share of the exams without the warning that are low."""
        silent = self.exams - self.warned
        return (self.low - self.warned_low) / silent if silent else float("nan")


def reliability(exams: Iterable[Record]) -> dict[str, Prediction]:
    """{`any warning` or the name of one: how well it tells}; the commonest first."""
    lesions = [
        (dice(one["scores"][NETWORK]) < LOW_DICE, set(one["warnings"]))
        for one in exams
        if NETWORK in one["scores"] and one["scores"][NETWORK]["real_ml"] >= LEAST_LESION_ML
    ]
    low = sum(is_low for is_low, _ in lesions)

    def of(carries: Callable[[set[str]], bool]) -> Prediction:
        warned = [is_low for is_low, warnings in lesions if carries(warnings)]
        return Prediction(len(lesions), low, len(warned), sum(warned))

    names = sorted({name for _, warnings in lesions for name in warnings})
    each = {name: of(lambda warnings, name=name: name in warnings) for name in names}
    return {"any warning": of(bool)} | dict(sorted(each.items(), key=lambda item: -item[1].warned))


def shown(exams: Sequence[Record]) -> dict[str, Record]:
    """{`median Dice` and `lowest Dice`: the exam with a lesion that has it}; the first is the lower middle one."""
    lesions = sorted(
        (one for one in exams if NETWORK in one["scores"] and one["scores"][NETWORK]["real_ml"] >= LEAST_LESION_ML),
        key=lambda one: dice(one["scores"][NETWORK]),
    )
    return {"median Dice": lesions[(len(lesions) - 1) // 2], "lowest Dice": lesions[0]} if lesions else {}
