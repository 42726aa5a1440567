"""Agreement over subjects against closed forms, published tables and SciPy; decisions against the trials' own words."""

import numpy as np
import pytest
from scipy import stats

from dscgan_jax.evaluation import agreement

# Shrout and Fleiss 1979, table 2: four judges of six targets.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T
RANDOM = np.random.default_rng(5)
TRUTH = RANDOM.gamma(2.0, 30.0, 40)
NEAR = 0.9 * TRUTH + 4.0 + RANDOM.normal(0.0, 10.0, 40)


def test_icc_is_that_of_the_table_of_shrout_and_fleiss():
    assert agreement.intraclass_correlation(*JUDGES).value == pytest.approx(0.29, abs=0.005)


def test_icc_falls_with_a_bias_as_its_mean_squares_say():
    # Subjects 0, 2, 4 and a method 2 higher: BMS 8, JMS 6, EMS 0, hence 8 / (8 + 2 * 6 / 3).
    assert agreement.intraclass_correlation([0, 2, 4], [2, 4, 6]).value == pytest.approx(8 / 12)
    assert agreement.intraclass_correlation(TRUTH, TRUTH).value == pytest.approx(1.0)


def test_concordance_is_lins_definition():
    covariance = np.cov(TRUTH, NEAR, ddof=0)
    apart = (TRUTH.mean() - NEAR.mean()) ** 2
    lin = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + apart)
    found = agreement.concordance(TRUTH, NEAR)
    assert found.value == pytest.approx(lin) and found.n == 40
    assert found.value < agreement.pearson_r(TRUTH, NEAR).value
    # Shifted by one SD, with the same scale: 2 s^2 / (2 s^2 + s^2).
    assert agreement.concordance(TRUTH, TRUTH + TRUTH.std()).value == pytest.approx(2 / 3)


def test_pearson_is_scipys():
    assert agreement.pearson_r(TRUTH, NEAR).value == pytest.approx(stats.pearsonr(TRUTH, NEAR).statistic)


def test_kappa_is_that_of_a_table_by_hand():
    # Both yes 20, both no 15, one alone 5 and 10: 35 / 50 alike, by chance 25 / 50 * 30 / 50 + 25 / 50 * 20 / 50 = 0.5.
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert agreement.kappa(first, second).value == pytest.approx((0.7 - 0.5) / 0.5)
    assert agreement.kappa(first, first).value == 1.0
    assert agreement.kappa([0, 1, 2, 2], [0, 1, 2, 1]).value == pytest.approx((0.75 - 0.3125) / (1 - 0.3125))


def test_limits_of_agreement_are_bias_and_spread_of_differences():
    found = agreement.bland_altman([10.0, 12.0, 20.0], [8.0, 12.0, 16.0])  # differences 2, 0, 4
    assert found.bias.value == 2.0 and found.sd == 2.0
    assert found.limits == pytest.approx((2 - 3.92, 2 + 3.92))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_what_is_undefined_is_none(value):
    constant = np.full(6, value)
    assert agreement.pearson_r(constant, TRUTH[:6]).value is None
    for statistic in (agreement.concordance, agreement.intraclass_correlation, agreement.kappa):
        assert statistic(constant, constant).value is None
        assert statistic(constant, constant).interval is None
        assert statistic([], []).value is None
    assert agreement.concordance(constant, TRUTH[:6]).value == pytest.approx(0.0, abs=1e-12)
    for statistic in (agreement.pearson_r, agreement.intraclass_correlation):
        assert statistic([1.0], [2.0]).value is None
    assert agreement.bland_altman([1.0], [2.0]) == agreement.BlandAltman(agreement.Estimate(1, -1.0, None), None, None)
    assert agreement.bland_altman([], []).bias.value is None


