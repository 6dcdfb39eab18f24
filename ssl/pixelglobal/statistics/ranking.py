"""Many methods on many structures: mean ranks, and by how much they must differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pixelglobal.statistics.paired import ROUNDING_DECIMALS


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods (1 is best); two differ if their ranks differ by more than `critical_difference`."""

    mean_ranks: tuple[float, ...]
    p_value: float  # Friedman: are all methods alike?
    critical_difference: float  # Nemenyi, alpha = 0.05
    n_blocks: int


def rank_methods(scores: ArrayLike) -> Ranking:
    """Friedman's test and Nemenyi's critical difference, as in Demsar (JMLR 7, 2006); higher scores are better.

    scores: [blocks, methods]; a block is what all methods were tried on, such as one structure of one cohort. Raises
    ValueError for fewer than 3 methods or 2 blocks, or scores that are not finite.

    >>> r = rank_methods([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.9, 0.6, 0.8]])
    >>> [round(m, 2) for m in r.mean_ranks], round(r.critical_difference, 2)
    ([1.0, 2.33, 2.67], 1.91)
    """
    table = np.asarray(scores, float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3 or not np.isfinite(table).all():
        raise ValueError(
            f"scores of shape {table.shape}: ranks need finite scores of at least 2 blocks (rows) and 3 methods "
            "(columns); leave out blocks that a method lacks"
        )
    n, k = table.shape
    table = np.round(table, ROUNDING_DECIMALS)
    ranks = stats.rankdata(-table, axis=1)
    tied = np.ptp(table, axis=1).max() == 0
    p = 1.0 if tied else float(stats.friedmanchisquare(*table.T).pvalue)
    q = stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    return Ranking(tuple(ranks.mean(0).tolist()), p, float(q * np.sqrt(k * (k + 1) / (6 * n))), n)
