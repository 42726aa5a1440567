"""Blood supply of the phantom's head: territories, healthy perfusion, and the effect of an occlusion or a stenosis.

All functions take head coordinates (voxel, 3) in mm (`anatomy.py`) and give one number per voxel.
"""

import dataclasses

import numpy as np

from dscgan_jax.phantom.anatomy import SmoothField

WATERSHED_MM = 9.0
# What a vessel supplies, as a key of `Territories.margins`; a distal branch supplies a part of the MCA's.
TERRITORY_OF = {
    "m1": "mca",
    "m2_front": "mca_front",
    "m2_back": "mca_back",
    "aca": "aca",
    "pca": "pca",
    "cerebellar": "posterior",
}
# Small territories are shallow: their lesions deepen faster.
RAMP_SHARE = {"m1": 1.0, "m2_front": 0.65, "m2_back": 0.6, "branch": 0.7, "aca": 0.5, "pca": 0.6, "cerebellar": 0.5}


class Healthy:
    """One person's perfusion without disease; means drawn once, textures as smooth fields."""

    def __init__(self, rng: np.random.Generator):
        self.grey_cbf = rng.uniform(50.0, 64.0)  # mL/100 g/min of pure grey matter
        self.white_cbf = self.grey_cbf / rng.uniform(2.3, 2.8)
        self.grey_mtt = rng.uniform(3.6, 4.6)  # s
        self.white_mtt = self.grey_mtt * rng.uniform(1.1, 1.3)
        self.asymmetry = float(np.clip(0.03 * rng.standard_normal(), -0.06, 0.06))  # right over left, CBF
        self.delay_asymmetry = float(np.clip(0.15 * rng.standard_normal(), -0.3, 0.3))  # s, right minus left
        self.transit_shape = rng.uniform(1.6, 2.6)
        self.base_delay = rng.uniform(0.1, 0.4)  # s, from the M1 segment to the nearest tissue
        self.watershed_delay = rng.uniform(0.5, 1.0)  # s
        self.dispersion = rng.uniform(0.16, 0.26)  # s, scale of the vascular transport function
        self.broad, self.fine = SmoothField(rng, 45.0), SmoothField(rng, 11.0)
        self.flow_texture, self.transit_texture = SmoothField(rng, 16.0), SmoothField(rng, 18.0)
        self.delay_texture = SmoothField(rng, 28.0)

    def parameters(self) -> dict[str, float]:
        """The drawn numbers."""
        return {name: float(value) for name, value in vars(self).items() if isinstance(value, float)}


@dataclasses.dataclass
class Supply:
    """Perfusion of each voxel; `cbf` and `mtt` are (voxel, 2) for pure grey and pure white matter.

    Units: mL/100 g/min, s, s, s.
    """

    cbf: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    dispersion: np.ndarray


