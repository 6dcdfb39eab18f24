"""The printed cells of a comparison: for each method its means, then what the reference gains over it, and p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.tables.averages import Failures, ScoreTable, failures
from pixelglobal.tables.contrasts import AVERAGE
from pixelglobal.tables.families import p_text
from pixelglobal.tables.table import DIFFERS, GAIN, LOSS

RESERVED = ("method", "metric", AVERAGE)  # columns that are not structures
NOT_TESTED = "not tested"


def comparison_frame(
    tables: Sequence[ScoreTable], scores: pd.DataFrame, comparisons: pd.DataFrame, reference: str, units: Sequence[str]
) -> tuple[pd.DataFrame, frozenset[tuple[int, str]]]:
    """The cells, and the (row, column) of the best mean of each metric and column.

    tables: one a printed metric, the tested one first. scores: the owed scores that they are made of, for the counts of
    failures. units: the ways of testing, one row of gains and one of p each.
    """
    columns = [*tables[0].structures, AVERAGE]
    lines: list[dict[str, str]] = []
    numbers: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for method in tables[0].values:
        for table in tables:
            cells = {}
            for column in columns:
                mean, text = _mean(table, scores, method, None if column == AVERAGE else column)
                numbers.setdefault((table.metric.name, column), []).append((mean, len(lines)))
                cells[column] = text
            first = table is tables[0]
            lines.append({"method": method if first else "", "metric": table.metric.label, **cells})
        if method != reference:
            tests = comparisons[comparisons["method"] == method] if len(comparisons) else comparisons
            lines += _test_lines(tests, columns, reference, units)
    frame = pd.DataFrame(lines, columns=["method", "metric", *columns])
    signs = {table.metric.name: 1 if table.metric.higher_is_better else -1 for table in tables}
    return frame, frozenset(_best(numbers, signs))


def _mean(table: ScoreTable, scores: pd.DataFrame, method: str, structure: str | None) -> tuple[float, str]:
    """A mean as a number and as a cell; a distance has the number of failures behind it."""
    mean = table.mean(method, structure)
    text = "n/a" if np.isnan(mean) else f"{mean:.2f}"
    if table.metric.higher_is_better:
        return round(mean, 2), text
    there = scores["method"] == method
    if structure is not None:
        there &= scores["structure"] == structure
    failed: Failures = failures(scores[there], table.metric)
    return round(mean, 2), text + (f" ({failed})" if str(failed) else "")


def _best(numbers: dict[tuple[str, str], list[tuple[float, int]]], signs: dict[str, int]) -> set[tuple[int, str]]:
    best = set()
    for (metric, column), entries in numbers.items():
        known = [(signs[metric] * value, row) for value, row in entries if not np.isnan(value)]
        if len(known) > 1:
            best |= {(row, column) for value, row in known if value == max(v for v, _ in known)}
    return best


def _test_lines(
    tests: pd.DataFrame, columns: Sequence[str], reference: str, units: Sequence[str]
) -> list[dict[str, str]]:
    """Gains with intervals and p, for each way of testing."""
    lines = []
    by_unit = {
        unit: {test.structure: test for test in tests[tests["asked_unit"] == unit].itertuples()} if len(tests) else {}
        for unit in units
    }
    marks = {column: _mark(by_unit[units[0]].get(column)) for column in columns}
    for unit, of_unit in by_unit.items():
        words = "" if len(units) == 1 else f", {unit}s"
        gains = {c: gain_text(of_unit[c]) if c in of_unit else NOT_TESTED for c in columns}
        ps = {}
        for column in columns:
            test = of_unit.get(column)
            ps[column] = NOT_TESTED if test is None else p_of(test)
            if test is not None and _mark(test) != marks[column]:
                ps[column] += f" {DIFFERS}"
        lines.append({"method": "", "metric": f"{reference} gains{words}", **gains})
        lines.append({"method": "", "metric": f"p{words}", **ps})
    return lines


def gain_text(test: Any) -> str:
    """The gain with its 95 % interval, of a row of comparisons."""
    return f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"


def p_of(test: Any) -> str:
    """The corrected p with its mark, of a row of comparisons."""
    return p_text(test.corrected_p, test.difference, confirmed=bool(test.confirmed), claimable=bool(test.claimable))


def _mark(test: Any) -> str:
    if test is None or not test.confirmed:
        return ""
    return GAIN if test.difference > 0 else LOSS
