"""A finished table in a terminal: nothing is cut off, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from pixelglobal.tables.escapes import one_line
from pixelglobal.tables.table import Table

GAP = 3  # characters between two columns


def for_terminal(table: Table, width: int) -> Group:
    """The table as the paper prints it if that fits; else a line for each structure, a few methods below each other."""
    frame = table.frame
    columns = [str(column) for column in frame.columns]
    head = [one_line(column) for column in columns]
    lines = [[one_line(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    marked = {(i, columns.index(column)) for i, column in table.best}
    if sum(max(map(cell_len, column)) + GAP for column in zip(head, *lines, strict=True)) <= width:
        grids = [_grid(head, lines, marked, left=2)]
    else:
        fold = _stacked if head[1] == "metric" else str  # other tables have few lines, so that there is room
        groups = _groups(lines, max(map(cell_len, head)), width, fold)
        grids = [_turned(head, lines, marked, rows, fold) for rows in groups]
    title = Text.assemble((f"{one_line(table.title)}. ", "bold"), one_line(table.caption))
    return Group(title, *grids, *(Text(f"- {one_line(line)}", style="dim") for line in table.metric_card))


def _turned(
    head: list[str],
    lines: list[list[str]],
    marked: set[tuple[int, int]],
    rows: Sequence[int],
    fold: Callable[[str], str],
) -> Grid:
    """A column for each given line of the table, a line for each structure, or for what else its columns are."""
    of_structures = head[1] == "metric"  # which belongs to the names of the lines
    first = 2 if of_structures else 1
    heads = [f"{_method(lines, i)} {lines[i][1]}" if of_structures else _method(lines, i) for i in rows]
    names = ["structure" if of_structures else "", *map(fold, heads)]
    body = [[head[j], *(fold(lines[i][j]) for i in rows)] for j in range(first, len(head))]
    bold = {(j - first, rows.index(i) + 1) for i, j in marked if i in rows}
    return _grid(names, body, bold, left=1)


def _groups(lines: list[list[str]], first: int, width: int, fold: Callable[[str], str]) -> list[list[int]]:
    """The table's lines in groups that fit side by side; the lines of one method stay together."""
    groups: list[list[int]] = [[]]
    used = first + GAP
    for method in dict.fromkeys(_method(lines, i) for i in range(len(lines))):
        own = [i for i in range(len(lines)) if _method(lines, i) == method]
        words = [[w for text in [method, *lines[i][1:]] for w in fold(text).splitlines()] for i in own]
        wide = sum(max(map(cell_len, column)) + GAP for column in words)
        if groups[-1] and used + wide > width:
            groups.append([])
            used = first + GAP
        groups[-1] += own
        used += wide
    return groups


def _method(lines: list[list[str]], i: int) -> str:
    return next(lines[k][0] for k in range(i, -1, -1) if lines[k][0])


def _stacked(text: str) -> str:
    """A word on each line, but a number keeps its unit and its mark."""
    return text.replace(" (mm)", "_(mm)").replace(" (%)", "_(%)").replace(" ", "\n").replace("_(", " (")


def _grid(head: list[str], body: list[list[str]], bold: set[tuple[int, int]], left: int) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(head):
        grid.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
    for i, line in enumerate(body):
        grid.add_row(*(Text(text, style="bold" if (i, j) in bold else "") for j, text in enumerate(line)))
    return grid
