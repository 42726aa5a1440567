"""What a user asks for beside the maps of one exam: a given core, another image's grid, DICOM."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from dscgan_jax.data import dicom_maps
from dscgan_jax.data.bids_derivative import check_desc, stem_of
from dscgan_jax.data.core import read_core
from dscgan_jax.data.derivatives import ExamMaps
from dscgan_jax.data.exams import Exam
from dscgan_jax.data.space import Reference, read_reference, write_in_space
from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import readout
from dscgan_jax.evaluation.readout import ReadOut
from dscgan_jax.findings import Finding, Findings, by_severity
from dscgan_jax.methods.conventional import DEFAULTS, Deconvolved, deconvolved


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
    """

    core: pathlib.Path | None = None
    space: pathlib.Path | None = None
    desc: str = ""
    dicom: bool = False
    beside: str = ""
    on_read_out: Callable[[ReadOut], Any] | None = None

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

    def conventional(self, exam: Exam) -> tuple[Deconvolved | None, tuple[Finding, ...]]:
        """Conventional maps beside a network's, where they were asked for; a warning where none could be made."""
        if not self.asked.beside:
            return None, ()
        found = Findings()
        try:
            settings = dataclasses.replace(DEFAULTS, method=self.asked.beside)
            return deconvolved(exam, settings), ()
        except InputError as error:
            reason = str(error).removeprefix(f"{exam.subject}: ").rstrip(".")
            found.warning("conventional_missing", f"there are no conventional maps beside the network's: {reason}")
            return None, found.listed()

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


NO_EXTRAS = Extras()
