"""nnU-Net raw folders: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, and `dataset.json` with `channel_names`.

Only channel 0 is read; a data set of several channels is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixelglobal.data.cohorts import ENDINGS, Case, Cohort, case_name
from pixelglobal.data.layouts.description import Description, read_description
from pixelglobal.files import read_json_object


def matches(folder: Path) -> bool:
    """Whether there is a description that leaves the list of scans to the folders."""
    path = folder / "dataset.json"
    return path.is_file() and not read_json_object(path).get("training")


def read(folder: Path) -> Cohort:
    """The scans in `imagesTr`, each with its file in `labelsTr` if it has one."""
    description = read_description(folder / "dataset.json")
    channels = description.entries.get("channel_names", {"0": "CT"})
    if len(channels) != 1:
        raise ValueError(f"{description.path}: channel_names lists {channels}; expected one CT channel")
    return description.cohort(_scans(folder, description))


def _scans(folder: Path, description: Description) -> Iterator[Case]:
    for image in sorted((folder / "imagesTr").glob("*")):
        if (name := case_name(image)) is not None:
            name = name.removesuffix("_0000")
            labels = [folder / "labelsTr" / f"{name}{ending}" for ending in ENDINGS]
            label = next((path for path in labels if path.is_file()), None)
            yield Case(name, description.patient_of(name), image, label)
