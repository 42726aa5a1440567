"""The page of a study, from what was found."""

from collections.abc import Sequence

from dscgan_jax.evaluation import comparison
from dscgan_jax.evaluation.comparison import BRAIN_ERROR, Difference, Entry
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts
from dscgan_jax.pages.blocks import Block, Bullets, Heading, Table, Text, to_html
from dscgan_jax.pages.parts import UNDEFINED, number
from dscgan_jax.pages.study.agreement import agreement_blocks
from dscgan_jax.pages.study.checklist import checklist
from dscgan_jax.pages.study.cohorts import cohort_blocks
from dscgan_jax.pages.study.differences import architectures, difference_blocks, fine_tuning
from dscgan_jax.pages.study.record import TITLES, StudyRecord

PHANTOM_NOTE = (
    "A phantom is no patient: these exams follow from the tracer kinetics that the conventional fit assumes too. The "
    "table says what the methods make of them, not what they would find in a clinic."
)
NOTES = {  # what a reader must know of a scale
    scale: (
        "Sizes are not the paper's: 64 x 64 pixels, networks of width 4 or 8, few steps. For these all networks, those "
        "with the paper's settings too, have a learning rate of 0.001 that falls along a cosine (0.0001 in the paper).",
        "At 64 x 64 pixels hardly a voxel is all artery: conventional maps with an automatic AIF do worse than they "
        "would on exams of full size (docs/validation.md); those with the true AIF stand beside them.",
        "That the recommended settings leave the discriminator out was decided by ablations on the same test patients "
        "at the scale small: their margin over these is a little too good.",
    )
    for scale in ("small", "tiny")
}


def html_page(record: StudyRecord, content: Sequence[Block]) -> str:
    """The page as one HTML file, from its blocks."""
    title = "The paper's study" + (" on phantom exams" if record.phantom else "")
    sections = to_html(content)
    subtitle = f"scale {record.scale}, " + ", ".join(f"{n} {cohort} patients" for cohort, n in record.patients.items())
    return parts.page(
        title, subtitle, record.created, [*sections, parts.section("How to read the numbers", parts.GLOSSARY)]
    )


def blocks(record: StudyRecord) -> list[Block]:
    """The page's content."""
    content: list[Block] = [Heading("In brief"), Bullets(in_brief(record), "brief")]
    doubts = [parts.RESEARCH_ONLY, *([PHANTOM_NOTE] if record.phantom else []), *NOTES.get(record.scale, ())]
    if record.missing:
        doubts.append(f"Not done yet: {parts.listed(record.missing, 8)}.")
    content.append(Bullets(doubts, "warnings"))
    if record.phantom and record.scale != "tiny":
        content += [Heading("Targets"), Table("", ("what", "target", "measured", "met"), checklist(record))]
    for cohort in ("acute", "chronic"):
        if record.of(cohort):
            content += cohort_blocks(record, cohort)
    content += difference_blocks(record)
    content += agreement_blocks(record)
    content += _difficult(record)
    if record.examples:
        content += [Heading("Example and worst patients"), *record.examples]
    content += _cost(record)
    content += [Heading("How it was made"), Bullets([f"{name}: {text}" for name, text in record.facts])]
    return content


def in_brief(record: StudyRecord) -> list[str]:
    """What the study says, in sentences that follow from its numbers."""
    said = []
    for cohort in ("acute", "chronic"):
        best = _best(record, cohort)
        if best:
            said.append(best)
    for difference in architectures(record):
        if difference.column == BRAIN_ERROR and difference.map_name in ("tmax", "ttp"):
            said.append(_sentence(difference))
    said += [_sentence(one) for one in fine_tuning(record) if one.column == BRAIN_ERROR]
    return said or ["Nothing has been scored yet."]


def _best(record: StudyRecord, cohort: str) -> str:
    """The method with the lowest Tmax error among networks, beside the null and the conventional fit."""
    chosen = ("paper", "recommended", "comparators", "conventional")
    found = [one for one in record.of(cohort, chosen) if "tmax" in one.maps and not one.refused]
    if not found:
        return ""

    def error(one: Entry) -> float:
        return one.statistics("tmax", BRAIN_ERROR)["mean"]

    best = min(found, key=error)
    dice = best.hypoperfused
    share = comparison.over_null(best, "tmax", record.median(cohort))
    of_how_many = f"of {len(found)} methods " if len(found) > 1 else ""
    return (
        f"{TITLES[cohort]}: the lowest Tmax error {of_how_many}is that of {best.title}, {error(best):.2f} s, "
        f"{number(share)} of the training median's; Dice of Tmax > 6 s over all voxels "
        f"{number(dice.dice_pooled if dice else None)}."
    )


def _sentence(one: Difference) -> str:
    mean, unit = one.found.mean, MAPS[one.map_name].unit
    interval = f" [{mean.interval[0]:+.2f}, {mean.interval[1]:+.2f}]" if mean.interval else ""
    return (
        f"{TITLES[one.cohort]}, {MAPS[one.map_name].title}: MAE of {one.first} minus that of {one.second}: "
        f"{mean.value or 0:+.2f} {unit}{interval} ({mean.n} patients)."
    )


def _difficult(record: StudyRecord) -> list[Block]:
    """How each method degrades, and which refuse."""
    entries = [one for one in record.of("difficult") if "tmax" in one.maps or one.refused]
    if not entries or not record.kinds:
        return []
    head = ("method", *(f"{kind.replace('_', ' ')} ({len(who)})" for kind, who in record.kinds.items()))
    shown = [*entries, *record.nulls.get("difficult", ())]
    lines = [[one.title, *(_kind_cell(one, who) for who in record.kinds.values())] for one in shown]
    note = (
        "Phantom exams with strong motion, without a usable artery, that end too early, or with very little contrast, "
        "as the paper's figure 7B. MAE of Tmax in the brain [s]; Dice of Tmax > 6 s, mean; how many are refused."
    )
    return [Heading(TITLES["difficult"]), Text(note), Table("", head, lines)]


def _kind_cell(entry: Entry, patients: Sequence[str]) -> str:
    rows = [row for row in entry.of_map("tmax") if row["subject"] in patients]
    refused = sum(who in entry.refused for who in patients)
    errors = [row[BRAIN_ERROR] for row in rows]
    dice = [row["dice_over_6s"] for row in rows if row["dice_over_6s"] is not None]
    cells = [f"{sum(errors) / len(errors):.2f}" if errors else "", f"{sum(dice) / len(dice):.2f}" if dice else ""]
    return "; ".join([*filter(None, cells), *([f"{refused} refused"] if refused else [])]) or UNDEFINED


def _cost(record: StudyRecord) -> list[Block]:
    lines = [
        [
            f"{one.title}, {one.cohort}",
            str(len(one.maps)),
            ("> " if one.resumed else "") + number(one.hours),
            number(one.steps_per_second),
        ]
        for one in record.entries
        if one.hours is not None
    ]
    if not lines:
        return []
    total = sum(one.hours for one in record.entries if one.hours is not None)
    head = ("method", "maps", "hours, all its jobs", "steps/s, first job")
    note = f"{total:.1f} hours of jobs in all, several of them at a time; compiling, validation and scoring included."
    return [Heading("What it cost"), Text(note), Table("", head, lines)]
