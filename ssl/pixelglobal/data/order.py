"""The order in which pre-training sees slices: a function of the seed and the place among the workers, of nothing else.

Slices are read in *units* of 16 neighbours of one scan, which is a row group of its file. A pass reads every unit once,
in an order that is drawn for the pass; of several workers, each reads every so-many-th unit of that order. A slice is
seen after a random delay of up to 96 units, so that neighbours are seen far apart, and every slice once in a pass.

A worker numbers its units from 0 over all passes, and its slices as well. What is read and seen from any number on
follows without a look at what came before; a training therefore continues in the middle of a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pixelglobal.data.slices import ROWS_PER_GROUP
from pixelglobal.seeds import derive

DELAY_UNITS = 96.0  # about half as many are in memory: 220 MB of slices of 384 x 384


class Unit(NamedTuple):
    """Neighbouring slices of one scan, which are read together."""

    scan: int  # its place among the scans
    first: int  # the index of the first slice
    n_slices: int


@dataclass(frozen=True)
class SliceOrder:
    """What one of several workers reads and sees.

    n_slices: of each scan. Raises ValueError if there are fewer units than workers.
    """

    n_slices: tuple[int, ...]
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        n_units = sum(-(-n // ROWS_PER_GROUP) for n in self.n_slices)
        if n_units < self.world_size:
            raise ValueError(
                f"{sum(self.n_slices)} slices are read in {n_units} groups, too few for {self.world_size} workers; "
                "lower cluster.pretrain_workers"
            )

    @property
    def units_per_pass(self) -> int:
        """How many units this worker reads in every pass."""
        return len(range(self.rank, sum(-(-n // ROWS_PER_GROUP) for n in self.n_slices), self.world_size))

    def unit(self, number: int) -> Unit:
        """The unit that this worker reads as its `number`-th, counted from 0 over all passes."""
        turn, place = divmod(number, self.units_per_pass)
        scan, first, n_slices = (int(column[place]) for column in self._units(turn))
        return Unit(scan, first, n_slices)

    def pass_(self, turn: int) -> tuple[np.ndarray, np.ndarray]:
        """The slices of a pass as they are seen: number of the unit and place in it of each, int64 [Z] both."""
        _, _, sizes = self._units(turn)
        unit = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(len(unit)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        delays = np.random.default_rng(derive(self.seed, "delays", turn, self.rank))
        order = np.argsort(unit + delays.uniform(0, DELAY_UNITS, len(unit)), kind="stable")
        return unit[order] + turn * self.units_per_pass, place[order]

    def locate(self, number: int) -> tuple[int, int]:
        """The pass in which this worker sees its `number`-th slice, and how many of the pass it has seen by then."""
        if self.world_size == 1:
            return divmod(number, sum(self.n_slices))
        turn = 0
        while number >= (n_slices := int(self._units(turn)[2].sum())):  # which differs from pass to pass
            number -= n_slices
            turn += 1
        return turn, number

    def _units(self, turn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _units_of_a_worker(self.n_slices, derive(self.seed, "units", turn), self.rank, self.world_size)


@lru_cache(maxsize=4)
def _units_of_a_worker(
    n_slices: tuple[int, ...], seed: int, rank: int, world_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan, first slice and number of slices of each unit in the order in which a worker reads them, int64 [units]."""
    counts = -(-np.array(n_slices) // ROWS_PER_GROUP)
    scan = np.repeat(np.arange(len(counts)), counts)
    first = (np.arange(len(scan)) - np.repeat(np.cumsum(counts) - counts, counts)) * ROWS_PER_GROUP
    chosen = np.random.default_rng(seed).permutation(len(scan))[rank::world_size]
    scan, first = scan[chosen], first[chosen]
    return scan, first, np.minimum(ROWS_PER_GROUP, np.array(n_slices)[scan] - first)
