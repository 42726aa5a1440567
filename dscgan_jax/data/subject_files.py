"""The files of one exam, none of them opened yet, and what the user knows better than they do."""

import dataclasses
import pathlib
from typing import Any

from dscgan_jax.data import nifti, sidecars
from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding

MR, CT = "mr", "ct"


def shown(name: str) -> str:
    """A name as tables, terminals and pages can show it, with Python's escapes for what cannot be printed."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name)


def check_name(subject: str, where: str) -> None:
    """Refuses an identifier that is no name of a file, or that a table, a terminal or a page would not show as it is.

    Raises:
      InputError: it is empty, leads to another folder, or has characters that cannot be printed (line breaks, control
        characters, names that are not UTF-8).
    """
    if subject in ("", ".", "..") or "/" in subject or not subject.isprintable():
        raise InputError(f"{shown(where)}: the name {subject!a} cannot be that of an exam; rename its file or folder.")


@dataclasses.dataclass(frozen=True)
class Overrules:
    """What the user knows better than the files of the exams.

    Attributes:
      frame_seconds: frame length; 0 = from the files.
      echo_seconds: echo time; 0 = from the files.
      accept: names of findings that are errors and that the user takes all the same.
      modality: `mr` or `ct`: whether contrast agent makes the signal fall, or the attenuation rise.
    """

    frame_seconds: float = 0.0
    echo_seconds: float = 0.0
    accept: tuple[str, ...] = ()
    modality: str = MR

    def __post_init__(self):
        if self.modality == CT and self.echo_seconds:
            raise InputError("--te is the echo time of MRI, and config.data.modality is ct; leave one of them out.")

    @classmethod
    def from_config(cls, data: Any) -> "Overrules":
        """From `config.data`."""
        return cls(float(data.tr_seconds), float(data.te_seconds), tuple(data.accept), str(data.modality))

    def record(self) -> dict[str, Any]:
        """What decides maps and prepared data; as before there was a modality where it is the usual one."""
        record = dataclasses.asdict(self)
        return {name: value for name, value in record.items() if name != "modality" or value != MR}


NOTHING_OVERRULED = Overrules()


@dataclasses.dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject, none of them opened yet.

    Attributes:
      subject: identifier of the exam, unique in its folder.
      series: the perfusion series.
      sidecars: JSON files that tell about it, general ones first: what a later one says counts.
      maps: path of each map present, by name in `MAP_NAMES`.
      mask, lesion, aif, truth: optional files of the layout.
      split: `train`, `validation`, `test` or `exclude` where the folder says so.
      overrules: what the user knows better than these files.
      participant: the person in it, where several exams may be of one; empty = this exam's alone.
      findings: what was doubtful before any of them was opened.
      usual_frame_seconds: frame length where no file tells one, of data sets that are known for it; 0 = none.
      unusable: why an exam with this name cannot be used (`found`); empty = it can.
    """

    subject: str
    series: pathlib.Path
    sidecars: tuple[pathlib.Path, ...] = ()
    maps: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    mask: pathlib.Path | None = None
    lesion: pathlib.Path | None = None
    aif: pathlib.Path | None = None
    truth: pathlib.Path | None = None
    split: str | None = None
    overrules: Overrules = NOTHING_OVERRULED
    participant: str = ""
    findings: tuple[Finding, ...] = ()
    usual_frame_seconds: float = 0.0
    unusable: str = ""

    def __post_init__(self):
        check_name(self.subject, str(pathlib.PurePath(self.series or "").parent))

    @classmethod
    def found(cls, subject: str, series: pathlib.Path, participant: str = "", **others: Any) -> "SubjectFiles":
        """The files of an exam of a folder; a name that cannot be shown as it is costs this exam alone."""
        unusable = ""
        try:
            check_name(subject, str(series.parent))
        except InputError as error:
            unusable = str(error)
        return cls(shown(subject), series, participant=shown(participant), unusable=unusable, **others)

    @property
    def person(self) -> str:
        """Who was examined: all exams of a person are in one split."""
        return self.participant or self.subject


def lone_series(
    path: pathlib.Path | str, overrules: Overrules = NOTHING_OVERRULED, mask: pathlib.Path | str | None = None
) -> SubjectFiles:
    """The files of one series without maps: its sidecar counts if present; the subject is its name without `_dsc`."""
    path = pathlib.Path(path)
    subject = nifti.stem_of(path).removesuffix("_dsc")
    mask = None if mask is None else pathlib.Path(mask)
    return SubjectFiles(subject, path, sidecars.sidecars_of(path.absolute()), mask=mask, overrules=overrules)
