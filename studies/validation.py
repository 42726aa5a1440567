"""The validation study: conventional maps against known truth, on curves and on whole phantom exams.

    python studies/validation.py                         # rewrites docs/validation.md, its pictures and the JSON
    python studies/validation.py --quick [--output=DIR]  # to see that it runs; the numbers mean little
    python studies/validation.py --again=FILE.json       # new tables and pictures from the numbers of a run

With `--quick` tables are printed, and written only where `--output` says so. The prose of docs/validation.md is written
by hand; the text between its comment markers comes from here.
"""

import dataclasses
import json
import pathlib
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy
from absl import app, flags
from matplotlib.figure import Figure
from tqdm import tqdm

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import brain_record, display_width, overlap_record
from dscgan_jax.figures import ink
from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion import arterial, deconvolution, kinetics, parametric, signal
from dscgan_jax.perfusion.conventional import ConventionalMaps, Given, Measured, Settings, invert, measure
from dscgan_jax.perfusion.motion import Realignment
from dscgan_jax.perfusion.parametric import FitSettings
from dscgan_jax.phantom.acquisition import REAL, Imperfections, move_frames
from dscgan_jax.phantom.exam import PHANTOM_VERSION, Phantom, draw_phantom

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"

_QUICK = flags.DEFINE_bool("quick", False, "Fewer voxels and levels, three small subjects.")
_SUBJECTS = flags.DEFINE_integer("subjects", 40, "Acute subjects.")
_MORE = flags.DEFINE_integer("more_subjects", 8, "Moving and chronic subjects, each.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of curves and subjects.")
_OUTPUT = flags.DEFINE_string("output", "", "Folder of the results instead of docs/.")
_AGAIN = flags.DEFINE_string("again", "", "JSON of a run, whose tables and pictures are made again.")

Record = dict[str, Any]

# ------------------------------------------------------------------------------------------------ curves

TE, SECONDS = 0.03, 120.0
ARRIVAL, RISE, SHAPE = 16.0, 4.5, 3.0  # of the arterial gamma variate, s, s and 1
GREY_PEAK = 13.0  # largest ΔR2* of grey matter, 1/s
SHARES, FLOWS, VOLUMES = np.array([(0.45, 60.0, 4.0), (0.40, 25.0, 2.0), (0.10, 20.0, 3.5), (0.05, 8.0, 1.2)]).T
NO_DISPERSION = 1e-3  # s, scale of a vascular transport function much shorter than any frame
BOX_SHAPE = 100.0  # of transit times that are nearly alike: the shape of the matched fit for a box
LEAST_NOISE = 1e-4  # of S0, the noise that the fit assumes of curves without noise
INF = float("inf")
QUANTITIES = ("cbf", "cbv", "mtt", "tmax")
NAMES = {"ssvd": "sSVD", "csvd": "cSVD", "osvd": "oSVD", "parametric": "parametric", "matched": "matched fit"}
COLOURS = {"ssvd": "#b7791f", "csvd": "#c2571a", "osvd": "#2f855a", "parametric": "#1565a9", "matched": "#6b46c1"}
FACTORS: dict[str, tuple[str, tuple[float, ...]]] = {
    "snr": ("SNR", (20, 30, 50, 100, INF)),
    "delay": ("delay, s", (0, 2, 4, 6, 8, 10)),
    "mtt": ("MTT, s", (3, 4, 6, 8, 12, 16)),
    "dispersion": ("dispersion, s", (0, 0.1, 0.3, 0.6, 0.9, 1.2)),
    "frame_seconds": ("TR, s", (1, 1.5, 2, 2.5)),
    "shape": ("transit shape", (1, 2, 4, INF)),
}
REGULARISATION = [("csvd", "truncation_threshold", value) for value in (0.05, 0.1, 0.2, 0.3)]
REGULARISATION += [("osvd", "oscillation_index", value) for value in (0.02, 0.035, 0.065, 0.095)]


class Curves(NamedTuple):
    """Noisy curves of voxels of known perfusion."""

    tissue: np.ndarray  # (voxel, time), mM
    artery: Callable[[np.ndarray], np.ndarray]  # s -> C_a, mM
    seconds: np.ndarray  # (time,)
    noise: np.ndarray  # (voxel,), of one frame of `tissue`, mM
    truth: dict[str, np.ndarray]  # of QUANTITIES, (voxel,); Tmax of a box is NaN, since its top is flat
    shape: float  # of the transit times


