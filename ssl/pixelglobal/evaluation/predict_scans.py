"""Scans without labels to label maps: each on the grid of its own file, with a summary of all.

A scan is read once as int16, and worked on a few slices at a time: 512 x 512 x 600 voxels need less than 3 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects, generate_binary_structure, label

from pixelglobal.data.cohorts import ENDINGS, Case, Cohort, case_name
from pixelglobal.data.file_grid import write_labels_like, write_map_like
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.layouts.images import pictures_cohort
from pixelglobal.data.pictures import ENDINGS as PICTURE_ENDINGS
from pixelglobal.data.pictures import picture_name
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.data.volumes import Volume, write_labels, write_map
from pixelglobal.evaluation.ensemble import Ensemble, Segmentation
from pixelglobal.files import write_file

Progress = Callable[[float, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is computed and written beside the labels."""

    probabilities: bool = False  # CASE_probability_STRUCTURE.nii.gz
    uncertainty: bool = False  # CASE_uncertainty.nii.gz and, of several models, CASE_disagreement.nii.gz
    mirrors: bool = False  # the mean with mirrored slices


def scans_in(path: Path) -> Cohort:
    """The scans of a file, or of a folder in any layout that `prepare` reads, without their labels.

    Raises ValueError if there are none.
    """
    if path.is_dir():
        cohort = read_cohort(path)
        return replace(cohort, cases=tuple(replace(case, label=None) for case in cohort.cases))
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; expected a scan, or a folder of scans")
    if (name := picture_name(path)) is not None:
        return pictures_cohort(name, (Case(name, name, path, None),))
    name = case_name(path)
    if name is None:
        endings = ", ".join((*ENDINGS, *PICTURE_ENDINGS))
        raise ValueError(f"{path}: is no scan that can be read; expected {endings}, or a folder of scans")
    return Cohort(name, (), (), None, (Case(name, name, path, None),))


def predict_scans(
    path: Path, ensemble: Ensemble, out: Path, wanted: Wanted, *, progress: Progress | None = None
) -> pd.DataFrame:
    """Segment every scan of a file or folder into the folder `out`; returns the summary, which is also in summary.csv.

    The labels of a scan are in `CASE.nii.gz`, of a picture in `CASE.png`. The summary has one row for each scan and
    structure: `volume_ml` (of a picture `area_pixels`), `n_components` (voxels that touch by a face, an edge or a
    corner belong together), `mean_confidence`, `mean_uncertainty`, and `flags`: why the scan may be outside of what the
    model was trained on. A scan that cannot be read has one row, with the reason in `error`; the others are not
    affected.
    progress: called with the scans that are done, in parts, and with the number of all scans.
    Raises ValueError if there are no scans, or if a result would replace a scan.
    """
    cohort = scans_in(path)
    ensemble.require_fits(cohort, path)
    cases = cohort.cases
    for case in cases:
        if case.image.resolve().parent == out.resolve():
            raise ValueError(f"{out} is the folder of {case.image.name}, which a result could replace; give another")
    rows: list[dict[str, object]] = []
    for done, case in enumerate(cases):

        def within(part: int, whole: int, done: int = done) -> None:
            if progress:
                progress(done + part / whole, len(cases))

        rows += _rows_of(cohort, case, ensemble, out, wanted, within)
        write_file(out / "summary.csv", pd.DataFrame(rows).to_csv(index=False))
        within(1, 1)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class SegmentedScan:
    """A scan with its labels uint8 [Z, H, W] on its canonical grid, and why it may be unlike those of the training."""

    volume: Volume
    labels: np.ndarray
    segmentation: Segmentation
    flags: tuple[str, ...]
    grid: StoredGrid

    def on_the_scan(self, stored: np.ndarray, fill: float) -> np.ndarray:
        """Values of stored slices [Z, S, S] on the canonical grid [Z, H, W] of the scan; `fill` outside the crop."""
        rows, columns = self.volume.image_hu.shape[-2:]
        return self.grid.paste_back(stored, (rows, columns), self.volume.spacing_mm, fill)


