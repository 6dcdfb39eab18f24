"""One scan into a store: read, check, clip, crop or pad, write; a bad scan spoils only itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelglobal.config.schema import Prepare
from pixelglobal.data.checks.fix import fixed
from pixelglobal.data.checks.kinds import KINDS
from pixelglobal.data.checks.measure import Values, structures_of
from pixelglobal.data.checks.scan import suspects_of_grid, suspects_of_labels, suspects_of_values
from pixelglobal.data.cohorts import Case, Cohort
from pixelglobal.data.fingerprint import fingerprint_of
from pixelglobal.data.ids import KEPT, Ids
from pixelglobal.data.slices import write_slices
from pixelglobal.data.store_files import fingerprint_file, labels_file, record_file, slices_file
from pixelglobal.data.stored_grid import StoredGrid, crop_or_pad, on_the_scan, resample_labels
from pixelglobal.data.volumes import Volume, count_labels, write_labels
from pixelglobal.files import write_file, write_json

Result = dict[str, Any]  # a row of cases.csv, or {"case", "reason"} of a case that cannot be used


def prepare_case(
    case: Case, *, root: Path, settings: Prepare, facts: dict[str, Any], cohort: Cohort, ids: Ids = KEPT
) -> Result:
    """Prepare one scan of a cohort; returns its row, or the reason why it cannot be used."""
    name = ids.case(case.case)
    try:
        volume = cohort.load(case, cohort.code, settings.channel)
        if cohort.intensity_range is None:
            volume = fixed(volume, settings.fix)
        remarks = tuple(ids.hide_files(remark, case) for remark in volume.remarks)
        volume = replace(volume, case=name, patient=ids.patient(case.patient), remarks=remarks)
        return store_volume(volume, root=root, settings=settings, facts=facts)
    except ValueError as error:
        return {"case": name, "reason": ids.hide_files(str(error), case)}


def store_volume(volume: Volume, *, root: Path, settings: Prepare, facts: dict[str, Any]) -> Result:
    """Write one volume's slices, reference labels and record; returns the record, a row of cases.csv.

    Raises ValueError if the crop leaves nothing of a structure that `prepare.may_lose` does not name.
    """
    n_structures, to_mm = len(facts["structures"]), settings.in_plane_spacing_mm
    counts, drawn = _voxels(volume.labels, n_structures), volume.labels is not None
    contoured = _contoured(volume, counts, facts["absent_structures"])
    grid = StoredGrid.of({"antialias": settings.antialias, **facts})
    rows, columns = volume.image_hu.shape[-2:]
    _refuse_impossible_sizes(volume, grid)
    whole = grid.size_on((rows, columns), volume.spacing_mm)
    labels = None if volume.labels is None else resample_labels(volume.labels, volume.spacing_mm, to_mm)
    stored_labels = None if labels is None else crop_or_pad(labels, grid.image_size, fill=0)
    resampled, kept = _voxels(labels, n_structures), _voxels(stored_labels, n_structures)
    _refuse_lost_structures(volume, facts["structures"], resampled, kept, settings)
    stored = grid.slices_of(volume.image_hu, volume.spacing_mm)
    spacing_mm = volume.spacing_mm
    if to_mm:
        spacing_mm = (spacing_mm[0], to_mm, to_mm)
    names = {"case": volume.case, "patient": volume.patient}
    if grid.is_ct:  # pictures are compared by equal pixels alone
        fingerprint = fingerprint_of(stored, spacing_mm).stations
        write_file(fingerprint_file(root, volume.case), lambda scratch: np.save(scratch, fingerprint))
    write_slices(
        slices_file(root, volume.case), stored, stored_labels, [drawn, *contoured], spacing_mm=spacing_mm, **names
    )
    if volume.labels is not None:
        write_labels(labels_file(root, volume.case), volume.labels, volume.affine)
    sums = [(int(s.sum(dtype=np.int64)), int((s.astype(np.int64) ** 2).sum())) for s in stored]
    record = {
        "case": volume.case,
        "patient": volume.patient,
        "n_slices": len(stored),
        "rows": rows,
        "columns": columns,
        "stored_rows": whole[0],
        "stored_columns": whole[1],
        "spacing_z_mm": volume.spacing_mm[0],
        "spacing_y_mm": volume.spacing_mm[1],
        "spacing_x_mm": volume.spacing_mm[2],
        "affine": ",".join(repr(float(value)) for value in volume.affine[:3].ravel()),
        "labelled": drawn,
        "contoured": ",".join("1" if flag else "0" for flag in contoured),
        "voxels": ",".join(map(str, counts.tolist())),
        "voxels_outside_crop": int(resampled.sum() - kept.sum()),
        "dice_ceiling": _dice_ceiling(volume, stored_labels, whole, n_structures),
        "hu_sum": sum(total for total, _ in sums),
        "hu_sum_of_squares": sum(squares for _, squares in sums),
        "n_pixels": stored.size,
        "sha256": _digest(volume.image_hu, "<i2"),
        "labels_sha256": _digest(volume.labels, "u1"),
    }
    cut = {"stored": kept, "outside_crop": resampled - kept, "at_crop": _at_crop(stored_labels, whole, n_structures)}
    record["checks"] = _checks(volume, facts["structures"], cut, grid.is_ct)
    if volume.remarks:
        record["remarks"] = list(volume.remarks)
    write_json(record_file(root, volume.case), record)
    return record


def _contoured(volume: Volume, counts: np.ndarray, absent_structures: str) -> list[bool]:
    """Whether somebody looked for each structure: one without a voxel may be absent, or not have been contoured."""
    looked_for = volume.looked_for or (volume.labels is not None,) * len(counts)
    return [
        seen and (bool(count) or absent_structures == "absent")
        for seen, count in zip(looked_for, counts.tolist(), strict=True)
    ]


def _checks(volume: Volume, names: Sequence[str], cut: Mapping[str, np.ndarray], is_ct: bool) -> dict[str, Any]:
    """What the scan is measured by and what is probably wrong with it, as entries of its record.

    cut: voxels of each structure in the stored slices, outside of them, and at their border. is_ct: of
    pictures, values and grid are not judged.
    """
    values, structures = Values.of(volume.image_hu), {}
    if volume.labels is not None:
        structures = structures_of(volume.image_hu if is_ct else None, volume.labels, volume.spacing_mm, names)
    for i, name in enumerate(names):
        if name in structures:
            structures[name] |= {what: int(count[i]) for what, count in cut.items()}
    suspects = [*suspects_of_labels(volume.case, volume.labels is not None, structures)]
    if is_ct:
        suspects += suspects_of_values(volume.case, values)
        suspects += suspects_of_grid(volume.case, volume.affine, volume.image_hu.shape, volume.spacing_mm)
    return {
        "suspects": [{"kind": suspect.kind, "seen": suspect.seen} for suspect in suspects],
        "structures": structures,
        "histogram": values.histogram(),
    }


def _at_crop(labels: np.ndarray | None, whole: tuple[int, int], n_structures: int) -> np.ndarray:
    """Stored voxels of each structure at a border where the crop has cut something off, int64."""
    counts = np.zeros(n_structures, np.int64)
    if labels is not None:
        for axis, size in enumerate(whole, 1):
            if size > labels.shape[axis]:
                counts += _voxels(labels.take([0, -1], axis), n_structures)
    return counts


def _refuse_impossible_sizes(volume: Volume, grid: StoredGrid) -> None:
    """Raise ValueError for a spacing that nothing can be resampled from, where resampling is asked for."""
    suspects = suspects_of_grid(volume.case, volume.affine, volume.image_hu.shape, volume.spacing_mm)
    for suspect in suspects if grid.is_ct and grid.in_plane_spacing_mm else ():
        if suspect.kind == "spacing":
            raise ValueError(f"{volume.case}: has {suspect.seen}. {KINDS['spacing'].advice}")


def _voxels(labels: np.ndarray | None, n_structures: int) -> np.ndarray:
    """Voxels of each structure, int64; zeros without labels. Slice by slice, to take no memory for a whole scan."""
    counts = np.zeros(256, np.int64)
    for one in () if labels is None else labels:
        counts += count_labels(one)
    return counts[1 : n_structures + 1]


def _digest(voxels: np.ndarray | None, dtype: str) -> str:
    digest = hashlib.sha256()
    for one in () if voxels is None else voxels:
        digest.update(np.ascontiguousarray(one, dtype).data)
    return digest.hexdigest()


def _refuse_lost_structures(
    volume: Volume, names: Sequence[str], counts: np.ndarray, kept: np.ndarray, settings: Prepare
) -> None:
    for name, before, after in zip(names, counts.tolist(), kept.tolist(), strict=True):
        if before and not after and name not in settings.may_lose:
            raise ValueError(
                f"{volume.case}: all {before} voxels of {name} are outside the {settings.image_size} x "
                f"{settings.image_size} pixels that are stored; expected at least one inside. Enlarge "
                "prepare.image_size, set prepare.in_plane_spacing_mm, or allow the loss by "
                f'prepare.may_lose=["{name}"]'
            )


def _dice_ceiling(volume: Volume, stored_labels: np.ndarray | None, grid: tuple[int, int], n_structures: int) -> str:
    """DSC of each structure's stored labels, pasted back, with the scan's, separated by commas; empty where neither is.

    No model that predicts on the stored grid can do better than about that.
    """
    if volume.labels is None or stored_labels is None:
        return ""
    overlap, ours, theirs = np.zeros((3, n_structures), np.int64)
    for stored, labels in zip(stored_labels, volume.labels, strict=True):
        pasted = on_the_scan(stored[None], grid, labels.shape, 0)
        overlap += _voxels(np.where(pasted == labels, pasted, 0), n_structures)
        ours += _voxels(pasted, n_structures)
        theirs += _voxels(labels[None], n_structures)
    sizes = ours + theirs
    return ",".join(f"{2 * o / size:.4f}" if size else "" for o, size in zip(overlap, sizes, strict=True))
