"""Not worse, not better, equivalent: what a large p-value never shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pixelglobal.statistics.mrmc import MethodComparison
from pixelglobal.statistics.paired import ROUNDING_DECIMALS, means_by, require_pairs


@dataclass(frozen=True)
class Equivalence:
    """Scores a minus scores b against a margin; `low` and `high` bound the difference with 90 % confidence."""

    difference: float
    low: float
    high: float
    p_not_worse: float  # small: a is worse by less than the margin
    p_not_better: float  # small: a is better by less than the margin
    margin: float
    n_units: int

    @property
    def p_equivalent(self) -> float:
        """Two one-sided tests (Schuirmann 1987): both must be small."""
        return max(self.p_not_worse, self.p_not_better)


def compare_with_margin(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: ArrayLike,
    *,
    margin: float,
) -> Equivalence:
    """Is a not worse than b by `margin` or more? Two one-sided paired t-tests over patients.

    A large p of an ordinary test never shows that two methods are equal; this does. Raises ValueError as
    `compare_paired`, and for a margin that is not positive.

    >>> e = compare_with_margin([0.8, 0.9, 0.7, 0.8], [0.8, 0.89, 0.71, 0.8], list("pqrs"), margin=0.05)
    >>> e.p_not_worse < 0.01, e.p_equivalent < 0.01
    (True, True)
    """
    a, b, patient_of = np.asarray(scores_a, float), np.asarray(scores_b, float), np.asarray(patients)
    require_pairs(a, b, patient_of)
    _require_margin(margin)
    differences = np.round(means_by(a - b, patient_of), ROUNDING_DECIMALS)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        raise ValueError(f"{n} patient: a comparison needs at least 2 units")
    return _two_one_sided_tests(mean, float(differences.std(ddof=1) / np.sqrt(n)), n - 1, margin, n)


def methods_with_margin(comparison: MethodComparison, *, margin: float) -> Equivalence:
    """The same question about methods: the difference of `mrmc.compare_methods` with its error over runs and patients.

    n_units of the result are the runs. Raises ValueError for a margin that is not positive.
    """
    _require_margin(margin)
    half = (comparison.high - comparison.low) / 2
    error = half / float(stats.t.ppf(0.975, comparison.df))
    return _two_one_sided_tests(comparison.difference, error, comparison.df, margin, comparison.n_runs)


def _two_one_sided_tests(mean: float, error: float, df: float, margin: float, n: int) -> Equivalence:
    if error < 1e-12:
        return Equivalence(mean, mean, mean, float(mean <= -margin), float(mean >= margin), margin, n)
    half = float(stats.t.ppf(0.95, df)) * error
    p_not_worse = float(stats.t.sf((mean + margin) / error, df))
    p_not_better = float(stats.t.cdf((mean - margin) / error, df))
    return Equivalence(mean, mean - half, mean + half, p_not_worse, p_not_better, margin, n)


def _require_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin={margin}: name the largest loss that would not matter, a number above 0")
