"""The validation study: conventional maps against known truth, on curves and on whole phantom exams.

    python studies/validation.py                         # rewrites docs/validation.md, its pictures and the JSON
    python studies/validation.py --quick [--output=DIR]  # to see that it runs; the numbers mean little
    python studies/validation.py --again=FILE.json       # new tables and pictures from the numbers of a run

With `--quick` tables are printed, and written only where `--output` says so. The prose of docs/validation.md is written
by hand; the text between its comment markers comes from here.
"""

import json
import pathlib
import platform
from typing import Any

import jax
import numpy as np
import scipy
from absl import app, flags
from leakage import checklist_rows, study_leakage
from leakage import tables_of as leakage_tables_of
from validation_curves import study_contrast, study_curves, study_demands, study_neighbours, study_offset
from validation_exams import study_boluses, study_exams, study_noise, study_stacks
from validation_page import curves_figure, lesion_figure, offset_figure, tables_of
from validation_records import Record

from dscgan_jax.figures import ink
from dscgan_jax.phantom.exam import PHANTOM_VERSION

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"

_QUICK = flags.DEFINE_bool("quick", False, "Fewer voxels and levels, three small subjects.")
_SUBJECTS = flags.DEFINE_integer("subjects", 40, "Acute subjects.")
_MORE = flags.DEFINE_integer("more_subjects", 8, "Moving and chronic subjects, each.")
_BOLUSES = flags.DEFINE_integer("bolus_subjects", 4, "Acute subjects with boluses of three widths.")
_NOISE = flags.DEFINE_integer("noise_subjects", 3, "Acute subjects at three ratios of signal to noise.")
_STACKS = flags.DEFINE_integer("stacks", 20, "Exams whose AIF is looked for in stacks of a few slices.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of curves and subjects.")
_OUTPUT = flags.DEFINE_string("output", "", "Folder of the results instead of docs/.")
_AGAIN = flags.DEFINE_string("again", "", "JSON of a run, whose tables and pictures are made again.")


# ------------------------------------------------------------------------------------------------ the command


def finite(value: Any) -> Any:
    """The same with six digits, and None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def study(quick: bool, seed: int) -> Record:
    """All numbers."""
    voxels, every, size = (2048, 3, 64) if quick else (16384, 1, 128)
    counts = [flag.value for flag in (_SUBJECTS, _MORE, _BOLUSES, _NOISE, _STACKS)]
    subjects, more, boluses, noise, stacks = map(min, counts, (3, 1, 1, 1, 2)) if quick else counts
    command = "python studies/validation.py" + (" --quick" if quick else f" --subjects={subjects} --seed={seed}")
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    cohorts = study_exams(subjects, more, seed, size)
    return finite(
        {
            "run": {"command": command, "voxels": voxels, "seed": seed, "phantom": PHANTOM_VERSION} | versions,
            "curves": study_curves(voxels, seed, every),
            "offset": study_offset(voxels, seed, every),
            "demands": study_demands(voxels, seed),
            "contrast": study_contrast(voxels // 8, seed),
            "neighbours": study_neighbours(voxels, seed),
            **cohorts,
            "boluses": study_boluses(cohorts["acute"], boluses, seed, size),
            "noise": study_noise(cohorts["acute"], noise, seed, size),
            "stacks": study_stacks(stacks, seed, size),
            "leakage": study_leakage(max(more // 2, 1), seed, size),
        }
    )


def all_tables(results: Record) -> dict[str, str]:
    """Those of `validation_page`, and those of leakage where the numbers hold any."""
    tables = tables_of(results)
    if "leakage" in results:
        tables |= leakage_tables_of(results["leakage"])
        tables["checklist"] += "".join(f"\n| {' | '.join(row)} |" for row in checklist_rows(results["leakage"]))
    return tables


def write(results: Record, folder: pathlib.Path) -> None:
    """Page, pictures and JSON; the prose is that of docs/validation.md."""
    text = (DOCS / "validation.md").read_text(encoding="utf-8")
    for name, table in all_tables(results).items():
        before, rest = text.split(f"<!-- {name}: begin -->")
        text = f"{before}<!-- {name}: begin -->\n{table}\n<!-- {name}: end -->{rest.split(f'<!-- {name}: end -->')[1]}"
    (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
    (folder / "validation.md").write_text(text, encoding="utf-8")
    (folder / "benchmarks" / "validation.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    for name, figure in (
        ("curves", curves_figure(results["curves"])),
        ("tmax", offset_figure(results["offset"])),
        ("lesion", lesion_figure(results["acute"])),
    ):
        ink.save_png(figure, folder / f"validation_{name}.png", dpi=80)


def main(_) -> None:
    if _AGAIN.value:
        results = json.loads(pathlib.Path(_AGAIN.value).read_text(encoding="utf-8"))
    else:
        results = study(_QUICK.value, _SEED.value)
    if _OUTPUT.value or not _QUICK.value:
        write(results, pathlib.Path(_OUTPUT.value or DOCS))
        print(all_tables(results)["checklist"])
    else:
        print(*(f"{name}\n\n{table}\n" for name, table in all_tables(results).items()), sep="\n")


if __name__ == "__main__":
    app.run(main)
