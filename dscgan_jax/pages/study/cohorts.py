"""One cohort: the paper's bars, its patients, and a table of all methods for each map."""

from dscgan_jax.evaluation import comparison
from dscgan_jax.evaluation.comparison import BRAIN_ERROR, Entry
from dscgan_jax.figures import ink
from dscgan_jax.figures import study as figures
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.pages.blocks import Block, Heading, Picture, Table, Text
from dscgan_jax.pages.parts import number, spread
from dscgan_jax.pages.study.record import PIX2PIX, PIX2PIX_RECOMMENDED, RECOMMENDED, TEMP, TITLES, StudyRecord
from dscgan_jax.pages.tables import FREE_SCALE

SCALED_NOTE = (
    "Whole-slice metrics in [-1, 1] are left out where the ranges are other ones: of networks that keep those of the "
    "acute exams, and of TTP that counts from elsewhere than the first frame."
)


def cohort_blocks(record: StudyRecord, cohort: str) -> list[Block]:
    """The paper's bars, scatter over patients, and tables of all methods."""
    content: list[Block] = [Heading(TITLES[cohort])]
    shown = [one for name in (TEMP, PIX2PIX, RECOMMENDED, PIX2PIX_RECOMMENDED) if (one := record.entry(cohort, name))]
    if shown:
        values = {
            title: {one.title: _spreads(one, column) for one in shown}
            for column, title in comparison.PAPER_METRICS.items()
        }
        caption = (
            "Mean and SD over patients of whole slices in [-1, 1], as in the paper's figure "
            f"{4 if cohort == 'acute' else 6}. Whole slices hold much background: the null's SSIM is in the tables."
        )
        content.append(Picture(f"{cohort}_bars", ink.to_png(figures.bars_figure(values)), caption))
    first, second = record.entry(cohort, PIX2PIX), record.entry(cohort, TEMP)
    if first and second and set(first.maps) & set(second.maps):
        content.append(_scatter(cohort, first, second))
    scored = [name for name in MAP_NAMES if any(name in one.maps for one in record.of(cohort))]
    content += [_map_table(record, cohort, name) for name in sorted(scored, key=lambda name: name != "tmax")]
    printed = _printed(record, cohort)
    return [*content, Text(SCALED_NOTE), *([printed] if printed else [])]


def _spreads(entry: Entry, column: str) -> dict[str, figures.Spread]:
    stats = {name: entry.statistics(name, column) for name in entry.maps}
    return {name: figures.Spread(stat["mean"], stat["sd"]) for name, stat in stats.items() if stat["n"]}


def _scatter(cohort: str, first: Entry, second: Entry) -> Picture:
    pairs = {}
    for name in [name for name in MAP_NAMES if name in first.maps and name in second.maps]:
        one, other = first.by_patient(name, BRAIN_ERROR), second.by_patient(name, BRAIN_ERROR)
        same = sorted(one.keys() & other.keys())
        pairs[name] = ([one[who] for who in same], [other[who] for who in same])
    figure = figures.scatter_figure(pairs, "MAE of pix2pix", "MAE of temp-pix2pix")
    return Picture(
        f"{cohort}_patients",
        ink.to_png(figure),
        "Each point is a patient, the error within the brain; below the line temp-pix2pix is better.",
    )


def _map_table(record: StudyRecord, cohort: str, name: str) -> Table:
    spec, null = MAPS[name], record.median(cohort)
    head = ["method", "patients", f"MAE [{spec.unit}]", "÷ null", "bias", "r", "brain SSIM"]
    head += ["MAE after one factor"] if name in FREE_SCALE else []
    head += ["Dice > 6 s, all voxels"] if name == "tmax" else []
    lines = [
        _map_line(one, name, null) for one in [*record.of(cohort), *record.nulls.get(cohort, ())] if name in one.maps
    ]
    return Table(
        f"{spec.title}: {spec.description}", [*head, *comparison.PAPER_METRICS.values()], lines, name != "tmax"
    )


def _map_line(entry: Entry, name: str, null: Entry | None) -> list[str]:
    def stat(column: str) -> dict[str, float | None]:
        return entry.statistics(name, column)

    overlap = entry.hypoperfused if name == "tmax" else None
    return [
        entry.title,
        f"{len(entry.of_map(name))}" + (f" ({len(entry.refused)} refused)" if entry.refused else ""),
        spread(stat(BRAIN_ERROR)),
        number(comparison.over_null(entry, name, null)),
        number(stat("brain_bias")["mean"], "+.2f"),
        number(stat("brain_pearson_r")["mean"]),
        number(stat("brain_ssim")["mean"]),
        *([spread(stat("brain_mae_after_scale"))] if name in FREE_SCALE else []),
        *([number(overlap.dice_pooled if overlap else None)] if name == "tmax" else []),
        number(stat("scaled_mae")["mean"], ".3f"),
        number(stat("scaled_nrmse")["mean"], ".3f"),
        spread(stat("scaled_ssim"), 3),
        number(stat("scaled_psnr")["mean"], ".1f"),
    ]


def _printed(record: StudyRecord, cohort: str) -> Table | None:
    """What the paper prints beside what we measured."""
    lines = []
    for method, printed in comparison.PAPER_SSIM[cohort].items():
        entry = record.entry(cohort, method)
        for name, value in printed.items() if entry else ():
            if entry and name in entry.maps:
                ours = spread(entry.statistics(name, "scaled_ssim"), 3)
                lines.append([f"{entry.title}: {MAPS[name].title}, SSIM", f"{value:g}", ours])
    temp = record.entry(cohort, TEMP)
    if cohort == "acute" and temp and "tmax" in temp.maps:
        ours = spread(temp.statistics("tmax", "scaled_nrmse"), 3)
        lines.append([f"{temp.title}: Tmax, NRMSE", f"{comparison.PAPER_TMAX_NRMSE:g}", ours])
    if not lines:
        return None
    return Table("Beside what the paper prints, of other patients", ("", "paper", "here"), lines)
