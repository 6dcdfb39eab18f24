"""Ray Data as a stream of slices: Parquet rows, shuffled by file and in a buffer, read ahead of the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray.data

from pixelglobal.data.slices import IMAGE_COLUMNS, SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.seeds import derive


def slice_dataset(store: Store, cases: Sequence[str], *, seed: int, first_epoch: int = 0) -> ray.data.Dataset:
    """The slices of some cases; the files come in another order each epoch, a function of (seed, first_epoch).

    A restarted run must name the epoch it begins with: Ray counts its own executions from zero in every process.
    """
    if not cases:
        raise ValueError(f"no cases to stream from {store.root}: the split is empty")
    shuffle = ray.data.FileShuffleConfig(seed=derive(seed, "files", first_epoch) % 2**31)
    files = [str(path) for path in store.paths(cases)]
    return ray.data.read_parquet(files, shuffle=shuffle, partitioning=None).select_columns(list(IMAGE_COLUMNS))


class RayStream:
    """The slices of one worker, from its shard of a Ray data set: the `data.stream.Stream` of a cluster."""

    def __init__(self, shard: Any, *, n_slices: int, batch_size: int, buffer_slices: int, seed: int, rank: int) -> None:
        self._shard, self._batch_size, self._seed, self._rank = shard, batch_size, seed, rank
        self._buffer = buffer_slices
        self.n_slices = n_slices

    def epoch(self, epoch: int) -> Iterator[SliceBatch]:
        """Batches of an epoch: files in their order, slices mixed in a buffer of several cases."""
        for table in self._shard.iter_batches(
            batch_size=self._batch_size,
            batch_format="pyarrow",
            prefetch_batches=4,
            local_shuffle_buffer_size=max(self._buffer, 2 * self._batch_size),
            local_shuffle_seed=derive(self._seed, "buffer", epoch, self._rank) % 2**31,
            drop_last=True,
        ):
            yield SliceBatch.from_arrow(table)
