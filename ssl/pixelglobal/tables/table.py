"""A finished table in every form in which people need one: Markdown, LaTeX, CSV, HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

GAIN, LOSS, DIFFERS = "*", "†", "≠"


@dataclass(frozen=True)
class Table:
    """A finished table: `frame` holds printed cells, `comparisons` every test behind them."""

    title: str
    caption: str
    metric_card: tuple[str, ...]
    frame: pd.DataFrame  # columns: method, metric, one per structure, Average
    comparisons: pd.DataFrame  # one row per test: method, structure, unit, difference, interval, p, corrected p
    best: frozenset[tuple[int, str]]  # (row, column) of the best DSC and HD of each column
    run_filter: str = (
        ""  # what the names of its training runs contain besides the method, in a study of several cohorts
    )

    def to_markdown(self) -> str:
        """A Markdown table with caption and card."""
        head = [str(c) for c in self.frame.columns]
        lines = [f"**{self.title}.** {self.caption}", "", _bar(head), _bar(["---"] * len(head))]
        for i, row in enumerate(self.frame.itertuples(index=False)):
            lines.append(_bar([f"**{v}**" if (i, c) in self.best else str(v) for c, v in zip(head, row, strict=True)]))
        return "\n".join([*lines, "", *(f"- {line}" for line in self.metric_card), ""])

    def to_latex(self) -> str:
        """A table environment for the booktabs package; a raised number counts missed structures, to save width."""
        head = [str(c) for c in self.frame.columns]
        lines = [r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}",
                 rf"\caption{{{_tex(self.title)}. {_tex(self.caption)}}}",
                 rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}", r"\toprule",
                 " & ".join(_tex(c) for c in head) + r" \\", r"\midrule"]  # fmt: skip
        for i, row in enumerate(self.frame.itertuples(index=False)):
            cells = [
                rf"\textbf{{{_tex_cell(v)}}}" if (i, c) in self.best else _tex_cell(v)
                for c, v in zip(head, row, strict=True)
            ]
            lines.append(" & ".join(cells) + r" \\")
        raised = any("missed)" in str(v) for row in self.frame.itertuples(index=False) for v in row)
        card = [*self.metric_card, *(["Raised numbers count missed structures"] if raised else [])]
        notes = ". ".join(_tex(line) for line in card)
        return "\n".join(
            [*lines, r"\bottomrule", r"\end{tabular}", rf"\par\smallskip\footnotesize {notes}.", r"\end{table}", ""]
        )

    def to_csv(self) -> str:
        """The printed cells as CSV."""
        return str(self.frame.to_csv(index=False))

    def comparisons_csv(self) -> str:
        """Every test behind the table as CSV."""
        return str(self.comparisons.to_csv(index=False))

    def to_html(self, links: Mapping[str, str] | None = None) -> str:
        """A table element with caption; the card follows as a list. links: where the name of a method leads."""
        head = [str(c) for c in self.frame.columns]
        body = []
        for i, row in enumerate(self.frame.itertuples(index=False)):
            cells = []
            for j, (column, value) in enumerate(zip(head, row, strict=True)):
                tag = 'th scope="row"' if j == 0 else "td"
                text = html.escape(str(value))
                text = f"<strong>{text}</strong>" if (i, column) in self.best else text
                if column == "method" and links and str(value) in links:
                    text = f'<a href="{html.escape(links[str(value)])}">{text}</a>'
                cells.append(f"<{tag}>{text}</{tag.split()[0]}>")
            first = i == 0 or self.frame["method"].iloc[i] != ""
            body.append(f"<tr{' class=first' if first else ''}>" + "".join(cells) + "</tr>")
        header = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in head)
        card = "".join(f"<li>{html.escape(line)}</li>" for line in self.metric_card)
        return (
            f"<table><caption><strong>{html.escape(self.title)}.</strong> {html.escape(self.caption)}</caption>"
            f"<thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            f'<ul class="metric-card">{card}</ul>'
        )


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


TEX = {c: "\\" + c for c in "&%$#_{}"}


TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}


TEX |= {LOSS: r"$\dagger$", DIFFERS: r"$\neq$"}


def _tex(text: object) -> str:
    return "".join(TEX.get(c, c) for c in str(text))


def _tex_cell(value: object) -> str:
    return re.sub(r" \((\d+) missed\)", r"\\textsuperscript{\1}", _tex(value))
