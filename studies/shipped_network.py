"""How good a network is on simulated exams that nobody trained on, beside conventional maps of the same exams.

    python studies/shipped_network.py                          # physics, three cohorts; hours on two cores
    python studies/shipped_network.py --model=FILE_OR_RUN --quick
    python studies/shipped_network.py --again=FILE.json        # the tables of a run's numbers

Of each exam five sources are scored: the network, the parametric fit and oSVD with an automatic AIF, the parametric fit
with the true AIF and the true brain (oracle), and the null, the training median in each voxel of the brain. The network
and the automatic methods are given the series, its frame length and its echo time alone. Tables go to standard output,
numbers into `--output`.
"""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.features import features_of
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import brain_record, usual_width
from dscgan_jax.maps import MAPS
from dscgan_jax.methods import conventional
from dscgan_jax.methods.network import Predictor
from dscgan_jax.perfusion import arterial
from dscgan_jax.perfusion.measurement import NOTHING_GIVEN, Given
from dscgan_jax.phantom.simulation import Simulation, simulate
from dscgan_jax.settings import CHOICES

Record = dict[str, Any]

COHORTS = tuple(name for name in ("varied", "acute", "chronic") if name in CHOICES["phantom.preset"])
SEED = 20_261_126  # trainings draw from (config.phantom.seed, subject), whose seeds are small numbers
THRESHOLD = 6.0  # s of Tmax
LOW_DICE = 0.8  # below it a lesion's outline is called unreliable
LEAST_LESION_ML = 5.0  # Dice of smaller lesions says little
FREE_SCALE = ("cbf", "cbv")  # scored after one factor an exam
NULL = "null"
# Strata: property of an exam, and the borders between its classes; a class holds its lower border.
STRATA: dict[str, tuple[float, ...]] = {
    "signal over noise": (30, 50, 80),
    "frame length [s]": (1.2, 1.8, 2.4),
    "arterial width [s]": (6, 9, 12),
    "time before the bolus [s]": (10, 20, 40),
    "frames": (45, 60, 90),
    "matrix": (96, 160),
    "slices": (6, 15),
    "lesion [mL]": (5, 30, 100),
    "warnings": (1, 2, 3),
}
FLAGS = ("moved", "truncated", "stripped")  # strata of two classes

_MODEL = flags.DEFINE_string("model", "physics", "Shipped network, file of weights, or folder of a run.")
_SUBJECTS = flags.DEFINE_integer("subjects", 40, "Exams of each cohort.")
_SIZE = flags.DEFINE_integer("size", 128, "Rows and columns of the acute and the chronic cohort.")
_QUICK = flags.DEFINE_bool("quick", False, "Two small exams of each cohort: to see that it runs.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file of the numbers.")
_AGAIN = flags.DEFINE_string("again", "", "JSON file of a run, whose tables are made again.")


# ------------------------------------------------------------------------------------------------ one exam


def sources_of(simulated: Simulation, predictor: Predictor) -> dict[str, ExamMaps | str]:
    """{source: its maps, or why it refuses}, nulls left out."""
    phantom = simulated.phantom
    oracle = Given(simulated.truth.mask, arterial_seconds=phantom.arterial_seconds, arterial_mm=phantom.arterial_mm)

    def by(method: str, given: Given) -> ExamMaps:
        return conventional.by_methods(simulated.exam, conventional.DEFAULTS, (method,), given)[method].maps

    ways: dict[str, Callable[[], ExamMaps]] = {
        "network": lambda: predictor.predict(simulated.exam),
        "parametric": lambda: by("parametric", NOTHING_GIVEN),
        "osvd": lambda: by("osvd", NOTHING_GIVEN),
        "oracle": lambda: by("parametric", oracle),
    }
    made: dict[str, ExamMaps | str] = {}
    for name, way in ways.items():
        try:
            made[name] = way()
        except InputError as error:
            made[name] = str(error)
    return made


