"""Statistics: exact by enumeration, equal to SciPy where it applies, and wrong as often as they say."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from experiments.bench.statistics import error_rates
from pixelglobal.statistics import paired
from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.intervals import hierarchical_interval, mean_interval
from pixelglobal.statistics.margins import compare_with_margin
from pixelglobal.statistics.paired import (
    compare_paired,
    hedges_gz,
    random_sign_sums,
    rank_biserial,
    sign_flip_p_value,
    smallest_p_value,
)
from pixelglobal.statistics.power import required_patients
from pixelglobal.statistics.runs import compare_runs

A = [0.81, 0.77, 0.92, 0.65, 0.88, 0.79, 0.83, 0.90, 0.71, 0.86]
B = [0.78, 0.79, 0.90, 0.60, 0.85, 0.80, 0.79, 0.88, 0.70, 0.81]


def test_sign_flip_against_all_patterns():
    rng = np.random.default_rng(0)
    for n in (2, 5, 9):
        d = rng.normal(0.4, 1, n)
        hits = sum(abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-12 for signs in product((1, -1), repeat=n))
        assert sign_flip_p_value(d, 0, rng) == pytest.approx(hits / 2**n)


def test_sampled_sign_flips_agree_with_counting_all(monkeypatch):
    d = np.random.default_rng(3).normal(0.5, 1, 21)
    exact = sign_flip_p_value(d, 0, np.random.default_rng(0))
    monkeypatch.setattr(paired, "EXACT_UP_TO", 20)
    sampled = sign_flip_p_value(d, 50_000, np.random.default_rng(0))
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact / 50_000))


def test_forty_units_are_counted_exactly():
    """Units of equal size make the number of plus signs binomial."""
    d = np.ones(40)
    d[:10] = -1
    expected = 2 * stats.binom.cdf(10, 40, 0.5)
    assert sign_flip_p_value(d, 0, np.random.default_rng(0)) == pytest.approx(expected, rel=1e-12)
    assert sign_flip_p_value(np.ones(40), 0, np.random.default_rng(0)) == 2 / 2**40
    assert smallest_p_value(40, "sign_flip") == 2 / 2**40


def test_no_sampled_p_is_zero():
    """Of B random patterns and the observed one, the observed one at least is as extreme."""
    assert sign_flip_p_value(np.ones(41), 999, np.random.default_rng(0)) == 1 / 1000
    many = [f"p{i}" for i in range(60)]
    assert compare_paired(np.ones(60), np.zeros(60), many).p_value == 1e-5 == smallest_p_value(60, "sign_flip")


def test_random_signs_are_fair_and_independent():
    """Sums of 1, 2, 4, ..., with random signs take every odd value of their range equally often."""
    sums = random_sign_sums(2.0 ** np.arange(9), 200_000, np.random.default_rng(0))
    values, counts = np.unique(sums, return_counts=True)
    assert values.tolist() == list(range(-511, 512, 2))
    assert stats.chisquare(counts).pvalue > 1e-4


def test_the_seed_is_connected():
    rng = np.random.default_rng(0)
    a, b, who = rng.random(60), rng.random(60), [f"p{i}" for i in range(60)]
    one, two, other = (compare_paired(a, b, who, seed=s) for s in (1, 1, 2))
    assert one == two
    assert one.p_value != other.p_value


def test_wilcoxon_and_t_are_scipys():
    rng = np.random.default_rng(1)
    a, b, who = rng.random(20), rng.random(20), [f"p{i}" for i in range(20)]
    assert compare_paired(a, b, who, test="wilcoxon").p_value == pytest.approx(
        stats.wilcoxon(a, b, method="exact").pvalue
    )
    assert compare_paired(a, b, who, test="t").p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_wilcoxon_with_few_ties_is_exact():
    """8 pairs with ties and zeros: SciPy's "exact" gives 0.0234 without a warning, the permutation value is 0.0312."""
    a = np.array([3.0, 3.0, 2.0, 2.0, 1.0, 4.0, 5.0, 0.0])
    result = compare_paired(a, np.zeros(8), [f"p{i}" for i in range(8)], test="wilcoxon", zeros="wilcox")
    ranks = stats.rankdata(a[a > 0])
    total = ranks.sum()
    hits = sum(abs(np.dot(signs, ranks)) >= total - 1e-9 for signs in product((1, -1), repeat=7))
    assert result.p_value == pytest.approx(hits / 2**7)


