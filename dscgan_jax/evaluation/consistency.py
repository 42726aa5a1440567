"""Whether maps agree with each other and with the series that they were made of: no truth is needed for it.

A network that is given what it never saw gives plausible maps all the same, each for itself. What they cannot have by
chance is that blood volume, flow and transit time belong together (the central volume theorem, MTT = CBV / CBF), and
that they follow what anybody can measure in the series: where much agent passes, and when.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from dscgan_jax.data.exams import Exam
from dscgan_jax.data.quality import Consistency
from dscgan_jax.findings import Finding
from dscgan_jax.perfusion import passage, signal

MOST_VOXELS = 20_000  # of the brain: a median of these is known to a hundredth of its spread
VISIBLE = 0.5  # of the median peak of ΔR2*: below, the noise decides where the peak is
QUANTILE = 0.95  # of the validation exams, some of which have faults of their own
FACTOR = 1.25  # a value this far beyond is still usual
FEWEST_EXAMS, ENOUGH_EXAMS = 4, 100  # fewer say nothing about what is usual; from here on their quantile says it
LEAST_VALUE = 1e-3  # smaller ones are alike
MOST_OVER_LARGEST = 3.0  # a single value near zero would make the limit meaningless
FEWEST_VOXELS = 20  # fewer agree or disagree by chance

WORDS = {
    "central_volume": "MTT differs from CBV over CBF, median |ln of their ratio|",
    "ttp_offset_seconds": "TTP differs from the time of the lowest signal, median in s",
    "ttp_spread_seconds": "TTP scatters about the time of the lowest signal, median in s",
    "cbv_disorder": "CBV does not follow how much blood passes in the series, 1 - rank correlation",
    "tmax_disorder": "Tmax does not follow the time of the lowest signal, 1 - rank correlation",
}
# Beyond these, maps that come from the very series are wrong, whoever made them: ranks that hardly follow each other,
# or not at all (1); times that are none of the first pass.
SURE = {"cbv_disorder": 0.95, "ttp_offset_seconds": 5.0}


def consistency_of(
    volumes: Mapping[str, np.ndarray], mask: np.ndarray, exam: Exam, series: np.ndarray | None = None
) -> Consistency:
    """How far maps are from agreeing with each other and with the series.

    Args:
      volumes: {map: (x, y, z)} in the units of `maps.MAPS`, CBF and CBV in any common scale; some of them.
      mask: (x, y, z) bool, where they are maps.
      exam: whose maps they are.
      series: (x, y, z, time) that they were made of, such as a realigned one; None: the exam's.
    """
    if not mask.any():
        return Consistency()
    chosen = signal.some_of(mask, MOST_VOXELS)
    curves = signal.curves_in(exam.series if series is None else series, chosen)
    delta_r2star, visible = _delta_r2star(curves, exam)
    if visible.sum() < FEWEST_VOXELS:
        return Consistency()
    seen = delta_r2star[visible]
    seconds = signal.peak_seconds(seen, exam.frame_seconds)
    # No sum of ΔR2*: after a movement every later frame would count.
    blood, _ = passage.over_mean(seen, exam.timing.baseline_begin, exam.frame_seconds)
    maps = {name: volume[chosen][visible].astype(np.float64) for name, volume in volumes.items()}
    found: dict[str, float] = {}
    if {"cbf", "cbv", "mtt"} <= maps.keys():
        found["central_volume"] = _central_volume(maps["cbf"], maps["cbv"], maps["mtt"])
    if "ttp" in maps:
        late = maps["ttp"] - seconds
        found["ttp_offset_seconds"] = abs(float(np.median(late)))
        found["ttp_spread_seconds"] = float(np.median(np.abs(late - np.median(late))))
    if "cbv" in maps:
        found["cbv_disorder"] = 1.0 - _rank_correlation(maps["cbv"], blood)
    if "tmax" in maps:
        found["tmax_disorder"] = 1.0 - _rank_correlation(maps["tmax"], seconds)
    return Consistency(**found)


def usual_limits(rows: Sequence[Consistency]) -> dict[str, float]:
    """Up to where each value is usual, {name: value}, over exams like those of the training; empty for few exams."""
    known = [row.known() for row in rows]
    values = {name: np.array([row[name] for row in known if name in row]) for name in WORDS}
    return {name: _usual_limit(of_name) for name, of_name in values.items() if len(of_name) >= FEWEST_EXAMS}


def _usual_limit(values: np.ndarray) -> float:
    """Below which the value of another exam lies with a probability of about `QUANTILE`.

    Of few exams the quantile is hardly less than their largest value, which one in six (of five) to twenty others
    exceeds. Then it is the upper prediction limit of a logarithmic normal distribution, by Student's t (Hahn & Meeker,
    Statistical Intervals, 1991, section 4.7), at most `MOST_OVER_LARGEST` times the largest value.
    """
    quantile = float(np.quantile(values, QUANTILE))
    if len(values) >= ENOUGH_EXAMS:
        return quantile
    logs = np.log(np.maximum(values, LEAST_VALUE))
    beyond = special.stdtrit(len(logs) - 1, QUANTILE) * np.sqrt(1.0 + 1.0 / len(logs))
    limit = min(float(np.exp(logs.mean() + beyond * logs.std(ddof=1))), MOST_OVER_LARGEST * float(np.exp(logs.max())))
    return max(quantile, limit)


def doubts(found: Consistency, usual: Mapping[str, float]) -> tuple[Finding, ...]:
    """A warning that names what the maps contradict; nothing where they are as usual.

    Args:
      found: of the exam's maps.
      usual: from `usual_limits`, of the network that made them; empty: what makes any map wrong counts alone.
    """
    odd = []
    for name, value in found.known().items():
        limit = min(FACTOR * usual.get(name, float("inf")), SURE.get(name, float("inf")))
        if value > limit:
            known = "usual" if limit != SURE.get(name) else "possible"
            odd.append(f"{WORDS[name]}: {value:.2g} ({known} up to {limit:.2g})")
    if not odd:
        return ()
    text = f"the maps contradict each other or the series: {'; '.join(odd)}"
    return (Finding("maps_contradict", "warning", text, len(odd)),)


def _delta_r2star(curves: np.ndarray, exam: Exam) -> tuple[np.ndarray, np.ndarray]:
    """Of (voxel, time) signal: ΔR2* in 1/TE, (voxel, time), and whether the bolus is seen, (voxel,) bool."""
    timing = exam.timing
    level = curves[:, timing.baseline_begin : timing.baseline_end].mean(axis=1)
    delta_r2star = signal.delta_r2star(curves, np.maximum(level, 1e-6), 1.0)
    delta_r2star[:, : timing.baseline_begin] = 0.0
    lit, peak = level > 0, delta_r2star.max(axis=1)
    return delta_r2star, lit & (peak > VISIBLE * (np.median(peak[lit]) if lit.any() else 0.0))


def _central_volume(cbf: np.ndarray, cbv: np.ndarray, mtt: np.ndarray) -> float:
    some = (cbf > 0) & (cbv > 0) & (mtt > 0)
    return float(np.median(np.abs(np.log(60.0 * cbv[some] / (cbf[some] * mtt[some]))))) if some.any() else 0.0


def _rank_correlation(values: np.ndarray, others: np.ndarray) -> float:
    """Spearman's; equal values share their mean rank, and a constant follows nothing."""
    first, second = _ranks(values), _ranks(others)
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """As `scipy.stats.rankdata`, whose module takes longer to import than a prediction to be judged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
