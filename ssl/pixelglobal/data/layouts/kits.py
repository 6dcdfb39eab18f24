"""KiTS19, KiTS21 and KiTS23: `case_NNNNN/imaging.nii.gz` with `segmentation.nii.gz`, or the files of KiTS21.

The first axis of the files goes from head to feet, the orientation (S, P, L); reading turns them. The paper's division
of 210 scans into 80, 25 and 105 is `prepare.split=paper`, drawn by `prepare.split_seed`: the list was not published.

Known issues, from https://github.com/neheller/kits19/issues (6 and 21) and the scans that nnU-Net's authors left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, in_order

LABEL_FILES = (
    "segmentation.nii.gz",
    "aggregated_MAJ_seg.nii.gz",
    "aggregated_AND_seg.nii.gz",
    "aggregated_OR_seg.nii.gz",
)
KITS19, PAPER = 210, {"train": 80, "validation": 25, "test": 105}
ISSUES = {
    "second_contrast_phase": (15, 25, 61, 117),  # a second scan of the same kidneys without labels
    "odd_size": (160,),  # 796 columns
    "faulty_labels": (15, 23, 37, 68, 125, 133),
}


def matches(folder: Path) -> bool:
    """Whether there are folders of cases with `imaging.nii.gz`."""
    return any(_root(folder).glob("case_[0-9]*/imaging.nii.gz"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every case; cases without a label file (KiTS19 from 210 on) are for pre-training."""
    scans = sorted(_root(folder).glob("case_[0-9]*/imaging.nii.gz"))
    cases = in_order(Case(scan.parent.name, scan.parent.name, scan, _label(scan.parent)) for scan in scans)
    if not cases:
        raise ValueError(f"{folder}: no case_NNNNN/imaging.nii.gz; expected the folders of KiTS with their images")
    names = {case.case for case in cases}
    issues = {
        issue: tuple(name for number in numbers if (name := f"case_{number:05d}") in names)
        for issue, numbers in ISSUES.items()
    }
    # The later ones have cysts, of the value 3, and beside each label map the files from which it was made.
    later = any((scan.parent / "instances").is_dir() or (scan.parent / "segmentations").is_dir() for scan in scans)
    structures = settings.structures or (("Kidney", "Tumour", "Cyst") if later else ("Kidney", "Tumour"))
    return Cohort(
        "KiTS",
        structures,
        (),
        None,
        cases,
        divisions={"paper": _paper(names, settings.split_seed)},
        known_issues={issue: found for issue, found in issues.items() if found},
    )


def _root(folder: Path) -> Path:
    """The folder of the cases: `data` of KiTS19's repository, `dataset` of the later ones, or the folder itself."""
    return next((folder / name for name in ("data", "dataset") if any(folder.glob(f"{name}/case_*"))), folder)


def _label(folder: Path) -> Path | None:
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def _paper(names: set[str], seed: int) -> dict[str, str]:
    """80, 25 and 105 of the 210 scans of KiTS19; a scan that is not there takes no other's place."""
    order = np.random.default_rng(seed).permutation(KITS19)
    parts = [part for part, count in PAPER.items() for _ in range(count)]
    drawn = {f"case_{number:05d}": part for number, part in zip(order.tolist(), parts, strict=True)}
    return {name: part for name, part in sorted(drawn.items()) if name in names}
