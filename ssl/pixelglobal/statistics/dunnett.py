"""Dunnett's adjustment: several methods against one reference, with an error that all of them share.

The t of the contrasts have correlation 1/2, because each holds the same reference and the design is balanced
(Dunnett, Journal of the American Statistical Association 50, 1955). `scipy.stats.dunnett` takes raw samples of a
one-way layout only; here t may come from any analysis, and its degrees of freedom may be fractions.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

Z, Z_WEIGHTS = np.polynomial.legendre.leggauss(96)
Z, Z_WEIGHTS = 8.5 * Z, 8.5 * Z_WEIGHTS * stats.norm.pdf(8.5 * Z)  # the reference's own standard normal error
NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)
RANGE = 1e-12  # probability left out at each end of the distribution of the estimated spread


def dunnett_p_value(t: ArrayLike, n_contrasts: int, df: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Two-sided adjusted p: the chance that the largest |t| of the contrasts reaches each given t if no method differs.

    t, df: arrays of one shape (or that broadcast). n_contrasts: methods against the reference. One contrast gives the
    p of Student's t. Raises ValueError for no contrast or df that are not positive.

    >>> float(dunnett_p_value(2.306, 1, 8).round(3)), float(dunnett_p_value(2.94, 4, 10).round(3))
    (0.05, 0.046)
    """
    t, df = np.broadcast_arrays(np.abs(np.asarray(t, float)), np.asarray(df, float))
    if n_contrasts < 1 or not (df > 0).all():
        raise ValueError(f"{n_contrasts} contrasts, df={df}: expected at least 1 contrast and positive df")
    if n_contrasts == 1:
        return np.asarray(2 * stats.t.sf(t, df), float)
    p = [1 - _all_within(limit, n_contrasts, freedom) for limit, freedom in zip(t.flat, df.flat, strict=True)]
    return np.asarray(np.clip(np.reshape(p, t.shape), 0.0, 1.0))


def dunnett_critical_value(n_contrasts: int, df: float, alpha: float = 0.05) -> float:
    """The |t| that all contrasts together exceed with probability alpha if no method differs.

    >>> round(dunnett_critical_value(3, 20), 2)  # Dunnett's table of 1964
    2.54
    """

    def too_often(t: float) -> float:
        return float(dunnett_p_value(t, n_contrasts, df)) - alpha

    largest = float(stats.t.isf(alpha / (2 * n_contrasts), df))  # Bonferroni's is never smaller
    return float(optimize.brentq(too_often, 0.0, largest + 1e-6, xtol=1e-8))


def _all_within(limit: float, n_contrasts: int, df: float) -> float:
    """P(max |t| <= limit), integrated over the reference's error z and the estimated spread s.

    Given z and s, the contrasts are independent: |x_i - z| <= sqrt(2) limit s.
    """
    if np.isinf(df):
        s, density = np.ones(1), np.ones(1)
    else:
        low, high = np.sqrt(stats.chi2.ppf([RANGE, 1 - RANGE], df) / df)
        s = low + (high - low) * (NODES + 1) / 2
        density = stats.chi.pdf(s * np.sqrt(df), df) * np.sqrt(df) * WEIGHTS * (high - low) / 2
    reach = np.sqrt(2) * limit * s[:, None]
    inside = special.ndtr(Z + reach) - special.ndtr(Z - reach)
    return float(density @ (inside**n_contrasts @ Z_WEIGHTS))
