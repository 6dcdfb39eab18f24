"""The division of a cohort into splits, by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pixelglobal.data.cohorts import Case
from pixelglobal.files import read_json_object


@dataclass(frozen=True)
class Splits:
    """Case names of each split."""

    pretrain: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(
    cases: Sequence[Case],
    *,
    train_fraction: float,
    validation_fraction: float,
    seed: int,
    division: Mapping[str, str] | None = None,
) -> Splits:
    """Divide labelled patients by fractions, in an order that depends on the seed alone; the rest are the test split.

    Both fractions 0 make all of them test patients; a sum of 1 leaves none to test. Scans without labels join the
    pre-training split, which is otherwise the training split. Unlabelled scans of a patient in validation or test are
    left out.
    division: {case: split} of a published division, see `_complete`.
    """
    if division:
        part = _complete(cases, division, train_fraction, validation_fraction, seed)
        return _named(cases, part)
    labelled = sorted({c.patient for c in cases if c.label is not None})
    n = len(labelled)
    without_test = round(train_fraction + validation_fraction, 6) == 1
    n_validation = max(1, round(n * validation_fraction)) if validation_fraction else 0
    n_train = max(1, round(n * train_fraction)) if train_fraction else 0
    n_train = n - n_validation if without_test else n_train
    if n_train < (train_fraction > 0) or n - n_train - n_validation < (not without_test):
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
    return _named(cases, part)


def _named(cases: Sequence[Case], part: Mapping[str, str]) -> Splits:
    """The splits of cases by those of their patients."""
    named = {
        name: tuple(c.case for c in cases if c.label is not None and part.get(c.patient) == name)
        for name in ("train", "validation", "test")
    }
    free = tuple(c.case for c in cases if c.label is None and part.get(c.patient, "train") == "train")
    return Splits(pretrain=(*named["train"], *free), **named)


def _complete(
    cases: Sequence[Case], division: Mapping[str, str], train_fraction: float, validation_fraction: float, seed: int
) -> dict[str, str]:
    """The split of each labelled patient: as published, and by the fractions where nothing was published.

    Without a published test split, the published validation split is the test split, as users of such cohorts have it.
    A split that is then missing is drawn from the patients in none, or else from those of the training split.
    """
    labelled = [c for c in cases if c.label is not None]
    part = {c.patient: division[c.case] for c in labelled if c.case in division}
    if "test" not in part.values():
        part = {patient: "test" if split == "validation" else split for patient, split in part.items()}
    missing = [name for name in ("train", "validation", "test") if name not in part.values()]
    free = sorted({c.patient for c in labelled} - part.keys())
    if missing and not free:
        free = sorted(patient for patient, split in part.items() if split == "train")
        missing = ["train", *missing]
    if not missing:
        return part
    shares = {"train": train_fraction, "validation": validation_fraction}
    shares["test"] = 1 - train_fraction - validation_fraction
    whole, order = sum(shares[name] for name in missing), np.random.default_rng(seed).permutation(len(free))
    if len(free) < len(missing):
        raise ValueError(
            f"{len(free)} labelled patients cannot be divided into {', '.join(missing)}; add patients, or give "
            "prepare.split_file"
        )
    first = 0
    for name in reversed(missing):  # the first takes what is left
        count = len(free) - first if name == missing[0] else max(1, round(len(free) * shares[name] / whole))
        part |= dict.fromkeys((free[i] for i in order[first : first + count]), name)
        first += count
    return part


def read_splits(path: Path, cases: Sequence[Case]) -> Splits:
    """Splits from a JSON file with lists `train`, `validation`, `test` and, if wanted, `pretrain` (or `pretrain_pool`).

    A list may be empty but not missing: `train` and `validation` both, for a cohort of test patients alone, or `test`,
    for one that is fine-tuned on alone. Other keys are ignored. Raises ValueError for a case the cohort does not have,
    a case named twice in a list, a case without labels where labels are needed, and a patient on both sides.
    """
    try:
        lists = read_json_object(path)
    except ValueError as error:
        raise ValueError(
            f"prepare.split_file: {error}. Expected {{'train': [...], 'validation': [...], 'test': [...]}}"
        ) from error
    for name in ("train", "validation", "test"):
        if not isinstance(lists.get(name), list):
            raise ValueError(f"{path}: the list {name!r} is missing; expected train, validation and test, [] for none")
    for name in Splits.__dataclass_fields__.keys() | {"pretrain_pool"}:
        value = lists.get(name) or []
        if not isinstance(value, list) or not all(isinstance(case, str) for case in value):
            raise ValueError(f"{path}: {name!r} is {str(value)[:80]}; expected a list of names of cases")
    if bool(lists["train"]) != bool(lists["validation"]):
        raise ValueError(
            f"{path}: of the lists 'train' and 'validation' one is empty; expected both, since fine-tuning stops early "
            "by validation, or neither, for a cohort of test patients alone"
        )
    splits = Splits(
        pretrain=tuple(lists.get("pretrain") or lists.get("pretrain_pool") or lists["train"]),
        train=tuple(lists["train"]),
        validation=tuple(lists["validation"]),
        test=tuple(lists["test"]),
    )
    known = {c.case for c in cases}
    unknown = sorted(set().union(*asdict(splits).values()) - known)
    if unknown:
        raise ValueError(
            f"{path}: names {len(unknown)} cases that the cohort does not have: {', '.join(unknown[:5])}; "
            "correct the file, or add them to the cohort"
        )
    labelled = {c.case for c in cases if c.label is not None}
    for name, part in asdict(splits).items():
        if twice := sorted(case for case, count in Counter(part).items() if count > 1):
            raise ValueError(f"{path}: {name} names {', '.join(twice[:5])} more than once; expected every case once")
        if name != "pretrain" and (bare := sorted(set(part) - labelled)):
            raise ValueError(
                f"{path}: {name} names {len(bare)} cases without labels: {', '.join(bare[:5])}; "
                "expected them in `pretrain` only"
            )
    refuse_shared_patients(splits, {c.case: c.patient for c in cases}, "patient")
    return splits


def refuse_shared_patients(splits: Splits, identity: Mapping[str, str], what: str) -> None:
    """Raise ValueError if two splits that must be disjoint share a patient, or the voxels of a scan.

    identity: of each case, what must not be shared; `what` names it in the message: "patient" or "voxels".
    """
    case_with = {name: {identity[case]: case for case in part} for name, part in asdict(splits).items()}
    disjoint = [("train", "validation"), ("train", "test"), ("validation", "test")]
    for a, b in [*disjoint, ("pretrain", "validation"), ("pretrain", "test")]:
        shared = sorted(case_with[a].keys() & case_with[b].keys())
        if shared:
            examples = ", ".join(f"{case_with[a][s]} and {case_with[b][s]}" for s in shared[:3])
            raise ValueError(
                f"{len(shared)} with the same {what} are in both {a} and {b}: {examples}. "
                "Test results would be worth nothing; move them to one side (prepare.split_file, or one name for both "
                "under `patients` in dataset.json)"
            )
