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
from tqdm import tqdm
from validation_page import (
    FACTORS,
    INF,
    NAMES,
    QUANTITIES,
    Record,
    checklist,
    curves_figure,
    label,
    lesion_figure,
    offset_figure,
    tables_of,
)

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import brain_record, overlap_record, usual_width
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


# ------------------------------------------------------------------------------------------------ curves

TE, SECONDS = 0.03, 120.0
ARRIVAL, RISE, SHAPE = 16.0, 4.5, 3.0  # of the arterial gamma variate, s, s and 1
GREY_PEAK = 13.0  # largest ΔR2* of grey matter, 1/s
SHARES, FLOWS, VOLUMES = np.array([(0.45, 60.0, 4.0), (0.40, 25.0, 2.0), (0.10, 20.0, 3.5), (0.05, 8.0, 1.2)]).T
NO_DISPERSION = 1e-3  # s, scale of a vascular transport function much shorter than any frame
BOX_SHAPE = 100.0  # of transit times that are nearly alike: the shape of the matched fit for a box
LEAST_NOISE = 1e-4  # of S0, the noise that the fit assumes of curves without noise
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

LESION_SECONDS = 6.0


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
        scores = brain_record(maps[name], truth[name], both, usual_width(name))
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
