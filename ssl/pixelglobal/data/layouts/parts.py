"""What layouts with published parts share: images of a folder, labels of another, paired by the name of the case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pixelglobal.data.cohorts import ENDINGS, Case, case_name, is_mask

UNLABELLED = "{n} scans of {where} have no labels and are in the pre-training split only"


def files_of(folder: Path) -> dict[str, Path]:
    """{name: file} of the scans or labels that are directly in a folder."""
    named = ((case_name(path), path) for path in sorted(folder.glob("*")))
    return {name: path for name, path in named if name is not None}


def paired(images: Path, labels: Path | None) -> Iterator[Case]:
    """A case for each image of a folder, with the file of the same name in the folder of labels if there is one.

    Images may end in `_0000`, nnU-Net's number of the first channel.
    """
    drawn = files_of(labels) if labels else {}
    for name, image in files_of(images).items():
        if not is_mask(name):
            case = name if name in drawn else name.removesuffix("_0000")
            yield Case(case, case, image, drawn.get(case))


def divided(parts: Mapping[str, Iterable[Case]]) -> tuple[list[Case], dict[str, str], list[str]]:
    """(cases, division, notes) of {split: its cases}; cases without labels are in no split but pre-training."""
    cases: list[Case] = []
    division: dict[str, str] = {}
    notes: list[str] = []
    for split, members in parts.items():
        listed = list(members)
        cases += listed
        division |= {case.case: split for case in listed if case.label}
        if bare := [case for case in listed if case.label is None]:
            notes.append(UNLABELLED.format(n=len(bare), where=bare[0].image.parent.name))
    return cases, division, notes


def label_beside(image: Path, folder: Path, stems: Iterable[str]) -> Path | None:
    """The first label file in a folder that has one of these names."""
    candidates = (folder / f"{stem}{ending}" for stem in stems for ending in ENDINGS)
    return next((path for path in candidates if path.is_file() and path != image), None)
