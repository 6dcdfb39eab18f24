"""A finished table in every form in which people need one: Markdown, LaTeX, CSV, HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pixelglobal.tables.escapes import csv_name, latex, markdown, one_line

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
        head = [markdown(column) for column in self.frame.columns]
        lines = [f"**{markdown(self.title)}.** {markdown(self.caption)}", "", _bar(head), _bar(["---"] * len(head))]
        for cells in self._cells():
            lines.append(_bar([f"**{markdown(text)}**" if best else markdown(text) for text, best in cells]))
        return "\n".join([*lines, "", *(f"- {markdown(line)}" for line in self.metric_card), ""])

    def to_latex(self) -> str:
        """A table environment for the booktabs package; a raised number counts failures, to save width."""
        lines = [r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}",
                 rf"\caption{{{latex(self.title)}. {latex(self.caption)}}}",
                 rf"\begin{{tabular}}{{ll{'r' * (len(self.frame.columns) - 2)}}}", r"\toprule",
                 " & ".join(latex(column) for column in self.frame.columns) + r" \\", r"\midrule"]  # fmt: skip
        for cells in self._cells():
            texts = [latex(text) if j < 2 else _raised(text) for j, (text, _) in enumerate(cells)]
            marked = [rf"\textbf{{{text}}}" if best else text for text, (_, best) in zip(texts, cells, strict=True)]
            lines.append(" & ".join(marked) + r" \\")
        raised = any(r"\textsuperscript" in line for line in lines)
        card = [*self.metric_card, *(["Raised numbers count missed structures and false alarms"] if raised else [])]
        notes = ". ".join(latex(line) for line in card)
        return "\n".join(
            [*lines, r"\bottomrule", r"\end{tabular}", rf"\par\smallskip\footnotesize {notes}.", r"\end{table}", ""]
        )

    def to_csv(self) -> str:
        """The printed cells as CSV; a name that a spreadsheet would take for a formula begins with an apostrophe."""
        frame = self.frame.copy()
        for name in frame.columns[:2]:
            frame[name] = frame[name].map(csv_name)
        return str(frame.set_axis([csv_name(column) for column in frame.columns], axis=1).to_csv(index=False))

    def comparisons_csv(self) -> str:
        """Every test behind the table as CSV, names as in `to_csv`."""
        names = [column for column in ("method", "structure") if column in self.comparisons.columns]
        return str(self.comparisons.assign(**{n: self.comparisons[n].map(csv_name) for n in names}).to_csv(index=False))

    def _cells(self) -> list[list[tuple[str, bool]]]:
        """Each line of the table: the text of each cell, and whether it is the best of its column."""
        columns = [str(column) for column in self.frame.columns]
        return [
            [(str(text), (i, column) in self.best) for column, text in zip(columns, row, strict=True)]
            for i, row in enumerate(self.frame.itertuples(index=False, name=None))
        ]

    def to_html(self, links: Mapping[str, str] | None = None) -> str:
        """A table element with caption; the card follows as a list. links: where the name of a method leads."""
        head = [one_line(column) for column in self.frame.columns]
        body = []
        for i, line in enumerate(self._cells()):
            cells = []
            for j, (value, best) in enumerate(line):
                tag = 'th scope="row"' if j == 0 else "td"
                text = html.escape(one_line(value))
                text = f"<strong>{text}</strong>" if best else text
                if j == 0 and links and value in links:
                    text = f'<a href="{html.escape(links[value])}">{text}</a>'
                label = f' data-label="{html.escape(head[j])}"' if j else ""
                cells.append(f"<{tag}{label}>{text}</{tag.split()[0]}>")
            first = i == 0 or line[0][0] != ""
            body.append(f"<tr{' class=first' if first else ''}>" + "".join(cells) + "</tr>")
        header = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in head)
        card = "".join(f"<li>{html.escape(one_line(line))}</li>" for line in self.metric_card)
        title, caption = (html.escape(one_line(text)) for text in (self.title, self.caption))
        return (
            f"<table><caption><strong>{title}.</strong> {caption}</caption>"
            f"<thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            f'<ul class="metric-card">{card}</ul>'
        )


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _raised(text: str) -> str:
    """A mean and its failures, such as `12.30 (1 missed, 2 false alarms)`, with their number raised."""
    match = re.fullmatch(r"(.*) \(((?:\d+ (?:missed|false alarms?|infinite)(?:, )?)+)\)", text)
    if match is None:
        return latex(text)
    return rf"{latex(match[1])}\textsuperscript{{{sum(map(int, re.findall(r'[0-9]+', match[2])))}}}"
