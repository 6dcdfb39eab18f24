"""Paired comparisons with their unit of analysis in the signature. NumPy and SciPy only: arrays in, numbers out.

Slices of one patient are not independent, so the default unit is the patient; "slice" is how the paper tested and is
there to be printed beside it. A test over patients says that one *checkpoint* beats another on patients like these;
that one *method* beats another is a claim over training runs and needs several (`compare_runs`).

Shapes of arrays are in words: observations are scores before averaging, units are what a test takes as independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike
from scipy import stats

from pixelglobal.statistics.intervals import hierarchical_interval, mean_interval

EXACT_UP_TO = 40  # units for which all 2^n sign patterns are counted; 0.2 s
SIGN_FLIPS = 99_999  # drawn above that
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
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: ArrayLike,
    *,
    unit: str = "patient",
    test: str = "sign_flip",
    zeros: str = "pratt",
    n_resamples: int = 10_000,
    n_flips: int = SIGN_FLIPS,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same observations; observation i is of patients[i].

    unit: "patient" averages each patient's differences first; "slice" takes every observation as independent.
    test: two-sided; "sign_flip" permutes the signs of the differences (exact up to 40 units), "wilcoxon" is the
        signed-rank test (exact without ties and zeros up to 50 units), "t" the paired t-test.
    zeros: what the signed-rank test does with differences of 0; "pratt" ranks them, "wilcox" leaves them out.
    n_resamples: of the bootstrap. n_flips: random sign patterns where there are too many to count all.
    The interval resamples patients: BCa where it is defined for unit "patient"; patients and then their slices for
    unit "slice", so that it stays honest where the slice test is not.
    Raises ValueError for unequal lengths, scores that are not finite, fewer than 2 units, and an unknown unit or test.
    Equal scores give p = 1.

    >>> c = compare_paired([0.9, 0.8, 0.7, 0.9], [0.8, 0.7, 0.5, 0.9], ["p", "p", "q", "r"])
    >>> round(c.difference, 3), c.p_value, c.n_units
    (0.1, 0.5, 3)
    """
    a, b, patient_of = np.asarray(scores_a, float), np.asarray(scores_b, float), np.asarray(patients)
    require_pairs(a, b, patient_of)
    differences = np.round(a - b, ROUNDING_DECIMALS)
    rng = np.random.default_rng(seed)
    if unit == "patient":
        differences = np.round(means_by(differences, patient_of), ROUNDING_DECIMALS)
    elif unit != "slice":
        raise ValueError(f"unit={unit!r}: expected patient or slice")
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} {unit}: a comparison needs at least 2 units")
    if unit == "patient":
        low, high = mean_interval(differences, n_resamples, rng)
    else:
        low, high = hierarchical_interval(differences, patient_of, n_resamples, rng)
    return Comparison(
        float(differences.mean()),
        low,
        high,
        paired_p_value(differences, test, zeros, n_flips, rng),
        rank_biserial(differences),
        hedges_gz(differences),
        len(differences),
        unit,
        test,
    )


def means_by(
    values: Float[np.ndarray, " observations"], groups: Shaped[np.ndarray, " observations"]
) -> Float[np.ndarray, " groups"]:
    """Mean of the values of each group, in the order of sorted group names.

    >>> means_by(np.array([1.0, 3.0, 5.0]), np.array(["q", "q", "p"])).tolist()
    [5.0, 2.0]
    """
    _, index = np.unique(groups, return_inverse=True)
    means: np.ndarray = np.bincount(index, values) / np.bincount(index)
    return means


def paired_p_value(
    differences: Float[np.ndarray, " units"], test: str, zeros: str, n_flips: int, rng: np.random.Generator
) -> float:
    """Two-sided p of "the differences are centred at zero".

    Raises ValueError for an unknown test.

    >>> paired_p_value(np.array([1.0, 2.0, 3.0]), "wilcoxon", "pratt", 0, np.random.default_rng(0))
    0.25
    """
    if not differences.any():
        return 1.0
    if test == "sign_flip":
        return sign_flip_p_value(differences, n_flips, rng)
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


