"""The validation study on curves: noise, delay, dispersion, wide boluses, neighbours that share nothing."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage, stats
from tqdm import tqdm
from validation_records import BOLUSES, FACTORS, INF, NAMES, QUANTITIES, Record, label

from dscgan_jax.perfusion import deconvolution, kinetics, parametric, signal
from dscgan_jax.perfusion.parametric import FitSettings

TE, SECONDS = 0.03, 120.0
ARRIVAL, RISE, SHAPE = 16.0, 4.5, 3.0  # of the arterial gamma variate, s, s and 1
MIXING_WIDTHS = 2.5  # of a wide bolus, after its arrival: when the level of its tail is being reached
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
    delay: float | np.ndarray | None = None,
    mtt: float | None = None,
    dispersion: float = 0.0,
    frame_seconds: float = 1.5,
    shape: float = 1.0,
    bolus_seconds: float | None = None,
) -> Curves:
    """Four tissues, CBF spread by 12 %, CBV by 8 %, delays of 0-6 s.

    A given MTT is that of one tissue of CBV 4 mL/100 g. A given width of the bolus brings the tail of `BOLUSES`.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(SHARES), voxels, p=SHARES)
    cbf = FLOWS[kind] * (1 + 0.12 * rng.standard_normal(voxels))
    cbv = (4.0 if mtt else VOLUMES[kind]) * (1 + 0.08 * rng.standard_normal(voxels))
    cbf = 60.0 * cbv / mtt if mtt else cbf
    delays = rng.uniform(0.0, 6.0, voxels) if delay is None else np.broadcast_to(np.float64(delay), voxels)
    scale = max(dispersion, NO_DISPERSION)
    perfusion = kinetics.Perfusion(cbf[:, None], 60.0 * (cbv / cbf)[:, None], delays, np.full(voxels, scale), shape)
    grey = kinetics.Perfusion(np.array([[60.0]]), np.array([[4.0]]), np.zeros(1), np.full(1, scale), shape)
    seconds = np.arange(0.0, SECONDS - 1e-9, frame_seconds)

    def unit(times: np.ndarray) -> np.ndarray:
        if bolus_seconds is None:
            return kinetics.gamma_variate(np.asarray(times) - ARRIVAL, RISE, SHAPE)
        rise, again = bolus_seconds / kinetics.gamma_variate_width(SHAPE), MIXING_WIDTHS * bolus_seconds
        return kinetics.ArterialCurve(ARRIVAL, 1.0, rise, SHAPE, 0.0, again, BOLUSES[bolus_seconds])(times)

    height = (
        GREY_PEAK
        / kinetics.TISSUE_RELAXIVITY
        / kinetics.tissue_concentration(unit, grey, np.arange(0.0, 80.0, 0.25)).max()
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


CONTRAST_SHAPES, CONTRAST_MTTS = (1.0, 2.0, 5.0), (3.0, 6.0, 12.0)
CONTRAST_DISPERSION = 0.3  # s
WRONG = 1.5  # times too much or too little


def study_contrast(voxels: int, seed: int) -> list[Record]:
    """Voxels whose CBF is wrong though the fit is told the true shape; nine tissues, peak over noise 50, 100, 200."""
    found = []
    for shape, mtt in [(shape, mtt) for shape in CONTRAST_SHAPES for mtt in CONTRAST_MTTS]:
        curves = draw_curves(voxels, seed, snr=INF, mtt=mtt, dispersion=CONTRAST_DISPERSION, shape=shape)
        unit = np.random.default_rng(seed).standard_normal(curves.tissue.shape)
        row: Record = {"shape": shape, "mtt": mtt, "wrong_percent": {}}
        for contrast in (50, 100, 200):
            noise = curves.tissue.max(axis=1) / contrast
            tissue = (curves.tissue + noise[:, None] * unit).astype(np.float32)
            frame, settings = curves.seconds[1], FitSettings(transit_shape=shape)
            cbf = parametric.fit(tissue, curves.artery(curves.seconds), frame, noise, settings=settings).cbf
            wrong = np.abs(np.log(np.maximum(cbf, 1e-6) / curves.truth["cbf"])) > np.log(WRONG)
            row["wrong_percent"][str(contrast)] = float(100 * wrong.mean())
        found.append(row)
    return found


VOXEL_MM = np.array([2.0, 2.0, 5.0])
NEIGHBOURHOOD_MM = 5.0  # of the fit, as by default
SHARED_MM = 20.0  # FWHM over which neighbours share a delay


def study_neighbours(voxels: int, seed: int) -> list[Record]:
    """What the fit's neighbourhood does where neighbours share their delay, and where each voxel has its own."""
    side = round((voxels / 2) ** (1 / 3))
    mask = np.ones((2 * side, side, side), bool)
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(mask.shape)
    fields = {"shared": ndimage.gaussian_filter(own, SHARED_MM / 2.355 / VOXEL_MM), "each its own": own}
    found = []
    for name, field in fields.items():
        delays = 6.0 * stats.rankdata(field) / mask.sum()
        curves = draw_curves(int(mask.sum()), seed, delay=delays)
        artery, frame = curves.artery(curves.seconds), curves.seconds[1]
        near = parametric.fit(
            curves.tissue,
            artery,
            frame,
            curves.noise,
            mask=mask,
            voxel_mm=VOXEL_MM,
            neighbourhood_mm=NEIGHBOURHOOD_MM,
        )
        results = {"neighbours": near.deconvolved()} | {
            method: deconvolve(curves, method) for method in ("parametric", "osvd", "csvd")
        }
        for method, result in results.items():
            row: Record = {"delays": name, "method": method}
            for quantity in ("mtt", "tmax", "cbf"):
                value, truth = getattr(result, quantity), curves.truth[quantity]
                row[quantity] = {
                    "r": float(np.corrcoef(value, truth)[0, 1]),
                    "mae": float(np.abs(value - truth).mean()),
                }
            found.append(row)
    return found
