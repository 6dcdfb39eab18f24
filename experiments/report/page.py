"""One offline HTML page of a study, and every table and figure of it as a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import INK, svg
from experiments.report.palette import DARK, LIGHT, looks, method_words
from pixelglobal.files import html_template, write_file
from pixelglobal.tables.results_table import ResultsTable
from pixelglobal.tables.table import Table

TEMPLATES = Path(__file__).parent / "templates"
TABLE_FILES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "comparisons.csv": "every test behind it"}
FIGURE_FILES = {"svg": "SVG", "pdf": "PDF", "png": "PNG"}


@dataclass(frozen=True)
class Picture:
    """A figure of the report with the sentence that says what to see in it.

    plot, data: the function of `templates/plots.js` that draws it in the page, and what that function gets; the figure
    itself is shown where scripts do not run, and is what the files hold.
    """

    name: str  # of its files
    heading: str
    caption: str
    figure: Figure
    alt: str = ""  # what a reader who cannot see the figure should know of it; the caption, if empty
    narrow: Figure | None = None  # the same for one column of print
    plot: str = ""
    data: Any = None
    in_page: bool = True  # False: only its files are linked, as for slices that the case viewer shows


@dataclass(frozen=True)
class Report:
    """What a page says.

    verdicts: its first lines. badges: (kind, words) of each claim; kind is reproduced, not or undecided. strip: short
    facts below the verdict. lead: the pictures before the tables. results: the compact tables of each cohort, one for
    each metric. runs: one flat mapping per training run, shown as a table that can be sorted and filtered. warnings:
    sentences that nobody may overlook, such as leakage and runs without a result. notes: sentences on how to read the
    results. facts: {heading: mapping or text} such as environment, commands and settings. methods: all of the page.
    """

    title: str
    question: str
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    runs: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    facts: Mapping[str, Any]
    verdicts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    badges: Sequence[tuple[str, str]] = ()
    strip: Mapping[str, str] = field(default_factory=dict)
    lead: Sequence[Picture] = ()
    results: Mapping[str, Sequence[ResultsTable]] = field(default_factory=dict)
    methods: Sequence[str] = ()
    behind: Mapping[str, Any] = field(default_factory=dict)  # the rows and runs behind the numbers, for the page
    cases: Mapping[str, Any] | None = None  # of the case viewer
    paper: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)  # what can go into a paper


def write_report(report: Report, out: Path) -> Path:
    """Write `out/report.html` (one file, no network), `out/tables/` and `out/figures/`; returns the page.

    The figures are closed. Raises ValueError if two pictures have one name, since names name files.
    """
    drawn = [*report.lead, *report.pictures]
    names = [picture.name for picture in drawn]
    if len(set(names)) < len(names):
        raise ValueError(f"the pictures' names {', '.join(names)} must differ, since they name files")
    known = looks(report.methods)
    numbers = iter(range(1, 1_000))
    results = [
        {"name": name or "Results", "tables": [_write_results(table, out / "tables", numbers) for table in tables]}
        for name, tables in report.results.items()
    ]
    tables = [_write_table(table, out / "tables", next(numbers), report.runs) for table in report.tables]
    cases_after = next((p.name for p in report.pictures if p.name.startswith("patients")), "")
    with_plots = any(picture.plot for picture in drawn)
    page = html_template(TEMPLATES / "report.html.j2").render(
        report=report,
        contents=_contents(report, cases_after),
        lead=[_write_picture(picture, out / "figures") for picture in report.lead],
        results=results,
        tables=tables,
        pictures=[_write_picture(picture, out / "figures") for picture in report.pictures],
        columns=[
            c for c in dict.fromkeys(column for run in report.runs for column in run) if not c.endswith(" folder")
        ],
        facts=[_fact(heading, value) for heading, value in report.facts.items()],
        looks=list(known.values()),
        words={method: look.words for method, look in known.items()},
        light=LIGHT,
        dark=DARK,
        data={"looks": [look.to_dict() for look in known.values()], **report.behind},
        with_plots=with_plots,
        vendored=(TEMPLATES / "vendor" / "plot.min.js").read_text() if with_plots else "",
        cases_after=cases_after,
    )
    return write_file(out / "report.html", page)


def _contents(report: Report, cases_after: str) -> list[tuple[str, str]]:
    """The headings of the page in their order, and where they lead."""
    sections = [(p.heading, p.name) for p in report.lead] + [("Results", "results")]
    for picture in report.pictures:
        sections += [(picture.heading, picture.name)] if picture.in_page else []
        sections += [("Cases", "cases")] if report.cases and picture.name == cases_after else []
    sections += [("What was run", "runs")] + ([("For a paper", "paper")] if report.paper else [])
    return [*sections, ("How these numbers were made", "made")]


def _write_results(table: ResultsTable, folder: Path, numbers: Iterator[int]) -> dict[str, Any]:
    """The files of a compact table, their texts for copying, and how the page's switch calls it."""
    number = next(numbers)
    texts = {"csv": table.to_csv(), "md": table.to_markdown(), "tex": table.to_latex()}
    files = _write_texts(texts, folder, number)
    label = table.metric.label + (", by slice" if table.unit == "slice" else "")
    return {"id": f"table-{number}", "label": label, "made": table, "texts": texts, "files": files}


