"""Agreement of the volumes of hypoperfused tissue, and of what follows from them."""

from dscgan_jax.evaluation.agreement import Eligibility, Estimate
from dscgan_jax.evaluation.comparison import Hypoperfused
from dscgan_jax.pages.blocks import Block, Bullets, Heading, Table, Text
from dscgan_jax.pages.parts import ANCHORS, UNDEFINED, number
from dscgan_jax.pages.study.record import TITLES, StudyRecord

HEAD = (
    "method",
    "Dice, all voxels",
    "Dice, mean",
    "r",
    "bias [mL]",
    "limits [mL]",
    "ICC(2,1)",
    "concordance [95 %]",
    "DEFUSE 3: eligible, κ [95 %]",
    "EXTEND: eligible, κ [95 %]",
)


def agreement_blocks(record: StudyRecord) -> list[Block]:
    """A table of each cohort, beside the numbers of other groups."""
    tables = []
    for cohort in ("acute", "chronic"):
        found = [(one, one.hypoperfused) for one in [*record.of(cohort), *record.nulls.get(cohort, ())]]
        lines = [_agreement_line(one.title, overlap) for one, overlap in found if overlap]
        if lines:
            tables.append(Table(TITLES[cohort], HEAD, lines))
    if not tables:
        return []
    note = (
        "Volumes of Tmax > 6 s. Eligibility takes the reference's core for every method, as MR takes it from "
        "diffusion; the numbers are of patients eligible by the method and by the reference."
    )
    beside = Bullets([f"Other data: {text}" for text in ANCHORS])
    return [Heading("Agreement of hypoperfused volumes"), Text(note), *tables, beside]


def _agreement_line(title: str, found: Hypoperfused) -> list[str]:
    limits = found.volumes.limits
    return [
        title,
        number(found.dice_pooled),
        number(found.dice_mean),
        number(found.pearson_r.value, ".3f"),
        number(found.volumes.bias.value, "+.1f"),
        f"{limits[0]:+.0f} to {limits[1]:+.0f}" if limits else UNDEFINED,
        number(found.icc.value, ".3f"),
        _with_interval(found.concordance, ".3f"),
        _trial(found.defuse3),
        _trial(found.extend),
    ]


def _with_interval(one: Estimate, form: str = ".2f") -> str:
    interval = f" [{one.interval[0]:{form}}, {one.interval[1]:{form}}]" if one.interval else ""
    return number(one.value, form) + interval


def _trial(found: Eligibility | None) -> str:
    return UNDEFINED if found is None else f"{found.n_first} / {found.n_second}, {_with_interval(found.kappa)}"
