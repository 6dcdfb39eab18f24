"""How many more patients to contour for a wanted Dice, and how many hours that takes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pixelglobal.statistics.learning_curve import patients_for_error
from pixelglobal.tables.learning_curve import points_of


def patients_needed(rows: pd.DataFrame, method: str, wanted_dice: float, hours_per_patient: float) -> str:
    """Sentences for a method, from rows with the column labelled_patients, such as those of the study low_data.

    wanted_dice: in per cent, of the average over structures. Raises ValueError if the rows do not say how many patients
    were labelled, are of several cohorts, lack the method, or have it at one number of patients only.
    """
    if "labelled_patients" not in rows.columns:
        raise ValueError("the rows have no column labelled_patients; give those of the study low_data")
    if "cohort" in rows.columns and rows["cohort"].nunique() > 1:
        raise ValueError(f"the rows are of the cohorts {', '.join(sorted(rows['cohort'].unique()))}; give those of one")
    if method not in set(rows["method"]):
        raise ValueError(f"--method {method}: expected one of {', '.join(sorted(set(rows['method'])))}")
    if not 0 < wanted_dice < 100:
        raise ValueError(f"--wanted-dice {wanted_dice:g}: expected a number of per cent between 0 and 100")
    curve = {n: table for n, (table, _) in points_of(rows[rows["method"] == method]).items()}
    counts, runs = list(curve), set.intersection(*(set(table.runs[method]) for table in curve.values()))
    if not runs or len({tuple(table.patients) for table in curve.values()}) > 1:
        raise ValueError(f"the rows of {method} have no run and no test patients in common at {counts} patients")
    scores = np.stack([table.with_runs({method: sorted(runs)}).contributions(method, None) for table in curve.values()])
    result = patients_for_error(100 - scores, counts, 100 - wanted_dice)
    most, means = max(counts), scores.mean((1, 2))
    measured = ", ".join(f"{mean:.1f} % with {n}" for n, mean in zip(counts, means, strict=True))
    span = f"{_words(result.low)} to {_words(result.high)}"
    hours = [max(0.0, n - most) * hours_per_patient for n in (result.needed, result.low, result.high)]
    far = "" if result.needed <= 4 * most else (
        f" This is more than 4 times the {most} patients that were measured, so it is a guess."
    )  # fmt: skip
    return (
        f"An average DSC of {wanted_dice:g} % takes {_words(result.needed)} labelled patients ({span}, 95 % interval), "
        f"{_words(max(0.0, result.needed - most))} more than the {most} that were measured: "
        f"{_words(hours[0])} hours of contouring ({_words(hours[1])} to {_words(hours[2])}) at {hours_per_patient:g} "
        f"hours a patient. A power law through {method}: {measured}; {len(runs)} runs, {scores.shape[2]} test "
        f"patients.{far}"
    )


def _words(number: float) -> str:
    return "more than a million" if math.isinf(number) else f"{math.ceil(number - 1e-9):,}"
