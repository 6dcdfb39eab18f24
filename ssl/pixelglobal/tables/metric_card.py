"""What stands below every table of metrics: how its numbers were made and what they cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pixelglobal.tables.averages import ScoreTable, failures
from pixelglobal.tables.contrasts import Claim
from pixelglobal.tables.families import ALPHA, Family
from pixelglobal.tables.metric import METRICS
from pixelglobal.tables.owed_scores import OwedScores
from pixelglobal.tables.table import DIFFERS

TESTS = {"sign_flip": "sign-flip permutation of the mean", "wilcoxon": "Wilcoxon signed rank", "t": "paired t"}


@dataclass(frozen=True)
class MadeFrom:
    """All that a comparison is made of, as in `comparison_table`.

    shown: the owed scores whose means are printed. left_out: runs that the claim cannot use.
    """

    owed: OwedScores
    shown: pd.DataFrame
    table: ScoreTable
    comparisons: pd.DataFrame
    reference: str
    claim: Claim
    unit: str
    test: str
    family: Family
    correction: str
    primary: list[str]
    left_out: str


def metric_card(made: MadeFrom) -> tuple[str, ...]:
    """One sentence each on units, metrics, failures, absent scores, the average, the tests and their limits."""
    lines = [
        _counts(made),
        _metrics(made),
        _failures(made),
        *absent_scores(made.owed),
        *([made.left_out] if made.left_out else []),
        "Average: mean over structures of means over patients; its test gives each patient the weight that the patient "
        "has in it. Fewer than 2 patients are not tested",
        *_unlabelled(made),
    ]
    if len(made.comparisons):
        lines += [
            _test(made),
            families(made.comparisons, made.primary, made.family, made.correction),
            *unreachable(made.comparisons),
            *_false_claims(made),
        ]
    if made.unit != "patient":
        lines.append(
            "Slices of one patient are not independent: the slice test is the paper's way and raises false alarms"
            + (f"; '{DIFFERS}': its mark is not that of the patients" if made.unit == "both" else "")
        )
    return tuple(lines)


def _counts(made: MadeFrom) -> str:
    table = made.table
    of_all = len(set(table.patients.tolist()))
    of_each = {s: len(set(table.patients[table.units_with(s)].tolist())) for s in table.structures}
    fewer = {structure: count for structure, count in of_each.items() if count < of_all}
    text = f"{of_all} patients" + (f" ({per_name(fewer)})" if fewer else "")
    if len(made.owed.slices):
        text += f", {len(made.owed.slices[['case', 'slice_index']].drop_duplicates())} slices"
    text += f", {runs_a_method({m: len(runs) for m, runs in table.runs.items()})}"
    if len(shared := set(table.pretraining.values())) < len(table.pretraining):
        text += f" from {len(shared)} pre-trainings"
        text += "; runs from one pre-training are averaged first, so that each pre-training counts once"
    return text


def runs_a_method(counts: Mapping[str, int]) -> str:
    """How many training runs each method has.

    >>> runs_a_method({"random": 3, "full": 3}), runs_a_method({"random": 6, "full": 3})
    ('3 training runs a method', 'training runs: random 6, full 3')
    """
    if len(set(counts.values())) == 1:
        count = next(iter(counts.values()))
        return f"{count} training run{'s' * (count > 1)} a method"
    return f"training runs: {per_name(counts)}"


def per_name(counts: Mapping[str, float]) -> str:
    """Counts in words, such as `random 6, full 3`."""
    return ", ".join(f"{name} {count:g}" for name, count in counts.items())


def _metrics(made: MadeFrom) -> str:
    over = "2-D over slices" if made.unit == "slice" else "3-D over patients, on the grid of the original scan"
    metric = made.table.metric
    beside = f"; {METRICS['hausdorff'].definition}" if metric.name == "dice" else ""
    if metric.name == "surface_dice" and "surface_tolerance_mm" in made.shown.columns:
        tolerances = made.shown.groupby("structure", sort=False)["surface_tolerance_mm"].first()
        beside = f" ({per_name({str(name): float(mm) for name, mm in tolerances.items()})} mm)"
    return f"{metric.definition}{beside}; means are {over}"


def _failures(made: MadeFrom) -> str:
    scores = made.shown
    metric = METRICS["hausdorff"] if made.table.metric.higher_is_better else made.table.metric
    words = [f"{m}: {failures(scores[scores['method'] == m], metric)}" for m in made.table.values]
    failed = "; ".join(word for word in words if not word.endswith(": "))
    return (
        "A missed structure and a false alarm have DSC 0 and an infinite HD, which enters a mean as the image's "
        f"diagonal; where the rows have no diagonal_mm, no mean is printed ({failed or 'none missed'}); a structure in "
        f"no prediction and not in the reference is not applicable: {made.owed.not_applicable} values"
    )


def _unlabelled(made: MadeFrom) -> list[str]:
    """Which structures are left out of which runs, since nobody had labelled them, and their mean there."""
    if "labelled" not in made.shown.columns:
        return []
    without = made.shown[made.shown["labelled"] == False]  # noqa: E712  # NaN: the rows do not say
    words = [
        f"{structure} ({part['seed'].nunique()} runs; {made.table.metric.label} there "
        f"{made.table.metric.factor * part[made.table.metric.column].mean():.2f})"
        for structure, part in without.groupby("structure", sort=False)
    ]
    if not words:
        return []
    return [f"Left out of runs whose labelled patients lack it, and of the average of these: {', '.join(words)}"]


def absent_scores(owed: OwedScores) -> list[str]:
    """What was done about scores that were absent, per method."""
    if owed.absent.empty:
        return []
    counts = per_name({str(m): int(n) for m, n in owed.absent["method"].value_counts(sort=False).items()})
    if owed.missing == "zero":
        return [f"Absent scores count as failures (DSC 0, infinite HD): {counts}"]
    return [f"Absent scores: {counts}; for all methods these patients are left out: {', '.join(owed.dropped)}"]


def _test(made: MadeFrom) -> str:
    if made.claim == "method":
        analyses = made.comparisons["test"].drop_duplicates().str.removeprefix("mrmc ").tolist()
        error = {"pair": "error of the two methods", "pooled": "error pooled over the methods of this table",
                 "folds": "folds as units, with Nadeau and Bengio's variance"}  # fmt: skip
        notes = made.comparisons["note"].replace("", np.nan).dropna().drop_duplicates().tolist()
        return (
            "Test: multi-reader multi-case analysis, training runs as readers and patients as cases, two-sided; "
            + ", ".join(error[one] for one in analyses)
            + "".join(f"; {note}" for note in notes)
        )
    over = "patients; below it over slices" if made.unit == "both" else f"{made.unit}s"
    return f"Test: {TESTS[made.test]}, two-sided, paired, over {over}"


def families(comparisons: pd.DataFrame, primary: list[str], family: Family, correction: str) -> str:
    """Which tests were declared, and how each family is corrected."""
    first = comparisons[(comparisons["asked_unit"] == comparisons["asked_unit"].iloc[0])]
    of_first, of_second = (first[first["family"] == name] for name in ("primary", "structures"))
    how = {"sequence": "fixed sequence"}.get(family, correction)
    if family == "holm" and correction == "holm" and "dunnett_p" in first.columns and len(of_first):
        dunnett = np.isfinite(of_first["dunnett_p"]).all() and len(first["method"].unique()) == len(primary)
        how = "Dunnett" if dunnett else how
    return (
        f"Families: first the average against {', '.join(primary)} ({_comparisons(len(of_first))}, {how}), then "
        f"the structures of these contrasts ({_comparisons(len(of_second))}, {correction}), which carry a mark only "
        "where their average does; p in parentheses is exploratory and carries none. Each interval is of its "
        "comparison alone"
    )


def _false_claims(made: MadeFrom) -> list[str]:
    """How likely each "better than" of the first family is false, with the formula."""
    first = made.comparisons[made.comparisons["family"] == "primary"].drop_duplicates("method")
    if first.empty:  # every contrast of the table is exploratory
        return []
    pairs = []
    for test in first.itertuples():
        better, other = (made.reference, test.method) if test.difference >= 0 else (test.method, made.reference)
        pairs.append(f"{better} over {other} {_percent(test.false_claim)}")
    formula = (
        "half of the uncorrected p"
        if made.claim == "method"
        else f"t(n-1) of sqrt(n) times the mean difference over its standard deviation, n {first['unit'].iloc[0]}s"
    )
    return [f"Probability that 'better' is false on the average ({formula}): {', '.join(pairs)}"]


def _percent(probability: float) -> str:
    return "below 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"


def _comparisons(count: int) -> str:
    return f"{count} comparison{'s' * (count != 1)}"


def unreachable(comparisons: pd.DataFrame) -> list[str]:
    """A warning where no effect, however large, could earn a mark: n patients have 2^n sign patterns."""
    lines = []
    for unit, part in comparisons[comparisons["family"] != "exploratory"].groupby("asked_unit", sort=False):
        barred = part[~part["reachable"]]
        if len(barred):
            units = barred.drop_duplicates("structure")
            named = ", ".join(f"{row.structure} ({row.n_units} {row.unit}s)" for row in units.itertuples())
            lines.append(
                f"However large an effect is, no corrected p over {unit}s can be below {ALPHA} for {named}: too few "
                "for the comparisons of their family, or for the average, which comes first"
            )
    return lines
