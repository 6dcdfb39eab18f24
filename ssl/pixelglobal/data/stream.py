"""Slices for pre-training, one batch for each step, from any step on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Protocol

import numpy as np
import torch

from pixelglobal.data.order import SliceOrder
from pixelglobal.data.pool import Scans
from pixelglobal.data.slices import SliceBatch, images_of, read_images

UNITS_AHEAD = 4  # read by a LocalStream before they are needed


class Stream(Protocol):
    """An endless supply of batches."""

    n_slices: int  # of all workers together

    def batches(self, first_step: int) -> Iterator[SliceBatch]:
        """The batches of this worker from a step on, each a function of the seed and the step."""
        ...


class MixedStream(ABC):
    """Slices of some scans in the order of `SliceOrder`; where their pixels come from is for a subclass to say.

    cases: a scan that is named several times is shown as often in every pass.

    It has the rows of about 48 units in memory, whatever the cohort. The first batch of a step other than 0 waits until
    they are read. Raises ValueError if there are too few slices for one batch.
    """

    def __init__(
        self, scans: Scans, cases: Sequence[str], *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if not cases:
            raise ValueError(f"no cases to stream from {scans.root}: the split is empty")
        facts = scans.cases.set_index("case").loc[list(cases)]
        self._cases, self._patients = list(cases), facts["patient"].tolist()
        self.side = scans.grid.image_size
        self._paths, self._batch_size = [str(path.resolve()) for path in scans.paths(cases)], batch_size
        self.order = SliceOrder(tuple(facts["n_slices"].astype(int)), seed, rank, world_size)
        self.n_slices = sum(self.order.n_slices)
        if self.n_slices < batch_size * world_size:
            raise ValueError(
                f"{scans.root} has {self.n_slices} slices to pre-train on, too few for one batch of "
                f"{batch_size * world_size}; lower pretrain.batch_size"
            )

    @abstractmethod
    def images(self, first: int) -> Iterator[np.ndarray]:
        """The slices in HU, int16 [Z, S, S], only to be read, of every unit from number `first` on, without end."""

    def batches(self, first_step: int) -> Iterator[SliceBatch]:
        """The batches of this worker from a step on; the last slices of a pass share one with the first of the next."""
        slices = self._slices(first_step * self._batch_size)
        while True:
            yield self._batch(list(islice(slices, self._batch_size)))

    def _slices(self, first: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Number of the unit, place in it and HU int16 [S, S] of every slice from this worker's `first`-th on."""
        turn, n_seen = self.order.locate(first)
        units, places = self.order.pass_(turn)
        arriving = int(units[n_seen:].min())
        again = units[:n_seen] >= arriving  # slices that were seen, of units that are read for the sake of others
        seen = set(zip(units[:n_seen][again].tolist(), places[:n_seen][again].tolist(), strict=True))
        units, places = units[n_seen:], places[n_seen:]
        incoming = self.images(arriving)
        held: dict[tuple[int, int], np.ndarray] = {}
        while True:
            for unit, place in zip(units.tolist(), places.tolist(), strict=True):
                while arriving <= unit:
                    for i, image in enumerate(next(incoming)):
                        if (arriving, i) not in seen:
                            held[arriving, i] = image.copy()  # the other slices of its unit may go
                    arriving += 1
                yield unit, place, held.pop((unit, place))
            turn += 1
            units, places = self.order.pass_(turn)

    def _batch(self, slices: Sequence[tuple[int, int, np.ndarray]]) -> SliceBatch:
        units = [self.order.unit(number) for number, _, _ in slices]
        n = len(slices)
        return SliceBatch(
            image_hu=torch.from_numpy(np.stack([image for _, _, image in slices])),
            label=torch.zeros(n, 0, 0, dtype=torch.uint8),
            contoured=torch.zeros(n, 0, dtype=torch.bool),
            case=[self._cases[unit.scan] for unit in units],
            patient=[self._patients[unit.scan] for unit in units],
            slice_index=torch.tensor([u.first + place for u, (_, place, _) in zip(units, slices, strict=True)]).int(),
            n_slices=torch.tensor([self.order.n_slices[unit.scan] for unit in units]).int(),
        )


class LocalStream(MixedStream):
    """Slices without Ray, read from disk by a thread of this process."""

    def images(self, first: int) -> Iterator[np.ndarray]:
        """Units read a few ahead."""
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Future[np.ndarray]] = deque()
            for number in count(first):
                ahead.append(reader.submit(self._read, number))
                if len(ahead) > UNITS_AHEAD:
                    yield ahead.popleft().result()

    def _read(self, number: int) -> np.ndarray:
        unit = self.order.unit(number)
        return images_of(read_images(self._paths[unit.scan], unit.first, unit.n_slices), self.side)
