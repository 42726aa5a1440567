"""Maps of one exam, and the one writer of them, whoever made them."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dscgan_jax.data import nifti
from dscgan_jax.data.geometry import StoredGrid
from dscgan_jax.data.quality import Quality
from dscgan_jax.errors import InputError
from dscgan_jax.files import all_or_nothing
from dscgan_jax.findings import Finding
from dscgan_jax.maps import spec_of
from dscgan_jax.perfusion.arterial import ArterialInput


@dataclasses.dataclass(frozen=True)
class ScaledMaps:
    """What a network gave before it was brought back onto the exam's grid.

    Attributes:
      values: (slice, row, col, target) in [-1, 1], on the network grid.
      targets: names of the maps, in the order of the last axis.
    """

    values: np.ndarray
    targets: tuple[str, ...]

    def __getitem__(self, name: str) -> np.ndarray:
        """(slice, row, col) of one map."""
        return self.values[..., self.targets.index(name)]


@dataclasses.dataclass(frozen=True)
class ExamMaps:
    """The maps of one exam, however they were made; `maps["tmax"]` is one of them.

    Attributes:
      subject: identifier of the exam.
      volumes: name -> (x, y, z) float32 on the exam's grid, RAS, 0 where there is no value; the five of `maps.MAPS`, or
        some of them, and those of `maps.MORE_MAPS` that the method gives.
      units: name -> unit.
      stored: the grid of the series' file, to which `save` turns back.
      how: ends the maps' descriptions, e.g. `by deconvolution`.
      findings: of the exam and of what was done to it, the worst first.
      provenance: what else each sidecar holds: method, settings, software; plain JSON values.
      mask: (x, y, z) bool, where maps were made; None: everywhere.
      scaled: of a network, its maps on the network grid.
      seconds: from the series in memory to the maps in memory, if it was measured.
      quality: what exam and maps are worth, if it was measured.
      artery: of a network that is shown the exam's AIF, that AIF, of ΔR2* times the echo time.
    """

    subject: str
    volumes: dict[str, np.ndarray]
    units: dict[str, str]
    stored: StoredGrid
    how: str = ""
    findings: tuple[Finding, ...] = ()
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    mask: np.ndarray | None = None
    scaled: ScaledMaps | None = None
    seconds: float | None = None
    quality: Quality | None = None
    artery: ArterialInput | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        """(x, y, z) of one map.

        Raises:
          InputError: there is no such map.
        """
        if name not in self.volumes:
            raise InputError(f"{self.subject} has no map {name!r}; it has {', '.join(self.volumes)}.")
        return self.volumes[name]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index on RAS axes -> millimetres."""
        return self.stored.ras_affine

    def unit(self, name: str) -> str:
        """The unit of one map, `relative` where it has none."""
        self[name]
        return self.units[name]

    def sidecar(self, name: str) -> dict[str, Any]:
        """What the JSON file beside one map holds."""
        description = spec_of(name).description + (f", {self.how}" if self.how else "")
        findings = [finding.to_json() for finding in self.findings]
        head: dict[str, Any] = {"Units": self.units[name], "Description": description}
        head |= {} if self.mask is None else {"SkullStripped": True}  # 0 outside it, in the word of BIDS
        head |= {} if self.quality is None else {"Quality": self.quality.to_json()}
        return {**head, **self.provenance, "Findings": findings, "IntendedUse": "research only"}

    def save(self, folder: pathlib.Path | str, stem: str = "", names: Sequence[str] = ()) -> list[pathlib.Path]:
        """Writes `<stem>_<map>.nii.gz` with JSON sidecars on the axes of the series' file, all of them or none.

        Args:
          folder: created if needed.
          stem: first part of the file names; empty = the subject.
          names: maps to write; none = all.

        Returns:
          paths of the maps.

        Raises:
          InputError: the folder cannot be written, the disk is full, or a map has values that are not finite.
        """
        names = tuple(names) or tuple(self.volumes)
        folder, stem = pathlib.Path(folder), stem or self.subject
        if stem != pathlib.Path(stem).name:
            raise InputError(f"{stem}: expected the first part of file names, it leads to another folder.")
        with all_or_nothing(folder) as partial:
            for name in names:
                path = partial / f"{stem}_{name}.nii.gz"
                write_turned(path, self[name], self.stored, sidecar=self.sidecar(name))
        return [folder / f"{stem}_{name}.nii.gz" for name in names]


def write_turned(
    path: pathlib.Path,
    volume: np.ndarray,
    stored: StoredGrid,
    *,
    dtype: npt.DTypeLike = np.float32,
    sidecar: dict[str, Any] | None = None,
) -> None:
    """Writes a volume (x, y, z) that is on RAS axes onto the grid `stored`; arguments and errors as `write_volume`."""
    nifti.write_volume(path, stored.to_stored(volume), stored.affine, dtype=dtype, sidecar=sidecar)
