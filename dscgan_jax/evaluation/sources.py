"""Where maps come from that are scored: ours, anybody's in a folder, and nulls.

Words: a *source* offers maps of exams under one or several names; a *null* needs no series at all. What a source is
worth is its margin over the nulls: whole-slice SSIM hardly measures perfusion, since background and brain outline alone
score high.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from dscgan_jax.data import nifti
from dscgan_jax.data.checks import same_grid
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS

BLANK = "blank"  # 0 everywhere
NULL_MEDIAN = "null_median"  # the training median inside the reference mask, 0 outside


class MapSource(Protocol):
    """Whatever offers maps of exams."""

    @property
    def offers(self) -> Mapping[str, tuple[str, ...]]:
        """The names under which it offers maps, as they stand in the records, each with its maps as in `MAP_NAMES`."""
        ...

    def maps_of(self, exam: Exam) -> Mapping[str, ExamMaps]:
        """The maps of one exam by these names; a name is absent where its method refuses the exam."""
        ...


class FolderSource:
    """Maps in files, `<subject>_<map>.nii.gz` anywhere below a folder."""

    def __init__(self, name: str, folder: pathlib.Path | str, subjects: Sequence[str]):
        """Finds the maps that it is held to: those it has for any subject.

        Args:
          name: as in the records.
          folder: searched to its depth.
          subjects: who is scored.

        Raises:
          InputError: no such folder, or no map of any subject in it.
        """
        self.name, self.folder = name, pathlib.Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; it should hold <subject>_<map>.nii.gz files.")
        self._paths: dict[str, list[pathlib.Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if nifti.is_nifti(path):
                self._paths.setdefault(nifti.stem_of(path).lower(), []).append(path)
        held = [name for name in MAP_NAMES if any(self._find(subject, name) for subject in subjects)]
        if not held:
            raise InputError(
                f"{folder} holds no map of any of the {len(subjects)} subjects; expected files like "
                f"{subjects[0] if subjects else '<subject>'}_tmax.nii.gz."
            )
        self.offers = {name: tuple(held)}

    def maps_of(self, exam: Exam) -> dict[str, ExamMaps]:
        """The maps that it is held to, of those that the exam has a reference of.

        Raises:
          InputError: a map is absent, on another grid, or not finite inside the mask.
        """
        volumes = {name: self._read(name, exam) for name in self.offers[self.name] if name in exam.maps}
        return {self.name: _maps(exam, volumes)}

    def _find(self, subject: str, name: str) -> pathlib.Path | None:
        """The file of a subject's map; None where there is none."""
        paths = self._paths.get(f"{subject}_{name}".lower(), [])
        if len(paths) > 1:
            raise InputError(
                f"{self.folder} holds {subject}_{name} more than once: {paths[0]} and {paths[1]}; "
                "keep one of them, or give the folder of one method."
            )
        return paths[0] if paths else None

    def _read(self, name: str, exam: Exam) -> np.ndarray:
        """(x, y, z), RAS; what is not finite outside the mask becomes 0."""
        path = self._find(exam.subject, name)
        if path is None:
            raise InputError(
                f"{self.folder} has no {name} map of {exam.subject}; expected {exam.subject}_{name}.nii.gz there. "
                "Add it, or leave the subject out of the exams."
            )
        values = same_grid.on_grid(path, exam.stored)
        finite = np.isfinite(values)
        if bad := int((~finite & exam.mask).sum()):
            raise InputError(
                f"{path}: {bad} values inside the brain mask of {exam.subject} are not finite; every voxel of "
                "the mask is scored, so give each a number."
            )
        return np.where(finite, values, 0.0)


@dataclasses.dataclass(frozen=True)
class Nulls:
    """The maps of somebody who has not seen the series.

    Attributes:
      names: maps to offer; one of which the training split has no median is not offered as `null_median`.
      medians: training median of each map inside the brain.
    """

    names: tuple[str, ...]
    medians: Mapping[str, float | None]

    @classmethod
    def beside(cls, sources: Iterable[MapSource], medians: Mapping[str, float | None]) -> "Nulls":
        """Nulls of all maps that the sources offer."""
        offered = {name for source in sources for names in source.offers.values() for name in names}
        return cls(tuple(name for name in MAP_NAMES if name in offered), medians)

    @property
    def offers(self) -> dict[str, tuple[str, ...]]:
        """Both nulls with their maps."""
        known = tuple(name for name in self.names if self.medians.get(name) is not None)
        return {BLANK: self.names, NULL_MEDIAN: known}

    def maps_of(self, exam: Exam) -> dict[str, ExamMaps]:
        """The nulls of an exam, whose mask alone is used."""
        shape, inside = exam.mask.shape, exam.mask
        blank = {name: np.zeros(shape, np.float32) for name in self.offers[BLANK]}
        medians = {name: np.float32(self.medians[name] or 0.0) for name in self.offers[NULL_MEDIAN]}
        filled = {name: np.where(inside, median, np.float32(0)) for name, median in medians.items()}
        return {BLANK: _maps(exam, blank), NULL_MEDIAN: _maps(exam, filled)}


def _maps(exam: Exam, volumes: dict[str, np.ndarray]) -> ExamMaps:
    return ExamMaps(exam.subject, volumes, {name: MAPS[name].unit for name in volumes}, exam.stored)


def check_names(sources: Sequence[MapSource]) -> None:
    """Refuses two sources of one name.

    Raises:
      InputError: names them all.
    """
    names = [name for source in sources for name in source.offers]
    if len(set(names)) != len(names):
        raise InputError(f"two sources of maps have one name ({', '.join(names)}); rename one of the folders.")
