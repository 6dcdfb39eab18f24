"""A synthetic store of slices, the same slices for other ways of loading them, and those ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from scipy import ndimage
from torch.utils.data import Dataset

from pixelglobal.data.slices import SCHEMA_VERSION, images_of, write_slices
from pixelglobal.data.store import Store
from pixelglobal.files import write_file, write_json

SLICES_PER_SCAN = 128
SIDE = 384
N_TEXTURES = 64


def synthetic_store(folder: Path, n_slices: int) -> Store:
    """A store of scans of 128 slices of 384 x 384, and the same in one NumPy file; both are kept for another time.

    A slice is an ellipse of soft tissue with smooth noise in air, shifted by another vector each; it takes as much of a
    Parquet file as a slice of real CT, about 100 KiB.
    """
    n_scans, done = n_slices // SLICES_PER_SCAN, folder / "cohort.json"
    if done.is_file() and len((store := Store.open(folder)).cases) == n_scans:
        return store
    rng, textures = np.random.default_rng(0), _textures()
    mapped = folder / "images.npy"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (n_scans * SLICES_PER_SCAN, SIDE, SIDE)
    images = np.lib.format.open_memmap(mapped, mode="w+", dtype=np.int16, shape=shape)
    cases = [f"scan_{number:05d}" for number in range(n_scans)]
    for number, case in enumerate(track(cases, "slices", console=Console(stderr=True), transient=True)):
        picked = textures[rng.integers(N_TEXTURES, size=SLICES_PER_SCAN)]
        scan = np.stack([np.roll(slice_, rng.integers(-20, 21, 2), (0, 1)) for slice_ in picked])
        images[number * SLICES_PER_SCAN : (number + 1) * SLICES_PER_SCAN] = scan
        path = folder / "slices" / f"{case}.parquet"
        write_slices(path, scan, None, [False], case=case, patient=case, spacing_mm=(3.0, 1.0, 1.0))
    _write_cases(folder / "cases.csv", cases)
    facts = {"name": "synthetic", "structures": [], "left_right_pairs": [], "absent_structures": "not_contoured"}
    grid = {"image_size": SIDE, "hu_min": -1024.0, "hu_max": 325.0, "in_plane_spacing_mm": None}
    write_json(done, {"schema": SCHEMA_VERSION, **facts, **grid})
    return Store.open(folder)


def _write_cases(path: Path, cases: list[str]) -> None:
    """The table of a store; the sums of intensities, which no stream reads, are 0."""
    sides = dict.fromkeys(("rows", "columns", "stored_rows", "stored_columns"), SIDE)
    spacing = {"spacing_z_mm": 3.0, "spacing_y_mm": 1.0, "spacing_x_mm": 1.0}
    sums = {"hu_sum": 0, "hu_sum_of_squares": 0, "n_pixels": SLICES_PER_SCAN * SIDE**2}
    names = {"case": cases, "patient": cases, "contoured": "1", "sha256": cases}
    table = pd.DataFrame({**names, "n_slices": SLICES_PER_SCAN, **sides, **spacing, **sums})
    write_file(path, table.to_csv(index=False))


def _textures() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = (x / 165) ** 2 + (y / 130) ** 2 < 1
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (N_TEXTURES, SIDE, SIDE)), (0, 0.6, 0.6)) * 60
    return np.clip(np.where(body, 40 + noise, -1000 + noise / 6), -1024, 325).astype(np.int16)


class ParquetSlices(Dataset[np.ndarray]):
    """Single slices of the store's files, whose footers are read once."""

    def __init__(self, store: Store) -> None:
        self._paths = [str(path) for path in store.paths(list(store.cases["case"]))]
        self._files: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._paths) * SLICES_PER_SCAN

    def __getitem__(self, index: int) -> np.ndarray:
        """int16 [S, S]."""
        scan, row = divmod(index, SLICES_PER_SCAN)
        if scan not in self._files:
            self._files[scan] = pq.ParquetFile(self._paths[scan])
        group_size = self._files[scan].metadata.row_group(0).num_rows
        table = self._files[scan].read_row_group(row // group_size, columns=["image"], use_threads=False)
        slice_: np.ndarray = images_of(table.column("image").slice(row % group_size, 1), SIDE)[0].copy()
        return slice_


class MappedSlices(Dataset[np.ndarray]):
    """Slices of a NumPy file that is mapped into memory."""

    def __init__(self, store: Store) -> None:
        self._images = np.load(store.root / "images.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        """int16 [S, S]."""
        return np.array(self._images[index])


def persistent_slices(store: Store) -> Dataset[Any]:
    """MONAI's PersistentDataset: a slice is read from Parquet once, and from a file of its own from then on."""
    try:
        from monai.data import PersistentDataset
    except ImportError as missing:
        raise ValueError(f"{missing.name} is not installed; the peers come with pip install '.[bench]'") from None
    slices = ParquetSlices(store)
    cached: Dataset[Any] = PersistentDataset(list(range(len(slices))), slices.__getitem__, store.root / "monai")
    return cached
