"""One picture of the suggested patients: the slice of each of which the model is least sure, and how unsure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pixelglobal.evaluation.suggestion import ScanSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS_A_ROW = 3


def suggestion_sheet(table: pd.DataFrame, scans: Sequence[ScanSummary]) -> Figure:
    """The suggested scans in the order of `table`, each as its slice and that slice with its uncertainty over it."""
    from matplotlib.figure import Figure

    rows = -(-len(scans) // PAIRS_A_ROW)
    figure = Figure(figsize=(4.2 * PAIRS_A_ROW, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 2 * PAIRS_A_ROW, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for i, (facts, scan) in enumerate(zip(table.itertuples(), scans, strict=True)):
        in_colour = scan.image_hu.ndim == 3
        image = scan.image_hu.transpose(1, 2, 0) / 32767 if in_colour else scan.image_hu
        for axes in panels[2 * i : 2 * i + 2]:
            axes.imshow(image, cmap="gray", origin="upper" if in_colour else "lower")
        unsure = np.ma.masked_less(scan.uncertainty_map, 0.05)
        panels[2 * i + 1].imshow(
            unsure, cmap="magma", vmin=0, vmax=1, alpha=0.7, origin="upper" if in_colour else "lower"
        )
        panels[2 * i].set_title(f"{facts.rank}. {facts.case}, slice {facts.slice_index}", fontsize=8, loc="left")
        panels[2 * i + 1].set_title(f"uncertainty {facts.uncertainty:.2f}", fontsize=8, loc="left")
    return figure
