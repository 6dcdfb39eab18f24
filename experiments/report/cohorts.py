"""The cohorts of a study side by side, with the paper's numbers where it has the cohort: its Table 1 a to c, and bars.

Nothing is tested here: intervals and tests are those of each cohort's own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.report.figures import DOUBLE_CM, INK, SINGLE_CM, print_style
from experiments.report.page import Picture
from experiments.report.palette import Look
from pixelglobal.tables.contrasts import AVERAGE
from pixelglobal.tables.paper import paper_scores
from pixelglobal.tables.results_table import ResultCell, ResultsTable
from pixelglobal.tables.table import Table

Results = Mapping[str, Sequence[ResultsTable]]  # the compact tables of each cohort
PRINTED = {"dice": ("DSC (%)", "DSC"), "hausdorff": ("HD (mm)", "HD_mm")}  # metric: as printed here, as the paper's
TITLE = "The cohorts side by side"
CAPTION = (
    "Means over test patients on the scans' own grids, as in the table of each cohort, which has the intervals and "
    "tests. In brackets: the paper's value for this cohort, structure and method; its averages are over the structures "
    "that are here, if it has all of them."
)
FIGURE = (
    "Average DSC over test patients; each panel is a cohort. Dashed, and hatched in print: the paper's Table {table}, "
    "over the same structures. Its levels are those of other patients and of slices, so that only gains should be "
    "compared."
)


def cohorts_table(results: Results, paper_table: str) -> list[Table]:
    """One table of all cohorts, a line for each structure; none where there is a single cohort."""
    if len(results) < 2:
        return []
    lines: list[dict[str, str]] = []
    best: set[tuple[int, str]] = set()
    for cohort, tables in results.items():
        of_metric = {
            made.metric.name: made for made in tables if made.unit == "patient" and made.metric.name in PRINTED
        }
        for structure in next(iter(of_metric.values())).columns:
            line = {"cohort": cohort, "structure": structure}
            for name, made in of_metric.items():
                for method in made.methods:
                    column = f"{PRINTED[name][0]}, {made.words[method]}"
                    theirs = paper_scores(cohort, method, made.columns[1:], PRINTED[name][1], paper_table)
                    line[column] = _cell(made.cells[method][structure], theirs.get(structure))
                    best |= {(len(lines), column)} if made.cells[method][structure].best else set()
            lines.append(line)
    frame = pd.DataFrame(lines).fillna("")
    return [Table(TITLE, CAPTION, _paper_notes(results, paper_table), frame, pd.DataFrame(), frozenset(best))]


def _cell(ours: ResultCell, paper: float | None) -> str:
    text = ours.text.partition(" ± ")[0] + (f" ({ours.failed})" if ours.failed else "")
    return text if paper is None else f"{text} [{paper:.2f}]"


def _paper_notes(results: Results, paper_table: str) -> tuple[str, ...]:
    with_paper = [one["cohort"] for one in bars(results, paper_table) if one["paper"] is not None]
    if not with_paper:
        return ("None of these cohorts is one of the paper's by its name and structures",)
    cohorts = ", ".join(dict.fromkeys(with_paper))
    return (f"The paper's Table {paper_table} has {cohorts} by name and structures; its scores are over test slices",)


def bars(results: Results, paper_table: str) -> list[dict[str, Any]]:
    """The average DSC of each cohort and method, ours and the paper's (None where it has no such number)."""
    return [
        {
            "cohort": cohort,
            "method": method,
            "ours": made.cells[method][AVERAGE].mean,
            "paper": paper_scores(cohort, method, made.columns[1:], "DSC", paper_table).get(AVERAGE),
        }
        for cohort, [made, *_] in results.items()
        for method in made.methods
    ]


def cohorts_picture(results: Results, looks: Mapping[str, Look], paper_table: str) -> list[Picture]:
    """Bars of all cohorts; none where there is a single cohort."""
    if len(results) < 2:
        return []
    data = bars(results, paper_table)
    wide, narrow = (draw_bars(data, looks, width_cm=width) for width in (DOUBLE_CM, SINGLE_CM))
    said = "; ".join(f"{bar['cohort']}, {looks[bar['method']].words}: {_words(bar)}" for bar in data)
    caption = FIGURE.format(table=paper_table)
    return [Picture("cohorts", "Cohorts", caption, wide, f"Average DSC. {said}.", narrow, "cohorts", {"bars": data})]


def _words(bar: Mapping[str, Any]) -> str:
    return f"{bar['ours']:.1f} %" + ("" if bar["paper"] is None else f", in the paper {bar['paper']:.1f} %")


def draw_bars(data: Sequence[Mapping[str, Any]], looks: Mapping[str, Look], *, width_cm: float) -> Figure:
    """Cohorts as panels, below each other in one column of print; a pair of bars for each method."""
    cohorts = list(dict.fromkeys(bar["cohort"] for bar in data))
    methods = [method for method in looks if any(bar["method"] == method for bar in data)]
    columns = len(cohorts) if width_cm > SINGLE_CM else 1
    rows = -(-len(cohorts) // columns)
    with print_style(), plt.rc_context({"hatch.linewidth": 0.6}):
        size = (width_cm / 2.54, 2.3 * rows + 0.16 * len(methods) + 0.2)
        figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
        for axis, cohort in zip(axes.flat, cohorts, strict=False):
            for bar in (bar for bar in data if bar["cohort"] == cohort):
                look, place = looks[bar["method"]], methods.index(bar["method"])
                alone = bar["paper"] is None
                _bar(axis, place - (0 if alone else 0.21), bar["ours"], facecolor=look.color)
                if not alone:
                    _bar(axis, place + 0.21, bar["paper"], facecolor="none", edgecolor=look.color, hatch="////")
            axis.set(title=cohort, xticks=[], xlim=(-0.6, len(methods) - 0.4), ylim=(0, 108), yticks=range(0, 101, 20))
        for axis in axes[:, 0]:
            axis.set_ylabel("average DSC (%)")
        handles = [Patch(facecolor=looks[method].color, label=looks[method].words) for method in methods]
        if any(bar["paper"] is not None for bar in data):
            handles.append(Patch(facecolor="none", edgecolor=INK, hatch="////", label="the paper"))
        figure.legend(handles=handles, loc="outside lower center", ncols=2 if width_cm > SINGLE_CM else 1)
    return figure


def _bar(axis: Any, place: float, value: float, **style: Any) -> None:
    if np.isfinite(value):
        axis.bar(place, value, width=0.38, **style)
        axis.annotate(f"{value:.1f}", (place, value + 1), ha="center", va="bottom", fontsize=7)
