"""The five perfusion maps: names, units, windows, thresholds. The one table that everybody reads.

Beside it stand the few maps that a correction of leakage gives besides. They are written and shown as the five are;
networks and scores know the five alone.

Windows are for display alone; that of TTP follows the exam, whose bolus may come after 10 s or after 40. What is usual
decides scores and checks; the ranges that scale a map for the network belong to the data (`data.scaling`).
"""

import dataclasses

from dscgan_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class MapSpec:
    """One perfusion map.

    Attributes:
      title: the name as it is printed.
      description: the quantity in words.
      unit: physical unit of stored and displayed values.
      window: lowest and highest displayed value, in `unit`; of TTP where the arrival of the bolus is not known.
      usual: lowest and highest value of most tissue, in `unit`: its width is the data range of the brain SSIM, and what
        is far above it makes a map doubtful.
      colour_map: Matplotlib colour map of pictures.
      thresholds: clinical thresholds in `unit`, above which tissue is hypoperfused (Tmax alone).
      seconds_shown: how far the window goes, from the arrival of the bolus, of a time that counts from the first frame;
        0: `window` is that of every exam.
    """

    title: str
    description: str
    unit: str
    window: tuple[float, float]
    usual: tuple[float, float]
    colour_map: str = "turbo"
    thresholds: tuple[float, ...] = ()
    seconds_shown: float = 0.0

    def window_of(self, arrival_seconds: float | None) -> tuple[float, float]:
        """Lowest and highest displayed value of one exam.

        Args:
          arrival_seconds: of the bolus in its tissue, s from the first frame; None: not known.
        """
        if arrival_seconds is None or not self.seconds_shown:
            return self.window
        return arrival_seconds, arrival_seconds + self.seconds_shown


MAPS: dict[str, MapSpec] = {
    "cbf": MapSpec("CBF", "cerebral blood flow", "mL/100 g/min", (0.0, 80.0), (0.0, 80.0)),
    "cbv": MapSpec("CBV", "cerebral blood volume", "mL/100 g", (0.0, 8.0), (0.0, 8.0)),
    "mtt": MapSpec("MTT", "mean transit time", "s", (0.0, 15.0), (0.0, 15.0)),
    "tmax": MapSpec(
        "Tmax",
        "time to maximum of the tissue residue function",
        "s",
        (0.0, 12.0),
        (0.0, 12.0),
        thresholds=(4.0, 6.0, 8.0, 10.0),
    ),
    "ttp": MapSpec(
        "TTP",
        "time to peak of the tissue curve, from the first acquired frame",
        "s",
        (15.0, 60.0),
        (15.0, 60.0),
        seconds_shown=30.0,  # tissue peaks 6-9 s after the bolus arrives, behind an occlusion up to 21 s (phantom)
    ),
}

MAP_NAMES: tuple[str, ...] = tuple(MAPS)  # the order of every "map" axis
TTP = MAP_NAMES.index("ttp")  # which counts from a frame that may be another one

MORE_MAPS: dict[str, MapSpec] = {
    "k1": MapSpec("K1", "blood volume over the mean one of tissue that does not leak", "1", (0.0, 4.0), (0.0, 4.0)),
    "k2": MapSpec(
        "K2",
        "leakage of contrast agent, above 0 where its T1 effect dominates, below 0 where its T2* effect does",
        "1/s",
        (-0.03, 0.03),
        (-0.03, 0.03),
        colour_map="coolwarm",
    ),
    "ncbv": MapSpec(
        "nCBV",
        "cerebral blood volume over that of white matter in the other hemisphere",
        "1",
        (0.0, 8.0),
        (0.0, 8.0),
    ),
}


def spec_of(name: str) -> MapSpec:
    """Of one of the five maps, or of those besides."""
    return MAPS[name] if name in MAPS else MORE_MAPS[name]


def map_indices(names: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of `names` on the map axis; an unknown name is an `InputError`."""
    unknown = [name for name in names if name not in MAPS]
    if unknown:
        raise InputError(f"config.target names unknown maps {unknown}; known maps are {', '.join(MAP_NAMES)}.")
    return tuple(MAP_NAMES.index(name) for name in names)
