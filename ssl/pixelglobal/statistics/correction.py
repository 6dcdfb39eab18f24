"""Adjusted p-values of a family of comparisons."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats


def correct_p_values(p_values: ArrayLike, method: str = "holm") -> Float[np.ndarray, " comparisons"]:
    """Adjusted p-values of one family: "holm" (family-wise error), "bh" (false discoveries) or "none".

    Raises ValueError for values outside [0, 1], NaN among them, and for an unknown method.

    >>> correct_p_values([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    if not np.isfinite(p).all() or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p-values must lie in [0, 1], got {p.tolist()}; leave out comparisons that were not made")
    if method == "none":
        return p.copy()
    if method == "bh":
        return np.asarray(stats.false_discovery_control(p, axis=None)) if len(p) else p.copy()
    if method == "holm":
        order = np.argsort(p, kind="stable")
        stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum(stepped, 1.0)
        return adjusted
    raise ValueError(f"correction={method!r}: expected holm, bh or none")
