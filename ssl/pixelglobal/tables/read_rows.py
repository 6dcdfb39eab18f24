"""Rows from files, of this project or of anybody else, checked file by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pixelglobal.tables.rows import NAMES, complete_rows


def read_rows(files: Sequence[Path], *, percent: bool = False) -> pd.DataFrame:
    """Rows of one or more Parquet or CSV files, one below the other; `complete_rows` says what a file may leave out.

    A file that does not say whose a scan is, or what was contoured in it, takes that from the other files. percent:
    Dice is given from 0 to 100. Raises ValueError that names the file and what is wrong in it.
    """
    parts = [_read(Path(file), percent) for file in files]
    with_cohort = [file for file, part in zip(files, parts, strict=True) if "cohort" in part.columns]
    if with_cohort and len(with_cohort) < len(files):
        without = next(file for file in files if file not in with_cohort)
        raise ValueError(
            f"{with_cohort[0]} names its cohort and {without} does not: whether they are the same patients cannot be "
            "told; give every file the column cohort, or none"
        )
    together = pd.concat(parts, ignore_index=True)
    cohort = ["cohort"] if with_cohort else []
    together = _from_other_files(together, "patient", [*cohort, "case"], together["case"])
    together = _from_other_files(together, "contoured", [*cohort, "case", "structure"], True)
    return complete_rows(together, " and ".join(map(str, files)))


def _from_other_files(rows: pd.DataFrame, column: str, place: list[str], otherwise: pd.Series | bool) -> pd.DataFrame:
    """Fill what a file left out with what another says of the same place."""
    if column not in rows.columns:
        return rows
    said = rows[[*place, column]].dropna().drop_duplicates(place).rename(columns={column: "said"})
    known = rows[place].merge(said, how="left", on=place)["said"]
    return rows.assign(**{column: rows[column].where(rows[column].notna(), known.where(known.notna(), otherwise))})


def read_table(file: Path) -> pd.DataFrame:
    """A Parquet or CSV file; ValueError that names it where it cannot be read."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; expected a table as Parquet or CSV")
    as_text = dict.fromkeys((*NAMES, "contoured"), str)
    try:
        return pd.read_csv(file, dtype=as_text) if file.suffix == ".csv" else pd.read_parquet(file)
    except (ValueError, OSError) as error:  # pandas and pyarrow name no file
        wanted = "CSV" if file.suffix == ".csv" else "Parquet (the ending is not .csv)"
        raise ValueError(f"{file}: cannot be read as {wanted}: {error}") from error


def _read(file: Path, percent: bool) -> pd.DataFrame:
    """One file, complete but for what other files may say better."""
    rows = read_table(file)
    silent = [column for column in ("patient", "contoured") if column not in rows.columns]
    return complete_rows(rows, str(file), percent=percent).drop(columns=silent)
