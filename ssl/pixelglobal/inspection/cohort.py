"""What is probably wrong with a case beside those of its cohort: sides, sizes, HU, copies of other scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pixelglobal.data.checks.kinds import Suspect
from pixelglobal.data.fingerprint import near_duplicates
from pixelglobal.data.store import Store

OUTLIER = 6.0  # distance from the median in units of the standard deviation, which the median absolute deviation gives
FEWEST_FOR_OUTLIERS = 8  # scans that have a structure
FEWEST_FOR_SIDES = 3
LEAST_SPREAD_LOG_ML, LEAST_SPREAD_HU = 0.1, 5.0  # contours of one size and one HU have no outliers


def suspects_of_cohort(store: Store, census: pd.DataFrame, compare_scans: bool) -> Iterator[Suspect]:
    """All suspects that show only beside the other cases.

    census: as in `Inspection`. compare_scans: whether to look for near-duplicates, which takes the longest.
    """
    yield from swapped_sides(census, store.left_right_pairs)
    yield from outliers(census, "ml", "unusual_size")
    yield from outliers(census, "median_hu", "unusual_hu")
    if compare_scans:
        yield from _near(store)


def swapped_sides(census: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Iterator[Suspect]:
    """Cases in which a pair of structures lies the other way round than in most."""
    places = census.pivot(index="case", columns="structure", values="column_mm")
    for left, right in pairs:
        if not {left, right} <= set(places.columns):
            continue
        both = places[[left, right]].dropna()
        side = both[left] < both[right]
        usual = bool(side.mean() >= 0.5)
        if len(side) >= FEWEST_FOR_SIDES:
            for case in side.index[side != usual]:
                yield Suspect(
                    str(case), "swapped", f"{left} and {right} lie the other way round than in "
                    f"{int((side == usual).sum())} of {len(side)} scans"
                )  # fmt: skip


def outliers(census: pd.DataFrame, column: str, kind: str) -> Iterator[Suspect]:
    """Cases in which a structure is far from the cohort's median: `ml`, compared as logarithms, or `median_hu`."""
    unit, least = ("ml", LEAST_SPREAD_LOG_ML) if column == "ml" else ("HU", LEAST_SPREAD_HU)
    for name, rows in census.dropna(subset=column).groupby("structure", sort=False):
        if len(rows) < FEWEST_FOR_OUTLIERS:
            continue
        scale = np.log(rows[column]) if column == "ml" else rows[column]
        away = (scale - scale.median()).abs()
        spread = max(1.4826 * float(away.median()), least)
        for row in rows[away > OUTLIER * spread].itertuples():
            yield Suspect(
                str(row.case), kind, f"{name} has {getattr(row, column):.3g} {unit}; the median of {len(rows)} scans "
                f"is {rows[column].median():.3g}"
            )  # fmt: skip


def _near(store: Store) -> Iterator[Suspect]:
    rows = store.cases[~store.cases["case"].isin(list(store.quarantine))]
    patient = dict(zip(rows["case"], rows["patient"], strict=True))
    for pair in near_duplicates({case: store.fingerprint(case) for case in patient}):
        if patient[pair.case] != patient[pair.other]:
            yield Suspect(pair.case, "near_duplicate", f"{pair.distance_hu:.1f} HU from {pair.other}")
