"""How right CBV is where vessels leak, and what the correction costs where they do not: a part of the validation study.

python studies/leakage.py [--exams=12] [--size=128]      # prints the tables that docs/validation.md holds

CBV is judged relative to normal white matter, as tumours are: the map's ratio against the true ratio, both to the same
voxels. Its scale is another question (docs/conventional_maps.md).
"""

import argparse
import dataclasses
from typing import Any

import numpy as np
from validation_page import NAMES, markdown

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import overlap_record
from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion import leakage
from dscgan_jax.perfusion.conventional import Settings, invert, measure
from dscgan_jax.phantom.acquisition import REAL
from dscgan_jax.phantom.exam import LESION_TMAX_SECONDS, Phantom, draw_phantom
from dscgan_jax.phantom.tumour import T1_DOMINATES, T2STAR_DOMINATES

Record = dict[str, Any]
METHODS = ("parametric", "osvd", "csvd")
KINDS = {"t1": T1_DOMINATES, "t2star": T2STAR_DOMINATES}
NORMAL_SECONDS = 4.0  # of true Tmax
QUANTITIES = ("cbv", "cbf", "mtt", "voxels", "ncbv")  # of leaking tissue
ASKED_PERCENT = 15.0
MM3_PER_ML = 1000.0


def study_leakage(exams: int, seed: int, size: int) -> Record:
    """Still exams with a tumour, and as many acute and chronic ones, none of which leaks."""
    still = dataclasses.replace(REAL, motion=False)
    found: Record = {"tumour": [], "without": []}
    for number in range(exams):
        for preset, where in (("tumour", "tumour"), (("acute", "chronic")[number % 2], "without")):
            exam = draw_phantom(preset, (seed, number), size=size, imperfections=still)
            found[where].append({"preset": preset, "subject": number} | judge(exam))
    return found


def judge(exam: Phantom) -> Record:
    """Every method under every correction; a refusal is recorded."""
    try:
        measured = measure(exam.series.astype(np.float32), exam.affine, exam.frame_seconds, exam.echo_seconds)
    except InputError as error:
        return {"refused": str(error)}
    runs: Record = {}
    for method in METHODS:
        for model in leakage.MODELS:
            result = invert(measured, Settings(method=method, leakage=model))
            names = [finding.name for finding in result.findings]
            runs[f"{method} {model}"] = scores(exam, result.maps, measured.tissue) | {"findings": names}
    return {"runs": runs}


def scores(exam: Phantom, maps: dict[str, np.ndarray], tissue: np.ndarray) -> Record:
    """CBV of leaking tissue and of all other tissue, CBF and MTT of leaking tissue, Dice of late tissue, sign of K2."""
    leaks = np.zeros(exam.mask.shape, np.uint8) if exam.leakage is None else exam.leakage
    both, pure = exam.mask & tissue, (exam.shares["artery"] < 0.05) & (exam.shares["sinus"] == 0)
    white = both & pure & (leaks == 0) & (exam.shares["white"] > 0.9) & (exam.maps["tmax"] < NORMAL_SECONDS)
    found: Record = {}
    to_white = {name: np.median(exam.maps[name][white]) / np.median(maps[name][white]) for name in ("cbv", "cbf")}
    ratio = {name: maps[name] * to_white.get(name, 1.0) for name in MAPS}
    for kind, label in KINDS.items():
        where = both & pure & (leaks == label)
        if where.any():
            found[kind] = {
                name: 100.0 * float(ratio[name][where].mean() / exam.maps[name][where].mean() - 1.0)
                for name in ("cbv", "cbf", "mtt")
            }
            found[kind]["voxels"] = 100.0 * float(
                np.median(np.abs(ratio["cbv"][where] / exam.maps["cbv"][where] - 1.0))
            )
            if "k2" in maps:
                found[kind]["sign"] = float(((maps["k2"][where] > 0) == (label == T1_DOMINATES)).mean())
            if "ncbv" in maps:
                true = exam.maps["cbv"][where].mean() / np.median(exam.maps["cbv"][white])
                found[kind]["ncbv"] = 100.0 * float(maps["ncbv"][where].mean() / true - 1.0)
    rest = both & (leaks == 0)
    found["rest_mae"] = float(np.abs(ratio["cbv"] - exam.maps["cbv"])[rest].mean())
    late = rest & (exam.maps["tmax"] > LESION_TMAX_SECONDS)
    if late.sum() > MM3_PER_ML / abs(np.linalg.det(exam.affine[:3, :3])):
        found["late_cbv"] = 100.0 * float(ratio["cbv"][late].mean() / exam.maps["cbv"][late].mean() - 1.0)
        tmax, truth = np.where(tissue, maps["tmax"], 0.0), np.where(exam.mask, exam.maps["tmax"], 0.0)
        voxel_ml = float(abs(np.linalg.det(exam.affine[:3, :3])) / MM3_PER_ML)
        found["dice"] = overlap_record(tmax, truth, exam.mask | tissue, LESION_TMAX_SECONDS, voxel_ml)["dice"]
    return found


