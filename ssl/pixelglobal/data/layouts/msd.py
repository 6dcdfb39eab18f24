"""Medical Segmentation Decathlon: `dataset.json` lists the scans under `training`, each with its label.

The scans of `imagesTs`, which have no labels, and those of a list `unlabelled` are for pre-training. The junk files
`._NAME` of macOS archives are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, case_name
from pixelglobal.data.layouts.description import Description, read_description
from pixelglobal.files import read_json_object


def matches(folder: Path) -> bool:
    """Whether dataset.json lists scans."""
    path = folder / "dataset.json"
    return path.is_file() and bool(read_json_object(path).get("training"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """The listed scans and those of `imagesTs`."""
    description = read_description(folder / "dataset.json")
    listed = list(_listed(folder, description))
    known = {case.image.resolve() for case in listed}
    test = [
        Case(name, description.patient_of(name), path, None)
        for path in sorted((folder / "imagesTs").glob("*"))
        if (name := case_name(path)) is not None and path.resolve() not in known
    ]
    notes = [*channel_notes(description.entries.get("modality"), settings.channel)]
    if test:
        notes.append(f"{len(test)} scans of imagesTs have no labels and are in the pre-training split only")
    if junk := sum(1 for path in folder.glob("images*/._*")):
        notes.append(f"{junk} files ._* are left-overs of a macOS archive and are not read")
    return description.cohort([*listed, *test], notes)


def channel_notes(channels: Any, chosen: int | None) -> Iterator[str]:
    """What a user should know of channels that a description names, {"0": "T2", "1": "ADC"}."""
    if isinstance(channels, dict) and len(channels) > 1 and chosen is not None:
        yield f"channel {chosen} ({channels.get(str(chosen), 'not named')}) of {', '.join(map(str, channels.values()))}"


def _listed(folder: Path, description: Description) -> Iterator[Case]:
    lists = [description.entries["training"], description.entries.get("unlabelled", [])]
    if not all(isinstance(entries, list) for entries in lists):
        raise ValueError(f"{description.path}: training and unlabelled are expected to be lists of scans")
    for entry in [*lists[0], *lists[1]]:
        files = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(files, dict) or not isinstance(files.get("image"), str):
            raise ValueError(
                f"{description.path}: lists {entry!r} as a scan; expected "
                '{"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}'
            )
        image, label = folder / files["image"], files.get("label")
        if label is not None and not isinstance(label, str):
            raise ValueError(f"{description.path}: the label of {files['image']} is {label!r}; expected a file name")
        if (name := case_name(image)) is not None:
            yield Case(name, description.patient_of(name), image, folder / label if label else None)
