"""Plausible maps that are wrong: is there a word about them?

Each exam is drawn, spoiled in one way, and given to the shipped network and to the default conventional method, as a
user would. The truth of a phantom says whether the maps are wrong; refusals and warnings say whether anybody was told.
"""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.methods import conventional
from dscgan_jax.methods.network import Predictor
from dscgan_jax.perfusion.arterial import ArterialInput, arterial_input_from_curve
from dscgan_jax.phantom.exam import CORE_LABEL, Phantom
from harm.records import Harm, Part, Records
from harm.spoiled import HARMS, Given, drawn, spoiled

REFUSED, FLAGGED, RIGHT = "refused", "wrong, flagged", "right"
IN_VAIN, WITH_REASON, SILENT = "right, flagged", "right, flagged with reason", "wrong in silence"
PART = Part(
    name="silence",
    title="Plausible maps that are wrong",
    promise=(
        "An exam that is not what it seems is refused, or its maps carry a warning, in most cases. A map is wrong here "
        "if its Tmax has a mean absolute error above 1.5 times the usual (the median over exams as drawn that carry no "
        "warning), or a Dice of Tmax > 6 s below 0.8 where at least 5 mL are late; any map of another organ is. "
        "A warning about right maps has a reason where it says that the head moved, that the exam was cut short, that "
        "tissue has no first pass, or that the AIF is late or mixed with tissue, and the truth says so too (a core; an "
        "AIF that peaks a second or more after the blood). Not promised: that an exam without any visible "
        "fault has a good map. "
        "The rows of exams as drawn show how often it has not. Three limits of the program were suggested by exams of "
        "this table: of others a little less may be told."
    ),
    kept=(REFUSED, FLAGGED, RIGHT, IN_VAIN, WITH_REASON),
    broken=(SILENT,),
    test="tests/studies/test_silence.py",
)
COUNT = 12
CLEAN_TIMES = 4  # exams as drawn for one of each harm: they say what is usual
METHODS = ("network", "conventional")
LATE_SECONDS, LEAST_ML, LOW_DICE, UNUSUAL = 6.0, 5.0, 0.8, 1.5
ARTERIAL, LATE_ARTERY_SECONDS = ("arterial_low", "arterial_late"), 1.0
AS_DRAWN, MENDED = "as drawn", "frame length in ms"  # which is noticed, and mended


def run(workdir: pathlib.Path, count: int) -> None:
    """Makes the maps that are still missing, then judges all of them together."""
    path = pathlib.Path(workdir) / "silence_maps.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(one["kind"], one["number"]) for one in made}
    wanted = [(kind, number) for number in range(count) for kind in HARMS]
    wanted += [(AS_DRAWN, number) for number in range(count, CLEAN_TIMES * count)]
    predictor = Predictor.shipped()
    for kind, number in tqdm.tqdm([one for one in wanted if one not in done], desc="exams"):
        rows = made_of(kind, number, predictor)
        made += rows
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    (pathlib.Path(workdir) / f"{PART.name}.jsonl").unlink(missing_ok=True)  # what is usual decides about all of them
    records = Records(workdir, PART)
    for harm in judged(made):
        records.add(harm)


def made_of(kind: str, number: int, predictor: Predictor) -> list[dict[str, Any]]:
    """What became of one exam, by each method, as plain values."""
    given, phantom = spoiled(kind, number), drawn(number)
    row = {"kind": kind, "number": number, "reasons": reasons_of(phantom)}
    try:
        exam = Exam.from_arrays(
            given.series, given.affine, repetition_time=given.frame_seconds, echo_time=given.echo_seconds
        )
    except InputError as error:
        return [row | {"method": method, "refused": str(error)} for method in METHODS]
    return [row | {"method": method} | _made(exam, given, phantom, kind, method, predictor) for method in METHODS]


def reasons_of(phantom: Phantom) -> list[str]:
    """Names of the warnings that the truth about an exam justifies, whatever the method."""
    reasons = ["motion", "motion_corrected"] if phantom.motion.moved else []
    reasons += ["truncated", "arterial_incomplete"] if phantom.truth["truncated"] else []
    return reasons + (["no_first_pass"] if (phantom.lesion == CORE_LABEL).any() else [])


def _made(exam: Exam, given: Given, phantom: Phantom, kind: str, method: str, predictor: Predictor) -> dict[str, Any]:
    """Errors and warnings of one method's maps."""
    try:
        if method == "network":
            maps = predictor.predict(exam)
            artery = maps.artery
        else:
            made = _conventional(exam, kind)
            maps, artery = made.maps, made.found.measured.arterial
    except InputError as error:
        return {"refused": str(error)}
    warnings = [[one.name, one.text] for one in maps.findings if one.severity == "warning"]
    late = {} if artery is None else {"arterial_late_seconds": late_seconds(artery, exam.frame_seconds, phantom)}
    return {"warnings": warnings, "quality": maps.quality.to_json()} | late | _scores(maps, given)


