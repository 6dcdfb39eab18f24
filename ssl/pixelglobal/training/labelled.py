"""Which labelled patients and which of their slices a fine-tuning sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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
            labelled = whole.label.flatten(1).any(1)
            empty = (~labelled).nonzero().squeeze(1)
            share = config.finetune.empty_slice_fraction
            count = min(len(empty), round(int(labelled.sum()) * share / (1 - share)))
            order = torch.randperm(len(empty), generator=generator(config.seed, "empty slices", case))
            chosen = empty[order[:count]]
            whole = whole.select(torch.cat([labelled.nonzero().squeeze(1), chosen]).sort().values)
        parts.append(whole)
    return SliceBatch.concatenate(parts)


def slices_of_step(slices: SliceBatch, config: Config, step: int, rank: int, world_size: int) -> SliceBatch:
    """One worker's slices of a step: consecutive places in an endless chain of seeded permutations."""
    n, share = len(slices), config.finetune.batch_size // world_size
    places = (step * world_size + rank) * share + np.arange(share)
    orders = {r: np.random.default_rng(derive(config.seed, "order", int(r))).permutation(n) for r in set(places // n)}
    return slices.select(torch.tensor([orders[place // n][place % n] for place in places]))
