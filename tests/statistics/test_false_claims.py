"""The probability of a false claim: its formula, its meaning, and the two doors to it."""

import numpy as np
import pytest
from scipy import stats

from pixelglobal.statistics.false_claims import (
    probability_of_false_claim,
    probability_of_false_claim_from_means,
)

TABLE = {"mean_better": 85.0, "mean_other": 84.0, "sd_better": 6.0, "sd_other": 5.0, "n": 50}


def scores(seed=0, n=12):
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 5, n)
    return 80 + hard + rng.normal(1, 2, n), 80 + hard + rng.normal(0, 2, n)


def test_the_papers_formula():
    r, n = 0.4, 50
    spread = np.sqrt(6.0**2 + 5.0**2 - 2 * r * 6.0 * 5.0)
    expected = stats.t.cdf(np.sqrt(n) * (84.0 - 85.0) / spread, n - 1)
    assert probability_of_false_claim_from_means(**TABLE, correlation=r) == pytest.approx(expected)


def test_scores_and_their_own_table_agree():
    a, b = scores()
    table = {"mean_better": a.mean(), "mean_other": b.mean(), "sd_better": a.std(ddof=1), "sd_other": b.std(ddof=1)}
    from_table = probability_of_false_claim_from_means(**table, n=len(a), correlation=np.corrcoef(a, b)[0, 1])
    assert probability_of_false_claim(a, b) == pytest.approx(from_table)


def test_it_is_the_one_sided_p_of_the_paired_t():
    a, b = scores(1)
    assert probability_of_false_claim(a, b) == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)


def test_it_is_a_probability_of_the_true_difference():
    """Draw true means and data; among studies with a like result, so many have the other method ahead."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(-50, 50, 1_000_000)  # no opinion beforehand, of the difference or of the spread
    n, spread = 5, np.exp(rng.uniform(-3, 3, len(truth)))
    means = truth + spread / np.sqrt(n) * rng.normal(size=len(truth))
    sds = spread * np.sqrt(rng.chisquare(n - 1, len(truth)) / (n - 1))
    like = (np.abs(means / sds - 0.4) < 0.2) & (np.abs(np.log(sds)) < 1)
    wrong = truth[like] < 0
    said = stats.t.cdf(-np.sqrt(n) * means[like] / sds[like], n - 1)
    assert wrong.mean() == pytest.approx(said.mean(), abs=0.015)


def test_the_claim_turned_round():
    a, b = scores(2)
    assert probability_of_false_claim(a, b) + probability_of_false_claim(b, a) == pytest.approx(1)
    assert probability_of_false_claim(a, b, higher_is_better=False) == pytest.approx(probability_of_false_claim(b, a))
    swapped = TABLE | {"mean_better": 84.0, "mean_other": 85.0}
    distance = probability_of_false_claim_from_means(**swapped, correlation=0.4, higher_is_better=False)
    assert distance == pytest.approx(probability_of_false_claim_from_means(**TABLE, correlation=0.4))


def test_more_patients_and_more_correlation_make_it_smaller():
    p = [
        probability_of_false_claim_from_means(**(TABLE | {"n": n}), correlation=r)
        for n, r in ((20, 0), (50, 0), (50, 0.8))
    ]
    assert p[0] > p[1] > p[2] > 0


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 0.0), (0.0, 0.5), (-1.0, 1.0)])
def test_no_spread(gain, expected):
    assert probability_of_false_claim(np.array([0.7, 0.8, 0.9]) + gain, [0.7, 0.8, 0.9]) == expected
    table = TABLE | {"mean_better": 84.0 + gain, "sd_better": 5.0}
    assert probability_of_false_claim_from_means(**table, correlation=1.0) == expected


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0], "the same 2 or more patients"),
        ([1.0], [2.0], "the same 2 or more patients"),
        ([[1.0, 2.0]], [[1.0, 3.0]], "the same 2 or more patients"),
        ([1.0, np.nan], [1.0, 2.0], "not finite"),
        ([1.0, 2.0], [1.0, np.inf], "not finite"),
    ],
)
def test_refused_scores(a, b, message):
    with pytest.raises(ValueError, match=message):
        probability_of_false_claim(a, b)


@pytest.mark.parametrize(
    "wrong", [{"n": 1}, {"sd_other": -1.0}, {"correlation": 1.01}, {"correlation": -2.0}, {"mean_better": np.nan}]
)
def test_refused_tables(wrong):
    with pytest.raises(ValueError, match=r"expected finite numbers"):
        probability_of_false_claim_from_means(**({"correlation": 0.0} | TABLE | wrong))
