"""Slices on disk and in memory: the Parquet schema of one case, and the batch.

Pixels are raw bytes in fixed-size columns, which Parquet reads many times faster than lists of numbers.

Shape letters: B images, H rows, W columns, L labels, S side of a square image, Z slices of a scan.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pixelglobal.data.volumes import UNKNOWN_LABEL
from pixelglobal.devices import send
from pixelglobal.files import write_file

SCHEMA_VERSION = 1


ROWS_PER_GROUP = 16  # what pre-training reads at once


SECONDS_AWAY = 60.0  # how long pre-training waits for a store


def schema(side: int, n_structures: int, channels: int = 1) -> pa.Schema:
    """Columns of a slice file. Pixels are C-order: `image` int16 little-endian HU, `label` uint8.

    channels: of `image`, one after the other.
    """
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
            ("image", pa.binary(channels * side * side * 2)),
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
    """Write one case, whole or not at all.

    image_hu: int16 [Z, S, S], or [Z, C, S, S] of pictures with C channels; labels: uint8 [Z, S, S] or None;
    contoured: a flag for each class, background first; spacing_mm: (z, y, x) of the stored grid.
    """
    n, side = len(image_hu), image_hu.shape[-1]
    columns = schema(side, len(contoured) - 1, math.prod(image_hu.shape[1:-2]))
    flags = np.asarray(contoured, np.uint8).tobytes()

    def group(begin: int) -> pa.Table:
        image = image_hu[begin : begin + ROWS_PER_GROUP]
        rows = len(image)
        known = np.zeros((rows, side, side), np.uint8) if labels is None else labels[begin : begin + rows]
        values: dict[str, list[object]] = {
            "case": [case] * rows,
            "patient": [patient] * rows,
            "slice_index": list(range(begin, begin + rows)),
            "n_slices": [n] * rows,
            "spacing_z_mm": [spacing_mm[0]] * rows,
            "spacing_y_mm": [spacing_mm[1]] * rows,
            "spacing_x_mm": [spacing_mm[2]] * rows,
            "labelled": [labels is not None] * rows,
            "n_labelled_pixels": np.count_nonzero((known > 0) & (known < UNKNOWN_LABEL), axis=(1, 2)).tolist(),
            "contoured": [flags] * rows,
            "image": [s.tobytes() for s in np.ascontiguousarray(image, "<i2")],
            "label": [s.tobytes() for s in np.ascontiguousarray(known, np.uint8)],
        }
        return pa.Table.from_pydict(values, schema=columns)

    def write(scratch: Path) -> None:
        options = {"compression": "zstd", "compression_level": 1, "use_dictionary": False, "write_page_checksum": True}
        with pq.ParquetWriter(scratch, columns, **options) as writer:
            for begin in range(0, n, ROWS_PER_GROUP):  # memory for one group of rows at a time
                writer.write_table(group(begin), row_group_size=ROWS_PER_GROUP)

    write_file(path, write)


@dataclass(frozen=True)
class SliceBatch:
    """Slices in memory. Unlabelled slices have label 0 everywhere and nothing contoured."""

    image_hu: Tensor  # int16 [B, H, W]; of pictures with C channels [B, C, H, W]
    label: Tensor  # uint8 [B, H, W]; [B, 0, 0] when labels were not read
    contoured: Tensor  # bool [B, L], background first
    case: list[str]
    patient: list[str]
    slice_index: Tensor  # int32 [B]
    n_slices: Tensor  # int32 [B]
    certainty: Tensor | None = None  # uint8 [B, H, W], weight of each label, 255 is 1; None: all have weight 1

    @staticmethod
    def from_arrow(table: pa.Table) -> SliceBatch:
        """Rows of a slice file. Unknown pixels are background of weight 0."""
        image = _shaped(_bytes(table.column("image"), np.dtype("<i2")), int(table.schema.metadata[b"side"]))
        label = _bytes(table.column("label"), np.dtype(np.uint8)).reshape(len(image), *image.shape[-2:])
        contoured = _bytes(table.column("contoured"), np.dtype(np.uint8)).astype(bool)
        unknown = label == UNKNOWN_LABEL
        certainty = np.where(unknown, np.uint8(0), np.uint8(255)) if unknown.any() else None
        label[unknown] = 0
        return SliceBatch(
            image_hu=torch.from_numpy(image),
            label=torch.from_numpy(label),
            contoured=torch.from_numpy(contoured),
            case=table.column("case").to_pylist(),
            patient=table.column("patient").to_pylist(),
            slice_index=torch.from_numpy(table.column("slice_index").to_numpy().astype(np.int32)),
            n_slices=torch.from_numpy(table.column("n_slices").to_numpy().astype(np.int32)),
            certainty=None if certainty is None else torch.from_numpy(certainty),
        )

    @staticmethod
    def concatenate(parts: Sequence[SliceBatch]) -> SliceBatch:
        """Several batches as one."""
        weighted = any(part.certainty is not None for part in parts)
        return SliceBatch(
            image_hu=torch.cat([part.image_hu for part in parts]),
            label=torch.cat([part.label for part in parts]),
            contoured=torch.cat([part.contoured for part in parts]),
            case=[case for part in parts for case in part.case],
            patient=[patient for part in parts for patient in part.patient],
            slice_index=torch.cat([part.slice_index for part in parts]),
            n_slices=torch.cat([part.n_slices for part in parts]),
            certainty=torch.cat([_weights(part) for part in parts]) if weighted else None,
        )

    def __len__(self) -> int:
        return len(self.case)

    def select(self, index: Tensor) -> SliceBatch:
        """The slices at int64 positions, in that order."""
        picked = index.tolist()
        return SliceBatch(
            image_hu=self.image_hu[index],
            label=self.label[index],
            contoured=self.contoured[index],
            case=[self.case[i] for i in picked],
            patient=[self.patient[i] for i in picked],
            slice_index=self.slice_index[index],
            n_slices=self.n_slices[index],
            certainty=None if self.certainty is None else self.certainty[index],
        )

    def to(self, device: torch.device) -> SliceBatch:
        """The same batch with its pixels and flags on a device."""
        return replace(
            self,
            image_hu=send(self.image_hu, device),
            label=send(self.label, device),
            contoured=send(self.contoured, device),
            certainty=None if self.certainty is None else send(self.certainty, device),
        )


def _weights(batch: SliceBatch) -> Tensor:
    return torch.full_like(batch.label, 255) if batch.certainty is None else batch.certainty


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


def read_slices(path: Path) -> pa.Table:
    """A slice file as an Arrow table; a damaged file is named."""
    try:
        return pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except Exception as error:
        raise ValueError(_damaged(path, error)) from error


def read_images(path: Path | str, first: int, n_slices: int) -> pa.ChunkedArray:
    """The column `image` of consecutive slices of a file, from index `first` on; a damaged file is named.

    Only the row groups that hold them are read. Older versions wrote groups of 64 rows, which takes four times as long.
    A file that is not there is waited for: a file system on a network may be away for a while.
    """
    deadline = time.monotonic() + SECONDS_AWAY
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.5)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = [g for g, end in enumerate(ends) if end > first and end - sizes[g] < first + n_slices]
            table = file.read_row_groups(groups, columns=["image"], use_threads=False)
        images = table.column("image").slice(first - (ends[groups[0]] - sizes[groups[0]]), n_slices)
        if len(images) != n_slices:
            raise ValueError(f"it has {ends[-1]} slices, and {first + n_slices} are in cases.csv")
    except Exception as error:
        raise ValueError(_damaged(Path(path), error)) from error
    return images


def read_slice(path: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One slice of a file: HU int16 [S, S] ([C, S, S] in colour), labels uint8 [S, S]; a damaged file is named."""
    batch = SliceBatch.from_arrow(read_slices(path).slice(index, 1))
    return batch.image_hu[0].numpy(), batch.label[0].numpy()


