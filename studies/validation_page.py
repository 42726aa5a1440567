"""Tables and pictures of the validation study, from its record alone."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dscgan_jax.figures import ink
from dscgan_jax.maps import MAPS

Record = dict[str, Any]

INF = float("inf")
QUANTITIES = ("cbf", "cbv", "mtt", "tmax")
NAMES = {"ssvd": "sSVD", "csvd": "cSVD", "osvd": "oSVD", "parametric": "parametric", "matched": "matched fit"}
COLOURS = {"ssvd": "#b7791f", "csvd": "#c2571a", "osvd": "#2f855a", "parametric": "#1565a9", "matched": "#6b46c1"}
FACTORS: dict[str, tuple[str, tuple[float, ...]]] = {
    "snr": ("SNR", (20, 30, 50, 100, INF)),
    "delay": ("delay, s", (0, 2, 4, 6, 8, 10)),
    "mtt": ("MTT, s", (3, 4, 6, 8, 12, 16)),
    "dispersion": ("dispersion, s", (0, 0.1, 0.3, 0.6, 0.9, 1.2)),
    "frame_seconds": ("TR, s", (1, 1.5, 2, 2.5)),
    "shape": ("transit shape", (1, 2, 4, INF)),
}
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


# ------------------------------------------------------------------------------------------------ tables


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


def checklist(results: Record) -> str:
    """Demand, asked, measured, met."""
    demands, offset, found, exams = (
        results["demands"],
        results["offset"],
        results["acute"],
        lesion_exams(results["acute"]),
    )
    rows: list[list[str]] = []

    def add(what: str, asked: str, value: float, met: bool, form: str = ".2f") -> None:
        rows.append([what, asked, f"{value:{form}}", "yes" if met else "**no**"])

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
    for method in ("matched", "parametric"):
        value = 100 * (demands[method]["area_over_fit"] - 1)
        add(
            f"area-ratio CBV against CBF·MTT/60, median, %: {NAMES[method]}", "within 5", value, abs(value) <= 5, "+.1f"
        )
    dice, best = (values_of(exams, "runs", run, "dice") for run in ("auto", "oracle"))
    add(
        "whole acute exams, automatic, parametric: mean Dice of Tmax > 6 s",
        "≥ 0.90",
        dice.mean(),
        dice.mean() >= 0.9,
        ".3f",
    )
    add("… median Dice", "≥ 0.93", np.median(dice), np.median(dice) >= 0.93, ".3f")
    value = np.median(np.abs(volume_errors(exams, "auto")))
    add("… median size of the volume error, %", "≤ 10", value, value <= 10, ".1f")
    value = best.mean() - dice.mean()
    add("… mean Dice below the oracle's", "≤ 0.03", value, value <= 0.03, ".3f")
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


def curve_tables(found: Record) -> str:
    """A folded table for each factor: bias ± spread."""
    parts = []
    for factor, rows in found.items():
        title = FACTORS[factor][0] if factor in FACTORS else "cut (cSVD), oscillation index (oSVD)"
        cells = [
            [
                row["level"],
                NAMES[row["method"]],
                *(
                    "–" if row[name]["bias"] is None else f"{row[name]['bias']:+.2f} ± {row[name]['sd']:.2f}"
                    for name in QUANTITIES
                ),
            ]
            for row in rows
        ]
        table = markdown([title, "method", *titled(QUANTITIES)], cells)
        parts.append(f"<details><summary>Bias ± spread over {title}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def exam_tables(records: list[Record]) -> str:
    """Lesion and maps of the exams that count, one row per method."""
    exams, lesion, maps = lesion_exams(records), [], []
    for run in [run for run in RUNS if exams and run in exams[0]["runs"]]:
        dice, volume = values_of(exams, "runs", run, "dice"), volume_errors(exams, run)
        lesion.append(
            [
                RUNS[run],
                mean_sd(dice, 3),
                f"{np.median(dice):.3f}",
                f"{dice.min():.3f}",
                *(f"{np.median(size):.1f}" for size in (np.abs(volume), volume)),
                mean_sd(volume, 1),
            ]
        )
        maps.append(
            [RUNS[run], *(mean_sd(values_of(exams, "runs", run, name, what)) for what in ("mae", "r") for name in MAPS)]
        )
    head = [
        "method",
        "Dice",
        "median",
        "min",
        "median size of the volume error, %",
        "median volume error, %",
        "volume error, %",
    ]
    errors_head = ["method", *titled(MAPS), *(f"r {MAPS[name].title}" for name in MAPS)]
    return (
        f"{len(exams)} of {len(records)} exams: they do not move and have Tmax > 6 s in at least {LESION_ML:g} mL. "
        f"Mean ± SD over exams.\n\n{markdown(head, lesion)}\n\n"
        f"Mean absolute error and r in the common mask:\n\n{markdown(errors_head, maps)}\n\n"
        "CBV from the ratio of areas over CBF·MTT/60 of the fit, both automatic, median in each exam: "
        f"{mean_sd(values_of(exams, 'area_over_fit'))}."
    )


def worst_table(records: list[Record], count: int = 6) -> str:
    """The exams with the lowest Dice and what is wrong in them."""
    rows = []
    for record in sorted(lesion_exams(records), key=lambda record: record["runs"]["auto"]["dice"])[:count]:
        run, oracle = record["runs"]["auto"], record["runs"]["oracle"]
        parts = [run[name] for name in ("ml", "false_outside_mask_ml", "false_far_ml", "missed_outside_tissue_ml")]
        rows.append(
            [
                str(record["subject"]),
                f"{run['dice']:.3f}",
                f"{oracle['dice']:.3f}",
                *(f"{volume:.1f}" for volume in (lesion_ml(record), *parts)),
                f"{run['edge_bias']:+.2f}",
                f"{oracle['edge_bias']:+.2f}",
                f"{record['arterial']['late_frames']:+.2f}",
                f"{record['snr']:.0f}",
                "yes" if record["truncated"] else "no",
            ]
        )
    return markdown(
        [
            "subject",
            "Dice",
            "oracle",
            "true mL",
            "mL",
            "false outside the mask",
            "false, Tmax < 4 s",
            "missed outside tissue",
            "bias at 5–7 s, s",
            "oracle's",
            "artery late, frames",
            "SNR",
            "truncated",
        ],
        rows,
    )


def small_table(records: list[Record]) -> str:
    """Still exams whose lesion is smaller than what counts."""
    names = {run: name for run, name in RUNS.items() if run != "blank"}
    rows = [
        [str(record["subject"]), f"{lesion_ml(record):.1f}", *(f"{record['runs'][run]['ml']:.1f}" for run in names)]
        for record in records
        if not record["moved"] and lesion_ml(record) < LESION_ML and "ml" in record["runs"]["auto"]
    ]
    return markdown(["subject", "true, mL", *names.values()], rows) if rows else "There is none."


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


def arterial_table(records: list[Record]) -> str:
    """The AIF and the scale over all subjects, moving ones included."""
    found = [record for record in records if "arterial" in record]
    rows = []
    for name, digits, values in (
        ("arterial voxels (blood ≥ 0.3), %", 1, 100 * values_of(found, "arterial", "arterial_share")),
        ("r with the blood of a healthy M1", 4, values_of(found, "arterial", "r")),
        ("peak later than there, frames", 2, values_of(found, "arterial", "late_frames")),
        ("width against there, %", 1, values_of(found, "arterial", "width_percent")),
        ("voxels averaged", 0, values_of(found, "arterial", "voxels")),
        ("quality", 2, values_of(found, "arterial", "quality")),
        ("factor of `reference_wm`", 2, values_of(found, "scale", "factor")),
        ("true CBF of healthy white matter, mL/100 g/min", 1, values_of(found, "scale", "truth")),
        ("scaled map over truth there", 2, values_of(found, "scale", "map") / values_of(found, "scale", "truth")),
    ):
        numbers = (np.median(values), values.min(), values.max())
        rows.append([name, mean_sd(values, digits), *(f"{value:.{digits}f}" for value in numbers)])
    refused = [
        f"subject {record['subject']}: {record['runs']['auto']['refused']}"
        for record in records
        if "arterial" not in record
    ]
    short = [
        f"subject {record['subject']} ({', '.join([*faults.values(), *['moves'] * record['moved']])})"
        for record in found
        if (faults := arterial_faults(record))
    ]
    return (
        markdown(["", "mean ± SD", "median", "min", "max"], rows) + f"\n\nRefused: {'; '.join(refused) or 'none'}.\n\n"
        f"Short of the demands: {'; '.join(short) or 'none'}."
    )


def moving_table(moving: list[Record], acute: list[Record]) -> str:
    """Pose and lesion of moving subjects; the same subject still, where it was."""
    still = {record["subject"]: record["runs"]["auto"] for record in acute if not record["moved"]}
    runs = ("auto", "rigid", "true_poses")
    rows = [
        [
            str(record["subject"]),
            f"{lesion_ml(record):.0f}",
            *(
                f"{record['pose'][f'{how}_{unit}']:.2f}"
                for unit in ("mm", "degrees")
                for how in ("largest", "median", "max")
            ),
            *(
                "–" if run.get("dice") is None or lesion_ml(record) < 1 else f"{run['dice']:.3f}"
                for run in (still.get(record["subject"], {}), *(record["runs"][run] for run in runs))
            ),
            *(
                "–" if artery not in record else f"{record[artery]['r']:.3f}"
                for artery in ("arterial", "arterial_rigid")
            ),
        ]
        for record in moving
        if "pose" in record
    ]
    large = [record for record in moving if lesion_ml(record) >= LESION_ML]
    means = [mean_sd(values_of(large, "runs", run, "dice"), 3) for run in runs]
    rows.append([f"{len(large)} with ≥ {LESION_ML:g} mL", *[""] * 8, *means, "", ""])
    poses = [f"{what}, {unit}" for unit in ("mm", "°") for what in ("movement", "median error", "max error")]
    dice = [f"Dice, {what}" for what in ("same subject still", "not realigned", "motion=rigid", "true poses")]
    return markdown(["subject", "true mL", *poses, *dice, "arterial r, not realigned", "motion=rigid"], rows)


# ------------------------------------------------------------------------------------------------ pictures

LIMITS = {"cbf": (-35.0, 35.0), "cbv": (-1.5, 1.5), "mtt": (-5.0, 8.0), "tmax": (-3.0, 6.0)}


def panel(axis: Any, lines: Any, **labels: str) -> None:
    """Lines with their bands: (method, x, middle, low, high); quiet grid and spines as in the package's figures."""
    for method, x, middle, low, high in lines:
        low, high = np.array(low, np.float64), np.array(high, np.float64)
        axis.fill_between(x, low, high, color=COLOURS[method], alpha=0.1, linewidth=0)
        axis.plot(x, np.array(middle, np.float64), ".-", color=COLOURS[method], linewidth=1.5, label=NAMES[method])
    for name, text in labels.items():
        getattr(axis, f"set_{name}")(text, fontsize=10, color=ink.INK)
    axis.grid(color="#e4e7eb", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=ink.MUTED)


