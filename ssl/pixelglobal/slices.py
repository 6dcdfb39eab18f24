"""Preprocessed slices on disk and in memory: the Parquet schema, the store folder, the batch.

A store is what `prepare` writes and everything later reads:

    cohort.json              what the cohort is and how it was prepared
    cases.csv                one row per finished case: geometry, HU sums, content hash, which structures are contoured
    slices/CASE.parquet      one row per slice; pixels as raw bytes, which Parquet reads many times faster than lists
    labels/CASE.nii.gz       the reference on the scan's own grid (labelled cases)
    splits.json              cases of each split, disjoint by patient
    rejects.csv              cases that could not be used, and why

Shape letters: B slices of a batch, H = W the side of a stored slice, C structures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pixelglobal.seeds import derive

SCHEMA_VERSION = 1
ROWS_PER_GROUP = 64
IMAGE_COLUMNS = ("case", "patient", "slice_index", "n_slices", "image")  # all that pre-training reads


def schema(side: int, n_structures: int) -> pa.Schema:
    """Columns of a slice file. Pixels are C-order: `image` int16 little-endian HU, `label` uint8."""
    return pa.schema(
        [
            ("case", pa.string()),
            ("patient", pa.string()),
            ("slice_index", pa.int32()),
            ("n_slices", pa.int32()),
            ("spacing_z_mm", pa.float32()),
            ("spacing_y_mm", pa.float32()),
            ("spacing_x_mm", pa.float32()),
            ("labelled", pa.bool_()),
            ("n_labelled_pixels", pa.int32()),
            ("contoured", pa.binary(n_structures + 1)),
            ("image", pa.binary(side * side * 2)),
            ("label", pa.binary(side * side)),
        ],
        metadata={"side": str(side), "version": str(SCHEMA_VERSION)},
    )


def write_slices(
    path: Path,
    image_hu: np.ndarray,
    labels: np.ndarray | None,
    contoured: Sequence[bool],
    *,
    case: str,
    patient: str,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Write one case: image int16 [S, H, H], labels uint8 [S, H, H] or None, contoured flags with background first."""
    n, side = image_hu.shape[:2]
    known = np.zeros((n, side, side), np.uint8) if labels is None else labels
    flags = np.asarray(contoured, np.uint8).tobytes()
    columns: dict[str, list[object]] = {
        "case": [case] * n,
        "patient": [patient] * n,
        "slice_index": list(range(n)),
        "n_slices": [n] * n,
        "spacing_z_mm": [spacing_mm[0]] * n,
        "spacing_y_mm": [spacing_mm[1]] * n,
        "spacing_x_mm": [spacing_mm[2]] * n,
        "labelled": [labels is not None] * n,
        "n_labelled_pixels": np.count_nonzero(known, axis=(1, 2)).tolist(),
        "contoured": [flags] * n,
        "image": [s.tobytes() for s in np.ascontiguousarray(image_hu, "<i2")],
        "label": [s.tobytes() for s in np.ascontiguousarray(known, np.uint8)],
    }
    table = pa.Table.from_pydict(columns, schema=schema(side, len(contoured) - 1))
    pq.write_table(
        table, path, compression="zstd", compression_level=1, use_dictionary=False, row_group_size=ROWS_PER_GROUP
    )


