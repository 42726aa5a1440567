"""A digital exam with known truth: anatomy, physiology, disease, acquisition -> series and the five maps.

What a voxel's truth means: a voxel holds shares of grey and white matter (and of CSF, in which nothing flows). Its
concentration is the sum of those of its tissues, so its CBF and CBV are share-weighted sums, MTT = 60 CBV / CBF, Tmax
is the peak of the summed residue functions and TTP that of the summed curve within the acquired frames. The maps
describe the tissue; blood of large arteries that runs through a voxel adds its signal, not its flow.

What the phantom has that an inversion does not model: arterial blood and tissue add as signals, ΔR2* of blood is
not linear in concentration, arrival spreads along the way, pulsation, drift, non-steady-state frames, motion, and noise
that is Rician.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.perfusion import kinetics, signal
from dscgan_jax.perfusion.kinetics import Perfusion
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.acquisition import Imperfections, Motion
from dscgan_jax.phantom.anatomy import Grid, Tissues, hull_depth, tissues_of
from dscgan_jax.phantom.difficult import STACK_MM, Difficulty
from dscgan_jax.phantom.physiology import (
    TERRITORY_OF,
    Disease,
    Healthy,
    diseased_supply,
    healthy_supply,
)
from dscgan_jax.phantom.presets import PRESETS, Preset
from dscgan_jax.phantom.subject import Bolus, Subject, draw_subject
from dscgan_jax.phantom.tumour import PURE_TUMOUR, T1_DOMINATES, T2STAR_DOMINATES
from dscgan_jax.phantom.varied import Variation
from dscgan_jax.phantom.vessels import Artery, arteries_of, blood_shares

PHANTOM_VERSION = "1.1"  # part of every fingerprint: raise it when the same seed gives other exams

MASK_TISSUE_SHARE = 0.25  # grey and white matter of a voxel of the mask
MASK_SINUS_SHARE = 0.1  # more venous sinus than this is no tissue
LESION_TMAX_SECONDS = 6.0
CORE_LABEL = 2  # in the volume of the lesion, whose other voxels are 1
CORE_FLOW_SHARE = 0.30  # of the healthy flow of the same voxel
BLOOD_CURVATURE = 0.02  # 1/mM: ΔR2* of blood is k C (1 + 0.02 C); van Osch et al. 2003 found such a rise
SCALP_BLOOD_SHARE = 0.012
SMALLEST_SIZE = 16
LATE_FRAMES = 10  # the last ones, in which leaking tissue is told apart
LEAKAGE_LABELS = {"t1_dominated_voxels": T1_DOMINATES, "t2star_dominated_voxels": T2STAR_DOMINATES}


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
      arterial_seconds, arterial_mm: (time,) the AIF of a healthy M1 at the acquired times, s and mM.
      shares: grey, white, csf, sinus, artery: (x, y, z) float32, share of each voxel.
      motion: pose of each frame.
      truth: every drawn number, plain values.
      field_tesla: of the scanner.
      leakage: (x, y, z) uint8, tumour whose vessels leak: 1 = T1 dominates in the last frames (K2 above 0), 2 = T2*
        does (K2 below 0); None without a tumour.
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
    field_tesla: float = 3.0
    leakage: np.ndarray | None = None


def draw_phantom(
    preset: str,
    seed: int | Sequence[int],
    *,
    size: int = 128,
    slices: int | None = None,
    imperfections: Imperfections = acquisition.REAL,
    bolus: Bolus | None = None,
    largest: int = 0,
) -> Phantom:
    """Draws one exam.

    Args:
      preset: `acute`, `chronic`, `tumour`, `varied` or `difficult`.
      seed: of everything; a cohort gives (cohort's seed, subject's number). The last number, modulo 4, decides which
        kind (`difficult.KINDS`) an exam of `difficult` is.
      size: rows and columns; 0: the preset's own number. The field of view stays the preset's.
      slices: 0 or None: the preset's own number. Fewer slices become thicker, up to 8 mm, and are placed between the
        basal ganglia and the centrum semiovale; those of `varied` keep their thickness, and lie anywhere in the brain,
        those of `difficult` without arteries above the basal ganglia.
      imperfections: which of them the exam has; `acquisition.IDEAL` is pure kinetics.
      bolus: width and tail of the first pass; None: as the preset draws them.
      largest: where `size` is 0, the most rows and columns; 0: any.

    Raises:
      InputError: unknown preset, negative seed, or a size or a number of slices that makes no exam.

    The same seed on another grid is the same person in the same state.
    """
    if preset not in PRESETS:
        raise InputError(f"phantom preset {preset!r} is unknown; known are {', '.join(PRESETS)}.")
    if np.min(seed) < 0:
        raise InputError(f"phantom seed {seed}: expected a number of at least 0.")
    if 0 < size < SMALLEST_SIZE or size < 0 or (slices is not None and slices < 0):
        raise InputError(
            f"phantom size {size}, slices {slices}: expected at least {SMALLEST_SIZE} pixels and 1 slice (0 = preset)."
        )
    protocol = PRESETS[preset]
    # The preset is part of the seed: both cohorts of one seed consist of different people.
    streams = np.random.SeedSequence([*np.atleast_1d(seed).tolist(), 1 + list(PRESETS).index(preset)]).spawn(11)
    variation = Variation(np.random.default_rng(streams[9])) if protocol.varied else None
    if variation is not None:
        protocol = dataclasses.replace(protocol, **variation.protocol())
        bolus = bolus or Bolus(variation.drawn["arterial_width_seconds"], variation.drawn["arterial_tail"])
    difficulty = None
    if protocol.difficult:
        difficulty = Difficulty(np.random.default_rng(streams[9]), int(np.atleast_1d(seed)[-1]))
        protocol = dataclasses.replace(protocol, **difficulty.protocol())
    size = size or min(protocol.matrix, largest or protocol.matrix)
    subject = draw_subject(protocol, streams, imperfections, bolus, variation, difficulty)
    body = _draw_body(subject, _grid(protocol, subject.own_slices, size, slices, variation))
    tissue = _perfuse(subject, body, protocol.echo_seconds)
    series, steady = _draw_signal(subject, body, tissue, protocol.echo_seconds, imperfections)
    if subject.motion.moved:
        repeat_ends = protocol.varied or protocol.difficult
        acquisition.move_frames(series, body.grid.affine(), subject.motion.transforms(), repeat_ends)

    mask = body.volume(body.in_brain, tissue.in_mask, bool)
    maps = {name: body.volume(body.in_brain, np.where(tissue.in_mask, value, 0)) for name, value in tissue.maps.items()}
    labels = np.where(tissue.in_core, CORE_LABEL, tissue.in_lesion)
    lesion = body.volume(body.in_brain, labels, np.uint8)
    bias = acquisition.grid_bias(subject.scanner, body.grid) if imperfections.bias else np.ones_like(steady)
    brain_signal = float((steady * bias)[mask].mean()) if mask.any() else subject.scanner.gain
    sigma = brain_signal / subject.scanner.signal_to_noise if imperfections.noise else 0.0
    series = acquisition.measure(series, bias, sigma, streams[7], imperfections.rounding)
    if variation is not None and variation.stripped:
        kept = np.flatnonzero(hull_depth(body.points) > variation.stripped_mm)
        left = body.volume(body.in_head[kept], np.True_, bool)
        series[~left] = 0
        mask, lesion = mask & left, np.where(left, lesion, np.uint8(0))
        maps = {name: np.where(left, values, np.float32(0)) for name, values in maps.items()}

    truth: dict[str, Any] = {
        "phantom_version": PHANTOM_VERSION,
        "preset": preset,
        "seed": np.atleast_1d(seed).tolist(),
        "size": size,
        "slices": body.grid.shape[2],
        "frames": len(subject.seconds),
        "frame_seconds": protocol.frame_seconds,
        "echo_seconds": protocol.echo_seconds,
        "moved": subject.motion.moved,
        "truncated": subject.truncated,
        "signal_to_noise": subject.scanner.signal_to_noise if imperfections.noise else None,
        "noise_sigma": sigma,
        "brain_signal": brain_signal,
        "lesion": _lesion_record(maps["tmax"], lesion, mask, body.grid),
        "arterial": dataclasses.asdict(subject.arterial),
        "disease": subject.diseases[0].parameters(),
        "healthy": subject.healthy.parameters(),
        "anatomy": subject.head.parameters(),
        "scanner": subject.scanner.parameters(),
        "motion": subject.motion.record(),
    }
    if variation is not None:
        truth["more_diseases"] = [disease.parameters() for disease in subject.diseases[1:]]
        truth["varied"] = variation.parameters()
    if difficulty is not None:
        truth["difficulty"] = difficulty.kind
        truth["difficult"] = difficulty.parameters()
    leakage = None
    if subject.tumour is not None:
        leakage = body.volume(body.in_brain, np.where(tissue.in_mask, tissue.leakage, 0), np.uint8)
        counts = {name: int((leakage == label).sum()) for name, label in LEAKAGE_LABELS.items()}
        truth["tumour"] = subject.tumour.parameters() | counts
    return Phantom(
        series=series,
        affine=body.grid.affine(),
        frame_seconds=protocol.frame_seconds,
        echo_seconds=protocol.echo_seconds,
        maps=maps,
        mask=mask,
        lesion=lesion,
        arterial_seconds=subject.seconds,
        arterial_mm=subject.arterial(subject.seconds).astype(np.float32),
        shares=_share_maps(body),
        motion=subject.motion,
        truth=truth,
        field_tesla=protocol.field_tesla,
        leakage=leakage,
    )


# ------------------------------------------------------------------------------------------------- parts


@dataclasses.dataclass(frozen=True)
class _Body:
    """One person on one grid. Voxels of the head are listed; voxels of the brain are listed within them."""

    grid: Grid
    world: np.ndarray  # (voxel of the head, 3) scanner mm
    points: np.ndarray  # (voxel of the head, 3) head mm
    in_head: np.ndarray  # (voxel of the head,) flat index in the volume
    tissues: Tissues
    brain: np.ndarray  # (voxel of the brain,) index into the voxels of the head
    arteries: list[Artery]
    blood: list[tuple[np.ndarray, np.ndarray]]  # flat indices and shares of each artery

    @property
    def in_brain(self) -> np.ndarray:
        """(voxel of the brain,) flat index in the volume."""
        return self.in_head[self.brain]

    def volume(self, where: np.ndarray, content: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """(x, y, z) with `content` at the flat indices `where`, 0 elsewhere."""
        flat = np.zeros(np.prod(self.grid.shape), dtype)
        flat[where] = content
        return flat.reshape(self.grid.shape)


@dataclasses.dataclass(frozen=True)
class _Tissue:
    """Truth of the voxels of the brain."""

    curves: np.ndarray  # (voxel, time), mM, in vessels
    outside: np.ndarray | None  # (voxel, time), 1/s, apparent ΔR2* of the agent outside vessels
    maps: dict[str, np.ndarray]  # (voxel,)
    in_mask: np.ndarray
    in_lesion: np.ndarray
    in_core: np.ndarray
    leakage: np.ndarray  # as in `Phantom`


def _draw_body(subject: Subject, grid: Grid) -> _Body:
    """The person's tissues and vessels on a grid."""
    world = grid.points().reshape(-1, 3)
    everywhere = subject.head.from_scanner(world, grid)
    in_head = np.flatnonzero(hull_depth(everywhere) > -20.0)
    tissues = tissues_of(subject.head, everywhere[in_head], grid.blur_mm())
    if subject.hole is not None:
        tissues = tissues.with_fluid(subject.hole.share(everywhere[in_head], grid.blur_mm()))
    arteries = arteries_of(subject.head, subject.artery_scale)
    return _Body(
        grid=grid,
        world=world[in_head],
        points=everywhere[in_head],
        in_head=in_head,
        tissues=tissues,
        brain=np.flatnonzero(tissues.grey + tissues.white > 0.02),
        arteries=arteries,
        blood=blood_shares(arteries, subject.head, grid),
    )


