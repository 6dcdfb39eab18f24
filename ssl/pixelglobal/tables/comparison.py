"""Rows to the paper's tables: methods x structures, DSC and HD, p-values against a reference method, and a metric card.

A `*` stands only where the reference method gains and the corrected p is under 0.05; a significant loss gets a dagger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.paired import Comparison, compare_paired
from pixelglobal.statistics.runs import compare_runs
from pixelglobal.tables.averages import _mean_of_known, mean_dice, mean_hausdorff_mm
from pixelglobal.tables.metric_card import ALPHA, Claim, metric_card
from pixelglobal.tables.rows import checked, fixed_slices
from pixelglobal.tables.table import DIFFERS, GAIN, LOSS, Table


def comparison_table(
    rows: pd.DataFrame,
    *,
    reference: str,
    title: str = "Comparison",
    unit: Literal["patient", "slice", "both"] = "both",
    test: Literal["sign_flip", "wilcoxon", "t"] = "sign_flip",
    correction: str = "holm",
    claim: Claim = "checkpoint",
    methods: Sequence[str] | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Table:
    """The paper's Table 1 from rows of one cohort; see docs/explanation/significance.md for how to read it.

    reference: the method all others are compared with. unit: whose independence the p-values assume; "both" prints the
    slice test below the patient test. claim: "checkpoint" pairs runs of equal seed and averages each patient over
    them; "method" takes the training run as the unit and needs 3 runs of each method.
    """
    rows = checked(rows, reference)
    if unit != "patient" and not (rows["slice_index"] >= 0).any():
        raise ValueError(
            f"unit={unit!r}, but there are no rows of slices (slice_index 0, 1, ...; -1 is a whole volume): choose "
            "unit=patient"
        )
    methods = list(methods or [m for m in dict.fromkeys(rows["method"]) if m != reference] + [reference])
    structures = list(dict.fromkeys(rows["structure"]))
    volumes = rows[rows["slice_index"] == -1]
    fixed = fixed_slices(rows, methods)
    shown = fixed if unit == "slice" else volumes
    units: list[str] = ["patient", "slice"] if unit == "both" else [unit]
    tests = []
    for u in units:
        rows_of_unit = fixed if u == "slice" else volumes
        scores = _Scores.of(rows_of_unit)
        for method in methods:
            if method != reference:
                for structure in [*structures, "Average"]:
                    if claim == "method":
                        result: Comparison | None = _compare_methods(rows_of_unit, method, reference, structure)
                    else:
                        result = _compare(scores, method, reference, structure, u, test, n_resamples, seed)
                    if result is not None:
                        tests.append({"method": method, "structure": structure, "asked_unit": u, **vars(result)})
    comparisons = pd.DataFrame(tests, columns=None if tests else ["method", "structure", "asked_unit"])
    if len(comparisons):
        for u in units:  # each way of testing is a family of its own
            family = comparisons["asked_unit"] == u
            p_values = comparisons.loc[family, "p_value"].to_numpy()
            comparisons.loc[family, "corrected_p"] = correct_p_values(p_values, correction)
    frame, best = _frame(shown, comparisons, methods, structures, reference, units)
    card = metric_card(rows, volumes, fixed, unit, test, correction, claim, len(comparisons) // max(1, len(units)))
    caption = (
        f"DSC in %, HD in mm; p-values compare {reference} with each method on DSC. "
        f"'{GAIN}': {reference} is better, '{LOSS}': worse, corrected p < {ALPHA}. "
        + (
            "The claim is about these checkpoints, not about further trainings."
            if claim == "checkpoint"
            else "The claim is about the methods: the training run is the unit."
        )
    )
    return Table(title, caption, card, frame, comparisons, best)


@dataclass(frozen=True)
class _Scores:
    """DSC points of all methods on the same observations; a row is one structure of one slice or volume in one run."""

    points: dict[str, np.ndarray]  # NaN where a method has none
    structure: np.ndarray
    patient: np.ndarray
    place: np.ndarray  # which slice or volume

    @staticmethod
    def of(rows: pd.DataFrame) -> _Scores:
        index = ["patient", "case", "slice_index", "structure", "seed"]
        wide = rows.set_index([*index, "method"])["dice"].unstack("method").reset_index()
        place = wide.groupby(["patient", "case", "slice_index"], sort=False).ngroup().to_numpy()
        points = {method: wide[method].to_numpy() * 100 for method in rows["method"].unique()}
        return _Scores(points, wide["structure"].to_numpy(), pd.factorize(wide["patient"])[0], place)

    def paired(self, a: str, b: str, structure: str, by_patient: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(points of a, points of b, patients): means over seeds, and over structures for the average."""
        known = np.isfinite(self.points[a]) & np.isfinite(self.points[b])
        if structure != "Average":
            known &= self.structure == structure
        patient = self.patient[known]
        place = patient if structure == "Average" and by_patient else self.place[known]
        _, first, group = np.unique(place, return_index=True, return_inverse=True)
        count = np.bincount(group)
        means = [np.bincount(group, self.points[m][known]) / count for m in (a, b)]
        return means[0], means[1], patient[first]


