"""Records -> a table for the terminal and a page for the reader. Knows nothing of JAX, opens no exam.

The page is one file: pictures are inside it. Everything it says comes from `summary.json`, `subjects.csv`, the pictures
beside them, and, where the run has them, `metrics.jsonl` and `config.json`.
"""

import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dscgan_jax.evaluation import records
from dscgan_jax.figures import panels as figures
from dscgan_jax.figures.panels import CONTOUR_SECONDS, source_title
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts as page_parts
from dscgan_jax.pages.parts import (
    NULLS,
    UNDEFINED,
    bullets,
    counted,
    dice_spread,
    image,
    listed,
    number,
    section,
    spread,
    table,
)
from dscgan_jax.training import tracking

FEW_SUBJECTS = 10  # below it, the page says that means are uncertain
MUCH_CLIPPED = 0.01  # of the brain's voxels
PICTURES = ("best", "median", "worst")
# How conventional methods came to their arterial input.
ARTERIAL_INPUTS = {
    "auto": "found their arterial input without help; exams in which they found none are missing in their rows",
    "files": "were given each exam's own arterial curve (aif.tsv), of a phantom the true one; the network was not. "
    "Exams without one are missing in their rows",
}
FREE_SCALE = ("cbf", "cbv")  # real exams do not fix the scale of these

Summary = Mapping[str, Any]


# The terminal.


def format_table(summary: Summary) -> str:
    """Errors of each map and the overlap of Tmax > 6 s, sources and nulls below each other, as aligned text."""
    results = summary["results"]
    heads = [f"{MAPS[name].title} [{MAPS[name].unit}]" for name in _map_names(results)]
    width = max(len(text) for text in (*results, *heads)) + 2
    lines = []
    for name, head in zip(_map_names(results), heads, strict=True):
        lines += [
            head.ljust(width)
            + "brain MAE".rjust(16)
            + "bias".rjust(9)
            + "r".rjust(7)
            + "SSIM".rjust(7)
            + ("| " + "slice SSIM".rjust(13)).rjust(20)
            + "NRMSE".rjust(8)
            + "PSNR".rjust(7)
        ]
        for source, result in results.items():
            if name in result:
                brain, scaled = result[name]["brain"], result[name]["scaled"]
                lines.append(
                    source.ljust(width)
                    + spread(brain["mae"]).rjust(16)
                    + number(brain["bias"]["mean"], "+.2f").rjust(9)
                    + number(brain["pearson_r"]["mean"]).rjust(7)
                    + number(brain["ssim"]["mean"]).rjust(7)
                    + ("| " + spread(scaled["ssim"], 3).rjust(13)).rjust(20)
                    + number(scaled["nrmse"]["mean"], ".3f").rjust(8)
                    + number(scaled["psnr"]["mean"], ".1f").rjust(7)
                )
        lines.append("")
    if any("hypoperfusion" in result for result in results.values()):
        lines.append(
            f"Tmax > {CONTOUR_SECONDS:g} s".ljust(width)
            + "Dice pooled".rjust(12)
            + "Dice mean (n)".rjust(20)
            + "both empty".rjust(12)
            + "volume [ml]".rjust(13)
            + "reference".rjust(11)
            + "bias".rjust(8)
        )
        for source, result in results.items():
            if "hypoperfusion" in result:
                overlap = result["hypoperfusion"][f"tmax_over_{CONTOUR_SECONDS:g}s"]
                lines.append(
                    source.ljust(width)
                    + number(overlap["dice_pooled"]).rjust(12)
                    + f"{dice_spread(overlap)} ({overlap['n_dice']})".rjust(20)
                    + str(overlap["n_both_empty"]).rjust(12)
                    + number(overlap["volume_predicted_ml"], ".1f").rjust(13)
                    + number(overlap["volume_reference_ml"], ".1f").rjust(11)
                    + number(overlap["volume_bias_ml"], "+.1f").rjust(8)
                )
        lines.append("")
    if how := ARTERIAL_INPUTS.get(summary["data"].get("arterial_input")):
        lines.append(f"conventional methods {how}")
    lines.append("mean ± SD over subjects; nulls: blank = 0 everywhere, null_median = training median inside the mask")
    return "\n".join(lines)


# The page.


