"""What each method reaches with few labelled patients and with many, and what the reference gains over the others."""

from __future__ import annotations

import pandas as pd

from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.paired import compare_paired
from pixelglobal.tables.averages import patient_points
from pixelglobal.tables.comparison import p_text
from pixelglobal.tables.metric_card import ALPHA
from pixelglobal.tables.table import GAIN, LOSS, Table


def learning_table(
    rows: pd.DataFrame,
    *,
    reference: str,
    title: str,
    correction: str = "holm",
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Table:
    """Average DSC for each number of labelled patients, and the gain of the reference over each other method.

    rows: those of one cohort with the column labelled_patients. The unit is the patient, averaged over structures and
    runs; p-values are corrected over all numbers of patients and methods together.
    """
    points = points_of(rows)
    methods = [m for m in dict.fromkeys(rows["method"]) if m != reference] + [reference]
    tests = []
    for count, table in points.items():
        for method in methods[:-1]:
            if {method, reference} <= set(table.columns):
                pair = table[[reference, method]].dropna()
                if len(pair) < 2:
                    continue
                found = compare_paired(pair[reference], pair[method], pair.index, n_resamples=n_resamples, seed=seed)
                tests.append({"method": method, "structure": "Average", "labelled_patients": count, **vars(found)})
    comparisons = pd.DataFrame(tests)
    if len(comparisons):
        comparisons["corrected_p"] = correct_p_values(comparisons["p_value"].to_numpy(), correction)
    lines = []
    for method in methods:
        values = {_column(n): f"{t[method].mean():.2f}" for n, t in points.items() if method in t.columns}
        lines.append({"method": method, "metric": "DSC (%)", **values})
        own = comparisons[comparisons["method"] == method] if len(comparisons) else comparisons
        if len(own):
            gains, ps = {}, {}
            for test in own.itertuples():
                column = _column(test.labelled_patients)
                gains[column] = f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"
                ps[column] = p_text(test.corrected_p, test.difference)
            lines.append({"method": "", "metric": f"{reference} gains", **gains})
            lines.append({"method": "", "metric": "p, patients", **ps})
    frame = pd.DataFrame(lines, columns=["method", "metric", *map(_column, points)]).fillna("")
    seeds = rows.groupby(["method", "labelled_patients"])["seed"].nunique()
    card = (
        f"{rows['patient'].nunique()} test patients; "
        f"{seeds.min() if seeds.min() == seeds.max() else f'{seeds.min()} to {seeds.max()}'} training runs a method "
        "and number of labelled patients",
        "DSC is 3-D on the grid of the original scan, a mean over structures and runs of each patient; a missed "
        "structure has DSC 0",
        "Gain: mean difference over patients in DSC points, with its 95 % interval (BCa, widened for few patients)",
        f"Test: sign-flip permutation of the mean, two-sided, paired, over patients; {correction} correction over the "
        f"{len(comparisons)} comparisons of this table",
    )
    caption = (
        f"Average DSC by number of labelled patients. '{GAIN}': {reference} is better, '{LOSS}': worse, corrected "
        f"p < {ALPHA}. The claim is about these checkpoints, not about further trainings."
    )
    return Table(title, caption, card, frame, comparisons, frozenset())


def points_of(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """For each number of labelled patients, ascending, the DSC points of test patients x methods."""
    return {
        int(count): patient_points(part, list(dict.fromkeys(part["method"])))
        for count, part in sorted(rows.groupby("labelled_patients"), key=lambda group: group[0])
    }


def _column(count: int) -> str:
    return f"{count} patient{'s' if count > 1 else ''}"
