"""Claims about methods: multi-reader multi-case analysis with training runs as readers and test patients as cases.

That one method beats another is a claim over training runs *and* over patients: a repetition would draw both anew.
Radiology has the analysis for it (Dorfman, Berbaum and Metz 1992; Obuchowski and Rockette 1995; Hillis, Statistics in
Medicine 26, 2007). In the complete table of M methods, R runs and P patients a difference of two methods has the
variance

    2 / (R P) x ( MS(method x run) + max(MS(method x patient) - MS(rest), 0) )

and, divided by its error, follows a t distribution. The degrees of freedom are Hillis' with two guards, both found by
simulation (experiments/bench/method_claims.py): the patients' term counts with its own degrees of freedom (without it,
8 patients on whom methods differ by 3 points give 7 to 8 % false alarms), and MS(method x run) counts there as no
smaller than MS(rest), because it estimates that plus something.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from pixelglobal.statistics.anova import (
    Names,
    Scores,
    VarianceComponents,
    mean_squares,
    score_table,
    variance_components,
)
from pixelglobal.statistics.contrast import UNEQUAL, Contrast, contrast_of, fold_contrast, unequal_spreads
from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.dunnett import dunnett_p_value

FEWEST_RUNS = 3
ENOUGH_RUNS = 6  # from here on a pair's own error is known well enough


@dataclass(frozen=True)
class MethodComparison:
    """Mean score of method_a minus that of method_b, in the unit of the scores, with its 95 % interval.

    p_value: two-sided, of this contrast alone, like low and high. p_adjusted: within all contrasts of the call, by
    `adjustment`. analysis: "pair" (error of these two methods), "pooled" (error of all methods of the table) or
    "folds". components: of the methods that gave the error; None for folds. note: why the error was not pooled, or "".
    """

    method_a: str
    method_b: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    adjustment: Literal["dunnett", "holm"]
    df: float
    n_runs: int
    n_patients: int
    components: VarianceComponents | None
    analysis: Literal["pair", "pooled", "folds"]
    note: str


def compare_methods(
    scores: Scores,
    *,
    methods: Names,
    runs: Names,
    patients: Names,
    folds: Names | None = None,
    shared_runs: bool = True,
    pooled: bool | None = None,
    reference: Hashable | None = None,
) -> list[MethodComparison]:
    """Does a method beat another? One result for the reference against each other method, or for all pairs.

    scores: one a method, run and patient, such as the mean Dice over the patient's structures; methods, runs, patients
    (and folds) have the same length. The three layouts:
    * shared runs (seeds): run "3" of every method drew the same labelled patients and the same order, and its luck
      cancels in the difference. All methods need all runs.
    * shared_runs=False: a run belongs to one method; names may repeat or differ, equal numbers are needed.
    * folds: cross-validation, each patient tested in one fold by a model trained on the others, once a run (seed) and
      fold. The unit is the fold, averaged over runs and patients, because patients of a fold share their model. The
      variance of the K fold means counts (1 / K + 1 / (K - 1)) times instead of 1 / K, with K - 1 degrees of freedom:
      the folds' training sets overlap (Nadeau and Bengio, Machine Learning 52, 2003). No estimate without bias exists
      (Bengio and Grandvalet 2004). Simulated false alarms with 5 folds and 3 runs are 1.4 % where it does not matter to
      the difference which patients trained, 3.5 % where it matters a third as much as the luck of a run and 9 % where
      two thirds; with 10 folds 1, 6 and 21 %: prefer 5. Fold sizes may differ by a factor of 2.

    pooled: None takes the error of the pair from 6 runs on, and below it the error of all methods of the table, which
    knows the spread of runs from more of them; True pools at any number of runs and False never. It is not pooled
    where one method's runs spread more than the others' (`unequal_spreads` below 0.1); the note then says so. Two
    methods are a pair either way. Where all contrasts against a reference are pooled, p_adjusted is Dunnett's,
    otherwise Holm's.
    Raises ValueError for fewer than 3 runs (or folds), 2 methods or 2 patients, an unknown reference, and rows that do
    not make a complete table (see `anova.score_table`).

    By hand: a minus b is 2, 4, 3 in the runs and 2, 2, 5 on the patients, so MS(method x run) = 3 (1 + 1 + 0) / 2 / 2,
    MS(method x patient) = 3 (1 + 1 + 4) / 2 / 2 and MS(rest) = 4 / 2 / 4: the variance is 2 / 9 x (1.5 + 4.5 - 0.5),
    with 5.5^2 / (1.5^2 / 2 + 4^2 / 2) = 3.3 degrees of freedom, whose t for 95 % is 3.02.

    >>> a, b = [[4, 6, 8], [6, 8, 10], [5, 7, 9]], [[2, 6, 4], [4, 4, 4], [3, 5, 4]]
    >>> rows = [(s, m, r, p) for m, t in (("a", a), ("b", b)) for r, row in enumerate(t) for p, s in enumerate(row)]
    >>> s, m, r, p = zip(*rows)
    >>> [c] = compare_methods(s, methods=m, runs=r, patients=p)
    >>> c.difference, round(c.low, 2), round(c.high, 2), round(c.p_value, 3)
    (3.0, -0.34, 6.34, 0.065)
    """
    if folds is not None:
        if pooled or not shared_runs:
            raise ValueError("folds allow neither pooled=True nor shared_runs=False: the unit is the fold of a pair")
        return _compare_folds(scores, methods, runs, patients, folds, reference)
    table, names, _ = score_table(scores, methods, runs, patients, shared_runs=shared_runs)
    _require_enough(table)
    pooling = len(names) > 2 and (table.shape[1] < ENOUGH_RUNS if pooled is None else pooled)
    note = _refusal(table, names, shared_runs) if pooling else ""
    pairs = _pairs(names, reference)
    contrasts = [contrast_of(table, i, j, shared_runs=shared_runs, pooled=pooling) for i, j in pairs]
    return _results(names, pairs, contrasts, table, shared_runs, note)


def adjusted_p_values(
    family: Sequence[MethodComparison],
) -> tuple[Float[np.ndarray, " contrasts"], Literal["dunnett", "holm"]]:
    """p of the contrasts of one family: Dunnett's for one method against others with one pooled error, else Holm's.

    The family may be a part of the contrasts of a call, such as those that a study declared as primary.

    >>> rng = np.random.default_rng(0)
    >>> m, r, p = (axis.ravel() for axis in np.indices((4, 3, 8)))
    >>> found = compare_methods(rng.normal(size=m.size), methods=m, runs=r, patients=p, reference=0)
    >>> p_values, how = adjusted_p_values(found)
    >>> how, np.allclose(p_values, [one.p_adjusted for one in found])
    ('dunnett', True)
    """
    errors = {(one.method_a, one.df, one.analysis) for one in family}
    half_widths = np.array([(one.high - one.low) / 2 for one in family])
    if len(errors) == 1 and family[0].analysis == "pooled" and (half_widths > 0).all():
        df = family[0].df
        t = np.array([one.difference for one in family]) * stats.t.ppf(0.975, df) / half_widths
        return dunnett_p_value(t, len(t), df), "dunnett"
    return correct_p_values([one.p_value for one in family]), "holm"


def _require_enough(table: Float[np.ndarray, "methods runs patients"]) -> None:
    """ValueError for fewer runs or patients than a claim about methods needs."""
    _, n_runs, n_patients = table.shape
    if n_runs < FEWEST_RUNS:
        raise ValueError(
            f"{n_runs} training runs a method: a claim about methods needs at least {FEWEST_RUNS}, because the spread "
            "between runs cannot be told from fewer; add seeds, or make a claim about these checkpoints "
            "(paired.compare_paired)"
        )
    if n_patients < 2:
        raise ValueError(f"{n_patients} patients: a claim about methods needs at least 2")


def _refusal(table: Float[np.ndarray, "methods runs patients"], names: Sequence[Hashable], shared_runs: bool) -> str:
    """Why the error of this table is not pooled, or "" where it is."""
    p = unequal_spreads(table, shared_runs=shared_runs)
    if p.min() >= UNEQUAL:
        return ""
    return (
        f"error not pooled over {len(names)} methods: the runs of {names[int(p.argmin())]} spread more than those of "
        f"the others (p = {p.min():.2g})"
    )


def _pairs(names: Sequence[Hashable], reference: Hashable | None) -> list[tuple[int, int]]:
    """Positions of the methods of each contrast."""
    if len(names) < 2:
        raise ValueError(f"{len(names)} methods: a comparison needs at least 2")
    if reference is None:
        return list(combinations(range(len(names)), 2))
    if reference not in names:
        raise ValueError(f"reference={reference!r} is not among the methods {', '.join(map(str, names))}")
    first = names.index(reference)
    return [(first, i) for i in range(len(names)) if i != first]


def _results(
    names: Sequence[Hashable],
    pairs: Sequence[tuple[int, int]],
    contrasts: Sequence[Contrast],
    table: Float[np.ndarray, "methods runs patients"],
    shared_runs: bool = True,
    note: str = "",
    *,
    folds: bool = False,
) -> list[MethodComparison]:
    """The contrasts of one table with names, adjusted p and variance components."""
    results = []
    for (i, j), contrast in zip(pairs, contrasts, strict=True):
        low, high = contrast.interval()
        used = table if contrast.pooled else table[[i, j]]
        results.append(
            MethodComparison(
                method_a=str(names[i]),
                method_b=str(names[j]),
                difference=float(contrast.difference),
                low=float(low),
                high=float(high),
                p_value=float(contrast.p_value()),
                p_adjusted=float("nan"),  # until all are known
                adjustment="holm",
                df=float(contrast.df),
                n_runs=table.shape[1],
                n_patients=table.shape[2],
                components=None if folds else variance_components(mean_squares(used, shared_runs=shared_runs)),
                analysis="folds" if folds else "pooled" if contrast.pooled else "pair",
                note=note,
            )
        )
    p_adjusted, adjustment = adjusted_p_values(results)
    pairs_of_p = zip(results, p_adjusted, strict=True)
    return [replace(one, p_adjusted=float(p), adjustment=adjustment) for one, p in pairs_of_p]


def _compare_folds(
    scores: Scores, methods: Names, runs: Names, patients: Names, folds: Names, reference: Hashable | None
) -> list[MethodComparison]:
    """Contrasts of a cross-validation: the corrected variance of Nadeau and Bengio over fold means."""
    table, names, people = score_table(scores, methods, runs, patients)
    fold_of = _fold_of(patients, folds)
    labels = list(dict.fromkeys(fold_of.values()))
    members = [[i for i, person in enumerate(people) if fold_of[person] == fold] for fold in labels]
    n_folds, sizes = len(labels), [len(own) for own in members]
    if n_folds < FEWEST_RUNS:
        raise ValueError(f"{n_folds} folds: a claim about methods needs at least {FEWEST_RUNS}, each tested once")
    if max(sizes) > 2 * min(sizes):
        raise ValueError(f"folds of {min(sizes)} to {max(sizes)} patients: they may differ by a factor of 2 at most")
    pairs = _pairs(names, reference)
    contrasts = [fold_contrast((table[i] - table[j]).mean(0), members) for i, j in pairs]
    return _results(names, pairs, contrasts, table, folds=True)


def _fold_of(patients: Names, folds: Names) -> dict[Hashable, Hashable]:
    """Each patient's fold; ValueError if the lengths differ or a patient is in two."""
    owners, labels = (np.asarray(names, object).tolist() for names in (patients, folds))
    if len(owners) != len(labels):
        raise ValueError(f"{len(labels)} folds of {len(owners)} rows: expected one a row")
    found: dict[Hashable, Hashable] = {}
    for person, fold in zip(owners, labels, strict=True):
        if found.setdefault(person, fold) != fold:
            raise ValueError(
                f"patient {person} is tested in folds {found[person]} and {fold}: each patient needs one fold, the "
                "same for all methods and runs; partitions that change from run to run are not supported, because "
                "their training sets overlap in two ways"
            )
    return found
