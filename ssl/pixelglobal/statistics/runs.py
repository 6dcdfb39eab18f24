"""Claims about methods from independent training runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pixelglobal.statistics.paired import ROUNDING_DECIMALS, Comparison


def compare_runs(means_a: Sequence[float], means_b: Sequence[float]) -> Comparison:
    """A claim about methods: Welch's t over the mean scores of training runs, each run one unit.

    Raises ValueError with fewer than 3 runs a side: the spread between runs cannot be told from two.

    >>> c = compare_runs([0.80, 0.82, 0.81], [0.70, 0.72, 0.71])
    >>> round(c.difference, 3), c.p_value < 0.001
    (0.1, True)
    """
    a, b = (np.round(np.asarray(means, float), ROUNDING_DECIMALS) for means in (means_a, means_b))
    if min(len(a), len(b)) < 3:
        raise ValueError(
            f"{len(a)} and {len(b)} training runs: a claim about methods needs at least 3 runs of each, because the "
            "run is its unit; add seeds, or make a claim about these checkpoints instead"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("the mean score of a run is not finite")
    if np.ptp(a) < 1e-12 and np.ptp(b) < 1e-12:
        same = abs(a.mean() - b.mean()) < 1e-12
        difference = float(a.mean() - b.mean())
        return Comparison(difference, difference, difference, float(same), 0.0, 0.0, len(a) + len(b), "run", "welch")
    result = stats.ttest_ind(a, b, equal_var=False)
    interval = result.confidence_interval()
    u = stats.mannwhitneyu(a, b).statistic
    pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    correction = 1 - 3 / (4 * (len(a) + len(b) - 2) - 1)
    return Comparison(
        float(a.mean() - b.mean()),
        float(interval.low),
        float(interval.high),
        float(result.pvalue),
        float(2 * u / (len(a) * len(b)) - 1),
        float((a.mean() - b.mean()) / pooled * correction),
        len(a) + len(b),
        "run",
        "welch",
    )
