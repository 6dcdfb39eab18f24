"""A cohort: a folder of scans with what their labels mean, and its division into splits by patient.

Understood as they are: Medical Segmentation Decathlon folders (`dataset.json` with a `training` list), nnU-Net raw
folders (`imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, `dataset.json` with `channel_names`), and a plain folder
of NIfTI files without labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
