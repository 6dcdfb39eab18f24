"""Slices on disk and in memory: the Parquet schema of one case, and the batch.

Pixels are raw bytes in fixed-size columns, which Parquet reads many times faster than lists of numbers.

Shape letters: B slices of a batch, H = W the side of a stored slice, C structures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pixelglobal.devices import send

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
        label: np.ndarray = np.zeros((n, 0, 0), np.uint8)
        contoured: np.ndarray = np.zeros((n, 0), np.uint8)
        if "label" in table.column_names:
            label = _bytes(table.column("label"), np.dtype(np.uint8)).reshape(n, side, side)
        if "contoured" in table.column_names:
            contoured = _bytes(table.column("contoured"), np.dtype(np.uint8))
        return SliceBatch(
            torch.from_numpy(image.reshape(n, side, side)),
            torch.from_numpy(label),
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
        return SliceBatch(
            send(self.image_hu, device),
            send(self.label, device),
            send(self.contoured, device),
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
        if n == 0:  # an empty chunk may have no buffer
            continue
        raw = np.frombuffer(chunk.buffers()[1], np.uint8, count=n * width, offset=chunk.offset * width)
        out[row : row + n] = raw.view(dtype).reshape(n, -1)
        row += n
    return out


def read_slices(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A slice file as an Arrow table; a damaged file is named."""
    try:
        return pq.read_table(path, columns=list(columns) if columns else None, partitioning=None)
    except Exception as error:
        raise ValueError(
            f"cannot read {path}: {error}. Delete it and {path.parent.parent / 'records' / path.stem}.json, then run "
            "`pixelglobal prepare` again; it keeps the other cases"
        ) from error
