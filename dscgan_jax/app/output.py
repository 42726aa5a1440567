"""What a user reads in the terminal of findings and read-outs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import tqdm

from dscgan_jax.app import options
from dscgan_jax.findings import Finding, by_severity

if TYPE_CHECKING:
    from dscgan_jax.evaluation.readout import ReadOut

NOT_AT_ONCE = 1e-6  # s; with any delay tqdm draws nothing before the first update


def progress_bar(total: int, what: str, before: int = 0) -> tqdm.tqdm:
    """A progress bar that appears with the first exam that is done: whatever is refused before shows none.

    Args:
      total: exams.
      what: is being done.
      before: exams that were done already; they do not make the time left look shorter.
    """
    return tqdm.tqdm(total=total, unit="exam", desc=what, dynamic_ncols=True, delay=NOT_AT_ONCE, initial=before)


def print_findings(findings: Iterable[Finding], reader: str, where: str = "") -> None:
    """Each finding as a line, the worst first, after its subject where there are several.

    Args:
      findings: of one exam.
      reader: one of `options.READERS`; a flag that it does not read is not offered.
      where: the subject.
    """
    for finding in by_severity(findings):
        line = options.offered(finding, reader).line()
        print(f"{where}: {line}" if where else line)


def print_read_outs(found: Iterable["ReadOut"]) -> None:
    """The read-out of each exam in three lines: late tissue, core and mismatch, criteria of trials."""
    for one in found:
        print("\n".join(one.lines()))


def print_folder_findings(found: Mapping[str, Iterable[Finding]], reader: str, what: str = "") -> None:
    """The warnings of many exams, the same of several once, and how many have which note.

    Args:
      found: by subject.
      reader: one of `options.READERS`.
      what: comes before the subjects.
    """
    subjects: dict[Finding, list[str]] = {}
    notes: Counter[str] = Counter()
    for subject, findings in found.items():
        unique = by_severity(findings)
        notes.update(dict.fromkeys([one.name for one in unique if one.severity == "note"], 1))
        for finding in unique:
            if finding.severity != "note":
                subjects.setdefault(finding, []).append(subject)
    for finding, names in subjects.items():
        print_findings([finding], reader, what + (names[0] if len(names) == 1 else f"{len(names)} exams"))
    if notes:
        listed = ", ".join(f"{name} ({count} exam{'s' if count > 1 else ''})" for name, count in notes.most_common())
        print(f"notes on the {what.removesuffix(' of ')}: {listed}" if what else f"notes: {listed}")
