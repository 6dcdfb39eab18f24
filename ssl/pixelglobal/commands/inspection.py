"""`inspect`: what is probably wrong with the scans and labels of stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pixelglobal import api

if TYPE_CHECKING:
    from pixelglobal.inspection.inspection import Inspection

console = Console()
MOST_NOTES = 20


def inspect(
    stores: Annotated[list[Path], typer.Argument(help="Folders that `pixelglobal prepare` has written.")],
    html: Annotated[
        Path | None, typer.Option(help="A page for this file, with pictures and tables, that opens without a network.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the search for near-duplicates, which takes the longest.")
    ] = False,
) -> None:
    """Print what is probably wrong with scans and labels.

    Values that are not HU, sizes and axes that no scan has, labels that are empty, cut off or swapped, unusual
    structures, and scans that are nearly the same. Nothing is changed. See docs/how-to/check-data.md.
    """
    inspections = api.inspect(stores, html=html, compare_scans=not quick)
    for inspection in inspections:
        if len(inspections) > 1:
            console.print(f"\n{inspection.store.root}", style="bold", highlight=False, soft_wrap=True)
        print_lines(inspection)
    if html:
        console.print(f"Written: {html}", highlight=False, soft_wrap=True)


def print_lines(inspection: Inspection) -> None:
    """The lines of an inspection; the notes beyond 20 are in notes.json alone."""
    notes, root = inspection.notes, inspection.store.root
    more = [f"{len(notes) - MOST_NOTES} more notes are in {root / 'notes.json'}."] if len(notes) > MOST_NOTES else []
    for line in [*notes[:MOST_NOTES], *more, *inspection.findings]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
