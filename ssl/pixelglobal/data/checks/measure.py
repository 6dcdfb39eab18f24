"""What a scan is measured by when it is prepared: its values before they are clipped, and each of its structures.

Shape letters: Z slices of a scan, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

LOWEST = int(np.iinfo(np.int16).min)
BIN_HU, FIRST_HU, LAST_HU = 50, -2050, 3100  # of the histogram that is kept; values beyond are in its end bins


@dataclass(frozen=True)
class Values:
    """How often each value is in a scan, int64 [65536], the lowest int16 first."""

    counts: np.ndarray

    @staticmethod
    def of(image_hu: np.ndarray) -> Values:
        """The values of a scan int16 [Z, H, W], counted slice by slice, which takes no memory."""
        counts = np.zeros(1 << 16, np.int64)
        for one in image_hu:
            counts += np.bincount(one.ravel().astype(np.int64) - LOWEST, minlength=1 << 16)
        return Values(counts)

    def quantile(self, share: float) -> int:
        """The lowest value that at least this share of the voxels do not exceed."""
        cumulative = self.counts.cumsum()
        return int(np.searchsorted(cumulative, max(1.0, share * cumulative[-1]))) + LOWEST

    def share(self, low: float, high: float) -> float:
        """The share of the voxels from `low` to below `high`."""
        begin, end = (int(np.clip(np.ceil(hu) - LOWEST, 0, 1 << 16)) for hu in (low, high))
        return float(self.counts[begin:end].sum() / self.counts.sum())

    def histogram(self) -> list[int]:
        """Voxels in bins of 50 HU from -2050 to 3100, values beyond in the first and the last."""
        values = np.clip(np.arange(1 << 16) + LOWEST, FIRST_HU, LAST_HU - 1)
        return [int(count) for count in np.bincount((values - FIRST_HU) // BIN_HU, self.counts)]


def structures_of(
    image_hu: np.ndarray | None, labels: np.ndarray, spacing_mm: tuple[float, float, float], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """{structure: voxels, ml, components, median_hu, column_mm} of those that labels uint8 [Z, H, W] have.

    image_hu: int16 [Z, H, W], None for pictures, which have no HU. components: connected in 3-D over faces, edges and
    corners; column_mm: the mean place from the patient's left to the right.
    """
    measured: dict[str, dict[str, Any]] = {}
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    for index, place in enumerate(ndimage.find_objects(labels, len(names))):
        if place is None:
            continue
        inside = labels[place] == index + 1
        voxels = int(np.count_nonzero(inside))
        columns = inside.sum((0, 1)) @ (np.arange(inside.shape[2]) + place[2].start)
        measured[names[index]] = {
            "voxels": voxels,
            "ml": round(voxels * voxel_ml, 4),
            "components": int(ndimage.label(inside, np.ones((3, 3, 3)))[1]),
            "median_hu": None if image_hu is None else float(np.median(image_hu[place][inside])),
            "column_mm": round(float(columns) / voxels * spacing_mm[2], 2),
        }
    return measured