def _write_texts(texts: Mapping[str, str], folder: Path, number: int) -> list[tuple[str, str]]:
    files = []
    for ending, text in texts.items():
        path = folder / f"table_{number}.{ending}"
        write_file(path, text)
        files.append((f"{folder.name}/{path.name}", TABLE_FILES[ending]))
    return files


def _write_table(table: Table, folder: Path, number: int, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    # A method leads to its runs, by a part of their names.
    words = {str(run["method"]): method_words(str(run["method"])) for run in runs if "method" in run}
    names = {method: f"-{method.rpartition(':')[2]}- {table.run_filter}".strip() for method in words}
    links = {words[method]: f"#{urlencode({'filter': name})}" for method, name in names.items()}
    spoken = replace(
        table, frame=table.frame.replace(words | {f"{m} (primary)": f"{w} (primary)" for m, w in words.items()})
    )
    texts = {"csv": table.to_csv(), "md": table.to_markdown(), "tex": table.to_latex()}
    if len(table.comparisons):
        texts["comparisons.csv"] = table.comparisons_csv()
    files = _write_texts(texts, folder, number)
    columns = len(table.frame.columns)
    return {"title": table.title, "html": spoken.to_html(links), "files": files, "id": f"table-{number}",
            "columns": columns}  # fmt: skip


def _write_picture(picture: Picture, folder: Path) -> dict[str, Any]:
    files, shown = [], ""
    for figure, suffix, column in ((picture.figure, "", ""), (picture.narrow, "_single", " (one column)")):
        if figure is None:
            continue
        for ending in ("pdf", "png"):
            write_file(folder / f"{picture.name}{suffix}.{ending}", functools.partial(write_picture_file, figure))
        drawing = svg(figure)
        write_file(folder / f"{picture.name}{suffix}.svg", drawing)
        shown = shown or drawing
        files += [(f"{folder.name}/{picture.name}{suffix}.{ending}", label + column)
                  for ending, label in FIGURE_FILES.items()]  # fmt: skip
    return {
        "name": picture.name,
        "heading": picture.heading,
        "caption": picture.caption,
        "alt": picture.alt or picture.caption,
        "svg": _for_the_page(shown, picture.name) if picture.in_page else "",
        "plot": picture.plot,
        "data": picture.data,
        "files": files,
    }


def write_picture_file(figure: Figure, path: Path) -> None:
    """A figure as PDF with TrueType fonts or as PNG with 300 dots an inch, by the ending of the path."""
    with plt.rc_context({"pdf.fonttype": 42}):
        figure.savefig(path, dpi=300, facecolor="white")


def _for_the_page(drawing: str, name: str) -> str:
    """One SVG among others in a page: ids of its own, and its ink in the page's text colour, light or dark."""
    for mark in ('id="', 'href="#', "url(#"):
        drawing = drawing.replace(mark, f"{mark}{name}-")
    return drawing.replace(INK, "var(--ink)")


def _fact(heading: str, value: Any) -> dict[str, Any]:
    """A flat mapping becomes lines of name and value; anything deeper is shown as JSON that can be unfolded."""
    lines: dict[str, str] = {}
    rest: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list | tuple):
                rest[str(key)] = item
            else:
                lines[str(key)] = str(item)
    elif isinstance(value, str):
        lines[""] = value
    else:
        rest[heading] = value
    return {"heading": heading, "lines": lines, "rest": json.dumps(rest, indent=1, default=str) if rest else ""}