def draw_curves(
    voxels: int,
    seed: int,
    *,
    snr: float = 50.0,
    delay: float | None = None,
    mtt: float | None = None,
    dispersion: float = 0.0,
    frame_seconds: float = 1.5,
    shape: float = 1.0,
) -> Curves:
    """Four tissues, CBF spread by 12 %, CBV by 8 %, delays of 0-6 s.

    A given MTT is that of one tissue of CBV 4 mL/100 g.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(SHARES), voxels, p=SHARES)
    cbf = FLOWS[kind] * (1 + 0.12 * rng.standard_normal(voxels))
    cbv = (4.0 if mtt else VOLUMES[kind]) * (1 + 0.08 * rng.standard_normal(voxels))
    cbf = 60.0 * cbv / mtt if mtt else cbf
    delays = rng.uniform(0.0, 6.0, voxels) if delay is None else np.full(voxels, float(delay))
    scale = max(dispersion, NO_DISPERSION)
    perfusion = kinetics.Perfusion(cbf[:, None], 60.0 * (cbv / cbf)[:, None], delays, np.full(voxels, scale), shape)
    grey = kinetics.Perfusion(np.array([[60.0]]), np.array([[4.0]]), np.zeros(1), np.full(1, scale), shape)
    seconds = np.arange(0.0, SECONDS - 1e-9, frame_seconds)

    def unit(times: np.ndarray) -> np.ndarray:
        return kinetics.gamma_variate(np.asarray(times) - ARRIVAL, RISE, SHAPE)

    height = (
        GREY_PEAK
        / kinetics.TISSUE_RELAXIVITY
        / kinetics.tissue_concentration(unit, grey, np.arange(0.0, 60.0, 0.25)).max()
    )
    delta_r2star = kinetics.delta_r2star_of(height * kinetics.tissue_concentration(unit, perfusion, seconds))
    series, sigma = np.exp(-TE * delta_r2star), 1.0 / snr
    series = np.hypot(series + sigma * rng.standard_normal(series.shape), sigma * rng.standard_normal(series.shape))
    timing = signal.BolusTiming(1, 1, int((ARRIVAL - 1.0) / frame_seconds), int((ARRIVAL + RISE) / frame_seconds))
    baseline = signal.baseline_signal(series, timing)
    tissue = kinetics.concentration_of(signal.delta_r2star(series, baseline, TE)).astype(np.float32)
    noise = max(sigma, LEAST_NOISE) / baseline / TE / kinetics.TISSUE_RELAXIVITY
    tmax = np.full(voxels, np.nan) if np.isinf(shape) else kinetics.residue_peak_seconds(perfusion)
    truth = {"cbf": cbf, "cbv": cbv, "mtt": 60.0 * cbv / cbf, "tmax": tmax}
    return Curves(tissue, lambda times: height * unit(times), seconds, noise, truth, shape)


def deconvolve(curves: Curves, method: str, shift: float = 0.0, **settings: float) -> deconvolution.Deconvolved:
    """One method on curves; the artery may fill `shift` seconds late.

    `matched` knows the shape and fits no dispersion.
    """
    artery, frame = curves.artery(curves.seconds - shift), curves.seconds[1]
    if method in deconvolution.SVD_METHODS:
        return deconvolution.deconvolve_svd(curves.tissue, artery, frame, method, **settings)
    shape = min(curves.shape, BOX_SHAPE)
    fit = FitSettings(transit_shape=shape, dispersion=False) if method == "matched" else FitSettings()
    return parametric.fit(curves.tissue, artery, frame, curves.noise, settings=fit).deconvolved()


def errors(curves: Curves, found: deconvolution.Deconvolved) -> Record:
    """Bias, SD, 16th and 84th percentile of the error and mean absolute error of each quantity."""
    result = {}
    for name in QUANTITIES:
        error = getattr(found, name) - curves.truth[name]
        low, high = np.percentile(error, (16, 84))
        result[name] = {
            "bias": float(error.mean()),
            "sd": float(error.std()),
            "p16": float(low),
            "p84": float(high),
            "mae": float(np.abs(error).mean()),
        }
    varied = curves.truth["tmax"].std() > 0
    result["tmax"]["r"] = float(np.corrcoef(found.tmax, curves.truth["tmax"])[0, 1]) if varied else None
    result["cbf"]["percent"] = 100.0 * result["cbf"]["bias"] / float(curves.truth["cbf"].mean())
    return result


def study_curves(voxels: int, seed: int, every: int) -> Record:
    """Every factor at every `every`-th level with every method, and the regularisation of the SVD methods."""
    found: Record = {name: [] for name in (*FACTORS, "cut")}
    for factor, level in tqdm(
        [(name, level) for name in FACTORS for level in FACTORS[name][1][::every]], desc="curves"
    ):
        curves = draw_curves(voxels, seed, **{factor: level})
        for method in NAMES:
            score = errors(curves, deconvolve(curves, method))
            found[factor].append({"level": label(level), "method": method} | score)
    curves = draw_curves(voxels, seed)
    for method, setting, level in REGULARISATION:
        score = errors(curves, deconvolve(curves, method, **{setting: level}))
        found["cut"].append({"level": label(level), "method": method} | score)
    return found


def study_offset(voxels: int, seed: int, every: int) -> Record:
    """The offset of Tmax at SNR 50, over delay, MTT and regularisation; the MTT is 4 s where it is not varied."""
    tasks = [
        ("delay", float(delay), method, {})
        for delay in np.arange(0.0, 6.01, 0.5 * every)
        for method in ("csvd", "osvd", "parametric")
    ]
    tasks += [
        ("mtt", float(mtt), method, {})
        for mtt in FACTORS["mtt"][1][::every]
        for method in ("csvd", "osvd", "parametric")
    ]
    tasks += [("cut", level, method, {setting: level}) for method, setting, level in REGULARISATION]
    found: Record = {"delay": [], "mtt": [], "cut": []}
    for where, level, method, settings in tqdm(tasks, desc="Tmax offset"):
        curves = draw_curves(voxels, seed, **({"mtt": 4.0} | ({} if where == "cut" else {where: level})))
        error = deconvolve(curves, method, **settings).tmax - curves.truth["tmax"]
        found[where].append({"level": level, "method": method, "mean": float(error.mean()), "sd": float(error.std())})
    return found


def study_demands(voxels: int, seed: int) -> Record:
    """Numbers of the checklist: shifted AIFs, matched and unmatched residue functions, two kinds of CBV."""
    curves = draw_curves(voxels, seed)
    found: Record = {"shift": [], "residue": {}, "osvd": errors(curves, deconvolve(curves, "osvd"))}
    for shift in tqdm(np.arange(-3.0, 3.01, 0.5), desc="shifts"):
        for method in deconvolution.SVD_METHODS:
            percent = errors(curves, deconvolve(curves, method, float(shift)))["cbf"]["percent"]
            found["shift"].append({"shift": float(shift), "method": method, "percent": percent})
    plain, circular = (deconvolve(curves, method, 3.0).cbf for method in ("ssvd", "csvd"))
    found["csvd_against_ssvd"] = {"percent": float(100 * np.median(np.abs(circular / np.maximum(plain, 1e-6) - 1)))}
    area = deconvolution.area_cbv(curves.tissue, curves.artery(curves.seconds))
    for method in ("matched", "parametric"):
        result = deconvolve(curves, method)
        ratio = np.median(area / np.maximum(result.cbf * result.mtt / 60.0, 1e-6))
        found[method] = errors(curves, result) | {"area_over_fit": float(ratio)}
    for name, shape in (("exponential", 1.0), ("box", INF)):
        curves = draw_curves(voxels, seed, shape=shape)
        methods = ("csvd", "matched", "parametric")
        found["residue"][name] = {method: errors(curves, deconvolve(curves, method)) for method in methods}
    return found


# ------------------------------------------------------------------------------------------------ exams

LESION_SECONDS, LESION_ML = 6.0, 10.0
RUNS = {
    "auto": "parametric, automatic",
    "oracle": "parametric, true curve and mask (oracle)",
    "osvd": "oSVD raw",
    "osvd_shifted": "oSVD, tmax_offset=healthy",
    "csvd": "cSVD raw",
    "csvd_shifted": "cSVD, tmax_offset=healthy",
    "blank": "null: blank",
}


def study_exam(
    preset: str, seed: tuple[int, int], size: int, methods: tuple[str, ...], imperfections: Imperfections
) -> Record:
    """Draws one exam and scores the methods on it; a refusal is recorded."""
    exam = draw_phantom(preset, seed, size=size, imperfections=imperfections)
    series, truth = exam.series.astype(np.float32), exam.truth
    record: Record = {
        "subject": seed[1],
        "lesion": truth["lesion"],
        "snr": truth["signal_to_noise"],
        "runs": {},
        **{name: truth[name] for name in ("moved", "truncated", "frames")},
    }
    if "csvd" in methods:
        record["refuses_without_bolus"] = refuses_without_bolus(exam, series, seed)
    oracle = Given(tissue=exam.mask, arterial_seconds=exam.arterial_seconds, arterial_mm=exam.arterial_mm)
    for source in [method for method in methods if method not in deconvolution.SVD_METHODS]:
        if source == "true_poses":
            move_frames(series, exam.affine, np.linalg.inv(exam.motion.transforms()))
        try:
            measured = measure(
                series,
                exam.affine,
                exam.frame_seconds,
                exam.echo_seconds,
                "rigid" if source == "rigid" else "none",
                oracle if source == "oracle" else Given(),
            )
        except InputError as error:
            record["runs"][source] = {"refused": str(error)}
            continue
        found = invert(measured)
        findings = [finding.to_json() for finding in found.findings]
        record["runs"][source] = judge(exam, found.maps, measured.tissue) | {"findings": findings}
        if source == "rigid":
            record["pose"], record["arterial_rigid"] = (
                pose_errors(exam, measured.realignment),
                judge_artery(exam, measured),
            )
        if source == "auto":
            record["arterial"], record["scale"] = judge_artery(exam, measured), judge_scale(exam, found)
            area = deconvolution.area_cbv(measured.curves, measured.arterial_mm)
            fitted = found.maps["cbv"][measured.tissue] / found.scale_factor
            record["area_over_fit"] = float(np.median(area / np.maximum(fitted, 1e-6)))
            for method in [method for method in deconvolution.SVD_METHODS if method in methods]:
                found = invert(measured, Settings(method=method, tmax_offset="healthy"))
                record["runs"][method + "_shifted"] = judge(exam, found.maps, measured.tissue)
                raw = np.where(measured.tissue, found.maps["tmax"] - found.tmax_shift_seconds, 0.0)
                record["runs"][method] = judge(exam, found.maps | {"tmax": raw}, measured.tissue)
    record["runs"]["blank"] = judge(exam, {name: np.zeros(exam.mask.shape) for name in MAPS}, exam.mask)
    return record


def judge(exam: Phantom, maps: dict[str, np.ndarray], tissue: np.ndarray) -> Record:
    """Lesion and maps against the truth; errors in the common mask, the lesion everywhere."""
    truth, both = exam.maps, exam.mask & tissue
    voxel_ml = float(abs(np.linalg.det(exam.affine[:3, :3])) / 1000.0)
    # Each lesion counts in its own mask: outside it, Tmax is below the threshold.
    estimated, reference = np.where(tissue, maps["tmax"], 0.0), np.where(exam.mask, truth["tmax"], 0.0)
    overlap = overlap_record(estimated, reference, exam.mask | tissue, LESION_SECONDS, voxel_ml)
    lesion, missed = estimated > LESION_SECONDS, (reference > LESION_SECONDS) & ~tissue
    edge = both & (np.abs(truth["tmax"] - LESION_SECONDS) < 1.0)
    far = lesion & exam.mask & (truth["tmax"] < LESION_SECONDS - 2)
    result: Record = {
        "dice": overlap["dice"],
        "ml": overlap["volume_predicted_ml"],
        "false_outside_mask_ml": float((lesion & ~exam.mask).sum() * voxel_ml),
        "false_far_ml": float(far.sum() * voxel_ml),
        "missed_outside_tissue_ml": float(missed.sum() * voxel_ml),
        "edge_bias": float((maps["tmax"] - truth["tmax"])[edge].mean()) if edge.any() else None,
    }
    for name in MAPS:
        scores = brain_record(maps[name], truth[name], both, display_width(name))
        result[name] = {"mae": scores["mae"], "bias": scores["bias"], "r": scores["pearson_r"]}
    return result


def judge_artery(exam: Phantom, measured: Measured) -> Record:
    """The automatic AIF against the blood of a healthy M1."""
    artery, frame = measured.arterial, exam.frame_seconds
    truth = arterial.arterial_input_from_curve(exam.arterial_seconds, exam.arterial_mm, len(exam.arterial_mm), frame)
    return {
        "voxels": artery.n_voxels,
        "quality": artery.quality,
        "arterial_share": float((exam.shares["artery"][artery.mask] >= 0.3).mean()),
        "r": float(np.corrcoef(artery.delta_r2star, truth.delta_r2star)[0, 1]),
        "late_frames": (artery.peak_seconds - truth.peak_seconds) / frame,
        "width_percent": 100.0 * (artery.width_seconds / truth.width_seconds - 1.0),
    }


def judge_scale(exam: Phantom, found: ConventionalMaps) -> Record:
    """Healthy white matter of the truth and of the scaled map, mL/100 g/min."""
    white = exam.mask & found.measured.tissue & (exam.shares["white"] > 0.9) & (exam.maps["tmax"] < 4.0)
    medians = {name: float(np.median(maps["cbf"][white])) for name, maps in (("truth", exam.maps), ("map", found.maps))}
    return {"factor": found.scale_factor} | medians


def pose_errors(exam: Phantom, realignment: Realignment) -> Record:
    """What is left of each frame's movement: shift of the volume's centre, mm, and rotation, degrees."""
    left = np.linalg.inv(exam.motion.transforms()) @ realignment.transforms
    middle = np.append(realignment.centre_mm, 1.0)
    cosine = (np.trace(left[:, :3, :3], axis1=1, axis2=2) - 1.0) / 2.0
    result = {}
    for unit, error, moved in (
        ("mm", np.linalg.norm((left @ middle - middle)[:, :3], axis=1), exam.motion.millimetres),
        ("degrees", np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))), exam.motion.degrees),
    ):
        numbers = {"largest": np.linalg.norm(moved, axis=1).max(), "median": np.median(error), "max": error.max()}
        result |= {f"{how}_{unit}": float(number) for how, number in numbers.items()}
    return result


def refuses_without_bolus(exam: Phantom, series: np.ndarray, seed: tuple[int, int]) -> bool:
    """Whether an exam is refused whose frames all come from before the bolus, in random order."""
    before = int(exam.truth["arterial"]["arrival_seconds"] / exam.frame_seconds)
    frames = np.random.default_rng(seed).integers(2, before, series.shape[-1])
    try:
        measure(series[..., frames], exam.affine, exam.frame_seconds, exam.echo_seconds)
    except InputError:
        return True
    return False


def study_exams(subjects: int, more: int, seed: int, size: int) -> Record:
    """Acute, moving (the same people, all of whom move) and chronic subjects, one after another."""
    still, moves = (dataclasses.replace(REAL, motion=motion) for motion in (False, True))
    plan = (
        ("acute", "acute", subjects, ("auto", "oracle", "osvd", "csvd"), REAL),
        ("moving", "acute", more, ("auto", "rigid", "true_poses"), moves),
        ("chronic", "chronic", more, ("auto", "oracle", "osvd"), still),
    )
    return {
        name: [study_exam(preset, (seed, i), size, methods, imperfections) for i in tqdm(range(count), desc=name)]
        for name, preset, count, methods, imperfections in plan
    }


# ------------------------------------------------------------------------------------------------ tables


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def label(level: float) -> str:
    """A level as it is printed."""
    return "∞" if level == INF else f"{level:g}"


def titled(names: Any) -> list[str]:
    """Titles of maps with their units."""
    return [f"{MAPS[name].title}, {MAPS[name].unit}" for name in names]


def values_of(records: list[Record], *path: str) -> np.ndarray:
    """The value at a path of keys of every record that has one."""
    for key in path:
        records = [record[key] for record in records if record.get(key) is not None]
    return np.array(records, np.float64)


def mean_sd(values: np.ndarray, digits: int = 2) -> str:
    """Mean ± SD over subjects."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}" if len(values) else "–"