# ------------------------------------------------------------------------------------------------ tables


def values(records: list[Record], run: str, *path: str) -> np.ndarray:
    """The value at a path of keys of every exam that has one."""
    found: list[Any] = [record["runs"][run] for record in records if "runs" in record]
    for key in path:
        found = [one[key] for one in found if one.get(key) is not None]
    return np.array(found, np.float64)


def enhancing_error(records: list[Record], run: str) -> float:
    """Mean size of the error of CBV in leaking tissue, %, over exams and both kinds of leakage."""
    return float(np.mean(np.abs(np.concatenate([values(records, run, kind, "cbv") for kind in KINDS]))))


def tumour_table(found: Record) -> str:
    """Errors of leaking tissue before and after."""
    rows = []
    for method in METHODS:
        for model in leakage.MODELS:
            run, records = f"{method} {model}", found["tumour"]
            cells = [_signed(values(records, run, kind, "cbv")) for kind in KINDS]
            cells += [
                _sized(np.concatenate([values(records, run, kind, name) for kind in KINDS])) for name in QUANTITIES
            ]
            signs = np.concatenate([values(records, run, kind, "sign") for kind in KINDS])
            cells += [
                f"{100 * signs.mean():.0f} %" if len(signs) else "–",
                f"{values(records, run, 'rest_mae').mean():.2f}",
            ]
            rows.append([NAMES[method], model, *cells])
    head = ["method", "`--leakage`", "CBV, T1 dominates, %", "CBV, T2* dominates, %"]
    head += ["size of the error of CBV, %", "of CBF", "of MTT", "of a voxel's CBV", "of nCBV"]
    return markdown([*head, "sign of K2 right", "CBV elsewhere, MAE"], rows)


def without_table(found: Record) -> str:
    """What a correction does to exams in which nothing leaks."""
    rows = [
        [
            NAMES[method],
            model,
            f"{values(found['without'], f'{method} {model}', 'rest_mae').mean():.2f}",
            _signed(values(found["without"], f"{method} {model}", "late_cbv")),
            f"{values(found['without'], f'{method} {model}', 'dice').mean():.3f}",
        ]
        for method in METHODS
        for model in leakage.MODELS
    ]
    return markdown(["method", "`--leakage`", "CBV, MAE", "CBV where Tmax > 6 s, %", "Dice of Tmax > 6 s"], rows)


def tables_of(found: Record) -> dict[str, str]:
    """Tables by the names of their markers in docs/validation.md."""
    return {"tumours": tumour_table(found), "tumours_without": without_table(found)}


def checklist_rows(found: Record) -> list[list[str]]:
    """Demand, asked, measured, met."""
    rows = []
    for model in leakage.MODELS[1:]:
        error = enhancing_error(found["tumour"], f"parametric {model}")
        before = enhancing_error(found["tumour"], "parametric none")
        rows.append(
            [
                f"tumours, `--leakage={model}`: CBV of leaking tissue over white matter, mean size of the error, %",
                f"≤ {ASKED_PERCENT:g} (without: {before:.0f})",
                f"{error:.1f}",
                "yes" if error <= ASKED_PERCENT else "**no**",
            ]
        )
    for where, name, asked in (("tumour", "told that they leak", 1.0), ("without", "told so though none leaks", 0.0)):
        told = [
            "leakage" in record["runs"]["parametric none"]["findings"] for record in found[where] if "runs" in record
        ]
        share = float(np.mean(told))
        rows.append(
            [f"exams {name}, %", f"{100 * asked:.0f}", f"{100 * share:.0f}", "yes" if share == asked else "**no**"]
        )
    return rows


def _signed(numbers: np.ndarray) -> str:
    """Mean ± SD over exams."""
    return f"{numbers.mean():+.0f} ± {numbers.std(ddof=min(1, len(numbers) - 1)):.0f}" if len(numbers) else "–"


def _sized(numbers: np.ndarray) -> str:
    return f"{np.abs(numbers).mean():.0f}" if len(numbers) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", type=int, default=12)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = study_leakage(arguments.exams, arguments.seed, arguments.size)
    print(tumour_table(found), without_table(found), *map(" | ".join, checklist_rows(found)), sep="\n\n")


if __name__ == "__main__":
    main()
