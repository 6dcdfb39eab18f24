"""AMOS22: `imagesTr`, `imagesVa` and `imagesTs` with their labels, and the `dataset.json` of the challenge.

Scans 500 and above are MR and are left out. The labels of the test part were not published, so its scans are for
pre-training and the validation part is the test split.
"""

from __future__ import annotations

from pathlib import Path

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PUBLISHED, Case, Cohort, in_order
from pixelglobal.data.layouts.parts import divided, paired
from pixelglobal.files import read_json_object

STRUCTURES = (
    "Spleen", "RightKidney", "LeftKidney", "Gallbladder", "Esophagus", "Liver", "Stomach", "Aorta", "PostcavaVein",
    "Pancreas", "RightAdrenal", "LeftAdrenal", "Duodenum", "Bladder", "ProstateOrUterus",
)  # fmt: skip
PAIRS = (("LeftKidney", "RightKidney"), ("LeftAdrenal", "RightAdrenal"))
FIRST_MR = 500


def matches(folder: Path) -> bool:
    """Whether there are images of a part called amos_NNNN; an nnU-Net folder of them describes its own labels."""
    path = folder / "dataset.json"
    if path.is_file() and "channel_names" in read_json_object(path):
        return False
    return any(folder.glob("images[TV][ra]/amos_[0-9]*"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """The CT scans of the three parts."""
    parts = {
        split: [c for c in paired(folder / f"images{part}", folder / f"labels{part}") if _number(c) < FIRST_MR]
        for part, split in {"Tr": "train", "Va": "validation", "Ts": "test"}.items()
    }
    cases, division, notes = divided(parts)
    everything = sum(1 for part in ("Tr", "Va", "Ts") for _ in paired(folder / f"images{part}", None))
    if everything > len(cases):
        notes.append(f"{everything - len(cases)} scans with numbers from {FIRST_MR} on are MR and are not read")
    return Cohort("AMOS", STRUCTURES, PAIRS, None, in_order(cases), divisions={PUBLISHED: division}, notes=tuple(notes))


def _number(case: Case) -> int:
    digits = case.case.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0