def score(maps: ExamMaps, truth: ExamMaps) -> Record:
    """Errors in the common mask; the lesion everywhere, since outside its mask a source says there is none."""
    both = truth.mask if maps.mask is None else truth.mask & maps.mask
    found, real = maps["tmax"] > THRESHOLD, truth["tmax"] > THRESHOLD
    ml = voxel_ml(truth.affine)
    record: Record = {
        "covered": float(both.sum() / truth.mask.sum()),
        "found_ml": float(found.sum() * ml),
        "real_ml": float(real.sum() * ml),
        "both_ml": float((found & real).sum() * ml),
    }
    for name in [name for name in MAPS if name in maps.volumes]:
        scores = brain_record(maps[name], truth[name], both, usual_width(name))
        mae = scores["mae_after_scale"] if name in FREE_SCALE else scores["mae"]
        record[name] = {"mae": mae, "bias": scores["bias"], "r": scores["pearson_r"]}
    return record


def null_of(truth: ExamMaps, medians: dict[str, float | None]) -> ExamMaps:
    """The training median everywhere in the brain."""
    volumes = {name: np.where(truth.mask, medians.get(name) or 0.0, 0.0).astype(np.float32) for name in truth.volumes}
    return ExamMaps(truth.subject, volumes, truth.units, truth.stored, mask=truth.mask)


def properties_of(simulated: Simulation, warnings: int) -> dict[str, float]:
    """What the strata are made of."""
    phantom, exam, known = simulated.phantom, simulated.exam, simulated.phantom.truth
    curve = arterial.arterial_input_from_curve(
        phantom.arterial_seconds, phantom.arterial_mm, len(phantom.arterial_mm), phantom.frame_seconds
    )
    features = features_of(exam)
    tmax = simulated.truth["tmax"]
    return {
        "signal over noise": float(known["signal_to_noise"]),
        "frame length [s]": features.frame_seconds,
        "arterial width [s]": float(curve.width_seconds),
        "time before the bolus [s]": features.before_bolus_seconds,
        "frames": exam.series.shape[-1],
        "matrix": exam.series.shape[0],
        "slices": exam.series.shape[2],
        "lesion [mL]": float((tmax > THRESHOLD).sum() * voxel_ml(simulated.truth.affine)),
        "moved": float(known["moved"]),
        "truncated": float(known["truncated"]),
        "stripped": float(known.get("varied", {}).get("stripped", False)),
        "warnings": warnings,
    }


def study_exam(cohort: str, number: int, size: int, slices: int | None, predictor: Predictor) -> Record:
    """Draws one exam and scores all sources on it; an exam that cannot be read is recorded as such."""
    try:
        simulated = simulate(cohort, (SEED, number), size=size, slices=slices)
    except InputError as error:
        return {"cohort": cohort, "subject": number, "refused": str(error)}
    made = sources_of(simulated, predictor)
    network = made["network"]
    warnings = [] if isinstance(network, str) else [one.name for one in network.findings if one.severity == "warning"]
    truth = simulated.truth
    return {
        "cohort": cohort,
        "subject": number,
        "properties": properties_of(simulated, len(warnings)),
        "warnings": warnings,
        "refusals": {name: maps for name, maps in made.items() if isinstance(maps, str)},
        "scores": {name: score(maps, truth) for name, maps in made.items() if not isinstance(maps, str)}
        | {NULL: score(null_of(truth, predictor.record.data.medians), truth)},
    }


# ------------------------------------------------------------------------------------------------ tables


def summary_of(records: list[Record], source: str) -> dict[str, float]:
    """Of one source over some exams; the null is that of the same exams."""
    scored = [one["scores"] for one in records if source in one.get("scores", {})]
    if not scored:
        return {}
    found: dict[str, float] = {"exams": len(scored)}
    for name in MAPS:
        pairs = [(one[source][name]["mae"], one[NULL][name]["mae"]) for one in scored if name in one[source]]
        if pairs:
            own, null = (np.mean(values) for values in zip(*pairs, strict=True))
            found[f"{name} over null"] = float(own / null)
    sums = {key: sum(one[source][key] for one in scored) for key in ("found_ml", "real_ml", "both_ml")}
    volumes = np.array([[one[source]["found_ml"], one[source]["real_ml"]] for one in scored])
    dice = [_dice(one[source]) for one in scored if one[source]["real_ml"] >= LEAST_LESION_ML]
    found["Tmax MAE [s]"] = float(np.mean([one[source]["tmax"]["mae"] for one in scored]))
    found["Dice pooled"] = _dice(sums)
    found["volume bias [mL]"] = float((volumes[:, 0] - volumes[:, 1]).mean())
    varies = len(scored) > 2 and bool((np.ptp(volumes, axis=0) > 0).all())
    found["volume r"] = float(np.corrcoef(volumes.T)[0, 1]) if varies else float("nan")
    found[f"Dice < {LOW_DICE}"] = float(np.mean([one < LOW_DICE for one in dice])) if dice else float("nan")
    return found


