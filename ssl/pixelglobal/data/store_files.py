"""The files of a store by name, and whether they are what was written: SHA256SUMS has the digest of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from pixelglobal.files import damaged_files, digest_of

MARKS = ("prepare.json", "cohort.json", "cases.csv", "splits.json", "notes.json")


def record_file(root: Path, case: str) -> Path:
    """What is known of a case, as JSON."""
    return root / "records" / f"{case}.json"


def slices_file(root: Path, case: str) -> Path:
    """The slices of a case."""
    return root / "slices" / f"{case}.parquet"


def labels_file(root: Path, case: str) -> Path:
    """The reference labels of a case, if it has any, on the grid of its scan."""
    return root / "labels" / f"{case}.nii.gz"


def fingerprint_file(root: Path, case: str) -> Path:
    """What tells the scan of a case apart from those of other patients; an older version wrote none."""
    return root / "fingerprints" / f"{case}.npy"


def case_digests(root: Path, case: str) -> dict[str, str]:
    """{name in the store: digest} of a case's files that are there."""
    paths = [place(root, case) for place in (record_file, slices_file, labels_file, fingerprint_file)]
    return {path.relative_to(root).as_posix(): digest_of(path) for path in paths if path.is_file()}


def is_finished(root: Path, case: str, digests: Mapping[str, str] | None) -> bool:
    """Whether a case's files are there as they were written; a store of an older version has no digests to compare."""
    if not (record_file(root, case).is_file() and slices_file(root, case).is_file()):
        return False
    if digests is None:
        return True
    ending = labels_file(root, case).relative_to(root).as_posix()
    there = case_digests(root, case)
    return all(digests.get(name) == digest for name, digest in there.items()) and (ending in digests) == (
        ending in there
    )


def refuse_damaged_marks(root: Path) -> None:
    """Raise ValueError if what says how a store was made and divided was damaged; a deleted one is made anew."""
    for name in damaged_files(root, ("prepare.json", "splits.json")):
        if (root / name).is_file():
            raise ValueError(
                f"{root / name} is not what SHA256SUMS says: it was damaged or edited. Restore it from a copy; or, if "
                "the settings are those of the first time, delete it"
            )


TEXTS = ("case", "patient", "affine", "contoured", "voxels", "dice_ceiling", "sha256", "labels_sha256")
NUMBERS = ("n_slices", "rows", "columns", "stored_rows", "stored_columns", "spacing_z_mm", "spacing_y_mm",
           "spacing_x_mm", "hu_sum", "hu_sum_of_squares", "n_pixels")  # fmt: skip


def read_cases(path: Path, n_structures: int) -> pd.DataFrame:
    """cases.csv of a store. Raises ValueError that names the file if a column is missing or holds something else."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)  # a patient may be called NA
        for column in ("case", "patient", "contoured", "sha256", *NUMBERS):
            if column not in table or (column in NUMBERS and not is_numeric_dtype(table[column])):
                raise ValueError(f"the column {column} is missing or holds something else")
        if not (table[["n_slices", "n_pixels"]] > 0).all(axis=None):
            raise ValueError("a scan has no slices or no pixels")
        for column, count in (("affine", 12), ("dice_ceiling", n_structures)):
            rows = [[float(value or "nan") for value in row.split(",")] for row in table.get(column, ()) if row]
            if any(len(row) != count for row in rows):
                raise ValueError(f"expected {count} numbers in each entry of the column {column}")
    except (ValueError, OSError) as error:  # pandas names no file
        raise ValueError(
            f"{path}: cannot be read ({error}); it was damaged or edited. Run `pixelglobal prepare` again, which keeps "
            "the intact cases"
        ) from error
    return table
