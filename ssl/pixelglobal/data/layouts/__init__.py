"""The layouts in which cohorts are downloaded, one file each.

A layout is a module with two functions. `matches(folder)` says whether a folder has this layout, looking at names and
descriptions only; `read(folder)` describes its scans as a `Cohort` without reading their voxels, and raises ValueError
that names the file, what was seen and what was expected. A further layout is one more file and its line in `LAYOUTS`:

    def matches(folder: Path) -> bool:
        return any(folder.glob("case_*/imaging.nii.gz"))

    def read(folder: Path) -> Cohort:
        scans = sorted(folder.glob("case_*/imaging.nii.gz"))
        cases = in_order(Case(s.parent.name, s.parent.name, s, s.with_name("segmentation.nii.gz")) for s in scans)
        return Cohort("KiTS", ("Kidney", "Tumour", "Cyst"), (), None, cases)
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pixelglobal.data.cohorts import Cohort
from pixelglobal.data.layouts import folder as plain_folder
from pixelglobal.data.layouts import msd, nnunet


class Layout(Protocol):
    """What a module of this package offers."""

    def matches(self, folder: Path) -> bool:
        """Whether the folder has this layout."""
        ...

    def read(self, folder: Path) -> Cohort:
        """The cohort in the folder; ValueError if its description is empty, cannot be read or cannot be meant."""
        ...


LAYOUTS: dict[str, Layout] = {"msd": msd, "nnunet": nnunet, "folder": plain_folder}


def read_cohort(folder: Path) -> Cohort:
    """Describe the scans of a folder, in whichever known layout it has, without reading their voxels.

    Raises ValueError for a folder that is not there, and for a description that is empty, cannot be read or cannot be
    meant.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; expected one with dataset.json, imagesTr and labelsTr")
    layout = next(layout for layout in LAYOUTS.values() if layout.matches(folder))
    return layout.read(folder)
