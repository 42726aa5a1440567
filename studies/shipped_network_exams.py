"""One simulated exam of the study of the shipped network: five sources of its maps, scored against the truth."""

import time
from collections.abc import Callable

import numpy as np
from shipped_network_pictures import packed
from shipped_network_records import CONSTANT, FREE_SCALE, METHODS, NETWORK, NULL, ORACLE, THRESHOLD, Record

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.features import features_of
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import brain_record, usual_width
from dscgan_jax.figures import ink
from dscgan_jax.figures.panels import axial, bolus_frame
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.methods import conventional
from dscgan_jax.methods.network import Predictor
from dscgan_jax.perfusion import arterial
from dscgan_jax.perfusion.measurement import NOTHING_GIVEN, Given
from dscgan_jax.phantom.simulation import Simulation, simulate

SEED = 20_261_126  # trainings draw from (config.phantom.seed, subject), whose seeds are small numbers


def sources_of(simulated: Simulation, predictor: Predictor) -> tuple[dict[str, ExamMaps | str], dict[str, float]]:
    """{source: its maps, or why it refuses}, nulls left out; and {step: seconds}."""
    phantom = simulated.phantom
    true = Given(simulated.truth.mask, arterial_seconds=phantom.arterial_seconds, arterial_mm=phantom.arterial_mm)

    def by(methods: tuple[str, ...], given: Given) -> dict[str, ExamMaps]:
        made = conventional.by_methods(simulated.exam, conventional.DEFAULTS, methods, given)
        return {method: result.maps for method, result in made.items()}

    steps: list[tuple[tuple[str, ...], Callable[[], dict[str, ExamMaps]]]] = [
        ((NETWORK,), lambda: {NETWORK: predictor.predict(simulated.exam)}),
        (METHODS, lambda: by(METHODS, NOTHING_GIVEN)),
        ((ORACLE,), lambda: {ORACLE: by(("parametric",), true)["parametric"]}),
    ]
    made: dict[str, ExamMaps | str] = {}
    seconds: dict[str, float] = {}
    for names, step in steps:
        begun = time.perf_counter()
        try:
            made |= step()
        except InputError as error:
            made |= dict.fromkeys(names, str(error))
        seconds["+".join(names)] = time.perf_counter() - begun
    return made, seconds


def score(maps: ExamMaps, truth: ExamMaps) -> Record | str:
    """Errors in the common mask; the lesion everywhere, since outside its mask a source says there is none."""
    both = truth.mask if maps.mask is None else truth.mask & maps.mask
    if not both.any():
        return "its brain has no voxel in common with the true one"
    found, real = maps["tmax"] > THRESHOLD, truth["tmax"] > THRESHOLD
    ml = voxel_ml(truth.affine)
    record: Record = {
        "covered": float(both.sum() / truth.mask.sum()),
        "found_ml": float(found.sum() * ml),
        "found_inside_ml": float((found & truth.mask).sum() * ml),
        "real_ml": float(real.sum() * ml),
        "both_ml": float((found & real).sum() * ml),
    }
    for name in [name for name in MAP_NAMES if name in maps.volumes]:
        scores = brain_record(maps[name], truth[name], both, usual_width(name))
        free = name in FREE_SCALE and scores["mae_after_scale"] is not None
        mae = scores["mae_after_scale"] if free else scores["mae"]
        record[name] = {"mae": mae, "bias": scores["bias"], "r": scores["pearson_r"]}
    return record


def constant(truth: ExamMaps, values: dict[str, float]) -> ExamMaps:
    """One value of each map everywhere in the brain."""
    volumes = {name: np.where(truth.mask, value, 0.0).astype(np.float32) for name, value in values.items()}
    return ExamMaps(truth.subject, volumes, truth.units, truth.stored, mask=truth.mask)


def medians_of(truth: ExamMaps) -> dict[str, float]:
    """In the brain: no other constant has a smaller mean absolute error."""
    return {name: float(np.median(truth[name][truth.mask])) for name in MAP_NAMES}


