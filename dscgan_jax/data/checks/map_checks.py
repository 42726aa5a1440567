"""Maps that an exam brings: fill values, impossible values, wrong units; and maps that are unlike the other exams'.

Words: a *fill value* is a number used where a map has no value. *Without value* are voxels with a fill value,
NaN or a value that no tissue has: nothing is learned from them or scored in them, so they leave the mask.

Units are not in NIfTI files. A map in another unit is whole and smooth and trains a network to nonsense; a few voxels
of 9999 stretch the network's range until everything else is one grey. So each map is held against what tissue can have,
and then against the maps of the other exams.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dscgan_jax.errors import InputError
from dscgan_jax.findings import Finding, Findings
from dscgan_jax.maps import MAP_NAMES, MAPS

MAX_WITHOUT_VALUE = 0.2  # share of the brain mask that may have no value in a map
BORDER_SHARE = 0.5  # of the in-plane border: a value that fills more of it than this is no tissue's
MIN_REPEATS = 3  # voxels: the same 32-bit number in so many of them, far from all others, is no coincidence
# Times the way from the median to the 99.9 (0.1) percentile of the rest: failed fits of ours, at 40 s, lie at 4.
FAR = 6.0
FEWEST_IN_SLICE = 50  # voxels of the brain in a slice that is judged
HOLES = 0.4  # of the brain in a slice, more than in half of the others: dead tissue leaves zeros, too
MOSTLY_ZERO = 0.6  # of the brain in half of the slices
CONSTANT_SHARE = 0.999  # of the brain
MARGIN_SECONDS = 30.0  # after the end of the exam: frames that were cut off, times that count from the injection
HIGH_OVER_USUAL = 5.0  # times the usual highest value: the 99th percentile of times in seconds stays below
MEDIAN_OVER_USUAL = 2.0  # the same for the median of flow and volume: 1.0 where nobody scaled them

# Against the other exams.
FEWEST_EXAMS = 4  # to compare with: of three, one cannot be called the odd one
UNIT_FACTOR = 8.0  # that much apart in most numbers, and nearly so in all of them: no disease or method does that
UNUSUAL_FACTOR = 4.0  # a warning
WEAKEST_SHARE = 0.5  # of the factor, in logarithms: a disease moves spread and top, and leaves the middle
TOP_FACTOR = 5.0  # times the exams' median top: such a top alone would be the network's range
SEVERE_TOP_FACTOR = 10.0  # then nothing but such values would be seen of the range
# Times the usual highest value: up to here a top is pathology, whatever the others have; beyond it is a warning.
TOP_OVER_USUAL = 3.0
FLAT_FACTOR = 20.0  # times narrower than the others': no tissue is that even


@dataclasses.dataclass(frozen=True)
class _Tissue:
    """What tissue can have, in the map's unit.

    Attributes:
      lowest, highest: a value beyond is none of tissue; `highest` None: the end of the exam counts.
      smallest: the 95th percentile of a brain (where it is not 0) is higher than this.
      typical: where the median of a brain lies, to guess the unit.
      other_units: {how many of it make one of ours: the name}.
    """

    lowest: float
    highest: float | None
    smallest: float
    typical: tuple[float, float]
    other_units: dict[float, str]


_OTHER_TIMES = {1000.0: "ms instead of s", 1 / 60: "minutes instead of s", 100.0: "s x 100", 10.0: "s x 10"}

_TISSUE = {
    # Grey matter has 80; a vessel holds 25 times its blood, and maps that nobody scaled are up to twice as high.
    "cbf": _Tissue(
        -3000.0,
        3000.0,
        1.0,
        (8.0, 120.0),
        {
            0.01: "mL/g/min instead of mL/100 g/min",
            1 / 6000: "mL/g/s instead of mL/100 g/min",
            10.0: "x 10",
            100.0: "x 100",
        },
    ),
    # Pure blood has 100; maps that nobody scaled are up to 2.6 times as high.
    "cbv": _Tissue(-300.0, 300.0, 0.1, (0.8, 12.0), {0.01: "mL/g instead of mL/100 g", 10.0: "x 10", 100.0: "x 100"}),
    # What is left of flow in dead tissue, 1 mL/100 g/min with 3 mL/100 g of blood, gives 180 s.
    "mtt": _Tissue(-200.0, 200.0, 1.0, (2.0, 20.0), _OTHER_TIMES),
    # Estimates scatter around 0 where the arterial curve is late; healthy tissue spreads over 1 s at least.
    "tmax": _Tissue(-5.0, None, 0.3, (0.3, 15.0), _OTHER_TIMES),
    # Counted from the first frame, and before the bolus come at least some frames.
    "ttp": _Tissue(-5.0, None, 2.0, (5.0, 100.0), _OTHER_TIMES),
}


# ------------------------------------------------------------------------------------------------ maps of one exam


@dataclasses.dataclass(frozen=True)
class CheckedMaps:
    """The maps of one exam.

    Attributes:
      maps: (x, y, z) float32 by name, finite, 0 where they have no value.
      mask: (x, y, z) bool, brain where every map has a value; None where neither mask nor maps are there.
    """

    maps: dict[str, np.ndarray]
    mask: np.ndarray | None


def checked_maps(
    subject: str,
    paths: Mapping[str, pathlib.Path],
    volumes: Mapping[str, np.ndarray],
    mask: np.ndarray | None,
    exam_seconds: float,
    found: Findings,
) -> CheckedMaps:
    """Repairs and judges the maps of one exam; what was found goes into `found`.

    Negative flow, volume and transit time are noise around zero and become zero, which is a value.

    Args:
      subject, paths: for messages.
      volumes: (x, y, z) by name in `MAP_NAMES`, as they were read.
      mask: (x, y, z) bool, the given brain mask; without one the brain is where any map has values.
      exam_seconds: from the first frame to the end of the last.

    Raises:
      InputError: a map is without any value, or has none in more than a fifth of the brain.
    """
    maps, without_value = {}, {}
    for name, values in volumes.items():
        maps[name], without_value[name] = _without_fill(subject, name, paths[name], values, mask, found)
    if not maps:
        return CheckedMaps({}, mask)
    present = {name: values != 0 for name, values in maps.items()}
    brain = _anywhere(list(present.values())) if mask is None else mask
    for name, values in maps.items():
        maps[name], lost = _judged(name, values, brain & ~without_value[name], exam_seconds, found)
        without_value[name] |= lost
    _tell_holes(maps, brain, without_value, found)
    if mask is None:  # where no map has more than a fill value is no brain
        mask = _anywhere([present[name] & ~without_value[name] for name in maps])
    return CheckedMaps(maps, _where_maps_have_values(subject, paths, mask, without_value, found))


def _tell_holes(
    maps: Mapping[str, np.ndarray], brain: np.ndarray, without_value: Mapping[str, np.ndarray], found: Findings
) -> None:
    """Warns of maps that are zero in much of a slice of the brain: a part of the file may be lost.

    Tmax in whole frames is 0 in most of a healthy brain; there only zeros count that fill whole lines of the brain.
    """
    n_brain = brain.sum(axis=(0, 1))
    slices = np.flatnonzero(n_brain >= FEWEST_IN_SLICE)
    for name, values in maps.items():
        is_zero = brain & (values == 0) & ~without_value[name]
        counts = _in_whole_lines(is_zero, brain & (values != 0)) if name == "tmax" else is_zero.sum(axis=(0, 1))
        zero = counts[slices] / n_brain[slices]
        usual = float(np.median(zero)) if len(zero) else 0.0
        if (len(zero) and zero.max() > HOLES + usual) or usual > MOSTLY_ZERO:
            worst = int(slices[zero.argmax()])
            found.warning(
                "map_holes",
                f"the {name} map is 0 in {100 * zero.max():.0f} % of the brain in slice {worst + 1} of "
                f"{brain.shape[2]} from below, in half of the slices in less than {100 * usual:.0f} %: a part of it "
                "may be lost; look at it",
                round(float(zero.max()), 3),
            )


def _in_whole_lines(zero: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(slice,) voxels of `zero` in rows, or else in columns, of a slice that hold nothing else; (x, y, z) bool both."""
    of_axis = [(zero & ~other.any(axis=axis, keepdims=True)).sum(axis=(0, 1)) for axis in (0, 1)]
    return np.maximum(*of_axis)


