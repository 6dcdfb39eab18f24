"""Which labelled patients and which of their slices a fine-tuning sees, and how often each label is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pixelglobal.config.schema import Config
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.seeds import derive, generator


def choose_patients(store: Store, count: int | None, seed: int) -> list[str]:
    """Cases of the first `count` training patients in an order that depends on the seed alone.

    Subsets are nested: the patients of a smaller count are among those of a larger one, the same for every method.
    """
    patient_of = dict(zip(store.cases["case"], store.cases["patient"], strict=True))
    patients = sorted({patient_of[case] for case in store.splits.train})
    if count is not None and count > len(patients):
        raise ValueError(
            f"finetune.patients={count}, but the training split of {store.root} has {len(patients)} patients; "
            "ask for fewer or prepare the cohort with a larger prepare.train_fraction"
        )
    order = np.random.default_rng(derive(seed, "labelled patients")).permutation(len(patients))
    chosen = {patients[i] for i in order[: count or len(patients)]}
    return [case for case in store.splits.train if patient_of[case] in chosen]


def training_slices(config: Config, store: Store, cases: Sequence[str]) -> SliceBatch:
    """The slices that fine-tuning draws from: those with a structure and a share of empty ones, or all."""
    if not cases:
        raise ValueError(f"no training cases to fine-tune on in {store.root}; its splits.json has an empty train list")
    parts = []
    for case in cases:
        whole = store.read_case(case)
        if config.finetune.slices == "labelled":
            labelled = (whole.label != 0).flatten(1).any(1)
            empty = (~labelled).nonzero().squeeze(1)
            count = _empty_slices(config, int(labelled.sum()), len(empty))
            order = torch.randperm(len(empty), generator=generator(config.seed, "empty slices", case))
            chosen = empty[order[:count]]
            whole = whole.select(torch.cat([labelled.nonzero().squeeze(1), chosen]).sort().values)
        parts.append(whole)
    return SliceBatch.concatenate(parts)


def count_training_slices(config: Config, store: Store, cases: Sequence[str]) -> int:
    """How many slices `training_slices` gives; no image and no label is read."""
    total = 0
    for path in store.paths(cases):
        pixels = pq.read_table(path, columns=["n_labelled_pixels"], partitioning=None).column(0).to_numpy()
        labelled, count = int((pixels > 0).sum()), len(pixels)
        kept_all = config.finetune.slices != "labelled"
        total += count if kept_all else labelled + _empty_slices(config, labelled, count - labelled)
    return total


def _empty_slices(config: Config, labelled: int, empty: int) -> int:
    """How many of a case's empty slices are kept beside its labelled ones."""
    share = config.finetune.empty_slice_fraction
    return min(empty, round(labelled * share / (1 - share)))


def class_frequencies(slices: SliceBatch) -> Tensor:
    """The share of pixels that each label has, float64 [L], background first; all are positive.

    A structure's share is among slices of patients in whom it was contoured: elsewhere nobody says where it lies. One
    without any voxel counts as one pixel.
    """
    pixels = slices.label.numel()
    seen = slices.contoured.sum(0).double() * (pixels / len(slices))
    count = torch.bincount(slices.label.flatten().long(), minlength=len(seen)).double().clamp_min(1)
    share = count / torch.where(seen > 0, seen, float(pixels))
    share[0] = (1 - share[1:].sum()).clamp_min(1 / pixels)
    return share


class SliceSampler:
    """Chooses the slices of each step, as a function of the seed, the step and the place in the batch.

    A part of each batch (`finetune.by_structure_fraction`) is drawn by structure: a structure, all with a voxel being
    equally likely, then a slice that holds it. The other slices are consecutive places in an endless chain of seeded
    permutations, so each comes equally often. The shares of several workers are together what one worker would draw.
    """

    def __init__(self, slices: SliceBatch, config: Config, *, size: int | None = None) -> None:
        """size: slices of a step, over all workers; None: `finetune.batch_size`."""
        self._slices, self._seed = slices, config.seed
        holding = [(slices.label == c).flatten(1).any(1).nonzero()[:, 0] for c in range(1, slices.contoured.shape[1])]
        self._holding = [positions.numpy() for positions in holding if len(positions)]
        size = size or config.finetune.batch_size
        fraction = config.finetune.by_structure_fraction if self._holding else 0.0
        # Spread over the batch, so that every worker has its part of them.
        self._by_structure = np.diff(np.floor(np.arange(size + 1) * fraction)) > 0

    def of_step(self, step: int, rank: int, world_size: int) -> SliceBatch:
        """One worker's slices of a step."""
        share = len(self._by_structure) // world_size
        positions = self._positions(step)[rank * share : (rank + 1) * share]
        return self._slices.select(torch.from_numpy(positions))

    def _positions(self, step: int) -> np.ndarray:
        """Positions of the slices of the whole batch, int64 [B]."""
        n, chained = len(self._slices), ~self._by_structure
        places = step * chained.sum() + np.arange(chained.sum())
        turns = {turn: np.random.default_rng(derive(self._seed, "order", int(turn))) for turn in set(places // n)}
        orders = {turn: draws.permutation(n) for turn, draws in turns.items()}
        draws = np.random.default_rng(derive(self._seed, "by structure", step))
        positions = np.empty(len(chained), np.int64)
        positions[chained] = [orders[place // n][place % n] for place in places]
        positions[~chained] = [
            draws.choice(self._holding[draws.integers(len(self._holding))]) for _ in range(int((~chained).sum()))
        ]
        return positions


class MixedSampler:
    """Slices of each step from labelled and from pseudo-labelled slices, `finetune.pseudo_label_fraction` of them."""

    def __init__(self, labelled: SliceBatch, pseudo_labelled: SliceBatch, config: Config, world_size: int) -> None:
        size, fraction = config.finetune.batch_size, config.finetune.pseudo_label_fraction
        pseudo = round(size * fraction / world_size) * world_size
        if not 0 < pseudo < size:
            raise ValueError(
                f"finetune.pseudo_label_fraction={fraction:g} makes {pseudo} of a batch of {size} pseudo-labelled on "
                f"{world_size} workers; expected some of both: choose another fraction or a larger finetune.batch_size"
            )
        self._parts = (
            SliceSampler(labelled, config, size=size - pseudo),
            SliceSampler(pseudo_labelled, config, size=pseudo),
        )

    def of_step(self, step: int, rank: int, world_size: int) -> SliceBatch:
        """One worker's slices of a step."""
        return SliceBatch.concatenate([part.of_step(step, rank, world_size) for part in self._parts])
