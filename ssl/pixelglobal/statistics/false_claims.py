"""Probability of a false claim: how likely the method called better is not, given the patients it was tested on.

With n patients, means of A and B whose difference d has the standard deviation s over the patients, and no opinion
beforehand, the true difference has a t distribution with n - 1 degrees of freedom around d, with the scale s / sqrt(n):

    P(A is at least as good) = t_{n-1}( sqrt(n) (mean_A - mean_B) / s ),   s^2 = sd_A^2 + sd_B^2 - 2 r sd_A sd_B

where B is called better (Christodoulou et al., "Claims Reloaded", arXiv 2505.04720). It is about these two checkpoints
on patients like these. Of a claim about methods it is half the p_value of `mrmc.compare_methods`, whose error holds the
training runs as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def probability_of_false_claim(better: ArrayLike, other: ArrayLike, *, higher_is_better: bool = True) -> float:
    """Probability that the method called better is not, from paired scores, one a patient.

    higher_is_better: False for distances. Raises ValueError for unequal lengths, fewer than 2 patients and scores that
    are not finite. Above 0.5 the claim goes against its own scores.

    By hand: differences 1, 2, 3 have mean 2 and standard deviation 1; t_2(-2 sqrt(3)) = 0.5 - sqrt(12) / (2 sqrt(14)).

    >>> round(probability_of_false_claim([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]), 4)
    0.0371
    """
    a, b = np.asarray(better, float), np.asarray(other, float)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape}: expected the same 2 or more patients for both")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a score is not finite; decide what an undefined score means before making a claim")
    gains = a - b if higher_is_better else b - a
    return _probability(float(gains.mean()), float(gains.std(ddof=1)), len(gains))


def probability_of_false_claim_from_means(
    *,
    mean_better: float,
    mean_other: float,
    sd_better: float,
    sd_other: float,
    n: int,
    correlation: float,
    higher_is_better: bool = True,
) -> float:
    """Probability that the method called better is not, from a published table.

    sd_better, sd_other: standard deviations over the n patients (not standard errors). correlation: of the two methods'
    scores over patients. Tables do not print it: assume a value, say it, and show what another one gives; 0 is the most
    careful assumption for methods that find the same patients hard. Raises ValueError for impossible values.

    >>> table = dict(mean_better=85.0, mean_other=84.0, sd_better=6.0, sd_other=6.0, n=50)
    >>> [round(probability_of_false_claim_from_means(**table, correlation=r), 3) for r in (0.0, 0.5, 0.9)]
    [0.204, 0.122, 0.006]
    """
    numbers = (mean_better, mean_other, sd_better, sd_other, correlation)
    if not np.isfinite(numbers).all() or min(sd_better, sd_other) < 0 or not -1 <= correlation <= 1 or n < 2:
        raise ValueError(
            f"means {mean_better} and {mean_other}, standard deviations {sd_better} and {sd_other}, n={n}, "
            f"correlation={correlation}: expected finite numbers, deviations of 0 or more, n of 2 or more and a "
            "correlation in [-1, 1]"
        )
    gain = mean_better - mean_other if higher_is_better else mean_other - mean_better
    variance = sd_better**2 + sd_other**2 - 2 * correlation * sd_better * sd_other
    return _probability(gain, float(np.sqrt(max(variance, 0.0))), n)


def _probability(gain: float, spread: float, n: int) -> float:
    """t_{n-1} of minus the gain in standard errors; without any spread 0, 1/2 or 1."""
    if spread <= 1e-12 * abs(gain) or spread == 0:
        return 0.5 - 0.5 * float(np.sign(gain))
    return float(stats.t.cdf(-gain / spread * np.sqrt(n), n - 1))
