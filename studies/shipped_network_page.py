"""The page of the shipped network, its pictures and its numbers, from the study's record alone."""

import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from shipped_network_checklist import checklist
from shipped_network_pictures import exams_figure, real_figure, scatter_figure, volumes_figure
from shipped_network_records import (
    COHORTS,
    LEAST_LESION_ML,
    LOW_DICE,
    METHODS,
    NETWORK,
    SOURCES,
    THRESHOLD,
    Record,
    compare,
    demanded,
    read,
    reliability,
    strata_of,
    summary_of,
)
from shipped_network_words import HOW, NOT_FOR, NOT_IN_PHANTOM

from dscgan_jax.figures import ink
from dscgan_jax.files import write_whole
from dscgan_jax.maps import MAPS
from dscgan_jax.pages import parts

DPI = 80


def number(value: float | None, form: str = ".2f") -> str:
    """As it is printed; what is undefined is a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:{form}}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def listed(lines: Sequence[str]) -> str:
    """A list, or that there is nothing in it."""
    return "\n".join(f"- {line}" for line in lines) if lines else "- none"


def everything(exams: Sequence[Record]) -> list[Record]:
    """Of all cohorts."""
    return [one for cohort in COHORTS for one in read(exams, cohort)]


# ------------------------------------------------------------------------------------------------ tables


def checklist_table(results: Record) -> str:
    """What is asked, measured, met; and how many lines are met."""
    demands = checklist(results)
    counts = [sum(one.met is met for one in demands) for met in (True, False, None)]
    words = f"{counts[0]} lines are met, {counts[1]} are not, {counts[2]} are not measured here."
    return f"{words}\n\n{markdown(['what', 'asked', 'measured', 'met'], [one.row for one in demands])}"


def scores_table(exams: Sequence[Record]) -> str:
    """Tmax and the lesion, one row for each source."""
    head = ["", "exams", "Tmax MAE, s", "over the null's", "over the best constant's", "r"]
    head += ["Dice pooled", "… in the true brain", "volume bias, mL", "volume r", f"Dice < {LOW_DICE:g}"]
    rows = []
    for source, title in SOURCES.items():
        if found := summary_of(exams, source):
            times = [found.mae["tmax"], found.over_null["tmax"], found.over_constant["tmax"], found.r["tmax"]]
            lesion = [number(found.dice, ".3f"), number(found.dice_inside, ".3f"), number(found.volume_bias, "+.1f")]
            lesion += [number(found.volume_r, ".3f"), number(100 * found.low, ".0f") + " %"]
            rows.append([title, str(found.exams), *map(number, times), *lesion])
    return markdown(head, rows)


def maps_table(exams: Sequence[Record]) -> str:
    """Every map: MAE over the null's, and r."""
    found = {title: summary_of(exams, source) for source, title in SOURCES.items()}
    rows = [
        [title, *(f"{number(one.over_null[name])} ({number(one.r.get(name))})" for name in one.over_null)]
        for title, one in found.items()
        if one
    ]
    names = next((list(one.over_null) for one in found.values() if one), [])
    return markdown(["MAE over the null's (r)", *(MAPS[name].title for name in names)], rows)


def refusals_of(exams: Sequence[Record], cohort: str) -> str:
    """Exams that the program does not take, and sources that have no maps of one."""
    some = [one for one in exams if one["cohort"] == cohort]
    lines = [f"exam {one['subject']}: {one['refused']}" for one in some if "refused" in one]
    for one in some:
        lines += [f"exam {one['subject']}, {SOURCES[name]}: {why}" for name, why in one.get("refusals", {}).items()]
    return f"Refused: {'; '.join(lines)}" if lines else "No exam was refused by any source."