def test_units():
    a, b = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 1])
    who = ["p", "p", "p", "q"]
    patient, slices = (compare_paired(a, b, who, unit=u) for u in ("patient", "slice"))
    assert (patient.n_units, patient.difference) == (2, 0.0)
    assert (slices.n_units, slices.difference) == (4, 0.5)


def test_rank_biserial_and_hedges_against_their_definitions():
    d = np.array([1.0, -2.0, 3.0, 4.0])
    assert rank_biserial(d) == (1 + 3 + 4 - 2) / 10
    j = 1 - 3 / (4 * 3 - 1)
    assert hedges_gz(d) == pytest.approx(d.mean() / d.std(ddof=1) * j)
    assert rank_biserial(np.zeros(3)) == hedges_gz(np.zeros(3)) == 0


def test_equal_scores_give_p_1_and_a_point():
    c = compare_paired([0.5] * 12, [0.5] * 12, [f"p{i}" for i in range(12)])
    assert (c.p_value, c.difference, c.low, c.high) == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1], ["p", "q"]), "2 and 1 scores of 2 observations"),
        (([1, 2], [1, 1], ["p", None]), "1 of 2 observations have no patient"),
        (([1, 2], [1, 1], [1.0, np.nan]), "1 of 2 observations have no patient"),
        (([1, np.nan], [1, 1], ["p", "q"]), "scores_a holds 1 values that are not finite"),
        (([1, 2], [1, 1], ["p", "p"]), "1 patient: a comparison needs at least 2 units"),
    ],
)
def test_what_cannot_be_compared(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare_paired(*arguments)
    with pytest.raises(ValueError, match="expected sign_flip, wilcoxon or t"):
        compare_paired([1, 2], [2, 1], ["p", "q"], test="z") and compare_paired([1, 2.5], [2, 1], ["p", "q"], test="z")


def test_holm_and_benjamini_hochberg():
    p = [0.01, 0.04, 0.03, 0.005]
    # statsmodels 0.15.0: multipletests(p, method="holm")[1]
    np.testing.assert_allclose(correct_p_values(p, "holm"), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(correct_p_values(p, "bh"), stats.false_discovery_control(p))
    np.testing.assert_allclose(correct_p_values(p, "none"), p)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        correct_p_values([0.1, np.nan])


def test_runs_are_welch_and_need_three():
    a, b = [0.8, 0.9, 0.85], [0.7, 0.6, 0.65, 0.7]
    c = compare_runs(a, b)
    assert c.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert c.low < c.difference < c.high
    assert c.rank_biserial == 1
    with pytest.raises(ValueError, match="2 and 4 training runs: a claim about methods needs at least 3"):
        compare_runs(a[:2], b)


def test_margins_against_statsmodels():
    """statsmodels 0.15.0: ttost_paired(A, B, -0.02, 0.02) gives p = 0.000155 and p = 0.603."""
    e = compare_with_margin(A, B, list("pqrstuvwxy"), margin=0.02)
    assert (e.p_not_worse, e.p_not_better) == pytest.approx((0.000155297647768582, 0.6031547130520636))
    d = np.subtract(A, B)
    assert e.p_equivalent == max(e.p_not_worse, e.p_not_better)
    interval = stats.ttest_1samp(d, 0).confidence_interval(0.9)
    assert (e.low, e.high) == pytest.approx((interval.low, interval.high))


def test_effects_against_pingouin():
    """pingouin 0.7.0: wilcoxon(A, B) gives RBC 0.8, ttest(A, B, paired=True) t = 2.963487; g_z = t J / sqrt(n)."""
    c = compare_paired(A, B, list("pqrstuvwxy"))
    assert c.rank_biserial == pytest.approx(0.8, abs=1e-9)
    assert c.hedges_gz == pytest.approx(2.963487 / np.sqrt(10) * (1 - 3 / 35), rel=1e-6)


def test_margins_that_cannot_be_meant():
    with pytest.raises(ValueError, match="margin=0: name the largest loss"):
        compare_with_margin([1, 2], [1, 2], ["p", "q"], margin=0)
    with pytest.raises(ValueError, match="1 patient: a comparison needs"):
        compare_with_margin([1, 2], [1, 2], ["p", "p"], margin=1)
    same = compare_with_margin([1, 2, 3], [1, 2, 3], list("pqr"), margin=0.1)
    assert (same.p_not_worse, same.p_not_better, same.low, same.high) == (0.0, 0.0, 0.0, 0.0)


def test_equivalence_is_claimed_wrongly_as_rarely_as_promised():
    """At a true loss of exactly the margin, "not worse" is said in 5 % of studies."""
    rng = np.random.default_rng(0)
    said = sum(
        compare_with_margin(rng.normal(-1, 1, 25), np.zeros(25), list(map(str, range(25))), margin=1.0).p_not_worse
        < 0.05
        for _ in range(1000)
    )
    assert 0.03 <= said / 1000 <= 0.07


def test_needed_patients_have_the_promised_power():
    """The t-test's own power: 34 patients for a gain of half a standard deviation (G*Power 3.1)."""
    spread = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    needed = required_patients(spread / spread.std(), gain=0.5, n_simulations=4000)
    assert 31 <= needed <= 37
    assert required_patients(spread, gain=5.0) == 6
    assert required_patients(spread, gain=-0.5) == pytest.approx(needed, abs=4)


def test_plans_that_cannot_be_made():
    with pytest.raises(ValueError, match="gain=0: no number of patients"):
        required_patients([1.0, 2.0], gain=0)
    with pytest.raises(ValueError, match=r"even 50 patients would not show a gain of 0\.01"):
        required_patients([-10.0, 10.0, 3.0], gain=0.01, largest=50)
    with pytest.raises(ValueError, match="1 differences: at least 2"):
        required_patients([1.0], gain=1)


def test_the_hierarchical_interval_is_that_of_patients_where_slices_say_nothing_more():
    """All slices of a patient equal: the interval is that of the patients' means; a single patient has none."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=40)
    low, high = hierarchical_interval(np.repeat(level, 5), np.repeat(np.arange(40), 5), 20_000, rng)
    half = stats.t.ppf(0.975, 39) * level.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((level.mean() - half, level.mean() + half), abs=0.06)
    assert hierarchical_interval(np.array([1.0, 2.0]), np.array([0, 0]), 10, rng) == (-np.inf, np.inf)


def test_false_alarms_come_as_often_as_promised():
    """No difference, half of the variance between patients: the patient test holds 5 %, the slice test does not."""
    rates = error_rates(20, 0.5, rounds=400, n_resamples=400)
    assert 0.02 <= rates["patient_alarms"] <= 0.08  # 5 % +- 3 standard errors
    assert rates["slice_alarms"] > 0.4
    assert 0.91 <= rates["slice_coverage"] <= 0.98


def test_intervals_cover():
    rng = np.random.default_rng(1)
    for n in (6, 30):
        inside = 0
        for _ in range(200):
            low, high = mean_interval(rng.normal(1.0, 1, n), 500, rng)
            inside += low <= 1.0 <= high
        assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(("patients", "low", "high"), [(20, 0.03, 0.07), (50, 0.04, 0.065), (105, 0.04, 0.065)])
def test_error_rates_at_the_size_of_the_paper(patients, low, high, correlation):
    rates = error_rates(patients, correlation, rounds=3000, n_resamples=1000)
    assert low <= rates["patient_alarms"] <= high
    assert 0.92 <= rates["patient_coverage"] <= 0.98
    assert 0.92 <= rates["slice_coverage"] <= 0.98
    assert rates["slice_alarms"] > 0.3
