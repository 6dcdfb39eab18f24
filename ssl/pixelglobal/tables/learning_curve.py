"""What each method reaches with few labelled patients and with many, and what the reference gains over the others."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pixelglobal.tables.averages import ScoreTable, score_table
from pixelglobal.tables.comparison_frame import gain_text, p_of
from pixelglobal.tables.contrasts import AVERAGE, Claim, claim_of, contrasts_of_checkpoints, contrasts_of_methods
from pixelglobal.tables.families import ALPHA, Family, with_families
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.metric_card import absent_scores, runs_a_method, unreachable
from pixelglobal.tables.owed_scores import Missing, OwedScores, owed_scores
from pixelglobal.tables.rows import complete_rows
from pixelglobal.tables.table import GAIN, LOSS, Table


def learning_table(
    rows: pd.DataFrame,
    *,
    reference: str,
    title: str,
    metric: str = "dice",
    claim: Claim | None = None,
    primary: Sequence[str] | None = None,
    family: Family = "holm",
    correction: str = "holm",
    missing: Missing = "refuse",
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Table:
    """The average for each number of labelled patients, and the gain of the reference over each other method.

    rows: those of one cohort with the column labelled_patients. claim: None is "method" where every method has 3 runs
    or more at every number of patients, else "checkpoint"; the table makes one claim. All contrasts of the primary
    methods at all numbers of patients are one family. The other arguments are those of `comparison_table`.
    """
    curve = points_of(rows, metric=metric, missing=missing)
    methods = [m for m in rows["method"].unique() if m != reference] + [reference]
    if reference not in rows["method"].unique():
        raise ValueError(f"reference={reference!r} is not among the methods {', '.join(sorted(methods[:-1]))}")
    compared = {n: table for n, (table, _) in curve.items() if reference in table.values and len(table.values) > 1}
    claims = [claim_of(table, claim)[0] for table in compared.values()]
    made: Claim = "method" if claims and set(claims) == {"method"} else "checkpoint"
    tests = []
    for count, table in compared.items():
        _, kept, _ = claim_of(table, made)
        if made == "method":
            of_count = contrasts_of_methods(kept, reference, averages_only=True)
        else:
            of_count = contrasts_of_checkpoints(kept, reference, unit="patient", test="sign_flip", averages_only=True,
                                            n_resamples=n_resamples, seed=seed)  # fmt: skip
        tests += [record | {"labelled_patients": count} for record in of_count]
        curve[count] = kept, curve[count][1]
    comparisons = pd.DataFrame(tests)
    if tests:
        one_family = comparisons.drop(columns="dunnett_p", errors="ignore")
        comparisons = with_families(
            one_family, list(primary) if primary is not None else methods[:-1], family=family, correction=correction
        )
    frame = _frame({n: table for n, (table, _) in curve.items()}, comparisons, methods, reference)
    return Table(title, _caption(metric, reference, made), _card(curve, comparisons, made, correction), frame,
                 comparisons, frozenset())  # fmt: skip


def points_of(
    rows: pd.DataFrame, *, metric: str = "dice", missing: Missing = "refuse"
) -> dict[int, tuple[ScoreTable, OwedScores]]:
    """For each number of labelled patients, ascending, the scores of all methods on the test patients."""
    curve = {}
    for count, part in sorted(rows.groupby("labelled_patients"), key=lambda group: group[0]):
        part = complete_rows(part, f"the rows of {count} labelled patients")
        methods = part["method"].unique().tolist()
        owed = owed_scores(part, methods, missing=missing, with_slices=False)
        structures = owed.volumes["structure"].unique().tolist()
        curve[int(count)] = score_table(owed.volumes, metric_of(metric), methods, structures), owed
    return curve


def _frame(
    curve: dict[int, ScoreTable], comparisons: pd.DataFrame, methods: Sequence[str], reference: str
) -> pd.DataFrame:
    lines = []
    label = next(iter(curve.values())).metric.label
    for method in methods:
        means = {_column(n): f"{t.mean(method, None):.2f}" for n, t in curve.items() if method in t.values}
        lines.append({"method": method, "metric": label, **means})
        tests = comparisons[comparisons["method"] == method] if len(comparisons) else comparisons
        if len(tests):
            by_column = {_column(test.labelled_patients): test for test in tests.itertuples()}
            gains = {column: gain_text(test) for column, test in by_column.items()}
            ps = {column: p_of(test) for column, test in by_column.items()}
            lines += [{"method": "", "metric": f"{reference} gains", **gains}, {"method": "", "metric": "p", **ps}]
    return pd.DataFrame(lines, columns=["method", "metric", *map(_column, curve)]).fillna("")


def _card(
    curve: dict[int, tuple[ScoreTable, OwedScores]], comparisons: pd.DataFrame, claim: Claim, correction: str
) -> tuple[str, ...]:
    tables = [table for table, _ in curve.values()]
    runs = dict.fromkeys(runs_a_method({m: len(r) for m, r in table.runs.items()}) for table in tables)
    patients = dict.fromkeys(f"{len(table.patients)} test patients" for table in tables)
    how = (
        "multi-reader multi-case analysis, training runs as readers and patients as cases"
        if claim == "method"
        else "sign-flip permutation of the mean, paired, over patients"
    )
    return (
        f"{'; '.join(patients)}; {'; '.join(runs)} and number of labelled patients",
        f"{tables[0].metric.definition}, 3-D on the grid of the original scan; {AVERAGE.lower()}: mean over "
        "structures of means over patients and runs; a missed structure has DSC 0",
        *dict.fromkeys(line for _, owed in curve.values() for line in absent_scores(owed)),
        f"Test: {how}, two-sided; {correction} correction over the {len(comparisons)} comparisons of this table",
        *(unreachable(comparisons) if len(comparisons) else []),
    )


def _caption(metric: str, reference: str, claim: Claim) -> str:
    about = (
        "The claim is about the methods: another training and other patients would show it again."
        if claim == "method"
        else "The claim is about these checkpoints, not about further trainings."
    )
    return (
        f"Average {metric_of(metric).label} by number of labelled patients, and gains of {reference} with 95 % "
        f"intervals. '{GAIN}': {reference} is better, '{LOSS}': worse, corrected p < {ALPHA}. {about}"
    )


def _column(count: int) -> str:
    return f"{count} patient{'s' if count > 1 else ''}"
