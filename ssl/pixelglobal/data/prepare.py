"""From a folder of scans to a store of slices: read, check, clip, crop or pad, write; one bad scan spoils only itself.

Each finished case is complete on disk before the next is looked at, so an interrupted or partly failed `prepare` is
continued by the same command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.slices import SCHEMA_VERSION, write_slices
from pixelglobal.data.splits import Splits, read_splits, refuse_shared_patients, split_cases
from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import crop_or_pad, on_the_scan, resample_image, resample_labels
from pixelglobal.data.volumes import Volume, read_volume, write_labels
from pixelglobal.files import claim_folder, read_json_object, write_file, write_json

Result = dict[str, Any]  # a row of cases.csv, or {"case", "reason"} of a rejected one


MapCases = Callable[[Callable[[Case], Result], Sequence[Case]], Iterable[Result]]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the store, and the cases it could not use with the reasons."""

    store: Store
    rejects: dict[str, str]


def prepare(
    cohort_folder: Path,
    root: Path,
    settings: Prepare,
    *,
    map_cases: MapCases = map,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Prepare every scan of a cohort into the store folder `root`; finished cases of an earlier try are kept.

    map_cases: how the work is spread; `map`, or `cluster.map.map_on_ray`.
    progress: called with (cases done, cases in all).
    Raises ValueError if the folder holds something else, if no scan can be used, if no valid split exists, or if cases
    would move to another split in a store that was divided before; WriteError if the disk is full or read-only.
    """
    cohort_folder, root = cohort_folder.resolve(), root.resolve()  # other machines have other working directories
    cohort = read_cohort(cohort_folder)
    facts = _cohort_facts(cohort, settings)
    claim_folder(root, "prepare.json", facts, contents="store")
    left = [case for case in cohort.cases if not _is_finished(root, case.case)]
    done = len(cohort.cases) - len(left)
    rejects: dict[str, str] = {}
    work = partial(prepare_case, root=root, settings=settings, facts=facts)
    for result in map_cases(work, left):
        done += 1
        if "reason" in result:
            rejects[result["case"]] = result["reason"]
        if progress:
            progress(done, len(cohort.cases))
    rows = [read_json_object(_record(root, c.case)) for c in cohort.cases if _is_finished(root, c.case)]
    rejected = pd.DataFrame(sorted(rejects.items()), columns=["case", "reason"])
    write_file(root / "rejects.csv", rejected.to_csv(index=False))
    if not rows:
        first = next(iter(rejects.values()), f"{root} does not show what the workers wrote; is it on a shared disk?")
        raise ValueError(f"none of the {len(cohort.cases)} scans in {cohort_folder} can be used; the first: {first}")
    write_file(root / "cases.csv", pd.DataFrame(rows).to_csv(index=False))
    splits = _splits(cohort, settings, rows)
    _refuse_moved_cases(root / "splits.json", splits)
    write_json(root / "splits.json", {**asdict(splits), "seed": settings.split_seed})
    write_json(root / "cohort.json", facts)
    return Prepared(Store.open(root), rejects)


def prepare_case(case: Case, *, root: Path, settings: Prepare, facts: dict[str, Any]) -> Result:
    """Prepare one scan; returns its row, or the reason why it cannot be used."""
    try:
        n = len(facts["structures"])
        volume = read_volume(case.image, case.label, case=case.case, patient=case.patient, n_structures=n)
    except ValueError as error:
        return {"case": case.case, "reason": str(error)}
    return store_volume(volume, root=root, settings=settings, facts=facts)


def store_volume(volume: Volume, *, root: Path, settings: Prepare, facts: dict[str, Any]) -> Result:
    """Write one volume's slices, reference labels and record; returns the record, a row of cases.csv."""
    n_structures, side = len(facts["structures"]), settings.image_size
    counts = np.zeros(n_structures, int)
    if volume.labels is not None:
        counts = np.bincount(volume.labels.ravel(), minlength=n_structures + 1)[1:]
    drawn = volume.labels is not None
    contoured = [drawn and (bool(c) or facts["absent_structures"] == "absent") for c in counts]
    to_mm = settings.in_plane_spacing_mm
    image = resample_image(volume.image_hu, volume.spacing_mm, to_mm, settings.antialias)
    labels = None if volume.labels is None else resample_labels(volume.labels, volume.spacing_mm, to_mm)
    image = np.clip(np.rint(image), settings.hu_min, settings.hu_max).astype(np.int16)
    stored = crop_or_pad(image, side, fill=round(settings.hu_min))
    stored_labels = None if labels is None else crop_or_pad(labels, side, fill=0)
    spacing_mm = volume.spacing_mm
    if to_mm:
        spacing_mm = (spacing_mm[0], to_mm, to_mm)
    names = {"case": volume.case, "patient": volume.patient}
    write_slices(_slices(root, volume.case), stored, stored_labels, [drawn, *contoured], spacing_mm=spacing_mm, **names)
    if volume.labels is not None:
        write_labels(root / "labels" / f"{volume.case}.nii.gz", volume.labels, volume.affine)
    values = stored.astype(np.int64)
    outside = 0 if labels is None or stored_labels is None else int((labels > 0).sum() - (stored_labels > 0).sum())
    record = {
        "case": volume.case,
        "patient": volume.patient,
        "n_slices": len(stored),
        "rows": volume.image_hu.shape[1],
        "columns": volume.image_hu.shape[2],
        "stored_rows": image.shape[1],
        "stored_columns": image.shape[2],
        "spacing_z_mm": volume.spacing_mm[0],
        "spacing_y_mm": volume.spacing_mm[1],
        "spacing_x_mm": volume.spacing_mm[2],
        "affine": ",".join(repr(float(value)) for value in volume.affine[:3].ravel()),
        "labelled": drawn,
        "contoured": ",".join("1" if flag else "0" for flag in contoured),
        "voxels": ",".join(map(str, counts.tolist())),
        "voxels_outside_crop": outside,
        "dice_ceiling": _dice_ceiling(volume, stored_labels, image.shape[1:], n_structures),
        "hu_sum": int(values.sum()),
        "hu_sum_of_squares": int((values**2).sum()),
        "n_pixels": values.size,
        "sha256": hashlib.sha256(np.ascontiguousarray(volume.image_hu, "<i2").tobytes()).hexdigest(),
        "labels_sha256": hashlib.sha256(b"" if volume.labels is None else volume.labels.tobytes()).hexdigest(),
    }
    write_json(_record(root, volume.case), record)
    return record


def _dice_ceiling(volume: Volume, stored_labels: np.ndarray | None, grid: tuple[int, ...], n_structures: int) -> str:
    """DSC of each structure's stored labels, pasted back, with the scan's, separated by commas; empty where neither is.

    No model that predicts on the stored grid can do better than about that.
    """
    if volume.labels is None or stored_labels is None:
        return ""
    pasted = on_the_scan(stored_labels, (grid[0], grid[1]), volume.labels.shape[1:], 0)
    both = np.where(pasted == volume.labels, pasted, 0)
    overlap, ours, theirs = (
        np.bincount(labels.ravel(), minlength=n_structures + 1)[1:] for labels in (both, pasted, volume.labels)
    )
    sizes = ours + theirs
    return ",".join(f"{2 * o / size:.4f}" if size else "" for o, size in zip(overlap, sizes, strict=True))


def _cohort_facts(cohort: Cohort, settings: Prepare) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "name": cohort.name,
        "structures": list(cohort.structures),
        "left_right_pairs": [list(pair) for pair in cohort.left_right_pairs],
        "absent_structures": cohort.absent_structures or settings.absent_structures,
        "image_size": settings.image_size,
        "hu_min": settings.hu_min,
        "hu_max": settings.hu_max,
        "in_plane_spacing_mm": settings.in_plane_spacing_mm,
        **({} if settings.in_plane_spacing_mm is None else {"antialias": settings.antialias}),
    }