def sign_flip_p_value(differences: Float[np.ndarray, " units"], n_flips: int, rng: np.random.Generator) -> float:
    """Sign-flip permutation test of the mean: all 2^n patterns up to 40 units, else (hits + 1) / (n_flips + 1).

    All patterns are counted by meeting in the middle: for each of the 2^(n/2) sums of one half, a binary search among
    the sorted sums of the other half tells with how many it reaches the observed sum (Horowitz and Sahni, Journal of
    the ACM 21, 1974).

    >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0]), 0, np.random.default_rng(0))
    0.25
    """
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()  # sums that differ by rounding are equal
    if observed <= 0:
        return 1.0
    n = len(differences)
    if n <= EXACT_UP_TO:
        one, other = (_sorted_sign_sums(half) for half in (differences[: n // 2], differences[n // 2 :]))
        too_small = np.searchsorted(other, observed - one[::-1]).sum()  # of the upper tail; the lower mirrors it
        return 2 * (len(one) * len(other) - int(too_small)) / 2.0**n
    hits = int((np.abs(random_sign_sums(differences, n_flips, rng)) >= observed).sum())
    return (hits + 1) / (n_flips + 1)


def smallest_p_value(n_units: int, test: str, n_flips: int = SIGN_FLIPS) -> float:
    """The p that the largest possible effect reaches with this many units; 0 where it has no limit.

    >>> smallest_p_value(6, "sign_flip"), smallest_p_value(50, "sign_flip"), smallest_p_value(6, "t")
    (0.03125, 1e-05, 0.0)
    """
    if test == "t":
        return 0.0
    if test == "sign_flip" and n_units > EXACT_UP_TO:
        return 1 / (n_flips + 1)
    return 2 / 2.0**n_units


def _sorted_sign_sums(differences: Float[np.ndarray, " units"]) -> Float[np.ndarray, " 2**units"]:
    """Sums under all 2^n signs, ascending."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    sums.sort()
    return sums


def random_sign_sums(
    differences: Float[np.ndarray, " units"], n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, " {n_resamples}"]:
    """Sums under random signs: a random byte looks up one of the 256 sums of eight differences.

    >>> sorted(set(random_sign_sums(np.array([1.0, 2.0]), 100, np.random.default_rng(0)).tolist()))
    [-3.0, -1.0, 1.0, 3.0]
    """
    signs = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sums = np.zeros(n_resamples)
    for eight in np.pad(differences, (0, -len(differences) % 8)).reshape(-1, 8):
        sums += (signs @ eight)[np.frombuffer(rng.bytes(n_resamples), np.uint8)]
    return sums


def rank_biserial(differences: Float[np.ndarray, " units"]) -> float:
    """Matched-pairs rank-biserial correlation; zeros are left out; 0 if there is nothing else.

    >>> rank_biserial(np.array([1.0, 2.0, -3.0]))
    0.0
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks[moved > 0].sum() - ranks[moved < 0].sum()) / ranks.sum())


def hedges_gz(differences: Float[np.ndarray, " units"]) -> float:
    """Standardised mean difference of pairs with Hedges' small-sample correction; 0 for equal scores.

    Of 1, 2, 3 by hand: mean 2, standard deviation 1, correction 1 - 3 / (4 * 2 - 1) = 4 / 7.

    >>> round(hedges_gz(np.array([1.0, 2.0, 3.0])), 4)
    1.1429
    """
    spread = differences.std(ddof=1)
    if spread < 1e-12:
        return 0.0 if abs(differences.mean()) < 1e-12 else float(np.copysign(np.inf, differences.mean()))
    return float(differences.mean() / spread * (1 - 3 / (4 * (len(differences) - 1) - 1)))


def require_pairs(
    a: Float[np.ndarray, " scores_a"], b: Float[np.ndarray, " scores_b"], patient_of: Shaped[np.ndarray, " patients"]
) -> None:
    """Raise ValueError unless the scores are of the same observations, finite, and each has a patient."""
    if not len(a) == len(b) == len(patient_of):
        raise ValueError(
            f"{len(a)} and {len(b)} scores of {len(patient_of)} observations: paired scores must be of the same ones"
        )
    unknown = sum(patient is None or patient != patient for patient in patient_of.tolist())
    if unknown:
        raise ValueError(
            f"{unknown} of {len(patient_of)} observations have no patient; every score needs its patient's name"
        )
    for name, scores in (("scores_a", a), ("scores_b", b)):
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{name} holds {int((~np.isfinite(scores)).sum())} values that are not finite; decide what an "
                "undefined score means (evaluation gives 0 for a missed structure) before testing"
            )
