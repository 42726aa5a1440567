"""What a network takes in one call: some slices, of one exam or of many. Knows no files and no data set."""

import dataclasses
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Slices, the first axis of every array. A pytree: on the host or on devices, whole or as shapes alone.

    Series travel as int16; `scaling.Scaling` converts and scales them on the device.

    Attributes:
      dsc: (slice, time, row, col) int16; times `dsc_scale` it is scanner signal.
      dsc_scale: (slice,) float32.
      baseline_begin, baseline_end: (slice,) int32, half-open range of network frames before the bolus.
      brain_signal: (slice,) float32, median baseline signal of the exam's brain, scanner units.
      echo_seconds: (slice,) float32, echo time; NaN if unknown.
      maps: (slice, row, col, map) float32 in the order and the units of `MAPS`; 0 where absent.
      has_map: (slice, map) bool.
      mask: (slice, row, col) bool, the brain.

    `maps`, `has_map` and `mask` are None where a network is only applied.
    """

    dsc: Array
    dsc_scale: Array
    baseline_begin: Array
    baseline_end: Array
    brain_signal: Array
    echo_seconds: Array
    maps: Array | None = None
    has_map: Array | None = None
    mask: Array | None = None

    @property
    def inputs(self) -> "Batch":
        """What a network's forward pass needs."""
        return dataclasses.replace(self, maps=None, has_map=None, mask=None)

    def rows(self, chosen: Any) -> "Batch":
        """Some of the slices: `chosen` indexes the first axis."""
        return jax.tree.map(lambda values: values[chosen], self)

    def to_dict(self) -> dict[str, Any]:
        """{name: array} of what there is."""
        return {name: values for name in FIELDS if (values := getattr(self, name)) is not None}


FIELDS = tuple(field.name for field in dataclasses.fields(Batch))