@dataclass(frozen=True)
class SliceBatch:
    """Slices in memory. Unlabelled slices have label 0 everywhere and nothing contoured."""

    image_hu: Tensor  # int16 [B, H, W]
    label: Tensor  # uint8 [B, H, W]; [B, 0, 0] when labels were not read
    contoured: Tensor  # bool [B, C + 1], background first
    case: list[str]
    patient: list[str]
    slice_index: Tensor  # int32 [B]
    n_slices: Tensor  # int32 [B]

    @staticmethod
    def from_arrow(table: pa.Table) -> SliceBatch:
        """Rows of a slice file, or of any table with its columns; `label` and `contoured` may be missing."""
        image = _bytes(table.column("image"), np.dtype("<i2"))
        side = math.isqrt(image.shape[1])
        n = len(table)
        label = contoured = np.zeros((n, 0), np.uint8)
        if "label" in table.column_names:
            label = _bytes(table.column("label"), np.dtype(np.uint8)).reshape(n, side, side)
        if "contoured" in table.column_names:
            contoured = _bytes(table.column("contoured"), np.dtype(np.uint8))
        return SliceBatch(
            torch.from_numpy(image.reshape(n, side, side)),
            torch.from_numpy(label.reshape(n, *(label.shape[1:] if label.ndim == 3 else (0, 0)))),
            torch.from_numpy(contoured.astype(bool)),
            table.column("case").to_pylist(),
            table.column("patient").to_pylist(),
            torch.from_numpy(table.column("slice_index").to_numpy().astype(np.int32)),
            torch.from_numpy(table.column("n_slices").to_numpy().astype(np.int32)),
        )

    @staticmethod
    def concatenate(parts: Sequence[SliceBatch]) -> SliceBatch:
        """Several batches as one."""
        join = lambda name: torch.cat([getattr(p, name) for p in parts])  # noqa: E731
        return SliceBatch(
            join("image_hu"),
            join("label"),
            join("contoured"),
            [c for p in parts for c in p.case],
            [c for p in parts for c in p.patient],
            join("slice_index"),
            join("n_slices"),
        )

    def __len__(self) -> int:
        return len(self.case)

    def select(self, index: Tensor) -> SliceBatch:
        """The slices at int64 positions, in that order."""
        picked = index.tolist()
        return SliceBatch(
            self.image_hu[index],
            self.label[index],
            self.contoured[index],
            [self.case[i] for i in picked],
            [self.patient[i] for i in picked],
            self.slice_index[index],
            self.n_slices[index],
        )

    def to(self, device: torch.device) -> SliceBatch:
        """The same batch with its pixels and flags on a device."""
        move = lambda t: t.to(device, non_blocking=True)  # noqa: E731
        return SliceBatch(
            move(self.image_hu),
            move(self.label),
            move(self.contoured),
            self.case,
            self.patient,
            self.slice_index,
            self.n_slices,
        )


