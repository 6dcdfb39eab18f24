"""The table on README's first screen, printed from the demo's rows: `python -m experiments.readme [ROWS.parquet]`.

With a Parquet file of rows, `results/demo_rows.csv` is made anew from it first. A test compares README with the rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from experiments.tables import comparison_table

ROOT = Path(__file__).resolve().parent.parent
ROWS = Path(__file__).parent / "results" / "demo_rows.csv"
BEGIN, END = "<!-- demo-table:begin -->\n", "<!-- demo-table:end -->\n"
COLUMNS = ["method", "seed", "case", "patient", "slice_index", "structure", "contoured", "dice", "hausdorff_mm",
           "diagonal_mm"]  # fmt: skip


def demo_table() -> str:
    """The demo's table as Markdown, from its committed rows."""
    rows = pd.read_csv(ROWS)
    return comparison_table(rows, reference="full", title="Pre-training compared on Phantom").to_markdown()


def with_table(readme: str) -> str:
    """README's text with the table between its marks."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + "\n" + demo_table() + "\n" + END + rest.split(END)[1]


def main(arguments: list[str]) -> None:
    """Rewrite the rows, if a file is given, and README."""
    if arguments:
        pd.read_parquet(arguments[0])[COLUMNS].to_csv(ROWS, index=False, float_format="%.6f")
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