def lesion_ml(record: Record) -> float:
    """True volume of Tmax > 6 s."""
    return record["lesion"]["tmax_over_6s_ml"]


def lesion_exams(records: list[Record]) -> list[Record]:
    """Exams that count for the lesion: still, lesion of at least 10 mL, not refused."""
    return [
        record
        for record in records
        if not record["moved"] and lesion_ml(record) >= LESION_ML and "ml" in record["runs"]["auto"]
    ]


def volume_errors(records: list[Record], run: str) -> np.ndarray:
    """Per cent of the true volume."""
    return np.array([100 * (record["runs"][run]["ml"] / lesion_ml(record) - 1) for record in records])


def checklist(results: Record) -> str:
    """Demand, asked, measured, met."""
    demands, offset, found, exams = (
        results["demands"],
        results["offset"],
        results["acute"],
        lesion_exams(results["acute"]),
    )
    rows: list[list[str]] = []

    def add(what: str, asked: str, value: float, met: bool, form: str = ".2f") -> None:
        rows.append([what, asked, f"{value:{form}}", "yes" if met else "**no**"])

    def spread(records: list[Record], method: str, value: str) -> float:
        return float(np.ptp([record[value] for record in records if record["method"] == method]))

    for method in ("csvd", "osvd"):
        value = spread(demands["shift"], method, "percent")
        add(
            f"{NAMES[method]}: spread of the CBF bias, AIF shifted by -3..+3 s",
            "≤ 2 points",
            value,
            value <= 2,
        )
        value = spread(offset["delay"], method, "mean")
        add(f"{NAMES[method]}: spread of the Tmax offset over delays of 0–6 s", "≤ 0.1 s", value, value <= 0.1, ".3f")
    value = demands["osvd"]["tmax"]["r"]
    add("oSVD: r of Tmax", "≥ 0.90", value, value >= 0.9, ".3f")
    value = demands["csvd_against_ssvd"]["percent"]
    add("cSVD differs from sSVD: CBF, artery 3 s late, median difference, %", "> 0", value, value > 0, ".1f")
    for name, limit in (("cbf", 4.5), ("cbv", 0.25), ("mtt", 1.0), ("tmax", 0.5)):
        value = demands["matched"][name]["mae"]
        add(f"matched fit: mean absolute error of {titled([name])[0]}", f"≤ {limit:g}", value, value <= limit)
    for residue, scores in demands["residue"].items():
        for method, name in [(method, name) for method in ("matched", "parametric") for name in QUANTITIES]:
            value, limit = (scores[which][name]["mae"] for which in (method, "csvd"))
            if limit is not None:
                add(
                    f"{NAMES[method]}, {residue} residue: mean absolute error of {titled([name])[0]}",
                    f"≤ {limit:.2f} (cSVD)",
                    value,
                    value <= limit,
                )
    for method in ("matched", "parametric"):
        value = 100 * (demands[method]["area_over_fit"] - 1)
        add(
            f"area-ratio CBV against CBF·MTT/60, median, %: {NAMES[method]}", "within 5", value, abs(value) <= 5, "+.1f"
        )
    dice, best = (values_of(exams, "runs", run, "dice") for run in ("auto", "oracle"))
    add(
        "whole acute exams, automatic, parametric: mean Dice of Tmax > 6 s",
        "≥ 0.90",
        dice.mean(),
        dice.mean() >= 0.9,
        ".3f",
    )
    add("… median Dice", "≥ 0.93", np.median(dice), np.median(dice) >= 0.93, ".3f")
    value = np.median(np.abs(volume_errors(exams, "auto")))
    add("… median size of the volume error, %", "≤ 10", value, value <= 10, ".1f")
    value = best.mean() - dice.mean()
    add("… mean Dice below the oracle's", "≤ 0.03", value, value <= 0.03, ".3f")
    faults = [arterial_faults(record) for record in found if "arterial" in record]
    for what, text in (
        ("arterial_share", "at least 90 % arterial voxels"),
        ("r", "r ≥ 0.99"),
        ("late_frames", "the peak within one frame"),
        ("width_percent", "the width within 15 %"),
    ):
        value = sum(what not in short for short in faults)
        add(f"automatic AIF, exams with {text}", f"{len(found)}", value, value == len(found), "d")
    value = 100 * values_of(found, "arterial", "arterial_share").mean()
    add("… share of arterial voxels, mean over exams, %", "≥ 90", value, value >= 90, ".1f")
    value = sum("refused" in record["runs"]["auto"] for record in found)
    add("… refused exams with a bolus", "0", value, value == 0, "d")
    value = sum(record["refuses_without_bolus"] for record in found)
    add("… refused exams without a bolus", f"{len(found)}", value, value == len(found), "d")
    for how, unit, limit in (("median", "mm", 0.3), ("median", "degrees", 0.3), ("max", "mm", 1.0)):
        value = values_of(results["moving"], "pose", f"{how}_{unit}").max()
        add(
            f"moving subjects: pose error, {how} over frames, worst subject, {unit}",
            f"≤ {limit:g}",
            value,
            value <= limit,
        )
    return markdown(["demand", "asked", "measured", "met"], rows)


