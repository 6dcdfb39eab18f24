"""Fingerprints of scans: which two scans show the same patient on the same day, though no voxel is equal.

A scan is a stack of *stations*, one every 5 mm from feet to head. A station is the mean HU of square cells of 24 mm
around the middle of the body, half a cell apart. Cells are in mm and stations have no numbers, so resampling, a crop
along the body, mirrors and a few HU hardly change a fingerprint; a crop in the plane moves the middle of the body and
takes cells away, for which one scan is moved by up to a cell in steps of half a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

CELL_MM = 24.0
LATTICE = 23  # cells of a station along each axis, half a cell apart
CELLS = 12  # of these the ones that lie side by side
STATION_MM, SLAB_MM = 5.0, 10.0  # neighbouring stations overlap, so that no start of a crop falls between them
AIR_HU, BONE_HU = -1000.0, 300.0  # darker and brighter count as these
BODY_HU, LEAST_BODY_MM2 = -400.0, 2500.0  # a slab without so much body has no station
LEAST_COVERED = 0.97  # of a cell, by the scan, for the cell to be known: half a cell has another mean
LEAST_COMMON_CELLS = 30
MATCHED_SHARE = 0.3  # of the stations of one of the scans are at least as near as the distance says
COARSEST_PIXEL_MM = 4.0  # finer pixels are skipped: a cell has enough of them
CANDIDATES = 20  # scans that are compared in full with each scan, those that are nearest without shifts

STEPS = [(dy, dx) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2)]  # in half cells

# Measured on head-and-neck CT (docs/LOG.md, 2026-11-29): of 14,535 pairs of patients none is nearer than 41, and 99 %
# of altered copies are nearer than 25. Phantoms, which are more alike than patients, are at least 29 apart.
NEAR_HU = 25.0


@dataclass(frozen=True)
class Fingerprint:
    """Mean HU of the cells of every station [N, 23, 23], NaN where the scan does not reach."""

    stations: np.ndarray  # float16


def fingerprint_of(image_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> Fingerprint:
    """The fingerprint of a scan int16 [Z, H, W]; spacing_mm in array order."""
    every = [max(1, int(COARSEST_PIXEL_MM / mm)) for mm in spacing_mm[1:]]
    image_hu = image_hu[:, :: every[0], :: every[1]]
    pixel_mm = spacing_mm[1] * every[0], spacing_mm[2] * every[1]
    depth = (np.arange(len(image_hu)) + 0.5) * spacing_mm[0]
    stations = []
    for start in np.arange(0, max(STATION_MM, depth[-1] - STATION_MM), STATION_MM):
        inside = (depth >= start) & (depth < start + SLAB_MM)
        inside = inside if inside.any() else depth == depth[np.abs(depth - start - SLAB_MM / 2).argmin()]
        slab = np.clip(image_hu[inside], AIR_HU, BONE_HU).mean(0)
        if (middle := _middle_of_the_body(slab, pixel_mm)) is not None:
            stations.append(_cells(slab, middle, pixel_mm))
    return Fingerprint(np.array(stations, np.float16).reshape(-1, LATTICE, LATTICE))


def _middle_of_the_body(slab: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[float, float] | None:
    """The centre of the largest piece of tissue in mm, (y, x); None if there is hardly any."""
    pieces, count = ndimage.label(slab > BODY_HU)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if sizes.max() * spacing_mm[0] * spacing_mm[1] < LEAST_BODY_MM2:
        return None
    y, x = (float(places.mean() + 0.5) for places in np.nonzero(pieces == sizes.argmax()))
    return y * spacing_mm[0], x * spacing_mm[1]


def _cells(slab: np.ndarray, middle_mm: tuple[float, float], spacing_mm: tuple[float, float]) -> np.ndarray:
    """Means of the cells around a point [23, 23], exact for pixels that cells share; NaN where the scan ends."""
    down, across = (
        _shares(middle / spacing, CELL_MM / spacing, size)
        for middle, spacing, size in zip(middle_mm, spacing_mm, slab.shape, strict=True)
    )
    area = np.outer(down.sum(1), across.sum(1))
    covered = area * spacing_mm[0] * spacing_mm[1] / CELL_MM**2
    sums: np.ndarray = down @ slab @ across.T
    return np.where(covered >= LEAST_COVERED, sums / np.maximum(area, 1e-9), np.nan)


def _shares(middle: float, cell: float, size: int) -> np.ndarray:
    """How much of each pixel of an axis lies in each cell, float64 [23, size]; lengths in pixels."""
    begins = middle + ((np.arange(LATTICE) - LATTICE // 2) / 2 - 0.5)[:, None] * cell
    pixels = np.arange(size)
    shares: np.ndarray = np.clip(np.minimum(begins + cell, pixels + 1) - np.maximum(begins, pixels), 0, None)
    return shares


def distance_hu(one: Fingerprint, other: Fingerprint) -> float:
    """How far two scans are apart: near 0 for a scan and an altered copy of it; infinite if they cannot be compared.

    For each station the root mean square difference to the nearest station of the other scan, in HU; of these the one
    that 30 % of the stations do not exceed, from either scan, over mirrors and over shifts by up to one cell.
    """
    return _distance_hu(_variants(one), _plain(other))


class _Cells(NamedTuple):
    """Cells of stations side by side, ready to be compared: float32 [N, 144] each, 0 where there is no cell."""

    known: np.ndarray  # 1 where there is a cell
    values: np.ndarray  # mean HU

    @staticmethod
    def of(cells: np.ndarray) -> _Cells:
        known = ~np.isnan(cells)
        return _Cells(known.astype(np.float32), np.where(known, cells, 0).astype(np.float32))


def _variants(one: Fingerprint) -> _Cells:
    """All stations of a scan in each mirror and shift, one variant after the other."""
    widened = [_widened(s) for s in _mirrored(one.stations)]
    return _Cells.of(np.concatenate([_moved(s, dy, dx) for s in widened for dy, dx in STEPS]))


def _plain(other: Fingerprint) -> _Cells:
    """All stations of a scan as they are."""
    return _Cells.of(_moved(_widened(other.stations), 0, 0))


def _distance_hu(variants: _Cells, other: _Cells) -> float:
    n, m = len(variants.known) // (4 * len(STEPS)), len(other.known)
    if not n or not m:
        return np.inf
    apart = _apart(variants, other).reshape(-1, n, m)
    sides = (np.sort(apart.min(axis), axis=1) for axis in (1, 2))
    return min(float(nearest[:, int(MATCHED_SHARE * nearest.shape[1])].min()) for nearest in sides)


@dataclass(frozen=True)
class NearDuplicate:
    """Two scans that are nearer than two patients are."""

    case: str
    other: str
    distance_hu: float


def near_duplicates(
    scans: Mapping[str, Fingerprint],
    others: Mapping[str, Fingerprint] | None = None,
    *,
    nearer_than_hu: float = NEAR_HU,
) -> list[NearDuplicate]:
    """Pairs of a scan and another one, or of two scans if there are no others, that are near; the nearest first."""
    among = scans if others is None else others
    plain = {name: _plain(other) for name, other in among.items()}
    found: dict[frozenset[str] | tuple[str, str], NearDuplicate] = {}
    for case, fingerprint in scans.items():
        variants = _variants(fingerprint)
        for other in _candidates(fingerprint, {n: c for n, c in plain.items() if others is not None or n != case}):
            pair = (case, other) if others is not None else frozenset((case, other))
            if pair not in found and (apart := _distance_hu(variants, plain[other])) < nearer_than_hu:
                found[pair] = NearDuplicate(case, other, apart)
    return sorted(found.values(), key=lambda near: near.distance_hu)


def _candidates(one: Fingerprint, others: Mapping[str, _Cells]) -> list[str]:
    """The others that a full comparison may find near, judged by every third station and without shifts."""
    others = {name: other for name, other in others.items() if len(other.known)}
    if len(others) <= CANDIDATES or not len(one.stations):
        return list(others)
    stacked = _Cells(*(np.concatenate(parts) for parts in zip(*others.values(), strict=True)))
    starts = np.cumsum([0, *(len(other.known) for other in others.values())])[:-1]
    nearness = np.full(len(others), np.inf)
    for mirrored in _mirrored(one.stations[::3]):
        cells = _Cells.of(_moved(_widened(mirrored), 0, 0))
        nearest = np.sort(np.minimum.reduceat(_apart(cells, stacked), starts, axis=1), axis=0)
        nearness = np.minimum(nearness, nearest[int(MATCHED_SHARE * len(nearest))])
    names = list(others)
    return [names[i] for i in np.argsort(nearness)[:CANDIDATES]]


def _mirrored(stations: np.ndarray) -> Iterator[np.ndarray]:
    for y, x in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        yield stations[:, ::y, ::x]


def _widened(stations: np.ndarray) -> np.ndarray:
    """Stations with a rim of two unknown half cells, so that they can be moved [N, 27, 27]."""
    return np.pad(stations, ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)


def _moved(widened: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The cells side by side when the middle is moved by so many half cells, [N, 144]; NaN where there is no cell."""
    return widened[:, 2 + dy : 2 + dy + LATTICE : 2, 2 + dx : 2 + dx + LATTICE : 2].reshape(len(widened), CELLS**2)


def _apart(one: _Cells, other: _Cells) -> np.ndarray:
    """Root mean square differences of stations [N, C] and [M, C] over the cells that both know, [N, M]."""
    common = one.known @ other.known.T
    squares = np.square(one.values) @ other.known.T
    squares += one.known @ np.square(other.values).T
    squares -= 2 * (one.values @ other.values.T)
    apart: np.ndarray = np.sqrt(np.maximum(squares, 0) / np.maximum(common, 1))
    return np.where(common >= LEAST_COMMON_CELLS, apart, np.inf)
