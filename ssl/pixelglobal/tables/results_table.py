"""One metric as a compact table: a row for each method, the average first, each cell with its spread and its test.

`comparison_table` prints the same numbers below each other, as the paper does; this one is for pages and papers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pixelglobal.tables.averages import failures
from pixelglobal.tables.comparison import compared
from pixelglobal.tables.comparison_frame import gain_text, p_of
from pixelglobal.tables.contrasts import AVERAGE, Claim
from pixelglobal.tables.escapes import csv_name, latex, markdown
from pixelglobal.tables.families import ALPHA
from pixelglobal.tables.metric import METRICS, Metric
from pixelglobal.tables.metric_card import metric_card
from pixelglobal.tables.table import GAIN, LOSS


@dataclass(frozen=True)
class ResultCell:
    """The score of a method on a structure or on average, and what the reference gains over it."""

    mean: float  # NaN if a score is unknown
    sd: float  # over patients (or slices), of their means over runs; NaN for a single one
    failed: str = ""  # such as `2 missed`
    best: bool = False
    gain: str = ""  # with its 95 % interval; empty for the reference and where nothing is tested
    p: str = ""  # corrected, with its mark
    p_value: float = math.nan  # corrected

    @property
    def text(self) -> str:
        """Mean and standard deviation, such as `80.12 ± 4.50`.

        >>> ResultCell(80.123, 4.5).text
        '80.12 ± 4.50'
        """
        if math.isnan(self.mean):
            return "n/a"
        return f"{self.mean:.2f}" + ("" if math.isnan(self.sd) else f" ± {self.sd:.2f}")


@dataclass(frozen=True)
class ResultsTable:
    """cells[method][column]; the columns are the average and then the structures."""

    title: str
    metric: Metric
    unit: str  # patient or slice
    reference: str
    claim: Claim
    methods: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, ResultCell]]
    comparisons: pd.DataFrame
    card: tuple[str, ...]
    words: Mapping[str, str]  # names of methods for readers

    @property
    def caption(self) -> str:
        """How to read a cell."""
        about = (
            "The claim is about the methods: another training and other patients would show it again"
            if self.claim == "method"
            else "The claim is about these checkpoints, not about further trainings"
        )
        sense = "" if self.metric.higher_is_better else ", a smaller distance being a gain"
        return (
            f"{self.metric.label}: mean ± standard deviation over {self.unit}s. Below it the gain of "
            f"{self.words[self.reference]} over the method of the row in {self.metric.points} with its 95 % "
            f"interval{sense}, and p. '{GAIN}': {self.words[self.reference]} is better, '{LOSS}': worse, corrected "
            f"p < {ALPHA}; p in parentheses is exploratory. Bold: the best mean of the column, unless a missed "
            f"structure or a false alarm is in it. {about}."
        )

    def to_markdown(self) -> str:
        """A Markdown table with caption and card."""
        head = ["method", *self.columns]
        lines = [f"**{markdown(self.title)}.** {markdown(self.caption)}", "", _bar(map(markdown, head)),
                 _bar(["---", *["---:"] * len(self.columns)])]  # fmt: skip
        for method in self.methods:
            lines.append(_bar([markdown(self.words[method]), *(_markdown_cell(c) for c in self._row(method))]))
        return "\n".join([*lines, "", *(f"- {markdown(line)}" for line in self.card), ""])

    def to_latex(self) -> str:
        """A table environment for the packages booktabs, siunitx and graphicx, which fits the width of the text."""
        label = "tab:" + "".join(c if c.isascii() and c.isalnum() else "-" for c in self.title.lower()).strip("-")
        lines = [r"% \usepackage{booktabs,siunitx,graphicx}", r"\begin{table}", r"\centering",
                 rf"\caption{{{latex(self.title)}. {latex(self.caption)}}}", rf"\label{{{label}-{self.metric.name}}}",
                 r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                 rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}", r"\toprule",
                 " & ".join(latex(text) for text in ("Method", *self.columns)) + r" \\", r"\midrule"]  # fmt: skip
        for method in self.methods:
            cells = self._row(method)
            lines.append(" & ".join([latex(self.words[method]), *map(_latex_mean, cells)]) + r" \\")
            if any(cell.gain for cell in cells):
                lines.append(" & ".join(["", *(latex(cell.gain) for cell in cells)]) + r" \\")
                lines.append(" & ".join(["", *(f"$p$ {latex(c.p)}" if c.p else "" for c in cells)]) + r" \\")
        notes = ". ".join(latex(line) for line in self.card)
        end = [r"\bottomrule", r"\end{tabular}}", rf"\par\smallskip\footnotesize {notes}.", r"\end{table}", ""]
        return "\n".join([*lines, *end])

    def to_csv(self) -> str:
        """One line for each method and column, every number in a column of its own (tidy)."""
        tests = {(t.method, t.structure): t for t in self.comparisons.itertuples()} if len(self.comparisons) else {}
        records = []
        for method in self.methods:
            for column, cell in self.cells[method].items():
                test: Any = tests.get((method, column))
                records.append(
                    {"method": csv_name(method), "structure": csv_name(column), "metric": self.metric.name,
                     "mean": cell.mean, "sd": cell.sd, "failed": cell.failed, "reference": csv_name(self.reference),
                     **({} if test is None else {n: getattr(test, n) for n in (
                         "difference", "low", "high", "p_value", "corrected_p", "family", "n_runs", "n_patients")})}
                )  # fmt: skip
        return str(pd.DataFrame(records).to_csv(index=False))

    def _row(self, method: str) -> list[ResultCell]:
        return [self.cells[method][column] for column in self.columns]


def results_table(
    rows: pd.DataFrame,
    *,
    reference: str,
    metric: str = "dice",
    title: str = "Results",
    words: Mapping[str, str] | None = None,
    **how: Any,
) -> ResultsTable:
    """The compact table of one metric from rows of one cohort; `how` goes to `comparison_table`, unit=both excepted.

    words: names of methods for readers. Raises ValueError as `comparison_table` does.
    """
    made, scores = compared(rows, reference=reference, metric=metric, **how)
    table = made.table
    columns = (AVERAGE, *table.structures)
    tests: dict[tuple[str, str], Any] = {}
    if len(made.comparisons):
        tests = {(str(t.method), str(t.structure)): t for t in made.comparisons.itertuples()}
    cells: dict[str, dict[str, ResultCell]] = {method: {} for method in table.values}
    for column in columns:
        structure = None if column == AVERAGE else column
        means = {m: table.mean(m, structure) for m in table.values}
        failed = {m: _failed(scores, table.metric, m, structure) for m in table.values}
        best = _best(means, failed, table.metric)
        for method in table.values:
            units = table.unit_means(method, structure)
            test = tests.get((method, column))
            tested = {} if test is None else {"gain": gain_text(test), "p": p_of(test), "p_value": test.corrected_p}
            sd = float(units.std(ddof=1)) if units.size > 1 else math.nan
            cells[method][column] = ResultCell(means[method], sd, failed[method], method in best, **tested)
    unit = "slice" if made.unit == "slice" else "patient"
    named = {method: (words or {}).get(method, method) for method in table.values}
    return ResultsTable(
        title, table.metric, unit, reference, made.claim, tuple(table.values), columns, cells, made.comparisons,
        metric_card(made), named,
    )  # fmt: skip


def _failed(scores: pd.DataFrame, metric: Metric, method: str, structure: str | None) -> str:
    there = scores["method"] == method
    if structure is not None:
        there &= scores["structure"] == structure
    return "" if metric.higher_is_better else str(failures(scores[there], metric))


def _best(means: Mapping[str, float], failed: Mapping[str, str], metric: Metric) -> set[str]:
    """The methods with the best mean; nobody where that mean is a miss, or where all are alike."""
    known = {method: round(mean, 2) for method, mean in means.items() if not math.isnan(mean)}
    if len(set(known.values())) < 2:
        return set()
    top = max(known.values()) if metric.higher_is_better else min(known.values())
    return {method for method, mean in known.items() if mean == top and not failed[method] and mean != 0.0}


def _bar(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: ResultCell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    more = [cell.failed, cell.gain, f"p {cell.p}" if cell.p else ""]
    return "<br>".join([text, *(markdown(part) for part in more if part)])


def _latex_mean(cell: ResultCell) -> str:
    if math.isnan(cell.mean):
        return "n/a"
    text = rf"\num{{{cell.mean:.2f}}}" + ("" if math.isnan(cell.sd) else rf" $\pm$ \num{{{cell.sd:.2f}}}")
    text = rf"\textbf{{{text}}}" if cell.best else text
    return text + (rf" ({latex(cell.failed)})" if cell.failed else "")


def available_metrics(rows: pd.DataFrame) -> Sequence[str]:
    """The names of the metrics that rows have, Dice first.

    >>> available_metrics(pd.DataFrame({"dice": [0.5], "hausdorff_mm": [float("nan")], "surface_dice": [0.4]}))
    ['dice', 'surface_dice']
    """
    return [m.name for m in METRICS.values() if m.column in rows.columns and rows[m.column].notna().any()]
