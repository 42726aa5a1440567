"""A digital exam with known truth: anatomy, physiology, disease, acquisition -> series and the five maps.

What a voxel's truth means: a voxel holds shares of grey and white matter (and of CSF, in which nothing flows). Its concentration is
the sum of those of its tissues, so its CBF and CBV are share-weighted sums, MTT = 60 CBV / CBF, Tmax is the peak of the summed
residue functions and TTP that of the summed curve within the acquired frames. The maps describe the tissue; blood of large arteries
that runs through a voxel adds its signal, not its flow.

What the phantom has that an inversion does not model: arterial blood and tissue add as signals, blood's relaxation is not linear in concentration,
arrival spreads along the way, pulsation, drift, transient frames, motion, and noise that is Rician.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import acquisition, kinetics
from dscgan_jax.perfusion.acquisition import Imperfections, Motion, Scanner
from dscgan_jax.perfusion.anatomy import Grid, Head, Tissues, hull_depth, tissues_of
from dscgan_jax.perfusion.kinetics import ArterialCurve, Perfusion
from dscgan_jax.perfusion.physiology import (
    Disease,
    DiseaseRange,
    Healthy,
    Supply,
    Territories,
    diseased_supply,
    healthy_supply,
)
from dscgan_jax.perfusion.vessels import Artery, arteries_of, blood_shares

PHANTOM_VERSION = "1.0"  # part of every fingerprint: raise it when the same seed gives other exams

MASK_TISSUE_SHARE = 0.25  # grey and white matter of a voxel of the mask
MASK_SINUS_SHARE = 0.1  # more venous sinus than this is no tissue
LESION_TMAX_SECONDS = 6.0
CORE_FLOW_SHARE = 0.30  # of the healthy flow of the same voxel
BLOOD_CURVATURE = 0.02  # 1/mM: relaxation of blood is k C (1 + 0.02 C); van Osch et al. 2003 found such a rise
SCALP_BLOOD_SHARE = 0.012
SMALLEST_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Preset:
    """A protocol and its patients, after one of the paper's two cohorts.

    Attributes:
      frame_seconds, echo_seconds: TR and TE.
      field_of_view_mm: in plane, square.
      slice_mm: thickness, no gap.
      slices, frames: smallest and largest number.
      arrival_frames: range of the bolus' arrival, in frames.
      grey_drop: range of the largest signal drop of healthy grey matter.
      disease: what is drawn.
      truncated_share: share of subjects whose exam ends too early.
    """

    frame_seconds: float
    echo_seconds: float
    field_of_view_mm: float
    slice_mm: float
    slices: tuple[int, int]
    frames: tuple[int, int]
    arrival_frames: tuple[float, float]
    grey_drop: tuple[float, float]
    disease: DiseaseRange
    truncated_share: float = 0.08


PRESETS: dict[str, Preset] = {
    "acute": Preset(
        frame_seconds=2.22, echo_seconds=0.036, field_of_view_mm=240.0, slice_mm=5.0, slices=(25, 27), frames=(50, 75),
        arrival_frames=(8.5, 13.5), grey_drop=(0.28, 0.44),
        disease=DiseaseRange(
            vessels={"none": 0.07, "m1": 0.38, "m2_front": 0.17, "m2_back": 0.15, "branch": 0.13, "aca": 0.04, "pca": 0.06},
            delay_seconds=(4.0, 14.0), delay_skew=(1.1, 3.3), dispersion_seconds=(0.3, 0.6), flow_floor=(0.08, 0.42),
            ramp_mm=(24.0, 44.0))),
    "chronic": Preset(
        frame_seconds=1.39, echo_seconds=0.029, field_of_view_mm=230.4, slice_mm=5.0, slices=(24, 26), frames=(80, 80),
        arrival_frames=(10.0, 17.0), grey_drop=(0.24, 0.38),
        disease=DiseaseRange(
            vessels={"none": 0.08, "m1": 0.62, "m2_front": 0.1, "m2_back": 0.1, "aca": 0.1},
            delay_seconds=(1.0, 5.0), delay_skew=(1.6, 1.6), dispersion_seconds=(0.5, 1.1), flow_floor=(0.45, 0.85),
            ramp_mm=(24.0, 44.0))),
}


@dataclasses.dataclass(frozen=True)
class Phantom:
    """One exam; arrays are (x, y, z[, time]) in RAS order.

    Attributes:
      series: (x, y, z, time), int16, scanner units (float32 without rounding).
      affine: (4, 4), voxel index -> world mm.
      frame_seconds, echo_seconds: TR and TE.
      maps: cbf, cbv, mtt, tmax, ttp, (x, y, z) float32 in the units of `maps.MAPS`, 0 outside the mask.
      mask: (x, y, z) bool.
      lesion: (x, y, z) uint8: 1 = Tmax > 6 s, 2 = core.
      arterial_seconds, arterial_mm: (time,) the arterial curve of a healthy M1 at the acquired times, s and mM.
      shares: grey, white, csf, sinus, artery: (x, y, z) float32, share of each voxel.
      motion: pose of each frame.
      truth: every drawn number, plain values.
    """

    series: np.ndarray
    affine: np.ndarray
    frame_seconds: float
    echo_seconds: float
    maps: dict[str, np.ndarray]
    mask: np.ndarray
    lesion: np.ndarray
    arterial_seconds: np.ndarray
    arterial_mm: np.ndarray
    shares: dict[str, np.ndarray]
    motion: Motion
    truth: dict[str, Any]


def draw_phantom(
    preset: str,
    seed: int | Sequence[int],
    *,
    size: int = 128,
    slices: int | None = None,
    imperfections: Imperfections = acquisition.REAL,
) -> Phantom:
    """Draws one exam.

    Args:
      preset: `acute` or `chronic`.
      seed: of everything; a cohort gives (cohort's seed, subject's number).
      size: rows and columns; the field of view stays the preset's.
      slices: 0 or None: the preset's own number. Fewer slices become thicker, up to 8 mm, and cover the basal ganglia to the
        centrum semiovale.
      imperfections: which of them the exam has; `acquisition.IDEAL` is pure kinetics.

    Raises:
      InputError: unknown preset, or a size or a number of slices that makes no exam.

    The same seed on another grid is the same person in the same state.
    """
    if preset not in PRESETS:
        raise InputError(f"phantom preset {preset!r} is unknown; known are {', '.join(PRESETS)}.")
    if size < SMALLEST_SIZE or (slices is not None and slices < 0):
        raise InputError(f"phantom size {size} and slices {slices}: expected at least {SMALLEST_SIZE} pixels and 1 slice (0 = preset).")
    protocol = PRESETS[preset]
    streams = np.random.SeedSequence(seed).spawn(8)
    rng = [np.random.default_rng(stream) for stream in streams[:7]]
    head, healthy, territories, disease, scanner = (
        Head(rng[0]), Healthy(rng[1]), Territories(rng[2]), Disease(rng[3], protocol.disease), Scanner(rng[5]))
    seconds, arterial, truncated = _draw_timing(rng[4], protocol, healthy)
    motion = acquisition.draw_motion(rng[6], len(seconds), imperfections.motion)
    grid = _grid(protocol, rng[0], size, slices)

    world = grid.points().reshape(-1, 3)
    everywhere = head.from_scanner(world, grid)
    in_head = np.flatnonzero(hull_depth(everywhere) > -20.0)
    world, points = world[in_head], everywhere[in_head]
    tissues = tissues_of(head, points, grid.blur_mm())

    brain = np.flatnonzero(tissues.grey + tissues.white > 0.02)
    margins = territories.margins(points[brain])
    normal = healthy_supply(healthy, margins, points[brain])
    severity = disease.severity(margins, points[brain])
    supply = diseased_supply(normal, disease, severity, points[brain])
    shares = np.stack([tissues.grey[brain], tissues.white[brain]], axis=1)
    perfusion = _mixture(supply, shares, healthy.transit_shape)
    curves, ttp = kinetics.tissue_concentration_and_ttp(arterial, perfusion, seconds)

    flow = perfusion.voxel_cbf()
    values = {"cbf": flow, "cbv": perfusion.voxel_cbv(), "mtt": perfusion.voxel_mtt(),
              "tmax": kinetics.residue_peak_seconds(perfusion), "ttp": ttp}
    in_mask = (shares.sum(axis=1) >= MASK_TISSUE_SHARE) & (tissues.sinus[brain] <= MASK_SINUS_SHARE)
    hypoperfused = in_mask & (values["tmax"] > LESION_TMAX_SECONDS)
    core = hypoperfused & (flow < CORE_FLOW_SHARE * (normal.cbf * shares).sum(axis=1))

    def volume(inside: np.ndarray, content: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        flat = np.zeros(np.prod(grid.shape), dtype)
        flat[inside] = content
        return flat.reshape(grid.shape)

    where = in_head[brain]
    mask = volume(where, in_mask, bool)
    maps = {name: volume(where, np.where(in_mask, value, 0.0)) for name, value in values.items()}

    arteries = arteries_of(head)
    blood = blood_shares(arteries, head, grid)
    series, resting = _draw_signal(grid, seconds, protocol.echo_seconds, scanner, imperfections, tissues, world, points, in_head, brain,
                                   curves, arterial, arteries, blood, disease, healthy)
    if motion.moved:
        acquisition.move_frames(series, grid.affine(), motion.transforms())
    bias = acquisition.grid_bias(scanner, grid) if imperfections.bias else None
    brain_signal = float((resting if bias is None else resting * bias)[mask].mean()) if mask.any() else scanner.gain
    sigma = brain_signal / scanner.signal_to_noise if imperfections.noise else 0.0
    series = acquisition.measure(series, bias, sigma, streams[7], imperfections.rounding)

    artery_share = np.zeros(np.prod(grid.shape), np.float32)
    for index, share in blood:
        np.maximum.at(artery_share, index, share)
    share_maps = {name: volume(in_head, getattr(tissues, name)) for name in ("grey", "white", "csf", "sinus")}
    share_maps["artery"] = artery_share.reshape(grid.shape)
    lesion = volume(where, hypoperfused.astype(np.uint8) + core.astype(np.uint8), np.uint8)
    truth = {
        "phantom_version": PHANTOM_VERSION, "preset": preset, "seed": np.atleast_1d(seed).tolist(), "size": size,
        "slices": grid.shape[2], "frames": len(seconds), "frame_seconds": protocol.frame_seconds,
        "echo_seconds": protocol.echo_seconds, "moved": motion.moved, "truncated": truncated,
        "signal_to_noise": scanner.signal_to_noise if imperfections.noise else None, "noise_sigma": sigma, "brain_signal": brain_signal,
        "lesion": _lesion_record(maps["tmax"], lesion, mask, grid),
        "arterial": dataclasses.asdict(arterial), "disease": disease.parameters(), "healthy": healthy.parameters(),
        "anatomy": head.parameters(), "scanner": scanner.parameters(),
        "motion": _motion_record(motion),
    }
    return Phantom(series, grid.affine(), protocol.frame_seconds, protocol.echo_seconds, maps, mask, lesion, seconds,
                   arterial(seconds).astype(np.float32), share_maps, motion, truth)


# ------------------------------------------------------------------------------------------------- parts


def _draw_timing(rng, protocol, healthy) -> tuple[np.ndarray, ArterialCurve, bool]:
    """Acquired times, the arterial curve and whether the exam ends too early."""
    tr = protocol.frame_seconds
    frames = int(rng.integers(protocol.frames[0], protocol.frames[1] + 1))
    arrival = rng.uniform(*protocol.arrival_frames) * tr
    rise, shape = rng.uniform(4.0, 5.6), rng.uniform(2.6, 3.6)
    recirculation, again = rng.uniform(0.10, 0.22), rng.uniform(13.0, 18.0)
    plateau, washout = rng.uniform(0.03, 0.07), rng.uniform(400.0, 900.0)
    drop = rng.uniform(*protocol.grey_drop)
    truncated, late, after = rng.random() < protocol.truncated_share, rng.random() < 0.5, rng.uniform(34.0, 45.0)
    if truncated and late:  # the bolus came late
        frames = protocol.frames[0]
        arrival = max(arrival, (frames - 1) * tr - after)
    elif truncated:  # the scan was stopped
        frames = min(frames, int((arrival + after) / tr) + 1)
    seconds = np.arange(frames) * tr

    def arterial_of(peak: float) -> ArterialCurve:
        return ArterialCurve(arrival, peak, rise, shape, recirculation, again, plateau, washout)

    # The dose shows in the drop of healthy grey matter; the equation is linear, so one curve tells the arterial height.
    grey = Perfusion(np.array([[healthy.grey_cbf]]), np.array([[healthy.grey_mtt]]), np.array([healthy.base_delay]),
                     np.array([healthy.dispersion]), healthy.transit_shape)
    fine = np.arange(0.0, arrival + 40.0, 0.5)
    peak = kinetics.tissue_concentration(arterial_of(1.0), grey, fine).max()
    height = kinetics.concentration_of(-np.log(1.0 - drop) / protocol.echo_seconds) / float(peak)
    return seconds, arterial_of(height), bool(truncated)


def _grid(protocol: Preset, rng: np.random.Generator, size: int, slices: int | None) -> Grid:
    """The preset's own slices, or fewer and thicker ones."""
    own = int(rng.integers(protocol.slices[0], protocol.slices[1] + 1))
    count = slices or own
    thickness = float(np.clip(80.0 / count, protocol.slice_mm, 8.0))
    covered = count * thickness
    height = min(13.0 + 0.25 * (125.0 - covered), 22.0)  # fewer slices: from the basal ganglia upwards
    pixel = protocol.field_of_view_mm / size
    return Grid((size, size, count), (pixel, pixel, thickness), (0.0, -17.0, height))