def comparison_table(groups: dict[str, list[Record]]) -> str:
    """The network beside both methods, on the exams of which all three give maps, and where it does not win."""
    rows = []
    for title, some in groups.items():
        common = [one for one in some if {NETWORK, *METHODS} <= one["scores"].keys()]
        found = {method: one for method in METHODS if (one := compare(common, method))}
        if found:
            first = next(iter(found.values()))
            mae = [number(value) for value in (first.mae[0], *(one.mae[1] for one in found.values()))]
            overlap = [number(value, ".3f") for value in (first.dice[0], *(one.dice[1] for one in found.values()))]
            lost = [f"{what} ({ink.source_title(method)})" for method, one in found.items() for what in one.losses]
            rows.append([title, str(len(common)), *mae, *overlap, ", ".join(lost)])
    names = [ink.source_title(name) for name in (NETWORK, *METHODS)]
    head = ["", "exams", *(f"Tmax MAE, s: {name}" for name in names), *(f"Dice: {name}" for name in names)]
    return markdown([*head, "not better in"], rows)


def losses_of(exams: Sequence[Record]) -> list[str]:
    """Where the network does not win: cohorts and strata, all together and in each cohort."""
    groups = {f"all cohorts, {name}": some for name, some in demanded(everything(exams)).items()}
    for cohort in COHORTS:
        groups |= {f"{cohort}, {name}": some for name, some in demanded(read(exams, cohort)).items()}
    lines = []
    for title, some in groups.items():
        for method in METHODS:
            found = compare(some, method)
            if found and found.losses:
                lines.append(
                    f"{title} ({parts.counted(found.exams, 'exam')}), against {SOURCES[method]}: "
                    f"{' and '.join(found.losses)}"
                )
    return lines


def reliability_text(exams: Sequence[Record]) -> str:
    """Shares of low Dice, and what warnings tell of them."""
    all_exams, head, rows = everything(exams), ["", "exams with a lesion", f"Dice < {LOW_DICE:g}"], []
    for title, some in [(cohort, read(exams, cohort)) for cohort in COHORTS] + [("all", all_exams)]:
        if (found := reliability(some)["any warning"]).exams:
            rows.append([title, str(found.exams), f"{found.low} ({100 * found.low / found.exams:.0f} %)"])
    warning_head = ["warning", "exams that carry it", f"of these Dice < {LOW_DICE:g}"]
    warning_head += [f"share of all Dice < {LOW_DICE:g} that carry it", "of those without it"]
    warnings = [
        [
            name,
            str(found.warned),
            f"{found.warned_low} ({number(100 * found.right, '.0f')} %)",
            f"{number(100 * found.seen, '.0f')} %",
            f"{number(100 * found.silent_low, '.0f')} %",
        ]
        for name, found in reliability(all_exams).items()
    ]
    small = [
        one["scores"][NETWORK]
        for one in all_exams
        if NETWORK in one["scores"] and one["scores"][NETWORK]["real_ml"] < LEAST_LESION_ML
    ]
    found = [one["found_ml"] for one in small]
    words = f"Exams with less than {LEAST_LESION_ML:g} mL of true Tmax > {THRESHOLD:g} s: {len(found)}."
    if found:
        words += f" The network shows {np.mean(found):.1f} mL there in the mean, and {max(found):.1f} mL at most."
    return f"{markdown(head, rows)}\n\n{markdown(warning_head, warnings)}\n\n{words}"


def changes_table(changes: Sequence[Record]) -> str:
    """Mean and worst change of Tmax, and of brain and lesion."""
    rows = []
    for name in dict.fromkeys(name for one in changes for name in one["changes"]):
        found = [one["changes"][name] for one in changes if name in one["changes"]]
        read_ones = [one for one in found if one.get("change") is not None]
        values = [one["change"] for one in read_ones]
        moved = [one["after_ml"] - one["before_ml"] for one in read_ones]
        cells = ["–"] * 4
        if values:
            kept = min(one["kept"] for one in read_ones)
            cells = [f"{np.mean(values):.3f}", f"{max(values):.3f}", f"{100 * kept:.1f}"]
            cells.append(f"{max(moved, key=abs):+.1f}")
        rows.append([name, f"< {found[0]['asked']:g}", *cells, str(len(found) - len(values))])
    head = ["the exam", "asked, s", "mean change of Tmax, s", "worst exam, s", "brain kept, worst exam, %"]
    return markdown([*head, "largest change of the lesion, mL", "refused"], rows)


