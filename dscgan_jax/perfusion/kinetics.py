"""The tracer kinetics of the first pass of a bolus: one equation, used both to draw exams and to invert them.

Words and units, in the whole package:
  concentration   mM; in blood (C_a, of the artery) or averaged over a voxel of tissue (C_t)
  R(t)            residue function: share of the contrast agent still in the voxel t seconds after it entered; R(0) = 1
  h(t)            vascular transport function: density of the travelling times between the reference artery and the
                  voxel, 1/s; its width is the dispersion
  delay           s, arterial delay: from the reference artery (M1 segment of a healthy middle cerebral artery) to the
                  voxel
  CBF, CBV, MTT   mL/100 g/min, mL/100 g, s

The equation, with the density rho of the tissue and the haematocrit factor kappa (`CONSTANTS`):
  C_t(t) = (rho / kappa) * (CBF / 6000) * integral C_a(tau) (h (*) R)(t - delay - tau) dtau
  ΔR2* = k * C, with the transverse relaxivity k, which differs in tissue and in blood; S = S0 exp(-TE ΔR2*)

Definitions:
  MTT   60 CBV / CBF, the first moment of the transit times, since the integral of R is the MTT
  Tmax  argmax of h (*) R delayed; 0 is the AIF of a healthy M1
  TTP   time of the peak of C_t, counted from the first acquired frame

How curves are computed: transit times and travelling times are gamma distributed, whose Fourier transforms are closed
expressions, (1 + i w b)^-a. A voxel's transfer function is therefore known exactly at any frequency; curves are the
inverse transform of its product with the spectrum of the AIF, one matrix product for all voxels and any times.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from dscgan_jax.perfusion import signal
from dscgan_jax.threads import MOST_THREADS, in_threads

Curve = Callable[[np.ndarray], np.ndarray]  # times in s -> concentration in mM, e.g. an `ArterialCurve`


class Constant(NamedTuple):
    """A physical constant: its value, its unit and where it comes from."""

    value: float
    unit: str
    source: str


CONSTANTS: dict[str, Constant] = {
    "tissue_relaxivity": Constant(
        87.0, "1/(s mM)", "value in common use, after the theory of Kjolby et al., Magn Reson Med 2006;56:187"
    ),
    "blood_relaxivity": Constant(
        12.0, "1/(s mM)", "linearised; whole blood is measured by van Osch et al., Magn Reson Med 2003;49:1067"
    ),
    "tissue_density": Constant(1.04, "g/mL", "density of brain tissue, as in Rempp et al., Radiology 1994;193:637"),
    "haematocrit_large_vessels": Constant(0.45, "1", "haematocrit of large vessels; Rempp et al. 1994"),
    "haematocrit_small_vessels": Constant(0.25, "1", "haematocrit of small vessels; Rempp et al. 1994"),
}

TISSUE_RELAXIVITY = CONSTANTS["tissue_relaxivity"].value
BLOOD_RELAXIVITY = CONSTANTS["blood_relaxivity"].value
HAEMATOCRIT_FACTOR = (1.0 - CONSTANTS["haematocrit_large_vessels"].value) / (
    1.0 - CONSTANTS["haematocrit_small_vessels"].value
)
DENSITY_OVER_HAEMATOCRIT_FACTOR = CONSTANTS["tissue_density"].value / HAEMATOCRIT_FACTOR  # g/mL

TRANSIT_SHAPE = 2.0  # shape of the gamma-distributed transit times; 1 = exponential residue, inf = box
DISPERSION_SHAPE = 3.0  # shape of the vascular transport function, which starts from zero smoothly

_FINE_SECONDS = 0.05  # sampling of the AIF for its spectrum
_TAPER_SECONDS = 12.0  # the AIF fades out after the last time that is asked for, which causal tissue never sees
_SPECTRUM_FLOOR = 2e-4  # frequencies are kept until AIF x residue function stay below this share of their maximum
_FLOW_FACTOR = np.float32(DENSITY_OVER_HAEMATOCRIT_FACTOR / 6000.0)  # mL/100 g/min -> 1/s
_CHUNK = 1024  # voxels at a time: the work arrays stay in the processor's cache
_AS_THEY_ARE = np.zeros(1)  # no later than the voxels' own delays


# ---------------------------------------------------------------------------------------------- AIF


@dataclasses.dataclass(frozen=True)
class ArterialCurve:
    """Concentration of contrast agent in arterial blood: first pass, recirculation, slow wash-out.

    Attributes:
      arrival_seconds: begin of the first pass, from the first acquired frame.
      peak_mm: height of the first pass, mM.
      rise_seconds: from arrival to the peak of the first pass.
      shape: exponent of the gamma variate; large = narrow.
      recirculation: area of the recirculation over that of the first pass.
      recirculation_seconds: from the first pass to the recirculation.
      plateau: mixed level afterwards over `peak_mm`.
      washout_seconds: time constant with which the mixed level falls.
    """

    arrival_seconds: float
    peak_mm: float
    rise_seconds: float = 5.0
    shape: float = 3.0
    recirculation: float = 0.15
    recirculation_seconds: float = 15.0
    plateau: float = 0.05
    washout_seconds: float = 600.0

    def __call__(self, seconds: np.ndarray) -> np.ndarray:
        """Concentration in mM at `seconds` (any shape), float64."""
        since = np.asarray(seconds, np.float64) - self.arrival_seconds
        first = gamma_variate(since, self.rise_seconds, self.shape)
        # The recirculation has been through the body: lower and wider than the first pass.
        width = 2.2
        second = (
            self.recirculation
            / width
            * gamma_variate(since - self.recirculation_seconds, width * self.rise_seconds, self.shape)
        )
        mixing = np.clip(since - 0.5 * self.recirculation_seconds, 0.0, None)
        mixed = (
            self.plateau
            * (1.0 - np.exp(-((mixing / self.recirculation_seconds) ** 2)))
            * np.exp(-mixing / self.washout_seconds)
        )
        return self.peak_mm * (first + second + mixed)


def gamma_variate(since: np.ndarray, rise_seconds: float, shape: float) -> np.ndarray:
    """Gamma variate of height 1 that peaks `rise_seconds` after its begin (Thompson et al., Circ Res 1964)."""
    ratio = np.clip(np.asarray(since, np.float64), 0.0, None) / rise_seconds
    with np.errstate(divide="ignore"):
        return np.where(ratio > 0, np.exp(shape * (np.log(ratio) + 1.0 - ratio)), 0.0)


def gamma_variate_width(shape: float) -> float:
    """Full width at half maximum of the gamma variate, in units of its `rise_seconds`."""
    # The two places where (r e^(1 - r))^shape is 1/2, on the two branches of Lambert's W.
    half = -(0.5 ** (1.0 / shape)) / np.e
    return float((special.lambertw(half, 0) - special.lambertw(half, -1)).real)


# --------------------------------------------------------- residue and vascular transport functions in time


def residue(seconds: np.ndarray, mtt: np.ndarray, shape: float = TRANSIT_SHAPE) -> np.ndarray:
    """R(t) for gamma-distributed transit times (Mouridsen et al., J Cereb Blood Flow Metab 2014;34:1511).

    Args:
      seconds: times since entry, s; before 0 the residue is 0.
      mtt: mean transit time, s, broadcast against `seconds`.
      shape: of the gamma distribution: 1 is the exponential (well-mixed) residue, inf the box (plug flow).
    """
    seconds, mtt = np.asarray(seconds, np.float64), np.asarray(mtt, np.float64)
    if np.isinf(shape):
        return ((seconds >= 0) & (seconds < mtt)).astype(np.float64)
    return np.where(seconds >= 0, special.gammaincc(shape, np.clip(seconds, 0.0, None) * shape / mtt), 0.0)


def vascular_transport_function(seconds: np.ndarray, scale: np.ndarray, shape: float = DISPERSION_SHAPE) -> np.ndarray:
    """h(t): gamma density of travelling times, 1/s, mean shape * scale (Mehndiratta et al., Magn Reson Med 2014).

    Args:
      seconds: times, s.
      scale: scale of the gamma density, s, > 0, broadcast against `seconds`; the package calls it dispersion.
      shape: of the gamma density.
    """
    ratio = np.clip(np.asarray(seconds, np.float64), 0.0, None) / scale
    return (
        np.exp(special.xlogy(shape - 1.0, ratio) - ratio - special.gammaln(shape)) / scale * (np.asarray(seconds) >= 0)
    )


# ---------------------------------------------------------------------------------------------- the one equation


@dataclasses.dataclass(frozen=True)
class Perfusion:
    """What the equation needs of each voxel; a voxel may mix several tissues that share its arterial supply.

    Attributes:
      cbf: (voxel, tissue), mL/100 g/min, each tissue's contribution to the voxel (share times the tissue's own flow).
      mtt: (voxel, tissue), s, > 0; ignored where the contribution is 0.
      delay: (voxel,), s.
      dispersion: (voxel,), scale of the vascular transport function, s, > 0.
      transit_shape: shape of the transit times in every tissue.
      dispersion_shape: shape of the vascular transport function.

    CBF, CBV and residue of the mixture are the sums over its tissues, MTT = 60 CBV / CBF follows, Tmax and TTP are the
    peaks of the sums.
    """

    cbf: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    dispersion: np.ndarray
    transit_shape: float = TRANSIT_SHAPE
    dispersion_shape: float = DISPERSION_SHAPE

    def voxel_cbf(self) -> np.ndarray:
        """(voxel,) mL/100 g/min."""
        return self.cbf.sum(axis=1)

    def voxel_cbv(self) -> np.ndarray:
        """(voxel,) mL/100 g."""
        return (self.cbf * self.mtt).sum(axis=1) / 60.0

    def voxel_mtt(self) -> np.ndarray:
        """(voxel,) s; 0 where nothing flows."""
        return mean_transit_seconds(self.voxel_cbf(), self.voxel_cbv())


def mean_transit_seconds(cbf: np.ndarray, cbv: np.ndarray) -> np.ndarray:
    """MTT = 60 CBV / CBF, s (central volume theorem); 0 where CBF is 0."""
    cbf = np.asarray(cbf)
    return np.where(cbf > 0, 60.0 * np.asarray(cbv) / np.where(cbf > 0, cbf, 1.0), 0.0)


def tissue_concentration(arterial: Curve, perfusion: Perfusion, seconds: np.ndarray) -> np.ndarray:
    """C_t of each voxel at the given times: (voxel, time), mM, float32. Error below 0.2 % of the peak.

    Args:
      arterial: C_a.
      perfusion: of the voxels.
      seconds: (time,), ascending, from 0.
    """
    curves, _ = _curves_and_peaks(arterial, perfusion, seconds, peak_step=None)
    return curves[0]


def tissue_concentration_and_ttp(
    arterial: Curve, perfusion: Perfusion, seconds: np.ndarray, peak_step: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """As `tissue_concentration`, and the time to peak of each curve.

    Args:
      arterial: C_a.
      perfusion: of the voxels.
      seconds: (time,), ascending, from 0.
      peak_step: s, spacing on which the peak is looked for before a parabola refines it (0.5 s: error below 0.02 s).

    Returns:
      Curves (voxel, time) in mM and TTP (voxel,) in s, within [0, seconds[-1]], finer than a frame. Where the exam
      ends before the bolus arrives, TTP is the end of the exam.
    """
    curves, peaks = _curves_and_peaks(arterial, perfusion, seconds, peak_step)
    return curves[0], peaks[0]


def delayed_concentration_and_ttp(
    arterial: Curve, perfusion: Perfusion, later: np.ndarray, seconds: np.ndarray, peak_step: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """As `tissue_concentration_and_ttp`, of the same voxels at many delays: they share all but a phase.

    Args:
      arterial: C_a.
      perfusion: of the voxels.
      later: (delay,) what is added to the delay of every voxel, s, >= 0.
      seconds: (time,), ascending, from 0.
      peak_step: s, as there.

    Returns:
      Curves (delay, voxel, time) in mM and TTP (delay, voxel) in s.
    """
    return _curves_and_peaks(arterial, perfusion, seconds, peak_step, np.asarray(later, np.float64))


def arterial_concentration(
    arterial: Curve,
    delay: np.ndarray,
    dispersion: np.ndarray,
    seconds: np.ndarray,
    dispersion_shape: float = DISPERSION_SHAPE,
) -> np.ndarray:
    """Blood further down the tree, C_a (*) h delayed: (vessel, time), mM, float32.

    Args:
      arterial: C_a.
      delay: (vessel,), s.
      dispersion: (vessel,), scale of the vascular transport function, s.
      seconds: (time,), ascending, from 0.
      dispersion_shape: shape of the vascular transport function.
    """
    delay, dispersion = np.atleast_1d(delay).astype(np.float32), np.atleast_1d(dispersion).astype(np.float32)
    tail = delay.max() + 12.0 * dispersion_shape * dispersion.max()
    omega, spectrum = _spectrum(arterial, np.asarray(seconds, np.float64), tail)
    basis = _basis(_waves(omega, spectrum, seconds))
    log_size, phase = _supply(omega.astype(np.float32), delay, dispersion, dispersion_shape)
    size = np.exp(log_size)
    return np.concatenate([size * np.cos(phase), size * np.sin(phase)], axis=1) @ basis


def _curves_and_peaks(
    arterial: Curve,
    perfusion: Perfusion,
    seconds: np.ndarray,
    peak_step: float | None,
    later: np.ndarray = _AS_THEY_ARE,
) -> tuple[np.ndarray, np.ndarray]:
    """Curves (delay, voxel, time) and their peaks (delay, voxel), s; no peaks where `peak_step` is None."""
    seconds = np.asarray(seconds, np.float64)
    voxels = len(perfusion.delay)
    fine = np.empty(0)
    if peak_step is not None:
        fine = np.linspace(0.0, seconds[-1], max(int(np.ceil(seconds[-1] / peak_step)), 2) + 1)
    curves = np.empty((len(later), voxels, len(seconds)), np.float32)
    peaks = np.empty((len(later), voxels if peak_step is not None else 0), np.float32)
    if not voxels:
        return curves, peaks
    cbf = np.asarray(perfusion.cbf, np.float32)
    scale = np.where(cbf > 0, perfusion.mtt, 1.0).astype(np.float32)  # an absent tissue must not stretch the period
    delay, dispersion = np.asarray(perfusion.delay, np.float32), np.asarray(perfusion.dispersion, np.float32)
    tail = _tail_seconds(
        scale.max(), delay.max() + later.max(), dispersion.max(), perfusion.transit_shape, perfusion.dispersion_shape
    )
    omega, spectrum = _spectrum(arterial, seconds, tail)
    waves = _waves(omega, spectrum, np.concatenate([seconds, fine]))
    bases = [_basis(waves * np.exp(-1j * omega * shift)[:, None]) for shift in later]
    highest = np.float32(arterial(seconds).max())

    def compute(task: tuple[slice, np.ndarray]) -> None:
        rows, places = task
        transfer = _transfer(
            omega.astype(np.float32),
            cbf[rows],
            scale[rows],
            delay[rows],
            dispersion[rows],
            perfusion.transit_shape,
            perfusion.dispersion_shape,
        )
        # CBV times the peak of C_a.
        most = highest * _FLOW_FACTOR * (cbf[rows] * scale[rows]).sum(axis=1)
        for place in places:
            values = transfer @ bases[place]  # (voxel, time and fine time)
            curves[place, rows] = values[:, : len(seconds)]
            if peak_step is not None:
                found = values[:, len(seconds) :]
                reached = found.max(axis=1) > 1e-3 * most
                peaks[place, rows] = np.where(reached, signal.peak_frames(found) * fine[1], fine[-1])

    chunks = [slice(begin, begin + _CHUNK) for begin in range(0, voxels, _CHUNK)]
    parts = np.array_split(np.arange(len(later)), min(MOST_THREADS, len(later)))
    in_threads(compute, itertools.product(chunks, parts))
    return curves, peaks


def _tail_seconds(mtt: float, delay: float, dispersion: float, transit_shape: float, dispersion_shape: float) -> float:
    """For how long after the end of the AIF the slowest voxel still holds contrast agent, s."""
    transit = 1.0 if np.isinf(transit_shape) else special.gammainccinv(transit_shape, 3e-4) / transit_shape
    return float(delay + transit * mtt + special.gammainccinv(dispersion_shape, 1e-4) * dispersion)


def _spectrum(arterial: Curve, acquired: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Angular frequencies (frequency,) and the AIF's part at each of them, complex: curves are sums of its waves.

    The transform is periodic. The AIF fades out behind the last time, and the period is long enough for the slowest
    voxel to empty before the next period begins, so that no curve runs into another.

    Args:
      arterial: C_a.
      acquired: (time,) of the exam.
      tail: s, for which the slowest voxel still holds contrast agent.
    """
    end = float(acquired[-1])
    count = int(np.ceil((end + _TAPER_SECONDS + tail) / _FINE_SECONDS))
    fine = np.arange(count) * _FINE_SECONDS
    fade = 0.5 + 0.5 * np.cos(np.pi * np.clip((fine - end) / _TAPER_SECONDS, 0.0, 1.0))
    spectrum = np.fft.rfft(arterial(fine) * fade)
    omega = 2 * np.pi * np.fft.rfftfreq(count, _FINE_SECONDS)
    relevant = np.abs(spectrum) / (1.0 + 2.0 * omega)  # residue functions fall as 1 / frequency
    keep = int(np.flatnonzero(relevant > _SPECTRUM_FLOOR * relevant.max())[-1]) + 1
    omega, spectrum = omega[:keep], spectrum[:keep] / count
    return omega, spectrum * np.where(omega > 0, 2.0, 1.0)  # each frequency stands for its negative too


