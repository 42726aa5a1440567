"""A tumour of the phantom whose vessels leak: where it is, what flows in it, and what the agent outside vessels does.

Kinetics: the extended Tofts model (Tofts et al., J Magn Reson Imaging 1999;10:223). Beside the agent in its vessels,
which `kinetics.py` gives, a tumour holds agent in the space between its cells,

  C_e(t) = Ktrans ∫ C_p(tau) exp(-kep (t - tau)) dtau,   kep = Ktrans / ve,

averaged over the voxel, mM, with the concentration C_p in arterial plasma.

Signal: that agent shortens T1, so that a spoiled gradient echo of short repetition time becomes brighter, and T2*, so
that it becomes darker (Quarles et al., Phys Med Biol 2009;54:5749; Semmineh et al., Tomography 2017;3:41):

  S = S0 G(R1) / G(R10) exp(-TE (ΔR2* of the vessels + r2e C_e)),   R1 = R10 + r1 C_e,
  G(R1) = (1 - exp(-TR R1)) / (1 - cos(flip) exp(-TR R1)).

How strong the second effect is depends on how densely the cells lie, which disturb the field between them. It grows
from one end of the tumour to the other: at one end T1 dominates (late signal above the baseline), at the other T2*.
"""

import dataclasses

import numpy as np

from dscgan_jax.perfusion import kinetics
from dscgan_jax.perfusion.kinetics import Curve
from dscgan_jax.phantom.anatomy import SmoothField
from dscgan_jax.phantom.physiology import Supply

R1_RELAXIVITY = 3.7  # 1/(s mM): gadopentetate in plasma at 3 T (Rohrer et al., Invest Radiol 2005;40:715)
BORDER_MM = 5.0  # over which the tumour fades into the brain
PURE_TUMOUR = 0.5  # of a voxel that counts as leaking tissue
T1_DOMINATES, T2STAR_DOMINATES = 1, 2  # labels of leaking tissue
_FINE_SECONDS = 0.1  # of the convolution: a fiftieth of the first pass


@dataclasses.dataclass(frozen=True)
class TumourRange:
    """The distributions from which a preset draws its tumours: high-grade gliomas, without preloading of agent.

    Attributes:
      radius_mm: of the tumour.
      cbv: mL/100 g; two and a half to five times that of white matter (Law et al., AJNR 2003;24:1989).
      mtt_seconds: of its vessels.
      ktrans_per_minute, ve: around the means of 0.1 1/min and 0.29 of Skinner et al., AJNR 2016;37:80.
      t1_seconds: before the agent, at 3 T.
      sparse_relaxivity, dense_relaxivity: r2e at either end, 1/(s mM): that of the agent alone, which is little above
        r1, and about that of agent within intact vessels (`kinetics.TISSUE_RELAXIVITY`).
      flip_degrees: of the protocol; 60 is the recommended one (Welker et al., AJNR 2015;36:E41).
    """

    radius_mm: tuple[float, float] = (13.0, 21.0)
    cbv: tuple[float, float] = (4.5, 9.0)
    mtt_seconds: tuple[float, float] = (4.5, 7.0)
    ktrans_per_minute: tuple[float, float] = (0.06, 0.14)
    ve: tuple[float, float] = (0.2, 0.38)
    t1_seconds: tuple[float, float] = (1.2, 1.7)
    sparse_relaxivity: tuple[float, float] = (4.0, 8.0)
    dense_relaxivity: tuple[float, float] = (65.0, 90.0)
    flip_degrees: float = 60.0


