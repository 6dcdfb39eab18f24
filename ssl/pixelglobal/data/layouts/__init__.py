"""The layouts in which cohorts are downloaded, one file each.

A layout is a module with two functions. `matches(folder)` says whether a folder has this layout, looking at names and
descriptions only; `read(folder, settings)` describes its scans as a `Cohort` without reading their voxels, and raises
ValueError that names the file, what was seen and what was expected. A further layout is one more file and its line in
`NAMED`:

    def matches(folder: Path) -> bool:
        return any(folder.glob("scan_*/ct.nii.gz"))

    def read(folder: Path, settings: Prepare) -> Cohort:
        scans = sorted(folder.glob("scan_*/ct.nii.gz"))
        cases = in_order(Case(s.parent.name, s.parent.name, s, s.with_name("organs.nii.gz")) for s in scans)
        return Cohort("Our hospital", ("Kidney", "Tumour", "Cyst"), (), None, cases)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PRETRAINING, Cohort, case_name, is_mask
from pixelglobal.data.layouts import amos, btcv, dicom, flare, images, kits, msd, nnunet, ribfrac, totalsegmentator
from pixelglobal.data.layouts import folder as plain_folder


class Layout(Protocol):
    """What a module of this package offers."""

    def matches(self, folder: Path) -> bool:
        """Whether the folder has this layout."""
        ...

    def read(self, folder: Path, settings: Prepare) -> Cohort:
        """The cohort in the folder; ValueError if its description is empty, cannot be read or cannot be meant."""
        ...


# Of public cohorts, known by their own names of files; and layouts of any cohort, which are tried after them.
NAMED: dict[str, Layout] = {
    "kits": kits,
    "ribfrac": ribfrac,
    "totalsegmentator": totalsegmentator,
    "amos": amos,
    "flare": flare,
    "btcv": btcv,
}
GENERAL: dict[str, Layout] = {"msd": msd, "nnunet": nnunet, "dicom": dicom, "images": images, "folder": plain_folder}


def read_cohort(folder: Path, settings: Prepare | None = None) -> Cohort:
    """Describe the scans of a folder, in the layout `prepare.layout` or the one that it has, without reading voxels.

    Raises ValueError for a folder that is not there, that has no or several known layouts, and for a description that
    is empty, cannot be read or cannot be meant.
    """
    settings = settings or Prepare()
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; expected one with scans, see docs/reference/layouts.md")
    name = settings.layout or layout_of(folder)
    known = NAMED | GENERAL
    if name not in known:
        raise ValueError(f"prepare.layout={name!r} is not known; expected one of {', '.join(known)}")
    cohort = known[name].read(folder, settings)
    if not cohort.cases:
        raise ValueError(f"{folder}: no scans found in the layout {name}; see docs/reference/layouts.md for its files")
    cohort = replace(cohort, layout=name, notes=(*cohort.notes, *_not_read(folder, cohort)))
    return cohort.without_labels() if settings.split == PRETRAINING else cohort


def _not_read(folder: Path, cohort: Cohort) -> list[str]:
    """A note on files in the formats of scans that no case has, without their names, which may be those of patients."""
    used = {path.resolve() for case in cohort.cases for path in (case.image, case.label, *case.series) if path}
    scans = {path.resolve(): name for path in folder.rglob("*") if (name := case_name(path)) is not None}
    left = [name for path, name in scans.items() if used.isdisjoint((path, *path.parents))]
    if not left:
        return []
    masks = sum(map(is_mask, left))
    return [
        f"{len(left)} files in the formats of scans are not read: {masks} are masks by their names, "
        f"{len(left) - masks} are no scan or label of this layout"
    ]


def layout_of(folder: Path) -> str:
    """The name of the layout of a folder. Raises ValueError if it has none, or more than one."""
    for layouts in (NAMED, GENERAL):
        fitting = [name for name, layout in layouts.items() if layout.matches(folder)]
        if len(fitting) > 1:
            raise ValueError(
                f"{folder}: may have the layouts {', '.join(fitting)}; choose one, such as --layout {fitting[0]}"
            )
        if fitting:
            return fitting[0]
    raise ValueError(
        f"{folder}: neither dataset.json nor any scan (.nii, .nii.gz, .nrrd, .mha, .mhd or DICOM) or picture "
        f"(.png, .jpg or .tif) in a known place; expected one of the layouts {', '.join(NAMED | GENERAL)}, see "
        "docs/reference/layouts.md"
    )
