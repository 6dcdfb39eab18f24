"""Intervals of a mean from few patients, or from slices of patients.

Shapes of arrays are in words: observations are scores before averaging, units are what is taken as independent.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

POOL = 200  # resamples of each patient's slices that a hierarchical bootstrap draws from


def mean_interval(
    differences: Float[np.ndarray, " units"], n_resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean: BCa, widened for few units; the t interval for fewer than 10.

    Of 1, 2, 3 by hand: 2 -+ 4.303 / sqrt(3), 4.303 being the t quantile of 2 degrees of freedom.

    >>> [round(end, 2) for end in mean_interval(np.array([1.0, 2.0, 3.0]), 0, np.random.default_rng(0))]
    [-0.48, 4.48]
    """
    if np.ptp(differences) < 1e-12:
        return float(differences[0]), float(differences[0])
    n = len(differences)
    if n < 10:
        half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
        return float(differences.mean() - half), float(differences.mean() + half)
    result = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=n_resamples,
        batch=max(1, 10_000_000 // n),
        confidence_level=1 - 2 * widened_tail(n),
        method="BCa",
        rng=rng,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def widened_tail(n_units: int) -> float:
    """The tail that 95 % percentile intervals of a mean need so that they hold for few units as well.

    A bootstrap of n units spreads by the factor sqrt((n - 1) / n) too little and has normal instead of t tails
    (Hesterberg, The American Statistician 69, 2015).

    >>> round(widened_tail(10), 4), round(widened_tail(1000), 4)
    (0.0086, 0.0248)
    """
    return float(stats.norm.cdf(np.sqrt(n_units / (n_units - 1)) * stats.t.ppf(0.025, n_units - 1)))


def hierarchical_interval(
    differences: Float[np.ndarray, " observations"],
    patients: Shaped[np.ndarray, " observations"],
    n_resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over slices: patients are drawn, then slices within each drawn patient.

    Each patient's slices are resampled `POOL` times beforehand and drawn from that pool. Equal slices leave only the
    draw of patients, and equal patients a point:

    >>> hierarchical_interval(np.array([2.0, 2.0, 2.0]), np.array(["p", "p", "q"]), 10, np.random.default_rng(0))
    (2.0, 2.0)
    """
    names, index = np.unique(patients, return_inverse=True)
    n = len(names)
    if n < 2 or np.ptp(differences) < 1e-12:
        mean = float(differences.mean())
        return (mean, mean) if n > 1 or len(differences) == 1 else (-float("inf"), float("inf"))
    pool = np.empty((n, POOL))
    for i in range(n):
        of_patient = differences[index == i]
        n_slices = len(of_patient)
        pool[i] = of_patient[rng.integers(0, n_slices, (POOL, n_slices))].sum(1)
    drawn = rng.integers(0, n, (n_resamples, n))
    totals = pool[drawn, rng.integers(0, POOL, (n_resamples, n))].sum(1)
    means = totals / np.bincount(index)[drawn].sum(1)
    tail = widened_tail(n)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