def _conventional(exam: Exam, kind: str) -> conventional.Deconvolved:
    motion = "none" if kind.startswith("head moves") else "rigid"
    return conventional.deconvolved(exam, dataclasses.replace(conventional.DEFAULTS, motion=motion))


def late_seconds(artery: ArterialInput, frame_seconds: float, phantom: Phantom) -> float:
    """How long after the blood of a healthy M1 the AIF peaks; frames are as long as they truly are."""
    curve, frame = phantom.arterial_mm, phantom.frame_seconds
    truth = arterial_input_from_curve(np.arange(len(curve)) * frame, curve, len(curve), frame)
    return float(artery.peak_seconds * frame / frame_seconds - truth.peak_seconds)


def _scores(maps: ExamMaps, given: Given) -> dict[str, Any]:
    """MAE of Tmax, s; Dice of late tissue and its true volume, mL; nothing where there is no truth."""
    if not given.maps or maps.mask is None:
        return {}
    both = given.mask & maps.mask
    real, found = given.maps["tmax"] > LATE_SECONDS, maps["tmax"] > LATE_SECONDS
    return {
        "mae": float(np.abs(maps["tmax"] - given.maps["tmax"])[both].mean()) if both.any() else float("inf"),
        "dice": float(2 * (real & found).sum() / max(int(real.sum() + found.sum()), 1)),
        "late_ml": float(real.sum() * voxel_ml(given.affine)),
    }


def judged(made: list[dict[str, Any]]) -> list[Harm]:
    """An outcome for each exam and method; which error is usual, the exams as drawn say."""
    usual = {
        method: float(np.median([row["mae"] for row in made if _is_plain(row, method)] or [np.nan]))
        for method in METHODS
    }
    return [
        Harm(f"{row['kind']}, {row['method']}", row["number"], *_outcome(row, usual[row["method"]]))
        for row in sorted(made, key=lambda row: (list(HARMS).index(row["kind"]), METHODS.index(row["method"])))
    ]


def _is_plain(row: dict[str, Any], method: str) -> bool:
    return row["kind"] == AS_DRAWN and row["method"] == method and not row.get("warnings", True)


def _outcome(row: dict[str, Any], usual_mae: float) -> tuple[str, str]:
    """The outcome, and what is known of it."""
    if "refused" in row:
        return REFUSED, ""
    warned = ", ".join(name for name, _ in row["warnings"])
    if "mae" not in row:
        return (FLAGGED if warned else SILENT), warned or "no brain"
    error = f"Tmax MAE {row['mae']:.2f} s (usual {usual_mae:.2f}), Dice {row['dice']:.2f} of {row['late_ml']:.0f} mL"
    if row["mae"] > UNUSUAL * usual_mae or (row["late_ml"] >= LEAST_ML and row["dice"] < LOW_DICE):
        return (FLAGGED if warned else SILENT), f"{error}; {warned}" if warned else error
    reasons = [*row["reasons"], *(ARTERIAL if row.get("arterial_late_seconds", 0.0) >= LATE_ARTERY_SECONDS else ())]
    justified = any(name in reasons for name, _ in row["warnings"])
    return (RIGHT if not warned else WITH_REASON if justified else IN_VAIN), warned


def summary(harms: Sequence[Harm]) -> list[str]:
    """Of wrong maps how many were told, and of right ones how many were doubted, for each method, then for both."""
    lines, both = [], Counter[str]()
    for method in METHODS:
        mine = [harm for harm in harms if harm.kind.endswith(f", {method}")]
        clean = Counter(harm.outcome for harm in mine if harm.kind.startswith(AS_DRAWN))
        harmed = Counter(harm.outcome for harm in mine if not harm.kind.startswith((AS_DRAWN, MENDED)))
        told, wrong = clean[FLAGGED] + harmed[FLAGGED], _wrong(clean) + _wrong(harmed)
        both.update(told=told, wrong=wrong, in_vain=clean[IN_VAIN], right=_right(clean))
        lines.append(
            f"By the {method} method: {harmed[REFUSED]} spoiled exams were refused, most as no perfusion series; "
            f"of {_wrong(harmed)} others with wrong maps {harmed[FLAGGED]} were flagged. Of {_wrong(clean)} exams as "
            f"drawn with wrong maps {clean[FLAGGED]} were; together {100 * told / max(wrong, 1):.0f} % of {wrong}. "
            f"Of {_right(clean)} exams as drawn with right maps {clean[IN_VAIN]} were flagged in vain, and "
            f"{clean[WITH_REASON]} for a reason that the truth confirms."
        )
    lines.append(
        f"By both methods together {100 * both['told'] / max(both['wrong'], 1):.0f} % of {both['wrong']} wrong maps "
        f"were flagged, and {both['in_vain']} of {both['right']} right ones as drawn in vain."
    )
    return lines


def _wrong(times: Counter[str]) -> int:
    return times[FLAGGED] + times[SILENT]


def _right(times: Counter[str]) -> int:
    return times[RIGHT] + times[IN_VAIN] + times[WITH_REASON]
