"""Between physical units and the networks' [-1, 1], and back.

Words: a *range* belongs to the data (measured on the training split, stored with it); *scaled* means [-1, 1].
The series enters as int16 counts and becomes scanner signal, then `raw`, `relative` or `delta_r2star`, then scaled.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dscgan_jax.data.batch import Array, Batch
from dscgan_jax.errors import InputError
from dscgan_jax.maps import MAP_NAMES, MAPS
from dscgan_jax.settings import SIGNALS

END = 1e-3  # of [-1, 1]: so close to -1 or 1 a value is at the end, which tanh never reaches
MUCH_AT_ENDS = 0.10  # of the brain, more than of the reference: differences between such values are lost
SIGNAL_FLOOR = 0.1  # of the brain's baseline signal: below it is air, whose ratio to its own baseline is noise


class Limits(NamedTuple):
    """The physical values that become -1 and +1."""

    low: float
    high: float


def to_network(value: Array, limits: Limits) -> Array:
    """Physical unit -> [-1, 1], linear; values outside the limits leave [-1, 1]."""
    return 2.0 * (value - limits.low) / (limits.high - limits.low) - 1.0


def to_physical(scaled: Array, limits: Limits) -> Array:
    """Inverse of `to_network`."""
    return (scaled + 1.0) / 2.0 * (limits.high - limits.low) + limits.low


def convert_signal(
    series: Array, baseline_begin: Array, baseline_end: Array, brain_signal: Array, echo_seconds: Array, signal: str
) -> Array:
    """Scanner signal -> the network's input signal, unscaled.

    Args:
      series: (slice, time, row, col), scanner units.
      baseline_begin: (slice,), first frame before the bolus; non-steady-state frames are left out.
      baseline_end: (slice,), the frame after the last one before the bolus.
      brain_signal: (slice,), median baseline signal of the exam's brain.
      echo_seconds: (slice,), echo time; only `delta_r2star` needs it.
      signal: `raw` (signal over the brain's baseline is *not* taken), `relative` (S/S0) or `delta_r2star` (1/s).

    Returns:
      (slice, time, row, col), float32.

    Where S0 is below `SIGNAL_FLOOR` of the brain's, S0 is replaced by that floor, so that air stays near zero
    instead of becoming the ratio of two noise values.
    """
    if signal == "raw":
        return series
    frame = jnp.arange(series.shape[1])[None, :]
    in_baseline = (frame >= baseline_begin[:, None]) & (frame < baseline_end[:, None])  # (slice, time)
    weight = in_baseline / jnp.maximum(in_baseline.sum(axis=1, keepdims=True), 1)
    baseline = jnp.einsum("st,strc->src", weight.astype(series.dtype), series)
    floor = SIGNAL_FLOOR * brain_signal[:, None, None]
    relative = series / jnp.maximum(jnp.maximum(baseline, floor), 1e-6)[:, None]
    if signal == "relative":
        return relative
    if signal == "delta_r2star":
        in_tissue = (baseline > floor)[:, None]
        # Clean the argument too: the logarithm of zero would turn the gradient into NaN.
        attenuation = -jnp.log(jnp.where(in_tissue, jnp.clip(relative, 1e-3, 1e3), 1.0))
        return attenuation / echo_seconds[:, None, None, None]
    raise InputError(f"config.data.signal is {signal!r}; it must be one of {', '.join(SIGNALS)}.")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What turns a batch into network input and a network's output into maps. Hashable: a static argument of `jit`.

    Attributes:
      signal: the network's input signal, one of `SIGNALS`.
      source: limits of that signal.
      targets: names of the maps the network predicts, in the order of its output channels.
      limits: limits of those maps, in physical units, in the same order.
      clip: whether scaled targets and series are clipped to [-1, 1].
    """

    signal: str
    source: Limits
    targets: tuple[str, ...]
    limits: tuple[Limits, ...]
    clip: bool

    @classmethod
    def from_ranges(cls, ranges: dict[str, Any], signal: str, targets: tuple[str, ...], kind: str) -> "Scaling":
        """Builds the scaling from a data set's measured ranges.

        Args:
          ranges: `{kind: {signal or map name: [low, high] or None}}`, from the data set's metadata.
          signal: one of `SIGNALS`.
          targets: map names.
          kind: `percentile` (clipped) or `published` (minimum and maximum, not clipped).
        """
        if kind not in ranges:
            raise InputError(f"config.data.ranges is {kind!r}; the data set holds {', '.join(sorted(ranges))}.")

        def limits_of(name: str, what_to_do: str) -> Limits:
            limits = ranges[kind].get(name)
            if limits is None:
                raise InputError(f"the training split has no {name} to measure a range on; {what_to_do}")
            low, high = (float(limit) for limit in limits)
            if not high > low:
                raise InputError(f"{name} is constant ({low:g}) in the training split; check the exams.")
            return Limits(low, high)

        return cls(
            signal=signal,
            source=limits_of(
                signal, "delta_r2star needs an EchoTime in every sidecar, or use --config.data.signal=relative."
            ),
            targets=tuple(targets),
            limits=tuple(limits_of(name, "leave the map out of config.target or add its files.") for name in targets),
            clip=kind == "percentile",
        )

    def scaled_series(self, batch: Batch) -> Array:
        """(slice, time, row, col) network input, float32."""
        series = batch.dsc.astype(jnp.float32) * batch.dsc_scale[:, None, None, None]
        signal = convert_signal(
            series, batch.baseline_begin, batch.baseline_end, batch.brain_signal, batch.echo_seconds, self.signal
        )
        return self._clipped(to_network(signal, self.source))

    def scaled_maps(self, maps: Array) -> Array:
        """(..., 5) physical maps in the order of `MAP_NAMES` -> (..., target) scaled."""
        columns = [
            to_network(maps[..., MAP_NAMES.index(name)], limits)
            for name, limits in zip(self.targets, self.limits, strict=True)
        ]
        return self._clipped(jnp.stack(columns, axis=-1))

    def physical_maps(self, scaled: Array) -> Array:
        """(..., target) scaled -> (..., target) in the units of `MAPS`."""
        columns = [to_physical(scaled[..., channel], limits) for channel, limits in enumerate(self.limits)]
        return jnp.stack(columns, axis=-1)

    def at_ends(self, name: str, values: np.ndarray) -> np.ndarray:
        """Where a map has reached an end of its range, which becomes [-1, 1]: what lies beyond cannot be told from it.

        Args:
          name: one of the targets.
          values: physical, of any shape; TTP from the first network frame.
        """
        low, high = self.limits[self.targets.index(name)]
        margin = END / 2 * (high - low)
        return (values <= low + margin) | (values >= high - margin)

    def _clipped(self, scaled: Array) -> Array:
        return jnp.clip(scaled, -1.0, 1.0) if self.clip else scaled

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "signal": self.signal,
            "source": list(self.source),
            "targets": list(self.targets),
            "limits": [list(limits) for limits in self.limits],
            "clip": self.clip,
            "units": [MAPS[name].unit for name in self.targets],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Scaling":
        """Inverse of `to_json`."""
        return cls(
            signal=record["signal"],
            source=Limits(*record["source"]),
            targets=tuple(record["targets"]),
            limits=tuple(Limits(*limits) for limits in record["limits"]),
            clip=bool(record["clip"]),
        )
