"""Medical Segmentation Decathlon: `dataset.json` lists the scans under `training`, each with its label.

A list `unlabelled` of further image files is read as well. The junk files `._NAME` of macOS archives are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixelglobal.data.cohorts import Case, Cohort, case_name
from pixelglobal.data.layouts.description import Description, read_description
from pixelglobal.files import read_json_object


def matches(folder: Path) -> bool:
    """Whether dataset.json lists scans."""
    path = folder / "dataset.json"
    return path.is_file() and bool(read_json_object(path).get("training"))


def read(folder: Path) -> Cohort:
    """The listed scans."""
    description = read_description(folder / "dataset.json")
    return description.cohort(_listed(folder, description))


def _listed(folder: Path, description: Description) -> Iterator[Case]:
    for entry in [*description.entries["training"], *description.entries.get("unlabelled", ())]:
        files = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(files, dict) or not isinstance(files.get("image"), str):
            raise ValueError(
                f"{description.path}: lists {entry!r} as a scan; expected "
                '{"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}'
            )
        image, label = folder / files["image"], files.get("label")
        if (name := case_name(image)) is not None:
            yield Case(name, description.patient_of(name), image, folder / label if label else None)
