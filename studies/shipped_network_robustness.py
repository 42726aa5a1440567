"""How much the network's Tmax changes when the same tissue is stored, cut or surrounded otherwise."""

import dataclasses
from collections.abc import Callable
from unittest import mock

import numpy as np
from scipy import ndimage
from shipped_network_exams import SEED
from shipped_network_records import THRESHOLD, Record

from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.geometry import voxel_ml
from dscgan_jax.errors import InputError
from dscgan_jax.methods.network import Predictor
from dscgan_jax.perfusion import brain
from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.exam import Phantom
from dscgan_jax.phantom.simulation import Simulation, simulate

PRESETS = ("acute", "chronic")
AIR = 0.12  # of the brain's signal: what once took a network's Tmax to 0
HEAD = 0.15  # of the brain's signal: darker is bone or air; what such an outline encloses is head
BRIGHT_SCALP = 2.0  # of grey matter: fat that is not suppressed; the presets have 0.38
SLAB = 4  # of so many parts of a stack the lower ones are kept, but for one


@dataclasses.dataclass(frozen=True)
class Change:
    """One way in which the same exam comes.

    Attributes:
      asked: largest mean change of Tmax, s.
      make: the exam, as it would be read.
      kept: slices of the unchanged exam that it has.
    """

    asked: float
    make: Callable[[], Exam]
    kept: slice = dataclasses.field(default_factory=lambda: slice(None))


def exam_of(phantom: Phantom, series: np.ndarray, affine: np.ndarray | None = None) -> Exam:
    """A series of the phantom's protocol, read as every series is; slices and frames may be fewer."""
    return Exam.from_arrays(
        series,
        phantom.affine if affine is None else affine,
        repetition_time=phantom.frame_seconds,
        echo_time=phantom.echo_seconds,
    )


def changes_of(simulated: Simulation, preset: str, number: int, size: int, slices: int | None) -> dict[str, Change]:
    """{what is changed: the change}, of one exam; nothing is computed before it is asked for."""
    phantom = simulated.phantom
    series = phantom.series.astype(np.float32)
    rest = series[..., :4].mean(axis=-1)
    level = float(rest[phantom.mask].mean())
    air = ~head_of(rest > HEAD * level)
    whole_brain = brain.with_fluid_spaces(phantom.mask, simulated.exam.voxel_mm)
    n_slices = series.shape[2]
    lower, single = slice(0, max(1, n_slices * (SLAB - 1) // SLAB)), slice(n_slices // 2, n_slices // 2 + 1)
    random = np.random.default_rng([SEED, number])

    def in_air(values: np.ndarray | float) -> Exam:
        return exam_of(phantom, np.where(air[..., None], np.float32(values), series))

    def noise() -> np.ndarray:
        return AIR * level * np.hypot(*random.standard_normal((2, *series.shape), np.float32))

    def turned() -> Exam:
        return exam_of(phantom, *stored_otherwise(series, phantom.affine))

    def cut(kept: slice) -> Exam:
        return exam_of(phantom, series[:, :, kept], affine_of(phantom.affine, kept))

    def bright_scalp() -> Exam:
        with mock.patch.dict(acquisition.SIGNAL_OF, scalp=BRIGHT_SCALP):
            return simulate(preset, (SEED, number), size=size, slices=slices).exam

    return {
        "stored in another orientation": Change(0.1, turned),
        "the upper quarter of the slices left out": Change(0.1, lambda: cut(lower), lower),
        "every second slice left out": Change(0.1, lambda: cut(slice(None, None, 2)), slice(None, None, 2)),
        "one slice alone": Change(0.1, lambda: cut(single), single),
        "gain x 1,000": Change(0.1, lambda: exam_of(phantom, series * np.float32(1000))),
        f"an intercept of {100 * AIR:.0f} % of the brain's signal in the air": Change(
            0.1, lambda: exam_of(phantom, series + np.where(air, np.float32(AIR * level), np.float32(0))[..., None])
        ),
        f"noise of {100 * AIR:.0f} % of the brain's signal in the air": Change(0.1, lambda: in_air(noise())),
        "air exactly 0": Change(0.1, lambda: in_air(0.0)),
        "bright scalp": Change(0.1, bright_scalp),
        "skull-stripped": Change(
            0.2, lambda: exam_of(phantom, np.where(whole_brain[..., None], series, np.float32(0)))
        ),
        "one frame more at the end (with it against without)": Change(0.1, lambda: exam_of(phantom, series[..., :-1])),
        "one frame more at the beginning (likewise)": Change(0.1, lambda: exam_of(phantom, series[..., 1:])),
    }


def head_of(bright: np.ndarray) -> np.ndarray:
    """What bright voxels (x, y, z) enclose in each slice; gaps of the scalp of up to four pixels are closed."""
    square = np.ones((5, 5), bool)
    head = np.zeros_like(bright)
    for z in range(bright.shape[2]):
        padded = np.pad(bright[..., z], 3)
        head[..., z] = ndimage.binary_fill_holes(ndimage.binary_closing(padded, square))[3:-3, 3:-3]
    return head


def stored_otherwise(series: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels at the same places with rows and columns exchanged, and two axes reversed."""
    steps = np.eye(4)  # new index -> old index
    steps[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, -1]]
    steps[0, 3], steps[2, 3] = series.shape[0] - 1, series.shape[2] - 1
    return np.swapaxes(series, 0, 1)[:, ::-1, ::-1], affine @ steps


def affine_of(affine: np.ndarray, kept: slice) -> np.ndarray:
    """Of a stack of which some slices are kept."""
    steps = np.eye(4)
    steps[2, 2], steps[2, 3] = kept.step or 1, kept.start or 0
    return affine @ steps


def difference(before: ExamMaps, after: ExamMaps, kept: slice = slice(None)) -> Record:
    """Mean |change of Tmax| over the brain that both have, s; and what became of brain and lesion.

    Args:
      before: of the unchanged exam, whose slices `kept` are those of `after`.
      after: of the changed one.
      kept: slices.
    """
    assert before.mask is not None and after.mask is not None
    old, mask = before["tmax"][:, :, kept], before.mask[:, :, kept]
    both = mask & after.mask
    ml = voxel_ml(before.affine)
    return {
        "change": float(np.abs(after["tmax"] - old)[both].mean()) if both.any() else float("nan"),
        "kept": float(both.sum() / mask.sum()) if mask.any() else float("nan"),
        "before_ml": float((old > THRESHOLD).sum() * ml),
        "after_ml": float((after["tmax"] > THRESHOLD).sum() * ml),
    }


def study_changes(preset: str, number: int, size: int, slices: int | None, predictor: Predictor) -> Record:
    """All changes of one exam."""
    simulated = simulate(preset, (SEED, number), size=size, slices=slices)
    before = predictor.predict(simulated.exam)
    found: Record = {}
    for name, change in changes_of(simulated, preset, number, size, slices).items():
        try:
            found[name] = {"asked": change.asked} | difference(before, predictor.predict(change.make()), change.kept)
        except InputError as error:
            found[name] = {"asked": change.asked, "refused": str(error)}
    return {"preset": preset, "subject": number, "changes": found}
