"""One difference of two methods with its error: from the mean squares of runs and patients, or from folds.

The error of two methods alone, or of all methods of the table where their runs spread alike. `mrmc` makes claims of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from pixelglobal.statistics.anova import MeanSquares, PerRound, mean_squares

UNEQUAL = 0.1  # a p of equal spreads below this refuses the pooled error
ROUNDING = 1e-12  # of the largest score: differences below are floating-point noise


@dataclass(frozen=True)
class Contrast:
    """One difference of two methods in each table."""

    difference: PerRound
    standard_error: PerRound
    df: PerRound
    pooled: Bool[np.ndarray | np.bool_, "*#rounds"]

    def p_value(self, true_difference: float = 0.0) -> PerRound:
        """Two-sided p of the hypothesis that the methods differ by `true_difference`."""
        distance = np.abs(self.difference - true_difference)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stats.t.sf(distance / self.standard_error, self.df)
        return np.where(self.standard_error > 0, p, np.where(distance > 0, 0.0, 1.0))

    def interval(self) -> tuple[PerRound, PerRound]:
        """The ends of the 95 % interval."""
        half = stats.t.ppf(0.975, self.df) * self.standard_error
        return self.difference - half, self.difference + half


def contrast_of(
    table: Float[np.ndarray, "*rounds methods runs patients"],
    first: int,
    second: int,
    *,
    shared_runs: bool = True,
    pooled: bool = False,
) -> Contrast:
    """Method `first` minus `second` in each table; pooled only in tables whose spreads look equal."""
    pair = table[..., [first, second], :, :]
    variance, df = difference_error(mean_squares(pair, shared_runs=shared_runs))
    kept = np.zeros(variance.shape, bool)
    if pooled and table.shape[-3] > 2:
        kept = unequal_spreads(table, shared_runs=shared_runs).min(-1) >= UNEQUAL
        variance_of_all, df_of_all = difference_error(mean_squares(table, shared_runs=shared_runs))
        variance, df = np.where(kept, variance_of_all, variance), np.where(kept, df_of_all, df)
    means = pair.mean((-2, -1))
    difference = means[..., 0] - means[..., 1]
    noise = ROUNDING * np.abs(pair).max((-3, -2, -1))
    error = np.sqrt(variance)
    return Contrast(np.where(np.abs(difference) > noise, difference, 0), np.where(error > noise, error, 0), df, kept)


def difference_error(ms: MeanSquares) -> tuple[PerRound, PerRound]:
    """Variance of a difference of two methods, and its degrees of freedom.

    With the mean squares 3 (method x run), 3 (method x patient) and 1 (rest) of 2 methods, 2 runs and 3 patients the
    variance is 2 / 6 x (3 + 2), and the degrees of freedom 5^2 / (3^2 / 1 + 2^2 / 2); Hillis' are 5^2 / (3^2 / 1).

    >>> variance, df = difference_error(mean_squares(np.array([[[4.0, 6, 8], [6, 8, 10]], [[2, 6, 4], [4, 4, 4]]])))
    >>> round(float(variance), 3), round(float(df), 3)
    (1.667, 2.273)
    """
    runs, patients = ms.method_run, np.maximum(ms.method_patient - ms.rest, 0.0)
    at_least = np.maximum(runs, ms.rest)
    spread = at_least**2 / ms.df_method_run + patients**2 / ms.df_method_patient
    with np.errstate(invalid="ignore"):
        df = np.where(spread > 0, (at_least + patients) ** 2 / spread, ms.df_method_run)
    return 2 * (runs + patients) / (ms.n_runs * ms.n_patients), df


def unequal_spreads(
    table: Float[np.ndarray, "*rounds methods runs patients"], *, shared_runs: bool = True
) -> Float[np.ndarray, "*rounds methods"]:
    """For each of M > 2 methods: p of "its runs spread no more than the others'", times M.

    The spread is that of the mean scores over patients, for shared runs after the level of each run is taken out
    (Shukla, Heredity 29, 1972): an F test of the method against all others, with Bonferroni's factor, at most 1.

    >>> calm = [[0.0, 0.1, 0.2], [0.2, 0.1, 0.0], [0.1, 0.2, 0.0], [0.0, 0.2, 0.1]]
    >>> wild = [[9.0, 0.0, 0.0]]
    >>> table = np.array(calm + wild)[:, :, None].repeat(2, axis=2)
    >>> (unequal_spreads(table) < 0.05).tolist()
    [False, False, False, False, True]
    """
    m, r = table.shape[-3:-1]
    means = table.mean(-1)
    effects: np.ndarray = means - means.mean(-1, keepdims=True)
    if shared_runs:
        effects = effects - effects.mean(-2, keepdims=True)
    squares = (effects**2).sum(-1)
    own = squares * (m / (m - 1) if shared_runs else 1.0)
    others = np.maximum(squares.sum(-1, keepdims=True) - own, 0.0)
    df_own, df_others = r - 1, (m - 1 - shared_runs) * (r - 1)
    noise = (ROUNDING * np.abs(table).max((-3, -2, -1)))[..., None] ** 2
    ratio = (own / df_own) / np.maximum(others / df_others, noise + np.finfo(float).tiny)
    p: np.ndarray = np.where(own > noise, stats.f.sf(ratio, df_own, df_others), 1.0)
    return np.asarray(np.minimum(m * p, 1.0))


def fold_contrast(differences: Float[np.ndarray, "*rounds patients"], members: Sequence[Sequence[int]]) -> Contrast:
    """Contrast of differences, averaged over runs; members: positions of the patients of each fold.

    By hand: folds with the means 1, 2, 3 have the variance 1, times 1 / 3 + 1 / 2.

    >>> c = fold_contrast(np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), [[0, 1], [2, 3], [4, 5]])
    >>> round(float(c.standard_error**2), 4), float(c.df)
    (0.8333, 2.0)
    """
    k = len(members)
    means = np.stack([differences[..., list(own)].mean(-1) for own in members], axis=-1)
    difference, error = differences.mean(-1), np.sqrt(means.var(-1, ddof=1) * (1 / k + 1 / (k - 1)))
    noise = ROUNDING * np.abs(differences).max(-1)
    return Contrast(difference, np.where(error > noise, error, 0.0), np.asarray(k - 1.0), np.zeros(error.shape, bool))