def _mixture(supply: Supply, shares: np.ndarray, transit_shape: float) -> Perfusion:
    return Perfusion(cbf=np.where(shares > 0.01, supply.cbf * shares, 0.0), mtt=supply.mtt, delay=supply.delay,
                     dispersion=supply.dispersion, transit_shape=transit_shape)


def _draw_signal(grid, seconds, echo_seconds, scanner, imperfections, tissues: Tissues, world, points, in_head, brain, curves, arterial,
                 arteries, blood, disease, healthy) -> tuple[np.ndarray, np.ndarray]:
    """True signal without coil bias and noise, (x, y, z, time), and its steady state before the bolus, (x, y, z)."""
    series = np.zeros((int(np.prod(grid.shape)), len(seconds)), np.float32)
    resting = scanner.resting_signal(tissues, points)
    artery = np.zeros(len(series), np.float32)
    for index, share in blood:
        artery[index] += share
    artery = np.clip(artery, 0.0, 0.95)
    loadings, courses = scanner.modulation(seconds, world, points, np.clip(tissues.csf + artery[in_head], 0, 1),
                                           scanner.transient_share(tissues, imperfections), imperfections)
    still = resting * (1.0 - artery[in_head])  # blood displaces the rest
    relaxation = np.zeros((len(in_head), len(seconds)), np.float32)
    relaxation[brain] = kinetics.relaxation_change(curves)
    venous, scalp = kinetics.arterial_concentration(
        arterial, [healthy.base_delay + 1.5, 1.5], [(healthy.grey_mtt + 1.0) / kinetics.DISPERSION_SHAPE, 1.3], seconds)
    relaxation += kinetics.relaxation_change(SCALP_BLOOD_SHARE * tissues.scalp[:, None] * scalp)
    in_sinus = tissues.sinus > 0.02
    relaxation[in_sinus] = (relaxation[in_sinus] * (1.0 - tissues.sinus[in_sinus, None])
                            + tissues.sinus[in_sinus, None] * _blood_relaxation(venous))
    acquisition.signal_courses(still, relaxation, echo_seconds, loadings, courses, series, in_head)

    steady = np.zeros(len(series), np.float32)
    steady[in_head] = still
    delay, dispersion = _arterial_supply(arteries, disease, healthy)
    blood_curves = kinetics.arterial_concentration(arterial, delay, dispersion, seconds)
    pulse = 1.0 + scanner.pulsation * np.cos(2 * np.pi * scanner.pulsation_hertz * seconds) * imperfections.pulsation
    for (index, share), curve in zip(blood, blood_curves, strict=True):
        level = scanner.gain * acquisition.BLOOD_SIGNAL
        course = level * np.exp(-echo_seconds * _blood_relaxation(curve)) * pulse
        series[index] += (share[:, None] * course).astype(np.float32)
        steady[index] += share * level
    return series.reshape(*grid.shape, -1), steady.reshape(grid.shape)


