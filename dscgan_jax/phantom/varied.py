"""The preset `varied`: exams as different as those of the world, each property drawn on its own.

`RANGES` says between what and after whom each number is drawn. A `Variation` holds what was drawn for one exam and
changes the parts of a phantom (head, physiology, scanner) after they have drawn themselves, so that the other presets
know nothing of it.
"""

from typing import Any, NamedTuple

import numpy as np

from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.acquisition import Motion, Scanner
from dscgan_jax.phantom.anatomy import Head, SmoothField
from dscgan_jax.phantom.physiology import DISEASES, Disease, DiseaseRange, Healthy


class Range(NamedTuple):
    """Smallest and largest value, unit, and where they come from.

    Without `centre` values are drawn evenly; with it their logarithm is normally distributed about the centre's, cut
    at both ends, which lie five standard deviations apart.
    """

    low: float
    high: float
    unit: str
    source: str
    centre: float | None = None

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.centre is None:
            return float(rng.uniform(self.low, self.high))
        spread = np.log(self.high / self.low) / 5.0
        return float(np.clip(self.centre * np.exp(spread * rng.standard_normal()), self.low, self.high))


_PROTOCOLS = "protocols of DSC studies and of the ASFNR's recommendation (Welker et al., AJNR 2015;36:E41), widened"
_AGES = "from a young brain to one with marked atrophy; drawn by eye"
_PRESETS = "the fixed presets, widened to both sides"
RANGES: dict[str, Range] = {
    "frame_seconds": Range(0.8, 3.0, "s", _PROTOCOLS, 1.6),
    "echo_ms_1.5T": Range(30.0, 50.0, "ms", _PROTOCOLS),
    "echo_ms_3T": Range(20.0, 40.0, "ms", _PROTOCOLS),
    "field_of_view_mm": Range(180.0, 260.0, "mm", _PROTOCOLS, 230.0),
    "slice_mm": Range(2.0, 8.0, "mm", _PROTOCOLS, 5.0),
    "gap_share": Range(0.0, 0.3, "of a slice", _PROTOCOLS),
    "grey_drop": Range(0.15, 0.50, "of the signal", "half a dose to a dose and a half of agent; " + _PRESETS),
    "arrival_seconds": Range(3.0, 50.0, "s", "from the third frame to injections that were late", 15.0),
    "arterial_width_seconds": Range(
        4.0,
        20.0,
        "s",
        "a fitted MR curve has 6.3 s (dsc-mri-toolbox); 77 stroke patients by CT, whose injections are slower, have a "
        "median of 11.2 s, quartiles 9.6-13.0 (curves of ISLES 2018 published with SPPINN)",
        7.5,
    ),
    "arterial_tail": Range(
        0.0,
        0.4,
        "of the peak",
        "the same curves: median 0.19, 0.08-0.42; low in MR, so a share after Beta(1, 1.8) of what is drawn",
    ),
    "after_bolus_seconds": Range(45.0, 90.0, "s", _PROTOCOLS),
    "after_bolus_truncated_seconds": Range(22.0, 34.0, "s", "scans that were stopped, or begun late"),
    "signal_to_noise": Range(15.0, 120.0, "1", "2 mm voxels at 1.5 T to 8 mm slices at 3 T; " + _PRESETS, 45.0),
    "transient_height": Range(0.0, 0.35, "of the signal", _PRESETS),
    "drift": Range(-0.05, 0.05, "over the exam", _PRESETS),
    "scalp_signal": Range(0.15, 2.0, "of grey matter", "fat suppressed well, or not at all"),
    "air_loss": Range(0.3, 1.15, "of the presets'", "stronger at 3 T and long echo times"),
    "air_reach": Range(0.7, 1.6, "of the presets'", "likewise"),
    "bias_strength": Range(0.0, 2.0, "of the presets'", "a body coil to surface coils without correction"),
    "pitch_degrees": Range(-20.0, 25.0, "degrees", "slices along the skull base, AC-PC or the orbitomeatal line"),
    "roll_degrees": Range(-8.0, 8.0, "degrees", "heads that lie crooked"),
    "ventricle_scale": Range(0.7, 3.0, "of a young brain's", _AGES, 1.2),
    "sulcus_mm": Range(0.4, 2.2, "mm", _AGES, 0.8),
    "head_scale": Range(0.90, 1.10, "1", "small women to large men"),
    "grey_cbf": Range(35.0, 70.0, "mL/100 g/min", "old age and low output to youth; " + _PRESETS),
    "white_share": Range(0.33, 0.50, "of grey CBF", _PRESETS),
    "grey_mtt": Range(3.0, 6.5, "s", _PRESETS),
    "white_mtt_ratio": Range(1.05, 1.4, "of grey MTT", _PRESETS),
    "base_delay": Range(0.05, 0.8, "s", _PRESETS),
    "watershed_delay": Range(0.3, 1.4, "s", _PRESETS),
    "dispersion": Range(0.05, 0.5, "s", "none to strong: scale of the vascular transport function", 0.2),
    "hole_radius_mm": Range(7.0, 26.0, "mm", "old infarcts, from a lacune to a territory's branch"),
}
TRANSIT_SHAPES = (1.0, 1.5, 2.0, 2.5, 3.5, 6.0, 12.0)  # exponential residue to nearly a box (whose Tmax is undefined)
MATRICES = {64: 0.10, 80: 0.08, 96: 0.18, 112: 0.10, 128: 0.36, 160: 0.07, 192: 0.06, 256: 0.05}
SLICES, FRAMES = (1, 40), (30, 130)
STATES = {"healthy": 0.12, "acute": 0.48, "chronic": 0.40}
LESIONS = {1: 0.74, 2: 0.20, 3: 0.06}  # territories that are affected
EVENTS = {0: 0.70, 1: 0.20, 2: 0.07, 3: 0.03}  # movements of the head
TRUNCATED, STRIPPED, HOLE, STEADY = 0.12, 0.10, 0.12, 0.45  # shares of exams
BRAIN_MM = (-50.0, 78.0)  # heights of the brain's lowest and highest slice, head coordinates
EARLY_FRAMES = 8.0  # a bolus before this frame is given after dummy scans: no frame can be spared