def _perfuse(subject: Subject, body: _Body, echo_seconds: float) -> _Tissue:
    """Curves, maps, mask, lesion and leakage of the brain."""
    points = body.points[body.brain]
    margins = subject.territories.margins(points)
    normal = healthy_supply(subject.healthy, margins, points)
    supply = normal
    for disease in subject.diseases:
        supply = diseased_supply(supply, disease, disease.severity(margins, points), points)
    shares = np.stack([body.tissues.grey, body.tissues.white], axis=1)[body.brain]
    tumour_share = np.zeros(len(points))
    if subject.tumour is not None:
        tumour_share = subject.tumour.share(points)
        supply = subject.tumour.supply(supply, tumour_share, points)
    perfusion = Perfusion(
        cbf=np.where(shares > 0.01, supply.cbf * shares, 0.0),
        mtt=supply.mtt,
        delay=supply.delay,
        dispersion=supply.dispersion,
        transit_shape=subject.healthy.transit_shape,
    )
    curves, ttp = kinetics.tissue_concentration_and_ttp(subject.arterial, perfusion, subject.seconds)
    tmax = kinetics.residue_peak_seconds(perfusion)
    flow = perfusion.voxel_cbf()
    maps = {"cbf": flow, "cbv": perfusion.voxel_cbv(), "mtt": perfusion.voxel_mtt(), "tmax": tmax, "ttp": ttp}
    in_mask = (shares.sum(axis=1) >= MASK_TISSUE_SHARE) & (body.tissues.sinus[body.brain] <= MASK_SINUS_SHARE)
    in_lesion = in_mask & (tmax > LESION_TMAX_SECONDS)
    in_core = in_lesion & (flow < CORE_FLOW_SHARE * (normal.cbf * shares).sum(axis=1))
    outside, leakage = None, np.zeros(len(points), np.uint8)
    if subject.tumour is not None:
        share = tumour_share * shares.sum(axis=1)
        outside = subject.tumour.apparent_delta_r2star(
            subject.arterial, supply.delay, share, points, subject.seconds, echo_seconds
        )
        darker = outside[:, -LATE_FRAMES:].mean(axis=1) > 0
        leakage = np.where(tumour_share > PURE_TUMOUR, np.where(darker, T2STAR_DOMINATES, T1_DOMINATES), 0)
    return _Tissue(curves, outside, maps, in_mask, in_lesion, in_core, leakage)


