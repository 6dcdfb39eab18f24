"""Significance tables of rows, one a cohort, the files they are written to, and what a table does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.files import write_file
from pixelglobal.statistics import planning, power
from pixelglobal.statistics.margins import compare_with_margin, methods_with_margin
from pixelglobal.tables.averages import ScoreTable, score_table
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.contrasts import Claim, claim_of, method_contrasts
from pixelglobal.tables.learning_curve import learning_table
from pixelglobal.tables.lesions import lesion_table
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.owed_scores import Missing, owed_scores
from pixelglobal.tables.rows import complete_rows
from pixelglobal.tables.table import Table


def cohorts_of(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each cohort with its name; two cohorts may have cases of the same name."""
    if "cohort" not in rows.columns:
        return [("", rows)]
    return [(str(cohort), part) for cohort, part in rows.groupby("cohort", sort=False)]


def significance_tables(rows: pd.DataFrame, *, reference: str, unit: str = "patient", **how: Any) -> list[Table]:
    """One table for each cohort that the rows name, and one of its lesions if they are counted.

    Rows with several numbers of labelled patients give a learning table. unit and `how` go to `comparison_table`.
    """
    tables = []
    for cohort, part in cohorts_of(rows):
        title = cohort or "Significance"
        if "labelled_patients" in part.columns and part["labelled_patients"].nunique() > 1:
            of_curve = {name: value for name, value in how.items() if name != "test"}
            tables.append(learning_table(part, reference=reference, title=title, **of_curve))
        else:
            tables.append(comparison_table(part, reference=reference, title=title, unit=unit, **how))  # type: ignore[arg-type]
            lesions = lesion_table(part, title=title)
            tables += [] if lesions is None else [lesions]
    return tables


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Each table as table_N.md, .tex, .csv, .html, and every test behind it as table_N.comparisons.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, table in enumerate(tables, 1):
        for ending, text in (
            ("md", table.to_markdown()),
            ("tex", table.to_latex()),
            ("csv", table.to_csv()),
            ("html", table.to_html()),
            ("comparisons.csv", table.comparisons_csv()),
        ):
            written.append(write_file(folder / f"table_{i}.{ending}", text))
    return written


def further_answers(
    rows: pd.DataFrame,
    *,
    reference: str,
    gain: float | None = None,
    margin: float | None = None,
    claim: Claim | None = None,
    metric: str = "dice",
    missing: Missing = "refuse",
) -> Iterator[str]:
    """Sentences about the average of every other method in rows of one cohort that the table does not hold.

    margin: is the reference worse by less than this? gain: how many runs or patients would show it? Both are answered
    for the claim that the table makes, in the unit of the metric. A gain that no number shows is a sentence, no error.
    """
    rows = complete_rows(rows)
    methods = [m for m in rows["method"].unique() if m != reference] + [reference]
    owed = owed_scores(rows, methods, missing=missing, with_slices=False)
    structures = owed.volumes["structure"].unique().tolist()
    claim, table, _ = claim_of(score_table(owed.volumes, metric_of(metric), methods, structures), claim)
    for method in methods[:-1]:
        if margin is not None:
            yield f"{reference} against {method}: {_margin_sentence(table, reference, method, claim, margin)}"
        if gain is not None:
            try:
                yield f"{reference} against {method}: {_gain_sentence(table, reference, method, claim, gain)}"
            except ValueError as error:
                yield f"{reference} against {method}: {error}"


def _differences(table: ScoreTable, reference: str, method: str) -> np.ndarray:
    """What the reference gains on each patient, over runs."""
    sign = 1 if table.metric.higher_is_better else -1
    a, b = (sign * table.unit_means(m, None) for m in (reference, method))
    return np.asarray(a - b)


def _margin_sentence(table: ScoreTable, reference: str, method: str, claim: Claim, margin: float) -> str:
    if claim == "method":
        contrasts = {str(c.method_b): c for c in method_contrasts(table, reference, None)}
        if method not in contrasts:
            return "not tested"
        contrast = contrasts[method]
        e = methods_with_margin(contrast, margin=margin)
        of = f"{contrast.n_runs} runs and {contrast.n_patients} patients, a claim about the methods"
    else:
        differences = _differences(table, reference, method)
        n = len(differences)
        e = compare_with_margin(differences, np.zeros(n), np.arange(n), margin=margin)
        of = f"{n} patients, a claim about these checkpoints"
    return (
        f"{e.difference:+.2f} {table.metric.points} (90 % interval {e.low:.2f} to {e.high:.2f}; {of}); not worse by "
        f"{margin:g} or more: p = {e.p_not_worse:.4f}; nor better, so equivalent: p = {e.p_equivalent:.4f}"
    )


def _gain_sentence(table: ScoreTable, reference: str, method: str, claim: Claim, gain: float) -> str:
    what = f"show a gain of {gain:g} {table.metric.points} with 80 % power"
    if claim == "checkpoint":
        differences = _differences(table, reference, method)
        needed = power.required_patients(differences, gain=gain)
        return f"{needed} test patients {what}, if they spread as these {len(differences)}"
    runs_of, parts = {}, {}
    for m in (reference, method):
        runs_of[m], parts[m] = table.independent_runs(m, None)
    patients = table.patients[table.units_with(None)]
    pilot: dict[str, Any] = {
        "methods": np.repeat(list(parts), [part.size for part in parts.values()]),
        "runs": np.concatenate([np.repeat(runs_of[m], len(patients)) for m in parts]),
        "patients": np.concatenate([np.tile(patients, len(part)) for part in parts.values()]),
        "shared_runs": runs_of[reference] == runs_of[method],
    }
    plan = planning.required_runs(np.concatenate([p.ravel() for p in parts.values()]), **pilot, gain=gain)
    runs = len(parts[reference])
    most = "more than 500" if plan.high is None else str(plan.high)
    return (
        f"{plan.needed} runs a method {what} on {len(patients)} patients, if runs spread as these {runs} "
        f"(from {plan.low} to {most} by what so few runs know of their spread)"
    )
