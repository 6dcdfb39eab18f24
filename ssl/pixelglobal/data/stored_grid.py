"""The grid of stored slices: from a scan's own grid to it, and back.

A slice is resampled in its plane where a spacing is asked for, clipped, and centre-cropped or padded with air to a
square. Nothing is done across slices, so a scan is worked on a few slices at a time.

Shape letters: Z slices of a scan, H rows, W columns, S side of a square image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from pixelglobal.data.pictures import INTENSITY_RANGE

SLICES_AT_ONCE = 16  # so that a scan of 512 x 512 x 600 needs little more than itself


@dataclass(frozen=True)
class StoredGrid:
    """How the slices of a store are made of scans; every model keeps that of its store in model.json."""

    image_size: int
    hu_min: float
    hu_max: float
    in_plane_spacing_mm: float | None
    antialias: bool

    @property
    def is_ct(self) -> bool:
        """Whether intensities are HU; False for the range of pictures."""
        return (self.hu_min, self.hu_max) != INTENSITY_RANGE

    @staticmethod
    def of(facts: Mapping[str, Any]) -> StoredGrid:
        """From the entries of a JSON file, which may have further ones."""
        return StoredGrid(**{name: facts[name] for name in StoredGrid.__dataclass_fields__})

    def facts(self) -> dict[str, Any]:
        """As entries of a JSON file."""
        return asdict(self)

    def slices_of(self, image_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        """The stored slices int16 [Z, S, S] of a scan int16 [Z, H, W] with spacing (z, y, x).

        Of a picture with C channels they are [Z, C, S, S] of [Z, C, H, W].
        """
        planes = image_hu.reshape(-1, *image_hu.shape[-2:])
        out = np.empty((len(planes), self.image_size, self.image_size), np.int16)
        low, high = max(int(self.hu_min), -(1 << 15)), min(int(self.hu_max), (1 << 15) - 1)
        for begin in range(0, len(planes), SLICES_AT_ONCE):
            part = planes[begin : begin + SLICES_AT_ONCE]
            resampled = resample_image(part, spacing_mm, self.in_plane_spacing_mm, self.antialias)
            stored = crop_or_pad(resampled, self.image_size, fill=low)
            rounded = np.rint(stored, out=stored) if stored.dtype.kind == "f" else stored
            np.clip(rounded, low, high, out=out[begin : begin + len(part)], casting="unsafe")
        return out.reshape(*image_hu.shape[:-2], *out.shape[1:])

    def size_on(self, shape: tuple[int, int], spacing_mm: tuple[float, float, float]) -> tuple[int, int]:
        """Rows and columns of a whole slice of that shape after resampling, before the crop."""
        if self.in_plane_spacing_mm is None:
            return shape
        _, down, across = _zoom(spacing_mm, self.in_plane_spacing_mm)
        return round(shape[0] * down), round(shape[1] * across)

    def paste_back(
        self, stored: np.ndarray, shape: tuple[int, int], spacing_mm: tuple[float, float, float], fill: float
    ) -> np.ndarray:
        """Stored slices [Z, S, S] on the grid [Z, *shape] of their scan; `fill` outside the crop."""
        return on_the_scan(stored, self.size_on(shape, spacing_mm), shape, fill)


def resample_image(
    image_hu: np.ndarray, spacing_mm: tuple[float, float, float], to_mm: float | None, antialias: bool
) -> np.ndarray:
    """A scan [Z, H, W] resampled in the plane to square pixels of `to_mm`, float32; as it is for None.

    antialias: along an axis that becomes shorter the image is averaged over the length of each new pixel; a point read
    between two old pixels would keep noise and miss what is thinner.
    """
    if to_mm is None:
        return image_hu
    parts = []
    for begin in range(0, len(image_hu), SLICES_AT_ONCE):
        image, zoom = image_hu[begin : begin + SLICES_AT_ONCE].astype(np.float32), _zoom(spacing_mm, to_mm)
        for axis in (1, 2):
            if antialias and (n := round(image.shape[axis] * zoom[axis])) < image.shape[axis]:
                image, zoom[axis] = _area_average(image, axis, n), 1.0
        parts.append(ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest"))
    return np.concatenate(parts)


def resample_labels(labels: np.ndarray, spacing_mm: tuple[float, float, float], to_mm: float | None) -> np.ndarray:
    """Labels [Z, H, W] of the nearest pixel, on the grid that `resample_image` gives."""
    if to_mm is None:
        return labels
    resampled: np.ndarray = ndimage.zoom(
        labels, _zoom(spacing_mm, to_mm), order=0, grid_mode=True, mode="grid-constant"
    )
    return resampled


def _zoom(spacing_mm: tuple[float, float, float], to_mm: float) -> list[float]:
    return [1.0, spacing_mm[1] / to_mm, spacing_mm[2] / to_mm]


def _area_average(array: np.ndarray, axis: int, n: int) -> np.ndarray:
    """The array with `n` entries along an axis, each the mean over an n-th of its length, float32."""
    size = array.shape[axis]
    edges, pixels = np.arange(n + 1)[:, None] * (size / n), np.arange(size)
    covered = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0, None)  # [n, size]
    mean: np.ndarray = np.moveaxis(array, axis, -1).astype(np.float64) @ (covered.T * (n / size))
    return np.moveaxis(mean, -1, axis).astype(np.float32)


def crop_or_pad(array: np.ndarray, side: int, fill: int) -> np.ndarray:
    """The centre `side` x `side` of every slice [Z, H, W], padded with `fill` where the slice is smaller."""
    out = np.full((len(array), side, side), fill, array.dtype)
    (to_y, from_y), (to_x, from_x) = crop_slices(array.shape[1], side), crop_slices(array.shape[2], side)
    out[:, to_y, to_x] = array[:, from_y, from_x]
    return out


def on_the_scan(stored: np.ndarray, grid: tuple[int, int], scan: tuple[int, int], fill: float) -> np.ndarray:
    """Stored slices [Z, S, S] on a scan's own grid [Z, rows, columns]: the crop undone, then the nearest pixel.

    grid: rows and columns of the whole resampled slice, of which S x S were stored; scan: those of the scan; fill: the
    value outside the crop.
    """
    side = stored.shape[-1]
    whole = np.full((len(stored), *grid), fill, stored.dtype)
    (to_y, from_y), (to_x, from_x) = crop_slices(grid[0], side), crop_slices(grid[1], side)
    whole[:, from_y, from_x] = stored[:, to_y, to_x]
    if grid == scan:
        return whole
    y, x = (
        np.minimum((np.arange(n) + 0.5) * n_grid // n, n_grid - 1).astype(int)
        for n, n_grid in zip(scan, grid, strict=True)
    )
    return whole[:, y][:, :, x]


def crop_slices(size: int, side: int) -> tuple[slice, slice]:
    """Where a centre crop or pad of one axis goes: (place in the stored slice, place in the source).

    >>> crop_slices(10, 4), crop_slices(4, 10)
    ((slice(0, 4, None), slice(3, 7, None)), (slice(3, 7, None), slice(0, 4, None)))
    """
    if size >= side:
        start = (size - side) // 2
        return slice(0, side), slice(start, start + side)
    start = (side - size) // 2
    return slice(start, start + size), slice(0, size)