def _grid(protocol: Preset, own_slices: int, size: int, slices: int | None, variation: Variation | None) -> Grid:
    """The preset's own slices, or fewer and thicker ones."""
    count = slices or own_slices
    if variation is not None:
        pixel = protocol.field_of_view_mm / size
        return Grid((size, size, count), (pixel, pixel, protocol.slice_mm), variation.centre_mm(count))
    if protocol.lowest_mm is not None:
        pixel, thickness = protocol.field_of_view_mm / size, min(protocol.slice_mm, STACK_MM / count)
        return Grid(
            (size, size, count), (pixel, pixel, thickness), (0.0, -17.0, protocol.lowest_mm + 0.5 * count * thickness)
        )
    thickness = float(np.clip(80.0 / count, protocol.slice_mm, 8.0))
    height = min(13.0 + 0.25 * (125.0 - count * thickness), 22.0)  # fewer slices: from the basal ganglia upwards
    pixel = protocol.field_of_view_mm / size
    return Grid((size, size, count), (pixel, pixel, thickness), (0.0, -17.0, height))


def _draw_signal(
    subject: Subject, body: _Body, tissue: _Tissue, echo_seconds: float, imperfections: Imperfections
) -> tuple[np.ndarray, np.ndarray]:
    """True signal without coil bias and noise, (x, y, z, time), and its steady state before the bolus, (x, y, z)."""
    seconds, scanner, tissues, healthy = subject.seconds, subject.scanner, body.tissues, subject.healthy
    series = np.zeros((int(np.prod(body.grid.shape)), len(seconds)), np.float32)
    artery = np.zeros(len(series), np.float32)
    for index, share in body.blood:
        artery[index] += share
    artery = np.clip(artery, 0.0, 0.95)[body.in_head]
    baseline = scanner.baseline_signal(tissues, body.points) * (1.0 - artery)  # blood displaces the rest

    delta_r2star = _delta_r2star(subject, body, tissue)
    transient = scanner.transient_share(tissues, imperfections)
    pulsating = np.clip(tissues.csf + artery, 0, 1)
    loadings, courses = scanner.modulation(seconds, body.world, body.points, pulsating, transient, imperfections)
    acquisition.signal_courses(baseline, delta_r2star, echo_seconds, loadings, courses, series, body.in_head)
    steady = np.zeros(len(series), np.float32)
    steady[body.in_head] = baseline

    delay, dispersion = _arterial_supply(body.arteries, subject.diseases, healthy)
    blood_curves = kinetics.arterial_concentration(subject.arterial, delay, dispersion, seconds)
    pulse = np.ones(len(seconds))
    if imperfections.pulsation:
        pulse += scanner.pulsation * np.cos(2 * np.pi * scanner.pulsation_hertz * seconds)
    level = scanner.gain * acquisition.BLOOD_SIGNAL
    for (index, share), curve in zip(body.blood, blood_curves, strict=True):
        course = signal.signal_after(level * pulse, _blood_delta_r2star(curve), echo_seconds)
        series[index] += (share[:, None] * course).astype(np.float32)
        steady[index] += share * level
    return series.reshape(*body.grid.shape, -1), steady.reshape(body.grid.shape)


