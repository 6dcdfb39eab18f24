"""Rows to the paper's tables: methods x structures, DSC and HD, p-values against a reference method, and a metric card.

A `*` stands only where the reference method gains and the corrected p is under 0.05; a significant loss gets a dagger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from experiments.metric_card import ALPHA, Claim, metric_card
from experiments.printing import DIFFERS, GAIN, LOSS, Table
from experiments.stats import Comparison, compare_paired, compare_runs, correct_p_values

KEYS = ["method", "seed", "case", "patient", "slice_index", "structure"]
NEEDED = ["method", "case", "structure", "dice"]


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


def checked(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The contoured rows with all columns; ValueError for missing ones, an unknown reference or rows that stand twice.

    Where the rows do not say, a case is a patient, there is one training run, a row is a whole volume, and distances
    are unknown.
    """
    missing = [c for c in NEEDED if c not in rows.columns]
    if missing:
        raise ValueError(f"the rows lack the columns {', '.join(missing)}; needed are {', '.join(NEEDED)}")
    usual = {"patient": rows["case"], "seed": 0, "slice_index": -1, "hausdorff_mm": np.nan}
    rows = rows.assign(**{column: value for column, value in usual.items() if column not in rows.columns})
    if reference not in set(rows["method"]):
        raise ValueError(f"reference={reference!r} is not among the methods {', '.join(sorted(set(rows['method'])))}")
    if "contoured" in rows.columns:
        rows = rows[rows["contoured"].astype(bool)]
    twice = rows.duplicated(KEYS)
    if twice.any():
        first = rows[twice].iloc[0]
        raise ValueError(
            f"{int(twice.sum())} rows stand twice, the first: {', '.join(f'{k}={first[k]}' for k in KEYS)}; "
            "each method, seed, case, slice and structure may have one row"
        )
    return rows


def fixed_slices(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """2-D rows on one set of slices for all methods: every slice where the reference or any method has the structure.

    A method with nothing there, where there is nothing, is right: Dice 1, distance 0. Without this, a false alarm of
    one method would drop the pair in which the other was right. Where a method misses the structure of a patient in
    every slice, its empty slices are no merit: Dice 0, distance infinite.
    """
    slices = rows[(rows["slice_index"] >= 0) & rows["method"].isin(methods)]
    place = ["case", "patient", "slice_index", "structure"]
    runs = slices[["method", "seed"]].drop_duplicates()
    every = slices[place].drop_duplicates().merge(runs, how="cross")
    full = every.merge(slices, how="left", on=KEYS)
    nothing = full["dice"].isna()
    whole = full.groupby(["method", "seed", "case", "structure"])
    missed = nothing & (whole["dice"].transform("max") == 0)  # NaN: nothing there at all
    if "n_reference" in full.columns:  # a structure that the patient does not have cannot be missed
        missed &= whole["n_reference"].transform("max") > 0
    full.loc[nothing, "dice"] = np.where(missed[nothing], 0.0, 1.0)
    for column in ("hausdorff_mm", "hausdorff95_mm"):
        if column in full.columns:
            full.loc[nothing, column] = np.where(missed[nothing], np.inf, 0.0)
    if "diagonal_mm" in full.columns:
        full["diagonal_mm"] = full.groupby("case")["diagonal_mm"].transform("max")
    return full


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


def paired_means(rows: pd.DataFrame, method_a: str, method_b: str) -> np.ndarray:
    """Mean difference a - b of each patient in DSC points, over seeds and then structures, of volumes both scored."""
    points = patient_points(rows, [method_a, method_b])
    return (points[method_a] - points[method_b]).to_numpy()


def patient_points(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mean DSC in %, patients x methods, over seeds and then structures, of whole volumes that all methods scored."""
    rows = checked(rows, methods[0])
    volumes = rows[(rows["slice_index"] == -1) & rows["method"].isin(methods)].dropna(subset=["dice"])
    table = volumes.groupby(["patient", "structure", "method"])["dice"].mean().unstack("method").dropna() * 100
    return table.groupby("patient").mean()[list(methods)]


def mean_points(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mean DSC in % of whole volumes, structures x methods; only structures of which every method has a score."""
    volumes = checked(rows, methods[0])
    volumes = volumes[volumes["slice_index"] == -1]
    means = volumes.groupby(["structure", "method"])["dice"].mean().unstack("method") * 100
    return means.reindex(columns=list(methods)).dropna()


def _mean_of_known(values: Sequence[float]) -> float:
    """Mean over structures that have a value; NaN if none has."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def mean_dice(scores: pd.DataFrame) -> float:
    """Mean DSC in %, over patients (or slices) and seeds; undefined values are left out."""
    return float(scores["dice"].mean() * 100)


def mean_hausdorff_mm(scores: pd.DataFrame) -> tuple[float, int]:
    """Mean distance with a miss costing the image's diagonal, and the number of misses."""
    missed = np.isinf(scores["hausdorff_mm"])
    worst = scores["diagonal_mm"] if "diagonal_mm" in scores.columns else np.nan
    return float(scores["hausdorff_mm"].where(~missed, worst).mean()), int(missed.sum())


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