def real_table(real: Record) -> str:
    """Agreement of network and parametric fit with what is measured."""
    low, high = real["first_pass_seconds"]
    titles = {
        "ttp": "network's TTP – time of the lowest signal",
        "ttp_first_pass": f"… voxels whose lowest signal lies in {low:g}–{high:g} s",
        "fit_ttp": "parametric fit's TTP – time of the lowest signal",
        "fit_ttp_first_pass": "… the same voxels",
        "tmax": "network's Tmax – Tmax of the parametric fit",
    }
    rows = [
        [
            title,
            str(real[name]["voxels"]),
            number(real[name]["r"], ".3f"),
            number(real[name]["centred_mae"]),
            number(real[name]["mean_difference"], "+.2f"),
        ]
        for name, title in titles.items()
    ]
    return markdown(["", "voxels", "r", "centred MAE, s", "mean difference, s"], rows)


def augmented(config: Record) -> str:
    """What multiplied the slices (`training.augment`)."""
    cropped = " cropped," if config["train"].get("crop") else ""
    off = "" if config.get("model", {}).get("arterial_input") else ", bolus found a frame off"
    others = (
        ", other exams made of each (turned, scaled, another dose, a slower injection, all times longer or shorter)"
    )
    more = others if config["train"].get("augment_more") else ""
    return f"mirrored,{cropped} noise, spoilt frames, scans that stop{off}{more}"


def training_list(network: Record) -> str:
    """How it was trained, from its weights."""
    config, software = network["config"], network["software"]
    train, loss, phantom = config["train"], config["loss"], config["phantom"]
    seen, beside = network["step"] * train["batch_size"], phantom["drawn_beside"]
    facts = {
        "steps": f"{network['step']:,} of {train['batch_size']} slices: {seen:,} slices"
        + (f", of at most {beside:,} exams simulated for it" if beside else ""),
        "learning rate": f"{train['learning_rate']:g}, decay {train['decay']}",
        "objective": f"{loss['objective']}, weight outside the brain {loss['outside_weight']:g}",
        "augmentation": augmented(config) if train["augment"] else "none",
        "seed": str(config["seed"]),
        "software": ", ".join(f"{name} {version}" for name, version in software.items() if version),
    }
    return listed([f"{name}: {value}" for name, value in facts.items()])


def card_sections(text: str, names: Sequence[str]) -> str:
    """Some sections of the model card, one level below."""
    found = dict(part.partition("\n")[::2] for part in text.split("\n## ")[1:])
    return "\n\n".join(f"### {name}\n\n{found[name].strip()}" for name in names if name in found)


def seconds_line(exams: Sequence[Record]) -> str:
    """What an exam takes."""
    seconds = [one["seconds"] for one in everything(exams)]
    names = dict.fromkeys(name for one in seconds for name in one)
    means = {name: np.mean([one[name] for one in seconds if name in one]) for name in names}
    return ", ".join(f"{name} {value:.1f} s" for name, value in means.items())


# ------------------------------------------------------------------------------------------------ the page


