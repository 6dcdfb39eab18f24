"""Rows to the paper's tables: methods x structures, means, gains of a reference method, p-values and a metric card.

A `*` stands only where the reference method gains and the corrected p of a test that was declared is under 0.05; a
significant loss gets a dagger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from pixelglobal.tables.averages import score_table
from pixelglobal.tables.comparison_frame import RESERVED, comparison_frame
from pixelglobal.tables.contrasts import Claim, Test, Unit, claim_of, contrasts_of_checkpoints, contrasts_of_methods
from pixelglobal.tables.families import ALPHA, Family, with_families
from pixelglobal.tables.metric import METRICS, Metric, metric_of
from pixelglobal.tables.metric_card import MadeFrom, metric_card
from pixelglobal.tables.owed_scores import Missing, owed_scores
from pixelglobal.tables.rows import complete_rows
from pixelglobal.tables.table import GAIN, LOSS, Table

UnitOption = Literal["patient", "slice", "both"]


def comparison_table(
    rows: pd.DataFrame,
    *,
    reference: str,
    title: str = "Comparison",
    metric: str = "dice",
    unit: UnitOption = "patient",
    test: Test = "sign_flip",
    claim: Claim | None = None,
    primary: Sequence[str] | None = None,
    family: Family = "holm",
    correction: str = "holm",
    missing: Missing = "refuse",
    methods: Sequence[str] | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Table:
    """The paper's Table 1 from rows of one cohort; see docs/explanation/significance.md for how to read it.

    reference: the method all others are compared with. metric: dice (with HD beside it), hausdorff, hausdorff95 or
    surface_dice; it is printed and tested. claim: "method" takes training runs and patients as random and needs 3 runs
    (or folds) of each method; "checkpoint" is about the runs that there are; None is the first wherever it can be made.
    unit: whose independence the p-values of a claim about checkpoints assume; "both" prints the slice test below the
    patient test. primary: the methods whose contrast is the question (all, if not given); family: how these are
    corrected, see `with_families`. missing: what becomes of scores that other methods or runs have, see `owed_scores`.
    Raises ValueError for rows that cannot be right or that a claim cannot be made from.
    """
    made, scores = compared(
        rows, reference=reference, metric=metric, unit=unit, test=test, claim=claim, primary=primary, family=family,
        correction=correction, missing=missing, methods=methods, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    printed = [METRICS["dice"], METRICS["hausdorff"]] if metric == "dice" else [metric_of(metric)]
    order, structures = list(made.table.values), made.table.structures
    tables = [made.table]
    tables += [score_table(scores, one, order, structures, by_slice=unit == "slice") for one in printed[1:]]
    units: list[Unit] = ["patient", "slice"] if unit == "both" else [unit]
    frame, best = comparison_frame(tables, scores, made.comparisons, reference, units)
    return Table(title, _caption(reference, printed, made.claim), metric_card(made), frame, made.comparisons, best)


def compared(
    rows: pd.DataFrame,
    *,
    reference: str,
    metric: str,
    unit: UnitOption = "patient",
    test: Test = "sign_flip",
    claim: Claim | None = None,
    primary: Sequence[str] | None = None,
    family: Family = "holm",
    correction: str = "holm",
    missing: Missing = "refuse",
    methods: Sequence[str] | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[MadeFrom, pd.DataFrame]:
    """All that a table of one metric is made of, and the scores behind its means; arguments of `comparison_table`."""
    tested = metric_of(metric)
    rows = _with_printable_structures(complete_rows(rows))
    if tested.column not in rows.columns or rows[tested.column].isna().all():
        raise ValueError(f"metric={metric!r}, but the rows have no {tested.column}")
    if metric == "surface_dice":
        _refuse_several_tolerances(rows)
    methods = _methods(rows, reference, methods)
    named = _primary(primary, methods, reference)
    claim = _claim_for_unit(rows, claim, unit)
    owed = owed_scores(rows, methods, missing=missing, with_slices=unit != "patient")
    shown = owed.slices if unit == "slice" else owed.volumes
    scored = set(shown["structure"].unique())
    structures = [s for s in rows.loc[rows["contoured"], "structure"].unique() if s in scored]
    by_slice = unit == "slice"
    claim, kept, left_out = claim_of(score_table(shown, tested, methods, structures, by_slice=by_slice), claim)
    shown = _of_runs(shown, kept.runs)
    table = score_table(shown, tested, methods, structures, by_slice=by_slice)
    units: list[Unit] = ["patient", "slice"] if unit == "both" else [unit]
    if claim == "method":
        tests = contrasts_of_methods(table, reference)
    else:
        of_unit = dict.fromkeys(units, table)
        if unit == "both":
            of_unit["slice"] = score_table(owed.slices, tested, methods, structures, by_slice=True)
        how: dict[str, Any] = {"test": test, "n_resamples": n_resamples, "seed": seed}
        tests = [t for one in units for t in contrasts_of_checkpoints(of_unit[one], reference, unit=one, **how)]
    comparisons = pd.DataFrame(tests)
    if tests:
        comparisons = with_families(comparisons, named, family=family, correction=correction)
    return MadeFrom(
        owed, shown, table, comparisons, reference, claim, unit, test, family, correction, named, left_out
    ), shown


def _with_printable_structures(rows: pd.DataFrame) -> pd.DataFrame:
    """Structures that are called like one of the table's own columns get a longer name."""
    names = set(rows["structure"].unique())
    longer = {name: f"{name} (structure)" for name in names & set(RESERVED)}
    return rows.assign(structure=rows["structure"].replace(longer)) if longer else rows


