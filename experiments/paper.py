"""Every number that the paper reports, to print beside ours; `paper/paper_claims.csv` notes what does not add up."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "paper"


@cache
def tables() -> pd.DataFrame:
    """All cells of Tables 1 and 2: table, dataset, pretrain, metric, structure, value, starred, n_samples."""
    return pd.read_csv(FOLDER / "paper_tables.csv")


@cache
def claims() -> pd.DataFrame:
    """The numbers of the text, each with what the tables give: stated, recomputed, status, note."""
    return pd.read_csv(FOLDER / "paper_claims.csv")


def paper_value(dataset: str, pretrain: str, metric: str, structure: str, table: str = "1") -> float | None:
    """One cell, such as paper_value("KiTS", "Ours", "DSC", "Tumor"); None if the paper has no such cell.

    >>> paper_value("KiTS", "Ours", "DSC", "Tumor")
    72.57
    """
    t = tables()
    found = t[
        t["table"].str.startswith(table)
        & (t["dataset"] == dataset)
        & (t["pretrain"] == pretrain)
        & (t["metric"] == metric)
        & (t["structure"] == structure)
    ]["value"].dropna()
    return None if found.empty else float(found.iloc[0])