def labelled_pixels(path: Path) -> np.ndarray:
    """How many labelled pixels each slice of a file has, int [Z]; a damaged file is named."""
    try:
        return np.asarray(pq.read_table(path, columns=["n_labelled_pixels"], partitioning=None).column(0))
    except Exception as error:
        raise ValueError(_damaged(path, error)) from error


def images_of(column: pa.ChunkedArray, side: int) -> np.ndarray:
    """A column `image` as HU int16 [rows, S, S], or [rows, C, S, S] with C > 1 channels, only to be read.

    side: S. Of a column of one chunk, nothing is copied.
    """
    width = column.type.byte_width
    parts = [
        np.frombuffer(chunk.buffers()[1], "<i2", count=len(chunk) * width // 2, offset=chunk.offset * width)
        for chunk in column.chunks
        if len(chunk) > 0  # an empty chunk may have no buffer
    ]
    pixels = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, "<i2"), *parts])
    return _shaped(pixels.reshape(len(column), width // 2), side)


def _shaped(pixels: np.ndarray, side: int) -> np.ndarray:
    channels = pixels.shape[1] // side**2
    return pixels.reshape(len(pixels), *([channels] if channels > 1 else []), side, side)


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"cannot read {path}: {error}. Delete it and {path.parent.parent / 'records' / path.stem}.json, then run "
        "`pixelglobal prepare` again; it keeps the other cases"
    )
