"""The numbers of an evaluation as tables: aligned text for the terminal, HTML for the page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from dscgan_jax.evaluation import records
from dscgan_jax.figures.ink import CONTOUR_SECONDS
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import sortable
from dscgan_jax.pages.parts import UNDEFINED, details, dice_spread, number, ranged, spread, table
from dscgan_jax.pages.sentences import Summary, aif_source, map_names

SUBJECT_KINDS = {"noted": "with notes", "plain": "without notes"}
FREE_SCALE = ("cbf", "cbv")  # real exams do not fix the scale of these
MAP_COLUMNS = (("brain MAE", 16), ("bias", 9), ("r", 7), ("SSIM", 7))  # heading and width in the terminal
SLICE_COLUMNS = (("NRMSE", 8), ("PSNR", 7))
OVERLAP_COLUMNS = (
    ("Dice pooled", 12),
    ("Dice mean (n)", 20),
    ("both empty", 12),
    ("volume [mL]", 13),
    ("reference", 11),
    ("bias", 8),
)
TERMINAL_NOTE = "mean ± SD over subjects; nulls: blank = 0 everywhere, null_median = training median inside the mask"
OVERLAP_HEAD = (
    "source",
    "Dice, all voxels",
    "Dice per subject",
    "subjects",
    "both empty",
    "predicted [mL]",
    "reference [mL]",
    "bias [mL]",
    "|error| median",
    "r",
)
AGREEMENT_HEAD = (
    "source",
    "subjects",
    "mean |error| [mL]",
    "bias [mL]",
    "limits of agreement [mL]",
    "r",
    "ICC(2,1)",
    "concordance",
)
TRIAL_TITLES = {"defuse3": "DEFUSE 3", "extend": "EXTEND"}
TRIAL_HEAD = ("subjects", "predicted", "reference", "both", "kappa")

Result = Mapping[str, Any]  # of one source: its maps, and `hypoperfusion`


# The terminal.


def format_table(summary: Summary) -> str:
    """Errors of each map and the overlap of Tmax > 6 s, sources and nulls below each other, as aligned text."""
    results = summary["results"]
    heads = {name: f"{MAPS[name].title} [{MAPS[name].unit}]" for name in map_names(results)}
    width = max(len(text) for text in (*results, *heads.values())) + 2
    lines = []
    for name, head in heads.items():
        lines += [head.ljust(width) + _map_heading()]
        lines += [source.ljust(width) + _map_line(result[name]) for source, result in results.items() if name in result]
        lines.append("")
    overlaps = {source: _overlap(result, CONTOUR_SECONDS) for source, result in _with_tmax(summary).items()}
    if overlaps:
        heading = "".join(text.rjust(columns) for text, columns in OVERLAP_COLUMNS)
        lines.append(f"Tmax > {CONTOUR_SECONDS:g} s".ljust(width) + heading)
        lines += [source.ljust(width) + _overlap_line(overlap) for source, overlap in overlaps.items()]
        lines.append("")
    if origin := aif_source(summary):
        lines.append(origin)
    return "\n".join([*lines, TERMINAL_NOTE])


def _map_heading() -> str:
    before, after = ("".join(text.rjust(width) for text, width in part) for part in (MAP_COLUMNS, SLICE_COLUMNS))
    return before + _after_bar("slice SSIM") + after


def _map_line(result: Mapping[str, Any]) -> str:
    brain, scaled = result["brain"], result["scaled"]
    before = (
        spread(brain["mae"]),
        number(brain["bias"]["mean"], "+.2f"),
        number(brain["pearson_r"]["mean"]),
        number(brain["ssim"]["mean"]),
    )
    after = (number(scaled["nrmse"]["mean"], ".3f"), number(scaled["psnr"]["mean"], ".1f"))
    return _aligned(before, MAP_COLUMNS) + _after_bar(spread(scaled["ssim"], 3)) + _aligned(after, SLICE_COLUMNS)


def _overlap_line(overlap: Mapping[str, Any]) -> str:
    cells = (
        number(overlap["dice_pooled"]),
        f"{dice_spread(overlap)} ({overlap['n_dice']})",
        str(overlap["n_both_empty"]),
        number(overlap["volume_predicted_ml"], ".1f"),
        number(overlap["volume_reference_ml"], ".1f"),
        number(overlap["volume_bias_ml"], "+.1f"),
    )
    return _aligned(cells, OVERLAP_COLUMNS)


def _aligned(cells: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    return "".join(cell.rjust(width) for cell, (_, width) in zip(cells, columns, strict=True))


def _after_bar(text: str) -> str:
    """The first column of the whole slices, behind a bar."""
    return ("| " + text.rjust(13)).rjust(20)


def _with_tmax(summary: Summary) -> dict[str, Result]:
    return {source: result for source, result in summary["results"].items() if "hypoperfusion" in result}


def _overlap(result: Result, threshold: float) -> Mapping[str, Any]:
    return result["hypoperfusion"][f"tmax_over_{threshold:g}s"]


# The page.


def map_table(summary: Summary, name: str) -> str:
    """Errors of one map over subjects, with its heading."""
    spec = MAPS[name]
    head = ["source", f"MAE [{spec.unit}]", "÷ null", "RMSE", "bias", "r", "SSIM"]
    head += ["MAE after one factor"] if name in FREE_SCALE else []
    groups = [("", 1), ("inside the brain, physical units", len(head) - 1), ("whole slices in [-1, 1]", 3)]
    null = summary["results"].get("null_median", {}).get(name)
    null_error = null["brain"]["mae"]["mean"] if null else None
    lines = [
        (source, _map_cells(name, result[name], null_error))
        for source, result in summary["results"].items()
        if name in result
    ]
    heading = f"<h3>{spec.title} <small>{spec.description}</small></h3>"
    return heading + table([*head, "SSIM", "NRMSE", "PSNR [dB]"], lines, groups)


def _map_cells(name: str, result: Mapping[str, Any], null_error: float | None) -> list[str]:
    brain, scaled = result["brain"], result["scaled"]
    return [
        spread(brain["mae"]),
        number(brain["mae"]["mean"] / null_error if null_error else None),
        number(brain["rmse"]["mean"]),
        number(brain["bias"]["mean"], "+.2f"),
        spread(brain["pearson_r"]),
        spread(brain["ssim"]),
        *([spread(brain["mae_after_scale"])] if name in FREE_SCALE else []),
        spread(scaled["ssim"], 3),
        spread(scaled["nrmse"], 3),
        spread(scaled["psnr"], 1),
    ]


def overlap_tables(summary: Summary) -> list[str]:
    """Overlap and volumes of hypoperfused tissue by threshold, the clinical one first and open; none without Tmax."""
    with_tmax = _with_tmax(summary)
    groups = [("", 1), ("overlap", 4), ("volume, mean over subjects", 5)]
    tables = []
    for threshold in _clinical_first():
        lines = [(source, _overlap_cells(_overlap(result, threshold))) for source, result in with_tmax.items()]
        shown = table(OVERLAP_HEAD, lines, groups)
        tables.append(details(f"Tmax > {threshold:g} s", shown, is_open=threshold == CONTOUR_SECONDS))
    return tables if with_tmax else []


def _clinical_first() -> list[float]:
    return sorted(records.THRESHOLDS, key=lambda threshold: threshold != CONTOUR_SECONDS)


def _overlap_cells(overlap: Mapping[str, Any]) -> list[str]:
    percent = overlap["volume_abs_error_percent_median"]
    return [
        number(overlap["dice_pooled"]),
        dice_spread(overlap),
        str(overlap["n_dice"]),
        str(overlap["n_both_empty"]),
        number(overlap["volume_predicted_ml"], ".1f"),
        number(overlap["volume_reference_ml"], ".1f"),
        number(overlap["volume_bias_ml"], "+.1f"),
        UNDEFINED if percent is None else f"{percent:.0f} %",
        number(overlap["volume_pearson_r"]),
    ]


def agreement_tables(summary: Summary) -> list[str]:
    """Agreement of volumes over subjects by threshold, the clinical one first and open.

    None without Tmax, or for records of older versions, which do not have it.
    """
    with_agreement = _with_agreement(summary)
    tables = []
    for threshold in _clinical_first():
        lines = [(source, _agreement_cells(_overlap(result, threshold))) for source, result in with_agreement.items()]
        shown = table(AGREEMENT_HEAD, lines)
        tables.append(details(f"Volume of Tmax > {threshold:g} s", shown, is_open=threshold == CONTOUR_SECONDS))
    return tables if with_agreement else []


def _with_agreement(summary: Summary) -> dict[str, Result]:
    with_tmax = _with_tmax(summary).items()
    return {source: result for source, result in with_tmax if "volume_icc" in _overlap(result, CONTOUR_SECONDS)}


def _agreement_cells(overlap: Mapping[str, Any]) -> list[str]:
    limits, intervals = overlap["volume_limits_ml"], overlap["intervals"]
    return [
        str(overlap["n_dice"] + overlap["n_both_empty"]),
        number(overlap["volume_abs_error_ml"], ".1f"),
        ranged(overlap["volume_bias_ml"], intervals["volume_bias_ml"], "+z.1f"),
        UNDEFINED if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}",
        *(ranged(overlap[name], intervals[name]) for name in ("volume_pearson_r", "volume_icc", "volume_concordance")),
    ]


def eligibility_table(summary: Summary) -> str:
    """Who would be eligible for two trials, by predicted and by reference volume; empty where no core is known."""
    decided = {
        source: _overlap(result, CONTOUR_SECONDS)["eligibility"] for source, result in _with_agreement(summary).items()
    }
    if not any(of_trial["n"] for trials in decided.values() for of_trial in trials.values()):
        return ""
    head = ["source", *(column for _ in TRIAL_TITLES for column in TRIAL_HEAD)]
    groups = [("", 1), *((title, len(TRIAL_HEAD)) for title in TRIAL_TITLES.values())]
    lines = [
        (source, [cell for trial in TRIAL_TITLES for cell in _trial_cells(trials[trial])])
        for source, trials in decided.items()
    ]
    return table(head, lines, groups)


def _trial_cells(of_trial: Mapping[str, Any]) -> list[str]:
    counts = [str(of_trial[name]) for name in ("n", "n_predicted", "n_reference", "n_both")]
    return [*counts, ranged(of_trial["kappa"], of_trial["kappa_interval"])]


def subject_table(rows: Sequence[records.Row], source: str) -> str:
    """One line for each subject of one source, to sort and filter."""
    mine = [row for row in rows if row["source"] == source]
    names = map_names({source: {row["map"] for row in mine}})
    by_subject = {
        subject: {row["map"]: row for row in mine if row["subject"] == subject}
        for subject in records.unique(row["subject"] for row in mine)
    }
    titles = [title for title, _, _ in _subject_numbers({}, names)]
    head = [
        sortable.heading("subject", "words"),
        *(sortable.heading(title, "number") for title in titles),
        sortable.heading("notes", "words"),
    ]
    lines = [_subject_row(subject, by_map, names) for subject, by_map in by_subject.items()]
    filters = sortable.filters(SUBJECT_KINDS, "as they were scored")
    return sortable.style() + filters + sortable.table(head, lines, pictures=False) + sortable.script()


def _subject_row(subject: str, by_map: Mapping[str, records.Row], names: Sequence[str]) -> str:
    first = next(iter(by_map.values()))
    notes = [flag for flag in ("moved", "truncated") if first[flag]]
    if first["mask_source"] != "file":
        notes.append(f"mask from {first['mask_source']}")
    cells = [
        sortable.cell(title, number(value, form), "" if value is None else f"{value:.6g}")
        for title, value, form in _subject_numbers(by_map, names)
    ]
    text = html.escape(", ".join(notes))
    return sortable.row(
        ["noted" if notes else "plain"],
        [f'<th scope="row">{html.escape(subject)}</th>', *cells, f'<td class="words" data-value="{text}">{text}</td>'],
    )


def _subject_numbers(by_map: Mapping[str, records.Row], names: Sequence[str]) -> list[tuple[str, float | None, str]]:
    """Numbers of each map and the size of the brain: heading, value, format."""
    columns, found = records.overlap_columns(CONTOUR_SECONDS), []
    for name in names:
        row, title = by_map.get(name, {}), MAPS[name].title
        found += [
            (f"{title} MAE [{MAPS[name].unit}]", row.get("brain_mae"), ".2f"),
            (f"{title} r", row.get("brain_pearson_r"), ".2f"),
            (f"{title} SSIM", row.get("brain_ssim"), ".2f"),
        ]
        if name == "tmax":
            over = f"{title} > {CONTOUR_SECONDS:g} s"
            found.append((f"{over} Dice", row.get(columns["dice"]), ".2f"))
            found += [
                (f"{over} {side} [mL]", row.get(columns[f"volume_{side}_ml"]), ".1f")
                for side in ("predicted", "reference")
            ]
    brain = next(iter(by_map.values()))["n_brain_voxels"] if by_map else None
    return [*found, ("brain [voxels]", brain, ",")]