def write(workdir: pathlib.Path | str, name: str = "test") -> pathlib.Path:
    """Writes the page of an evaluation.

    Args:
      workdir: holds `evaluation/<name>/{summary.json, subjects.csv, *_subject.png}`, perhaps `metrics.jsonl` and
        `config.json`.
      name: `test` becomes `report.html`, another one `report_<name>.html`.

    Returns:
      The page's path.

    Raises:
      InputError: the records are absent or of another version.
    """
    workdir = pathlib.Path(workdir)
    folder = workdir / "evaluation" / name
    summary = records.read_summary(folder / "summary.json")
    rows = records.read_subjects(folder / "subjects.csv")
    config_path = workdir / "config.json"
    config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else None
    pictures = {title: folder / f"{title}_subject.png" for title in PICTURES}
    content = page(
        summary,
        rows,
        {title: path.read_bytes() for title, path in pictures.items() if path.is_file()},
        tracking.read_rows(workdir / tracking.FILE_NAME),
        config,
    )
    path = workdir / ("report.html" if name == "test" else f"report_{name}.html")
    write_whole(path, content)
    return path


def page(
    summary: Summary,
    rows: Sequence[records.Row],
    pictures: Mapping[str, bytes],
    training: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any] | None,
) -> str:
    """The page as HTML.

    Args:
      summary, rows: the records.
      pictures: {`best`, `median`, `worst`: PNG}.
      training: rows of `metrics.jsonl`.
      config: the run's config.
    """
    source = primary_source(summary)
    names = ", ".join(MAPS[name].title for name in _map_names(summary["results"]))
    n_subjects = len(summary["subjects"])
    sections = [
        section("In brief", bullets(findings(summary)), kind="brief"),
        section("Read this first", bullets(warnings(summary, rows)), kind="warnings"),
        section("Exams with warnings", bullets(told), kind="warnings") if (told := exam_warnings(summary)) else "",
        section("Errors over subjects", *(_map_table(summary, name) for name in _map_names(summary["results"]))),
        _hypoperfusion(summary),
        section(
            "Subjects to look at",
            _picture_note(source, summary),
            *(_picture(title, png) for title, png in pictures.items()),
        )
        if pictures
        else "",
        _volumes(rows, source),
        section("Every subject", _subject_table(rows, source)),
        _training(training, summary),
        section("What was trained, on what, and how it was scored", _provenance(summary, config)),
        section("How to read the numbers", page_parts.GLOSSARY),
    ]
    title = f"{names}: {n_subjects} {summary['split']} {'subject' if n_subjects == 1 else 'subjects'}"
    return page_parts.PAGE.format(
        title=html.escape(title),
        style=page_parts.STYLE,
        subtitle=f"{html.escape(source_title(source))} against the reference, beside two nulls",
        created=html.escape(str(summary["created"])[:16].replace("T", " ")),
        body="\n".join(part for part in sections if part),
    )


def primary_source(summary: Summary) -> str:
    """The source that the page is about: the first that is no null."""
    return next((name for name in summary["results"] if name not in NULLS), next(iter(summary["results"])))


def exam_warnings(summary: Summary) -> list[str]:
    """What is doubtful about exams, with their subjects; records of older versions know none."""
    subjects: dict[str, list[str]] = {}
    for subject, found in summary.get("findings", {}).items():
        for finding in found:
            if finding["Severity"] != "note":
                text = f"{finding['Text']}{' (accepted)' if finding['Accepted'] else ''}"
                subjects.setdefault(text, []).append(subject)
    return [f"{names[0] if len(names) == 1 else f'{len(names)} exams'}: {text}" for text, names in subjects.items()]


