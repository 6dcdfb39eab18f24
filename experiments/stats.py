"""Paired comparisons with their unit of analysis in the signature. NumPy and SciPy only: arrays in, numbers out.

Slices of one patient are not independent, so the default unit is the patient; "slice" is how the paper tested and is
there to be printed beside it. A test over patients says that one *checkpoint* beats another on patients like these;
that one *method* beats another is a claim over training runs and needs several (`compare_runs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Unit = Literal["patient", "slice"]
Test = Literal["sign_flip", "wilcoxon", "t"]

EXACT_UP_TO = 20  # units for which all 2^n sign patterns are enumerated
POOL = 200  # resamples of each patient's slices that a hierarchical bootstrap draws from
ROUNDING_DECIMALS = 10  # differences that differ only by floating-point noise are ties


@dataclass(frozen=True)
class Comparison:
    """Scores a minus scores b. `low` and `high` bound the mean difference with 95 % confidence."""

    difference: float
    low: float
    high: float
    p_value: float
    rank_biserial: float  # matched pairs: (favourable - unfavourable rank sum) / all, in [-1, 1]
    hedges_gz: float  # mean difference in standard deviations of the differences, corrected for few units
    n_units: int
    unit: str
    test: str


def compare_paired(
    scores_a: Sequence[float] | np.ndarray,
    scores_b: Sequence[float] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    *,
    unit: Unit = "patient",
    test: Test = "sign_flip",
    zeros: Literal["wilcox", "pratt"] = "pratt",
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same observations; patients[i] owns observation i.

    unit: "patient" averages each patient's differences first; "slice" takes every observation as independent.
    test: two-sided; "sign_flip" permutes the signs of the differences (exact up to 20 units), "wilcoxon" is the
        signed-rank test (exact without ties and zeros up to 50 units), "t" the paired t-test.
    The interval resamples patients: BCa where it is defined for unit "patient"; patients and then their slices for
    unit "slice", so that it stays honest where the slice test is not.
    Raises ValueError for unequal lengths, scores that are not finite, and fewer than 2 units. Equal scores give p = 1.

    >>> c = compare_paired([0.9, 0.8, 0.7, 0.9], [0.8, 0.7, 0.5, 0.9], ["p", "p", "q", "r"])
    >>> round(c.difference, 3), c.p_value, c.n_units
    (0.1, 0.5, 3)
    """
    a, b, owners = np.asarray(scores_a, float), np.asarray(scores_b, float), np.asarray(patients)
    require_pairs(a, b, owners)
    differences = np.round(a - b, ROUNDING_DECIMALS)
    rng = np.random.default_rng(seed)
    if unit == "patient":
        differences = np.round(means_by(differences, owners), ROUNDING_DECIMALS)
    elif unit != "slice":
        raise ValueError(f"unit={unit!r}: expected patient or slice")
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} {unit}: a comparison needs at least 2 units")
    if unit == "patient":
        low, high = mean_interval(differences, n_resamples, rng)
    else:
        low, high = hierarchical_interval(differences, owners, n_resamples, rng)
    return Comparison(
        float(differences.mean()),
        low,
        high,
        paired_p_value(differences, test, zeros, n_resamples, rng),
        rank_biserial(differences),
        hedges_gz(differences),
        len(differences),
        unit,
        test,
    )


def means_by(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of the values of each group, in the order of sorted group names.

    >>> means_by(np.array([1.0, 3.0, 5.0]), np.array(["q", "q", "p"])).tolist()
    [5.0, 2.0]
    """
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, values) / np.bincount(index)


def paired_p_value(differences: np.ndarray, test: str, zeros: str, n_resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p of "the differences are centred at zero".

    >>> paired_p_value(np.array([1.0, 2.0, 3.0]), "wilcoxon", "pratt", 0, np.random.default_rng(0))
    0.25
    """
    if not differences.any():
        return 1.0
    if test == "sign_flip":
        return sign_flip_p_value(differences, n_resamples, rng)
    if test == "wilcoxon":
        ties = len(np.unique(np.abs(differences))) < len(differences) or (differences == 0).any()
        method = "exact" if not ties and len(differences) <= 50 else "asymptotic"
        if ties and len(differences) <= 13:
            method = stats.PermutationMethod(n_resamples=np.inf)
        return float(stats.wilcoxon(differences, zero_method=zeros, method=method).pvalue)
    if test == "t":
        if np.ptp(differences) < 1e-12:
            return 0.0
        return float(stats.ttest_1samp(differences, 0.0).pvalue)
    raise ValueError(f"test={test!r}: expected sign_flip, wilcoxon or t")


def sign_flip_p_value(differences: np.ndarray, n_resamples: int, rng: np.random.Generator) -> float:
    """Sign-flip permutation test of the mean; all 2^n patterns up to 20 units, else (hits + 1) / (resamples + 1).

    >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0]), 0, np.random.default_rng(0))
    0.25
    """
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()  # sums that differ by rounding are equal
    if len(differences) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])
        return float((np.abs(sums) >= observed).mean())
    hits = int((np.abs(random_sign_sums(differences, n_resamples, rng)) >= observed).sum())
    return (hits + 1) / (n_resamples + 1)