def _anywhere(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Where any of the masks is True."""
    return np.any(np.stack(masks), axis=0)


def _without_fill(
    subject: str, name: str, path: pathlib.Path, values: np.ndarray, mask: np.ndarray | None, found: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """A map, 0 where it is not finite or has the value that fills the space around the brain, and where that is."""
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError(f"{path}: no finite value in the {name} map of {subject}; export it again.")
    without_value = ~finite
    if not finite.all():
        values = np.where(finite, values, np.float32(0))
        found.note(
            "map_not_finite",
            f"{int(without_value.sum())} values of the {name} map are not finite",
            int(without_value.sum()),
        )
    fill = _fill_value(values)
    if fill != 0 and (values != np.float32(fill)).any():  # else it is a constant map
        filled = values == np.float32(fill)
        if mask is not None and 0 < fill < _highest(name, 0.0):
            filled &= ~mask  # air may be clipped at the same height as a lesion
        without_value |= filled
        values = np.where(filled, np.float32(0), values)
        found.note("map_fill_value", f"{fill:g} in the {name} map counts as no value: it fills what lies outside", fill)
    if not values.any():
        raise InputError(f"{path}: the {name} map of {subject} is zero everywhere; export it again or remove the file.")
    return values, without_value


def _fill_value(values: np.ndarray) -> float:
    """The value outside the brain: the value that most of the in-plane border shares, else 0."""
    border = np.concatenate([values[0].ravel(), values[-1].ravel(), values[:, 0].ravel(), values[:, -1].ravel()])
    shared, counts = np.unique(border, return_counts=True)
    return float(shared[counts.argmax()]) if counts.max() > BORDER_SHARE * border.size else 0.0


def _judged(
    name: str, values: np.ndarray, brain: np.ndarray, exam_seconds: float, found: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """A map without values that no tissue has, and where those were; errors where the map as a whole means nothing.

    Args:
      values: (x, y, z), finite.
      brain: (x, y, z) bool, where the map may have values.
    """
    nowhere = np.zeros_like(brain)
    inside = values[brain]
    if not inside.size:
        return values, nowhere  # reported with the mask
    if (middle := float(np.median(inside))) == inside.min() == inside.max() or (
        middle != 0 and (inside == middle).mean() >= CONSTANT_SHARE
    ):
        found.error(
            "map_constant",
            f"the {name} map is {middle:g} {MAPS[name].unit} everywhere in the brain; export it again or "
            "remove the file",
            middle,
        )
        return values, nowhere
    lowest, highest = _TISSUE[name].lowest, _highest(name, exam_seconds)
    fills, odd = _odd_values(inside, name, lowest, highest)
    n_odd = int(odd.sum())
    n_values = int(((inside != 0) & ~np.isin(inside, fills)).sum())
    if n_odd > MAX_WITHOUT_VALUE * n_values:
        _tell_unit(
            name, inside, f"{n_odd / n_values:.0%} of the brain lies outside {lowest:g} to {highest:.4g}", found.error
        )
        return values, nowhere
    for fill in fills:
        found.note(
            "map_fill_value",
            f"{fill:g} in the {name} map counts as no value: it is found in {(inside == fill).sum()} "
            "voxels of the brain, far from all other values",
            float(fill),
        )
    if n_odd:
        largest = float(inside[odd][np.abs(inside[odd]).argmax()])
        found.note(
            "map_impossible",
            f"{n_odd} values of the {name} map, up to {largest:.4g} {MAPS[name].unit}, are none that "
            f"tissue has ({lowest:g} to {highest:.4g}) and count as no value",
            largest,
        )
    lost = (values < lowest) | (values > highest) | np.isin(values, fills)
    values = np.where(lost, np.float32(0), values)
    _check_unit(name, values[brain & ~lost], found)
    return _not_negative(name, values, found), lost


def _highest(name: str, exam_seconds: float) -> float:
    highest = _TISSUE[name].highest
    return exam_seconds + MARGIN_SECONDS if highest is None else highest


def _odd_values(inside: np.ndarray, name: str, lowest: float, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Fill values among a brain's values (voxel,), and which other voxels have what no tissue has."""
    beyond = (inside < lowest) | (inside > highest)
    fills = []
    if beyond.any():
        shared, counts = np.unique(inside[beyond], return_counts=True)
        if counts.max() > 1 and counts.max() >= 0.5 * beyond.sum():
            fills.append(shared[counts.argmax()])
    rest = inside[~beyond]
    while (fill := _recurring_extreme(rest, may_be_noise=name == "tmax")) is not None:
        fills.append(np.float32(fill))
        rest = rest[rest != fill]
    fills = np.array(fills, np.float32)
    return fills, beyond & ~np.isin(inside, fills)


def _recurring_extreme(inside: np.ndarray, may_be_noise: bool) -> float | None:
    """The highest or lowest value if it recurs exactly and is far from all others, or if nothing else is negative.

    A map that is clipped, or rounded to few levels, has other values near its end; those are no fill values.
    """
    for side in (1, -1):
        turned = side * inside
        end = turned.max(initial=-np.inf)
        rest = turned[turned < end]
        if inside.size - rest.size < MIN_REPEATS or not rest.size:
            continue
        middle, high = np.percentile(rest, (50, 99.9))
        reach = max(high - middle, abs(middle))
        alone = end > 0 and rest.max() <= 0 and not (may_be_noise and np.array_equal(inside, np.rint(inside)))
        far = rest.size > inside.size / 2 and reach > 0 and end - rest.max() > FAR * reach
        if far or (side < 0 and alone):
            return float(side * end)
    return None


def _check_unit(name: str, inside: np.ndarray, found: Findings) -> None:
    """Brain values that are all too small, or many too large, for the map's unit. Zeros are not counted.

    Maps are cut off at thresholds.
    """
    inside = inside[inside != 0]
    if not inside.size:
        return
    usual, high = np.percentile(inside, (95, 99))
    most, relative = MAPS[name].usual[1], name in ("cbf", "cbv")
    if usual < _TISSUE[name].smallest:
        # Flow and volume are often relative, normalised to something: that can be learned.
        _tell_unit(name, inside, f"95 % of the brain is below {usual:.3g}", found.warning if relative else found.error)
    elif relative and np.median(inside) > MEDIAN_OVER_USUAL * most:  # their highest values are vessels and failed fits
        _tell_unit(name, inside, f"no more than {MEDIAN_OVER_USUAL * most:g} is usual", found.warning)
    elif not relative and high > HIGH_OVER_USUAL * most:
        _tell_unit(name, inside, f"1 % of the brain is above {high:.4g}", found.warning)


def _tell_unit(name: str, inside: np.ndarray, what: str, tell: Callable[[str, str, float], None]) -> None:
    """Tells `what` of a brain's values (voxel,), with their median and a guess at the unit."""
    middle = float(np.median(inside[inside != 0]))
    lowest, highest = _TISSUE[name].typical
    guess = next(
        (words for factor, words in _TISSUE[name].other_units.items() if lowest <= middle / factor <= highest),
        "another unit or scale",
    )
    tell(
        "map_unit",
        f"the {name} map has a median of {middle:.4g}, and {what}, where {MAPS[name].unit} is expected: {guess}? "
        "convert it, or export it again",
        middle,
    )


def _not_negative(name: str, values: np.ndarray, found: Findings) -> np.ndarray:
    """Noise below zero becomes zero, but in Tmax, where the sign says which came first."""
    negative = values < 0
    if name == "tmax" or not negative.any():
        return values
    n_negative = int(negative.sum())
    found.note("map_negative", f"{n_negative} values of the {name} map are negative; they were set to zero", n_negative)
    return np.where(negative, np.float32(0), values)


def _where_maps_have_values(
    subject: str,
    paths: Mapping[str, pathlib.Path],
    mask: np.ndarray,
    without_value: dict[str, np.ndarray],
    found: Findings,
) -> np.ndarray:
    """The mask without voxels in which some map has no value: there is no truth to learn or to score."""
    lost = mask & np.logical_or.reduce(list(without_value.values()))
    if not lost.any():
        return mask
    if lost.sum() > MAX_WITHOUT_VALUE * mask.sum():
        worst = max(without_value, key=lambda name: (mask & without_value[name]).sum())
        raise InputError(
            f"{paths[worst]}: {100 * (mask & without_value[worst]).sum() / mask.sum():.0f} % of the brain of "
            f"{subject} has no {worst} value (NaN or fill; {100 * lost.sum() / mask.sum():.0f} % in any map), "
            f"at most {100 * MAX_WITHOUT_VALUE:.0f} % may be lost; export the map again, remove it or correct "
            "the mask."
        )
    found.note(
        "mask_without_values",
        f"{int(lost.sum())} voxels of the mask have no value in some map and were left out",
        int(lost.sum()),
    )
    return mask & ~lost


# --------------------------------------------------------------------------------------------- maps of all exams


@dataclasses.dataclass(frozen=True)
class MapNumbers:
    """A map in a few numbers, all of the voxels of the brain that are not 0, in the map's unit.

    Attributes:
      median: 50th percentile.
      middle: from the 25th to the 75th percentile.
      spread: from the 5th to the 95th percentile.
      high: 95th percentile.
      top: 99.9th percentile, but at most the third highest value: one voxel sets nothing.
    """

    median: float
    middle: float
    spread: float
    high: float
    top: float


def numbers_of(maps: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, MapNumbers]:
    """{map: its numbers} of (x, y, z) maps in a (x, y, z) bool mask; a map that is 0 in the mask has none."""
    numbers = {}
    for name, values in maps.items():
        inside = values[mask]
        inside = np.sort(inside[inside != 0])
        if inside.size >= MIN_REPEATS:
            low, quarter, half, three, high, top = (
                float(at) for at in np.percentile(inside, (5, 25, 50, 75, 95, 99.9))
            )
            numbers[name] = MapNumbers(half, three - quarter, high - low, high, min(top, float(inside[-3])))
    return numbers


def unlike_others(numbers: Mapping[str, Mapping[str, MapNumbers]]) -> dict[str, tuple[Finding, ...]]:
    """What is odd about each exam's maps beside those of the others.

    Compared are ratios to the exams' median, by map. A disease changes spread or top; another unit changes everything.

    Args:
      numbers: {subject: {map: its numbers}}.

    Returns:
      {subject: findings}, only of subjects with any. Fewer than four exams with a map are not compared.
    """
    findings: dict[str, list[Finding]] = {}
    for name in MAP_NAMES:
        have = {subject: maps[name] for subject, maps in numbers.items() if name in maps}
        if len(have) < FEWEST_EXAMS:
            continue
        columns = np.array([dataclasses.astuple(one) for one in have.values()])  # (exam, number)
        usual = np.median(columns, axis=0)
        for subject, one in have.items():
            if (finding := _compared(name, one, MapNumbers(*usual))) is not None:
                findings.setdefault(subject, []).append(finding)
    return {subject: tuple(found) for subject, found in findings.items()}


def _compared(name: str, one: MapNumbers, usual: MapNumbers) -> Finding | None:
    """The finding about one exam's map, if any."""
    unit = MAPS[name].unit
    compared = ("middle", "spread", "high") + (() if name == "tmax" else ("median",))  # the median of Tmax may be 0
    logarithms = np.log([_ratio(getattr(one, field), getattr(usual, field)) for field in compared])
    factor = float(np.exp(np.median(logarithms)))
    apart = max(factor, 1 / factor)
    together = (logarithms * np.sign(np.log(factor))).min() > WEAKEST_SHARE * np.log(apart)
    if apart > UNUSUAL_FACTOR and together:
        text = (
            f"the {name} map is {apart:.3g} times as {'high' if factor > 1 else 'low'} as those of the other exams "
            f"(median {one.median:.4g}, spread {one.spread:.4g}, theirs {usual.median:.4g} and {usual.spread:.4g} "
            f"{unit})"
        )
        if apart > UNIT_FACTOR:
            return Finding("map_unlike_others", "error", text + ": another unit or scale? convert it", round(factor, 4))
        return Finding("map_unlike_others", "warning", text, round(factor, 4))
    if one.top > TOP_FACTOR * usual.top and one.top > TOP_OVER_USUAL * MAPS[name].usual[1]:
        severe = one.top > SEVERE_TOP_FACTOR * usual.top and one.top > HIGH_OVER_USUAL * MAPS[name].usual[1]
        text = (
            f"the {name} map reaches {one.top:.4g} {unit} (99.9 % are below), those of the other exams "
            f"{usual.top:.4g}: the range of the network would be this exam's; remove such values if they "
            "are failed fits"
        )
        return Finding("map_unlike_others", "error" if severe else "warning", text, one.top)
    if one.spread * FLAT_FACTOR < usual.spread:
        text = (
            f"the {name} map is nearly the same everywhere (spread {one.spread:.3g} {unit}, in other exams "
            f"{usual.spread:.3g}); export it again or remove the file"
        )
        return Finding("map_unlike_others", "error", text, one.spread)
    return _elsewhere(name, one, usual)


def _elsewhere(name: str, one: MapNumbers, usual: MapNumbers) -> Finding | None:
    """A map about as wide as the others' whose middle is far off: the file of another map, times from another start."""
    # The usual median of Tmax may be 0; half of a brain above twice what is high in others counts as four times.
    factor = max(_ratio(one.median, usual.high / 2), 1.0) if name == "tmax" else _ratio(one.median, usual.median)
    apart = max(factor, 1 / factor)
    if apart <= UNUSUAL_FACTOR:
        return None
    text = (
        f"the median of the {name} map is {one.median:.4g} {MAPS[name].unit}, in other exams {usual.median:.4g}: the "
        "file of another map, or times from another start? export it again"
    )
    return Finding("map_unlike_others", "error" if apart > UNIT_FACTOR else "warning", text, one.median)


def _ratio(one: float, other: float) -> float:
    """Positive, also where a number is 0 or negative: Tmax may scatter around 0."""
    tiny = 1e-6
    return max(one, tiny) / max(other, tiny)
