"""What was asked for and what was measured, from the record of the validation study."""

from collections.abc import Callable

import numpy as np
from validation_records import (
    NAMES,
    QUANTITIES,
    RUNS,
    SNRS,
    Record,
    arterial_faults,
    bolus_values,
    lesion_exams,
    markdown,
    noise_values,
    stack_verdict,
    titled,
    values_of,
    volume_errors,
)


def checklist(results: Record) -> str:
    """Demand, asked, measured, met."""
    demands, offset, found, exams = (
        results["demands"],
        results["offset"],
        results["acute"],
        lesion_exams(results["acute"]),
    )
    rows: list[list[str]] = []

    def add(what: str, asked: str, value: float | str, met: bool, form: str = ".2f") -> None:
        rows.append([what, asked, value if isinstance(value, str) else f"{value:{form}}", "yes" if met else "**no**"])

    def spread(records: list[Record], method: str, value: str) -> float:
        return float(np.ptp([record[value] for record in records if record["method"] == method]))

    for method in ("csvd", "osvd"):
        value = spread(demands["shift"], method, "percent")
        add(
            f"{NAMES[method]}: spread of the CBF bias, AIF shifted by -3..+3 s",
            "≤ 2 points",
            value,
            value <= 2,
        )
        value = spread(offset["delay"], method, "mean")
        add(f"{NAMES[method]}: spread of the Tmax offset over delays of 0–6 s", "≤ 0.1 s", value, value <= 0.1, ".3f")
    value = demands["osvd"]["tmax"]["r"]
    add("oSVD: r of Tmax", "≥ 0.90", value, value >= 0.9, ".3f")
    value = demands["csvd_against_ssvd"]["percent"]
    add("cSVD differs from sSVD: CBF, artery 3 s late, median difference, %", "> 0", value, value > 0, ".1f")
    for name, limit in (("cbf", 4.5), ("cbv", 0.25), ("mtt", 1.0), ("tmax", 0.5)):
        value = demands["matched"][name]["mae"]
        add(f"matched fit: mean absolute error of {titled([name])[0]}", f"≤ {limit:g}", value, value <= limit)
    for residue, scores in demands["residue"].items():
        for method, name in [(method, name) for method in ("matched", "parametric") for name in QUANTITIES]:
            value, limit = (scores[which][name]["mae"] for which in (method, "csvd"))
            if limit is not None:
                add(
                    f"{NAMES[method]}, {residue} residue: mean absolute error of {titled([name])[0]}",
                    f"≤ {limit:.2f} (cSVD)",
                    value,
                    value <= limit,
                )
    value = demands["residue"]["exponential"]["parametric"]["tmax"]["mae"]
    add("parametric, exponential residue, SNR 50: mean absolute error of Tmax, s", "≤ 0.45", value, value <= 0.45)
    for contrast in results["contrast"][0]["wrong_percent"]:
        value = values_of(results["contrast"], "wrong_percent", contrast).mean()
        add(
            f"shape told, peak over noise {contrast}: voxels with CBF off by more than 1.5 times, nine tissues, %",
            "≤ 1",
            value,
            value <= 1,
        )
    for method in ("matched", "parametric"):
        value = 100 * (demands[method]["area_over_fit"] - 1)
        add(
            f"area-ratio CBV against CBF·MTT/60, median, %: {NAMES[method]}", "within 5", value, abs(value) <= 5, "+.1f"
        )
    dice, best = (values_of(exams, "runs", run, "dice") for run in ("auto", "oracle"))
    add(
        "whole acute exams, automatic, parametric: mean Dice of Tmax > 6 s",
        "≥ 0.94",
        dice.mean(),
        dice.mean() >= 0.94,
        ".3f",
    )
    add("… with the true curve and mask (oracle)", "≥ 0.96", best.mean(), best.mean() >= 0.96, ".3f")
    add("… median Dice", "≥ 0.93", np.median(dice), np.median(dice) >= 0.93, ".3f")
    value = np.median(np.abs(volume_errors(exams, "auto")))
    add("… median size of the volume error, %", "≤ 10", value, value <= 10, ".1f")
    value = best.mean() - dice.mean()
    add("… mean Dice below the oracle's", "≤ 0.03", value, value <= 0.03, ".3f")
    value = 100 * values_of(found, "runs", "auto", "core_valued").min(initial=1.0)
    add("… core voxels with a value of Tmax, worst exam, %", "≥ 99", value, value >= 99, ".1f")
    fitted = values_of(exams, "runs", "auto", "cbv", "mae").mean()
    for method in ("osvd", "csvd"):
        value = values_of(exams, "runs", method, "cbv", "mae").mean() / fitted
        add(f"… {NAMES[method]}: mean absolute error of CBV over that of the fit", "≤ 1.2", value, value <= 1.2)
    chronic = lesion_exams(results["chronic"])
    for run, limit in (("auto", 0.72), ("oracle", 0.85)):
        value = values_of(chronic, "runs", run, "dice").mean()
        add(f"whole chronic exams, {RUNS[run]}: mean Dice of Tmax > 6 s", f"≥ {limit:g}", value, value >= limit, ".3f")
    value = values_of(chronic, "runs", "oracle", "tmax_slope").mean()
    add("… slope of Tmax on the true one, oracle", "≥ 0.93", value, value >= 0.93, ".3f")
    errors = [noise_values(results["noise"], snr, "cbf", "mae").mean() for snr in sorted(SNRS)]
    add(
        f"SNR {' / '.join(map(str, sorted(SNRS)))}, automatic: mean absolute error of CBF, mL/100 g/min",
        "falling",
        " / ".join(f"{error:.2f}" for error in errors),
        bool(np.all(np.diff(errors) < 0)),
    )
    add_boluses(results["boluses"], add)
    verdicts = [stack_verdict(record) for record in results["stacks"]]
    value = sum(verdict != "silent" for verdict in verdicts)
    add(
        "stacks of 1, 3, 9 slices: median Tmax within 0.3 s of that with the AIF of all slices, or a warning",
        f"{len(verdicts)}",
        value,
        value == len(verdicts),
        "d",
    )
    silent = [record for record in results["stacks"] if record["level"] == "base" and stack_verdict(record) == "silent"]
    count = sum(record["level"] == "base" for record in results["stacks"])
    add("… at the arteries of the base", f"{count}", count - len(silent), not silent, "d")
    faults = [arterial_faults(record) for record in found if "arterial" in record]
    for what, text in (
        ("arterial_share", "at least 90 % arterial voxels"),
        ("r", "r ≥ 0.99"),
        ("late_frames", "the peak within one frame"),
        ("width_percent", "the width within 15 %"),
    ):
        value = sum(what not in short for short in faults)
        add(f"automatic AIF, exams with {text}", f"{len(found)}", value, value == len(found), "d")
    value = 100 * values_of(found, "arterial", "arterial_share").mean()
    add("… share of arterial voxels, mean over exams, %", "≥ 90", value, value >= 90, ".1f")
    value = sum("refused" in record["runs"]["auto"] for record in found)
    add("… refused exams with a bolus", "0", value, value == 0, "d")
    value = sum(record["refuses_without_bolus"] for record in found)
    add("… refused exams without a bolus", f"{len(found)}", value, value == len(found), "d")
    for how, unit, limit in (("median", "mm", 0.3), ("median", "degrees", 0.3), ("max", "mm", 1.0)):
        value = values_of(results["moving"], "pose", f"{how}_{unit}").max()
        add(
            f"moving subjects: pose error, {how} over frames, worst subject, {unit}",
            f"≤ {limit:g}",
            value,
            value <= limit,
        )
    return markdown(["demand", "asked", "measured", "met"], rows)