class Tumour:
    """One person's tumour; its numbers are drawn at once, so that they do not depend on the grid."""

    def __init__(self, rng: np.random.Generator, ranges: TumourRange):
        self.side = int(rng.choice([-1, 1]))  # +1: the right hemisphere
        # Of the right side, head mm: the white matter beside and above the ventricles, in every stack of slices.
        self.centre = np.array([rng.uniform(28.0, 40.0), rng.uniform(-48.0, 18.0), rng.uniform(16.0, 36.0)])
        self.radius_mm = float(rng.uniform(*ranges.radius_mm))
        self.cbv = float(rng.uniform(*ranges.cbv))
        self.mtt_seconds = float(rng.uniform(*ranges.mtt_seconds))
        self.delay_seconds = float(rng.uniform(0.0, 0.5))  # after the tissue around: its vessels wind
        self.ktrans_per_minute = float(rng.uniform(*ranges.ktrans_per_minute))
        self.ve = float(rng.uniform(*ranges.ve))
        self.t1_seconds = float(rng.uniform(*ranges.t1_seconds))
        self.sparse_relaxivity = float(rng.uniform(*ranges.sparse_relaxivity))
        self.dense_relaxivity = float(rng.uniform(*ranges.dense_relaxivity))
        self.flip_degrees = ranges.flip_degrees
        direction = rng.standard_normal(3) * (1.0, 1.0, 0.5)  # slices are thick
        self.axis = direction / np.linalg.norm(direction)  # from the sparse end to the dense one
        self.outline, self.texture = SmoothField(rng, 30.0), SmoothField(rng, 18.0)

    def parameters(self) -> dict[str, object]:
        """The drawn numbers."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        return plain | {
            "side": {1: "right", -1: "left"}[self.side],
            "centre_mm": (self.centre * (self.side, 1, 1)).tolist(),
            "kep_per_minute": self.ktrans_per_minute / self.ve,
            "r1_relaxivity": R1_RELAXIVITY,
        }

    def share(self, points: np.ndarray) -> np.ndarray:
        """(voxel,) 0..1, how much of the tissue at head coordinates (voxel, 3), mm, is tumour."""
        distance = np.linalg.norm(self._from_centre(points), axis=1)
        depth = self.radius_mm * (1.0 + 0.12 * self.outline(points)) - distance
        depth = np.minimum(depth, self.side * points[:, 0] - 3.0)  # one hemisphere alone
        return np.clip(0.5 + depth / BORDER_MM, 0.0, 1.0)

    def supply(self, around: Supply, share: np.ndarray, points: np.ndarray) -> Supply:
        """Perfusion of the tissue with the tumour's share (voxel,) in it."""
        share, texture = share[:, None], np.exp(0.12 * self.texture(points))[:, None]
        volume = around.cbf * around.mtt / 60.0
        cbv = (1.0 - share) * volume + share * self.cbv * texture
        cbf = (1.0 - share) * around.cbf + share * texture * 60.0 * self.cbv / self.mtt_seconds
        return Supply(cbf, 60.0 * cbv / cbf, around.delay + self.delay_seconds * share[:, 0], around.dispersion)

    def apparent_delta_r2star(
        self,
        arterial: Curve,
        delay: np.ndarray,
        share: np.ndarray,
        points: np.ndarray,
        seconds: np.ndarray,
        echo_seconds: float,
    ) -> np.ndarray:
        """(voxel, time) 1/s, float32: -ln(S/S0)/TE of the agent outside vessels; negative where T1 dominates.

        Args:
          arterial: concentration in arterial blood, mM.
          delay: (voxel,) of its arrival, s.
          share: (voxel,) of the voxel that is tumour.
          points: (voxel, 3) head mm.
          seconds: (time,) frames, equally spaced.
          echo_seconds: TE.
        """
        outside = share[:, None] * self.extravasated(arterial, delay, seconds)
        gain = self.steady_state(outside, seconds[1]) / self.steady_state(np.zeros(1), seconds[1])
        relaxivity = self.transverse_relaxivity(points)[:, None]
        return (relaxivity * outside - np.log(gain) / echo_seconds).astype(np.float32)

    def extravasated(self, arterial: Curve, delay: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """C_e of pure tumour: (voxel, time), mM, float64; arguments as in `apparent_delta_r2star`."""
        fine = np.arange(0.0, seconds[-1] + _FINE_SECONDS, _FINE_SECONDS)
        ktrans, kep = self.ktrans_per_minute / 60.0, self.ktrans_per_minute / self.ve / 60.0
        plasma = arterial(fine) / (1.0 - kinetics.CONSTANTS["haematocrit_large_vessels"].value)
        grown = plasma * np.exp(kep * fine)
        area = np.concatenate([[0.0], np.cumsum(0.5 * (grown[1:] + grown[:-1]) * _FINE_SECONDS)])
        return np.interp(np.asarray(seconds)[None, :] - delay[:, None], fine, ktrans * np.exp(-kep * fine) * area)

    def steady_state(self, concentration: np.ndarray, repetition_seconds: float) -> np.ndarray:
        """G(R1) of a spoiled gradient echo, with so much agent (mM) outside vessels."""
        decay = np.exp(-repetition_seconds * (1.0 / self.t1_seconds + R1_RELAXIVITY * concentration))
        return (1.0 - decay) / (1.0 - np.cos(np.deg2rad(self.flip_degrees)) * decay)

    def transverse_relaxivity(self, points: np.ndarray) -> np.ndarray:
        """r2e (voxel,), 1/(s mM)."""
        along = self._from_centre(points) @ self.axis / self.radius_mm
        dense = 0.5 + 0.5 * np.tanh(along / 0.2)  # the two kinds meet in a fifth of the radius
        return self.sparse_relaxivity + dense * (self.dense_relaxivity - self.sparse_relaxivity)

    def _from_centre(self, points: np.ndarray) -> np.ndarray:
        """(voxel, 3) mm."""
        return points - self.centre * (self.side, 1, 1)
