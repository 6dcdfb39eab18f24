"""The division of a cohort into splits, by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelglobal.data.cohorts import Case, _json_object


@dataclass(frozen=True)
class Splits:
    """Case names of each split."""

    pretrain: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(cases: Sequence[Case], *, train_fraction: float, validation_fraction: float, seed: int) -> Splits:
    """Divide labelled patients by fractions, in an order that depends on the seed alone; the rest is the test split.

    Scans without labels join the pre-training split, which is otherwise the training split. Unlabelled scans of a
    patient in validation or test are left out.
    """
    labelled = sorted({c.patient for c in cases if c.label is not None})
    n = len(labelled)
    n_train, n_validation = max(1, round(n * train_fraction)), max(1, round(n * validation_fraction))
    if n - n_train - n_validation < 1:
        raise ValueError(
            f"{n} labelled patients cannot be divided into train, validation and test with at least one in each "
            f"(train_fraction={train_fraction}, validation_fraction={validation_fraction} ask for {n_train} and "
            f"{n_validation}); expected 3 or more patients. Add patients, lower the fractions, or give "
            "prepare.split_file"
        )
    order = [labelled[i] for i in np.random.default_rng(seed).permutation(n)]
    part = dict.fromkeys(order[:n_train], "train")
    part |= dict.fromkeys(order[n_train : n_train + n_validation], "validation")
    part |= dict.fromkeys(order[n_train + n_validation :], "test")
    named = {
        name: tuple(c.case for c in cases if c.label is not None and part[c.patient] == name)
        for name in ("train", "validation", "test")
    }
    free = tuple(c.case for c in cases if c.label is None and part.get(c.patient, "train") == "train")
    return Splits(pretrain=(*named["train"], *free), **named)


def read_splits(path: Path, cases: Sequence[Case]) -> Splits:
    """Splits from a JSON file with lists `train`, `validation`, `test` and, if wanted, `pretrain` (or `pretrain_pool`).

    Other keys are ignored. Raises ValueError for a case the cohort does not have, a case named twice in a list, a case
    without labels where labels are needed, and a patient on both sides.
    """
    try:
        facts = _json_object(path)
    except ValueError as error:
        raise ValueError(
            f"prepare.split_file: {error}. Expected {{'train': [...], 'validation': [...], 'test': [...]}}"
        ) from error
    for name in ("train", "validation", "test"):
        if not facts.get(name):
            raise ValueError(f"{path}: the list {name!r} is missing or empty; expected train, validation and test")
    splits = Splits(
        tuple(facts.get("pretrain") or facts.get("pretrain_pool") or facts["train"]),
        *(tuple(facts[name]) for name in ("train", "validation", "test")),
    )
    known = {c.case for c in cases}
    unknown = sorted(set().union(*vars(splits).values()) - known)
    if unknown:
        raise ValueError(
            f"{path}: names {len(unknown)} cases that the cohort does not have: {', '.join(unknown[:5])}; "
            "correct the file, or add them to the cohort"
        )
    labelled = {c.case for c in cases if c.label is not None}
    for name, part in vars(splits).items():
        if twice := sorted(case for case, count in Counter(part).items() if count > 1):
            raise ValueError(f"{path}: {name} names {', '.join(twice[:5])} more than once; expected every case once")
        if name != "pretrain" and (bare := sorted(set(part) - labelled)):
            raise ValueError(
                f"{path}: {name} names {len(bare)} cases without labels: {', '.join(bare[:5])}; "
                "expected them in `pretrain` only"
            )
    refuse_shared_patients(splits, {c.case: c.patient for c in cases}, "patient")
    return splits


def refuse_shared_patients(splits: Splits, owner: Mapping[str, str], kind: str) -> None:
    """Raise if what `owner` names (a patient, a scan's content) is on both sides of a border that must hold."""
    sides = {name: {owner[c]: c for c in getattr(splits, name)} for name in ("pretrain", "train", "validation", "test")}
    borders = [("train", "validation"), ("train", "test"), ("validation", "test")]
    for a, b in [*borders, ("pretrain", "validation"), ("pretrain", "test")]:
        shared = sorted(sides[a].keys() & sides[b].keys())
        if shared:
            examples = ", ".join(f"{sides[a][s]} and {sides[b][s]}" for s in shared[:3])
            raise ValueError(
                f"{len(shared)} with the same {kind} are in both {a} and {b}: {examples}. "
                "Test results would be worth nothing; move them to one side (prepare.split_file, or one name for both "
                "under `patients` in dataset.json)"
            )
