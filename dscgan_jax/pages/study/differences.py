"""Paired differences of methods on the same patients."""

from collections.abc import Sequence

from dscgan_jax.evaluation import comparison
from dscgan_jax.evaluation.comparison import BRAIN_ERROR, Difference
from dscgan_jax.maps import MAPS
from dscgan_jax.pages.blocks import Block, Bullets, Heading, Table, Text
from dscgan_jax.pages.parts import UNDEFINED, number
from dscgan_jax.pages.study.record import OTHERS, PIX2PIX, PIX2PIX_RECOMMENDED, RECOMMENDED, TEMP, StudyRecord

COLUMNS = (BRAIN_ERROR, "scaled_ssim")


def between(record: StudyRecord, cohort: str, first: str, second: str) -> list[Difference]:
    """Two methods on one cohort; nothing where one of them is not there."""
    one, other = record.entry(cohort, first), record.entry(cohort, second)
    if one is None or other is None:
        return []
    return comparison.differences(one, other, COLUMNS)


def architectures(record: StudyRecord) -> list[Difference]:
    """temp-pix2pix against pix2pix, at the paper's settings and the recommended ones."""
    pairs = ((TEMP, PIX2PIX), (RECOMMENDED, PIX2PIX_RECOMMENDED))
    return [one for cohort in ("acute", "chronic") for pair in pairs for one in between(record, cohort, *pair)]


def fine_tuning(record: StudyRecord) -> list[Difference]:
    """Fine-tuned against the same trained on chronic exams alone, and against the acute one as it is."""
    controls = (f"{RECOMMENDED}-alone", f"{RECOMMENDED}-unchanged")
    return [one for control in controls for one in between(record, "chronic", RECOMMENDED, control)]


def against_recommended(
    record: StudyRecord, chosen: Sequence[str], columns: Sequence[str] = (BRAIN_ERROR,)
) -> list[Difference]:
    """Every method of some parts against the one that it is compared with, most of all the recommended temp-pix2pix."""
    return [
        one
        for cohort in ("acute", "chronic")
        for entry in record.of(cohort, chosen)
        if entry.method != RECOMMENDED
        for one in between(record, cohort, entry.method, entry.against or RECOMMENDED)
        if one.column in columns
    ]


def all_differences(record: StudyRecord) -> list[Difference]:
    """Every paired difference of the page."""
    settings = [one for cohort in ("acute", "chronic") for one in between(record, cohort, RECOMMENDED, TEMP)]
    others = against_recommended(record, OTHERS)
    changes = against_recommended(record, ("volume", "ablations"), COLUMNS)
    return [*architectures(record), *settings, *fine_tuning(record), *others, *changes]


def difference_blocks(record: StudyRecord) -> list[Block]:
    """A table of each kind of comparison; what each ablation asks stands before theirs."""
    recommended = [one for cohort in ("acute", "chronic") for one in between(record, cohort, RECOMMENDED, TEMP)]
    ablations = against_recommended(record, ("ablations",), COLUMNS)
    groups = (
        ("temp-pix2pix against pix2pix", architectures(record), False),
        ("Recommended settings against the paper's", recommended, True),
        ("Fine-tuning against its controls", fine_tuning(record), False),
        ("Other learners and conventional maps", against_recommended(record, OTHERS), False),
        ("Beyond single slices", against_recommended(record, ("volume",), COLUMNS), False),
        ("Ablations: one setting changed", ablations, False),
    )
    tables = [_difference_table(title, found, folded) for title, found, folded in groups if found]
    if not tables:
        return []
    note = (
        "Mean over the same patients, with its 95 % bootstrap interval. Of MAE a negative number says that the first "
        "is better, of SSIM a positive one. p is that of a two-sided Wilcoxon signed-rank test, uncorrected. One "
        "training each: the interval is over patients, not over seeds."
    )
    titles = dict.fromkeys(one.first for one in ablations if one.first in record.asked)
    asked = [f"{title}: {record.asked[title]}" for title in titles]
    return [Heading("Paired differences"), Text(note), *tables, *([Bullets(asked)] if asked else [])]


def _difference_table(title: str, found: Sequence[Difference], folded: bool) -> Table:
    lines = []
    for one in found:
        mean = one.found.mean
        is_error = one.column == BRAIN_ERROR
        digits = 2 if is_error else 3
        what = f"{MAPS[one.map_name].title}, " + (f"MAE [{MAPS[one.map_name].unit}]" if is_error else "slice SSIM")
        interval = f"{mean.interval[0]:+.{digits}f} to {mean.interval[1]:+.{digits}f}" if mean.interval else UNDEFINED
        lines.append(
            [
                f"{one.first} - {one.second}",
                one.cohort,
                what,
                number(mean.value, f"+.{digits}f"),
                interval,
                str(mean.n),
                number(one.found.p_value, ".1g"),
            ]
        )
    return Table(title, ("first - second", "cohort", "what", "mean", "95 % interval", "patients", "p"), lines, folded)
