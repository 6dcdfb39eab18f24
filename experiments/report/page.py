"""One offline HTML page of a study, and every table and figure of it as a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from matplotlib.figure import Figure

from experiments.report.figures import INK, svg
from pixelglobal.files import write_file
from pixelglobal.tables.table import Table

TEMPLATES = Path(__file__).parent / "templates"


TABLE_FILES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "comparisons.csv": "every test behind it"}


FIGURE_FILES = {"svg": "SVG", "pdf": "PDF", "png": "PNG"}


@dataclass(frozen=True)
class Picture:
    """A figure of the report with the sentence that says what to see in it."""

    name: str  # of its files
    heading: str
    caption: str
    figure: Figure
    alt: str = ""  # what a reader who cannot see the figure should know of it; the caption, if empty


@dataclass(frozen=True)
class Report:
    """What a page says.

    verdicts: its first lines. runs: one flat mapping per training run, shown as a table that can be sorted and
    filtered. warnings: sentences that nobody may overlook, such as leakage and runs without a result. notes: sentences
    on how to read the results. Both are printed above everything that a reader might quote. facts: {heading: mapping or
    text} such as environment, commands and settings.
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


def write_report(report: Report, out: Path) -> Path:
    """Write `out/report.html` (one file, no network), `out/tables/` and `out/figures/`; returns the page.

    The figures are closed. Raises ValueError if two pictures have one name, since names name files.
    """
    names = [picture.name for picture in report.pictures]
    if len(set(names)) < len(names):
        raise ValueError(f"the pictures' names {', '.join(names)} must differ, since they name files")
    methods = {str(run["method"]) for run in report.runs if "method" in run}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        report=report,
        tables=[_write_table(table, out / "tables", i, methods) for i, table in enumerate(report.tables, 1)],
        pictures=[_write_picture(picture, out / "figures") for picture in report.pictures],
        columns=list(dict.fromkeys(column for run in report.runs for column in run)),
        facts=[_fact(heading, value) for heading, value in report.facts.items()],
    )
    return write_file(out / "report.html", page)


def _write_table(table: Table, folder: Path, number: int, methods: Iterable[str]) -> dict[str, Any]:
    # A method leads to its runs, by a part of their names.
    words = {method: f"-{method.rpartition(':')[2]}- {table.run_filter}".strip() for method in methods}
    links = {method: f"#{urlencode({'filter': filter_words})}" for method, filter_words in words.items()}
    texts = {"csv": table.to_csv(), "md": table.to_markdown(), "tex": table.to_latex()}
    if len(table.comparisons):
        texts["comparisons.csv"] = table.comparisons_csv()
    files = []
    for ending, text in texts.items():
        path = folder / f"table_{number}.{ending}"
        write_file(path, text)
        files.append((f"{folder.name}/{path.name}", TABLE_FILES[ending]))
    return {"title": table.title, "html": table.to_html(links), "files": files}


def _write_picture(picture: Picture, folder: Path) -> dict[str, Any]:
    for ending in ("pdf", "png"):
        save = functools.partial(picture.figure.savefig, dpi=150, facecolor="white")
        write_file(folder / f"{picture.name}.{ending}", save)
    drawing = svg(picture.figure)
    write_file(folder / f"{picture.name}.svg", drawing)
    return {
        "name": picture.name,
        "heading": picture.heading,
        "caption": picture.caption,
        "alt": picture.alt or picture.caption,
        "svg": _for_the_page(drawing, picture.name),
        "files": [(f"{folder.name}/{picture.name}.{ending}", label) for ending, label in FIGURE_FILES.items()],
    }


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