def test_subjects_without_a_value_are_left_out_and_counted():
    found = agreement.pearson_r([1.0, None, 2.0, 4.0], [2.0, 3.0, float("nan"), 8.0])
    assert found.n == 2 and found.value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="expected lists of one length"):
        agreement.pearson_r([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("statistic", "plain"),
    [
        (agreement.pearson_r, lambda a, b: stats.pearsonr(a, b).statistic),
        (
            agreement.concordance,
            lambda a, b: 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a - b).mean() ** 2),
        ),
        (lambda a, b: agreement.bland_altman(a, b).bias, lambda a, b: (a - b).mean()),
    ],
    ids=["r", "concordance", "bias"],
)
def test_intervals_are_those_of_scipys_percentile_bootstrap(statistic, plain):
    found, again = statistic(NEAR, TRUTH), statistic(NEAR, TRUTH)
    assert found == again
    theirs = stats.bootstrap(
        (NEAR, TRUTH), plain, paired=True, vectorized=False, n_resamples=1000, method="percentile", random_state=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.interval == pytest.approx(tuple(theirs), abs=0.15 * width)
    assert found.interval[0] < found.value < found.interval[1]


def test_an_interval_of_a_mean_has_the_width_of_its_standard_error():
    difference = RANDOM.normal(1.0, 2.0, 400)
    low, high = agreement.bland_altman(difference, np.zeros(400)).bias.interval
    assert high - low == pytest.approx(2 * 1.96 * difference.std() / 20, rel=0.1)


def test_few_subjects_have_no_interval():
    assert agreement.pearson_r(TRUTH[:4], NEAR[:4]).interval is None
    assert agreement.pearson_r(TRUTH[:5], NEAR[:5]).interval is not None


@pytest.mark.parametrize(
    ("core", "hypoperfused", "defuse3", "extend"),
    [
        (20.0, 36.0, True, True),  # ratio 1.8, 16 mL more
        (20.0, 35.9, False, True),  # below the ratio of DEFUSE 3
        (10.0, 24.9, False, True),  # ratio 2.5, 14.9 mL more
        (10.0, 25.0, True, True),
        (60.0, 72.0, False, False),  # ratio 1.2 is not more than 1.2
        (60.0, 72.1, False, True),
        (10.0, 20.0, False, False),  # 10 mL more is not more than 10 mL
        (70.0, 300.0, False, False),  # the core is too large
        (0.0, 15.0, True, True),  # no core: the ratio is infinite
        (0.0, 10.5, False, True),
        (0.0, 0.0, False, False),
        (30.0, 5.0, False, False),
        (float("nan"), 90.0, False, False),
    ],
)
def test_eligibility_follows_the_words_of_the_trials(core, hypoperfused, defuse3, extend):
    assert bool(agreement.defuse3(np.array([core]), np.array([hypoperfused]))[0]) is defuse3
    assert bool(agreement.extend(np.array([core]), np.array([hypoperfused]))[0]) is extend


def test_decisions_of_two_methods_are_counted_where_the_core_is_known():
    core = [10.0, 10.0, 80.0, 0.0, None]
    predicted, reference = [90.0, 12.0, 200.0, 40.0, 90.0], [80.0, 40.0, 180.0, 50.0, 90.0]
    found = agreement.eligibility("defuse3", core, predicted, reference)
    assert (found.n_first, found.n_second, found.n_both, found.kappa.n) == (2, 3, 2, 4)
    assert found.kappa.value == pytest.approx(0.5)  # 3 of 4 alike, 2 of 4 by chance


def test_a_paired_difference_has_the_sign_of_the_first_and_scipys_p():
    worse = TRUTH + RANDOM.normal(2.0, 3.0, 40)
    found = agreement.paired_difference(worse, TRUTH)
    assert found.mean.n == 40 and found.mean.value == pytest.approx((worse - TRUTH).mean())
    assert found.mean.interval[0] > 0 and found.p_value == pytest.approx(stats.wilcoxon(worse, TRUTH).pvalue)
    back = agreement.paired_difference(TRUTH, worse)
    assert back.mean.value == -found.mean.value and back.p_value == found.p_value


def test_methods_that_never_differ_have_no_p():
    found = agreement.paired_difference(TRUTH, TRUTH)
    assert found.mean == agreement.Estimate(40, 0.0, (0.0, 0.0)) and found.p_value is None
    assert agreement.paired_difference([None], [1.0]).mean == agreement.Estimate(0, None, None)
