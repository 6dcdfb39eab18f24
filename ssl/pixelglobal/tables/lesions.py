"""How many lesions each method finds, how many of its findings are none, and how well it draws the found ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelglobal.statistics.intervals import widened_tail
from pixelglobal.tables.rows import complete_rows
from pixelglobal.tables.table import Table

COUNTS = ["n_lesions", "n_findings", "n_lesions_found"]
COLUMNS = ["sensitivity (%)", "false findings a scan", "DSC of found (%)"]


def lesion_table(rows: pd.DataFrame, *, title: str, n_resamples: int = 10_000, seed: int = 0) -> Table | None:
    """The lesions of every structure that is made of them; None if rows of one cohort hold none.

    Sensitivity is the share of all lesions that was found, over scans and runs. Intervals resample patients with all
    their scans and runs, so that lesions of one patient are not taken for independent; none with fewer than 2 patients.
    """
    rows = complete_rows(rows)
    rows = rows[(rows["slice_index"] == -1) & rows["contoured"]]
    if not set(COUNTS) <= set(rows.columns) or rows["n_lesions"].isna().all():
        return None
    rows = rows.dropna(subset=COUNTS)
    lines = []
    for structure, of_structure in rows.groupby("structure", sort=False):
        for method, scans in of_structure.groupby("method", sort=False):
            lines.append({"method": str(method), "metric": str(structure), **_cells(scans, n_resamples, seed)})
    caption = (
        "Lesions found, findings that are no lesion, and Dice of the found lesions, with 95 % intervals over patients. "
        "Descriptive: nothing is tested, and nothing is claimed about methods."
    )
    card = (
        f"{rows['patient'].nunique()} patients, {rows['case'].nunique()} scans, "
        f"{int(rows.drop_duplicates(['case', 'structure'])['n_lesions'].sum())} lesions",
        "A lesion is a connected component of the reference (26 neighbours); findings are matched to lesions one to "
        "one, the greatest intersection over union first, from 0.1 on",
    )
    frame = pd.DataFrame(lines, columns=["method", "metric", *COLUMNS])
    return Table(f"{title}, lesions", caption, card, frame, pd.DataFrame(), frozenset())


def _cells(scans: pd.DataFrame, n_resamples: int, seed: int) -> dict[str, str]:
    """The three numbers of one method, each a ratio of sums over patients."""
    found, lesions, findings = (scans[c].to_numpy(float) for c in ("n_lesions_found", "n_lesions", "n_findings"))
    drawn = scans["lesion_dice"].fillna(0).to_numpy(float) * found
    patient = pd.factorize(scans["patient"])[0]

    ratios = [(100 * found, lesions), (findings - found, np.ones(len(scans))), (100 * drawn, found)]
    cells = {}
    for column, (parts, wholes) in zip(COLUMNS, ratios, strict=True):
        sums = [np.bincount(patient, values).astype(float) for values in (parts, wholes)]
        cells[column] = _ratio(sums[0], sums[1], n_resamples, np.random.default_rng(seed))
    return cells


def _ratio(parts: NDArray[np.float64], wholes: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> str:
    """A ratio of sums over patients, with the percentile interval of patients drawn again."""
    if not wholes.sum():
        return "n/a"
    text = f"{parts.sum() / wholes.sum():.2f}"
    if len(parts) < 2:
        return text
    drawn = rng.integers(0, len(parts), (n_resamples, len(parts)))
    below = wholes[drawn].sum(1)
    ratios = parts[drawn].sum(1)[below > 0] / below[below > 0]
    tail = widened_tail(len(parts))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return f"{text} [{low:.2f}, {high:.2f}]"
