"""What a cohort is: scans, the patients they belong to, and what the values of their labels mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pixelglobal.data.volumes import Volume, read_volume

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
MASK_WORDS = {"seg", "segmentation", "mask", "label", "labels", "labelmap", "roi", "gt"}


@dataclass(frozen=True)
class Case:
    """One scan of a cohort; `label` is None when nobody drew on it."""

    case: str
    patient: str
    image: Path  # a file, or the first file of a DICOM series
    label: Path | None  # a file, or a folder of masks
    series: tuple[Path, ...] = ()  # every file of a DICOM series


@dataclass(frozen=True)
class LabelCode:
    """How a label file stores the structures of a cohort.

    structures: their names; in the store, structure i has the value i + 1.
    values: the value of each in the files; empty for 1, 2, 3, ...
    ignored: the value of voxels about which nothing is known.
    """

    structures: tuple[str, ...]
    values: tuple[int, ...] = ()
    ignored: int | None = None


def load_files(case: Case, code: LabelCode, channel: int | None) -> Volume:
    """A case that is one image file with at most one label file."""
    values = code.values or tuple(range(1, len(code.structures) + 1))
    return read_volume(
        case.image,
        case.label,
        case=case.case,
        patient=case.patient,
        label_values=values,
        ignored_value=code.ignored,
        channel=channel,
    )


Load = Callable[[Case, LabelCode, int | None], Volume]


@dataclass(frozen=True)
class Cohort:
    """A folder of scans. `structures[i]` has label value i + 1 in a store."""

    name: str
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str | None  # "not_contoured" or "absent" if the cohort's description says so
    cases: tuple[Case, ...]
    label_values: tuple[int, ...] = ()  # of each structure in the label files; empty for 1, 2, 3, ...
    ignored_value: int | None = None  # in the label files, of voxels about which nothing is known
    divisions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # {name: {case: split}}; see PUBLISHED
    known_issues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # {issue: cases}
    notes: tuple[str, ...] = ()  # what a user should know about how the folder was read
    load: Load = load_files
    channels: int = 1  # 3 of pictures in colour
    intensity_range: tuple[int, int] | None = None  # of pictures; None: HU, clipped by prepare.hu_min and hu_max
    layout: str = ""

    @property
    def code(self) -> LabelCode:
        """How the label files store the structures."""
        return LabelCode(self.structures, self.label_values, self.ignored_value)

    def without_labels(self) -> Cohort:
        """The scans alone, all of them for pre-training."""
        cases = tuple(replace(case, label=None) for case in self.cases)
        return replace(self, structures=(), left_right_pairs=(), cases=cases, label_values=(), divisions={})


PUBLISHED = "published"  # the division that is used where none is asked for
PRETRAINING = "pretrain"  # `prepare.split`: every scan without its labels


def case_name(path: Path) -> str | None:
    """The name of the case in a file: the name without the ending of a scan; None for other and hidden files.

    >>> [case_name(Path(name)) for name in ("liver_1.nii.gz", "liver_1.mha", "notes.txt", "._liver_1.nii.gz")]
    ['liver_1', 'liver_1', None, None]
    """
    for ending in ENDINGS:
        if path.name.endswith(ending) and not path.name.startswith("."):
            return path.name.removesuffix(ending)
    return None


def is_mask(name: str) -> bool:
    """Whether a case's name says that the file holds labels and no CT.

    >>> [is_mask(name) for name in ("a_seg", "case-label", "segovia_1", "Lung_Mask_2", "a")]
    [True, True, False, True, False]
    """
    return bool(MASK_WORDS & set(re.split(r"[\W_]+", name.lower())))


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
