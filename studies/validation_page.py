"""Tables and pictures of the validation study, from its record alone."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from validation_checklist import checklist
from validation_records import (
    BOLUSES,
    FACTORS,
    LESION_ML,
    NAMES,
    QUANTITIES,
    RUNS,
    STACKS,
    Record,
    arterial_faults,
    bolus_values,
    label,
    lesion_exams,
    lesion_ml,
    markdown,
    mean_sd,
    noise_values,
    stack_verdict,
    titled,
    values_of,
    volume_errors,
)

from dscgan_jax.figures import ink
from dscgan_jax.maps import MAPS

COLOURS = {"ssvd": "#b7791f", "csvd": "#c2571a", "osvd": "#2f855a", "parametric": "#1565a9", "matched": "#6b46c1"}


# ------------------------------------------------------------------------------------------------ tables


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


def contrast_table(found: list[Record]) -> str:
    """Voxels with a wrong CBF by shape, MTT and peak over noise, %."""
    levels = list(found[0]["wrong_percent"])
    rows = [
        [f"{row['shape']:g}", f"{row['mtt']:g}", *(f"{row['wrong_percent'][level]:.1f}" for level in levels)]
        for row in found
    ]
    rows.append(["mean", "", *(f"{values_of(found, 'wrong_percent', level).mean():.1f}" for level in levels)])
    return markdown(["transit shape", "MTT, s", *(f"peak over noise {level}" for level in levels)], rows)


NEIGHBOUR_NAMES = NAMES | {"neighbours": "parametric, neighbours within 5 mm", "parametric": "parametric, each alone"}


def neighbours_table(found: list[Record]) -> str:
    """Methods where neighbours share a delay, and where they share nothing."""
    rows = [
        [
            row["delays"],
            NEIGHBOUR_NAMES[row["method"]],
            *(f"{row[name][what]:.2f}" for name in ("mtt", "tmax", "cbf") for what in ("r", "mae")),
        ]
        for row in found
    ]
    head = [f"{what} of {title}" for title in titled(("mtt", "tmax", "cbf")) for what in ("r", "mean absolute error")]
    return markdown(["delays", "method", *head], rows)


def boluses_table(records: list[Record]) -> str:
    """Errors and arterial search by width of the bolus."""
    rows = []
    for width in sorted({record["bolus_seconds"] for record in records}):
        runs = [record["runs"]["auto"] for record in records if record["bolus_seconds"] == width]
        doubts = sum(any(finding["Name"].startswith("arterial") for finding in run.get("findings", [])) for run in runs)
        rows.append(
            [
                f"{width:g}",
                f"{BOLUSES[width]:g}",
                *(
                    mean_sd(bolus_values(records, width, run, *path))
                    for run in ("auto", "oracle")
                    for path in (("dice",), ("tmax", "mae"), ("cbf", "mae"))
                ),
                mean_sd(100 * bolus_values(records, width, "auto", "arterial", "arterial_share"), 0),
                mean_sd(bolus_values(records, width, "auto", "arterial", "width_percent"), 1),
                f"{sum('refused' in run for run in runs)} / {doubts} of {len(runs)}",
            ]
        )
    what = ("Dice", "error of Tmax, s", "error of CBF, mL/100 g/min")
    head = [f"{name}, {run}" for run in ("automatic", "oracle") for name in what]
    arterial = ["arterial voxels, %", "width against the true, %", "refused / doubted"]
    return markdown(["bolus, s", "tail over peak", *head, *arterial], rows)


def noise_table(records: list[Record]) -> str:
    """Errors over the ratio of signal to noise."""
    rows = [
        [
            str(snr),
            *(mean_sd(noise_values(records, snr, name, "mae")) for name in QUANTITIES),
            mean_sd(noise_values(records, snr, "dice"), 3),
        ]
        for snr in sorted({record["snr"] for record in records})
    ]
    return markdown(["SNR", *titled(QUANTITIES), "Dice"], rows)


def stacks_table(records: list[Record]) -> str:
    """Shift of Tmax by level and height of a stack, and what the reader is told."""
    rows = []
    for level in dict.fromkeys(record["level"] for record in records):
        for slices in STACKS:
            those = [record for record in records if (record["level"], record["slices"]) == (level, slices)]
            shifts, verdicts = values_of(those, "shift"), [stack_verdict(record) for record in those]
            middle, worst = (
                (f"{np.median(shifts):+.2f}", f"{shifts[np.abs(shifts).argmax()]:+.2f}") if len(shifts) else ("–", "–")
            )
            counts = [str(verdicts.count(verdict)) for verdict in ("steady", "warned", "refused", "silent")]
            rows.append([level, str(slices), middle, worst, *counts])
    head = ["level", "slices", "shift of the median Tmax, s", "largest"]
    return markdown([*head, "within 0.3 s", "else warned", "refused", "no warning"], rows)


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
        "contrast": contrast_table(results["contrast"]),
        "neighbours": neighbours_table(results["neighbours"]),
        "acute": exam_tables(acute),
        "worst": worst_table(acute),
        "small": small_table(acute),
        "arterial": arterial_table(acute),
        "moving": moving_table(results["moving"], acute),
        "chronic": exam_tables(results["chronic"]),
        "boluses": boluses_table(results["boluses"]),
        "noise": noise_table(results["noise"]),
        "stacks": stacks_table(results["stacks"]),
    }
