"""Rows to the paper's tables: methods x structures, DSC and HD, p-values against a reference method, and a metric card.

A `*` stands only where the reference method gains and the corrected p is under 0.05; a significant loss gets a dagger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from experiments.printing import DIFFERS, GAIN, LOSS, Table
from experiments.stats import Comparison, compare_paired, compare_runs, correct_p_values

ALPHA = 0.05
KEYS = ["method", "seed", "case", "patient", "slice_index", "structure"]
NEEDED = ["method", "case", "structure", "dice"]
Claim = Literal["checkpoint", "method"]


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
    methods = list(methods or [m for m in dict.fromkeys(rows["method"]) if m != reference] + [reference])
    structures = list(dict.fromkeys(rows["structure"]))
    volumes = rows[rows["slice_index"] == -1]
    fixed = fixed_slices(rows, methods)
    shown = fixed if unit == "slice" else volumes
    units: list[str] = ["patient", "slice"] if unit == "both" else [unit]
    tests = []
    for u in units:
        scores = fixed if u == "slice" else volumes
        for method in methods:
            if method != reference:
                for structure in [*structures, "Average"]:
                    result = _compare(scores, method, reference, structure, u, test, claim, n_resamples, seed)
                    if result is not None:
                        tests.append({"method": method, "structure": structure, "asked_unit": u, **vars(result)})
    comparisons = pd.DataFrame(tests, columns=None if tests else ["method", "structure", "asked_unit"])
    if len(comparisons):
        for u in units:  # each way of testing is a family of its own
            family = comparisons["asked_unit"] == u
            p_values = comparisons.loc[family, "p_value"].to_numpy()
            comparisons.loc[family, "corrected_p"] = correct_p_values(p_values, correction)
    frame, best = _frame(shown, comparisons, methods, structures, reference, units)
    card = _card(rows, volumes, fixed, unit, test, correction, claim, len(comparisons) // max(1, len(units)))
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
    hit = full.groupby(["method", "seed", "case", "structure"])["dice"].transform("max")  # NaN: nothing there at all
    missed = nothing & (hit == 0)
    full.loc[nothing, "dice"] = np.where(missed[nothing], 0.0, 1.0)
    for column in ("hausdorff_mm", "hausdorff95_mm"):
        if column in full.columns:
            full.loc[nothing, column] = np.where(missed[nothing], np.inf, 0.0)
    if "diagonal_mm" in full.columns:
        full["diagonal_mm"] = full.groupby("case")["diagonal_mm"].transform("max")
    return full


def _compare(
    scores: pd.DataFrame,
    method: str,
    reference: str,
    structure: str,
    unit: str,
    test: str,
    claim: Claim,
    n_resamples: int,
    seed: int,
) -> Comparison | None:
    """Reference minus method in DSC points, on what both have scores of; None if fewer than 2 patients have any."""
    wanted = scores if structure == "Average" else scores[scores["structure"] == structure]
    place = ["patient"] if structure == "Average" and unit == "patient" else ["patient", "case", "slice_index"]
    if claim == "method":
        runs = {
            m: wanted[wanted["method"] == m].groupby(["seed", "structure"])["dice"].mean().groupby("seed").mean() * 100
            for m in (method, reference)
        }
        return compare_runs(runs[reference].to_list(), runs[method].to_list())
    table = wanted[wanted["method"].isin([method, reference])].dropna(subset=["dice"])
    table = table.groupby([*place, "structure", "seed", "method"])["dice"].mean().unstack("method").dropna()
    if table.index.get_level_values("patient").nunique() < 2:
        return None
    table = table.groupby(level=place).mean() * 100  # over seeds, and over structures for the average
    return compare_paired(
        table[reference].to_numpy(),
        table[method].to_numpy(),
        table.index.get_level_values("patient").to_numpy(),
        unit="slice" if unit == "slice" else "patient",
        test=test,  # type: ignore[arg-type]
        n_resamples=n_resamples,
        seed=seed,
    )


def paired_means(rows: pd.DataFrame, method_a: str, method_b: str) -> np.ndarray:
    """Mean difference a - b of each patient in DSC points, over seeds and then structures, of volumes both scored."""
    rows = checked(rows, method_a)
    volumes = rows[(rows["slice_index"] == -1) & rows["method"].isin([method_a, method_b])].dropna(subset=["dice"])
    place = ["patient", "structure", "method"]
    table = volumes.groupby(place)["dice"].mean().unstack("method").dropna() * 100
    return (table[method_a] - table[method_b]).groupby("patient").mean().to_numpy()


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
    lines: list[dict[str, str]] = []
    numbers: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for method in methods:
        of_method = shown[shown["method"] == method]
        values = {s: mean_dice(of_method[of_method["structure"] == s]) for s in structures}
        values["Average"] = _mean_of_known(list(values.values()))
        distances = {s: mean_hausdorff_mm(of_method[of_method["structure"] == s]) for s in structures}
        missed = sum(count for _, count in distances.values())
        distances["Average"] = (_mean_of_known([d for d, _ in distances.values()]), missed)
        for c, v in values.items():
            numbers.setdefault(("DSC", c), []).append((round(v, 2), len(lines)))
            numbers.setdefault(("HD", c), []).append((-round(distances[c][0], 2), len(lines) + 1))
        lines.append({"method": method, "metric": "DSC (%)", **{c: _number(v) for c, v in values.items()}})
        lines.append({"method": "", "metric": "HD (mm)", **{c: _distance(*d) for c, d in distances.items()}})
        if method != reference:
            tested = [_p_cells(comparisons, method, u, [*structures, "Average"]) for u in units]
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


def _p_cells(comparisons: pd.DataFrame, method: str, unit: str, columns: Sequence[str]) -> dict[str, str]:
    own = comparisons[(comparisons["method"] == method) & (comparisons["asked_unit"] == unit)]
    found = {row.structure: p_text(row.corrected_p, row.difference) for row in own.itertuples()}
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


def _card(
    rows: pd.DataFrame,
    volumes: pd.DataFrame,
    fixed: pd.DataFrame,
    unit: str,
    test: str,
    correction: str,
    claim: Claim,
    family: int,
) -> tuple[str, ...]:
    undefined = int(volumes["dice"].isna().sum())
    missed = int(np.isinf(volumes["hausdorff_mm"]).sum())
    slices = fixed[["case", "slice_index"]].drop_duplicates()
    seeds = rows.groupby("method")["seed"].nunique()
    shown = "2-D over slices" if unit == "slice" else "3-D over patients, on the grid of the original scan"
    tests = {"sign_flip": "sign-flip permutation of the mean", "wilcoxon": "Wilcoxon signed rank", "t": "paired t"}
    return (
        f"{rows['patient'].nunique()} patients, {len(slices)} slices, "
        f"{seeds.min() if seeds.min() == seeds.max() else f'{seeds.min()} to {seeds.max()}'} training runs a method",
        f"DSC and HD are {shown}; HD is the maximum over contour points (100th percentile)",
        "A missed structure has DSC 0 and an infinite HD, which enters the mean as the image's diagonal; "
        f"{missed} missed; a structure in neither prediction nor reference is not applicable: {undefined} values",
        "Average: unweighted mean of the structures' means; a comparison of fewer than 2 patients is not tested",
        (f"Test: {tests[test]}, two-sided, paired" if claim == "checkpoint" else "Test: Welch's t over run means")
        + (
            f", over {'patients; below it over slices' if unit == 'both' else unit + 's'}"
            if claim == "checkpoint"
            else ""
        )
        + f"; {correction} correction over the {family} comparisons of this table",
        *(
            [
                "Slices of one patient are not independent: the slice test is the paper's way and raises false alarms"
                + (f"; '{DIFFERS}': its mark is not that of the patients" if unit == "both" else "")
            ]
            if unit != "patient" and claim == "checkpoint"
            else []
        ),
    )
