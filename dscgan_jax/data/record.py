"""What a network's checkpoint records of the exams that it was trained with."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """Plain values throughout, equal to what JSON gives back.

    Attributes:
      source: folder of the exams, or `phantom exams`.
      fingerprint: of the source files.
      splits: {subject: `train`, `validation` or `test`}.
      series_bytes: {subject: size of its series file}: enough to recognise exams that were moved.
      ranges: {`percentile` or `published`: {signal or map: [low, high] or None}}, measured on the training split.
      medians: {map: median inside the brain over the training split, or None}, in the units of `MAPS`.
      features: what the training exams are like (`features.likeness`); empty in records of older versions.
      excluded: subjects left out, with the reason.
    """

    source: str = ""
    fingerprint: str = ""
    splits: dict[str, str] = dataclasses.field(default_factory=dict)
    series_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    ranges: dict[str, dict[str, list[float] | None]] = dataclasses.field(default_factory=dict)
    medians: dict[str, float | None] = dataclasses.field(default_factory=dict)
    features: dict[str, Any] = dataclasses.field(default_factory=dict)
    excluded: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, metadata: Mapping[str, Any], source: str, series_bytes: Mapping[str, int]) -> "DataRecord":
        """From the metadata of a prepared data set (`builder.info.metadata`)."""
        kept = {name: metadata[name] for name in ("splits", "ranges", "medians", "features", "excluded")}
        named = {"source": source, "fingerprint": metadata["source_fingerprint"], "series_bytes": dict(series_bytes)}
        return cls.from_json(json.loads(json.dumps({**named, **kept})))

    @property
    def counts(self) -> dict[str, int]:
        """Subjects in each split, as `n_train`, `n_validation` and `n_test`."""
        splits = list(self.splits.values())
        return {f"n_{split}": splits.count(split) for split in ("train", "validation", "test")}

    @property
    def summary(self) -> dict[str, str | int]:
        """Source, fingerprint and counts: what the records of an evaluation repeat."""
        return {"source": self.source, "fingerprint": self.fingerprint, **self.counts}

    def without_names(self) -> "DataRecord":
        """For others: subjects are numbered, and of a folder there is the name alone; what was left out is left out."""
        numbered = {str(number): split for number, split in enumerate(self.splits.values(), 1)}
        source = pathlib.PurePath(self.source).name
        return dataclasses.replace(self, source=source, splits=numbered, series_bytes={}, excluded=[])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {**self.summary, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "DataRecord":
        """Inverse of `to_json`; what a record lacks is empty."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})
