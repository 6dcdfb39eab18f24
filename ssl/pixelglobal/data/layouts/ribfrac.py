"""RibFrac: `RibFracNNN-image.nii.gz` with `RibFracNNN-label.nii.gz`, in one folder or in trees of their own.

The parts follow from the numbers of the challenge: 1 to 420 training, 421 to 500 validation, 501 to 660 test.
Labels count the fractures 1, 2, 3, ...; every one of them is the structure Fracture.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PUBLISHED, Case, Cohort, LabelCode, case_name, in_order, load_files
from pixelglobal.data.layouts.parts import divided
from pixelglobal.data.volumes import Volume

LAST = {"train": 420, "validation": 500, "test": 660}
NUMBERED = re.compile(r"RibFrac(\d+)-(image|label)$")
FRACTURES = tuple(range(1, 256))


def matches(folder: Path) -> bool:
    """Whether there are files called RibFracNNN-image."""
    return any(folder.glob("**/RibFrac[0-9]*-image.nii*"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every image, with the label of its number wherever it is."""
    files: dict[str, dict[int, Path]] = {"image": {}, "label": {}}
    for path in sorted(folder.rglob("RibFrac*")):
        if found := NUMBERED.search(case_name(path) or ""):
            files[found.group(2)].setdefault(int(found.group(1)), path)
    parts: dict[str, list[Case]] = {split: [] for split in LAST}
    for number, image in sorted(files["image"].items()):
        split = next((split for split, last in LAST.items() if number <= last), "test")
        parts[split].append(Case(f"RibFrac{number}", f"RibFrac{number}", image, files["label"].get(number)))
    cases, division, notes = divided(parts)
    divisions = {PUBLISHED: division} if len(set(division.values())) > 1 else {}
    structures = ("Fracture",) if division else ()
    return Cohort(
        "RibFrac", structures, (), None, in_order(cases), divisions=divisions, notes=tuple(notes), load=load_fractures
    )


def load_fractures(case: Case, code: LabelCode, channel: int | None) -> Volume:
    """A scan with one structure from labels that number its fractures."""
    volume = load_files(case, LabelCode(tuple(map(str, FRACTURES)), FRACTURES), channel)
    return volume if volume.labels is None else replace(volume, labels=np.minimum(volume.labels, 1))