def _delta_r2star(subject: Subject, body: _Body, tissue: _Tissue) -> np.ndarray:
    """(voxel of the head, time) float32, 1/s, of brain, venous sinuses and scalp."""
    tissues, healthy = body.tissues, subject.healthy
    delta_r2star = np.zeros((len(body.in_head), len(subject.seconds)), np.float32)
    delta_r2star[body.brain] = kinetics.delta_r2star_of(tissue.curves)
    if tissue.outside is not None:
        delta_r2star[body.brain] += tissue.outside
    venous_scale = (healthy.grey_mtt + 1.0) / kinetics.DISPERSION_SHAPE
    venous, scalp = kinetics.arterial_concentration(
        subject.arterial, [healthy.base_delay + 1.5, 1.5], [venous_scale, 1.3], subject.seconds
    )
    delta_r2star += kinetics.delta_r2star_of(SCALP_BLOOD_SHARE * tissues.scalp[:, None] * scalp)
    drained = np.flatnonzero(tissues.sinus > 0.02)
    share = tissues.sinus[drained, None]
    delta_r2star[drained] = (1.0 - share) * delta_r2star[drained] + share * _blood_delta_r2star(venous)
    return delta_r2star


def _share_maps(body: _Body) -> dict[str, np.ndarray]:
    """grey, white, csf, sinus, artery: (x, y, z) float32, share of each voxel."""
    maps = {name: body.volume(body.in_head, getattr(body.tissues, name)) for name in ("grey", "white", "csf", "sinus")}
    artery = np.zeros(np.prod(body.grid.shape), np.float32)
    for index, share in body.blood:
        np.maximum.at(artery, index, share)
    return maps | {"artery": artery.reshape(body.grid.shape)}