def _dice(sums: Record) -> float:
    whole = sums["found_ml"] + sums["real_ml"]
    return 2 * sums["both_ml"] / whole if whole else float("nan")


def table(rows: Iterable[tuple[str, dict[str, float]]]) -> str:
    """Markdown; the columns are those of all rows."""
    rows = [row for row in rows if row[1]]
    columns = list(dict.fromkeys(name for _, values in rows for name in values))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for title, values in rows:
        cells = [f"{values[name]:.3g}" if np.isfinite(values.get(name, np.nan)) else "–" for name in columns]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def classes_of(name: str) -> list[tuple[str, float, float]]:
    """(title, lowest value, what no value reaches) of the classes of a stratum."""
    if name in FLAGS:
        return [(f"not {name}", 0, 1), (name, 1, 2)]
    classes = []
    for low, high in itertools.pairwise((-np.inf, *STRATA[name], np.inf)):
        limits = [f"≥ {low:g}"] * (low > -np.inf) + [f"< {high:g}"] * (high < np.inf)
        classes.append((f"{name} {', '.join(limits)}", low, high))
    return classes


def strata_rows(records: list[Record]) -> list[tuple[str, dict[str, float]]]:
    """For each class of each property: the network beside the automatic methods, on the same exams."""
    rows = []
    for name in (*STRATA, *FLAGS):
        for title, low, high in classes_of(name):
            some = [one for one in records if "properties" in one and low <= one["properties"][name] < high]
            of = {source: summary_of(some, source) for source in ("network", "parametric", "osvd")}
            if of["network"]:
                columns = ("Tmax MAE [s]", "Dice pooled")
                beside = {f"{source}: {key}": of[source].get(key, np.nan) for key in columns for source in of}
                unreliable = f"Dice < {LOW_DICE}"
                rows.append((title, {"exams": len(some)} | beside | {unreliable: of["network"][unreliable]}))
    return rows


def tables(results: Record) -> str:
    """All of them."""
    blocks = [f"{results['network']}; seed {results['seed']}."]
    for cohort in dict.fromkeys(one["cohort"] for one in results["exams"]):
        records = [one for one in results["exams"] if one["cohort"] == cohort]
        rows = [(source, summary_of(records, source)) for source in ("network", "parametric", "osvd", "oracle", NULL)]
        refused = sum("refused" in one for one in records)
        head = f"## {cohort}, {len(records)} exams" + (f", {refused} of them refused" if refused else "")
        blocks += [head, table(rows), table(strata_rows(records))]
    return "\n\n".join(blocks)


def study(predictor: Predictor, subjects: int, sizes: dict[str, int], slices: int | None) -> Record:
    """All numbers; `sizes` is {cohort: rows and columns}, 0 = the preset draws them."""
    exams = [
        study_exam(cohort, number, size, slices, predictor)
        for cohort, size in sizes.items()
        for number in tqdm(range(subjects), desc=cohort)
    ]
    return {"network": predictor.weights.in_words, "seed": SEED, "sizes": sizes, "exams": exams}


def main(_) -> None:
    if _AGAIN.value:
        results = json.loads(pathlib.Path(_AGAIN.value).read_text(encoding="utf-8"))
    else:
        subjects, size, slices = (2, 64, 4) if _QUICK.value else (_SUBJECTS.value, _SIZE.value, None)
        drawn = {} if _QUICK.value or "varied" not in COHORTS else {"varied": 0}
        results = study(Predictor.load(_MODEL.value), subjects, dict.fromkeys(COHORTS, size) | drawn, slices)
        if _OUTPUT.value:
            pathlib.Path(_OUTPUT.value).write_text(json.dumps(results) + "\n", encoding="utf-8")
    print(tables(results))


if __name__ == "__main__":
    app.run(main)
