"""The record of the validation study: its names, and how numbers are read from it."""

from typing import Any

import numpy as np

from dscgan_jax.maps import MAPS

Record = dict[str, Any]

INF = float("inf")
QUANTITIES = ("cbf", "cbv", "mtt", "tmax")
NAMES = {"ssvd": "sSVD", "csvd": "cSVD", "osvd": "oSVD", "parametric": "parametric", "matched": "matched fit"}
FACTORS: dict[str, tuple[str, tuple[float, ...]]] = {
    "snr": ("SNR", (20, 30, 50, 100, INF)),
    "delay": ("delay, s", (0, 2, 4, 6, 8, 10)),
    "mtt": ("MTT, s", (3, 4, 6, 8, 12, 16)),
    "dispersion": ("dispersion, s", (0, 0.1, 0.3, 0.6, 0.9, 1.2)),
    "frame_seconds": ("TR, s", (1, 1.5, 2, 2.5)),
    "shape": ("transit shape", (1, 2, 4, INF)),
    "bolus_seconds": ("bolus width, s", (6, 11, 20)),
}
# Full width at half maximum of the first pass, s -> level afterwards over the peak. Arterial curves of 77 stroke
# patients (CT) are 9.6 to 13.0 s wide (quartiles; at most 25) with tails of 0.08 to 0.42; those of the presets are 5 to
# 8 s and 0.03 to 0.07.
BOLUSES = {6.0: 0.05, 11.0: 0.2, 20.0: 0.4}
SNRS = (40, 100, 300)  # of exams whose noise alone differs
STACKS = (1, 3, 9)  # slices
LESION_ML = 10.0
RUNS = {
    "auto": "parametric, automatic",
    "oracle": "parametric, true curve and mask (oracle)",
    "osvd": "oSVD raw",
    "osvd_shifted": "oSVD, tmax_offset=healthy",
    "csvd": "cSVD raw",
    "csvd_shifted": "cSVD, tmax_offset=healthy",
    "blank": "null: blank",
}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def label(level: float) -> str:
    """A level as it is printed."""
    return "∞" if level == INF else f"{level:g}"


def titled(names: Any) -> list[str]:
    """Titles of maps with their units."""
    return [f"{MAPS[name].title}, {MAPS[name].unit}" for name in names]


def values_of(records: list[Record], *path: str) -> np.ndarray:
    """The value at a path of keys of every record that has one."""
    for key in path:
        records = [record[key] for record in records if record.get(key) is not None]
    return np.array(records, np.float64)


def mean_sd(values: np.ndarray, digits: int = 2) -> str:
    """Mean ± SD over subjects."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}" if len(values) else "–"


def lesion_ml(record: Record) -> float:
    """True volume of Tmax > 6 s."""
    return record["lesion"]["tmax_over_6s_ml"]


def lesion_exams(records: list[Record]) -> list[Record]:
    """Exams that count for the lesion: still, lesion of at least 10 mL, not refused."""
    return [
        record
        for record in records
        if not record["moved"] and lesion_ml(record) >= LESION_ML and "ml" in record["runs"]["auto"]
    ]


def volume_errors(records: list[Record], run: str) -> np.ndarray:
    """Per cent of the true volume."""
    return np.array([100 * (record["runs"][run]["ml"] / lesion_ml(record) - 1) for record in records])


def arterial_faults(record: Record) -> dict[str, str]:
    """In which respects an AIF falls short of the demands; one that could not be measured falls short in all."""
    artery = {name: np.nan if value is None else value for name, value in record["arterial"].items()}
    checks = {
        "arterial_share": (artery["arterial_share"] >= 0.9, f"{100 * artery['arterial_share']:.0f} % arterial"),
        "r": (artery["r"] >= 0.99, f"r {artery['r']:.3f}"),
        "late_frames": (abs(artery["late_frames"]) <= 1, f"peak {artery['late_frames']:+.2f} frames"),
        "width_percent": (abs(artery["width_percent"]) <= 15, f"width {artery['width_percent']:+.0f} %"),
    }
    return {name: text for name, (met, text) in checks.items() if not met}


def bolus_values(records: list[Record], width_seconds: float, run: str, *path: str) -> np.ndarray:
    """The value at a path of keys of the runs at one width that were not refused."""
    return values_of([record for record in records if record["bolus_seconds"] == width_seconds], "runs", run, *path)


def noise_values(records: list[Record], snr: int, *path: str) -> np.ndarray:
    """The value at a path of keys of the exams at one ratio of signal to noise."""
    return values_of([record for record in records if record["snr"] == snr], *path)


STABLE_SECONDS = 0.3  # of Tmax, between stacks


def stack_verdict(record: Record) -> str:
    """What a stack of a few slices does to Tmax: `steady`, `warned`, `refused` or `silent`, the one that misleads."""
    if "refused" in record:
        return "refused"
    if abs(record["shift"]) <= STABLE_SECONDS:
        return "steady"
    return "warned" if record["warned"] else "silent"
