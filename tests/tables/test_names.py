"""Any name goes through every format: no table breaks, nothing runs as a formula, LaTeX compiles."""

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.comparison_frame import RESERVED
from pixelglobal.tables.escapes import one_line
from pixelglobal.tables.significance import further_answers, write_tables
from pixelglobal.tables.table import Table
from pixelglobal.tables.terminal import for_terminal

NASTY = ["|", "a|b", "[/]", "[bold]x", "two\nlines", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "≥ 50 %", "method",
         "metric", "Average", "Average (structure)", "\\", "\\\\", "{", "}", "$x$", "&", "#", "~", "^", "_", "a_b", "*",
         "**", "`", "<script>", "é", "ß", "肝臓", "\t=1", "x\x1b[31m", "(3 missed)", "2.00 (1 missed)", '"', "'", "’",
         "\u202ea", "œdème", "μ", "A" * 60, "1.", "- x", "nan", "None", "full gains", "p", "%", "\r\n=1+1", "a\u0301",
         "x,y;z", "](http://x)", "![x](y)"]  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=12), st.text("|[]/\\{}$&#_^~=+-@*`<>% \n", max_size=8))
sound = texts.filter(lambda name: one_line(name).strip())


def rows_of(names):
    """3 methods, structures, 4 patients; one miss, so that a distance has words behind it."""
    methods, structures = names[:3], names[3:]
    return pd.DataFrame(
        {"method": m, "case": f"c{i}", "structure": s, "dice": 0.5 + 0.1 * k + 0.01 * i if k + j + i else 0.0,
         "hausdorff_mm": 3.0 if k + j + i else float("inf"), "diagonal_mm": 100.0}
        for k, m in enumerate(methods) for j, s in enumerate(structures) for i in range(4)
    )  # fmt: skip


def compared(names):
    return comparison_table(rows_of(names), reference=names[2], title=names[3], n_resamples=50)


TEMPLATE = compared([f"name {i}" for i in range(25)])


def table_of(names):
    """The template with other names everywhere."""
    known = {f"name {i}": f"{name} (structure)" if name in RESERVED else name for i, name in enumerate(names)}
    frame = TEMPLATE.frame.rename(columns=known).replace(known)
    frame["metric"] = frame["metric"].str.replace("name 2", names[2])
    best = frozenset((row, known.get(column, column)) for row, column in TEMPLATE.best)
    return Table(names[3], f"{TEMPLATE.caption} {names[4]}", (*TEMPLATE.metric_card, *names), frame,
                 TEMPLATE.comparisons.replace(known), best)  # fmt: skip


FORMULA = ("=", "+", "-", "@")


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1


def unescaped(character, text):
    return len(re.findall(r"(?<!\\)(?:\\\\)*" + re.escape(character), text))


def require_sound(table):
    width = len(table.frame.columns)
    lines = table.to_markdown().splitlines()[2 : 4 + len(table.frame)]
    assert {unescaped("|", line) for line in lines} == {width + 1}
    read = list(csv.reader(io.StringIO(table.to_csv())))
    assert {len(line) for line in read} == {width}
    for line in [read[0], *(line[:2] for line in read[1:])]:
        assert not any(cell.lstrip().startswith(FORMULA) for cell in line)
    comparisons = list(csv.DictReader(io.StringIO(table.comparisons_csv())))
    assert len(comparisons) == len(table.comparisons)
    assert not any(test[k].lstrip().startswith(FORMULA) for test in comparisons for k in ("method", "structure"))
    page = Cells()
    page.feed(table.to_html())
    assert set(page.rows) == {width}
    assert page.tags <= {"table", "caption", "strong", "thead", "tbody", "tr", "td", "th", "ul", "li"}
    tex = table.to_latex()
    assert tex.isascii()
    assert unescaped("{", tex) == unescaped("}", tex)
    body = tex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    assert {unescaped("&", line) for line in body.splitlines() if line.endswith(r" \\")} == {width - 1}
    for columns in (60, 200):
        console = Console(width=columns, file=io.StringIO(), force_terminal=False)
        console.print(for_terminal(table, columns))
        assert "\x1b" not in console.file.getvalue()


@pytest.mark.slow
@given(st.lists(sound, min_size=25, max_size=25, unique=True))
@settings(max_examples=80, deadline=None)
def test_2000_names_through_every_format(names):
    require_sound(table_of(names))


@given(st.lists(sound, min_size=8, max_size=8, unique=True))
@settings(max_examples=15, deadline=None)
def test_rows_with_any_names_become_a_table(names):
    require_sound(compared(names))
    assert len(list(further_answers(rows_of(names), reference=names[2], gain=1, margin=1))) == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_latex_compiles_with_every_name(tmp_path):
    begin = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    tables = [compared(NASTY[i : i + 8]) for i in range(0, len(NASTY) - 7, 4)]
    write_tables(tables, tmp_path)
    inputs = "".join(rf"\input{{table_{i}.tex}}\clearpage " for i in range(1, len(tables) + 1))
    (tmp_path / "all.tex").write_text(begin + inputs + r"\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
