"""Exams that look like exams and are wrong: what a mistake at the scanner, at the archive or at the desk leaves."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from dscgan_jax.phantom.exam import Phantom, draw_phantom

# No training and no other study draws from it. Its exams suggested three limits of the program: that of an AIF that is
# mostly tissue (`arterial.MOSTLY_PEAK_OVER_BRAIN`), which held on those of another seed (`studies/arteries.py`), and
# those of a TTP of another bolus and of a narrow first pass (`consistency.SURE`, `first_pass.USUAL_WIDTH`), which warn
# of none of 132 exams as drawn of three other seeds.
SEED = 20_261_129
LARGEST, MOST_SLICES = 96, 8  # of an exam: larger ones would only take longer


@dataclasses.dataclass(frozen=True)
class Given:
    """What a user gives the program.

    Attributes:
      series: (x, y, z, time), float32.
      affine: (4, 4) voxel index -> mm.
      frame_seconds, echo_seconds: as the files say.
      maps: true maps of the exam, in the units of `maps.MAPS`; empty where it has none, as of another organ.
      mask: (x, y, z) bool, the true brain.
    """

    series: np.ndarray
    affine: np.ndarray
    frame_seconds: float
    echo_seconds: float
    maps: dict[str, np.ndarray]
    mask: np.ndarray


@functools.lru_cache(maxsize=2)
def drawn(number: int, seed: int = SEED) -> Phantom:
    """A `varied` exam as it comes, but for its largest grids."""
    own = draw_phantom("varied", (seed, number), size=32, slices=1).truth["varied"]
    size, slices = min(own["matrix"], LARGEST), min(own["own_slices"], MOST_SLICES)
    return draw_phantom("varied", (seed, number), size=size, slices=slices)


def as_drawn(exam: Phantom, rng: np.random.Generator) -> Given:
    """Nothing is done."""
    del rng
    series = exam.series.astype(np.float32)
    return Given(series, exam.affine, exam.frame_seconds, exam.echo_seconds, exam.maps, exam.mask)


def _frame_length(factor: float) -> Callable[[Phantom, np.random.Generator], Given]:
    def spoil(exam: Phantom, rng: np.random.Generator) -> Given:
        given = as_drawn(exam, rng)
        return dataclasses.replace(given, frame_seconds=given.frame_seconds * factor)

    return spoil


def _changed(change: Callable[[np.ndarray, Phantom, np.random.Generator], np.ndarray]) -> "Spoil":
    def spoil(exam: Phantom, rng: np.random.Generator) -> Given:
        given = as_drawn(exam, rng)
        return dataclasses.replace(given, series=np.float32(change(given.series, exam, rng)))

    return spoil


def _reversed(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    del exam, rng
    return series[..., ::-1]


def _shuffled(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    del exam
    return series[..., rng.permutation(series.shape[-1])]


def _sorted_as_text(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """Frames in the order of their names: 1, 10, 11, ..., 2, 20."""
    del exam, rng
    return series[..., sorted(range(series.shape[-1]), key=str)]


def _ratio(series: np.ndarray, exam: Phantom) -> np.ndarray:
    """Signal over baseline, 1 outside the head."""
    arrival = max(int(np.argmax(exam.arterial_mm > 0.05 * exam.arterial_mm.max())), 2)
    baseline = np.maximum(series[..., :arrival].mean(-1, keepdims=True), 1.0)
    return np.where(exam.mask[..., None], np.maximum(series, 1.0) / baseline, 1.0)


def _second_bolus(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """A second injection 25 to 35 s after the first, as strong."""
    ratio = _ratio(series, exam)
    later = round(rng.uniform(25.0, 35.0) / exam.frame_seconds)
    second = np.ones_like(ratio)
    second[..., later:] = ratio[..., : ratio.shape[-1] - later]
    return series * second


def _delta_r2star(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """Curves of concentration instead of the signal."""
    del rng
    return -np.log(_ratio(series, exam)) / exam.echo_seconds


def _normalised(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """Each voxel over its own mean and spread."""
    del exam, rng
    return (series - series.mean(-1, keepdims=True)) / np.maximum(series.std(-1, keepdims=True), 1e-3)


def _subtracted(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """The first frame taken off."""
    del exam, rng
    return series - series[..., :1]


def _enhancing(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """A T1-weighted dynamic series, whose signal rises where agent comes."""
    del rng
    return series * (1.0 - 1.5 * np.log(_ratio(series, exam)))


def _attenuation(series: np.ndarray, exam: Phantom, rng: np.random.Generator) -> np.ndarray:
    """CT in HU: skull, scalp, air, and enhancement of 6 HU in the mean."""
    enhanced = -np.log(_ratio(series, exam))
    enhanced *= 6.0 / max(enhanced[exam.mask].mean(0).max(), 1e-6)
    brain = ndimage.binary_closing(exam.mask, iterations=2)
    outside = np.stack([ndimage.distance_transform_edt(~one, sampling=3.0) for one in np.moveaxis(brain, 2, 0)], 2)
    level = np.select([outside <= 2, outside <= 9, outside <= 16], [8.0, 1000.0, 45.0], -1000.0)
    level[exam.mask] = 35.0
    return level[..., None] + enhanced + rng.normal(0.0, 0.5, series.shape)


def moving(exam: Phantom, rng: np.random.Generator) -> Given:
    """The head jerks three times, by 4 to 8 mm and degrees, and the frames are used as they are."""
    frames = exam.series.shape[-1]
    at = np.sort(rng.choice(np.arange(3, frames), 3, replace=False))
    centre = np.array(exam.series.shape[:3]) / 2
    moved = exam.series.astype(np.float32)
    for begin in at:
        angle = np.radians(rng.uniform(4.0, 8.0) * rng.choice([-1, 1]))
        shift = rng.uniform(4.0, 8.0) * rng.choice([-1, 1]) / 3.6  # mm to pixels, about
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        offset = centre - turn @ centre + np.array([0.0, shift, 0.0])
        for frame in range(begin, frames):
            moved[..., frame] = ndimage.affine_transform(moved[..., frame], turn, offset, order=1, mode="nearest")
    return dataclasses.replace(as_drawn(exam, rng), series=moved)


def trunk(exam: Phantom, rng: np.random.Generator) -> Given:
    """Two kidneys, a liver, muscle and an aorta instead of a head, with the exam's own injection."""
    given = as_drawn(exam, rng)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in given.series.shape[:3]), indexing="ij")
    frames, arterial = given.series.shape[-1], np.maximum(exam.arterial_mm, 0.0)

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1.0

    def tissue(flow: float, transit_seconds: float, delay_seconds: float) -> np.ndarray:
        seconds = np.arange(frames) * exam.frame_seconds
        residue = np.exp(-np.maximum(seconds - delay_seconds, 0.0) / transit_seconds) * (seconds >= delay_seconds)
        return flow * exam.frame_seconds * np.convolve(arterial, residue)[:frames]

    curve = np.zeros(given.series.shape)
    level = np.zeros(given.series.shape[:3])
    for where, signal, course in (
        (ellipse(0, 0, 0.88, 0.66), 300.0, tissue(0.0008, 12.0, 3.0)),
        (ellipse(-0.42, 0.1, 0.42, 0.5), 420.0, tissue(0.004, 25.0, 4.0)),
        (ellipse(0.45, -0.28, 0.16, 0.22), 520.0, tissue(0.03, 6.0, 1.0)),
        (ellipse(-0.3, -0.42, 0.14, 0.18), 520.0, tissue(0.03, 6.0, 1.0)),
        (ellipse(0.04, -0.12, 0.07, 0.07), 480.0, 0.3 * arterial),
    ):
        level[where], curve[where] = signal, course
    curve *= 0.5 / max(curve[level > 500].mean(0).max(), 1e-9)
    noise = rng.normal(0.0, 8.0, (2, *curve.shape))
    series = np.hypot(level[..., None] * np.exp(-curve) + noise[0], noise[1])
    return dataclasses.replace(given, series=np.float32(series), maps={})


