"""Statistics: exact by enumeration, equal to SciPy where it applies, and wrong as often as they say."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from experiments.stats import (
    compare_paired,
    compare_runs,
    correct_p_values,
    hedges_gz,
    mean_interval,
    rank_biserial,
    sign_flip_p_value,
)


def clustered(rng, patients, slices, correlation, shift=0.0):
    """Differences of slices with a share `correlation` of their variance between patients."""
    owner = np.repeat(np.arange(patients), slices)
    between = rng.normal(size=patients)[owner] * np.sqrt(correlation)
    return shift + between + rng.normal(size=len(owner)) * np.sqrt(1 - correlation), owner.astype(str)


def test_sign_flip_against_all_patterns():
    rng = np.random.default_rng(0)
    for n in (2, 5, 9):
        d = rng.normal(0.4, 1, n)
        hits = sum(abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-12 for signs in product((1, -1), repeat=n))
        assert sign_flip_p_value(d, 0, rng) == pytest.approx(hits / 2**n)


def test_sampled_sign_flips_agree_with_enumeration():
    d = np.random.default_rng(3).normal(0.5, 1, 17)
    patterns = (np.arange(2**17)[:, None] >> np.arange(17)) & 1
    exact = (np.abs((1 - 2 * patterns) @ d) >= abs(d.sum()) - 1e-12).mean()
    sampled = sign_flip_p_value(d, 50_000, np.random.default_rng(0))
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact / 50_000))


def test_the_seed_is_connected():
    rng = np.random.default_rng(0)
    a, b, who = rng.random(40), rng.random(40), [f"p{i}" for i in range(40)]
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


def test_false_alarms_come_as_often_as_promised():
    """No difference, half of the variance between patients: the patient test holds 5 %, the slice test does not."""
    rng = np.random.default_rng(0)
    alarms = {"patient": 0, "slice": 0}
    rounds = 400
    for i in range(rounds):
        d, who = clustered(rng, 20, 30, 0.5)
        for unit in alarms:
            alarms[unit] += compare_paired(d, np.zeros_like(d), who, unit=unit, n_resamples=400, seed=i).p_value <= 0.05
    assert 0.02 <= alarms["patient"] / rounds <= 0.08  # 5 % +- 3 standard errors
    assert alarms["slice"] / rounds > 0.4


def test_intervals_cover():
    rng = np.random.default_rng(1)
    for n in (6, 30):
        inside = 0
        for _ in range(200):
            low, high = mean_interval(rng.normal(1.0, 1, n), 500, rng)
            inside += low <= 1.0 <= high
        assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "slices", "correlation"), [(50, 64, 0.1), (50, 64, 0.5), (105, 74, 0.3)])
def test_false_alarm_rates_at_the_size_of_the_paper(patients, slices, correlation):
    rng = np.random.default_rng(patients)
    alarms, rounds = 0, 2000
    for i in range(rounds):
        d, who = clustered(rng, patients, slices, correlation)
        alarms += compare_paired(d, np.zeros_like(d), who, n_resamples=1000, seed=i).p_value <= 0.05
    assert 0.04 <= alarms / rounds <= 0.065
