"""What a user asks for beside the maps of one exam: a given core, another image's grid, DICOM."""

import dataclasses
import glob
import pathlib
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from dscgan_jax.data import dicom_maps
from dscgan_jax.data.bids_derivative import check_desc, stem_of
from dscgan_jax.data.core import read_core
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.sidecars import read_sidecar
from dscgan_jax.data.space import Reference, read_reference, write_in_space
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import readout
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.maps import MAPS, MORE_MAPS

if TYPE_CHECKING:
    from dscgan_jax.methods.conventional import Deconvolved  # it needs JAX, and what is asked for does not


def as_it_is(finding: Finding) -> Finding:
    """The finding, with its flag."""
    return finding


@dataclasses.dataclass(frozen=True)
class Asked:
    """As given on the command line; no file is opened yet.

    Attributes:
      core: NIfTI mask of the ischaemic core.
      space: NIfTI image on whose grid the maps are wanted, too.
      desc: of the `desc-` entity in the names of maps; empty = none.
      dicom: whether the maps are wanted as DICOM parametric maps, too.
      beside: method of deconvolution whose maps are wanted beside those of a network; empty = none.
      on_read_out: called with the read-out once it is written.
      offered: turns a finding into one with the flag that who reads the page can give, or with none.
    """

    core: pathlib.Path | None = None
    space: pathlib.Path | None = None
    desc: str = ""
    dicom: bool = False
    beside: str = ""
    on_read_out: Callable[[ReadOut], Any] | None = None
    offered: Callable[[Finding], Finding] = as_it_is

    def __post_init__(self):
        check_desc(self.desc)
        if self.dicom:
            dicom_maps.check_installed()
        if self.beside and self.desc == self.beside:
            raise InputError(
                f"--desc={self.desc} names the network's maps as those of --beside are named; give another word."
            )

    def stem(self, subject: str, space: str = "") -> str:
        """How the names of an exam's files begin."""
        return stem_of(subject, self.desc, space)


NOTHING_ASKED = Asked()


@dataclasses.dataclass(frozen=True)
class Extras:
    """The same, read and checked against the exam before anything slow begins.

    Attributes:
      asked: what was asked for.
      core: (x, y, z) bool on the exam's grid, RAS; None: not given.
      reference: the grid on which the maps are wanted, too; None: not asked for.
      findings: what is doubtful about these files.
    """

    asked: Asked = NOTHING_ASKED
    core: np.ndarray | None = None
    reference: Reference | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, asked: Asked, exam: Exam) -> "Extras":
        """Reads the files.

        Raises:
          InputError: one of them is unreadable, or does not belong to the exam.
        """
        found, core, reference = Findings(), None, None
        if asked.core is not None:
            core = read_core(asked.core, exam, found)
            readout.checked_core(core, exam.mask, str(asked.core))
        if asked.space is not None:
            reference = read_reference(asked.space, exam, found)
        return cls(asked, core, reference, found.listed())

    def noted(self, exam: Exam) -> Exam:
        """The exam with the findings on these files."""
        return dataclasses.replace(exam, findings=by_severity((*exam.findings, *self.findings)))

    def conventional(self, exam: Exam) -> "tuple[Deconvolved | None, tuple[Finding, ...]]":
        """Conventional maps beside a network's, where they were asked for; a warning where none could be made."""
        if not self.asked.beside:
            return None, ()
        from dscgan_jax.data.aif import given_of
        from dscgan_jax.methods.conventional import DEFAULTS, deconvolved

        found = Findings()
        try:
            settings = dataclasses.replace(DEFAULTS, method=self.asked.beside)
            return deconvolved(exam, settings, given_of(exam)), ()
        except InputError as error:
            reason = str(error).removeprefix(f"{exam.subject}: ").rstrip(".")
            found.warning("conventional_missing", f"there are no conventional maps beside the network's: {reason}")
            return None, found.listed()

    def of_beside(self) -> "Extras":
        """The same for the conventional maps, under their own name."""
        asked = dataclasses.replace(self.asked, desc=self.asked.beside, beside="", on_read_out=None)
        return dataclasses.replace(self, asked=asked)

    def read_out(self, maps: ExamMaps) -> ReadOut:
        """The read-out of the maps, with the core if one was given."""
        return readout.read_out(maps, self.core)

    def write(self, folder: pathlib.Path, maps: ExamMaps, found: ReadOut) -> list[pathlib.Path]:
        """Writes the read-out of the maps, and what else was asked for; returns the paths of further maps.

        Raises:
          InputError: the folder cannot be written.
        """
        readout.write(folder, self.asked.stem(maps.subject), found)
        if self.asked.on_read_out is not None:
            self.asked.on_read_out(found)
        further: list[pathlib.Path] = []
        if self.reference is not None:
            stem = self.asked.stem(maps.subject, self.reference.label)
            further += write_in_space(folder, stem, maps, self.reference)
        if self.asked.dicom:
            further += dicom_maps.write_dicom(folder, self.asked.stem(maps.subject), maps)
        return further


_MAP = "|".join((*MAPS, *MORE_MAPS))
# What a run may leave beside its maps, after the stem: maps besides, arterial voxels, DICOM, pages of older versions.
_BESIDES = re.compile(
    rf"_(?:(?:{'|'.join(MORE_MAPS)})\.(?:nii\.gz|json)|aifmask\.nii\.gz|(?:{_MAP})\.dcm|qc\.html|prediction\.html)"
)
_IN_SPACE = re.compile(rf"_space-\w+?_(?:(?:{_MAP})\.(?:nii\.gz|json)|mask\.nii\.gz)")


def refuse_overwriting(folder: pathlib.Path, stem: str, names: Collection[str]) -> None:
    """Refuses an output in which files of somebody else have the names of ours, such as expert maps.

    Args:
      folder: of the output; it need not be there.
      stem: how the names of this run's files begin.
      names: their ends, such as `_mask.nii.gz`.

    Raises:
      InputError: names the first such file.
    """
    there = [path for name in names if (path := folder / f"{stem}{name}").exists()]
    if there and not any(_is_ours(folder / f"{stem}_{name}.json") for name in MAPS):
        raise InputError(
            f"{there[0]} is there already, and this program did not write it; give another --output, or --desc=WORD."
        )


def _is_ours(sidecar: pathlib.Path) -> bool:
    """Whether a map's sidecar is one that we wrote."""
    try:
        return "IntendedUse" in read_sidecar(sidecar)
    except InputError:
        return False


def remove_stale(folder: pathlib.Path, stem: str, written: Collection[str]) -> None:
    """Removes what an earlier run of the same name wrote and this one did not: it would be taken for this one's.

    Args:
      folder: of the output.
      stem: how the names of this run's maps begin.
      written: names of the files of this run.
    """
    for path in folder.glob(f"{glob.escape(stem)}_*"):
        rest = path.name.removeprefix(stem)
        is_ours = _BESIDES.fullmatch(rest) or (_IN_SPACE.fullmatch(rest) and "_desc-" not in rest)
        if is_ours and path.name not in written:
            path.unlink(missing_ok=True)