def findings(summary: Summary) -> list[str]:
    """The result in sentences: what the first source achieves beside the training median."""
    source = primary_source(summary)
    result, null = summary["results"][source], summary["results"].get("null_median", {})
    found = []
    for name in _map_names({source: result}):
        error, unit = result[name]["brain"]["mae"]["mean"], MAPS[name].unit
        null_error = null[name]["brain"]["mae"]["mean"] if name in null else None
        text = f"{MAPS[name].title}: mean error {number(error)} {unit} inside the brain"
        if null_error and source not in NULLS:
            text += f", {error / null_error:.2f} of what the training median alone gives ({null_error:.2f} {unit})"
        correlation = result[name]["brain"]["pearson_r"]["mean"]
        text += f"; r = {correlation:.2f}" if correlation is not None else ""
        similarity = result[name]["scaled"]["ssim"]["mean"]
        if similarity is not None:
            text += f"; whole-slice SSIM {similarity:.3f}"
            text += f" (training median: {number(null[name]['scaled']['ssim']['mean'], '.3f')})" if name in null else ""
        found.append(text + ".")
    overlap = result.get("hypoperfusion", {}).get(f"tmax_over_{CONTOUR_SECONDS:g}s")
    if overlap:
        found.append(
            f"Hypoperfused tissue (Tmax > {CONTOUR_SECONDS:g} s): Dice {number(overlap['dice_pooled'])} over "
            f"all voxels; volume {overlap['volume_predicted_ml']:.0f} ml on average, reference "
            f"{overlap['volume_reference_ml']:.0f} ml."
        )
    return found


def warnings(summary: Summary, rows: Sequence[records.Row]) -> list[str]:
    """What a reader must know before believing the tables."""
    source = primary_source(summary)
    mine = [row for row in rows if row["source"] == source]
    result, null = summary["results"][source], summary["results"].get("null_median", {})
    found = ["Research use only: not a medical device, not for diagnosis or treatment."]
    trained, scored = summary["data"].get("source"), summary["data"].get("scored_source")
    if records.PHANTOM in (trained, scored):
        what = "Trained and scored" if trained == scored else "Trained" if trained == records.PHANTOM else "Scored"
        found.append(f"{what} on digital phantom exams: nothing here says how the maps do on patients.")
    if len(summary["subjects"]) < FEW_SUBJECTS:
        found.append(f"Only {len(summary['subjects'])} subjects were scored: their means are uncertain.")
    for name in _map_names({source: result}):
        error = result[name]["brain"]["mae"]["mean"]
        if source not in NULLS and name in null and error >= null[name]["brain"]["mae"]["mean"]:
            found.append(
                f"{MAPS[name].title} is no closer to the reference than the training median painted into the "
                "brain: these maps tell nothing about the patient."
            )
    for name in _map_names({source: result}):
        shares = [
            (row["clipped_fraction"], row["subject"])
            for row in mine
            if row["map"] == name and (row["clipped_fraction"] or 0) > MUCH_CLIPPED
        ]
        if shares:
            worst, subject = max(shares)
            found.append(
                f"{MAPS[name].title}: in {counted(len(shares), 'subject')} more than {MUCH_CLIPPED:.0%} of "
                f"the brain lies outside the range that a network can say (up to {worst:.0%}, {subject})."
            )
    for flag, what in (("moved", "moved during the series"), ("truncated", "have a series that ends early")):
        if subjects := records.unique(row["subject"] for row in mine if row[flag]):
            found.append(f"{len(subjects)} of {len(summary['subjects'])} subjects {what}: {listed(subjects)}.")
    for kind, what in (("maps", "the union of their maps"), ("threshold", "a threshold of the signal")):
        if subjects := records.unique(row["subject"] for row in mine if row["mask_source"] == kind):
            found.append(
                f"{counted(len(subjects), 'subject')} came without a brain mask; {what} stands in: {listed(subjects)}."
            )
    if how := ARTERIAL_INPUTS.get(summary["data"].get("arterial_input")):
        found.append(f"The conventional methods {how}.")
    if summary["excluded"]:
        found.append(
            f"{counted(len(summary['excluded']), 'subject')} left out: "
            + listed([f"{row['subject']} ({row['reason']})" for row in summary["excluded"]])
            + "."
        )
    return found


