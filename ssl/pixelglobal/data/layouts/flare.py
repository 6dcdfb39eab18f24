"""FLARE (2021 to 2023): `images` with `labels`, or parts such as `imagesTr` and `TuningImg` with their labels.

Images are called FLARE..._0000.nii.gz. Values mean the 13 organs of FLARE22 and the tumours of FLARE23.
"""

from __future__ import annotations

from pathlib import Path

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PUBLISHED, Case, Cohort, in_order
from pixelglobal.data.layouts.parts import divided, paired

STRUCTURES = (
    "Liver", "RightKidney", "Spleen", "Pancreas", "Aorta", "InferiorVenaCava", "RightAdrenal", "LeftAdrenal",
    "Gallbladder", "Esophagus", "Stomach", "Duodenum", "LeftKidney", "Tumour",
)  # fmt: skip
PAIRS = (("LeftKidney", "RightKidney"), ("LeftAdrenal", "RightAdrenal"))
PARTS = (
    ("imagesTr", "labelsTr", "train"), ("images", "labels", "train"), ("TrainingImg", "TrainingMask", "train"),
    ("unlabeled", None, "train"), ("imagesVal", "labelsVal", "validation"), ("validation", None, "validation"),
    ("TuningImg", "TuningMask", "validation"), ("ValidationImg", "ValidationMask", "validation"),
    ("imagesTs", "labelsTs", "test"), ("TestImg", "TestMask", "test"),
)  # fmt: skip


def matches(folder: Path) -> bool:
    """Whether images of a part are called FLARE..."""
    return not (folder / "dataset.json").is_file() and any(
        any(folder.glob(f"{images}/FLARE*")) for images, _, _ in PARTS
    )


def read(folder: Path, settings: Prepare) -> Cohort:
    """The scans of every part that is there."""
    members: dict[str, list[Case]] = {"train": [], "validation": [], "test": []}
    for images, labels, split in PARTS:
        members[split] += paired(folder / images, folder / labels if labels else None)
    cases, division, notes = divided(members)
    several = len(set(division.values())) > 1  # training labels alone are divided by fractions
    divisions = {PUBLISHED: division} if several else {}
    return Cohort("FLARE", STRUCTURES, PAIRS, None, in_order(cases), divisions=divisions, notes=tuple(notes))
