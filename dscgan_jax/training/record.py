"""How a trained network describes itself, in a checkpoint and in a file of weights."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from dscgan_jax import settings
from dscgan_jax.configs import default
from dscgan_jax.data.record import DataRecord
from dscgan_jax.data.scaling import Scaling
from dscgan_jax.evaluation.records import PHANTOM

SIMULATED = "simulated exams only"


@dataclasses.dataclass(frozen=True)
class CheckpointRecord:
    """What a trained network was made with.

    Attributes:
      config: of the run.
      scaling: of its series and maps.
      data: the exams of its data set.
      software: versions that trained it, as `provenance.software_versions` gives them.
      begun_with: the network that its training began with, as `Weights.in_words`; empty = as drawn.
    """

    config: ml_collections.ConfigDict
    scaling: Scaling
    data: DataRecord
    software: Mapping[str, str | None]
    begun_with: str = ""

    @property
    def trained_on(self) -> str:
        """What kind of exams, in words."""
        return SIMULATED if self.data.source == PHANTOM else f"exams of {self.data.source or 'an unknown source'}"

    @property
    def drawn_beside(self) -> int:
        """How many exams were simulated while it was trained; none where it learned from those of a folder."""
        return int(self.config.phantom.drawn_beside) if self.data.source == PHANTOM else 0

    @property
    def modality(self) -> str:
        """Of the exams: `mr` or `ct`."""
        return "ct" if self.config.data.layout in settings.LAYOUTS_OF_CT else str(self.config.data.modality)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "config": settings.to_json(self.config),
            "scaling": self.scaling.to_json(),
            "data": self.data.to_json(),
            "software": dict(self.software),
            "begun_with": self.begun_with,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "CheckpointRecord":
        """Inverse of `to_json`, also of records that older versions wrote."""
        return cls(
            settings.from_json(record["config"], default.get_config()),
            Scaling.from_json(record["scaling"]),
            DataRecord.from_json(record["data"]),
            record.get("software", {}),
            record.get("begun_with", ""),
        )

    def without_places(self) -> "CheckpointRecord":
        """For others: without folders of this machine, and without names of subjects."""
        config = ml_collections.ConfigDict(self.config.to_dict())
        config.data.root, config.data.cache_dir = "", default.get_config().data.cache_dir
        config.train.start_from = pathlib.Path(config.train.start_from).name
        return dataclasses.replace(self, config=config, data=self.data.without_names())