def properties_of(simulated: Simulation, warnings: int) -> Record:
    """What the strata are made of."""
    phantom, exam, known = simulated.phantom, simulated.exam, simulated.phantom.truth
    curve = arterial.arterial_input_from_curve(
        phantom.arterial_seconds, phantom.arterial_mm, len(phantom.arterial_mm), phantom.frame_seconds
    )
    varied = known.get("varied", {})
    lesions = [known["disease"], *known.get("more_diseases", [])]
    sides = {one["side"] for one in lesions if one["vessel"] != "none"}
    return {
        "signal over noise": float(known["signal_to_noise"]),
        "frame length [s]": float(phantom.frame_seconds),
        "arterial width [s]": float(curve.width_seconds),
        "time before the bolus [s]": features_of(exam).before_bolus_seconds,
        "frames": exam.series.shape[-1],
        "matrix": exam.series.shape[0],
        "slices": exam.series.shape[2],
        "lesion [mL]": float((simulated.truth["tmax"] > THRESHOLD).sum() * voxel_ml(simulated.truth.affine)),
        "warnings": warnings,
        "motion": "moved" if known["moved"] else "still",
        "tail": "truncated" if known["truncated"] else "whole",
        "skull": "stripped" if varied.get("stripped") else "there",
        "disease": varied.get("state", known["preset"]) if sides else "healthy",
        "side": "both" if len(sides) > 1 else next(iter(sides), "none"),
    }


def slice_of(simulated: Simulation, made: dict[str, ExamMaps | str]) -> Record:
    """The slice with most of the lesion, as it is drawn: a frame, the brain, and Tmax of truth and sources."""
    truth, exam = simulated.truth, simulated.exam
    z = int((truth["tmax"] > THRESHOLD).sum(axis=(0, 1)).argmax())
    series, brain = np.moveaxis(axial(exam.series, z), -1, 0), axial(truth.mask, z)
    frame = series[bolus_frame(series, brain)]
    maps = {"truth": truth} | {name: made[name] for name in (NETWORK, *METHODS)}
    high = MAPS["tmax"].window[1]
    return {
        "slice": z,
        "aspect": float(exam.voxel_mm[1] / exam.voxel_mm[0]),
        "frame": packed(frame, 0.0, ink.white_level(frame, brain)),
        "brain": packed(brain, 0.0, 1.0),
        "tmax": {
            name: packed(axial(one["tmax"], z), 0.0, high) for name, one in maps.items() if isinstance(one, ExamMaps)
        },
    }


def study_exam(cohort: str, number: int, size: int, slices: int | None, predictor: Predictor) -> Record:
    """Draws one exam and scores all sources on it; an exam that cannot be read is recorded as such."""
    record: Record = {"cohort": cohort, "subject": number}
    begun = time.perf_counter()
    try:
        simulated = simulate(cohort, (SEED, number), size=size, slices=slices)
    except InputError as error:
        return record | {"refused": str(error)}
    drawn = time.perf_counter() - begun
    made, seconds = sources_of(simulated, predictor)
    network, truth = made[NETWORK], simulated.truth
    warnings = [] if isinstance(network, str) else [one.name for one in network.findings if one.severity == "warning"]
    usual = {name: predictor.record.data.medians.get(name) or 0.0 for name in MAP_NAMES}
    all_maps = made | {NULL: constant(truth, usual), CONSTANT: constant(truth, medians_of(truth))}
    scores = {name: maps if isinstance(maps, str) else score(maps, truth) for name, maps in all_maps.items()}
    return record | {
        "properties": properties_of(simulated, len(warnings)),
        "warnings": warnings,
        "refusals": {name: one for name, one in scores.items() if isinstance(one, str)},
        "scores": {name: one for name, one in scores.items() if not isinstance(one, str)},
        "slice": slice_of(simulated, made),
        "seconds": {"simulation": drawn} | seconds,
    }
