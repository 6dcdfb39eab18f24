"""Significance tables of rows, a table for each cohort, and the files they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.table import Table


def cohorts_of(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each cohort with its name; two cohorts may have cases of the same name."""
    if "cohort" not in rows.columns:
        return [("", rows)]
    return [(str(cohort), part) for cohort, part in rows.groupby("cohort", sort=False)]


def significance_tables(rows: pd.DataFrame, *, reference: str, **how: Any) -> list[Table]:
    """One table for each cohort that the rows name; `how` goes to `comparison_table`."""
    return [
        comparison_table(part, reference=reference, title=cohort or "Significance", **how)
        for cohort, part in cohorts_of(rows)
    ]


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Each table as table_N.md, .tex, .csv, .html, and every test behind it as table_N.comparisons.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, table in enumerate(tables, 1):
        for ending, text in (
            ("md", table.to_markdown()),
            ("tex", table.to_latex()),
            ("csv", table.to_csv()),
            ("html", table.to_html()),
            ("comparisons.csv", table.comparisons.to_csv(index=False)),
        ):
            written.append(folder / f"table_{i}.{ending}")
            written[-1].write_text(text, encoding="utf-8")
    return written
