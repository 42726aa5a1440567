"""What is doubtful about an exam: one list, the same in every mode, on pages and in sidecars.

A *finding* has a name, a severity, a sentence, the value that was found and the flag that overrules it.
*error*: the maps would mean nothing, so the exam is refused, unless the user takes the risk with --accept=NAME; then it
is a warning that says so. *warning*: the maps may be wrong, somebody must look. *note*: what was repaired or assumed,
or is a known limit of the method.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from dscgan_jax.errors import InputError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """What findings of one name are about, and how severe they can be."""

    about: str
    severities: tuple[Severity, ...]


ERROR, WARNING, NOTE = SEVERITIES
# Every name that a finding can have.
KINDS = {
    # time
    "frame_length": Kind(
        "frame length: sources that contradict each other, or a length that no perfusion series has",
        (ERROR, WARNING, NOTE),
    ),
    "frame_length_from_header": Kind("frame length taken from the NIfTI header alone", (NOTE,)),
    "frame_length_unit": Kind("frame length given in another unit than seconds", (WARNING, NOTE)),
    "unequal_frames": Kind("frames of unequal length, resampled to equal ones", (WARNING, NOTE)),
    "echo_time": Kind("echo time that no perfusion series has", (ERROR, NOTE)),
    "echo_time_unit": Kind("echo time given in another unit than seconds", (WARNING, NOTE)),
    "echo_time_unknown": Kind("no echo time: concentrations have no unit", (NOTE,)),
    "first_pass_width": Kind("duration of the first pass that does not fit the frame length", (ERROR, WARNING)),
    # header
    "modality": Kind(
        "CT, whose enhancement was turned into a series that falls; an error where it is the other modality",
        (ERROR, NOTE),
    ),
    "series_chosen": Kind("one series of a DICOM folder taken as the perfusion series", (NOTE,)),
    "voxel_size": Kind("voxel size that does not fit a head, or that the header contradicts itself about", (WARNING,)),
    "orientation_unknown": Kind("no orientation in the header: left and right are not known", (WARNING,)),
    "spatial_unit": Kind("lengths in the header in another unit than mm", (NOTE,)),
    "sidecar_encoding": Kind("sidecar that is not UTF-8", (NOTE,)),
    # series
    "signal_normalised": Kind("values that are not the scanner's: normalised, subtracted or shifted", (ERROR,)),
    "signal_missing": Kind(
        "values that are missing (NaN, zero, negative or constant in a part of a frame), interpolated over time",
        (WARNING, NOTE),
    ),
    "signal_negative": Kind("negative values outside the head, set to zero", (NOTE,)),
    "signal_saturated": Kind("signal that was cut off at a largest value", (WARNING,)),
    "frames_missing": Kind("empty frames at the end, left out", (NOTE,)),
    "frames_repeated": Kind("frames that are copies of the frame before", (WARNING, NOTE)),
    "frame_order": Kind("frames in the wrong order", (ERROR,)),
    "echoes_joined": Kind("several echoes behind one another or in turn", (ERROR,)),
    "second_bolus": Kind("more than one injection", (ERROR,)),
    "signal_step": Kind("steps of the receiver's gain, corrected", (ERROR, WARNING)),
    "truncated": Kind("exam that ends before, or soon after, the first pass does", (ERROR, WARNING)),
    "few_baseline_frames": Kind("few steady frames before the bolus", (NOTE,)),
    "noisy": Kind("noisy series", (NOTE,)),
    "motion": Kind("head motion", (WARNING, NOTE)),
    "motion_corrected": Kind("frames that were realigned", (WARNING, NOTE)),
    # masks and maps
    "mask_from_maps": Kind("mask taken from where the maps have values", (NOTE,)),
    "mask_from_signal": Kind("mask found in the series itself", (NOTE,)),
    "mask_without_values": Kind("voxels of the mask in which a map has no value, left out", (NOTE,)),
    "mask_dark": Kind("given mask that reaches into the air", (WARNING,)),
    "mask_beyond_brain": Kind(
        "given mask that reaches beyond what the network saw of the brain: no maps there", (WARNING,)
    ),
    "mask_partly": Kind("given mask that leaves out much of the brain, or of one slice of it", (WARNING,)),
    "mask_not_finite": Kind("NaN in a given mask, taken as outside", (WARNING,)),
    "map_fill_value": Kind("fill value in a map, taken as no value", (NOTE,)),
    "map_not_finite": Kind("NaN or infinite values in a map, taken as no value", (NOTE,)),
    "map_negative": Kind("negative values in a map, set to zero", (NOTE,)),
    "map_impossible": Kind("values in a map that no tissue has, taken as no value", (NOTE,)),
    "map_holes": Kind("map that is zero in a large part of a slice of the brain, unlike in the others", (WARNING,)),
    "map_unit": Kind("map whose values look like another unit", (ERROR, WARNING)),
    "map_constant": Kind("map with the same value everywhere", (ERROR,)),
    "map_unlike_others": Kind("map whose values are unlike those of the other exams", (ERROR, WARNING)),
    "core_resampled": Kind("core mask on another grid, brought onto that of the series by the affines", (NOTE,)),
    "space_partly": Kind("image given as --space that does not hold the whole brain", (WARNING,)),
    # preparation for a network
    "early_bolus_frames_repeated": Kind(
        "bolus earlier than the network's lead time: the first frame was repeated", (NOTE,)
    ),
    "short_frames_repeated": Kind("series shorter than the network's input: the last frame was repeated", (NOTE,)),
    "cut_seconds": Kind("series longer than the network's input: the end was left out", (NOTE,)),
    "transients_held": Kind("non-steady-state frames, replaced by the first steady one", (NOTE,)),
    "signal_clipped": Kind("signal far brighter than the brain, clipped", (NOTE,)),
    "no_arterial_input": Kind("no AIF found for a network that is shown one", (WARNING,)),
    "brain_in_corner": Kind(
        "brain in a corner of the picture, which a network that is shown the AIF does not see", (WARNING,)
    ),
    "brain_from_mask": Kind("no brain found in the series: what is outside the given mask was set to zero", (NOTE,)),
    "unlike_training": Kind("exam unlike those that the network was trained on", (WARNING,)),
    "maps_contradict": Kind("maps that contradict each other or the series that they were made of", (WARNING,)),
    "seen_in_training": Kind("exam of another cohort that the network may have been trained on", (WARNING,)),
    "air_reaches_network": Kind("network whose maps depend on what is outside the brain", (WARNING,)),
    # conventional maps
    "arterial_few_voxels": Kind("AIF from few voxels", (NOTE,)),
    "arterial_low": Kind("AIF hardly higher than tissue", (WARNING, NOTE)),
    "arterial_flattened": Kind("arterial signal down in the noise", (NOTE,)),
    "arterial_moved": Kind("movement while the bolus passed the arteries", (NOTE,)),
    "arterial_outside": Kind("arterial mask partly outside the brain", (WARNING,)),
    "arterial_incomplete": Kind("exam that ends before the arterial first pass does", (WARNING,)),
    "arterial_early": Kind("most of the tissue far later than the AIF, which may be cut short", (WARNING,)),
    "arterial_late": Kind("AIF as late as the tissue, or that of a distant artery", (WARNING,)),
    "arterial_quality": Kind("doubtful AIF", (NOTE,)),
    "conventional_missing": Kind("conventional maps asked for beside a network's, and not made", (WARNING,)),
    "white_matter_missing": Kind("no healthy white matter to scale CBF and CBV with", (WARNING,)),
    "no_first_pass": Kind(
        "tissue without a first pass, as the core of an infarct: its times are those of tissue near it", (WARNING,)
    ),
    "tmax_negative": Kind("tissue that fills before the AIF", (NOTE,)),
    "leakage": Kind("tissue that leaks contrast agent, not corrected", (WARNING,)),
    "leakage_absent": Kind("correction of leakage asked for, and not made, since no tissue leaks", (NOTE,)),
    "normalised_cbv_missing": Kind("no white matter of the other hemisphere to normalise CBV with", (NOTE,)),
    "tmax_raw_svd": Kind("Tmax of an SVD method, later than the truth", (NOTE,)),
}
NAMES = {name: kind.about for name, kind in KINDS.items()}
CAN_REFUSE = tuple(name for name, kind in KINDS.items() if ERROR in kind.severities)  # --accept takes them


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that somebody should know about an exam.

    Attributes:
      name: one of `NAMES`.
      severity: `error`, `warning` or `note`.
      text: a sentence without full stop; says what was found and what was done.
      value: what was found: a finite number, a text, or None.
      flag: what overrules it on the command line, e.g. `--tr=SECONDS`; empty where nothing does.
      accepted: an error that the user took with --accept.
    """

    name: str
    severity: Severity
    text: str
    value: float | str | None = None
    flag: str = ""
    accepted: bool = False

    def __post_init__(self):
        if self.name not in NAMES or self.severity not in SEVERITIES:
            raise ValueError(f"a finding called {self.name!r} of severity {self.severity!r} is not known")
        if self.severity == "error" and self.name not in CAN_REFUSE:
            raise ValueError(f"a finding called {self.name!r} cannot be an error")

    def short(self) -> str:
        """`name=value`, or the name alone."""
        if self.value is None:
            return self.name
        return f"{self.name}={self.value:g}" if isinstance(self.value, (int, float)) else f"{self.name}={self.value}"

    def line(self) -> str:
        """As a line that a user reads."""
        accepted = " (accepted)" if self.accepted else ""
        return f"{self.severity}: {self.text}{accepted}" + (f" [{self.flag}]" if self.flag else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        value = self.value
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        return {
            "Name": self.name,
            "Severity": self.severity,
            "Text": self.text,
            "Value": value,
            "Flag": self.flag or None,
            "Accepted": self.accepted,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Finding":
        """Inverse of `to_json`."""
        return cls(
            record["Name"],
            record["Severity"],
            record["Text"],
            record["Value"],
            record["Flag"] or "",
            bool(record["Accepted"]),
        )


class Refused(InputError):
    """An exam with findings that make maps meaningless.

    Attributes:
      findings: everything that was found until then, the errors among them.
    """

    def __init__(self, message: str, findings: tuple[Finding, ...]):
        super().__init__(message)
        self.findings = findings


class Findings:
    """Collects the findings of one exam.

    Args:
      accept: names of errors that the user takes; they become warnings.
    """

    def __init__(self, accept: Iterable[str] = ()):
        self._accept = frozenset(accept)
        self._found: list[Finding] = []

    def error(self, name: str, text: str, value: float | str | None = None, flag: str = "") -> None:
        """Maps would mean nothing; a warning where the user accepts it."""
        if name in self._accept:
            self._found.append(Finding(name, "warning", text, value, flag, accepted=True))
        else:
            self._found.append(Finding(name, "error", text, value, flag))

    def warning(self, name: str, text: str, value: float | str | None = None, flag: str = "") -> None:
        """Maps may be wrong."""
        self._found.append(Finding(name, "warning", text, value, flag))

    def note(self, name: str, text: str, value: float | str | None = None, flag: str = "") -> None:
        """Something was repaired or assumed."""
        self._found.append(Finding(name, "note", text, value, flag))

    def extend(self, found: Iterable[Finding]) -> None:
        """Takes findings of another part."""
        for finding in found:
            if finding.severity == "error":
                self.error(finding.name, finding.text, finding.value, finding.flag)
            else:
                self._found.append(finding)

    def listed(self) -> tuple[Finding, ...]:
        """All of them, the worst first."""
        return by_severity(self._found)

    def refuse_errors(self, where: object) -> None:
        """Raises `Refused` in one line if there are errors that the user does not accept.

        Args:
          where: the file or subject that the line begins with.
        """
        errors = [finding for finding in self._found if finding.severity == "error"]
        if errors:
            reasons = "; ".join(finding.text + (f" [{finding.flag}]" if finding.flag else "") for finding in errors)
            names = ",".join(dict.fromkeys(finding.name for finding in errors))
            raise Refused(f"{where}: {reasons}; to accept the risk: --accept={names}", self.listed())


def by_severity(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; equal ones once, otherwise as they came."""
    unique = list(dict.fromkeys(found))
    return tuple(sorted(unique, key=lambda finding: SEVERITIES.index(finding.severity)))


def check_names(names: Iterable[str] | str) -> tuple[str, ...]:
    """The names given with --accept; a text holds several with commas between them.

    Raises:
      InputError: one of them is not known, or never refuses an exam.
    """
    names = names.split(",") if isinstance(names, str) else names
    names = tuple(name.strip() for name in names if name.strip())
    if unknown := [name for name in names if name not in CAN_REFUSE]:
        raise InputError(
            f"--accept={','.join(unknown)}: expected names of findings that can reject an exam: "
            f"{', '.join(CAN_REFUSE)}."
        )
    return names
