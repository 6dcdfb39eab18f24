"""Labelled scans to be segmented and scored, from a store or straight from a folder in any layout.

Shape letters: Z slices of a scan, S side of a square image, H rows, W columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelglobal.config.schema import Config
from pixelglobal.data.cohorts import Cohort
from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import StoredGrid, crop_or_pad, resample_labels
from pixelglobal.data.volumes import UNKNOWN_LABEL, read_labels


@dataclass(frozen=True)
class LabelledScan:
    """A scan on two grids, the stored one of a model and its own."""

    case: str
    patient: str
    images_hu: np.ndarray  # int16 [Z, S, S]
    stored_labels: np.ndarray  # uint8 [Z, S, S]
    labels: np.ndarray  # uint8 [Z, H, W], on its own grid
    spacing_mm: tuple[float, float, float]  # (z, y, x)
    affine: np.ndarray
    contoured: tuple[bool, ...]  # of each structure
    sha256: str  # of its voxels, by which a model knows what it has seen


@dataclass(frozen=True)
class LabelledScans:
    """Labelled scans of one cohort, each of which is read when it is asked for."""

    name: str
    structures: tuple[str, ...]
    cases: tuple[str, ...]
    read: Callable[[str], LabelledScan]
    source: str  # where they are, for messages


def scans_of_store(store: Store, cases: Sequence[str]) -> LabelledScans:
    """Cases of a store."""
    facts = store.cases.set_index("case")

    def read(case: str) -> LabelledScan:
        batch = store.read_case(case)
        labels, spacing_mm, affine = read_labels(store.label_path(case))
        stored_labels = batch.label.numpy()
        if batch.certainty is not None:
            stored_labels = np.where(batch.certainty.numpy() == 0, UNKNOWN_LABEL, stored_labels).astype(np.uint8)
        return LabelledScan(
            case, str(facts.loc[case, "patient"]), batch.image_hu.numpy(), stored_labels, labels, spacing_mm,
            affine, tuple(store.contoured(case)), str(facts.loc[case, "sha256"]),
        )  # fmt: skip

    return LabelledScans(store.name, store.structures, tuple(cases), read, str(store.root))


def scans_of_folder(folder: Path, cohort: Cohort, grid: StoredGrid, config: Config) -> LabelledScans:
    """Every labelled scan of the cohort in a folder; ValueError if there is none. grid: that of the model."""
    by_name = {case.case: case for case in cohort.cases if case.label is not None}
    if not by_name:
        raise ValueError(
            f"{folder}: none of its {len(cohort.cases)} scans has labels; expected a store, or a folder with labels. "
            "Scans without labels are segmented by `pixelglobal predict`"
        )
    rule = cohort.absent_structures or config.prepare.absent_structures

    def read(name: str) -> LabelledScan:
        n = len(cohort.structures)
        scan = cohort.load(by_name[name], cohort.code, config.prepare.channel)
        assert scan.labels is not None
        present = np.bincount(scan.labels.ravel(), minlength=n + 1)[1 : n + 1] > 0
        looked_for = scan.looked_for or (True,) * n
        resampled = resample_labels(scan.labels, scan.spacing_mm, grid.in_plane_spacing_mm)
        return LabelledScan(
            scan.case, scan.patient, grid.slices_of(scan.image_hu, scan.spacing_mm),
            crop_or_pad(resampled, grid.image_size, fill=0), scan.labels, scan.spacing_mm, scan.affine,
            tuple(seen and (bool(there) or rule == "absent") for seen, there in zip(looked_for, present, strict=True)),
            hashlib.sha256(np.ascontiguousarray(scan.image_hu, "<i2").tobytes()).hexdigest(),
        )  # fmt: skip

    return LabelledScans(cohort.name, cohort.structures, tuple(by_name), read, str(folder))
