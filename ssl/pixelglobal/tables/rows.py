"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

KEYS = ["method", "seed", "case", "patient", "slice_index", "structure"]


NEEDED = ["method", "case", "structure", "dice"]


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
