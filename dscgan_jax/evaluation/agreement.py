"""How well two methods agree on one number of each subject, and on decisions that follow from volumes.

Words:
- A *statistic* is over subjects: subject i of the first array is subject i of the second. Whoever lacks one of the two
  (None or NaN) is left out, and `n` says how many were not.
- Its *interval* is the 95 % percentile interval of a bootstrap over subjects (Efron & Tibshirani, An Introduction to
  the Bootstrap, 1993, chapter 13), from a fixed seed: the same numbers give the same interval. Resamples in which the
  statistic is undefined are left out. With few subjects it is narrower than it should be, as such intervals are.
- *Eligible* is a subject whose volumes meet the imaging criteria of a trial. In MR those trials took the core from
  diffusion, not from perfusion maps: the core is given, the same for both methods, and maps decide the hypoperfused
  volume alone.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Number = float | None
Values = np.ndarray | Sequence[Number]  # (subject,)

RESAMPLES = 2000
SEED = 0
TAILS_PERCENT = (2.5, 97.5)
FEWEST_SUBJECTS = 5  # four have 35 different resamples, fewer than the 40 of which a tail of 2.5 % is one
LIMITS_SD = 1.96  # of the differences: Bland and Altman 1986
HYPOPERFUSED_SECONDS = 6.0  # Tmax above which both trials call tissue hypoperfused


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic over subjects.

    Attributes:
      n: subjects.
      value: None where it is undefined.
      interval: lowest and highest value, 95 %; None where the value is undefined, or subjects are fewer than
        `FEWEST_SUBJECTS`.
    """

    n: int
    value: Number
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class BlandAltman:
    """Differences of two methods, in their unit.

    Attributes:
      bias: mean of first - second.
      sd: of the differences (n - 1); None for fewer than two subjects.
      limits: bias - 1.96 SD and bias + 1.96 SD, between which 95 % of normal differences lie; None without an SD.
    """

    bias: Estimate
    sd: Number
    limits: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Eligibility:
    """Decisions of two methods by the criteria of one trial.

    Attributes:
      n_first, n_second, n_both: eligible subjects by either method, and by both.
      kappa: Cohen's kappa of the decisions; its `n` are the subjects with a core.
    """

    n_first: int
    n_second: int
    n_both: int
    kappa: Estimate


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """How two methods differ on the same subjects.

    Attributes:
      mean: of first - second, in the unit of both.
      p_value: of the two-sided Wilcoxon signed-rank test; None where no subject differs.
    """

    mean: Estimate
    p_value: Number


def bland_altman(first: Values, second: Values) -> BlandAltman:
    """Bias and limits of agreement (Bland & Altman, Lancet 1986;327:307).

    Raises:
      ValueError: the arrays are not two lists of one length; so do all functions here.
    """
    first, second = _paired(first, second)
    bias = _estimate(_mean_difference, first, second)
    if bias.value is None or bias.n < 2:
        return BlandAltman(bias, None, None)
    sd = float((first - second).std(ddof=1))
    return BlandAltman(bias, sd, (bias.value - LIMITS_SD * sd, bias.value + LIMITS_SD * sd))


def pearson_r(first: Values, second: Values) -> Estimate:
    """Pearson's correlation; undefined where one method is constant."""
    return _estimate(_pearson, *_paired(first, second))


def intraclass_correlation(*methods: Values) -> Estimate:
    """ICC(2,1) of two or more methods: two-way random effects, absolute agreement, single measurement.

    Shrout & Fleiss, Psychological Bulletin 1979;86:420, table 2 and p. 423. Undefined where all values are one.
    """
    return _estimate(_icc, *_paired(*methods))


def concordance(first: Values, second: Values) -> Estimate:
    """Lin's concordance correlation coefficient (Biometrics 1989;45:255), with moments over n as there.

    It is Pearson's r times a factor for differences of mean and of scale; undefined where all values are one.
    """
    return _estimate(_concordance, *_paired(first, second))


def kappa(first: Values, second: Values) -> Estimate:
    """Cohen's kappa of categories given as numbers (Educational and Psychological Measurement 1960;20:37).

    Undefined where both methods put everybody into the same category.
    """
    return _estimate(_kappa, *_paired(first, second))


def defuse3(core_ml: np.ndarray, hypoperfused_ml: np.ndarray) -> np.ndarray:
    """Whether volumes meet the imaging criteria of DEFUSE 3 (Albers et al., N Engl J Med 2018;378:708).

    Core below 70 mL, hypoperfused volume at least 1.8 times the core, and at least 15 mL more than it.

    Args:
      core_ml: (subject,) ischaemic core, mL; 0 makes the ratio infinite.
      hypoperfused_ml: (subject,) tissue with Tmax > 6 s, mL.

    Returns:
      (subject,) bool; false where a volume is NaN.
    """
    core, hypoperfused, ratio = _volumes(core_ml, hypoperfused_ml)
    return (core < 70.0) & (ratio >= 1.8) & (hypoperfused - core >= 15.0)


def extend(core_ml: np.ndarray, hypoperfused_ml: np.ndarray) -> np.ndarray:
    """Whether volumes meet the imaging criteria of EXTEND (Ma et al., N Engl J Med 2019;380:1795).

    Core below 70 mL, hypoperfused volume more than 1.2 times the core, and more than 10 mL more than it. Arguments and
    result are those of `defuse3`.
    """
    core, hypoperfused, ratio = _volumes(core_ml, hypoperfused_ml)
    return (core < 70.0) & (ratio > 1.2) & (hypoperfused - core > 10.0)


