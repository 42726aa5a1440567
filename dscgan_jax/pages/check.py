"""The page of a check: which exams of a folder are usable, what is doubtful about them, and what to do."""

import dataclasses
import datetime
import html
import math
from collections import Counter
from collections.abc import Callable, Sequence

from dscgan_jax.data.checks.folder import CheckRow, ExamDetails
from dscgan_jax.findings import NAMES, Finding
from dscgan_jax.pages import parts, sortable
from dscgan_jax.pages.parts import UNDEFINED, bullets, counted, section

KINDS = {"failed": "not usable", "warnings": "with warnings", "unremarkable": "unremarkable"}
NOTE = """<p>Exams that cannot be used come first, then those with warnings. A click on a heading sorts. The first pass
drop is that of the brain's mean signal, S0 / noise that of a single voxel in one frame. Saturated: share of the brain's
values that are the largest of the series.</p>"""
MOTION = "motion"  # name of the finding whose value is in mm


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of numbers: heading, value of an exam, format, and whether a narrow screen leaves it out."""

    title: str
    value: Callable[[ExamDetails], float | None]
    form: str
    minor: bool = False


def _motion_mm(details: ExamDetails) -> float | None:
    """0 where the head lay still, None where it could not be looked for."""
    found = [one.value for one in details.findings if one.name == MOTION]
    if any(value is None for value in found):
        return None
    return max((value for value in found if isinstance(value, float)), default=0.0)


COLUMNS = (
    _Column("frames", lambda exam: exam.frames, ".0f"),
    _Column("TR [s]", lambda exam: exam.frame_seconds, ".3g"),
    _Column("TE [ms]", lambda exam: 1000 * exam.echo_seconds if math.isfinite(exam.echo_seconds) else None, ".0f"),
    _Column("baseline frames", lambda exam: exam.timing.baseline_end - exam.timing.baseline_begin, ".0f"),
    _Column("bolus peak [s]", lambda exam: exam.timing.peak_frame * exam.frame_seconds, ".1f"),
    _Column("first pass drop [%]", lambda exam: 100 * exam.signal_drop, ".0f"),
    _Column("S0 / noise", lambda exam: exam.baseline_over_noise, ".0f"),
    _Column("motion [mm]", _motion_mm, ".1f"),
    _Column("saturated [%]", lambda exam: 100 * exam.saturated, ".2g", True),
    _Column("brain [mL]", lambda exam: exam.brain_ml, ".0f", True),
)


def page(rows: Sequence[CheckRow], source: str, offered: Callable[[Finding], Finding] = lambda finding: finding) -> str:
    """The page as HTML; whatever came from files is escaped.

    Args:
      rows: of all exams.
      source: their folder.
      offered: a finding with the flag that is of use to the reader, or none.
    """
    ordered = sorted(rows, key=lambda row: (_rank(row), row.subject))
    head = [
        sortable.heading("exam", "words"),
        sortable.heading("status, findings and what to do", "words"),
        sortable.heading("split", "words"),
        *(sortable.heading(column.title, "number") for column in COLUMNS),
        sortable.heading("matrix", "words"),
        sortable.heading("field of view [mm]", "words"),
        sortable.heading("maps", "words"),
        sortable.heading("mask", "words"),
    ]
    sections = [
        sortable.style(),
        section("In brief", bullets(_brief(rows)), kind="brief"),
        section(
            "Exams",
            NOTE,
            sortable.filters(KINDS, "not usable first"),
            sortable.table(head, (_row(row, offered) for row in ordered), pictures=False),
        ),
        sortable.script(),
    ]
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return parts.page(counted(len(rows), "exam"), f"check of {source}", created, sections, wide=True)


def _rank(row: CheckRow) -> int:
    return ("failed", "warnings", "unremarkable").index(_kind(row))


def _kind(row: CheckRow) -> str:
    if row.details is None:
        return "failed"
    return "warnings" if any(one.severity != "note" for one in row.details.findings) else "unremarkable"


def _brief(rows: Sequence[CheckRow]) -> list[str]:
    usable = sum(row.usable for row in rows)
    lines = [f"{usable} of {counted(len(rows), 'exam')} can be used."]
    if usable < len(rows):
        lines.append("Correct the others as it says beside them, or set them to exclude in participants.tsv.")
    counts = Counter(
        name
        for row in rows
        if row.details is not None
        for name in {one.name for one in row.details.findings if one.severity != "note"}
    )
    lines += [f"Warning {name}: {NAMES[name]} ({counted(n, 'exam')})." for name, n in counts.most_common()]
    lengths = Counter(f"{row.details.frame_seconds:.3g}" for row in rows if row.details is not None)
    if len(lengths) > 1:
        listed = ", ".join(f"{length} s ({counted(n, 'exam')})" for length, n in lengths.most_common())
        lines.append(f"Repetition times differ: {listed}.")
    return lines


def _row(row: CheckRow, offered: Callable[[Finding], Finding]) -> str:
    split = html.escape(row.split or "")
    cells = [
        f'<th scope="row">{html.escape(row.subject)}</th>',
        _words(row, offered),
        f'<td class="minor split" data-value="{split}">{split or UNDEFINED}</td>',
        *(_number(column, row.details) for column in COLUMNS),
        *_texts(row.details),
    ]
    return sortable.row([_kind(row)], cells)


def _number(column: _Column, details: ExamDetails | None) -> str:
    value = None if details is None else column.value(details)
    stored = "" if value is None else f"{value:.6g}"
    return sortable.cell(column.title, parts.number(value, column.form), stored, minor=column.minor)


def _texts(details: ExamDetails | None) -> list[str]:
    """Matrix, field of view, maps and mask."""
    texts = ("", "", "", "")
    if details is not None:
        field = " x ".join(f"{size:.0f}" for size in details.field_mm)
        texts = (" x ".join(map(str, details.shape)), field, " ".join(details.maps), details.mask_source)
    names = ("matrix", "field of view", "maps", "mask")
    return [sortable.cell(name, text or UNDEFINED, text, minor=True) for name, text in zip(names, texts, strict=True)]


def _words(row: CheckRow, offered: Callable[[Finding], Finding]) -> str:
    """Status and findings in words, sorted by how bad they are."""
    found = [] if row.details is None else [offered(one) for one in row.details.findings]
    serious = [one for one in found if one.severity != "note"]
    tags = [sortable.tag("failed", "not usable")] if row.details is None else []
    tags += [sortable.tag("warning", one.name, NAMES[one.name]) for one in serious]
    lines = [row.reason] if row.reason else [one.line().partition(": ")[2] for one in found]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<td class="words" data-value="{_rank(row)}{99 - len(serious):02d}">{"".join(tags)}{text}</td>'
