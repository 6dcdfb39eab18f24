"""Ray Data as a stream of slices: tasks read units of Parquet rows on any node; they arrive in the order of numbers.

One execution serves a whole training, however many passes it makes: a block is a few consecutive unit numbers, and
which rows a number stands for is computed (`data/order`). The worker mixes the rows as every `MixedStream` does, so the
order is the same as without Ray, on any number of CPUs and after any restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa
import ray.data

from pixelglobal.data.order import SliceOrder
from pixelglobal.data.slices import images_of, read_images
from pixelglobal.data.stream import MixedStream

UNITS_PER_BLOCK = 8  # 128 slices: 37 MB at 384 x 384
BLOCKS_PER_EXECUTION = 1024  # 131,072 slices; the next execution starts in a second or two
BYTES_AHEAD = 128 * 2**20  # of blocks that were read and not yet taken; they count as memory of the worker


class RayStream(MixedStream):
    """Slices of one worker, read by tasks of Ray Data."""

    def images(self, first: int) -> Iterator[np.ndarray]:
        """Units of blocks as they arrive."""
        read = _Reader(self.order, tuple(self._paths))
        expected = first
        for start in count(first, BLOCKS_PER_EXECUTION * UNITS_PER_BLOCK):
            numbers = ray.data.range(BLOCKS_PER_EXECUTION * UNITS_PER_BLOCK, override_num_blocks=BLOCKS_PER_EXECUTION)
            blocks = numbers.map_batches(read.from_number(start), batch_size=None)
            blocks.context.target_max_block_size = None  # Ray would divide blocks of large slices within a unit
            options = blocks.context.execution_options
            options.preserve_order = True
            options.resource_limits = options.resource_limits.copy(object_store_memory=BYTES_AHEAD)
            for table in blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                assert isinstance(table, pa.Table)
                units, begins = np.unique(table.column("unit").to_numpy(), return_index=True)
                for number, begin, end in zip(units.tolist(), begins, [*begins[1:], len(table)], strict=True):
                    if number != expected:
                        raise RuntimeError(f"Ray Data gave unit {number} where unit {expected} was due")
                    yield images_of(table.column("image").slice(begin, end - begin), self.side)
                    expected += 1


@dataclass(frozen=True)
class _Reader:
    """Reads the units of a block; runs in tasks of Ray Data."""

    order: SliceOrder
    paths: Sequence[str]
    start: int = 0

    def from_number(self, start: int) -> _Reader:
        return _Reader(self.order, self.paths, start)

    def __call__(self, block: dict[str, np.ndarray]) -> pa.Table:
        numbers = (self.start + block["id"]).tolist()
        units = [self.order.unit(number) for number in numbers]
        columns = [read_images(self.paths[u.scan], u.first, u.n_slices) for u in units]
        images = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
        return pa.table({"unit": np.repeat(numbers, [u.n_slices for u in units]), "image": images})