def _bytes(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    """A fixed-size binary column as an array [rows, values]; one copy, whatever its chunks and offsets."""
    width = column.type.byte_width
    out = np.empty((len(column), width // dtype.itemsize), dtype)
    row = 0
    for chunk in column.chunks:
        n = len(chunk)
        raw = np.frombuffer(chunk.buffers()[1], np.uint8, count=n * width, offset=chunk.offset * width)
        out[row : row + n] = raw.view(dtype).reshape(n, -1)
        row += n
    return out


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation in HU over every stored pixel of some cases."""

    mean_hu: float
    std_hu: float


@dataclass(frozen=True)
class StoredSplits:
    """Case names of each split; patients never cross from pretrain or train to validation or test."""

    pretrain: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Store:
    """A prepared cohort on disk."""

    root: Path
    name: str
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str
    image_size: int
    hu_min: float
    hu_max: float
    in_plane_spacing_mm: float | None

    @staticmethod
    def open(root: Path | str) -> Store:
        """Open a store folder; ValueError says what is missing."""
        root = Path(root)
        path = root / "cohort.json"
        if not path.is_file():
            raise ValueError(f"{root} is no prepared cohort: cohort.json is missing. Run `pixelglobal prepare` first")
        facts = json.loads(path.read_text())
        if facts["schema"] != SCHEMA_VERSION:
            raise ValueError(
                f"{root} has schema {facts['schema']}, this version reads {SCHEMA_VERSION}; prepare it again"
            )
        return Store(
            root,
            facts["name"],
            tuple(facts["structures"]),
            tuple((left, right) for left, right in facts["left_right_pairs"]),
            facts["absent_structures"],
            facts["image_size"],
            facts["hu_min"],
            facts["hu_max"],
            facts["in_plane_spacing_mm"],
        )

    @cached_property
    def cases(self) -> pd.DataFrame:
        """cases.csv: one row per finished case, in the order of case names."""
        path = self.root / "cases.csv"
        if not path.is_file():
            raise ValueError(f"{self.root} has no cases.csv; run `pixelglobal prepare` again, it keeps finished cases")
        return pd.read_csv(path, dtype={"case": str, "patient": str, "contoured": str, "voxels": str})

    @cached_property
    def splits(self) -> StoredSplits:
        """splits.json."""
        facts = json.loads((self.root / "splits.json").read_text())
        return StoredSplits(*(tuple(facts[name]) for name in ("pretrain", "train", "validation", "test")))

    def _facts(self, case: str) -> pd.Series:
        rows = self.cases[self.cases["case"] == case]
        if rows.empty:
            raise ValueError(f"case {case!r} is not in {self.root}; it has {len(self.cases)} cases, see cases.csv")
        return rows.iloc[0]

    def path(self, case: str) -> Path:
        """The slice file of a case."""
        return self.root / "slices" / f"{case}.parquet"

    def paths(self, cases: Sequence[str]) -> list[Path]:
        """The slice files of cases."""
        return [self.path(case) for case in cases]

    def read_case(self, case: str) -> SliceBatch:
        """All slices of a case, in order, with labels."""
        return SliceBatch.from_arrow(read_slices(self.path(case)))

    def normalization(self, cases: Sequence[str]) -> Normalization:
        """Mean and spread of the stored HU over some cases, exact, from the sums that prepare kept."""
        rows = self.cases[self.cases["case"].isin(list(cases))]
        if rows.empty:
            raise ValueError(f"no cases to normalise by in {self.root}: the split is empty")
        n = float(rows["n_pixels"].sum())
        mean = float(rows["hu_sum"].sum()) / n
        variance = float(rows["hu_sum_of_squares"].sum()) / n - mean**2
        return Normalization(mean, math.sqrt(max(variance, 1.0)))

    def contoured(self, case: str) -> list[bool]:
        """For each structure, whether it was contoured in this case."""
        return [flag == "1" for flag in self._facts(case)["contoured"].split(",")]

    def label_path(self, case: str) -> Path:
        """The reference of a labelled case on its own grid."""
        return self.root / "labels" / f"{case}.nii.gz"

    def n_slices(self, cases: Sequence[str]) -> int:
        """Slices of some cases together."""
        return int(self.cases[self.cases["case"].isin(list(cases))]["n_slices"].sum())

    def paste_back(self, case: str, labels: np.ndarray) -> np.ndarray:
        """Stored-grid labels uint8 [S, H, H] on the scan's own grid [S, rows, columns]; background outside the crop."""
        return self._paste_back(case, labels, 0)

    def paste_back_image(self, case: str, image_hu: np.ndarray) -> np.ndarray:
        """One stored slice int16 [H, H] on the scan's own grid [rows, columns]; the clip's minimum outside the crop."""
        return self._paste_back(case, image_hu[None], round(self.hu_min))[0]

    def _paste_back(self, case: str, stored: np.ndarray, fill: int) -> np.ndarray:
        facts = self._facts(case)
        rows, columns = int(facts["rows"]), int(facts["columns"])
        grid_rows, grid_columns = int(facts["stored_rows"]), int(facts["stored_columns"])
        whole = np.full((len(stored), grid_rows, grid_columns), fill, stored.dtype)
        (to_y, from_y), (to_x, from_x) = (
            crop_slices(grid_rows, self.image_size),
            crop_slices(grid_columns, self.image_size),
        )
        whole[:, from_y, from_x] = stored[:, to_y, to_x]
        if (grid_rows, grid_columns) == (rows, columns):
            return whole
        y = np.minimum((np.arange(rows) + 0.5) * grid_rows // rows, grid_rows - 1).astype(int)
        x = np.minimum((np.arange(columns) + 0.5) * grid_columns // columns, grid_columns - 1).astype(int)
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


def read_slices(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A slice file as an Arrow table; a damaged file is named."""
    try:
        return pq.read_table(path, columns=list(columns) if columns else None, partitioning=None)
    except Exception as error:
        raise ValueError(
            f"cannot read {path}: {error}. Delete it and {path.parent.parent / 'records' / path.stem}.json, then run "
            "`pixelglobal prepare` again; it keeps the other cases"
        ) from error


class LocalStream:
    """Slices without Ray: every epoch a seeded permutation of all slices, a function of (seed, epoch) alone.

    Slices are held in memory as they lie on disk in HU, 288 KiB each at 384 x 384; a cohort that does not fit needs
    Ray Data (`cluster/`).
    """

    def __init__(self, store: Store, cases: Sequence[str], *, batch_size: int, seed: int) -> None:
        if not cases:
            raise ValueError(f"no cases to stream from {store.root}: the split is empty")
        self._parts = [SliceBatch.from_arrow(read_slices(p, IMAGE_COLUMNS)) for p in store.paths(cases)]
        self._batch_size, self._seed = batch_size, seed
        self._starts = np.cumsum([0, *(len(p) for p in self._parts)])
        self.n_slices = int(self._starts[-1])

    def epoch(self, epoch: int) -> Iterator[SliceBatch]:
        """Batches of an epoch; the last short one is left out."""
        order = np.random.default_rng(derive(self._seed, "slices", epoch)).permutation(self.n_slices)
        for first in range(0, self.n_slices - self._batch_size + 1, self._batch_size):
            yield self._gather(order[first : first + self._batch_size])

    def _gather(self, index: np.ndarray) -> SliceBatch:
        part = np.searchsorted(self._starts, index, side="right") - 1
        return SliceBatch.concatenate(
            [
                self._parts[p].select(torch.tensor([i - self._starts[p]]))
                for p, i in zip(part.tolist(), index.tolist(), strict=True)
            ]
        )
