"""What is doubtful about an exam: one list, the same in every mode, on pages and in sidecars.

A *finding* has a name, a severity, a sentence, the value that was found and the flag that overrules it.
*error*: the maps would mean nothing, so the exam is refused, unless the user takes the risk with --accept=NAME; then it
is a warning that says so. *warning*: the maps may be wrong, somebody must look. *note*: what was repaired, assumed or
corrected, in a way that leaves the maps right.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

from dscgan_jax.errors import InputError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# Those that can be errors; --accept takes them.
CAN_REFUSE = (
    "frame_length",
    "echo_time",
    "first_pass_width",
    "signal_normalised",
    "frame_order",
    "echoes_joined",
    "second_bolus",
    "signal_step",
    "truncated",
    "map_unit",
    "map_constant",
    "map_unlike_others",
    "modality",
)
# Every name that a finding can have: what it is about.
NAMES = {
    "modality": "CT, whose enhancement was turned into a series that falls; an error where it is the other modality",
    # time
    "frame_length": "frame length: sources that contradict each other, or a length that no perfusion series has",
    "frame_length_from_header": "frame length taken from the NIfTI header alone",
    "frame_length_unit": "frame length given in another unit than seconds",
    "unequal_frames": "frames of unequal length, resampled to equal ones",
    "echo_time": "echo time that no perfusion series has",
    "echo_time_unit": "echo time given in another unit than seconds",
    "echo_time_unknown": "no echo time: concentrations have no unit",
    "first_pass_width": "duration of the first pass that does not fit the frame length",
    # header
    "series_chosen": "one series of a DICOM folder taken as the perfusion series",
    "voxel_size": "voxel size that does not fit a head, or that the header contradicts itself about",
    "orientation_unknown": "no orientation in the header: left and right are not known",
    "spatial_unit": "lengths in the header in another unit than mm",
    "sidecar_encoding": "sidecar that is not UTF-8",
    # series
    "signal_normalised": "values that are not the scanner's: normalised, subtracted or shifted",
    "signal_missing": "values that are missing (NaN, zero, negative or constant in a part of a frame), interpolated "
    "over time",
    "signal_negative": "negative values outside the head, set to zero",
    "frames_missing": "empty frames at the end, left out",
    "frames_repeated": "frames that are copies of the frame before",
    "frame_order": "frames in the wrong order",
    "echoes_joined": "several echoes behind one another or in turn",
    "second_bolus": "more than one injection",
    "signal_step": "steps of the receiver's gain, corrected",
    "truncated": "exam that ends before, or soon after, the first pass does",
    "few_baseline_frames": "few steady frames before the bolus",
    "noisy": "noisy series",
    "motion": "head motion",
    "motion_corrected": "frames that were realigned",
    # masks and maps
    "mask_from_maps": "mask taken from where the maps have values",
    "mask_from_signal": "mask found in the series itself",
    "mask_without_values": "voxels of the mask in which a map has no value, left out",
    "mask_dark": "given mask that reaches into the air",
    "mask_beyond_brain": "given mask that reaches beyond what the network saw of the brain: no maps there",
    "map_fill_value": "fill value in a map, taken as no value",
    "map_not_finite": "NaN or infinite values in a map, taken as no value",
    "map_negative": "negative values in a map, set to zero",
    "map_impossible": "values in a map that no tissue has, taken as no value",
    "map_unit": "map whose values look like another unit",
    "map_constant": "map with the same value everywhere",
    "map_unlike_others": "map whose values are unlike those of the other exams",
    "core_resampled": "core mask on another grid, brought onto that of the series by the affines",
    "space_partly": "image given as --space that does not hold the whole brain",
    # preparation for a network
    "early_bolus_frames_repeated": "bolus earlier than the network's lead time: the first frame was repeated",
    "short_frames_repeated": "series shorter than the network's input: the last frame was repeated",
    "cut_seconds": "series longer than the network's input: the end was left out",
    "transients_held": "non-steady-state frames, replaced by the first steady one",
    "signal_clipped": "signal far brighter than the brain, clipped",
    "brain_from_mask": "no brain found in the series: what is outside the given mask was set to zero",
    "unlike_training": "exam unlike those that the network was trained on",
    "seen_in_training": "exam of another cohort that the network may have been trained on",
    "air_reaches_network": "network whose maps depend on what is outside the brain",
    # conventional maps
    "arterial_few_voxels": "AIF from few voxels",
    "arterial_low": "AIF hardly higher than tissue",
    "arterial_flattened": "arterial signal down in the noise",
    "arterial_outside": "arterial mask partly outside the brain",
    "arterial_incomplete": "exam that ends before the arterial first pass does",
    "arterial_early": "most of the tissue far later than the AIF, which may be cut short",
    "arterial_late": "AIF as late as the tissue, or that of a distant artery",
    "arterial_quality": "doubtful AIF",
    "conventional_missing": "conventional maps asked for beside a network's, and not made",
    "white_matter_missing": "no healthy white matter to scale CBF and CBV with",
    "no_first_pass": "tissue without a first pass, as the core of an infarct: its times are those of tissue near it",
    "tmax_negative": "tissue that fills before the AIF",
    "leakage": "tissue that leaks contrast agent, not corrected",
    "leakage_absent": "correction of leakage asked for, and not made, since no tissue leaks",
    "normalised_cbv_missing": "no white matter of the other hemisphere to normalise CBV with",
    "tmax_raw_svd": "Tmax of an SVD method, later than the truth",
}


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