def _compare(
    scores: _Scores, method: str, reference: str, structure: str, unit: str, test: str, n_resamples: int, seed: int
) -> Comparison | None:
    """Reference minus method in DSC points, on what both have scores of; None if fewer than 2 patients have any."""
    a, b, patients = scores.paired(reference, method, structure, by_patient=unit == "patient")
    if len(np.unique(patients)) < 2:
        return None
    return compare_paired(
        a,
        b,
        patients,
        unit="slice" if unit == "slice" else "patient",
        test=test,  # type: ignore[arg-type]
        n_resamples=n_resamples,
        seed=seed,
    )


def _compare_methods(rows: pd.DataFrame, method: str, reference: str, structure: str) -> Comparison | None:
    """Reference minus method in DSC points, the training run being the unit; None if a run has no score."""
    wanted = rows if structure == "Average" else rows[rows["structure"] == structure]
    means = wanted.groupby(["method", "seed", "structure"])["dice"].mean().groupby(["method", "seed"]).mean() * 100
    if means[[reference, method]].isna().any():
        return None
    return compare_runs(means[reference].to_list(), means[method].to_list())


def _frame(
    shown: pd.DataFrame,
    comparisons: pd.DataFrame,
    methods: Sequence[str],
    structures: Sequence[str],
    reference: str,
    units: Sequence[str],
) -> tuple[pd.DataFrame, frozenset[tuple[int, str]]]:
    averages = {m: _average_dice(shown[shown["method"] == m], structures) for m in methods}
    lines: list[dict[str, str]] = []
    numbers: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for method in methods:
        of_method = shown[shown["method"] == method]
        values = {s: mean_dice(of_method[of_method["structure"] == s]) for s in structures}
        values["Average"] = averages[method]
        distances = {s: mean_hausdorff_mm(of_method[of_method["structure"] == s]) for s in structures}
        missed = sum(count for _, count in distances.values())
        distances["Average"] = (_mean_of_known([d for d, _ in distances.values()]), missed)
        for c, v in values.items():
            numbers.setdefault(("DSC", c), []).append((round(v, 2), len(lines)))
            numbers.setdefault(("HD", c), []).append((-round(distances[c][0], 2), len(lines) + 1))
        lines.append({"method": method, "metric": "DSC (%)", **{c: _number(v) for c, v in values.items()}})
        lines.append({"method": "", "metric": "HD (mm)", **{c: _distance(*d) for c, d in distances.items()}})
        if method != reference:
            printed = averages[reference] - averages[method]
            tested = [_p_cells(comparisons, method, u, [*structures, "Average"], printed) for u in units]
            for u, cells in zip(units, tested, strict=True):
                own = {c: text + _difference(text, tested[0][c]) for c, text in cells.items()}
                lines.append({"method": "", "metric": "p" if len(units) == 1 else f"p, {u}s", **own})
    best = {
        (row, column)
        for (_, column), found in numbers.items()
        for value, row in found
        if len(found) > 1 and value == max(v for v, _ in found)
    }
    return pd.DataFrame(lines, columns=["method", "metric", *structures, "Average"]), frozenset(best)


def _average_dice(of_method: pd.DataFrame, structures: Sequence[str]) -> float:
    return _mean_of_known([mean_dice(of_method[of_method["structure"] == s]) for s in structures])


def _p_cells(
    comparisons: pd.DataFrame, method: str, unit: str, columns: Sequence[str], printed: float
) -> dict[str, str]:
    """The p-values of a row. The test of the average weighs patients, the printed average structures: where patients
    lack structures and the two differ in sign (`printed`: the printed difference), a mark would mislead."""
    own = comparisons[(comparisons["method"] == method) & (comparisons["asked_unit"] == unit)]
    found = {row.structure: p_text(row.corrected_p, row.difference) for row in own.itertuples()}
    if len(average := own[own["structure"] == "Average"]) and average["difference"].iloc[0] * printed <= 0:
        found["Average"] = found["Average"].rstrip(GAIN + LOSS)
    return {column: found.get(column, "not tested") for column in columns}


def _difference(text: str, first: str) -> str:
    """A sign behind a p-value whose mark is not that of the first way of testing."""
    marks = [t[-1] if t.endswith((GAIN, LOSS)) else "" for t in (text, first)]
    return "" if marks[0] == marks[1] else f" {DIFFERS}"


def _number(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.2f}"


def _distance(mean_mm: float, missed: int) -> str:
    return _number(mean_mm) + (f" ({missed} missed)" if missed else "")


def p_text(p: float, difference: float) -> str:
    """A p-value with its mark.

    >>> p_text(0.004, 1.0), p_text(0.0002, -1.0), p_text(0.3, 1.0)
    ('0.004*', '<0.001†', '0.300')
    """
    mark = "" if p >= ALPHA else GAIN if difference > 0 else LOSS
    return ("<0.001" if p < 0.001 else f"{p:.3f}") + mark
