"""What a cohort is: scans, the patients they belong to, and what the values of their labels mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (".nii.gz", ".nii")


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


def case_name(path: Path) -> str | None:
    """The name of the case in a NIfTI file: the file's name without its ending; None for any other or a hidden file.

    >>> [case_name(Path(name)) for name in ("liver_1.nii.gz", "liver_1.nii", "notes.txt", "._liver_1.nii.gz")]
    ['liver_1', 'liver_1', None, None]
    """
    for ending in ENDINGS:
        if path.name.endswith(ending) and not path.name.startswith("."):
            return path.name.removesuffix(ending)
    return None


def in_order(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Cases in the order of their names. Raises ValueError if two scans have the same name."""
    by_name: dict[str, Case] = {}
    for case in cases:
        if case.case in by_name:
            raise ValueError(
                f"{by_name[case.case].image} and {case.image} are both called {case.case!r}; expected a name of its "
                "own for every scan. Rename one, or take it out"
            )
        by_name[case.case] = case
    return tuple(by_name[name] for name in sorted(by_name))
