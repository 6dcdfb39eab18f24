"""dataset.json, the description that Decathlon and nnU-Net folders share: what labels mean, and whose scans they are.

Beside what those formats define it may have `patients` ({case: patient}, where a patient has several scans),
`left_right_pairs` ([["LeftX", "RightX"], ...]) and `absent_structures` ("not_contoured" or "absent").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelglobal.data.cohorts import Case, Cohort, in_order
from pixelglobal.files import read_json_object

MOST_STRUCTURES = 255  # labels are stored in one byte


@dataclass(frozen=True)
class Description:
    """A dataset.json that has been checked. `entries` is all that it holds."""

    path: Path
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str | None
    entries: dict[str, Any]

    def patient_of(self, case: str) -> str:
        """The patient of a case: the case itself where `patients` does not name it."""
        return str(self.entries.get("patients", {}).get(case, case))

    def cohort(self, cases: Iterable[Case]) -> Cohort:
        """The described cohort of some cases.

        Raises ValueError if there are none, if two have one name, or if `patients` names none of them.
        """
        ordered, folder = in_order(cases), self.path.parent
        if not ordered:
            raise ValueError(
                f"{folder}: no scans found; expected a `training` list in dataset.json or files in "
                f"{folder / 'imagesTr'}"
            )
        patients = self.entries.get("patients", {})
        if patients and not patients.keys() & {case.case for case in ordered}:
            raise ValueError(
                f"{self.path}: `patients` names {', '.join(sorted(patients)[:3])}, ...; none of them is a case. "
                f"Expected {{case: patient}} with case names such as {ordered[0].case}"
            )
        name = "".join(c if c.isalnum() else "_" for c in str(self.entries.get("name") or folder.name))
        return Cohort(name, self.structures, self.left_right_pairs, self.absent_structures, ordered)


def read_description(path: Path) -> Description:
    """Read and check a dataset.json. Raises ValueError that names the file and the entry that cannot be meant."""
    entries = read_json_object(path)
    structures = _structures(entries.get("labels", {}), path)
    pairs = _left_right_pairs(entries.get("left_right_pairs", ()), structures, path)
    absent = entries.get("absent_structures")
    if absent not in (None, "not_contoured", "absent"):
        raise ValueError(f"{path}: absent_structures is {absent!r}; expected 'not_contoured' or 'absent'")
    return Description(path, structures, pairs, absent, entries)


def label_names(path: Path) -> tuple[str, ...]:
    """Structures in the order of their label values, from a dataset.json."""
    return _structures(read_json_object(path).get("labels", {}), path)


def _structures(labels: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names in the order of their values, from {"0": "background"} (MSD) or {"background": 0} (nnU-Net)."""
    if all(str(key).isdigit() for key in labels):
        named = [(int(key), str(value)) for key, value in labels.items()]
    else:
        for name, value in labels.items():
            if not isinstance(value, int | str) or not str(value).isdigit():
                raise ValueError(
                    f"{path}: label {name!r} has the value {value!r}; expected one whole number for each. "
                    "Regions made of several labels are not known here: list the labels themselves"
                )
        named = [(int(value), str(name)) for name, value in labels.items()]
    values = sorted(value for value, _ in named)
    if values != list(range(len(values))):
        raise ValueError(
            f"{path}: labels have the values {values}; expected 0 (background), 1, 2, ... "
            "without gaps or repeats. Renumber the labels in the files and here"
        )
    structures = tuple(name for value, name in sorted(named) if value > 0)
    if twice := sorted({name for name in structures if structures.count(name) > 1}):
        raise ValueError(f"{path}: labels name {', '.join(twice)} twice; expected a name of its own for each")
    if len(structures) > MOST_STRUCTURES:
        raise ValueError(f"{path}: names {len(structures)} structures; expected at most {MOST_STRUCTURES}")
    return structures


def _left_right_pairs(pairs: Any, structures: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(f'{path}: left_right_pairs is {pairs!r}; expected a list of pairs, [["LeftX", "RightX"], ...]')
    names = [str(name) for pair in pairs for name in pair]
    for name in names:
        if name not in structures:
            raise ValueError(f"{path}: left_right_pairs names {name!r}, which is not a label: {', '.join(structures)}")
        if names.count(name) > 1:
            raise ValueError(f"{path}: left_right_pairs names {name!r} twice; a structure has one other side")
    return tuple((str(left), str(right)) for left, right in pairs)
