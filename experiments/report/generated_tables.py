"""Tables in the documents, printed from committed results.

    python -m experiments.report.generated_tables [ROWS.parquet]

README has the demo's table; with a Parquet file of rows, `results/demo_rows.csv` is made anew from it first.
docs/explanation/significance.md has the simulated error rates and a picture of them, and docs/method.md the results on
real CT. A test compares all tables with the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.report.figures import svg
from experiments.report.method_claims import draw_method_claims, method_claims_table
from experiments.report.real_ct_tables import (
    label_efficiency_contrasts,
    label_efficiency_means,
    label_efficiency_verdict,
)
from pixelglobal.tables.comparison import comparison_table

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "experiments" / "results" / "demo_rows.csv"
ERROR_RATES = ROOT / "experiments" / "results" / "2026-11-23_bench_statistics.json"
COLUMNS = ["method", "seed", "case", "patient", "slice_index", "structure", "contoured", "dice", "hausdorff_mm",
           "diagonal_mm"]  # fmt: skip


def demo_table() -> str:
    """The demo's table as Markdown, from its committed rows."""
    rows = pd.read_csv(ROWS)
    return comparison_table(rows, reference="full", title="Pre-training compared on Phantom").to_markdown()


def error_rate_table() -> str:
    """The simulated error rates as Markdown, from committed results."""
    rows = json.loads(ERROR_RATES.read_text())["rows"]
    head = ["patients", "ICC", "effects", "false alarms, slices", "false alarms, patients", "slice interval holds",
            "patient interval holds"]  # fmt: skip
    names = ["patients", "ICC", "effects", "slice_alarms", "patient_alarms", "slice_coverage", "patient_coverage"]
    lines = [head, ["---"] * len(head)]
    lines += [[str(row[n]) + (" %" if n.endswith(("alarms", "coverage")) else "") for n in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


METHOD = ROOT / "docs" / "method.md"
SIGNIFICANCE = ROOT / "docs" / "explanation" / "significance.md"
# Which part of which document, by its mark there, is printed from results.
PRINTED: dict[str, tuple[Path, Callable[[], str]]] = {
    "demo-table": (ROOT / "README.md", demo_table),
    "error-rates": (SIGNIFICANCE, error_rate_table),
    "method-claims": (SIGNIFICANCE, method_claims_table),
    "label-efficiency-verdict": (METHOD, label_efficiency_verdict),
    "label-efficiency-contrasts": (METHOD, label_efficiency_contrasts),
    "label-efficiency-means": (METHOD, label_efficiency_means),
}


def with_table(text: str, mark: str, table: str) -> str:
    """A document's text with the table between its marks."""
    begin, end = f"<!-- {mark}:begin -->\n", f"<!-- {mark}:end -->\n"
    head, rest = text.split(begin)
    return head + begin + "\n" + table + "\n" + end + rest.split(end)[1]


def main(arguments: list[str]) -> None:
    """Rewrite the demo's rows, if a file is given, and the documents."""
    if arguments:
        pd.read_parquet(arguments[0])[COLUMNS].to_csv(ROWS, index=False, float_format="%.6f")
    for mark, (path, table) in PRINTED.items():
        path.write_text(with_table(path.read_text(), mark, table()))
    SIGNIFICANCE.with_name("method_claims.svg").write_text(svg(draw_method_claims()))


if __name__ == "__main__":
    main(sys.argv[1:])