def _splits(cohort: Cohort, settings: Prepare, rows: list[Result]) -> Splits:
    """Splits of the whole cohort, then without the rejected cases: to repair one of them moves no other."""
    usable = {row["case"] for row in rows}
    if settings.split_file:
        asked = read_splits(Path(settings.split_file), cohort.cases)
    elif cohort.structures:
        asked = split_cases(
            cohort.cases,
            train_fraction=settings.train_fraction,
            validation_fraction=settings.validation_fraction,
            seed=settings.split_seed,
        )
    else:  # scans without labels: everything is for pre-training
        asked = Splits(tuple(c.case for c in cohort.cases), (), (), ())
    splits = Splits(**{name: tuple(c for c in part if c in usable) for name, part in asdict(asked).items()})
    for name, wanted in asdict(asked).items():
        if wanted and not getattr(splits, name):
            raise ValueError(
                f"every case of the {name} split was rejected ({', '.join(wanted[:5])}; reasons in rejects.csv). "
                "Repair them, take them out of dataset.json, or give prepare.split_file; finished cases are kept"
            )
    refuse_shared_patients(splits, {row["case"]: row["sha256"] for row in rows}, "voxels")
    return splits


def _refuse_moved_cases(path: Path, splits: Splits) -> None:
    """A store keeps its division: what was trained on a case must not be tested on it later."""
    if not path.is_file():
        return
    before = read_json_object(path)
    names = ("pretrain", "train", "validation", "test")  # the later one counts: a training case is in both first lists
    was = {case: name for name in names for case in before[name]}
    now = {case: name for name in names for case in getattr(splits, name)}
    moved = [case for case in now if was.get(case, now[case]) != now[case]]
    if moved:
        examples = ", ".join(f"{case} from {was[case]} to {now[case]}" for case in moved[:3])
        raise ValueError(
            f"{path.parent} is divided already, and these settings or this cohort would move {len(moved)} cases "
            f"({examples}). Choose another folder; or delete {path} and all that was trained on it"
        )


def _is_finished(root: Path, case: str) -> bool:
    return _record(root, case).is_file() and _slices(root, case).is_file()


def _slices(root: Path, case: str) -> Path:
    return root / "slices" / f"{case}.parquet"


def _record(root: Path, case: str) -> Path:
    return root / "records" / f"{case}.json"
