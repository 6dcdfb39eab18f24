"""How many test patients a study needs, from how the observed ones spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def required_patients(
    differences: ArrayLike,
    *,
    gain: float,
    power: float = 0.8,
    alpha: float = 0.05,
    n_simulations: int = 2000,
    largest: int = 5000,
    seed: int = 0,
) -> int:
    """How many test patients would show a mean gain of `gain` with this power, if they spread as the observed ones.

    differences: one mean difference of each observed patient, in the unit of `gain`. They are moved to the mean `gain`
    and drawn again and again; the test is the paired t, which agrees with sign flips. At least 6, since 5 patients
    cannot give p < 0.05 by sign flips. Raises ValueError if `largest` patients are not enough, or gain is 0.

    >>> required_patients([-1.0, 1.0, -2.0, 2.0, -3.0, 3.0] * 5, gain=1.0) > 30
    True
    """
    observed = np.asarray(differences, float)
    if len(observed) < 2 or not np.isfinite(observed).all():
        raise ValueError(f"{len(observed)} differences: at least 2 finite ones are needed to know how patients spread")
    if gain == 0:
        raise ValueError("gain=0: no number of patients shows that there is nothing; see margins.compare_with_margin")
    moved = observed - observed.mean() + gain

    def power_of(n: int) -> float:
        draws = np.random.default_rng([seed, n]).choice(moved, (n_simulations, n))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = draws.mean(1) / (draws.std(1, ddof=1) / np.sqrt(n))
        return float((np.sign(gain) * t > stats.t.ppf(1 - alpha / 2, n - 1)).mean())

    low, high = 5, 6  # low is too few
    while power_of(high) < power:
        low, high = high, high * 2
        if low >= largest:
            raise ValueError(f"even {largest} patients would not show a gain of {gain:g} with a power of {power:g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high