def _map_table(summary: Summary, name: str) -> str:
    spec = MAPS[name]
    null = summary["results"].get("null_median", {}).get(name)
    null_error = null["brain"]["mae"]["mean"] if null else None
    free_scale = name in FREE_SCALE
    head = [
        "source",
        f"MAE [{spec.unit}]",
        "÷ null",
        "RMSE",
        "bias",
        "r",
        "SSIM",
        *(["MAE after one factor"] if free_scale else []),
        "SSIM",
        "NRMSE",
        "PSNR [dB]",
    ]
    lines = []
    for source, result in summary["results"].items():
        if name not in result:
            continue
        brain, scaled = result[name]["brain"], result[name]["scaled"]
        ratio = brain["mae"]["mean"] / null_error if null_error else None
        lines.append(
            (
                source,
                [
                    spread(brain["mae"]),
                    number(ratio),
                    number(brain["rmse"]["mean"]),
                    number(brain["bias"]["mean"], "+.2f"),
                    spread(brain["pearson_r"]),
                    spread(brain["ssim"]),
                    *([spread(brain["mae_after_scale"])] if free_scale else []),
                    spread(scaled["ssim"], 3),
                    spread(scaled["nrmse"], 3),
                    spread(scaled["psnr"], 1),
                ],
            )
        )
    groups = [("", 1), ("inside the brain, physical units", 7 if free_scale else 6), ("whole slices in [-1, 1]", 3)]
    heading = f"<h3>{html.escape(spec.title)} <small>{html.escape(spec.description)}</small></h3>"
    return heading + table(head, lines, groups)


def _hypoperfusion(summary: Summary) -> str:
    with_tmax = {
        source: result["hypoperfusion"] for source, result in summary["results"].items() if "hypoperfusion" in result
    }
    if not with_tmax:
        return ""
    head = [
        "source",
        "Dice, all voxels",
        "Dice per subject",
        "subjects",
        "both empty",
        "predicted [ml]",
        "reference [ml]",
        "bias [ml]",
        "|error| median",
        "r",
    ]
    tables = []
    for threshold in records.THRESHOLDS:
        lines = []
        for source, by_threshold in with_tmax.items():
            row = by_threshold[f"tmax_over_{threshold:g}s"]
            percent = row["volume_abs_error_percent_median"]
            lines.append(
                (
                    source,
                    [
                        number(row["dice_pooled"]),
                        dice_spread(row),
                        str(row["n_dice"]),
                        str(row["n_both_empty"]),
                        number(row["volume_predicted_ml"], ".1f"),
                        number(row["volume_reference_ml"], ".1f"),
                        number(row["volume_bias_ml"], "+.1f"),
                        UNDEFINED if percent is None else f"{percent:.0f} %",
                        number(row["volume_pearson_r"]),
                    ],
                )
            )
        groups = [("", 1), ("overlap", 4), ("volume, mean over subjects", 5)]
        opened = " open" if threshold == CONTOUR_SECONDS else ""
        tables.append(
            f"<details{opened}><summary>Tmax &gt; {threshold:g} s</summary>{table(head, lines, groups)}</details>"
        )
    tables.sort(key=lambda text: not text.startswith("<details open>"))  # the clinical threshold first
    return section("Hypoperfused tissue", *tables)


def _volumes(rows: Sequence[records.Row], source: str) -> str:
    columns = records.overlap_columns(CONTOUR_SECONDS)
    tmax = [row for row in rows if row["source"] == source and row["map"] == "tmax"]
    if not tmax:
        return ""
    figure = figures.bland_altman_figure(
        [row[columns["volume_reference_ml"]] for row in tmax],
        [row[columns["volume_predicted_ml"]] for row in tmax],
        quantity=f"volume of Tmax > {CONTOUR_SECONDS:g} s",
        unit="ml",
    )
    note = (
        "<p>One point per subject. For scale: two commercial programs differed by 20 ml on average "
        "(Deutschmann et al. 2021).</p>"
    )
    return section("Agreement of volumes", note, image(figures.to_png(figure), "volume agreement"))


def _subject_table(rows: Sequence[records.Row], source: str) -> str:
    mine = [row for row in rows if row["source"] == source]
    names = _map_names({source: {row["map"]: None for row in mine}})
    columns = records.overlap_columns(CONTOUR_SECONDS)
    head, groups = ["subject"], [("", 1)]
    for name in names:
        head += [f"MAE [{MAPS[name].unit}]", "r", "SSIM"]
        if name == "tmax":
            head += [f"Dice > {CONTOUR_SECONDS:g} s", "predicted [ml]", "reference [ml]"]
        groups.append((MAPS[name].title, 6 if name == "tmax" else 3))
    head += ["brain [voxels]", "notes"]
    groups.append(("", 2))
    lines = []
    for subject in records.unique(row["subject"] for row in mine):
        by_map = {row["map"]: row for row in mine if row["subject"] == subject}
        cells = []
        for name in names:
            row = by_map.get(name, {})
            cells += [number(row.get("brain_mae")), number(row.get("brain_pearson_r")), number(row.get("brain_ssim"))]
            if name == "tmax":
                cells += [
                    number(row.get(columns["dice"])),
                    number(row.get(columns["volume_predicted_ml"]), ".1f"),
                    number(row.get(columns["volume_reference_ml"]), ".1f"),
                ]
        first = next(iter(by_map.values()))
        notes = [flag for flag in ("moved", "truncated") if first[flag]]
        if first["mask_source"] != "file":
            notes.append(f"mask from {first['mask_source']}")
        lines.append((subject, [*cells, f"{first['n_brain_voxels']:,}", ", ".join(notes)]))
    caption = f"<p>{html.escape(source_title(source))}. All sources and metrics: <code>subjects.csv</code>.</p>"
    return caption + table(head, lines, groups, titles=False)


