"""One person and one acquisition, drawn before there is a grid."""

import dataclasses

import numpy as np

from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.kinetics import ArterialCurve, Perfusion
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.acquisition import Imperfections, Motion, Scanner
from dscgan_jax.phantom.anatomy import Head
from dscgan_jax.phantom.difficult import Difficulty
from dscgan_jax.phantom.physiology import Disease, Healthy, Territories
from dscgan_jax.phantom.presets import Preset
from dscgan_jax.phantom.tumour import Tumour
from dscgan_jax.phantom.varied import Hole, Variation


@dataclasses.dataclass(frozen=True)
class Bolus:
    """A first pass other than the preset's: the whole circulation is slower, recirculation comes later by as much.

    Attributes:
      width_seconds: full width at half maximum of the first pass in the reference artery.
      tail: mixed level afterwards over the peak.
    """

    width_seconds: float
    tail: float


@dataclasses.dataclass(frozen=True)
class Subject:
    """Everything that is drawn of one person and one acquisition, before there is a grid."""

    head: Head
    healthy: Healthy
    territories: Territories
    diseases: tuple[Disease, ...]
    hole: Hole | None
    tumour: Tumour | None
    scanner: Scanner
    motion: Motion
    arterial: ArterialCurve
    seconds: np.ndarray  # (time,) acquired times
    truncated: bool
    own_slices: int
    artery_scale: float


def draw_subject(
    protocol: Preset,
    streams: list[np.random.SeedSequence],
    imperfections: Imperfections,
    bolus: Bolus | None,
    variation: Variation | None,
    difficulty: Difficulty | None,
) -> Subject:
    """One person and one acquisition from streams of random numbers; the eighth is that of the noise."""
    rng = [np.random.default_rng(stream) for stream in streams]  # one each: a change in one leaves the others alone
    head, healthy, scanner = Head(rng[0]), Healthy(rng[1]), Scanner(rng[5])
    diseases, hole, draw_motion = [Disease(rng[3], protocol.disease)], None, acquisition.draw_motion
    if variation is not None:
        variation.alter(head, healthy, scanner)
        diseases += variation.more_diseases(diseases[0], rng[10])
        hole, draw_motion = variation.hole, variation.motion
    seconds, arterial, truncated = _draw_timing(rng[4], protocol, healthy, bolus, scanner.signal_to_noise)
    if difficulty is not None:
        motion = difficulty.motion(rng[6], seconds, arterial.arrival_seconds, imperfections.motion)
    else:
        motion = draw_motion(rng[6], len(seconds), imperfections.motion)
    return Subject(
        head=head,
        healthy=healthy,
        territories=Territories(rng[2]),
        diseases=tuple(diseases),
        hole=hole,
        tumour=Tumour(rng[8], protocol.tumour) if protocol.tumour else None,
        scanner=scanner,
        motion=motion,
        arterial=arterial,
        seconds=seconds,
        truncated=truncated or (variation is not None and variation.truncated),
        own_slices=int(rng[0].integers(protocol.slices[0], protocol.slices[1] + 1)),
        artery_scale=protocol.artery_scale,
    )


def _draw_timing(
    rng: np.random.Generator, protocol: Preset, healthy: Healthy, bolus: Bolus | None, signal_to_noise: float
) -> tuple[np.ndarray, ArterialCurve, bool]:
    """Acquired times, the AIF and whether the exam ends too early."""
    tr = protocol.frame_seconds
    frames = int(rng.integers(protocol.frames[0], protocol.frames[1] + 1))
    arrival = rng.uniform(*protocol.arrival_frames) * tr
    rise, shape = rng.uniform(4.0, 5.6), rng.uniform(2.6, 3.6)
    recirculation, again = rng.uniform(0.10, 0.22), rng.uniform(13.0, 18.0)
    plateau, washout = rng.uniform(0.03, 0.07), rng.uniform(400.0, 900.0)
    if bolus is not None:
        slower = bolus.width_seconds / (rise * kinetics.gamma_variate_width(shape))
        rise, again, plateau = slower * rise, slower * again, bolus.tail
    drop = rng.uniform(*protocol.grey_drop)
    if protocol.contrast_to_noise is not None:
        drop = protocol.contrast_to_noise / signal_to_noise
    truncated, late, after = rng.random() < protocol.truncated_share, rng.random() < 0.5, rng.uniform(34.0, 45.0)
    if truncated and late:  # the bolus came late
        frames = protocol.frames[0]
        arrival = max(arrival, (frames - 1) * tr - after)
    elif truncated:  # the scan was stopped
        frames = min(frames, int((arrival + after) / tr) + 1)

    def arterial_of(peak: float) -> ArterialCurve:
        return ArterialCurve(arrival, peak, rise, shape, recirculation, again, plateau, washout)

    # The dose shows in the drop of healthy grey matter; the equation is linear, so one curve gives the arterial height.
    grey = Perfusion(
        np.array([[healthy.grey_cbf]]),
        np.array([[healthy.grey_mtt]]),
        np.array([healthy.base_delay]),
        np.array([healthy.dispersion]),
        healthy.transit_shape,
    )
    fine = np.arange(0.0, arrival + 40.0, 0.5)
    curve = kinetics.tissue_concentration(arterial_of(1.0), grey, fine)[0]
    height = kinetics.concentration_of(-np.log(1.0 - drop) / protocol.echo_seconds) / float(curve.max())
    if protocol.ends_after_peak_seconds is not None:
        truncated, frames = True, int((fine[curve.argmax()] + protocol.ends_after_peak_seconds) / tr) + 1
    return np.arange(frames) * tr, arterial_of(height), bool(truncated)