def _refuse_several_tolerances(rows: pd.DataFrame) -> None:
    """ValueError where the surface Dice of a structure is not one number for all rows."""
    if "surface_tolerance_mm" in rows.columns:
        tolerances = rows.groupby("structure", sort=False)["surface_tolerance_mm"].unique()
        for structure, several in tolerances.items():
            if len(several) > 1:
                raise ValueError(
                    f"the surface Dice of {structure} was computed with tolerances of "
                    f"{', '.join(map(str, several))} mm: expected one for all methods; score them again"
                )


def _methods(rows: pd.DataFrame, reference: str, methods: Sequence[str] | None) -> list[str]:
    """The methods of the table, the reference last; ValueError for one that has no rows."""
    there = rows["method"].unique().tolist()
    if reference not in there:
        raise ValueError(f"reference={reference!r} is not among the methods {', '.join(sorted(there))}")
    if methods is None:
        return [method for method in there if method != reference] + [reference]
    if unknown := [method for method in methods if method not in there]:
        raise ValueError(f"methods={', '.join(unknown)}: there are no rows of them, only of {', '.join(there)}")
    return list(methods)


def _primary(primary: Sequence[str] | None, methods: Sequence[str], reference: str) -> list[str]:
    others = [method for method in methods if method != reference]
    if unknown := [method for method in primary or () if method not in others]:
        raise ValueError(
            f"primary={', '.join(unknown)}: expected methods that {reference} is compared with, {', '.join(others)}"
        )
    return list(primary) if primary is not None else others


def _claim_for_unit(rows: pd.DataFrame, claim: Claim | None, unit: UnitOption) -> Claim | None:
    """The claim as asked, or "checkpoint" where slices are units; ValueError for rows or a claim that do not fit."""
    if claim not in (None, "checkpoint", "method"):
        raise ValueError(f"claim={claim!r}: expected checkpoint or method")
    if unit not in ("patient", "slice", "both"):
        raise ValueError(f"unit={unit!r}: expected patient, slice or both")
    if "labelled_patients" in rows.columns and rows["labelled_patients"].nunique() > 1:
        raise ValueError(
            "the rows have several numbers of labelled_patients: a comparison is about one of them; select its rows, "
            "or make a learning table"
        )
    slices, volumes = (rows["slice_index"] >= 0).any(), (rows["slice_index"] == -1).any()
    if unit != "patient" and not slices:
        raise ValueError(
            f"unit={unit!r}, but there are no rows of slices (slice_index 0, 1, ...; -1 is a whole volume): choose "
            "unit=patient"
        )
    if unit != "slice" and not volumes:
        raise ValueError(
            f"unit={unit!r}, but there are no rows of whole volumes (slice_index -1): score the volumes, or choose "
            "unit=slice, which tests slices as if they were independent"
        )
    if unit != "patient" and claim == "method":
        raise ValueError(
            f"unit={unit!r} with claim=method: slices are units of a claim about checkpoints only; choose "
            "unit=patient or claim=checkpoint"
        )
    return "checkpoint" if unit != "patient" else claim


def _of_runs(scores: pd.DataFrame, runs: dict[str, list[int]]) -> pd.DataFrame:
    """The scores of these runs of each method."""
    keys = pd.DataFrame([(m, seed) for m, seeds in runs.items() for seed in seeds], columns=["method", "seed"])
    return scores.merge(keys, on=["method", "seed"])


def _caption(reference: str, printed: Sequence[Metric], claim: Claim) -> str:
    tested = printed[0]
    sense = "" if tested.higher_is_better else ", smaller distances being gains"
    about = (
        "The claim is about these checkpoints, not about further trainings."
        if claim == "checkpoint"
        else "The claim is about the methods: another training and other patients would show it again."
    )
    return (
        f"{', '.join(metric.label for metric in printed)}; gains of {reference} in {tested.points} with 95 % intervals"
        f"{sense}. '{GAIN}': {reference} is better, '{LOSS}': worse, corrected p < {ALPHA}. {about}"
    )
