"""Rows of scores: their columns, what is assumed where they say nothing, and what cannot be right.

A row is one structure of one slice (`slice_index` 0, 1, ...) or of one whole volume (-1), as one training run of one
method segmented it. docs/reference/rows.md lists all columns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pixelglobal.tables.escapes import one_line

NEEDED = ("method", "case", "structure", "dice")
NAMES = ("method", "case", "patient", "structure", "cohort", "fold")  # text, so that case 007 is not case 7
DISTANCES_MM = ("hausdorff_mm", "hausdorff95_mm", "diagonal_mm", "surface_tolerance_mm")
SHARES = ("dice", "surface_dice", "lesion_dice")
COUNTS = ("n_predicted", "n_reference", "n_lesions", "n_findings", "n_lesions_found")
WHOLE_NUMBERS = ("seed", "slice_index")
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
KEYS = ["method", "seed", "case", "slice_index", "structure"]  # of which each row must be the only one


def complete_rows(rows: pd.DataFrame, source: str = "the rows", *, percent: bool = False) -> pd.DataFrame:
    """The rows with all columns that tables need, each of its type.

    Where the rows do not say, a case is a patient, there is one training run (seed 0), a row is a whole volume
    (slice_index -1), a structure was contoured, and distances are unknown. percent: Dice and surface Dice are given
    from 0 to 100. Raises ValueError, which begins with `source`, for missing columns, values that cannot be right (the
    first of them is named), rows that stand twice, and a case with two patients.
    """
    if missing := [column for column in NEEDED if column not in rows.columns]:
        raise ValueError(
            f"{source}: the columns {', '.join(missing)} are missing; there are "
            f"{', '.join(map(str, rows.columns)) or 'none'}; needed are {', '.join(NEEDED)}"
        )
    if rows.empty:
        raise ValueError(f"{source}: there is no row; expected one for each method, case and structure")
    usual = {"patient": rows["case"], "seed": 0, "slice_index": -1, "contoured": True, "hausdorff_mm": np.nan}
    rows = rows.assign(**{column: value for column, value in usual.items() if column not in rows.columns})
    for column in (name for name in NAMES if name in rows.columns):
        rows = rows.assign(**{column: rows[column].where(rows[column].isna(), rows[column].astype(str))})
        blank = {name for name in rows[column].dropna().unique() if not one_line(name).strip()}
        _refuse(source, rows, column, rows[column].isna() | rows[column].isin(blank), "a name in every row")
    for column in (n for n in (*SHARES, *DISTANCES_MM, *COUNTS, *WHOLE_NUMBERS) if n in rows.columns):
        numbers = pd.to_numeric(rows[column], errors="coerce")
        _refuse(source, rows, column, numbers.isna() & rows[column].notna(), "a number")
        rows[column] = numbers
    for column in WHOLE_NUMBERS:
        wrong = rows[column].isna() | (rows[column] % 1 != 0) | np.isinf(rows[column])
        _refuse(source, rows, column, wrong, "a whole number in every row")
        rows[column] = rows[column].astype(np.int64)
    _check_ranges(source, rows, percent)
    for column in (name for name in ("contoured", "labelled") if name in rows.columns):
        said = rows[column].astype(str).str.strip().str.lower().map(TRUTH)
        _refuse(source, rows, column, said.isna(), "true or false in every row")
        rows[column] = said.astype(bool)
    if percent:
        rows = rows.assign(**{column: rows[column] / 100 for column in SHARES if column in rows.columns})
    _refuse_contradictions(source, rows)
    return rows


def _check_ranges(source: str, rows: pd.DataFrame, percent: bool) -> None:
    most, said = (100, "0 to 100") if percent else (1, "0 to 1, not percent unless you say so")
    for column in (name for name in SHARES if name in rows.columns):
        _refuse(source, rows, column, ~rows[column].between(0, most) & rows[column].notna(), said)
    for column in (name for name in (*DISTANCES_MM, *COUNTS) if name in rows.columns):
        _refuse(source, rows, column, rows[column] < 0, "0 or more")


def _refuse_contradictions(source: str, rows: pd.DataFrame) -> None:
    """ValueError for rows that say different things about the same scan."""
    keys = [*KEYS, *(column for column in ("cohort", "labelled_patients") if column in rows.columns)]
    twice = rows.duplicated(keys)
    if twice.any():
        first = rows[twice].iloc[0]
        raise ValueError(
            f"{source}: {int(twice.sum())} rows stand twice, the first: {', '.join(f'{k}={first[k]}' for k in keys)}; "
            "each method, seed, case, slice and structure may have one row"
        )
    scan = ["cohort", "case"] if "cohort" in rows.columns else ["case"]
    structure = [*scan, "slice_index", "structure"]
    draw = [*(column for column in ("cohort", "labelled_patients") if column in rows.columns), "seed", "structure"]
    of_scan = "for all methods and runs, because it is a fact of the scan"
    of_draw = "for all methods, because runs with one seed share their labelled patients"
    facts = (("patient", scan, of_scan), ("contoured", structure, of_scan), ("n_reference", structure, of_scan),
             ("labelled", draw, of_draw))  # fmt: skip
    for column, place, why in facts:
        if column in rows.columns and len(wrong := _unequal(rows, column, place)):
            raise ValueError(
                f"{source}: {column} is said to be {' and '.join(map(str, wrong['values'].iloc[0]))} for "
                f"{', '.join(f'{k}={wrong[k].iloc[0]}' for k in place)} ({len(wrong)} such places); expected one value "
                f"{why}"
            )


def _unequal(rows: pd.DataFrame, column: str, place: list[str]) -> pd.DataFrame:
    """The places at which a column has several values, and these."""
    facts = rows[[*place, column]].dropna().drop_duplicates()
    several = facts[facts.duplicated(place, keep=False)]
    return several.groupby(place, sort=False)[column].unique().rename("values").reset_index()


def _refuse(source: str, rows: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{source}, row {place + 1}: {column} is {rows[column].iloc[place]}; expected {expected} "
            f"({int(wrong.sum())} rows are wrong)"
        )
