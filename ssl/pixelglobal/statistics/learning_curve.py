"""How many labelled patients a wanted score takes, from the scores with some numbers of them.

The error falls as a power of the number of patients, error = a x n^-b, which learning curves of deep networks follow
over wide ranges (Hestness et al. 2017, https://arxiv.org/abs/1712.00409). A power law is a straight line in logarithms;
beyond the numbers that were measured it is an extrapolation, and no curve falls below the error of the contours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PatientsNeeded:
    """needed: labelled patients at which the curve reaches the wanted error; low, high: its 95 % interval.

    Infinite where the curve does not fall, or not within a million patients. exponent: b of the power law.
    """

    needed: float
    low: float
    high: float
    exponent: float


def patients_for_error(
    errors: Float[np.ndarray, "counts runs patients"],
    counts: Sequence[int],
    wanted_error: float,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> PatientsNeeded:
    """The number of labelled patients for a mean error, from errors of runs on test patients at some counts.

    The same runs (seeds) and test patients are at all counts. The interval is the percentile interval of a bootstrap
    that draws runs and test patients anew, each with replacement. Raises ValueError for fewer than 2 counts, and for
    errors that are not positive.

    >>> curve = np.array([40.0, 20.0, 10.0])[:, None, None] * np.ones((3, 2, 4))  # halved by four times the patients
    >>> result = patients_for_error(curve, [1, 4, 16], 5.0)
    >>> round(result.needed, 6), round(result.low, 6), round(result.exponent, 6)
    (64.0, 64.0, 0.5)
    """
    if len(counts) < 2 or len(counts) != len(errors):
        raise ValueError(f"a learning curve needs scores at 2 numbers of labelled patients or more; got {list(counts)}")
    if wanted_error <= 0 or errors.mean((1, 2)).min() <= 0:
        raise ValueError("a power law has no point with an error of 0; ask for less than a perfect score")
    rng = np.random.default_rng(seed)
    n_runs, n_patients = errors.shape[1:]
    drawn = []
    for _ in range(n_resamples):
        runs, patients = rng.integers(0, n_runs, n_runs), rng.integers(0, n_patients, n_patients)
        drawn.append(_needed(errors[:, runs][:, :, patients].mean((1, 2)), counts, wanted_error)[0])
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")  # of what was drawn: some may be infinite
    needed, exponent = _needed(errors.mean((1, 2)), counts, wanted_error)
    return PatientsNeeded(needed, float(low), float(high), exponent)


def _needed(means: Float[np.ndarray, " counts"], counts: Sequence[int], wanted: float) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log(counts), np.log(np.maximum(means, 1e-6)), 1)
    if slope >= 0:
        return math.inf, float(-slope)
    logarithm = (math.log(wanted) - intercept) / slope
    return (math.exp(logarithm) if logarithm < math.log(1e6) else math.inf), float(-slope)
