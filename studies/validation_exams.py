"""The validation study on whole phantom exams: presets, motion, wide boluses, noise, stacks of a few slices."""

import dataclasses

import numpy as np
from tqdm import tqdm
from validation_records import BOLUSES, LESION_ML, SNRS, STACKS, Record, lesion_ml

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation.metrics import brain_record, overlap_record, usual_width
from dscgan_jax.maps import MAPS
from dscgan_jax.perfusion import arterial, deconvolution, kinetics, parametric
from dscgan_jax.perfusion.conventional import (
    USUAL_SETTINGS,
    ConventionalMaps,
    Given,
    Measured,
    Settings,
    invert,
    measure,
)
from dscgan_jax.perfusion.motion import Realignment
from dscgan_jax.phantom.acquisition import REAL, Imperfections, move_frames
from dscgan_jax.phantom.exam import CORE_LABEL, Phantom, draw_phantom
from dscgan_jax.phantom.subject import Bolus

LESION_SECONDS = 6.0
LATE_SECONDS = 10.0  # the middle of 8 to 12 s, where dispersion is strongest


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
    for source in [method for method in methods if method not in deconvolution.SVD_METHODS]:
        if source == "true_poses":
            move_frames(series, exam.affine, np.linalg.inv(exam.motion.transforms()))
        try:
            measured = measure(
                series,
                exam.affine,
                exam.frame_seconds,
                exam.echo_seconds,
                _motion(source, methods),
                _oracle(exam) if source == "oracle" else Given(),
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


def _motion(source: str, methods: tuple[str, ...]) -> str:
    """What is done about motion: as the program does it, or nothing where it is compared or the poses are known."""
    if source in ("auto", "oracle") and "rigid" not in methods:
        return USUAL_SETTINGS.motion
    return "rigid" if source == "rigid" else "none"


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
    late, core = both & (np.abs(truth["tmax"] - LATE_SECONDS) < 2.0), exam.lesion == CORE_LABEL
    result["late_bias"] = float((maps["tmax"] - truth["tmax"])[late].mean()) if late.any() else None
    result["tmax_slope"] = float(np.polyfit(truth["tmax"][both], maps["tmax"][both], 1)[0]) if both.any() else None
    valued = tissue & np.isfinite(maps["tmax"]) & (maps["tmax"] != 0)
    result["core_valued"] = float(valued[core].mean()) if core.any() else None
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


# ------------------------------------------------------------------------------------------------ other exams

STACK_VOXELS = 1000  # of the middle slice show the median of Tmax


def _still(imperfections: Imperfections = REAL) -> Imperfections:
    return dataclasses.replace(imperfections, motion=False)


def _scored(exam: Phantom, series: np.ndarray, given: Given) -> Record:
    """Scores of the default method on a still series, what it doubts, and the AIF."""
    try:
        measured = measure(series, exam.affine, exam.frame_seconds, exam.echo_seconds, "none", given)
    except InputError as error:
        return {"refused": str(error)}
    found = invert(measured)
    findings = [finding.to_json() for finding in found.findings]
    return judge(exam, found.maps, measured.tissue) | {"findings": findings, "arterial": judge_artery(exam, measured)}


def _oracle(exam: Phantom) -> Given:
    return Given(tissue=exam.mask, arterial_seconds=exam.arterial_seconds, arterial_mm=exam.arterial_mm)


def study_boluses(acute: list[Record], subjects: int, seed: int, size: int) -> list[Record]:
    """The first people of the acute cohort with a lesion and a whole exam, with boluses of three widths."""
    people = [record["subject"] for record in acute if not record["truncated"] and lesion_ml(record) >= LESION_ML]
    found = []
    for subject in tqdm(people[:subjects], desc="boluses"):
        for width_seconds, tail in BOLUSES.items():
            bolus = Bolus(width_seconds, tail)
            exam = draw_phantom("acute", (seed, subject), size=size, imperfections=_still(), bolus=bolus)
            series = exam.series.astype(np.float32)
            runs = {"auto": _scored(exam, series, Given()), "oracle": _scored(exam, series, _oracle(exam))}
            found.append({"subject": subject, "bolus_seconds": width_seconds, "runs": runs})
    return found


def study_noise(acute: list[Record], subjects: int, seed: int, size: int) -> list[Record]:
    """The same people at three ratios of signal to noise: a better scanner must give better maps."""
    found = []
    for record in tqdm(acute[:subjects], desc="noise"):
        clean = _still(dataclasses.replace(REAL, noise=False, rounding=False))
        exam = draw_phantom("acute", (seed, record["subject"]), size=size, imperfections=clean)
        unit = np.random.default_rng([seed, record["subject"]]).standard_normal((2, *exam.series.shape), np.float32)
        for snr in SNRS:
            real, imaginary = np.float32(exam.truth["brain_signal"] / snr) * unit
            series = np.hypot(exam.series + real, imaginary)
            found.append({"subject": record["subject"], "snr": snr} | _scored(exam, series, Given()))
    return found


def study_stacks(exams: int, seed: int, size: int) -> list[Record]:
    """How far the AIF of a few slices moves Tmax of the same voxels, against the AIF of all slices; both presets."""
    found = []
    for number in tqdm(range(exams), desc="stacks"):
        preset = ("acute", "chronic")[number % 2]
        exam = draw_phantom(preset, (seed, number // 2), size=size, imperfections=_still())
        whole = measure(exam.series.astype(np.float32), exam.affine, exam.frame_seconds, exam.echo_seconds, "none")
        slice_of_voxel = np.flatnonzero(whole.tissue) % exam.mask.shape[2]
        for level, middle in _levels(exam).items():
            rows = np.flatnonzero(slice_of_voxel == middle)
            rows = rows[:: max(len(rows) // STACK_VOXELS, 1)]
            reference = _median_tmax(whole, whole.arterial_mm, rows)
            for height in STACKS:
                begin = min(max(middle - height // 2, 0), exam.mask.shape[2] - height)
                record = {"preset": preset, "subject": number // 2, "level": level, "slices": height}
                try:
                    some = _measure_slices(exam, slice(begin, begin + height))
                except InputError as error:
                    found.append(record | {"refused": str(error)})
                    continue
                shift = _median_tmax(whole, some.arterial_mm, rows) - reference
                warned = any(
                    finding.severity == "warning" and finding.name.startswith("arterial")
                    for finding in some.arterial.findings
                )
                found.append(record | {"shift": shift, "warned": warned})
    return found


def _levels(exam: Phantom) -> dict[str, int]:
    """Middle slices of stacks: at the arteries of the base, above them, and at the top of the head."""
    blood = (exam.shares["artery"] >= 0.5).sum(axis=(0, 1))
    tissue = exam.mask.sum(axis=(0, 1))
    count = len(tissue)
    base = int(np.where(tissue > 0.5 * tissue.max(), blood, 0).argmax())
    return {"base": base, "middle": int(0.58 * count), "top": int(0.75 * count)}


def _measure_slices(exam: Phantom, slices: slice) -> Measured:
    """Some slices of an exam, as if nothing else had been acquired."""
    affine = exam.affine.copy()
    affine[:3, 3] += slices.start * affine[:3, 2]
    series = exam.series[:, :, slices].astype(np.float32)
    return measure(series, affine, exam.frame_seconds, exam.echo_seconds, "none")


def _median_tmax(measured: Measured, arterial_mm: np.ndarray, rows: np.ndarray) -> float:
    """Median Tmax, s, of some voxels of `measured`, each fitted alone, with an AIF of the same frames.

    Shape and usual dispersion are fixed, since they are chosen in steps: only the AIF counts.
    """
    fitted = parametric.fit(
        measured.curves[rows],
        arterial_mm,
        measured.frame_seconds,
        measured.noise[rows],
        first_frame=measured.timing.baseline_begin,
        settings=parametric.FitSettings(
            transit_shape=kinetics.TRANSIT_SHAPE, dispersion_seconds=parametric.USUAL_DISPERSION
        ),
    )
    return float(np.median(fitted.tmax))
