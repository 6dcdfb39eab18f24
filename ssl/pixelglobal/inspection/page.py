"""One page about one or several stores, in a file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pixelglobal.data.checks.kinds import KINDS, ORDER, Suspect
from pixelglobal.files import html_template, write_file
from pixelglobal.inspection.inspection import Inspection
from pixelglobal.inspection.pictures import histograms, spacings, thumbnail

TEMPLATES = Path(__file__).parent
MOST_PICTURES = 80  # of all cohorts; a page of so many has about a megabyte
WITHOUT_HU = {"not_hu", "stored_offset", "no_body"}


@dataclass(frozen=True)
class Card:
    """A case on the page: why it was quarantined, if it was, what is suspect, and its picture, if there are slices."""

    inspection: Inspection
    case: str
    quarantined: str
    suspects: tuple[tuple[str, str], ...]  # (words for the kind, what was seen)
    rank: tuple[int, ...]  # the least is the most suspect
    stretched: bool


@dataclass(frozen=True)
class CensusLine:
    """The labels of one structure in one cohort: medians, with the least and the greatest value."""

    cohort: str
    structure: str
    scans: int
    values: tuple[str, ...]  # of `MEASURES`


MEASURES = {"voxels": "voxels", "ml": "ml", "components": "components", "median_hu": "median HU"}


def write_page(inspections: Sequence[Inspection], path: Path) -> Path:
    """Write the page of inspected stores; returns its path. Nothing in it is fetched."""
    cards = sorted((card for one in inspections for card in _cards(one)), key=lambda card: card.rank)
    shown = cards[:MOST_PICTURES]
    pictures = [_picture(card) for card in shown]
    page = html_template(TEMPLATES / "page.html.j2").render(
        inspections=inspections,
        kinds=KINDS,
        census=_census(inspections),
        measures=list(MEASURES.values()),
        histograms=histograms(inspections),
        spacings=spacings(inspections),
        cards=list(zip(shown, pictures, strict=True)),
        n_cards=len(cards),
    )
    return write_file(path, page)


def _cards(inspection: Inspection) -> list[Card]:
    """Every case of a store, and those that could not be used."""
    store = inspection.store
    of_case: dict[str, list[Suspect]] = {}
    for suspect in inspection.suspects:
        of_case.setdefault(suspect.case, []).append(suspect)
    quarantine = store.quarantine
    return [
        _card(inspection, case, quarantine.get(case, ""), of_case.get(case, []))
        for case in dict.fromkeys([*quarantine, *store.cases["case"]])
    ]


def _card(inspection: Inspection, case: str, quarantined: str, suspects: Sequence[Suspect]) -> Card:
    kinds = {suspect.kind for suspect in suspects}
    if case in inspection.histograms and quarantined:
        kinds |= {str(one["kind"]) for one in inspection.store.checks(case)["suspects"]}
    worst = min((ORDER.index(kind) for kind in kinds), default=len(ORDER))
    return Card(
        inspection=inspection,
        case=case,
        quarantined=quarantined,
        suspects=tuple((KINDS[suspect.kind].words, suspect.seen) for suspect in suspects),
        rank=(not quarantined, worst, -len(suspects)),
        stretched=bool(kinds & WITHOUT_HU) or not inspection.store.grid.is_ct,
    )


def _census(inspections: Sequence[Inspection]) -> list[CensusLine]:
    """A line for each structure and cohort; those of one structure lie together."""
    lines = []
    for name in dict.fromkeys(name for one in inspections for name in one.store.structures):
        for one in inspections:
            if name in one.store.structures:
                rows = one.census[one.census["structure"] == name]
                words = tuple(_median_and_range(rows[column]) for column in MEASURES)
                lines.append(CensusLine(one.store.name, name, len(rows), words))
    return lines


def _median_and_range(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return "none"
    median, least, greatest = (_short(float(v)) for v in (values.median(), values.min(), values.max()))
    return f"{median} ({least} to {greatest})"


def _short(value: float) -> str:
    """With three digits, or more of a whole number.

    >>> [_short(v) for v in (0.83912, 18.13, 1331.0)]
    ['0.839', '18.1', '1,331']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _picture(card: Card) -> str:
    """A picture of the case; empty without slices."""
    there = card.case in card.inspection.histograms
    return thumbnail(card.inspection.store, card.case, card.stretched) if there else ""
