"""What a study found, as its page gets it, and the names that the page goes by."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from dscgan_jax.evaluation.comparison import Entry
from dscgan_jax.pages.blocks import Picture

TITLES = {
    "acute": "Acute stroke",
    "chronic": "Chronic steno-occlusive disease",
    "difficult": "Patients nobody can post-process",
}
TEMP, PIX2PIX = "temp", "pix2pix"  # methods' names
RECOMMENDED, PIX2PIX_RECOMMENDED = "temp-recommended", "pix2pix-recommended"
OTHERS = ("comparators", "conventional", "truth")  # parts of a study


@dataclasses.dataclass(frozen=True)
class StudyRecord:
    """What a study found.

    Attributes:
      scale: its name.
      created: time in UTC, ISO 8601.
      phantom: whether no cohort is the user's own.
      patients: scored ones of each cohort.
      entries: methods on cohorts, in the order of the tables.
      nulls: the training median and the blank map of each cohort.
      kinds: {kind of difficulty: its patients}.
      asked: {title of an ablation: what it asks}.
      examples: pictures of patients, drawn elsewhere.
      missing: jobs that are not done.
      facts: name and text of versions, hardware, seed.
    """

    scale: str
    created: str
    phantom: bool
    patients: Mapping[str, int]
    entries: Sequence[Entry]
    nulls: Mapping[str, tuple[Entry, Entry]]
    kinds: Mapping[str, Sequence[str]]
    asked: Mapping[str, str]
    examples: Sequence[Picture]
    missing: Sequence[str]
    facts: Sequence[tuple[str, str]]

    def of(self, cohort: str, parts_: Iterable[str] = ()) -> list[Entry]:
        """Methods on a cohort; of some parts of the study where these are named."""
        wanted = set(parts_)
        return [one for one in self.entries if one.cohort == cohort and (not wanted or one.part in wanted)]

    def entry(self, cohort: str, method: str) -> Entry | None:
        """One method on one cohort, if it is there."""
        return next((one for one in self.of(cohort) if one.method == method), None)

    def median(self, cohort: str) -> Entry | None:
        """The training median of a cohort."""
        return self.nulls[cohort][0] if cohort in self.nulls else None