def random_sign_sums(differences: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Sums under random signs [n_resamples]: a random byte looks up one of the 256 sums of eight differences.

    >>> sorted(set(random_sign_sums(np.array([1.0, 2.0]), 100, np.random.default_rng(0)).tolist()))
    [-3.0, -1.0, 1.0, 3.0]
    """
    signs = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sums = np.zeros(n_resamples)
    for eight in np.pad(differences, (0, -len(differences) % 8)).reshape(-1, 8):
        sums += (signs @ eight)[np.frombuffer(rng.bytes(n_resamples), np.uint8)]
    return sums


def mean_interval(differences: np.ndarray, n_resamples: int, rng: np.random.Generator) -> tuple[float, float]:
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
    differences: np.ndarray, patients: np.ndarray, n_resamples: int, rng: np.random.Generator
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
        own = differences[index == i]
        pool[i] = own[rng.integers(0, len(own), (POOL, len(own)))].sum(1)
    drawn = rng.integers(0, n, (n_resamples, n))
    totals = pool[drawn, rng.integers(0, POOL, (n_resamples, n))].sum(1)
    means = totals / np.bincount(index)[drawn].sum(1)
    tail = widened_tail(n)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation; zeros are left out; 0 if there is nothing else.

    >>> rank_biserial(np.array([1.0, 2.0, -3.0]))
    0.0
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks[moved > 0].sum() - ranks[moved < 0].sum()) / ranks.sum())


def hedges_gz(differences: np.ndarray) -> float:
    """Standardised mean difference of pairs with Hedges' small-sample correction; 0 for equal scores.

    Of 1, 2, 3 by hand: mean 2, standard deviation 1, correction 1 - 3 / (4 * 2 - 1) = 4 / 7.

    >>> round(hedges_gz(np.array([1.0, 2.0, 3.0])), 4)
    1.1429
    """
    spread = differences.std(ddof=1)
    if spread < 1e-12:
        return 0.0 if abs(differences.mean()) < 1e-12 else float(np.copysign(np.inf, differences.mean()))
    return float(differences.mean() / spread * (1 - 3 / (4 * (len(differences) - 1) - 1)))


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


def correct_p_values(p_values: Sequence[float] | np.ndarray, method: str = "holm") -> np.ndarray:
    """Adjusted p-values of one family: "holm" (family-wise error), "bh" (false discoveries) or "none".

    >>> correct_p_values([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    if not np.isfinite(p).all() or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p-values must lie in [0, 1], got {p_values}; leave out comparisons that were not made")
    if method == "none":
        return p.copy()
    if method == "bh":
        return stats.false_discovery_control(p, axis=None) if len(p) else p.copy()
    if method == "holm":
        order = np.argsort(p, kind="stable")
        stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum(stepped, 1.0)
        return adjusted
    raise ValueError(f"correction={method!r}: expected holm, bh or none")


def require_pairs(a: np.ndarray, b: np.ndarray, owners: np.ndarray) -> None:
    """Raise ValueError unless the scores are of the same observations, finite, and each has a patient."""
    if not len(a) == len(b) == len(owners):
        raise ValueError(
            f"{len(a)} and {len(b)} scores of {len(owners)} observations: paired scores must be of the same ones"
        )
    unknown = sum(owner is None or owner != owner for owner in owners.tolist())
    if unknown:
        raise ValueError(
            f"{unknown} of {len(owners)} observations have no patient; every score needs its patient's name"
        )
    for name, scores in (("scores_a", a), ("scores_b", b)):
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{name} holds {int((~np.isfinite(scores)).sum())} values that are not finite; decide what an "
                "undefined score means (evaluation gives 0 for a missed structure) before testing"
            )
