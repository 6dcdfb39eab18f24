"""A cohort: a folder of scans with what their labels mean, and its division into splits by patient.

Understood as they are: Medical Segmentation Decathlon folders (`dataset.json` with a `training` list), nnU-Net raw
folders (`imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, `dataset.json` with `channel_names`), and a plain folder
of NIfTI files without labels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (".nii.gz", ".nii")
MOST_STRUCTURES = 255  # labels are stored in one byte


@dataclass(frozen=True)
class Case:
    """One scan of a cohort; `label` is None when nobody drew on it."""

    case: str
    patient: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Cohort:
    """A folder of scans. `structures[i]` has label value i + 1."""

    name: str
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str | None  # "not_contoured" or "absent" if the cohort's description says so
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Splits:
    """Case names of each split."""

    pretrain: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def read_cohort(folder: Path) -> Cohort:
    """Describe the scans of a folder without reading their voxels.

    dataset.json may add: `patients` ({case: patient}, where a patient has several scans), `left_right_pairs`
    ([["LeftX", "RightX"], ...]) and `absent_structures`. Raises ValueError for a description that is empty, cannot be
    read or cannot be meant.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; expected one with dataset.json, imagesTr and labelsTr")
    description = folder / "dataset.json"
    if not description.is_file():
        return _plain_folder(folder)
    facts = _json_object(description)
    structures = _structures(facts.get("labels", {}), description)
    pairs = _left_right_pairs(facts.get("left_right_pairs", ()), structures, description)
    absent = facts.get("absent_structures")
    if absent not in (None, "not_contoured", "absent"):
        raise ValueError(f"{description}: absent_structures is {absent!r}; expected 'not_contoured' or 'absent'")
    files = _listed_files(folder, facts) if facts.get("training") else _files_in_folders(folder, facts)
    if not files:
        raise ValueError(
            f"{folder}: no scans found; expected a `training` list in dataset.json or files in {folder / 'imagesTr'}"
        )
    patients = facts.get("patients", {})
    if patients and not patients.keys() & files.keys():
        raise ValueError(
            f"{description}: `patients` names {', '.join(sorted(patients)[:3])}, ...; none of them is a case. "
            f"Expected {{case: patient}} with case names such as {min(files)}"
        )
    cases = tuple(
        Case(case, str(patients.get(case, case)), image, label) for case, (image, label) in sorted(files.items())
    )
    name = "".join(c if c.isalnum() else "_" for c in str(facts.get("name") or folder.name))
    return Cohort(name, structures, pairs, absent, cases)


def label_names(description: Path) -> tuple[str, ...]:
    """Structures in the order of their label values, from a dataset.json."""
    return _structures(_json_object(description).get("labels", {}), description)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: holds a JSON {type(facts).__name__}; expected an object with named entries")
    return facts


def _structures(labels: Mapping[str, Any], description: Path) -> tuple[str, ...]:
    """Names in the order of their values, from {"0": "background"} (MSD) or {"background": 0} (nnU-Net)."""
    if all(str(key).isdigit() for key in labels):
        named = [(int(key), str(value)) for key, value in labels.items()]
    else:
        for name, value in labels.items():
            if not isinstance(value, int | str) or not str(value).isdigit():
                raise ValueError(
                    f"{description}: label {name!r} has the value {value!r}; expected one whole number for each. "
                    "Regions made of several labels are not known here: list the labels themselves"
                )
        named = [(int(value), str(name)) for name, value in labels.items()]
    values = sorted(value for value, _ in named)
    if values != list(range(len(values))):
        raise ValueError(
            f"{description}: labels have the values {values}; expected 0 (background), 1, 2, ... "
            "without gaps or repeats. Renumber the labels in the files and here"
        )
    structures = tuple(name for value, name in sorted(named) if value > 0)
    if twice := sorted({name for name in structures if structures.count(name) > 1}):
        raise ValueError(f"{description}: labels name {', '.join(twice)} twice; expected a name of its own for each")
    if len(structures) > MOST_STRUCTURES:
        raise ValueError(f"{description}: names {len(structures)} structures; expected at most {MOST_STRUCTURES}")
    return structures


def _left_right_pairs(pairs: Any, structures: Sequence[str], description: Path) -> tuple[tuple[str, str], ...]:
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(
            f'{description}: left_right_pairs is {pairs!r}; expected a list of pairs, [["LeftX", "RightX"], ...]'
        )
    names = [str(name) for pair in pairs for name in pair]
    for name in names:
        if name not in structures:
            raise ValueError(
                f"{description}: left_right_pairs names {name!r}, which is not a label: {', '.join(structures)}"
            )
        if names.count(name) > 1:
            raise ValueError(f"{description}: left_right_pairs names {name!r} twice; a structure has one other side")
    return tuple((str(left), str(right)) for left, right in pairs)


def _case_name(path: Path) -> str | None:
    for ending in ENDINGS:
        if path.name.endswith(ending) and not path.name.startswith("."):
            return path.name.removesuffix(ending)
    return None


def _listed_files(folder: Path, facts: Mapping[str, Any]) -> dict[str, tuple[Path, Path | None]]:
    files: dict[str, tuple[Path, Path | None]] = {}
    for entry in [*facts["training"], *facts.get("unlabelled", ())]:
        named = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(named, dict) or not isinstance(named.get("image"), str):
            raise ValueError(
                f"{folder / 'dataset.json'}: lists {entry!r} as a scan; expected "
                '{"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}'
            )
        image, label = folder / named["image"], named.get("label")
        if (case := _case_name(image)) is not None:
            _require_new(case, image, files)
            files[case] = (image, folder / label if label else None)
    return files


def _require_new(case: str, image: Path, files: Mapping[str, tuple[Path, Path | None]]) -> None:
    if case in files:
        raise ValueError(
            f"{files[case][0]} and {image} are both called {case!r}; expected a name of its own for every scan. "
            "Rename one, or take it out"
        )


def _files_in_folders(folder: Path, facts: Mapping[str, Any]) -> dict[str, tuple[Path, Path | None]]:
    """nnU-Net raw: channel 0 of every case; further channels of one modality are refused."""
    if len(facts.get("channel_names", {"0": "CT"})) != 1:
        raise ValueError(
            f"{folder / 'dataset.json'}: channel_names lists {facts['channel_names']}; expected one CT channel"
        )
    files: dict[str, tuple[Path, Path | None]] = {}
    for image in sorted((folder / "imagesTr").glob("*")):
        if (case := _case_name(image)) is not None:
            case = case.removesuffix("_0000")
            _require_new(case, image, files)
            labels = [folder / "labelsTr" / f"{case}{ending}" for ending in ENDINGS]
            files[case] = (image, next((path for path in labels if path.is_file()), None))
    return files


def _plain_folder(folder: Path) -> Cohort:
    files: dict[str, tuple[Path, Path | None]] = {}
    for path in sorted(folder.glob("*")):
        if (case := _case_name(path)) is not None:
            _require_new(case, path, files)
            files[case] = (path, None)
    if not files:
        raise ValueError(
            f"{folder}: neither dataset.json nor any .nii or .nii.gz file; expected an MSD or nnU-Net folder, or scans"
        )
    cases = tuple(Case(case, case, image, None) for case, (image, _) in sorted(files.items()))
    return Cohort(folder.name, (), (), None, cases)


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
