"""The scores that every compared method owes: one for each scan, structure and training run.

A row that is absent says nothing: it may be a scan that crashed, or a file that was cut off. Means over the rows that
happen to be there would reward both. Here every absent score is therefore found, and either refused or handled in the
same way for all methods.

A structure counts in a scan (or slice) if the reference or any run of any method has it there. A method with nothing
where there is nothing is right: Dice 1, distance 0. Without this, a false alarm of one method would drop the pair in
which the other was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Missing = Literal["refuse", "zero", "drop-patient"]

RUN = ["method", "seed"]
SCAN = ["case", "patient", "structure"]
RIGHT = {"dice": 1.0, "surface_dice": 1.0, "hausdorff_mm": 0.0, "hausdorff95_mm": 0.0}
WRONG = {"dice": 0.0, "surface_dice": 0.0, "hausdorff_mm": np.inf, "hausdorff95_mm": np.inf}
SHOWN = 5  # absent scores that an error names


@dataclass(frozen=True)
class OwedScores:
    """All scores that are owed, and what had to be done to have them.

    volumes: one row a method, seed, case and structure. slices: the same for each slice that counts. Both have the
    column `in_reference`: 1 if the reference has the structure there, 0 if not, -1 if the rows do not say. absent:
    method, seed, case, patient and structure of the scores that were absent. dropped: patients left out for that.
    not_applicable: scans and structures that neither the reference nor any method has.
    """

    volumes: pd.DataFrame
    slices: pd.DataFrame
    absent: pd.DataFrame
    dropped: tuple[str, ...]
    not_applicable: int
    missing: Missing


def owed_scores(
    rows: pd.DataFrame, methods: Sequence[str], *, missing: Missing = "refuse", with_slices: bool = True
) -> OwedScores:
    """Every score of `methods`, from rows of one cohort that `complete_rows` has checked.

    Each run of a method owes every scan and structure that any run of any of the methods was scored on. missing: what
    becomes of absent scores: "refuse" raises ValueError with their list, "zero" takes them for failures (Dice 0,
    infinite distance), "drop-patient" leaves their patients out for all methods. Where a run misses a structure of a
    scan in every slice, its empty slices are no merit: they have Dice 0 as well.
    """
    if missing not in ("refuse", "zero", "drop-patient"):
        raise ValueError(f"missing={missing!r}: expected refuse, zero or drop-patient")
    rows = rows[rows["method"].isin(methods) & rows["contoured"]]
    runs = rows[RUN].drop_duplicates()
    volumes, places, applicable = _volumes(rows, runs)
    slices = _slices(rows, runs) if with_slices else volumes.iloc[:0].assign(slice_index=0)
    lacking = pd.concat([part[part["absent"]] for part in (volumes, slices)])
    absent = lacking[[*RUN, *SCAN]].drop_duplicates(ignore_index=True)
    dropped: tuple[str, ...] = ()
    if len(absent) and missing == "refuse":
        raise ValueError(_refusal(absent, rows))
    if missing == "drop-patient":
        dropped = tuple(dict.fromkeys(absent["patient"]))
        volumes, slices = (part[~part["patient"].isin(dropped)] for part in (volumes, slices))
        if volumes.empty and slices.empty:
            raise ValueError(
                "missing=drop-patient: every patient lacks a score of some method; no patient would be left"
            )
    volumes, slices = (_filled(part) for part in (volumes, slices))
    return OwedScores(volumes, slices, absent, dropped, places - applicable, missing)


def _volumes(rows: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Owed scores of whole volumes with the columns absent and right; the number of scans and structures, and of those
    that anybody has."""
    part = rows[rows["slice_index"] == -1]
    full = _every(part, runs, SCAN)
    places = full[SCAN].drop_duplicates()
    full = _applicable(full, SCAN)
    unknown = full["dice"].isna()
    right = unknown & (full["in_reference"] == 0) & _empty_handed(full)
    full = full.assign(right=right, absent=unknown & ~right, wrong=False)
    return full, len(places), len(full[SCAN].drop_duplicates())