def bottle(exam: Phantom, rng: np.random.Generator) -> Given:
    """A bottle of water, in which nothing happens but drift and noise."""
    given = as_drawn(exam, rng)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in given.series.shape[:3]), indexing="ij")
    drift = np.linspace(1.0, rng.uniform(0.9, 1.1), given.series.shape[-1])
    noise = rng.normal(0.0, 8.0, (2, *given.series.shape))
    series = np.hypot(np.where(x**2 + y**2 < 0.6, 500.0, 0.0)[..., None] * drift + noise[0], noise[1])
    return dataclasses.replace(given, series=np.float32(series), maps={})


Spoil = Callable[[Phantom, np.random.Generator], Given]
HARMS: dict[str, Spoil] = {
    "as drawn": as_drawn,
    "frame length in ms": _frame_length(1000.0),
    "frame length halved": _frame_length(0.5),
    "frame length doubled": _frame_length(2.0),
    "time axis reversed": _changed(_reversed),
    "frames shuffled": _changed(_shuffled),
    "frames sorted as text": _changed(_sorted_as_text),
    "a second injection": _changed(_second_bolus),
    "head moves, frames as they are": moving,
    "CT given as MR": _changed(_attenuation),
    "a T1-weighted series": _changed(_enhancing),
    "concentrations for signal": _changed(_delta_r2star),
    "each voxel normalised": _changed(_normalised),
    "first frame subtracted": _changed(_subtracted),
    "another organ": trunk,
    "a bottle of water": bottle,
}


def spoiled(kind: str, number: int) -> Given:
    """The exam of a number, after a harm."""
    return HARMS[kind](drawn(number), np.random.default_rng([SEED, number]))
