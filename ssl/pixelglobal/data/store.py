"""The store: the folder that `prepare` writes and everything later reads.

cohort.json              what the cohort is and how it was prepared
cases.csv                one row per finished case: geometry, HU sums, content hash, which structures are contoured
slices/CASE.parquet      one row per slice, see `slices`
labels/CASE.nii.gz       the reference on the scan's own grid (labelled cases)
fingerprints/CASE.npy    what tells the scan apart from those of other patients, see `fingerprint`
splits.json              cases of each split, disjoint by patient
quarantine.csv           cases that no split has, and why, see `quarantine`
notes.json               the layout of the scans' folder, and what was noticed while it was read
records/CASE.json        what is known of a case: its row of cases.csv, and what the checks measured and suspected
prepare.json             what `prepare` needs to continue
SHA256SUMS               the digest of each of these files
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import FiniteFloat

from pixelglobal.data.fingerprint import LATTICE, Fingerprint, fingerprint_of
from pixelglobal.data.quarantine import read_quarantine
from pixelglobal.data.slices import SCHEMA_VERSION, SliceBatch, read_slices
from pixelglobal.data.splits import Splits
from pixelglobal.data.store_files import fingerprint_file, read_cases, record_file
from pixelglobal.data.stored_grid import StoredGrid, on_the_scan
from pixelglobal.files import damaged_files, digest_of, read_digests, read_json_as, read_json_object


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation in HU over every stored pixel of some cases."""

    mean_hu: float
    std_hu: float


