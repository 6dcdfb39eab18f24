"""Slices for a training loop, epoch by epoch: what a loop asks for, and a supply from memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from pixelglobal.data.slices import IMAGE_COLUMNS, SliceBatch, read_slices
from pixelglobal.data.store import Store
from pixelglobal.seeds import derive


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


class Stream(Protocol):
    """An endless supply of slices, epoch by epoch."""

    n_slices: int

    def epoch(self, epoch: int) -> Iterator[SliceBatch]:
        """The batches of an epoch on this worker, a function of the seed and the epoch."""
        ...