def add_boluses(records: list[Record], add: Callable[..., None]) -> None:
    """Demands on wide boluses: errors against those at 6 s, and an arterial search that holds."""
    narrow, *wide = sorted({record["bolus_seconds"] for record in records})
    for width in wide:
        for run in ("auto", "oracle"):
            value = (
                bolus_values(records, width, run, "tmax", "mae").mean()
                / bolus_values(records, narrow, run, "tmax", "mae").mean()
            )
            add(
                f"bolus of {width:g} s, {RUNS[run]}: mean absolute error of Tmax over that at {narrow:g} s",
                "≤ 1.3",
                value,
                value <= 1.3,
            )
            value = bolus_values(records, narrow, run, "dice").mean() / bolus_values(records, width, run, "dice").mean()
            add(f"… Dice at {narrow:g} s over Dice", "≤ 1.3", value, value <= 1.3)
    automatic = [record["runs"]["auto"] for record in records]
    held = [
        run
        for run in automatic
        if "refused" not in run
        and run["arterial"]["arterial_share"] >= 0.9
        and not any(finding["Name"].startswith("arterial") for finding in run["findings"])
    ]
    add(
        "boluses of 6, 11 and 20 s: exams with at least 90 % arterial voxels and no doubt about them",
        f"{len(automatic)}",
        len(held),
        len(held) == len(automatic),
        "d",
    )