@dataclass(frozen=True)
class Store:
    """A prepared cohort on disk."""

    root: Path
    name: str
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    absent_structures: str
    image_size: int
    hu_min: FiniteFloat
    hu_max: FiniteFloat
    in_plane_spacing_mm: float | None
    channels: int = 1  # of a slice: 3 of pictures in colour, otherwise 1
    antialias: bool = False  # whether slices that resampling has shrunk were averaged over areas, unlike in 0.1.0

    @staticmethod
    def open(root: Path | str) -> Store:
        """Open a store folder; ValueError says what is missing."""
        root = Path(root)
        path = root / "cohort.json"
        if not path.is_file():
            raise ValueError(f"{root} is no prepared cohort: cohort.json is missing. Run `pixelglobal prepare` first")
        if damaged := damaged_files(root, ("cohort.json", "cases.csv", "splits.json")):
            raise ValueError(
                f"{root / damaged[0]} is not what SHA256SUMS says: it was damaged or edited. Run `pixelglobal prepare` "
                "again, which keeps the intact cases; if you edited it on purpose, delete SHA256SUMS"
            )
        facts = read_json_object(path)
        if facts.get("schema") != SCHEMA_VERSION:
            raise ValueError(
                f"{root} has schema {facts.get('schema')}, this version reads {SCHEMA_VERSION}; prepare it again"
            )
        return read_json_as(path, Store, root=root)

    @property
    def grid(self) -> StoredGrid:
        """How its slices are made of scans."""
        return StoredGrid(self.image_size, self.hu_min, self.hu_max, self.in_plane_spacing_mm, self.antialias)

    @cached_property
    def cases(self) -> pd.DataFrame:
        """cases.csv: one row per finished case, in the order of case names."""
        path = self.root / "cases.csv"
        if not path.is_file():
            raise ValueError(f"{self.root} has no cases.csv; run `pixelglobal prepare` again, it keeps finished cases")
        return read_cases(path, len(self.structures))

    @cached_property
    def _digests(self) -> dict[str, str]:
        return read_digests(self.root) or {}

    @cached_property
    def notes(self) -> list[str]:
        """What was noticed when the scans were read, one sentence each; empty for a store of an older version."""
        path = self.root / "notes.json"
        return read_json_as(path, _Notes).notes if path.is_file() else []

    @cached_property
    def splits(self) -> Splits:
        """splits.json, without the quarantined cases."""
        lists, out = read_json_as(self.root / "splits.json", Splits), self.quarantine
        return Splits(**{name: tuple(c for c in part if c not in out) for name, part in vars(lists).items()})

    @cached_property
    def quarantine(self) -> dict[str, str]:
        """The cases that no split has, and why: quarantine.csv."""
        lines = read_quarantine(self.root)
        by_hand = lines.loc[lines["by"] != "prepare", "case"]
        if unknown := sorted(set(by_hand) - set(self.cases["case"])):
            raise ValueError(
                f"{self.root / 'quarantine.csv'} names {', '.join(unknown[:5])}, which the store does not have; "
                "correct the name, or take the line out"
            )
        return dict(zip(lines["case"], lines["reason"], strict=True))

    def checks(self, case: str) -> dict[str, Any]:
        """What `prepare` measured and suspected: `suspects`, `structures` and `histogram`, see `prepare_case`.

        Raises ValueError if an older version prepared the case.
        """
        record = read_json_object(record_file(self.root, case))
        if "checks" not in record:
            raise ValueError(
                f"{self.root} was prepared before scans were checked ({case}); prepare the cohort into a new folder"
            )
        checks: dict[str, Any] = record["checks"]
        return checks

    def _facts(self, case: str) -> pd.Series:
        rows = self.cases[self.cases["case"] == case]
        if rows.empty:
            raise ValueError(f"case {case!r} is not in {self.root}; it has {len(self.cases)} cases, see cases.csv")
        return rows.iloc[0]

    def path(self, case: str) -> Path:
        """The slice file of a case."""
        return self.root / "slices" / f"{case}.parquet"

    def paths(self, cases: Sequence[str]) -> list[Path]:
        """The slice files of cases."""
        return [self.path(case) for case in cases]

    def read_case(self, case: str) -> SliceBatch:
        """All slices of a case, in order, with labels; ValueError if the file is not the one that was written."""
        name = self.path(case).relative_to(self.root).as_posix()
        if name in self._digests and self.path(case).is_file() and digest_of(self.path(case)) != self._digests[name]:
            raise ValueError(
                f"{self.path(case)} is not what SHA256SUMS says: it was damaged. Run `pixelglobal prepare` again; it "
                "makes this case anew and keeps the others"
            )
        return SliceBatch.from_arrow(read_slices(self.path(case)))

    def spacing_mm(self, case: str) -> tuple[float, float, float]:
        """The spacing (z, y, x) of the stored slices of a case."""
        facts, to_mm = self._facts(case), self.in_plane_spacing_mm
        y, x = (to_mm, to_mm) if to_mm else (float(facts["spacing_y_mm"]), float(facts["spacing_x_mm"]))
        return float(facts["spacing_z_mm"]), y, x

    def fingerprint(self, case: str) -> Fingerprint:
        """What tells the scan apart from those of other patients; computed here where its file cannot be read."""
        if not self.grid.is_ct:
            return Fingerprint(np.zeros((0, LATTICE, LATTICE), np.float16))  # comparable with none
        with suppress(Exception):  # NumPy has many errors for a damaged file
            stations = np.load(fingerprint_file(self.root, case))
            if stations.dtype == np.float16 and stations.shape[1:] == (LATTICE, LATTICE):
                return Fingerprint(stations)
        return fingerprint_of(self.read_case(case).image_hu.numpy(), self.spacing_mm(case))

    def normalization(self, cases: Sequence[str]) -> Normalization:
        """Mean and spread of the stored HU over some cases, exact, from the sums that prepare kept."""
        rows = self.cases[self.cases["case"].isin(list(cases))]
        if rows.empty:
            raise ValueError(f"no cases to normalise by in {self.root}: the split is empty")
        return normalization_of(rows)

    def contoured(self, case: str) -> list[bool]:
        """For each structure, whether it was contoured in this case."""
        flags = self._facts(case)["contoured"]
        return [flag == "1" for flag in flags.split(",")] if flags else []

    def affine(self, case: str) -> np.ndarray:
        """The affine [4, 4] of a scan's own canonical grid; ValueError if an older version prepared it without."""
        facts = self._facts(case)
        if "affine" not in facts:
            raise ValueError(f"{self.root} was prepared before scans' affines were kept; prepare the cohort again")
        values = np.array([float(value) for value in facts["affine"].split(",")]).reshape(3, 4)
        return np.vstack([values, [0.0, 0.0, 0.0, 1.0]])

    def label_path(self, case: str) -> Path:
        """The reference of a labelled case on its own grid."""
        return self.root / "labels" / f"{case}.nii.gz"

    def n_slices(self, cases: Sequence[str]) -> int:
        """Slices of some cases together."""
        return int(self.cases[self.cases["case"].isin(list(cases))]["n_slices"].sum())

    def paste_back(self, case: str, labels: np.ndarray) -> np.ndarray:
        """Stored-grid labels uint8 [Z, S, S] on the scan's own grid [Z, rows, columns]; background outside the crop."""
        return self._paste_back(case, labels, 0)

    def paste_back_image(self, case: str, image_hu: np.ndarray) -> np.ndarray:
        """One stored slice int16 [S, S] on the scan's own grid [rows, columns]; the clip's minimum outside the crop."""
        pasted: np.ndarray = self._paste_back(case, image_hu[None], round(self.hu_min))[0]
        return pasted

    def paste_back_map(self, case: str, values: np.ndarray) -> np.ndarray:
        """Stored-grid values float [Z, S, S] on the scan's own grid [Z, rows, columns]; NaN outside the crop."""
        return self._paste_back(case, values, np.nan)

    def _paste_back(self, case: str, stored: np.ndarray, fill: float) -> np.ndarray:
        facts = self._facts(case)
        grid = int(facts["stored_rows"]), int(facts["stored_columns"])
        return on_the_scan(stored, grid, (int(facts["rows"]), int(facts["columns"])), fill)

    @property
    def dice_ceiling(self) -> dict[str, float]:
        """The greatest DSC that a structure can reach on this grid: of its labels, stored and pasted back, with the
        scan's; means over scans, NaN where no scan has it or an older version prepared the store."""
        if "dice_ceiling" not in self.cases:
            return dict.fromkeys(self.structures, math.nan)
        values = [[float(v or "nan") for v in row.split(",")] for row in self.cases["dice_ceiling"] if row]
        means = pd.DataFrame(values, columns=list(self.structures), dtype=float).mean()
        return {name: float(mean) for name, mean in zip(self.structures, means, strict=True)}


@dataclass(frozen=True)
class _Notes:
    notes: list[str]


def normalization_of(rows: pd.DataFrame) -> Normalization:
    """Mean and spread over the pixels of some rows of cases.csv, exact, from the sums that prepare kept."""
    n = float(rows["n_pixels"].sum())
    mean = float(rows["hu_sum"].sum()) / n
    variance = float(rows["hu_sum_of_squares"].astype(float).sum()) / n - mean**2  # 64-bit integers would overflow
    return Normalization(mean, math.sqrt(max(variance, 1.0)))
