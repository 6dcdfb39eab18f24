"""TotalSegmentator, versions 1 and 2: `sNNNN/ct.nii.gz` with one mask file for each structure in `segmentations/`.

The masks become one label map. `meta.csv` has the published split of each scan. A structure without a mask file was not
contoured.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PUBLISHED, Case, Cohort, LabelCode, case_name, in_order
from pixelglobal.data.volumes import Volume, read_hu, read_labels_on_grid, spacing_zyx

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def matches(folder: Path) -> bool:
    """Whether there are folders with `ct.nii.gz` and `segmentations`."""
    return any(path.with_name("segmentations").is_dir() for path in folder.glob("*/ct.nii.gz"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every scan; the structures are those of all mask files, or of `prepare.structures` in that order."""
    scans = sorted(folder.glob("*/ct.nii.gz"))
    masks = {scan.parent.name: scan.with_name("segmentations") for scan in scans}
    found = {name for where in masks.values() for path in where.glob("*") if (name := case_name(path)) is not None}
    structures = settings.structures or tuple(sorted(found))
    if unknown := sorted(set(structures) - found):
        raise ValueError(f"{folder}: prepare.structures names {', '.join(unknown[:5])}; no scan has such a mask file")
    if len(structures) > 255:
        raise ValueError(f"{folder}: has masks of {len(structures)} structures; choose up to 254 by prepare.structures")
    cases = in_order(
        Case(
            scan.parent.name,
            scan.parent.name,
            scan,
            masks[scan.parent.name] if masks[scan.parent.name].is_dir() else None,
        )
        for scan in scans
    )
    sides = ((name, name.replace("left", "right")) for name in structures if "left" in name)
    pairs = tuple((left, right) for left, right in sides if right in structures)
    division = _division(folder / "meta.csv")
    return Cohort(
        "TotalSegmentator",
        structures,
        pairs,
        None,
        cases,
        divisions={PUBLISHED: division} if division else {},
        load=load_masks,
    )


def load_masks(case: Case, code: LabelCode, channel: int | None) -> Volume:
    """A scan with its mask files as one label map; where masks overlap, the later structure of the list counts."""
    image_hu, affine = read_hu(case.image, channel)
    if case.label is None:
        return Volume(image_hu, None, spacing_zyx(affine), affine, case.case, case.patient)
    labels = np.zeros(image_hu.shape, np.uint8)
    looked_for, overlapping = [], 0
    for value, name in enumerate(code.structures, 1):
        path = case.label / f"{name}.nii.gz"
        looked_for.append(path.is_file())
        if looked_for[-1]:
            mask = read_labels_on_grid(path, case.image, image_hu.shape, affine, 1).astype(bool)
            overlapping += int(np.count_nonzero(labels[mask]))
            labels[mask] = value
    remarks = (
        (f"{overlapping} voxels are in several masks and have the later structure's value",) if overlapping else ()
    )
    return Volume(image_hu, labels, spacing_zyx(affine), affine, case.case, case.patient, tuple(looked_for), remarks)


def _division(path: Path) -> dict[str, str]:
    """{case: split} of meta.csv, which separates its columns by semicolons; empty without the file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if rows and not {"image_id", "split"} <= rows[0].keys():
        raise ValueError(
            f"{path}: has the columns {', '.join(map(str, rows[0]))}; expected image_id and split among them"
        )
    known = {row["image_id"]: SPLITS.get(str(row["split"]).strip()) for row in rows}
    return {case: split for case, split in known.items() if split is not None}