def _blood_relaxation(concentration: np.ndarray) -> np.ndarray:
    """Relaxation change of blood, 1/s; it rises faster than its concentration in mM."""
    return kinetics.relaxation_change(concentration * (1.0 + BLOOD_CURVATURE * concentration), kinetics.K_BLOOD)


def _arterial_supply(arteries: list[Artery], disease: Disease, healthy: Healthy) -> tuple[np.ndarray, np.ndarray]:
    """Delay and dispersion of each artery, s; behind an occlusion blood arrives late, through collaterals."""
    delay = np.array([artery.delay_seconds for artery in arteries])
    dispersion = np.full(len(arteries), 0.05)  # the reference itself has none; a little keeps the kernel defined
    dispersion[delay > 0] = 0.5 * healthy.dispersion
    supplied = {"m1": "mca", "m2_front": "mca_front", "m2_back": "mca_back", "aca": "aca", "pca": "pca"}.get(disease.vessel)
    for number, artery in enumerate(arteries):
        if supplied and artery.side == disease.side and artery.downstream_of.startswith(supplied):
            delay[number] += 0.6 * disease.delay
            dispersion[number] = max(dispersion[number], 0.7 * disease.dispersion)
    return delay, dispersion


def _lesion_record(tmax: np.ndarray, lesion: np.ndarray, mask: np.ndarray, grid: Grid) -> dict[str, float | None]:
    """Volumes in ml, and how wide the lesion's border is."""
    ml = grid.voxel_ml()
    total = float((lesion > 0).sum() * ml)
    edge = float((mask & (tmax > 5.0) & (tmax < 7.0)).sum() * ml)
    return {"tmax_over_6s_ml": total, "core_ml": float((lesion == 2).sum() * ml), "tmax_5_to_7s_ml": edge,
            "tmax_6_to_7s_ml": float(((lesion > 0) & (tmax < 7.0)).sum() * ml), "brain_ml": float(mask.sum() * ml),
            "largest_tmax_seconds": float(tmax.max())}


def _motion_record(motion: Motion) -> dict[str, Any]:
    record = {"convention": "a point at world position p (mm, RAS) in the first frame lies at R p + t in frame f; R = Rz Ry Rx of "
                            "degrees about the fixed axes through the centre of the volume, which is the world's origin; t in mm"}
    if motion.moved:
        record |= {"degrees": np.round(motion.degrees, 9).tolist(), "millimetres": np.round(motion.millimetres, 9).tolist(),
                   "transforms": motion.transforms().tolist()}
    return record
