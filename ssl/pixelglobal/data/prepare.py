"""From a folder of scans to a store of slices: read, check, clip, crop or pad, write; one bad scan spoils only itself.

Each finished case is complete on disk before the next is looked at, so an interrupted or partly failed `prepare` is
continued by the same command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import PUBLISHED, Case, Cohort
from pixelglobal.data.fingerprint import fingerprint_of
from pixelglobal.data.ids import ID_MAP, KEPT, Ids, ids_beside
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.leakage import refuse_near_duplicates
from pixelglobal.data.slices import SCHEMA_VERSION, write_slices
from pixelglobal.data.splits import Splits, read_splits, refuse_shared_patients, split_cases
from pixelglobal.data.store import Store
from pixelglobal.data.store_files import (
    MARKS,
    case_digests,
    fingerprint_file,
    is_finished,
    labels_file,
    record_file,
    refuse_damaged_marks,
    slices_file,
)
from pixelglobal.data.stored_grid import StoredGrid, crop_or_pad, on_the_scan, resample_labels
from pixelglobal.data.volumes import Volume, write_labels
from pixelglobal.files import (
    add_digests,
    claim_folder,
    digest_of,
    read_digests,
    read_json_object,
    write_digests,
    write_file,
    write_json,
)

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
    cohort = leave_out(read_cohort(cohort_folder, settings), settings.leave_out)
    ids = KEPT
    if not settings.keep_ids:
        ids = ids_beside(cohort_folder, Path(settings.id_map) if settings.id_map else None, cohort.cases)
    id_of = {case: ids.case(case.case) for case in cohort.cases}
    facts = _cohort_facts(cohort, settings)
    if ids is not KEPT and _letters(cohort.name) == _letters(cohort_folder.name):
        facts["name"] = root.name  # the folder of the scans may be called after a patient
    refuse_damaged_marks(root)
    claim_folder(root, "prepare.json", facts, contents="store")
    before = read_digests(root)
    finished = {id_of[case] for case in cohort.cases if is_finished(root, id_of[case], before)}
    left = [case for case in cohort.cases if id_of[case] not in finished]
    damaged = [id_of[case] for case in left if record_file(root, id_of[case]).is_file()]
    if before is None:
        write_digests(root, {name: digest for case in finished for name, digest in case_digests(root, case).items()})
    done = len(cohort.cases) - len(left)
    rejects: dict[str, str] = {}
    work = partial(prepare_case, root=root, settings=settings, facts=facts, cohort=replace(cohort, cases=()), ids=ids)
    for result in map_cases(work, left):
        done += 1
        if "reason" in result:
            rejects[result["case"]] = result["reason"]
        else:
            finished.add(result["case"])
            add_digests(root, case_digests(root, result["case"]))
        if progress:
            progress(done, len(cohort.cases))
    rows = [read_json_object(record_file(root, case)) for case in sorted(id_of.values()) if case in finished]
    remarks = [f"{row['case']}: {remark}" for row in rows for remark in row.pop("remarks", ())]
    rejected = pd.DataFrame(sorted(rejects.items()), columns=["case", "reason"])
    write_file(root / "rejects.csv", rejected.to_csv(index=False))
    if not rows:
        first = next(iter(rejects.values()), f"{root} does not show what the workers wrote; is it on a shared disk?")
        raise ValueError(f"none of the {len(cohort.cases)} scans in {cohort_folder} can be used; the first: {first}")
    splits = _splits(cohort, settings, rows, ids)
    _refuse_moved_cases(root / "splits.json", splits)
    write_file(root / "cases.csv", pd.DataFrame(rows).to_csv(index=False))
    write_json(root / "splits.json", {**asdict(splits), "seed": settings.split_seed})
    write_json(root / "cohort.json", facts)
    anew = [f"{case} was not what was written, or was not finished, and was made anew" for case in damaged]
    notes = [f"The layout is {cohort.layout}", *(ids.hide(note, cohort.cases) for note in cohort.notes)]
    if ids is not KEPT:
        notes.append(f"Scans and patients have hashes for names; the file of names is {ID_MAP} or prepare.id_map")
    write_json(root / "notes.json", {"notes": [*notes, *remarks, *anew]})
    marks = {name: digest_of(root / name) for name in MARKS if (root / name).is_file()}
    write_digests(root, {**(read_digests(root) or {}), **marks})
    store = Store.open(root)
    refuse_near_duplicates(store, settings.near_duplicate_hu)
    return Prepared(store, rejects)


def leave_out(cohort: Cohort, names: Sequence[str]) -> Cohort:
    """The cohort without some cases, named by themselves or by a known issue; known issues that stay become notes."""
    cases = {case.case for case in cohort.cases}
    if unknown := sorted(set(names) - cases - cohort.known_issues.keys()):
        issues = ", ".join(cohort.known_issues) or "none"
        raise ValueError(
            f"prepare.leave_out names {', '.join(unknown[:5])}, which is no case of this cohort and no known issue of "
            f"it (those are: {issues})"
        )
    out = {case for name in names for case in cohort.known_issues.get(name, (name,))}
    notes = [f"{len(out)} scans are left out by prepare.leave_out: {', '.join(sorted(out))}"] if out else []
    for issue, affected in cohort.known_issues.items():
        if kept := [case for case in affected if case not in out]:
            notes.append(
                f"{len(kept)} scans have the known issue {issue}: {', '.join(kept)}; "
                f'prepare.leave_out=["{issue}"] leaves them out'
            )
    kept_cases = tuple(case for case in cohort.cases if case.case not in out)
    return replace(cohort, cases=kept_cases, notes=(*cohort.notes, *notes))


def prepare_case(
    case: Case, *, root: Path, settings: Prepare, facts: dict[str, Any], cohort: Cohort, ids: Ids = KEPT
) -> Result:
    """Prepare one scan of a cohort; returns its row, or the reason why it cannot be used."""
    name = ids.case(case.case)
    try:
        volume = cohort.load(case, cohort.code, settings.channel)
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
    counts = _voxels(volume.labels, n_structures)
    drawn = volume.labels is not None
    looked_for = volume.looked_for or (drawn,) * n_structures
    contoured = [
        seen and (bool(count) or facts["absent_structures"] == "absent")
        for seen, count in zip(looked_for, counts.tolist(), strict=True)
    ]
    grid = StoredGrid.of(settings.model_dump())
    whole = grid.size_on((volume.image_hu.shape[1], volume.image_hu.shape[2]), volume.spacing_mm)
    labels = None if volume.labels is None else resample_labels(volume.labels, volume.spacing_mm, to_mm)
    stored_labels = None if labels is None else crop_or_pad(labels, grid.image_size, fill=0)
    resampled, kept = _voxels(labels, n_structures), _voxels(stored_labels, n_structures)
    _refuse_lost_structures(volume, facts["structures"], resampled, kept, settings)
    stored = grid.slices_of(volume.image_hu, volume.spacing_mm)
    spacing_mm = volume.spacing_mm
    if to_mm:
        spacing_mm = (spacing_mm[0], to_mm, to_mm)
    names = {"case": volume.case, "patient": volume.patient}
    fingerprint = fingerprint_of(stored, spacing_mm).stations
    write_file(fingerprint_file(root, volume.case), lambda scratch: np.save(scratch, fingerprint))
    write_slices(
        slices_file(root, volume.case), stored, stored_labels, [drawn, *contoured], spacing_mm=spacing_mm, **names
    )
    if volume.labels is not None:
        write_labels(labels_file(root, volume.case), volume.labels, volume.affine)
    outside = int(resampled.sum() - kept.sum())
    sums = [(int(s.sum(dtype=np.int64)), int((s.astype(np.int64) ** 2).sum())) for s in stored]
    record = {
        "case": volume.case,
        "patient": volume.patient,
        "n_slices": len(stored),
        "rows": volume.image_hu.shape[1],
        "columns": volume.image_hu.shape[2],
        "stored_rows": whole[0],
        "stored_columns": whole[1],
        "spacing_z_mm": volume.spacing_mm[0],
        "spacing_y_mm": volume.spacing_mm[1],
        "spacing_x_mm": volume.spacing_mm[2],
        "affine": ",".join(repr(float(value)) for value in volume.affine[:3].ravel()),
        "labelled": drawn,
        "contoured": ",".join("1" if flag else "0" for flag in contoured),
        "voxels": ",".join(map(str, counts.tolist())),
        "voxels_outside_crop": outside,
        "dice_ceiling": _dice_ceiling(volume, stored_labels, whole, n_structures),
        "hu_sum": sum(total for total, _ in sums),
        "hu_sum_of_squares": sum(squares for _, squares in sums),
        "n_pixels": stored.size,
        "sha256": _digest(volume.image_hu, "<i2"),
        "labels_sha256": _digest(volume.labels, "u1"),
    }
    if volume.remarks:
        record["remarks"] = list(volume.remarks)
    write_json(record_file(root, volume.case), record)
    return record


def _voxels(labels: np.ndarray | None, n_structures: int) -> np.ndarray:
    """Voxels of each structure, int64; zeros without labels. Slice by slice, as counting takes 8 bytes a voxel."""
    counts = np.zeros(n_structures + 1, np.int64)
    for one in () if labels is None else labels:
        counts += np.bincount(one.ravel(), minlength=n_structures + 1)
    return counts[1:]


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
        **({} if settings.channel is None else {"channel": settings.channel}),
        "ids": None if settings.keep_ids else "hashed",
    }


def _splits(cohort: Cohort, settings: Prepare, rows: list[Result], ids: Ids) -> Splits:
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
            division=_division(cohort, settings.split),
        )
    else:  # scans without labels: everything is for pre-training
        asked = Splits(tuple(c.case for c in cohort.cases), (), (), ())
    asked = ids.splits(asked)
    splits = Splits(**{name: tuple(c for c in part if c in usable) for name, part in asdict(asked).items()})
    for name, wanted in asdict(asked).items():
        if wanted and not getattr(splits, name):
            raise ValueError(
                f"every case of the {name} split was rejected ({', '.join(wanted[:5])}; reasons in rejects.csv). "
                "Repair them, take them out of dataset.json, or give prepare.split_file; finished cases are kept"
            )
    refuse_shared_patients(splits, {row["case"]: row["sha256"] for row in rows}, "voxels")
    return splits


def _letters(name: str) -> str:
    """A name without what a layout may have put in place of other characters."""
    return "".join(filter(str.isalnum, name))


def _division(cohort: Cohort, asked: str | None) -> dict[str, str]:
    """{case: split} of the division that was asked for; empty for division by fractions."""
    if asked == "fractions" or (asked is None and PUBLISHED not in cohort.divisions):
        return {}
    if (asked or PUBLISHED) not in cohort.divisions:
        raise ValueError(
            f"prepare.split={asked!r} is no division of this cohort; expected one of "
            f"{', '.join(['fractions', *cohort.divisions])}"
        )
    return dict(cohort.divisions[asked or PUBLISHED])


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
