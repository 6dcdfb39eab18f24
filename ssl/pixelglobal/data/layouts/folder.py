"""A plain folder of NIfTI files without labels and without a description."""

from __future__ import annotations

from pathlib import Path

from pixelglobal.data.cohorts import Case, Cohort, case_name, in_order


def matches(folder: Path) -> bool:
    """Whether there is no description, so that the files in the folder are all there is to know."""
    return not (folder / "dataset.json").is_file()


def read(folder: Path) -> Cohort:
    """Every NIfTI file of the folder as an unlabelled scan of a patient of its own."""
    named = [(case_name(path), path) for path in sorted(folder.glob("*"))]
    cases = in_order(Case(name, name, path, None) for name, path in named if name is not None)
    if not cases:
        raise ValueError(
            f"{folder}: neither dataset.json nor any .nii or .nii.gz file; expected an MSD or nnU-Net folder, or scans"
        )
    return Cohort(folder.name, (), (), None, cases)
