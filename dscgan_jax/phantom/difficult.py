"""The preset `difficult`: acute exams that nobody can post-process, as those of the paper's figure 7B; four kinds.

The person, the disease and the protocol are those of the preset `acute`; one thing is wrong with the exam, by turns:

- `motion`: the head jerks several times, twice of them during the first pass.
- `no_artery`: the slices lie above the trunks of the cerebral arteries, and the branches in them are so thin that no
  voxel shows blood alone.
- `truncated`: the scan ends soon after healthy grey matter has its peak: late tissue has not had its own.
- `low_contrast`: hardly any agent reached the blood (a small dose, or an injection beside the vein).

The truth of such an exam is as true as that of any other: the maps say what the tissue does, not what can be seen.
"""

from typing import Any

import numpy as np

from dscgan_jax.phantom import acquisition
from dscgan_jax.phantom.acquisition import Motion
from dscgan_jax.phantom.varied import Range

KINDS = ("motion", "no_artery", "truncated", "low_contrast")
RANGES: dict[str, Range] = {
    "jerk_mm": Range(
        3.0,
        8.0,
        "mm",
        "`motion`: from where the head first lay; one to two voxels, two to four times a usual movement of the other "
        "presets. Of 80 stroke patients 19 % moved too much for any correction, most by nodding, fastest in the first "
        "15 s (CT perfusion: Eur J Radiol 2021;144:109979)",
    ),
    "jerk_degrees": Range(3.0, 8.0, "degrees", "`motion`: likewise; at 70 mm from the centre 3.7-9.8 mm"),
    "lowest_mm": Range(
        24.0,
        32.0,
        "mm",
        "`no_artery`: lower edge of the slices above the level of the commissures; the M2 divisions end at 22-24 mm",
    ),
    "artery_scale": Range(
        0.35,
        0.50,
        "of the usual radius",
        "`no_artery`: radii of 0.4-0.55 mm; cortical branches have outer diameters of 0.8-1.5 mm (Umansky et al., J "
        "Neurosurg 1984;61:458)",
    ),
    "after_peak_seconds": Range(
        2.0,
        5.0,
        "s",
        "`truncated`: last frame after the peak of healthy grey matter. Exams of 48 s cut the curves of the core in 67 "
        "% of patients (CT: Borst et al., PLoS One 2015;10:e0119409); here all late tissue is cut",
    ),
    "contrast_to_noise": Range(
        1.0,
        4.0,
        "1",
        "`low_contrast`: largest signal change of healthy grey matter over the noise of a voxel, 8-35 in the preset "
        "`acute`; with a baseline of 30-80 times the noise the signal falls by 1-13 % instead of 28-44 %",
    ),
}
JERKS = (4, 6)  # fewest and most
IN_FIRST_PASS = 2  # of them at least
FIRST_PASS_SECONDS = 20.0  # after the arrival in M1: healthy tissue has its peak at 8 s, late tissue at up to 20
STACK_MM = 40.0  # height of the slices of `no_artery`, up to the vertex
SLICES = 8  # of its own


class Difficulty:
    """What is wrong with one exam; its numbers are drawn at once, so that they do not depend on kind and grid."""

    def __init__(self, rng: np.random.Generator, number: int):
        """Draws.

        Args:
          rng: random numbers.
          number: of the subject, at least 0; it decides the kind.
        """
        self.kind = KINDS[number % len(KINDS)]
        self._jerks = int(rng.integers(JERKS[0], JERKS[1] + 1))
        self._lowest_mm = RANGES["lowest_mm"].draw(rng)
        self._artery_scale = RANGES["artery_scale"].draw(rng)
        self._after_peak_seconds = RANGES["after_peak_seconds"].draw(rng)
        self._contrast_to_noise = RANGES["contrast_to_noise"].draw(rng)

    def protocol(self) -> dict[str, Any]:
        """Fields of `presets.Preset`; no exam has a second difficulty."""
        changed: dict[str, Any] = {"truncated_share": 0.0}
        if self.kind == "no_artery":
            changed |= {"slices": (SLICES, SLICES), "lowest_mm": self._lowest_mm, "artery_scale": self._artery_scale}
        elif self.kind == "truncated":
            changed |= {"ends_after_peak_seconds": self._after_peak_seconds}
        elif self.kind == "low_contrast":
            changed |= {"contrast_to_noise": self._contrast_to_noise}
        return changed

    def motion(
        self, rng: np.random.Generator, seconds: np.ndarray, arrival_seconds: float, moves: bool | None
    ) -> Motion:
        """Jerks within a frame each, to another pose each; other kinds lie still unless a movement is asked for.

        Args:
          rng: random numbers.
          seconds: (time,) acquired times.
          arrival_seconds: of the bolus.
          moves: None: as the kind does; else whether the head moves.
        """
        if self.kind != "motion":
            return acquisition.draw_motion(rng, len(seconds), bool(moves))
        millimetres, degrees = np.zeros((len(seconds), 3)), np.zeros((len(seconds), 3))
        after = seconds - arrival_seconds
        in_pass = np.flatnonzero((after > 0) & (after < FIRST_PASS_SECONDS))
        chosen = rng.choice(in_pass, IN_FIRST_PASS, replace=False)
        others = np.setdiff1d(np.arange(2, len(seconds) - 1), chosen)
        jerks = np.sort(np.concatenate([chosen, rng.choice(others, self._jerks - IN_FIRST_PASS, replace=False)]))
        for begin in jerks if moves in (None, True) else ():
            millimetres[begin:] = _of_length(rng, acquisition.SHIFT_MM, RANGES["jerk_mm"])
            degrees[begin:] = _of_length(rng, acquisition.TURN_DEGREES, RANGES["jerk_degrees"])
        return Motion(np.round(millimetres, 6), np.round(degrees, 6))

    def parameters(self) -> dict[str, object]:
        """The drawn numbers that the kind uses, as plain values; poses are in the record of the motion."""
        if self.kind == "motion":
            return {"jerks": self._jerks}
        used = {
            "no_artery": {"lowest_mm": self._lowest_mm, "artery_scale": self._artery_scale},
            "truncated": {"after_peak_seconds": self._after_peak_seconds},
            "low_contrast": {"contrast_to_noise": self._contrast_to_noise},
        }
        return dict(used[self.kind])


def _of_length(rng: np.random.Generator, spread: tuple[float, float, float], length: Range) -> np.ndarray:
    """(3,) a normally distributed direction, and a drawn length."""
    direction = rng.normal(0, spread)
    return direction * (length.draw(rng) / np.linalg.norm(direction))
