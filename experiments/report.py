"""One offline HTML page of a study, and every table and figure of it as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from experiments.figures import svg
from experiments.printing import Table

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure of the report with the sentence that says what to see in it."""

    name: str  # of its files
    heading: str
    caption: str
    figure: Figure


def write_report(
    out: Path,
    *,
    title: str,
    question: str,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    cells: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> Path:
    """Write `out/report.html` (one file, no network), `out/tables/` and `out/figures/`; returns the page.

    cells: one flat mapping per cell, shown as a table that can be sorted and filtered. notes: sentences on leakage,
    failures and limits, printed above everything a reader might quote. facts: environment and settings.
    """
    (out / "tables").mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(exist_ok=True)
    for i, table in enumerate(tables, 1):
        base = out / "tables" / f"table_{i}"
        for ending, text in (
            ("md", table.to_markdown()),
            ("tex", table.to_latex()),
            ("csv", table.to_csv()),
            ("comparisons.csv", table.comparisons.to_csv(index=False)),
        ):
            base.with_name(f"{base.name}.{ending}").write_text(text)
    shown = []
    for picture in pictures:
        for ending in ("pdf", "png"):
            picture.figure.savefig(out / "figures" / f"{picture.name}.{ending}", dpi=150)
        drawing = svg(picture.figure)
        (out / "figures" / f"{picture.name}.svg").write_text(drawing)
        shown.append({"picture": picture, "svg": _unique_ids(drawing, picture.name)})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        question=question,
        tables=[table.to_html() for table in tables],
        pictures=shown,
        columns=list(cells[0]) if cells else [],
        cells=cells,
        notes=notes,
        facts=json.dumps(facts, indent=1, default=str),
    )
    path = out / "report.html"
    scratch = path.with_suffix(".partial")
    scratch.write_text(page)
    scratch.rename(path)
    return path


def _unique_ids(drawing: str, name: str) -> str:
    """Ids of one SVG made different from those of the page's other SVGs, which share one document."""
    return (
        drawing.replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    )