def _waves(omega: np.ndarray, spectrum: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """(frequency, time) complex: the AIF is the real part of their sum."""
    return spectrum[:, None] * np.exp(1j * omega[:, None] * np.asarray(seconds)[None, :])


def _basis(waves: np.ndarray) -> np.ndarray:
    """(2 frequency, time) matrix that turns a transfer function, real parts first, into a curve."""
    return np.concatenate([waves.real, -waves.imag]).astype(np.float32)


def _supply(
    omega: np.ndarray, delay: np.ndarray, dispersion: np.ndarray, shape: float
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the size and phase, (voxel, frequency), of the delayed vascular transport function's transform."""
    reach = omega * dispersion[:, None]
    return -0.5 * shape * np.log1p(reach * reach), -omega * delay[:, None] - shape * np.arctan(reach)


def _transfer(
    omega: np.ndarray,
    cbf: np.ndarray,
    mtt: np.ndarray,
    delay: np.ndarray,
    dispersion: np.ndarray,
    transit_shape: float,
    dispersion_shape: float,
) -> np.ndarray:
    """(voxel, 2 frequency) real and imaginary part of (rho/kappa) sum CBF/6000 h R at each frequency, 1/1."""
    frequencies = len(omega)
    real = np.zeros((len(delay), frequencies), np.float32)
    imaginary = np.zeros_like(real)
    safe = np.where(omega > 0, omega, 1.0)
    flow = cbf * _FLOW_FACTOR
    for tissue in range(cbf.shape[1]):
        rows = np.flatnonzero(cbf[:, tissue] > 0)
        if not len(rows):
            continue
        flow_over_omega = flow[rows, tissue, None] / safe
        # Transform of the residue: (1 - transform of the transit times) / (i omega).
        if np.isinf(transit_shape):
            size, phase = np.float32(1.0), -omega * mtt[rows, tissue, None]
        else:
            reach = omega * (mtt[rows, tissue, None] / np.float32(transit_shape))
            size = np.exp(-0.5 * transit_shape * np.log1p(reach * reach))
            phase = -transit_shape * np.arctan(reach)
        real[rows] -= flow_over_omega * size * np.sin(phase)
        imaginary[rows] -= flow_over_omega * (1.0 - size * np.cos(phase))
    real[:, 0], imaginary[:, 0] = (flow * mtt).sum(axis=1), 0.0  # omega = 0: the area
    log_size, phase = _supply(omega, delay, dispersion, dispersion_shape)
    size = np.exp(log_size)
    supply_real, supply_imaginary = size * np.cos(phase), size * np.sin(phase)
    return np.concatenate(
        [real * supply_real - imaginary * supply_imaginary, real * supply_imaginary + imaginary * supply_real], axis=1
    )


# ----------------------------------------------------------------------------------------------------- Tmax


@dataclasses.dataclass(frozen=True)
class _SlopeTable:
    """(h (*) f)(u) for h of scale 1 and f the density of transit times: h (*) R has the slope h - h (*) f."""

    u: np.ndarray  # (time,), uniform
    log_ratio: np.ndarray  # (ratio,), uniform; scale of the transit times over that of h
    values: np.ndarray  # (ratio, time)

    @classmethod
    def build(cls, transit_shape: float, dispersion_shape: float) -> "_SlopeTable":
        step = 0.03
        u = np.arange(0.0, 24.0 + step / 2, step)
        log_ratio = np.linspace(np.log(0.05), np.log(400.0), 64)
        edges = np.concatenate([[0.0], u + step / 2])  # transit times gathered into cells around each u
        scale = np.exp(log_ratio)[:, None]
        reached = special.gammainc(transit_shape, edges / scale)
        transport = vascular_transport_function(u, 1.0, dispersion_shape)
        padded = 2 * len(u)
        spectrum = np.fft.rfft(np.diff(reached, axis=1), padded) * np.fft.rfft(transport, padded)
        return cls(u, log_ratio, np.fft.irfft(spectrum, padded)[:, : len(u)])

    def __call__(self, u: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
        """Bilinear look-up."""
        x = np.clip(u / self.u[1], 0.0, len(self.u) - 1.001)
        y = np.clip(
            (log_ratio - self.log_ratio[0]) / (self.log_ratio[1] - self.log_ratio[0]), 0.0, len(self.log_ratio) - 1.001
        )
        column, row = x.astype(np.int64), y.astype(np.int64)
        x, y = x - column, y - row
        flat, width, start = self.values.ravel(), len(self.u), row * len(self.u) + column
        return (flat[start] * (1 - x) + flat[start + 1] * x) * (1 - y) + (
            flat[start + width] * (1 - x) + flat[start + width + 1] * x
        ) * y


@functools.lru_cache(maxsize=4)
def _slope_table(transit_shape: float, dispersion_shape: float) -> _SlopeTable:
    return _SlopeTable.build(transit_shape, dispersion_shape)


def residue_peak_seconds(perfusion: Perfusion) -> np.ndarray:
    """Tmax: argmax of the delayed h (*) R of each voxel's mixture, s, (voxel,), float64; error below 0.02 s.

    The slope of CBF (h (*) R), CBF (h - h (*) f), changes sign once in each tissue. A mixture's peak lies between
    those of its tissues, and bisection of the summed slope finds it. Voxels without flow give their delay.

    Raises:
      ValueError: box residues; the top of a dispersed box is flat.
    """
    shapes = (float(perfusion.transit_shape), float(perfusion.dispersion_shape))
    if np.isinf(shapes[0]):
        raise ValueError("Tmax of a box residue is not defined: its top is flat. Use a finite transit_shape.")
    table = _slope_table(*shapes)
    dispersion = np.asarray(perfusion.dispersion, np.float64)
    transit_scale = np.where(perfusion.cbf > 0, perfusion.mtt, 1.0) / shapes[0]
    log_ratio = np.log(transit_scale / dispersion[:, None])
    share = perfusion.cbf / np.maximum(perfusion.cbf.sum(axis=1, keepdims=True), 1e-12)
    low, high = np.zeros(len(dispersion)), np.full(len(dispersion), table.u[-1])
    for _ in range(14):  # 24 / 2^14: a thousandth of the scale of h
        middle = 0.5 * (low + high)
        slope = vascular_transport_function(middle, 1.0, shapes[1])
        for tissue in range(share.shape[1]):
            present = np.flatnonzero(share[:, tissue] > 0)
            slope[present] -= share[present, tissue] * table(middle[present], log_ratio[present, tissue])
        rising = slope > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    peak = np.where(perfusion.cbf.sum(axis=1) > 0, 0.5 * (low + high) * dispersion, 0.0)
    return np.asarray(perfusion.delay, np.float64) + peak


# ----------------------------------------------------------------------------------------------- ΔR2*


def delta_r2star_of(concentration: np.ndarray, relaxivity: float = TISSUE_RELAXIVITY) -> np.ndarray:
    """ΔR2* = k C, 1/s, from mM; the relaxivity is `TISSUE_RELAXIVITY` in tissue, `BLOOD_RELAXIVITY` in blood."""
    return relaxivity * concentration


def concentration_of(delta_r2star: np.ndarray, relaxivity: float = TISSUE_RELAXIVITY) -> np.ndarray:
    """Inverse of `delta_r2star_of`: mM from 1/s."""
    return delta_r2star / relaxivity