TRIALS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"defuse3": defuse3, "extend": extend}


def eligibility(trial: str, core_ml: Values, first_ml: Values, second_ml: Values) -> Eligibility:
    """Whether two methods decide alike, given the core.

    Args:
      trial: of `TRIALS`.
      core_ml: (subject,) the core, the same for both methods; None where it is not known.
      first_ml, second_ml: (subject,) hypoperfused volume by either method, mL.
    """
    core, *volumes = _paired(core_ml, first_ml, second_ml)
    first, second = (TRIALS[trial](core, volume) for volume in volumes)
    return Eligibility(int(first.sum()), int(second.sum()), int((first & second).sum()), kappa(first, second))


def paired_difference(first: Values, second: Values) -> PairedDifference:
    """Difference of two methods on the same subjects, such as their errors of one map.

    The signed-rank test (Wilcoxon, Biometrics Bulletin 1945;1:80) leaves out subjects without a difference. Where
    several differences are looked at, its p is to be corrected for their number.
    """
    from scipy import stats  # here: it takes longer to load than all of this package that an evaluation needs

    first, second = _paired(first, second)
    differing = (first - second)[first != second]
    p_value = float(stats.wilcoxon(differing).pvalue) if differing.size else None
    return PairedDifference(_estimate(_mean_difference, first, second), p_value)


def _paired(*methods: Values) -> list[np.ndarray]:
    """Float64, of the subjects for whom every method has a value."""
    values = [np.asarray(method, np.float64) for method in methods]
    if len({one.shape for one in values}) != 1 or values[0].ndim != 1:
        raise ValueError(f"expected lists of one length, a value per subject; got {[one.shape for one in values]}.")
    known = ~np.isnan(values).any(axis=0)
    return [one[known] for one in values]


def _estimate(statistic: Callable[..., np.ndarray], *methods: np.ndarray) -> Estimate:
    """A statistic with its interval; it takes arrays (..., subject) and is NaN or infinite where undefined."""
    n = methods[0].size
    value = float(statistic(*methods)) if n else np.nan
    if not np.isfinite(value):
        return Estimate(n, None, None)
    if n < FEWEST_SUBJECTS:
        return Estimate(n, value, None)
    drawn = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
    found = statistic(*(one[drawn] for one in methods))
    low, high = np.percentile(found[np.isfinite(found)], TAILS_PERCENT)
    return Estimate(n, value, (float(low), float(high)))


def _mean_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first - second).mean(axis=-1)


def _pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    constant = _constant(first) | _constant(second)
    first, second = _centred(first), _centred(second)
    power = (first**2).sum(axis=-1) * (second**2).sum(axis=-1)
    return _divided(np.where(constant, np.nan, (first * second).sum(axis=-1)), np.sqrt(power)).clip(-1.0, 1.0)


def _concordance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    constant = _constant(np.concatenate([first, second], axis=-1))
    apart = first.mean(axis=-1) - second.mean(axis=-1)
    first, second = _centred(first), _centred(second)
    spread = (first**2).mean(axis=-1) + (second**2).mean(axis=-1) + apart**2
    return _divided(np.where(constant, np.nan, 2.0 * (first * second).mean(axis=-1)), spread)


def _icc(*methods: np.ndarray) -> np.ndarray:
    """From the mean squares of subjects, methods and what is left, by the names of Shrout and Fleiss."""
    constant = _constant(np.concatenate(methods, axis=-1))
    ratings = np.stack(methods, axis=-1)  # (..., subject, method)
    n, k = ratings.shape[-2:]
    ratings = ratings - ratings.mean(axis=(-2, -1), keepdims=True)
    of_subject, of_method = ratings.mean(axis=-1, keepdims=True), ratings.mean(axis=-2, keepdims=True)
    left = ratings - of_subject - of_method
    bms = _divided(k * (of_subject**2).sum(axis=(-2, -1)), n - 1)
    jms = n * (of_method**2).sum(axis=(-2, -1)) / (k - 1)
    ems = _divided((left**2).sum(axis=(-2, -1)), (n - 1) * (k - 1))
    with np.errstate(invalid="ignore"):  # of one subject the mean squares are undefined
        of_subjects, everything = bms - ems, bms + (k - 1) * ems + k * (jms - ems) / n
    return _divided(np.where(constant, np.nan, of_subjects), everything)


def _kappa(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    categories = np.unique([first, second])
    shares = [(first == one).mean(axis=-1) * (second == one).mean(axis=-1) for one in categories]
    chance = np.sum(shares, axis=0)
    return _divided((first == second).mean(axis=-1) - chance, np.where(chance < 1.0, 1.0 - chance, np.nan))


def _constant(values: np.ndarray) -> np.ndarray:
    """Exact, for a mean may round away from a constant."""
    return np.ptp(values, axis=-1) == 0


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-1, keepdims=True)


def _divided(above: np.ndarray, below: np.ndarray | int) -> np.ndarray:
    """NaN or infinite where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(above, below)


def _volumes(core_ml: np.ndarray, hypoperfused_ml: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Core, hypoperfused volume and their ratio, which is NaN where both are 0: nothing is at risk there."""
    core, hypoperfused = np.asarray(core_ml, np.float64), np.asarray(hypoperfused_ml, np.float64)
    return core, hypoperfused, _divided(hypoperfused, core)
