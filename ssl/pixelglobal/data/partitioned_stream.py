"""Slices for pre-training in groups: one slice of each of several equal parts along z of one scan, as GL draws them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import numpy as np
import torch

from pixelglobal.data.pool import Scans
from pixelglobal.data.slices import SliceBatch, images_of, read_images
from pixelglobal.seeds import derive

BATCHES_AHEAD = 4  # read before they are needed


class PartitionedStream:
    """The batches of one worker: scans in a new order in each pass, and of each scan a random slice of each part.

    Every batch is a function of the seed, the worker and the step. Raises ValueError if a batch is no whole number of
    groups.
    """

    def __init__(
        self,
        scans: Scans,
        cases: Sequence[str],
        *,
        n_partitions: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not cases:
            raise ValueError(f"no cases to stream from {scans.root}: the split is empty")
        if batch_size % n_partitions:
            raise ValueError(
                f"a batch of {batch_size} slices on each worker is no whole number of groups of {n_partitions}, one "
                f"slice of each part of a scan; make pretrain.batch_size a multiple of {n_partitions * world_size}"
            )
        facts = scans.cases.set_index("case").loc[list(cases)]
        self._cases, self._patients = list(cases), facts["patient"].tolist()
        self._n_slices = [int(n) for n in facts["n_slices"]]
        self._paths = [str(path.resolve()) for path in scans.paths(cases)]
        self._side = scans.grid.image_size
        self._n_partitions, self._scans_per_batch = n_partitions, batch_size // n_partitions
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.n_slices = sum(self._n_slices)

    def batches(self, first_step: int) -> Iterator[SliceBatch]:
        """The batches of this worker from a step on, without end."""
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Future[SliceBatch]] = deque()
            for step in count(first_step):
                ahead.append(reader.submit(self._batch, step))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()

    def _batch(self, step: int) -> SliceBatch:
        draws = np.random.default_rng(derive(self._seed, "slices of parts", step, self._rank))
        first = (step * self._world_size + self._rank) * self._scans_per_batch
        scans = [self._scan(number) for number in range(first, first + self._scans_per_batch)]
        places = [
            (scan, slice_of_part(self._n_slices[scan], part, self._n_partitions, draws.random()))
            for scan in scans
            for part in range(self._n_partitions)
        ]
        n = len(places)
        return SliceBatch(
            image_hu=torch.from_numpy(np.concatenate([self._read(scan, i) for scan, i in places])),
            label=torch.zeros(n, 0, 0, dtype=torch.uint8),
            contoured=torch.zeros(n, 0, dtype=torch.bool),
            case=[self._cases[scan] for scan, _ in places],
            patient=[self._patients[scan] for scan, _ in places],
            slice_index=torch.tensor([i for _, i in places]).int(),
            n_slices=torch.tensor([self._n_slices[scan] for scan, _ in places]).int(),
        )

    def _read(self, scan: int, index: int) -> np.ndarray:
        return images_of(read_images(self._paths[scan], index, 1), self._side)

    def _scan(self, number: int) -> int:
        """The scan that all workers together take as their `number`-th."""
        turn, place = divmod(number, len(self._cases))
        order = np.random.default_rng(derive(self._seed, "scans", turn)).permutation(len(self._cases))
        return int(order[place])


def slice_of_part(n_slices: int, part: int, n_partitions: int, draw: float) -> int:
    """A slice of one of equal parts of a scan, from a number drawn from [0, 1); of the nearest if the part has none.

    >>> [slice_of_part(10, part, 4, 0.0) for part in range(4)], [slice_of_part(2, part, 4, 0.5) for part in range(4)]
    ([0, 2, 5, 7], [0, 0, 1, 1])
    """
    part_of = np.floor((np.arange(n_slices) + 0.5) / n_slices * n_partitions)
    members = np.flatnonzero(part_of == part)
    return int(members[int(draw * len(members))]) if len(members) else int((part + 0.5) / n_partitions * n_slices)
