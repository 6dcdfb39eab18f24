"""Every test behind a table: the reference against each other method, on each structure and on the average.

A claim about *methods* takes training runs and patients as random (`mrmc.compare_methods`); a claim about
*checkpoints* takes the patients (or, as the paper does, the slices) of the runs that there are. A positive difference
is a gain of the reference, for distances as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pixelglobal.statistics.false_claims import probability_of_false_claim
from pixelglobal.statistics.mrmc import FEWEST_RUNS, MethodComparison, compare_methods
from pixelglobal.statistics.paired import SIGN_FLIPS, compare_paired, smallest_p_value
from pixelglobal.tables.averages import ScoreTable

Claim = Literal["checkpoint", "method"]  # what a star is about
Unit = Literal["patient", "slice"]
Test = Literal["sign_flip", "wilcoxon", "t"]
AVERAGE = "Average"
SLICE_SIGN_FLIPS = 9_999  # thousands of slices take their time, and nothing is claimed from them


def claim_of(table: ScoreTable, asked: Claim | None) -> tuple[Claim, ScoreTable, str]:
    """What the scores allow a claim about: the claim, the scores that it uses, and what was left out for it.

    asked: None is "method" where every method has 3 runs or more (or 3 folds), else "checkpoint". A claim about methods
    is made on the runs (seeds) that all methods share; where these are fewer than 3, each method's first runs, as many
    as the one with the fewest has, are compared as unshared. Raises ValueError for "method" with fewer than 3 runs.
    """
    fewest = min(len(table.independent_runs(method, None)[0]) for method in table.runs)
    if asked == "checkpoint" or len(table.values) < 2:
        return "checkpoint", table, ""
    folds = len(set(table.folds.tolist())) if table.folds is not None else 0
    if fewest < FEWEST_RUNS and folds < FEWEST_RUNS:
        if asked == "method":
            counts = ", ".join(f"{method} {len(table.independent_runs(method, None)[0])}" for method in table.runs)
            raise ValueError(
                f"claim=method with too few training runs ({counts}): a claim about methods needs at least "
                f"{FEWEST_RUNS} runs of each; add seeds, or choose claim=checkpoint"
            )
        return "checkpoint", table, ""
    shared = sorted(set.intersection(*(set(runs) for runs in table.runs.values())))
    if len(shared) >= FEWEST_RUNS or (folds >= FEWEST_RUNS and shared):
        kept = dict.fromkeys(table.runs, shared)
    else:
        kept = {method: runs[:fewest] for method, runs in table.runs.items()}
    left_out = {m: len(runs) - len(kept[m]) for m, runs in table.runs.items() if len(runs) > len(kept[m])}
    note = ", ".join(f"{count} of {method}" for method, count in left_out.items())
    return "method", table.with_runs(kept), f"Runs that not all methods share are left out: {note}" if note else ""


def method_contrasts(
    table: ScoreTable, reference: str, structure: str | None, *, others: Sequence[str] | None = None
) -> list[MethodComparison]:
    """The reference against each other method at the level of methods; empty with fewer than 2 patients.

    Distances are negated, so that more is better. others: the methods of the table besides the reference.
    """
    methods = [reference, *(others if others is not None else [m for m in table.values if m != reference])]
    patients = table.patients[table.units_with(structure)]
    independent = [table.independent_runs(method, structure) for method in methods]
    runs, parts = zip(*independent, strict=True)
    few = min(map(len, runs)) < FEWEST_RUNS and table.folds is None  # a structure that most draws did not label
    if few or len(patients) < 2 or not all(np.isfinite(part).all() for part in parts):
        return []
    sign = 1 if table.metric.higher_is_better else -1
    shared = len(set(map(tuple, runs))) == 1
    folds = None if table.folds is None else table.folds[table.units_with(structure)]
    if folds is not None and len(set(folds.tolist())) >= FEWEST_RUNS:
        by_fold: dict[str, Any] = {"folds": np.concatenate([np.tile(folds, len(part)) for part in parts])}
    else:
        by_fold = {"shared_runs": shared}
    return compare_methods(
        sign * np.concatenate([part.ravel() for part in parts]),
        methods=np.repeat(methods, [part.size for part in parts]),
        runs=np.concatenate([np.repeat(of_method, len(patients)) for of_method in runs]),
        patients=np.concatenate([np.tile(patients, len(part)) for part in parts]),
        reference=reference,
        **by_fold,
    )


def contrasts_of_methods(table: ScoreTable, reference: str, *, averages_only: bool = False) -> list[dict[str, Any]]:
    """One record a structure and method, the average last, of claims about methods."""
    records = []
    for structure in [*([] if averages_only else table.structures), None]:
        for c in method_contrasts(table, reference, structure):
            records.append(
                {"method": str(c.method_b), "structure": structure or AVERAGE, "asked_unit": "patient",
                 "difference": c.difference, "low": c.low, "high": c.high, "p_value": c.p_value,
                 "false_claim": c.p_value / 2, "n_units": c.n_runs, "unit": "run", "test": f"mrmc {c.analysis}",
                 "n_runs": c.n_runs, "n_patients": c.n_patients, "df": c.df, "smallest_p": 0.0,
                 "dunnett_p": c.p_adjusted if c.adjustment == "dunnett" else np.nan, "note": c.note}
            )  # fmt: skip
    return records


def contrasts_of_checkpoints(
    table: ScoreTable,
    reference: str,
    *,
    unit: Unit,
    test: Test,
    n_resamples: int,
    seed: int,
    averages_only: bool = False,
) -> list[dict[str, Any]]:
    """One record a structure and method, the average last, of claims about these checkpoints; runs are averaged."""
    records = []
    sign = 1 if table.metric.higher_is_better else -1
    for method in (m for m in table.values if m != reference):
        for structure in [*([] if averages_only else table.structures), None]:
            a, b = (sign * table.unit_means(m, structure) for m in (reference, method))
            patients = table.patients[table.units_with(structure)]
            if len(np.unique(patients)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
                continue
            flips = SIGN_FLIPS if unit == "patient" else SLICE_SIGN_FLIPS
            c = compare_paired(a, b, patients, unit=unit, test=test, n_resamples=n_resamples, n_flips=flips, seed=seed)
            records.append(
                {"method": method, "structure": structure or AVERAGE, "asked_unit": unit, **vars(c),
                 "false_claim": probability_of_false_claim(*((a, b) if c.difference >= 0 else (b, a))),
                 "n_runs": min(len(table.runs[reference]), len(table.runs[method])),
                 "n_patients": len(np.unique(patients)), "smallest_p": smallest_p_value(c.n_units, test, flips)}
            )  # fmt: skip
    return records