_VESSELS = {"m1": 0.3, "m2_front": 0.16, "m2_back": 0.14, "branch": 0.16, "aca": 0.07, "pca": 0.1, "cerebellar": 0.07}
VARIED_DISEASES = {
    "acute": DiseaseRange(
        vessels=_VESSELS,
        delay_seconds=(2.0, 16.0),
        delay_skew=(1.2, 2.6),
        dispersion_seconds=(0.1, 0.9),
        flow_floor=(0.04, 0.6),
        ramp_mm=(12.0, 46.0),
    ),
    "chronic": DiseaseRange(
        vessels=_VESSELS | {"m1": 0.5},
        delay_seconds=(0.5, 6.5),
        delay_skew=(1.5, 1.5),
        dispersion_seconds=(0.3, 1.3),
        flow_floor=(0.4, 0.95),
        ramp_mm=(20.0, 46.0),
    ),
    "healthy": DISEASES["none"],
}


class Variation:
    """What was drawn for one exam; its numbers are drawn at once, so that they do not depend on the grid."""

    def __init__(self, rng: np.random.Generator):
        self.drawn = {name: limits.draw(rng) for name, limits in RANGES.items()}
        drawn = self.drawn
        self.field_tesla = float(rng.choice([1.5, 3.0], p=[0.4, 0.6]))
        self.echo_seconds = drawn["echo_ms_1.5T" if self.field_tesla < 2 else "echo_ms_3T"] / 1000.0
        self.matrix = int(_chosen(rng, MATRICES))
        self.own_slices = int(
            np.clip(round(drawn["field_of_view_mm"] * rng.uniform(0.08, 0.75) / self.slice_step_mm), *SLICES)
        )
        if rng.random() < 0.08:
            self.own_slices = int(rng.integers(1, 5))  # a slab
        self.height = float(rng.uniform(0.0, 1.0))  # of the stack, where it does not cover the brain
        drawn["arterial_tail"] *= float(rng.beta(1.0, 1.8))
        self.truncated = bool(rng.random() < TRUNCATED)
        step = drawn["frame_seconds"]
        self.arrival_frames = max(drawn["arrival_seconds"] / step, 3.2)
        after = drawn["after_bolus_truncated_seconds" if self.truncated else "after_bolus_seconds"]
        after += drawn["arterial_width_seconds"] - RANGES["arterial_width_seconds"].low
        self.frames = int(np.clip(round(self.arrival_frames + after / step) + 1, *FRAMES))
        self.arrival_frames = min(self.arrival_frames, self.frames - 1 - 20.0 / step)  # 130 short frames may be too few
        self.state = str(_chosen(rng, STATES))
        self.lesions = int(_chosen(rng, LESIONS))
        self.other_side = bool(rng.random() < 0.6)
        self.steady = bool(rng.random() < STEADY) or self.arrival_frames < EARLY_FRAMES
        self.transit_shape = float(rng.choice(TRANSIT_SHAPES))
        self.movements = int(_chosen(rng, EVENTS))
        self.stripped = bool(rng.random() < STRIPPED)
        self.stripped_mm = float(rng.uniform(-1.0, 2.5))  # how deep below the surface the stripping cuts
        self.hole = Hole(rng, drawn["hole_radius_mm"]) if rng.random() < HOLE else None

    @property
    def slice_step_mm(self) -> float:
        """From one slice to the next."""
        return self.drawn["slice_mm"] * (1.0 + self.drawn["gap_share"])

    def protocol(self) -> dict[str, Any]:
        """Fields of `presets.Preset`."""
        return {
            "frame_seconds": self.drawn["frame_seconds"],
            "echo_seconds": self.echo_seconds,
            "field_of_view_mm": self.drawn["field_of_view_mm"],
            "slice_mm": self.slice_step_mm,
            "slices": (self.own_slices, self.own_slices),
            "frames": (self.frames, self.frames),
            "arrival_frames": (self.arrival_frames, self.arrival_frames),
            "grey_drop": (self.drawn["grey_drop"], self.drawn["grey_drop"]),
            "disease": VARIED_DISEASES[self.state],
            "truncated_share": 0.0,  # drawn here
            "matrix": self.matrix,
            "field_tesla": self.field_tesla,
        }

    def centre_mm(self, slices: int) -> tuple[float, float, float]:
        """Head coordinates of the centre of the stack: anywhere within the brain, the more so the fewer its slices."""
        half = min(0.5 * slices * self.slice_step_mm, 0.5 * (BRAIN_MM[1] - BRAIN_MM[0]))
        low, high = BRAIN_MM[0] + half, BRAIN_MM[1] - half
        return 0.0, -17.0, low + (high - low) * self.height

    def alter(self, head: Head, healthy: Healthy, scanner: Scanner) -> None:
        """Gives a person and a scanner the drawn properties."""
        drawn = self.drawn
        head.ventricle_scale, head.sulcus_mm = drawn["ventricle_scale"], drawn["sulcus_mm"]
        head.scale = head.scale / drawn["head_scale"]  # head coordinates per mm of scanner
        head.turn((drawn["pitch_degrees"], drawn["roll_degrees"], head.angles_degrees[2]))
        healthy.grey_cbf, healthy.white_cbf = drawn["grey_cbf"], drawn["grey_cbf"] * drawn["white_share"]
        healthy.grey_mtt, healthy.white_mtt = drawn["grey_mtt"], drawn["grey_mtt"] * drawn["white_mtt_ratio"]
        healthy.base_delay, healthy.watershed_delay = drawn["base_delay"], drawn["watershed_delay"]
        healthy.dispersion, healthy.transit_shape = drawn["dispersion"], self.transit_shape
        scanner.signal_to_noise, scanner.drift = drawn["signal_to_noise"], drawn["drift"]
        scanner.transient_height = 0.0 if self.steady else drawn["transient_height"]
        scanner.scalp_signal = drawn["scalp_signal"]
        scanner.air_loss, scanner.air_reach = drawn["air_loss"], drawn["air_reach"]
        scanner.bias_linear = scanner.bias_linear * drawn["bias_strength"]
        scanner.bias_square = scanner.bias_square * drawn["bias_strength"]

    def more_diseases(self, first: Disease, rng: np.random.Generator) -> list[Disease]:
        """Lesions of further territories: of the other side, or of another vessel of the same one."""
        found = []
        for _ in range(self.lesions - 1 if self.state != "healthy" else 0):
            another = Disease(rng, VARIED_DISEASES[self.state])
            another.side = -first.side if self.other_side else first.side
            if not self.other_side and another.territory == first.territory:
                another.vessel = "pca" if first.territory != "pca" else "aca"
            found.append(another)
        return found

    def motion(self, rng: np.random.Generator, frames: int, moves: bool | None) -> Motion:
        """The drawn number of movements, one after the other; none, or at least one, where that is asked for."""
        events = self.movements if moves is None else max(self.movements, 1) if moves else 0
        movements = [acquisition.draw_motion(rng, frames, True) for _ in range(events)]
        nothing = np.zeros((frames, 3))
        return Motion(
            sum((one.millimetres for one in movements), nothing), sum((one.degrees for one in movements), nothing)
        )

    def parameters(self) -> dict[str, object]:
        """The drawn numbers, as plain values."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, float | int | str | bool)}
        return plain | self.drawn | {"hole": self.hole.parameters() if self.hole else None}


class Hole:
    """What an old infarct leaves: fluid in the place of tissue."""

    def __init__(self, rng: np.random.Generator, radius_mm: float):
        self.side = int(rng.choice([-1, 1]))
        self.centre = np.array([rng.uniform(18.0, 56.0), rng.uniform(-70.0, 35.0), rng.uniform(-10.0, 50.0)])  # right
        self.radius_mm = radius_mm
        self.outline = SmoothField(rng, 22.0)

    def share(self, points: np.ndarray, blur_mm: float) -> np.ndarray:
        """(voxel,) 0..1, how much of the tissue at head coordinates (voxel, 3), mm, is gone."""
        distance = np.linalg.norm(points - self.centre * (self.side, 1, 1), axis=1)
        depth = self.radius_mm * (1.0 + 0.25 * self.outline(points)) - distance
        depth = np.minimum(depth, self.side * points[:, 0] - 2.0)  # one hemisphere alone
        return np.clip(0.5 + depth / blur_mm, 0.0, 1.0)

    def parameters(self) -> dict[str, object]:
        """The drawn numbers."""
        return {"centre_mm": (self.centre * (self.side, 1, 1)).tolist(), "radius_mm": self.radius_mm}


def _chosen(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    """One of the keys, as often as its share says."""
    names = list(shares)
    shares_of = np.array(list(shares.values()))
    return names[rng.choice(len(names), p=shares_of / shares_of.sum())]


def range_table(ranges: dict[str, Range] = RANGES) -> str:
    """Markdown rows: what is drawn, between what, and after whom (docs/phantom.md holds them)."""
    rows = ["| drawn | from – to (centre) | unit | source |", "|---|---|---|---|"]
    for name, one in ranges.items():
        centre = "" if one.centre is None else f" ({one.centre:g})"
        rows.append(f"| `{name}` | {one.low:g} – {one.high:g}{centre} | {one.unit} | {one.source} |")
    return "\n".join(rows)
