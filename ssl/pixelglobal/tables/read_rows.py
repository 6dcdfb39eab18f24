"""Rows that come as files of this project or of anybody else, checked and completed file by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

NEEDED = ("method", "case", "structure", "dice")


NAMES = ("method", "case", "patient", "structure", "cohort")  # text, so that case 007 is not case 7


NUMBERS = ("dice", "seed", "slice_index", "hausdorff_mm", "hausdorff95_mm", "surface_dice", "diagonal_mm")


TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def read_rows(files: Sequence[Path]) -> pd.DataFrame:
    """Rows of one or more Parquet or CSV files, one below the other.

    Where a file does not say, a case is a patient, there is one training run (seed 0), a row is a whole volume
    (slice_index -1) and a structure was contoured. ValueError names the file, the column and the first wrong value.
    """
    parts = [_read(file) for file in files]
    with_cohort = [file for file, part in zip(files, parts, strict=True) if "cohort" in part.columns]
    if with_cohort and len(with_cohort) < len(files):
        without = next(file for file in files if file not in with_cohort)
        raise ValueError(
            f"{with_cohort[0]} names its cohort and {without} does not: whether they are the same patients cannot be "
            "told; give every file the column cohort, or none"
        )
    return pd.concat(parts, ignore_index=True)


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; expected rows as Parquet or CSV")
    as_text = dict.fromkeys((*NAMES, "contoured"), str)
    rows = pd.read_csv(file, dtype=as_text) if file.suffix == ".csv" else pd.read_parquet(file)
    if missing := [column for column in NEEDED if column not in rows.columns]:
        raise ValueError(
            f"{file} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, rows.columns))}; needed are "
            f"{', '.join(NEEDED)}"
        )
    usual = {"patient": rows["case"], "seed": 0, "slice_index": -1, "contoured": True}
    rows = rows.assign(**{column: value for column, value in usual.items() if column not in rows.columns})
    for column in (name for name in NAMES if name in rows.columns):
        _refuse(file, rows, column, rows[column].isna(), "a name in every row")
        rows[column] = rows[column].astype(str)
    for column in (name for name in NUMBERS if name in rows.columns):
        numbers = pd.to_numeric(rows[column], errors="coerce")
        _refuse(file, rows, column, numbers.isna() & rows[column].notna(), "a number")
        rows[column] = numbers
    for column in ("seed", "slice_index"):
        _refuse(file, rows, column, rows[column].isna() | (rows[column] % 1 != 0), "a whole number in every row")
        rows[column] = rows[column].astype(np.int64)
    _refuse(file, rows, "dice", ~rows["dice"].between(0, 1) & rows["dice"].notna(), "0 to 1, not percent")
    contoured = rows["contoured"].astype(str).str.strip().str.lower().map(TRUTH)
    _refuse(file, rows, "contoured", contoured.isna(), "true or false in every row")
    return rows.assign(contoured=contoured.astype(bool))


def _refuse(file: Path, rows: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{file}, row {place + 1}: {column} is {rows[column].iloc[place]}; expected {expected} "
            f"({int(wrong.sum())} rows are wrong)"
        )