def segment_scan(
    cohort: Cohort, case: Case, ensemble: Ensemble, wanted: Wanted, progress: Callable[[int, int], None] | None = None
) -> SegmentedScan:
    """Read and segment one scan of a cohort. Raises ValueError if it cannot be read.

    progress: called with slices done and slices in all.
    """
    volume = cohort.load(case, cohort.code, None)
    rows, columns = volume.image_hu.shape[-2:]
    images = ensemble.grid.slices_of(volume.image_hu, volume.spacing_mm)
    flags = ensemble.flags(images, volume.spacing_mm, (rows, columns))
    segmentation = ensemble.segment(images, **asdict(wanted), progress=progress)
    labels = ensemble.grid.paste_back(segmentation.labels, (rows, columns), volume.spacing_mm, 0)
    return SegmentedScan(volume, labels, segmentation, tuple(flags), ensemble.grid)


def _rows_of(
    cohort: Cohort, case: Case, ensemble: Ensemble, out: Path, wanted: Wanted, within: Callable[[int, int], None]
) -> list[dict[str, object]]:
    try:
        scan = segment_scan(cohort, case, ensemble, wanted, within)
    except (ValueError, MemoryError) as error:
        reason = str(error) or "there is not enough memory"
        return [{"case": case.case, "structure": "", "flags": "", "error": reason}]
    _write_labels(case, out, scan, ensemble.structures)
    maps = {"uncertainty": scan.segmentation.uncertainty, "disagreement": scan.segmentation.disagreement}
    if scan.segmentation.probabilities is not None:
        names = ("background", *ensemble.structures)
        for name, values in zip(names, scan.segmentation.probabilities, strict=True):
            maps[f"probability_{_file_name(name)}"] = values
    for name, stored in maps.items():
        if stored is not None:
            values, stem = scan.on_the_scan(stored, np.nan), f"{case.case}_{name}"
            if case.series:
                write_map(out / f"{stem}.nii.gz", values, scan.volume.affine)
            else:
                write_map_like(case.image, out, stem, values)
    return _summary(scan, ensemble.structures)


def _write_labels(case: Case, out: Path, scan: SegmentedScan, structures: Sequence[str]) -> None:
    """As a file like the scan's; of a DICOM series as NIfTI in canonical orientation, as RTSTRUCT and as SEG."""
    if not case.series:
        write_labels_like(case.image, out, case.case, scan.labels)
        return
    from pixelglobal.data.dicom_results import write_rtstruct, write_seg

    write_labels(out / f"{case.case}.nii.gz", scan.labels, scan.volume.affine)
    write_rtstruct(case.series, out / f"{case.case}_RTSTRUCT.dcm", scan.labels, structures)
    if scan.labels.any():  # a SEG has at least one segment
        write_seg(case.series, out / f"{case.case}_SEG.dcm", scan.labels, structures)


def _summary(scan: SegmentedScan, structures: Sequence[str]) -> list[dict[str, object]]:
    labels, segmentation = scan.labels, scan.segmentation
    voxel_ml = float(np.prod(scan.volume.spacing_mm)) / 1000
    boxes = find_objects(labels, max_label=len(structures))
    touching = generate_binary_structure(3, 3)
    rows: list[dict[str, object]] = []
    for number, (structure, box) in enumerate(zip(structures, boxes, strict=True), 1):
        mask = labels[box] == number if box is not None else np.zeros((0, 0, 0), bool)
        stored = segmentation.labels == number
        n_voxels = np.count_nonzero(mask)
        row: dict[str, object] = {
            "case": scan.volume.case,
            "structure": structure,
            **({"area_pixels": n_voxels} if not scan.grid.is_ct else {"volume_ml": round(n_voxels * voxel_ml, 3)}),
            "n_components": int(label(mask, touching)[1]) if mask.size else 0,
            "mean_confidence": _mean(segmentation.confidence, stored),
        }
        if segmentation.uncertainty is not None:
            row["mean_uncertainty"] = _mean(segmentation.uncertainty, stored)
        found = [] if mask.any() else ["no voxel of it was found"]
        rows.append({**row, "flags": "; ".join([*scan.flags, *found]), "error": ""})
    return rows


def _file_name(structure: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in structure)


def _mean(values: np.ndarray, mask: np.ndarray) -> float:
    return round(float(values[mask].mean(dtype=np.float64)), 4) if mask.any() else float("nan")