class Territories:
    """Margins in mm of the arterial territories, positive inside, with borders of their own for each person."""

    def __init__(self, rng: np.random.Generator):
        self.shift_aca, self.shift_pca = rng.normal(0, 3.0), rng.normal(0, 4.0)
        self.border = [SmoothField(rng, 35.0), SmoothField(rng, 35.0)]
        self.division = SmoothField(rng, 40.0)

    def margins(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """`aca`, `mca`, `pca`, `posterior` and the MCA's `mca_front` and `mca_back` divisions: (voxel,), mm."""
        x, y, z = points.T
        lateral = np.abs(x)
        aca = 15.0 + 0.26 * (y + 10) + 0.16 * (z - 20) - lateral + self.shift_aca + 3.5 * self.border[0](points)
        aca = np.minimum(aca, 0.6 * (z + 8) + 0.5 * y + 12)  # not among the basal ganglia
        pca = -(y + 44.0) - 0.42 * (lateral - 18.0) - 0.28 * (z - 8.0) + self.shift_pca + 4.0 * self.border[1](points)
        thalamus = 11.0 - np.sqrt(((lateral - 11) ** 2) + ((y + 18) / 1.4) ** 2 + (z - 5) ** 2)
        medial_temporal = 9.0 - np.hypot(lateral - 22, 0.8 * (z + 14)) - np.clip(y + 14, 0, None)
        pca = np.maximum.reduce([pca, thalamus, medial_temporal])
        posterior = np.minimum(-18.0 - z - 0.1 * (y + 40), -y - 8.0) - np.clip(lateral - 50, 0, None)
        posterior = np.maximum(posterior, 15.0 - np.hypot(x, y + 26) - np.clip(z + 6, 0, None) * 2)  # brain stem
        pca = np.minimum(pca, -posterior)
        aca = np.minimum.reduce([aca, -pca, -posterior])
        mca = -np.maximum.reduce([aca, pca, posterior])
        front = 0.62 * (y + 12.0) + 0.78 * (z - 18.0) + 5.0 * self.division(points)
        return {
            "aca": aca,
            "mca": mca,
            "pca": pca,
            "posterior": posterior,
            "mca_front": np.minimum(mca, front),
            "mca_back": np.minimum(mca, -front),
        }


def healthy_supply(healthy: Healthy, margins: dict[str, np.ndarray], points: np.ndarray) -> Supply:
    """Perfusion of pure grey and pure white matter at each voxel, without disease."""
    right = np.tanh(points[:, 0] / 6.0)
    texture = np.exp(
        0.09 * healthy.broad(points)
        + 0.10 * healthy.flow_texture(points)
        + 0.08 * healthy.fine(points)
        + 0.5 * healthy.asymmetry * right
    )
    transit = np.exp(0.10 * healthy.transit_texture(points))
    nearest = np.abs(np.stack([margins["aca"], margins["pca"]])).min(axis=0)  # distance to a territory's border
    watershed = np.exp(-((nearest / WATERSHED_MM) ** 2))
    # Deep white matter is at the end of long vessels; the back of the brain is reached last.
    deep = np.exp(-(((np.abs(points[:, 0]) - 22) / 14) ** 2) - ((points[:, 2] - 28) / 14) ** 2)
    behind = np.clip(-(points[:, 1] + 20.0) / 70.0, 0.0, 1.0)
    delay = (
        healthy.base_delay
        + healthy.watershed_delay * watershed
        + 0.3 * deep
        + 0.4 * behind
        + 0.5 * healthy.delay_asymmetry * right
        + 0.14 * healthy.delay_texture(points)
    )
    cbf = np.stack([healthy.grey_cbf * texture, healthy.white_cbf * texture], axis=1)
    mtt = np.stack([healthy.grey_mtt * transit, healthy.white_mtt * transit], axis=1)
    return Supply(cbf, mtt, np.clip(delay, 0.05, 2.0), healthy.dispersion * (1.0 + 0.25 * watershed))


# ------------------------------------------------------------------------------------------------- disease


@dataclasses.dataclass(frozen=True)
class DiseaseRange:
    """The distributions from which a preset draws its disease.

    Attributes:
      vessels: vessel -> probability; `none` is a subject without lesion.
      delay_seconds: smallest and largest additional delay in the middle of the lesion.
      delay_skew: shapes of the beta distribution between them.
      dispersion_seconds: range of the vascular transport function's scale in the middle.
      flow_floor: range of the smallest share of healthy CBF.
      ramp_mm: range of the distance over which the lesion deepens from its border.
    """

    vessels: dict[str, float]
    delay_seconds: tuple[float, float]
    delay_skew: tuple[float, float]
    dispersion_seconds: tuple[float, float]
    flow_floor: tuple[float, float]
    ramp_mm: tuple[float, float]


DISEASES = {
    "acute": DiseaseRange(
        vessels={
            "none": 0.07,
            "m1": 0.38,
            "m2_front": 0.17,
            "m2_back": 0.15,
            "branch": 0.13,
            "aca": 0.04,
            "pca": 0.06,
        },
        delay_seconds=(4.0, 14.0),
        delay_skew=(1.1, 3.3),
        dispersion_seconds=(0.3, 0.6),
        flow_floor=(0.08, 0.42),
        ramp_mm=(24.0, 44.0),
    ),
    "chronic": DiseaseRange(
        vessels={"none": 0.08, "m1": 0.62, "m2_front": 0.1, "m2_back": 0.1, "aca": 0.1},
        delay_seconds=(1.0, 5.0),
        delay_skew=(1.6, 1.6),
        dispersion_seconds=(0.5, 1.1),
        flow_floor=(0.45, 0.85),
        ramp_mm=(24.0, 44.0),
    ),
}

DISEASES["none"] = dataclasses.replace(DISEASES["acute"], vessels={"none": 1.0})  # whose other numbers nobody reads


class Disease:
    """One person's occlusion or stenosis: where, how severe, and how its border fades."""

    def __init__(self, rng: np.random.Generator, ranges: DiseaseRange):
        names = list(ranges.vessels)
        self.vessel = names[
            rng.choice(len(names), p=np.array(list(ranges.vessels.values())) / sum(ranges.vessels.values()))
        ]
        self.side = int(rng.choice([-1, 1]))  # +1: the right hemisphere
        low, high = ranges.delay_seconds
        self.delay = float(low + (high - low) * rng.beta(*ranges.delay_skew))
        self.dispersion = float(rng.uniform(*ranges.dispersion_seconds))
        self.flow_floor = float(rng.uniform(*ranges.flow_floor))
        self.ramp_mm = float(rng.uniform(*ranges.ramp_mm))
        self.dilation = float(rng.uniform(0.1, 0.35))  # rise of CBV where autoregulation still works
        self.inset_mm = float(rng.uniform(-2.0, 6.0))  # collaterals keep the border of the territory supplied
        self.branch_centre = np.array([rng.uniform(44, 58), rng.uniform(-45, 25), rng.uniform(5, 45)])  # right side
        self.branch_radius_mm = float(rng.uniform(26.0, 42.0))
        self.deep_spared = bool(rng.random() < 0.4)  # occlusion beyond the branches to the basal ganglia
        self.patches, self.core_patches = SmoothField(rng, 38.0), SmoothField(rng, 26.0)

    @property
    def territory(self) -> str:
        """The large artery's: mca, aca, pca or posterior."""
        return TERRITORY_OF.get(self.vessel, "mca").partition("_")[0]

    def parameters(self) -> dict[str, object]:
        """The drawn numbers."""
        if self.vessel == "none":
            return {"vessel": "none"}
        return {
            "vessel": self.vessel,
            "side": {1: "right", -1: "left"}[self.side],
            "delay_seconds": self.delay,
            "dispersion_scale_seconds": self.dispersion,
            "cbf_floor_share": self.flow_floor,
            "ramp_mm": self.ramp_mm,
            "cbv_dilation": self.dilation,
            "inset_mm": self.inset_mm,
            "deep_nuclei_spared": self.deep_spared,
        }

    def severity(self, margins: dict[str, np.ndarray], points: np.ndarray) -> np.ndarray:
        """(voxel,) 0 in healthy tissue, 1 in the middle of the lesion."""
        if self.vessel == "none":
            return np.zeros(len(points), np.float32)
        lateral = self.side * points[:, 0]
        if self.vessel == "branch":
            centre = self.branch_centre * (self.side, 1, 1)
            distance = np.linalg.norm((points - centre) * (0.8, 1, 1), axis=1)
            inside = np.minimum(margins["mca"], self.branch_radius_mm - distance)
        else:
            inside = margins[TERRITORY_OF[self.vessel]]
        if self.deep_spared or self.vessel.startswith("m2"):
            nuclei = np.linalg.norm((points * (self.side, 1, 1) - (23.0, -2.0, 6.0)) / (16.0, 30.0, 22.0), axis=1)
            inside = np.minimum(inside, (nuclei - 1.0) * 20.0)
        inside = np.minimum(inside, lateral + (3.0 if self.vessel == "aca" else -3.0))  # one hemisphere alone
        depth = inside - self.inset_mm + 4.5 * self.patches(points)
        ramp = np.clip(depth / (self.ramp_mm * RAMP_SHARE[self.vessel]), 0.0, 1.0)
        return (ramp * (1.0 + 0.3 * ramp * (1.0 - ramp))).astype(np.float32)

    def core_severity(self, severity: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(voxel,) how far flow falls; follows the delay, but not exactly."""
        return np.clip(severity * (1.0 + 0.18 * self.core_patches(points)), 0.0, 1.0)


def diseased_supply(healthy: Supply, disease: Disease, severity: np.ndarray, points: np.ndarray) -> Supply:
    """Delay, dispersion, lower flow and longer transit where the disease acts.

    In the penumbra vessels widen (CBV up to a third above normal); below a third of the healthy flow they collapse,
    CBV falls with CBF.
    """
    if disease.vessel == "none":
        return healthy
    weight = disease.core_severity(severity, points)
    flow = 1.0 - (1.0 - disease.flow_floor) * weight**1.25
    volume = (1.0 + 4.0 * disease.dilation * severity * (1.0 - severity)) * np.clip(flow / 0.33, 0.0, 1.0) ** 0.7
    return Supply(
        cbf=healthy.cbf * flow[:, None],
        mtt=healthy.mtt * (volume / flow)[:, None],
        delay=healthy.delay + disease.delay * severity,
        dispersion=healthy.dispersion + (disease.dispersion - healthy.dispersion) * severity,
    )