def _training(training: Sequence[Mapping[str, Any]], summary: Summary) -> str:
    chosen = (summary["checkpoint"] or {}).get("step")
    figure = figures.curves_figure(training, chosen_step=chosen)
    if figure is None:
        return ""
    note = f"<p>The scored checkpoint is that of step {chosen} (vertical line).</p>" if chosen is not None else ""
    return section("Training", note, image(figures.to_png(figure), "training curves"))


def _provenance(summary: Summary, config: Mapping[str, Any] | None) -> str:
    data, protocol, software = summary["data"], summary["protocol"], summary["software"]
    checkpoint = summary["checkpoint"]
    slices = protocol["slices"] or "the exam's own"
    facts = [
        ("Exams", f"{data.get('source', UNDEFINED)} (fingerprint {str(data.get('fingerprint', UNDEFINED))[:12]})"),
        (
            "Subjects",
            (
                f"{data.get('n_train', UNDEFINED)} training, {data.get('n_validation', UNDEFINED)} validation, "
                f"{data.get('n_test', UNDEFINED)} test; {len(summary['subjects'])} scored here"
            ),
        ),
        (
            "Checkpoint",
            f"step {checkpoint['step']}, {checkpoint['selected_by']}, weights {str(checkpoint['sha256'])[:12]}"
            if checkpoint
            else "none: maps from a folder",
        ),
        ("Network input", f"{protocol['frames']} frames, time {protocol['time_mode']}, signal {protocol['signal']}"),
        (
            "Paper protocol",
            (
                f"{protocol['rows']} x {protocol['cols']} pixels, slices: {slices}, [-1, 1] = "
                f"{protocol['ranges']} range, SSIM {protocol['ssim_window']} x {protocol['ssim_window']}, "
                f"data range {protocol['data_range']:g}"
            ),
        ),
        ("Brain mask", protocol["mask_source"]),
        ("Software", ", ".join(f"{name} {version}" for name, version in software.items() if version)),
        ("Scored", f"{summary['created']}, in {summary['wall_seconds']:.0f} s"),
    ]
    if config is not None:
        facts.insert(2, ("Network", _network(config)))
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts)
    details = ""
    if config is not None:
        details = (
            f"<details><summary>Complete config</summary><pre>{html.escape(json.dumps(config, indent=1))}</pre>"
            "</details>"
        )
    return f"<dl>{listed}</dl>{details}"


def _network(config: Mapping[str, Any]) -> str:
    wanted = (
        ("model", "generator", "{} generator"),
        ("model", "width", "width {}"),
        ("train", "batch_size", "batch of {}"),
        ("train", "learning_rate", "learning rate {:g}"),
        ("loss", "l1_weight", "λ {:g}"),
    )
    return ", ".join(
        text.format(config[group][field]) for group, field, text in wanted if field in config.get(group, {})
    )


def _map_names(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name in MAPS if any(name in result for result in results.values())]


def _picture(title: str, png: bytes) -> str:
    return f"<figure>{image(png, f'{title} subject')}</figure>"


def _picture_note(source: str, summary: Summary) -> str:
    first = MAPS[_map_names({source: summary["results"][source]})[0]].title
    return (
        f"<p>Best, median and worst subject by brain MAE of {first}, {html.escape(source_title(source))}. "
        "Windows and colours are the same everywhere; solid line: "
        f"Tmax &gt; {CONTOUR_SECONDS:g} s in that picture, dashed: "
        "in the reference. |error| is that of the first prediction. R is the patient's right.</p>"
    )
