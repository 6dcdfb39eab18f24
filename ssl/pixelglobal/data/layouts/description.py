"""dataset.json, the description that Decathlon and nnU-Net folders share: what labels mean, and whose scans they are.

Beside what those formats define it may have `patients` ({case: patient}, where a patient has several scans),
`left_right_pairs` ([["LeftX", "RightX"], ...]) and `absent_structures` ("not_contoured" or "absent").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelglobal.data.cohorts import Case, Cohort, LabelCode, in_order
from pixelglobal.data.volumes import UNKNOWN_LABEL
from pixelglobal.files import read_json_object

MOST_STRUCTURES = UNKNOWN_LABEL - 1  # labels are stored in one byte


@dataclass(frozen=True)
class Description:
    """A dataset.json that has been checked. `entries` is all that it holds."""

    path: Path
    code: LabelCode
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str | None
    entries: dict[str, Any]

    def patient_of(self, case: str) -> str:
        """The patient of a case: the case itself where `patients` does not name it."""
        return str(self.entries.get("patients", {}).get(case, case))

    def cohort(
        self, cases: Iterable[Case], notes: Iterable[str] = (), divisions: Mapping[str, Mapping[str, str]] | None = None
    ) -> Cohort:
        """The described cohort of some cases; notes and divisions as in `Cohort`.

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
        return Cohort(
            name,
            self.code.structures,
            self.left_right_pairs,
            self.absent_structures,
            ordered,
            label_values=self.code.values,
            ignored_value=self.code.ignored,
            divisions=divisions or {},
            notes=tuple(notes),
        )


def read_description(path: Path) -> Description:
    """Read and check a dataset.json. Raises ValueError that names the file and the entry that cannot be meant."""
    entries = read_json_object(path)
    code = label_code(entries.get("labels", {}), entries.get("regions_class_order"), path)
    structures = code.structures
    pairs = _left_right_pairs(entries.get("left_right_pairs", ()), structures, path)
    absent = entries.get("absent_structures")
    if absent not in (None, "not_contoured", "absent"):
        raise ValueError(f"{path}: absent_structures is {absent!r}; expected 'not_contoured' or 'absent'")
    if not isinstance(entries.get("patients", {}), Mapping):
        raise ValueError(f"{path}: patients is {entries['patients']!r}; expected {{case: patient}}")
    return Description(path, code, pairs, absent, entries)


def label_names(path: Path) -> tuple[str, ...]:
    """Structures in the order of their label values, from a dataset.json."""
    description = read_json_object(path)
    return label_code(description.get("labels", {}), description.get("regions_class_order"), path).structures


def label_code(labels: Any, regions_order: Any, path: Path) -> LabelCode:
    """What the values of label files mean, from `labels` as MSD ({"0": "background"}) or nnU-Net has it.

    Values may have gaps. A label named `ignore` marks voxels about which nothing is known. Regions of several values,
    as nnU-Net has them, become structures that do not overlap: `regions_class_order` names the value of each region's
    own voxels, which are those that no later region takes.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(f'{path}: labels is {labels!r}; expected names and values, {{"background": 0, "A": 1}}')
    if labels and all(str(key).isdigit() for key in labels):
        labels = _by_name(labels, path)
    values = {str(name): _values(name, value, path) for name, value in labels.items()}
    ignored = values.pop("ignore", (None,))[0]
    if any(len(several) > 1 for several in values.values()):
        values = _own_values(values, regions_order, path)
    ordered = sorted((value, name) for name, [value] in values.items())
    if twice := sorted({value for value, _ in ordered if [v for v, _ in ordered].count(value) > 1}):
        raise ValueError(f"{path}: labels have the value {twice[0]} twice; expected a value of its own for each")
    if ordered and ordered[0][0] != 0:
        raise ValueError(f"{path}: labels have no value 0; expected it for the background")
    highest = max([value for value, _ in ordered], default=0)
    if highest > MOST_STRUCTURES or (ignored or 0) > UNKNOWN_LABEL:
        highest = max(highest, ignored or 0)
        raise ValueError(f"{path}: labels have the value {highest}; expected values up to {MOST_STRUCTURES}")
    known = [(value, name) for value, name in ordered if value]
    return LabelCode(tuple(name for _, name in known), tuple(value for value, _ in known), ignored)


def _by_name(labels: Mapping[str, Any], path: Path) -> dict[str, int]:
    names = [str(name) for name in labels.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: labels name {', '.join(twice)} twice; expected a name of its own for each")
    return {str(name): int(value) for value, name in labels.items()}


def _values(name: str, value: Any, path: Path) -> tuple[int, ...]:
    """The values of one label: one, or several of a region."""
    entries = value if isinstance(value, list) and value else [value]
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int | str) or not str(entry).isdecimal():
            raise ValueError(
                f"{path}: label {name!r} has the value {value!r}; expected one whole number, or a list of them for a "
                "region"
            )
    return tuple(int(entry) for entry in entries)


def _own_values(regions: dict[str, tuple[int, ...]], order: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """The one value that only belongs to each region, named for the region and for what is not in it."""
    names = [name for name, values in regions.items() if values != (0,)]
    if not isinstance(order, list) or len(order) != len(names) or any(not isinstance(v, int) for v in order):
        raise ValueError(
            f"{path}: labels has regions of several values and regions_class_order is {order!r}; expected one value "
            f"for each of the {len(names)} regions, in their order"
        )
    own: dict[str, tuple[int, ...]] = {name: (0,) for name, values in regions.items() if values == (0,)}
    for name, value in zip(names, order, strict=True):
        inner = [other for other in names if other != name and {*regions[other]} < {*regions[name]}]
        outermost = [a for a in inner if not any({*regions[a]} < {*regions[b]} for b in inner)]
        own[f"{name} without {', '.join(outermost)}" if outermost else name] = (value,)
    return own


def _left_right_pairs(pairs: Any, structures: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(pairs, list | tuple) or any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
        raise ValueError(f'{path}: left_right_pairs is {pairs!r}; expected a list of pairs, [["LeftX", "RightX"], ...]')
    names = [str(name) for pair in pairs for name in pair]
    for name in names:
        if name not in structures:
            raise ValueError(f"{path}: left_right_pairs names {name!r}, which is not a label: {', '.join(structures)}")
        if names.count(name) > 1:
            raise ValueError(f"{path}: left_right_pairs names {name!r} twice; a structure has one other side")
    return tuple((str(left), str(right)) for left, right in pairs)
