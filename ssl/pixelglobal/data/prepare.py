"""From a folder of scans to a store of slices, case by case (`prepare_case`), and its division into splits.

Each finished case is complete on disk before the next is looked at, so an interrupted or partly failed `prepare` is
continued by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pixelglobal.config.schema import Prepare
from pixelglobal.data.checks.kinds import KINDS
from pixelglobal.data.cohorts import PRETRAINING, PUBLISHED, Case, Cohort
from pixelglobal.data.ids import ID_MAP, KEPT, Ids, ids_beside
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.leakage import refuse_near_duplicates
from pixelglobal.data.prepare_case import Result, prepare_case
from pixelglobal.data.quarantine import write_quarantine
from pixelglobal.data.slices import SCHEMA_VERSION
from pixelglobal.data.splits import Splits, read_splits, refuse_shared_patients, split_cases
from pixelglobal.data.store import Store
from pixelglobal.data.store_files import (
    MARKS,
    case_digests,
    is_finished,
    record_file,
    refuse_damaged_marks,
)
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

MapCases = Callable[[Callable[[Case], Result], Sequence[Case]], Iterable[Result]]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the store, and {case: reason} of what it quarantined."""

    store: Store
    quarantined: dict[str, str]


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
    ids = _ids(cohort_folder, cohort, settings)
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
    done = kept = len(finished)
    unusable: dict[str, str] = {}
    work = partial(prepare_case, root=root, settings=settings, facts=facts, cohort=replace(cohort, cases=()), ids=ids)
    for result in map_cases(work, left):
        done += 1
        if "reason" in result:
            unusable[result["case"]] = result["reason"]
        else:
            finished.add(result["case"])
            add_digests(root, case_digests(root, result["case"]))
        if progress:
            progress(done, len(cohort.cases))
    rows = [read_json_object(record_file(root, case)) for case in sorted(id_of.values()) if case in finished]
    anew = [f"{case} was not what was written, or was not finished, and was made anew" for case in damaged]
    remarks = [f"{row['case']}: {remark}" for row in rows for remark in row.pop("remarks", ())]
    quarantined = {**unusable, **_surely_wrong(rows, settings.quarantine)}
    write_quarantine(root, quarantined)
    if not rows:
        first = next(iter(unusable.values()), f"{root} does not show what the workers wrote; is it on a shared disk?")
        raise ValueError(f"none of the {len(cohort.cases)} scans in {cohort_folder} can be used; the first: {first}")
    _refuse_many_quarantined(root, quarantined, len(cohort.cases), settings.max_quarantined)
    splits = _splits(cohort, settings, rows, ids, quarantined)
    _refuse_moved_cases(root / "splits.json", splits)
    write_file(root / "cases.csv", pd.DataFrame(rows).to_csv(index=False))
    write_json(root / "splits.json", {**asdict(splits), "seed": settings.split_seed})
    write_json(root / "cohort.json", facts)
    write_json(root / "notes.json", {"notes": [*_notes(cohort, ids, kept), *remarks, *anew]})
    _write_marks(root)
    store = Store.open(root)
    refuse_near_duplicates(store, settings.near_duplicate_hu)
    return Prepared(store, quarantined)


def _write_marks(root: Path) -> None:
    """One line of SHA256SUMS for each file, those of the whole store included."""
    marks = {name: digest_of(root / name) for name in MARKS if (root / name).is_file()}
    write_digests(root, {**(read_digests(root) or {}), **marks})


def _ids(cohort_folder: Path, cohort: Cohort, settings: Prepare) -> Ids:
    """What cases and patients are called in the store."""
    if settings.keep_ids:
        return KEPT
    return ids_beside(cohort_folder, Path(settings.id_map) if settings.id_map else None, cohort.cases)


def _notes(cohort: Cohort, ids: Ids, kept: int) -> list[str]:
    """What a user should know about how the folder was read; kept: scans that an earlier try has finished."""
    again = [f"{kept} of {len(cohort.cases)} scans are kept from an earlier try"] if kept else []
    notes = [f"The layout is {cohort.layout}", *again, *(ids.hide(note, cohort.cases) for note in cohort.notes)]
    if ids is not KEPT:
        notes.append(f"Scans and patients have hashes for names; the file of names is {ID_MAP} or prepare.id_map")
    return notes


def _surely_wrong(rows: Sequence[Result], kinds: Collection[str]) -> dict[str, str]:
    """{case: reason} of the cases with a suspect of these kinds. Raises ValueError for a kind that there is not."""
    if unknown := sorted(set(kinds) - KINDS.keys()):
        raise ValueError(f"prepare.quarantine names {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
    wrong: dict[str, str] = {}
    for row in rows:
        suspects = row.pop("checks", {}).get("suspects", ())
        if seen := [f"{KINDS[s['kind']].words}: {s['seen']}" for s in suspects if s["kind"] in kinds]:
            wrong[row["case"]] = "; ".join(seen)
    return wrong


def _refuse_many_quarantined(root: Path, quarantined: Mapping[str, str], n_cases: int, most: float) -> None:
    if len(quarantined) > max(1.0, most * n_cases):
        examples = "; ".join(f"{case} ({reason})" for case, reason in sorted(quarantined.items())[:3])
        raise ValueError(
            f"{len(quarantined)} of {n_cases} scans cannot be used or are surely wrong, more than the {most:.0%} of "
            f"prepare.max_quarantined: {examples}. {root / 'quarantine.csv'} has all reasons. Correct the scans, see "
            "whether --fix can, or allow more by --max-quarantined; finished scans are kept"
        )


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


def _cohort_facts(cohort: Cohort, settings: Prepare) -> dict[str, Any]:
    low, high = cohort.intensity_range or (settings.hu_min, settings.hu_max)
    return {
        "schema": SCHEMA_VERSION,
        "name": cohort.name,
        "structures": list(cohort.structures),
        "left_right_pairs": [list(pair) for pair in cohort.left_right_pairs],
        "absent_structures": cohort.absent_structures or settings.absent_structures,
        "image_size": settings.image_size,
        "hu_min": low,
        "hu_max": high,
        **({"channels": cohort.channels} if cohort.channels > 1 else {}),
        "in_plane_spacing_mm": settings.in_plane_spacing_mm,
        **({} if settings.in_plane_spacing_mm is None else {"antialias": settings.antialias}),
        **({} if settings.channel is None else {"channel": settings.channel}),
        **({"fix": sorted(settings.fix)} if settings.fix else {}),
        "ids": None if settings.keep_ids else "hashed",
    }


def _splits(cohort: Cohort, settings: Prepare, rows: list[Result], ids: Ids, quarantined: Collection[str]) -> Splits:
    """Splits of the whole cohort, then without the unusable cases: to repair one of them moves no other.

    Raises ValueError if quarantine leaves nothing of a split, or if two splits share a scan.
    """
    prepared = {row["case"] for row in rows}
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
    splits = Splits(**{name: tuple(c for c in part if c in prepared) for name, part in asdict(asked).items()})
    used = Splits(**{name: tuple(c for c in part if c not in quarantined) for name, part in asdict(splits).items()})
    for name, wanted in asdict(asked).items():
        if wanted and not getattr(used, name):
            raise ValueError(
                f"every case of the {name} split is quarantined ({', '.join(wanted[:5])}; reasons in quarantine.csv). "
                "Repair them, take them out of dataset.json, or give prepare.split_file; finished cases are kept"
            )
    refuse_shared_patients(used, {row["case"]: row["sha256"] for row in rows}, "voxels")
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
            f"{', '.join(['fractions', PRETRAINING, *cohort.divisions])}"
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