def _blood_delta_r2star(concentration: np.ndarray) -> np.ndarray:
    """ΔR2* of blood, 1/s; it rises faster than the concentration in mM."""
    return kinetics.delta_r2star_of(concentration * (1.0 + BLOOD_CURVATURE * concentration), kinetics.BLOOD_RELAXIVITY)


def _arterial_supply(
    arteries: list[Artery], diseases: Sequence[Disease], healthy: Healthy
) -> tuple[np.ndarray, np.ndarray]:
    """Delay and dispersion of each artery, s; behind an occlusion blood arrives late, through collaterals."""
    delay = np.array([artery.delay_seconds for artery in arteries])
    dispersion = np.full(
        len(arteries), 0.05
    )  # the reference itself has none; a little keeps the transport function defined
    dispersion[delay > 0] = 0.5 * healthy.dispersion
    for disease in diseases:
        supplied = TERRITORY_OF.get(disease.vessel)
        for number, artery in enumerate(arteries):
            if supplied and artery.side == disease.side and artery.downstream_of.startswith(supplied):
                delay[number] += 0.6 * disease.delay
                dispersion[number] = max(dispersion[number], 0.7 * disease.dispersion)
    return delay, dispersion


def _lesion_record(tmax: np.ndarray, lesion: np.ndarray, mask: np.ndarray, grid: Grid) -> dict[str, float | None]:
    """Volumes in mL, and how wide the lesion's border is."""
    ml = grid.voxel_ml()
    total = float((lesion > 0).sum() * ml)
    edge = float((mask & (tmax > 5.0) & (tmax < 7.0)).sum() * ml)
    return {
        "tmax_over_6s_ml": total,
        "core_ml": float((lesion == CORE_LABEL).sum() * ml),
        "tmax_5_to_7s_ml": edge,
        "tmax_6_to_7s_ml": float(((lesion > 0) & (tmax < 7.0)).sum() * ml),
        "brain_ml": float(mask.sum() * ml),
        "largest_tmax_seconds": float(tmax.max()),
    }