def _slices(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Owed scores of slices with the columns absent, right and wrong.

    A slice without a row is one in which neither the reference nor the prediction has the structure, provided that the
    run was scored on this scan at all and that no other row shows the structure in the reference of this slice.
    """
    place = [*SCAN, "slice_index"]
    full = _applicable(_every(rows[rows["slice_index"] >= 0], runs, place), place)
    spoken = rows["dice"].notna()
    if {"n_reference", "n_predicted"} <= set(rows.columns):
        spoken |= (rows["n_reference"] == 0) & (rows["n_predicted"] == 0)
    scored = rows.loc[spoken, [*RUN, *SCAN]].drop_duplicates().assign(scored=True)
    full = full.merge(scored, how="left", on=[*RUN, *SCAN])
    unknown = full["dice"].isna()
    absent = unknown & (full.pop("scored").isna() | (full["in_reference"] == 1))
    of_run = full.groupby([*RUN, *SCAN])
    never_there = (of_run["in_reference"].transform("max") == 0) & (of_run["in_reference"].transform("min") == 0)
    missed = (of_run["dice"].transform("max") == 0) & ~never_there
    empty = unknown & ~absent
    return full.assign(right=empty & ~missed, absent=absent, wrong=empty & missed)


def _every(part: pd.DataFrame, runs: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """A row for every run at every place where any run has one, with `in_reference` of the place."""
    facts = pd.DataFrame({"there": part["dice"] > 0, "not_there": False})
    if "n_reference" in part.columns:
        facts["there"] |= part["n_reference"] > 0
        facts["not_there"] = part["n_reference"] == 0
    of_place = pd.concat([part[place], facts], axis=1).groupby(place, sort=False)[["there", "not_there"]].any()
    in_reference = np.where(of_place["there"], 1, np.where(of_place["not_there"], 0, -1))
    places = of_place.assign(in_reference=in_reference)[["in_reference"]].reset_index()
    full = places.merge(runs, how="cross").merge(part, how="left", on=[*place, *RUN])
    if "diagonal_mm" in full.columns:  # of the scan or slice: a run without a row there has it from the others
        full["diagonal_mm"] = full["diagonal_mm"].fillna(full.groupby("case")["diagonal_mm"].transform("max"))
    return full


def _applicable(full: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """The places at which the reference or any run has the structure."""
    scored = full["dice"].notna().groupby([full[k] for k in place]).transform("any")
    return full[scored | (full["in_reference"] == 1)]


def _empty_handed(full: pd.DataFrame) -> pd.Series:
    """Where a run's own row says that it predicted nothing."""
    if "n_predicted" in full.columns:
        return full["n_predicted"] == 0
    return pd.Series(False, full.index)


def _filled(full: pd.DataFrame) -> pd.DataFrame:
    """Scores in place of what was empty; whatever is still absent counts as a failure."""
    failed = full["wrong"] | full["absent"]
    for column in (name for name in RIGHT if name in full.columns):
        full = full.assign(**{column: full[column].mask(full["right"], RIGHT[column]).mask(failed, WRONG[column])})
    return full.drop(columns=["right", "wrong", "absent"]).reset_index(drop=True)


def _refusal(absent: pd.DataFrame, rows: pd.DataFrame) -> str:
    named = [
        f"method {row.method}, seed {row.seed}, case {row.case}, structure {row.structure}"
        for row in absent.head(SHOWN).itertuples()
    ]
    per_method = ", ".join(f"{method} {count}" for method, count in absent["method"].value_counts(sort=False).items())
    seeds = rows[[*RUN, "case"]].drop_duplicates()
    as_folds = seeds["seed"].nunique() > 1 and not seeds.duplicated(["method", "case"]).any()
    return (
        f"{len(absent)} scores are absent that other methods or runs have ({per_method}): {'; '.join(named)}"
        f"{f'; and {len(absent) - SHOWN} more' if len(absent) > SHOWN else ''}. "
        + (
            "Every case has one seed: if these are folds of a cross-validation, give them as column fold. "
            if as_folds
            else ""
        )
        + "Add the rows, or choose missing=zero (they count as Dice 0) or missing=drop-patient (their patients are "
        "left out for all methods)"
    )
