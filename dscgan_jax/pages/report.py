"""The page of an evaluation. Knows nothing of JAX, opens no exam.

The page is one file: pictures are inside it. Everything on it comes from `summary.json`, `subjects.csv`, the pictures
beside them, and, where the run has them, `metrics.jsonl` and `config.json`.
"""

import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dscgan_jax.evaluation import records
from dscgan_jax.figures import curves, ink
from dscgan_jax.figures.ink import CONTOUR_SECONDS, source_title
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts, sentences, tables
from dscgan_jax.pages.parts import UNDEFINED, bullets, counted, definitions, details, image, section
from dscgan_jax.pages.sentences import Summary, map_names
from dscgan_jax.training import balance, tracking

EXAMPLES = ("best", "median", "worst")
INTENDED_USE = f"<p>{parts.RESEARCH_ONLY}</p>"
VOLUME_NOTE = "<p>One point per subject.</p>"
ELIGIBILITY_NOTE = (
    "<p>Subjects who meet the imaging criteria of two trials. The core is that of the reference for every source, so "
    "that the counts show what errors of Tmax do to decisions; predicted CBF is not read.</p>"
)


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
    pictures = {title: folder / f"{title}_subject.png" for title in EXAMPLES}
    shown = {title: path.read_bytes() for title, path in pictures.items() if path.is_file()}
    content = page(summary, rows, shown, tracking.read_rows(workdir / tracking.FILE_NAME), config)
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
      summary: the record.
      rows: of `subjects.csv`.
      pictures: {`best`, `median`, `worst`: PNG}.
      training: rows of `metrics.jsonl`.
      config: the run's config.
    """
    source, names = sentences.primary_source(summary), map_names(summary["results"])
    overlaps = tables.overlap_tables(summary)
    doubts = [*sentences.warnings(summary), *sentences.saturated(summary, rows), *balance.sentences(training)]
    limits = sentences.limitations(summary, rows)
    sections = [
        section("In brief", bullets(sentences.in_brief(summary)), kind="brief"),
        section("Intended use", INTENDED_USE, kind="warnings"),
        section("Warnings", bullets(doubts), kind="warnings") if doubts else "",
        section("Limitations", bullets(limits)) if limits else "",
        section("Errors over subjects", *(tables.map_table(summary, name) for name in names)),
        section("Hypoperfused tissue", *overlaps) if overlaps else "",
        _examples(summary, source, pictures) if pictures else "",
        _volumes(summary, rows, source),
        section("All subjects", _subjects_note(source), tables.subject_table(rows, source)),
        _training(training, summary),
        section("Training, data and scoring", definitions(_provenance(summary, config)), _complete(config)),
        section("How to read the numbers", parts.GLOSSARY),
    ]
    maps = ", ".join(MAPS[name].title for name in names)
    title = f"{maps}: {counted(len(summary['subjects']), summary['split'] + ' subject')}"
    subtitle = f"{source_title(source)} against the reference, beside two nulls"
    return parts.page(title, subtitle, str(summary["created"]), sections)


def _examples(summary: Summary, source: str, pictures: Mapping[str, bytes]) -> str:
    first = MAPS[map_names({source: summary["results"][source]})[0]].title
    note = (
        f"<p>Best, median and worst subject by brain MAE of {first}, {html.escape(source_title(source))}. "
        f"Windows and colours are the same in all pictures. Solid line: Tmax &gt; {CONTOUR_SECONDS:g} s in that "
        "picture; dashed line: in the reference. |error| is that of the first prediction. R is the patient's right.</p>"
    )
    figures = [f"<figure>{image(png, f'{title} subject')}</figure>" for title, png in pictures.items()]
    return section("Example subjects", note, *figures)


def _volumes(summary: Summary, rows: Sequence[records.Row], source: str) -> str:
    columns = records.overlap_columns(CONTOUR_SECONDS)
    tmax = [row for row in rows if row["source"] == source and row["map"] == "tmax"]
    if not tmax:
        return ""
    figure = curves.bland_altman_figure(
        [row[columns["volume_reference_ml"]] for row in tmax],
        [row[columns["volume_predicted_ml"]] for row in tmax],
        quantity=f"volume of Tmax > {CONTOUR_SECONDS:g} s",
        unit="mL",
    )
    eligible = tables.eligibility_table(summary)
    return section(
        "Agreement of volumes",
        VOLUME_NOTE,
        image(ink.to_png(figure), "volume agreement"),
        *tables.agreement_tables(summary),
        f"<h3>Eligibility for trials</h3>{ELIGIBILITY_NOTE}{eligible}" if eligible else "",
        "<h3>For comparison <small>other data, other references</small></h3>",
        bullets(parts.ANCHORS),
    )


def _subjects_note(source: str) -> str:
    return f"<p>{html.escape(source_title(source))}. All sources and metrics: <code>subjects.csv</code>.</p>"


def _training(training: Sequence[Mapping[str, Any]], summary: Summary) -> str:
    chosen = (summary["checkpoint"] or {}).get("step")
    figure = curves.training_figure(training, chosen_step=chosen)
    if figure is None:
        return ""
    note = f"<p>The scored checkpoint is that of step {chosen} (vertical line).</p>" if chosen is not None else ""
    return section("Training", note, image(ink.to_png(figure), "training curves"))


def _provenance(summary: Summary, config: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What was trained and scored, and how: (name, text)."""
    data, protocol, checkpoint = summary["data"], summary["protocol"], summary["checkpoint"]
    counts = {split: data.get(f"n_{split}", UNDEFINED) for split in ("train", "validation", "test")}
    subjects = f"{counts['train']} training, {counts['validation']} validation, {counts['test']} test"
    weights = "none: maps from a folder"
    if checkpoint:
        digest = str(checkpoint["sha256"])[:12]
        weights = f"step {checkpoint['step']}, {checkpoint['selected_by']}, weights {digest}"
        if "trained_on" in checkpoint:  # records of older versions do not say it
            weights = f"{checkpoint['name']} {checkpoint['version']}, trained on {checkpoint['trained_on']}; {weights}"
    software = ", ".join(f"{name} {version}" for name, version in summary["software"].items() if version)
    return [
        ("Exams", f"{data.get('source', UNDEFINED)} (fingerprint {str(data.get('fingerprint', UNDEFINED))[:12]})"),
        ("Subjects", f"{subjects}; {len(summary['subjects'])} scored here"),
        ("Network", _network(config) if config is not None else ""),
        ("Checkpoint", weights),
        *_protocol(protocol),
        ("Brain mask", protocol["mask_source"]),
        ("Software", software),
        ("Scored", f"{summary['created']}, in {summary['wall_seconds']:.0f} s"),
    ]


def _protocol(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Input of the network, and how whole slices are scored; without training there are no ranges to scale with."""
    if protocol["ranges"] is None:
        return [("Paper protocol", "not scored: no training split gives ranges for [-1, 1]")]
    network = f"{protocol['frames']} frames, time {protocol['time_mode']}, signal {protocol['signal']}"
    window, slices = protocol["ssim_window"], protocol["slices"] or "the exam's own"
    scored = (
        f"{protocol['rows']} x {protocol['cols']} pixels, slices: {slices}, [-1, 1] = {protocol['ranges']} range, "
        f"SSIM {window} x {window}, data range {protocol['data_range']:g}"
    )
    return [("Network input", network), ("Paper protocol", scored)]


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


def _complete(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return ""
    return details("Complete config", f"<pre>{html.escape(json.dumps(config, indent=1))}</pre>")