def curves_figure(found: Record) -> Figure:
    """Bias with its band over every factor, one line per method."""
    figure = Figure(figsize=(15.0, 9.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(QUANTITIES), len(FACTORS), sharey="row")
    for row, name in zip(axes, QUANTITIES, strict=True):
        for axis, (factor, (title, levels)) in zip(row, FACTORS.items(), strict=True):
            places = {label(level): place for place, level in enumerate(levels)}
            lines = []
            for method in NAMES:
                points = [point for point in found[factor] if point["method"] == method]
                lines.append(
                    (
                        method,
                        [places[point["level"]] for point in points],
                        *([point[name][key] for point in points] for key in ("bias", "p16", "p84")),
                    )
                )
            panel(axis, lines, **({"xlabel": title} if name == QUANTITIES[-1] else {}))
            axis.axhline(0.0, color=ink.MUTED, linewidth=0.8)
            axis.set_ylim(*LIMITS[name])
            axis.set_xticks(range(len(places)), places)
        row[0].set_ylabel(f"error of {MAPS[name].title}\n[{MAPS[name].unit}]", fontsize=10, color=ink.INK)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(NAMES), frameon=False)
    return figure


def offset_figure(found: Record) -> Figure:
    """The offset of Tmax over delay, MTT and regularisation."""
    figure = Figure(figsize=(13.0, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 4, sharey=True)
    panels = (
        ("delay", "", "delay, s (MTT 4 s)"),
        ("mtt", "", "MTT, s"),
        ("cut", "csvd", "truncation threshold of cSVD (MTT 4 s)"),
        ("cut", "osvd", "oscillation index of oSVD (MTT 4 s)"),
    )
    for axis, (where, only, title) in zip(axes, panels, strict=True):
        lines = []
        for method in [only] if only else ("csvd", "osvd", "parametric"):
            x, mean, spread = np.array(
                [[point[key] for key in ("level", "mean", "sd")] for point in found[where] if point["method"] == method]
            ).T
            lines.append((method, x, mean, mean - spread, mean + spread))
        panel(axis, lines, xlabel=title)
        axis.set_ylim(0.0, 5.0)
    axes[0].set_ylabel("Tmax, estimated − true [s]", fontsize=10, color=ink.INK)
    axes[0].legend(fontsize=9, frameon=False, loc="upper left", ncols=3, columnspacing=1.0, handlelength=1.2)
    return figure


def lesion_figure(records: list[Record]) -> Figure:
    """Estimated volume of Tmax > 6 s, and Dice, over the true volume in the acute exams that count."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained", facecolor="white")
    volume, overlap = figure.subplots(1, 2)
    exams = lesion_exams(records)
    true = values_of(exams, "lesion", "tmax_over_6s_ml")
    for run, name, marker in (
        ("osvd", "csvd", "+"),
        ("osvd_shifted", "osvd", "^"),
        ("oracle", "matched", "x"),
        ("auto", "parametric", "o"),
    ):
        style = {"color": COLOURS[name], "markersize": 5, "alpha": 0.8, "label": RUNS[run]}
        volume.plot(true, values_of(exams, "runs", run, "ml"), marker, **style)
        overlap.plot(true, values_of(exams, "runs", run, "dice"), marker, **style)
    volume.loglog([LESION_ML, true.max()], [LESION_ML, true.max()], color=ink.MUTED, linewidth=0.8)
    ticks = (10, 20, 50, 100, 200, 500, 1000)
    volume.set_xticks(ticks[:5], map(str, ticks[:5]))
    volume.set_yticks(ticks, map(str, ticks))
    volume.minorticks_off()
    overlap.set_ylim(0.0, 1.0)
    overlap.legend(fontsize=8, frameon=False, loc="lower right")
    panel(volume, [], xlabel="true volume of Tmax > 6 s [mL]", ylabel="estimated volume [mL]")
    panel(overlap, [], xlabel="true volume of Tmax > 6 s [mL]", ylabel="Dice of Tmax > 6 s")
    return figure


# ------------------------------------------------------------------------------------------------ all of them


def tables_of(results: Record) -> dict[str, str]:
    """Tables by the names of their markers."""
    run, acute = results["run"], results["acute"]
    return {
        "run": (
            f"`{run['command']}`: {run['voxels']} curves per level, phantom {run['phantom']}, seed {run['seed']}; "
            f"Python {run['python']}, JAX {run['jax']}, NumPy {run['numpy']}, SciPy {run['scipy']}, on the CPU."
        ),
        "checklist": checklist(results),
        "curves": curve_tables(results["curves"]),
        "acute": exam_tables(acute),
        "worst": worst_table(acute),
        "small": small_table(acute),
        "arterial": arterial_table(acute),
        "moving": moving_table(results["moving"], acute),
        "chronic": exam_tables(results["chronic"]),
    }