def folded(summary: str, text: str) -> str:
    """Text that opens at a click."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def cohort_section(exams: Sequence[Record], cohort: str, picture: str) -> str:
    """Scores, refusals, pictures and strata of a cohort."""
    some = read(exams, cohort)
    strata = comparison_table(strata_of(some))
    return "\n\n".join(
        [
            f"### Cohort {cohort}: {parts.counted(len(some), 'exam')}",
            scores_table(some),
            maps_table(some),
            refusals_of(exams, cohort),
            picture,
            folded(f"Strata of the cohort {cohort}", strata),
        ]
    )


def page(results: Record, pictures: Callable[[str, str], str]) -> str:
    """Markdown; `pictures` gives the link of a picture by its name and description, empty where there is none."""
    run, exams = results["run"], results["exams"]
    network, study = run["network"], run["study"]
    software = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value and name != "git")
    records = [*exams, *results["changes"], *([results["real"]] if results["real"] else [])]
    commits = sorted({one["git"] for one in records if one.get("git")})
    blocks = [
        f"# The network `{network['name']}`: what it was shown to do, and what not",
        f"{parts.RESEARCH_ONLY} This page is about the network {network['in_words']}. "
        "`python studies/shipped_network.py --page=docs/shipped_network.md` makes it; written by hand are the limits "
        "and the definitions alone, every number comes from `benchmarks/shipped_network.json`.",
        "## Must reach",
        checklist_table(results),
        "## What it must not be used for",
        NOT_FOR,
        "What the simulated exams do not contain, so that the network has never seen it:",
        NOT_IN_PHANTOM,
        f"No value beyond these comes out of it: {limits_of(network)}.",
        "## How it was trained",
        training_list(network),
        card_sections(network["card"], ["The network", "Training exams"]),
        "## Scores on simulated exams",
        HOW,
        pictures("volumes", "Volume of Tmax > 6 s, found minus true, over the true one"),
        *(
            cohort_section(exams, one, pictures(one, f"Tmax of exams of the cohort {one}"))
            for one in COHORTS
            if read(exams, one)
        ),
        "## Against the parametric fit and oSVD",
        comparison_table(demanded(everything(exams))),
        "Where the network does not win:",
        listed(losses_of(exams)),
        "## Can one see it coming?",
        reliability_text(exams),
        "## The same exam in another form",
        f"{parts.counted(len(results['changes']), 'exam')}, acute and chronic; changes over the brain that both have.",
        changes_table(results["changes"]),
        *(real_section(results["real"], pictures) if results["real"] else []),
        "## How it was run",
        f"Seed {study['seed']}, phantom {study['phantom']}, acute and chronic exams of {study['size']} x "
        f"{study['size']} pixels; {software}, commit {' and '.join(commits) or 'unknown'}; "
        f"{run['hardware']['device']}. An exam takes: {seconds_line(exams)}.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def limits_of(network: Record) -> str:
    """Highest values of the maps."""
    return ", ".join(
        f"{MAPS[name].title} {low:.3g}–{high:.3g} {MAPS[name].unit}" for name, (low, high) in network["limits"].items()
    )


def real_section(real: Record, pictures: Callable[[str, str], str]) -> list[str]:
    """The real exam."""
    x, y, z, frames = real["shape"]
    warned = "; ".join(real["findings"]) or "none"
    return [
        "## A real exam",
        f"`{real['name']}`: {x} x {y} x {z}, {frames} frames of {real['frame_seconds']:g} s, a child with moyamoya "
        "disease (Huang, Lee and Liu, Scientific Reports 2021). The truth is not known. The network's brain has "
        f"{real['brain_voxels']:,} voxels; compared is where the parametric fit has a value too. Warnings: {warned}.",
        real_table(real),
        pictures("real", "Real exam: the network's maps above, those of the parametric fit below"),
        pictures("real_voxels", "Real exam, voxel by voxel"),
    ]


def figures_of(results: Record) -> dict[str, Figure]:
    """{name: picture}."""
    exams, real = results["exams"], results["real"]
    found = {cohort: exams_figure(read(exams, cohort), cohort) for cohort in COHORTS}
    found["volumes"] = volumes_figure(everything(exams)) if everything(exams) else None
    found["real"] = real_figure(real["picture"]) if real else None
    found["real_voxels"] = scatter_figure(real["picture"]) if real else None
    return {name: figure for name, figure in found.items() if figure is not None}


def write(results: Record, path: pathlib.Path) -> None:
    """The page, its pictures beside it, the numbers in benchmarks/ below it."""
    figures = figures_of(results)
    for name, figure in figures.items():
        ink.save_png(figure, path.parent / f"{path.stem}_{name}.png", dpi=DPI)

    def picture(name: str, description: str) -> str:
        return f"![{description}]({path.stem}_{name}.png)" if name in figures else ""

    (path.parent / "benchmarks").mkdir(parents=True, exist_ok=True)
    write_whole(path.parent / "benchmarks" / f"{path.stem}.json", json.dumps(results) + "\n")
    write_whole(path, page(results, picture))


def printed(results: Record) -> str:
    """What the command prints: the list of demands, and the scores of each cohort."""
    exams = results["exams"]
    blocks = [results["run"]["network"]["in_words"], checklist_table(results)]
    for cohort in COHORTS:
        if some := read(exams, cohort):
            blocks += [f"{cohort}, {parts.counted(len(some), 'exam')}", scores_table(some), maps_table(some)]
    return "\n\n".join(blocks)