def curve_tables(found: Record) -> str:
    """A folded table for each factor: bias ± spread."""
    parts = []
    for factor, rows in found.items():
        title = FACTORS[factor][0] if factor in FACTORS else "cut (cSVD), oscillation index (oSVD)"
        cells = [
            [
                row["level"],
                NAMES[row["method"]],
                *(
                    "–" if row[name]["bias"] is None else f"{row[name]['bias']:+.2f} ± {row[name]['sd']:.2f}"
                    for name in QUANTITIES
                ),
            ]
            for row in rows
        ]
        table = markdown([title, "method", *titled(QUANTITIES)], cells)
        parts.append(f"<details><summary>Bias ± spread over {title}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def exam_tables(records: list[Record]) -> str:
    """Lesion and maps of the exams that count, one row per method."""
    exams, lesion, maps = lesion_exams(records), [], []
    for run in [run for run in RUNS if exams and run in exams[0]["runs"]]:
        dice, volume = values_of(exams, "runs", run, "dice"), volume_errors(exams, run)
        lesion.append(
            [
                RUNS[run],
                mean_sd(dice, 3),
                f"{np.median(dice):.3f}",
                f"{dice.min():.3f}",
                *(f"{np.median(size):.1f}" for size in (np.abs(volume), volume)),
                mean_sd(volume, 1),
            ]
        )
        maps.append(
            [RUNS[run], *(mean_sd(values_of(exams, "runs", run, name, what)) for what in ("mae", "r") for name in MAPS)]
        )
    head = [
        "method",
        "Dice",
        "median",
        "min",
        "median size of the volume error, %",
        "median volume error, %",
        "volume error, %",
    ]
    errors_head = ["method", *titled(MAPS), *(f"r {MAPS[name].title}" for name in MAPS)]
    return (
        f"{len(exams)} of {len(records)} exams: they do not move and have Tmax > 6 s in at least {LESION_ML:g} mL. "
        f"Mean ± SD over exams.\n\n{markdown(head, lesion)}\n\n"
        f"Mean absolute error and r in the common mask:\n\n{markdown(errors_head, maps)}\n\n"
        "CBV from the ratio of areas over CBF·MTT/60 of the fit, both automatic, median in each exam: "
        f"{mean_sd(values_of(exams, 'area_over_fit'))}."
    )


def worst_table(records: list[Record], count: int = 6) -> str:
    """The exams with the lowest Dice and what is wrong in them."""
    rows = []
    for record in sorted(lesion_exams(records), key=lambda record: record["runs"]["auto"]["dice"])[:count]:
        run, oracle = record["runs"]["auto"], record["runs"]["oracle"]
        parts = [run[name] for name in ("ml", "false_outside_mask_ml", "false_far_ml", "missed_outside_tissue_ml")]
        rows.append(
            [
                str(record["subject"]),
                f"{run['dice']:.3f}",
                f"{oracle['dice']:.3f}",
                *(f"{volume:.1f}" for volume in (lesion_ml(record), *parts)),
                f"{run['edge_bias']:+.2f}",
                f"{oracle['edge_bias']:+.2f}",
                f"{record['arterial']['late_frames']:+.2f}",
                f"{record['snr']:.0f}",
                "yes" if record["truncated"] else "no",
            ]
        )
    return markdown(
        [
            "subject",
            "Dice",
            "oracle",
            "true mL",
            "mL",
            "false outside the mask",
            "false, Tmax < 4 s",
            "missed outside tissue",
            "bias at 5–7 s, s",
            "oracle's",
            "artery late, frames",
            "SNR",
            "truncated",
        ],
        rows,
    )


def small_table(records: list[Record]) -> str:
    """Still exams whose lesion is smaller than what counts."""
    names = {run: name for run, name in RUNS.items() if run != "blank"}
    rows = [
        [str(record["subject"]), f"{lesion_ml(record):.1f}", *(f"{record['runs'][run]['ml']:.1f}" for run in names)]
        for record in records
        if not record["moved"] and lesion_ml(record) < LESION_ML and "ml" in record["runs"]["auto"]
    ]
    return markdown(["subject", "true, mL", *names.values()], rows) if rows else "There is none."


def arterial_faults(record: Record) -> dict[str, str]:
    """In which respects an AIF falls short of the demands; one that could not be measured falls short in all."""
    artery = {name: np.nan if value is None else value for name, value in record["arterial"].items()}
    checks = {
        "arterial_share": (artery["arterial_share"] >= 0.9, f"{100 * artery['arterial_share']:.0f} % arterial"),
        "r": (artery["r"] >= 0.99, f"r {artery['r']:.3f}"),
        "late_frames": (abs(artery["late_frames"]) <= 1, f"peak {artery['late_frames']:+.2f} frames"),
        "width_percent": (abs(artery["width_percent"]) <= 15, f"width {artery['width_percent']:+.0f} %"),
    }
    return {name: text for name, (met, text) in checks.items() if not met}


def arterial_table(records: list[Record]) -> str:
    """The AIF and the scale over all subjects, moving ones included."""
    found = [record for record in records if "arterial" in record]
    rows = []
    for name, digits, values in (
        ("arterial voxels (blood ≥ 0.3), %", 1, 100 * values_of(found, "arterial", "arterial_share")),
        ("r with the blood of a healthy M1", 4, values_of(found, "arterial", "r")),
        ("peak later than there, frames", 2, values_of(found, "arterial", "late_frames")),
        ("width against there, %", 1, values_of(found, "arterial", "width_percent")),
        ("voxels averaged", 0, values_of(found, "arterial", "voxels")),
        ("quality", 2, values_of(found, "arterial", "quality")),
        ("factor of `reference_wm`", 2, values_of(found, "scale", "factor")),
        ("true CBF of healthy white matter, mL/100 g/min", 1, values_of(found, "scale", "truth")),
        ("scaled map over truth there", 2, values_of(found, "scale", "map") / values_of(found, "scale", "truth")),
    ):
        numbers = (np.median(values), values.min(), values.max())
        rows.append([name, mean_sd(values, digits), *(f"{value:.{digits}f}" for value in numbers)])
    refused = [
        f"subject {record['subject']}: {record['runs']['auto']['refused']}"
        for record in records
        if "arterial" not in record
    ]
    short = [
        f"subject {record['subject']} ({', '.join([*faults.values(), *['moves'] * record['moved']])})"
        for record in found
        if (faults := arterial_faults(record))
    ]
    return (
        markdown(["", "mean ± SD", "median", "min", "max"], rows) + f"\n\nRefused: {'; '.join(refused) or 'none'}.\n\n"
        f"Short of the demands: {'; '.join(short) or 'none'}."
    )


def moving_table(moving: list[Record], acute: list[Record]) -> str:
    """Pose and lesion of moving subjects; the same subject still, where it was."""
    still = {record["subject"]: record["runs"]["auto"] for record in acute if not record["moved"]}
    runs = ("auto", "rigid", "true_poses")
    rows = [
        [
            str(record["subject"]),
            f"{lesion_ml(record):.0f}",
            *(
                f"{record['pose'][f'{how}_{unit}']:.2f}"
                for unit in ("mm", "degrees")
                for how in ("largest", "median", "max")
            ),
            *(
                "–" if run.get("dice") is None or lesion_ml(record) < 1 else f"{run['dice']:.3f}"
                for run in (still.get(record["subject"], {}), *(record["runs"][run] for run in runs))
            ),
            *(
                "–" if artery not in record else f"{record[artery]['r']:.3f}"
                for artery in ("arterial", "arterial_rigid")
            ),
        ]
        for record in moving
        if "pose" in record
    ]
    large = [record for record in moving if lesion_ml(record) >= LESION_ML]
    means = [mean_sd(values_of(large, "runs", run, "dice"), 3) for run in runs]
    rows.append([f"{len(large)} with ≥ {LESION_ML:g} mL", *[""] * 8, *means, "", ""])
    poses = [f"{what}, {unit}" for unit in ("mm", "°") for what in ("movement", "median error", "max error")]
    dice = [f"Dice, {what}" for what in ("same subject still", "not realigned", "motion=rigid", "true poses")]
    return markdown(["subject", "true mL", *poses, *dice, "arterial r, not realigned", "motion=rigid"], rows)


# ------------------------------------------------------------------------------------------------ pictures

LIMITS = {"cbf": (-35.0, 35.0), "cbv": (-1.5, 1.5), "mtt": (-5.0, 8.0), "tmax": (-3.0, 6.0)}


def panel(axis: Any, lines: Any, **labels: str) -> None:
    """Lines with their bands: (method, x, middle, low, high); quiet grid and spines as in the package's figures."""
    for method, x, middle, low, high in lines:
        low, high = np.array(low, np.float64), np.array(high, np.float64)
        axis.fill_between(x, low, high, color=COLOURS[method], alpha=0.1, linewidth=0)
        axis.plot(x, np.array(middle, np.float64), ".-", color=COLOURS[method], linewidth=1.5, label=NAMES[method])
    for name, text in labels.items():
        getattr(axis, f"set_{name}")(text, fontsize=10, color=ink.INK)
    axis.grid(color="#e4e7eb", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=ink.MUTED)


def curves_figure(found: Record) -> Figure:
    """Bias with its band over every factor, one line per method."""
    figure = Figure(figsize=(15.0, 9.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(QUANTITIES), len(FACTORS), sharey="row")
    for row, name in zip(axes, QUANTITIES, strict=True):
        for axis, (factor, (title, levels)) in zip(row, FACTORS.items(), strict=True):
            places = {label(level): place for place, level in enumerate(levels)}
            lines = []
            for method in NAMES:
                points = [point for point in found[factor] if point["method"] == method]
                lines.append(
                    (
                        method,
                        [places[point["level"]] for point in points],
                        *([point[name][key] for point in points] for key in ("bias", "p16", "p84")),
                    )
                )
            panel(axis, lines, **({"xlabel": title} if name == QUANTITIES[-1] else {}))
            axis.axhline(0.0, color=ink.MUTED, linewidth=0.8)
            axis.set_ylim(*LIMITS[name])
            axis.set_xticks(range(len(places)), places)
        row[0].set_ylabel(f"error of {MAPS[name].title}\n[{MAPS[name].unit}]", fontsize=10, color=ink.INK)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(NAMES), frameon=False)
    return figure


def offset_figure(found: Record) -> Figure:
    """The offset of Tmax over delay, MTT and regularisation."""
    figure = Figure(figsize=(13.0, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 4, sharey=True)
    panels = (
        ("delay", "", "delay, s (MTT 4 s)"),
        ("mtt", "", "MTT, s"),
        ("cut", "csvd", "truncation threshold of cSVD (MTT 4 s)"),
        ("cut", "osvd", "oscillation index of oSVD (MTT 4 s)"),
    )
    for axis, (where, only, title) in zip(axes, panels, strict=True):
        lines = []
        for method in [only] if only else ("csvd", "osvd", "parametric"):
            x, mean, spread = np.array(
                [[point[key] for key in ("level", "mean", "sd")] for point in found[where] if point["method"] == method]
            ).T
            lines.append((method, x, mean, mean - spread, mean + spread))
        panel(axis, lines, xlabel=title)
        axis.set_ylim(0.0, 5.0)
    axes[0].set_ylabel("Tmax, estimated − true [s]", fontsize=10, color=ink.INK)
    axes[0].legend(fontsize=9, frameon=False, loc="upper left", ncols=3, columnspacing=1.0, handlelength=1.2)
    return figure


def lesion_figure(records: list[Record]) -> Figure:
    """Estimated volume of Tmax > 6 s, and Dice, over the true volume in the acute exams that count."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained", facecolor="white")
    volume, overlap = figure.subplots(1, 2)
    exams = lesion_exams(records)
    true = values_of(exams, "lesion", "tmax_over_6s_ml")
    for run, name, marker in (
        ("osvd", "csvd", "+"),
        ("osvd_shifted", "osvd", "^"),
        ("oracle", "matched", "x"),
        ("auto", "parametric", "o"),
    ):
        style = {"color": COLOURS[name], "markersize": 5, "alpha": 0.8, "label": RUNS[run]}
        volume.plot(true, values_of(exams, "runs", run, "ml"), marker, **style)
        overlap.plot(true, values_of(exams, "runs", run, "dice"), marker, **style)
    volume.loglog([LESION_ML, true.max()], [LESION_ML, true.max()], color=ink.MUTED, linewidth=0.8)
    ticks = (10, 20, 50, 100, 200, 500, 1000)
    volume.set_xticks(ticks[:5], map(str, ticks[:5]))
    volume.set_yticks(ticks, map(str, ticks))
    volume.minorticks_off()
    overlap.set_ylim(0.0, 1.0)
    overlap.legend(fontsize=8, frameon=False, loc="lower right")
    panel(volume, [], xlabel="true volume of Tmax > 6 s [mL]", ylabel="estimated volume [mL]")
    panel(overlap, [], xlabel="true volume of Tmax > 6 s [mL]", ylabel="Dice of Tmax > 6 s")
    return figure


# ------------------------------------------------------------------------------------------------ the command


def tables_of(results: Record) -> dict[str, str]:
    """Tables by the names of their markers."""
    run, acute = results["run"], results["acute"]
    return {
        "run": (
            f"`{run['command']}`: {run['voxels']} curves per level, phantom {run['phantom']}, seed {run['seed']}; "
            "Python "
            f"{run['python']}, JAX {run['jax']}, NumPy {run['numpy']}, SciPy {run['scipy']}, on the CPU."
        ),
        "checklist": checklist(results),
        "curves": curve_tables(results["curves"]),
        "acute": exam_tables(acute),
        "worst": worst_table(acute),
        "small": small_table(acute),
        "arterial": arterial_table(acute),
        "moving": moving_table(results["moving"], acute),
        "chronic": exam_tables(results["chronic"]),
    }


def finite(value: Any) -> Any:
    """The same with six digits, and None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def study(quick: bool, subjects: int, more: int, seed: int) -> Record:
    """All numbers."""
    voxels, every, size = (2048, 3, 64) if quick else (16384, 1, 128)
    subjects, more = (min(subjects, 3), min(more, 1)) if quick else (subjects, more)
    command = "python studies/validation.py" + (" --quick" if quick else f" --subjects={subjects} --seed={seed}")
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    return finite(
        {
            "run": {"command": command, "voxels": voxels, "seed": seed, "phantom": PHANTOM_VERSION} | versions,
            "curves": study_curves(voxels, seed, every),
            "offset": study_offset(voxels, seed, every),
            "demands": study_demands(voxels, seed),
            **study_exams(subjects, more, seed, size),
        }
    )


def write(results: Record, folder: pathlib.Path) -> None:
    """Page, pictures and JSON; the prose is that of docs/validation.md."""
    text = (DOCS / "validation.md").read_text(encoding="utf-8")
    for name, table in tables_of(results).items():
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
        results = study(_QUICK.value, _SUBJECTS.value, _MORE.value, _SEED.value)
    if _OUTPUT.value or not _QUICK.value:
        write(results, pathlib.Path(_OUTPUT.value or DOCS))
        print(checklist(results))
    else:
        print(*(f"{name}\n\n{table}\n" for name, table in tables_of(results).items()), sep="\n")


if __name__ == "__main__":
    app.run(main)
