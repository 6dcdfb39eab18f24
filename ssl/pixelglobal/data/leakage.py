"""Scans on both sides: tested, and seen in training, under whatever name, cohort, grid or crop."""

from __future__ import annotations

from collections.abc import Sequence

from pixelglobal.data.fingerprint import NearDuplicate, near_duplicates
from pixelglobal.data.pool import Scans
from pixelglobal.data.store import Store

SHOWN = 5  # pairs that a message names


def shared_scans(tested: Store, cases: Sequence[str], seen: Scans, seen_cases: Sequence[str]) -> list[NearDuplicate]:
    """Scans of a store that are also among the seen ones, with the name there: the same voxels, at distance 0, or near.

    A scan that a pool shows several times counts once.
    """
    voxels = dict(zip(seen.cases["sha256"], seen.cases["case"], strict=True))
    known = set(seen_cases)
    rows = tested.cases[tested.cases["case"].isin(list(cases))]
    same = [
        NearDuplicate(case, voxels[sha256], 0.0)
        for case, sha256 in zip(rows["case"], rows["sha256"], strict=True)
        if voxels.get(sha256) in known
    ]
    left = [case for case in cases if case not in {pair.case for pair in same}]
    near = near_duplicates(
        {case: tested.fingerprint(case) for case in left}, {case: seen.fingerprint(case) for case in sorted(known)}
    )
    return same + near


def refuse_shared_scans(tested: Store, cases: Sequence[str], seen: Scans, seen_cases: Sequence[str]) -> None:
    """Raise ValueError that lists the scans on both sides, with their distances and with what to do."""
    if shared := shared_scans(tested, cases, seen, seen_cases):
        pairs = "; ".join(f"{p.case} is {p.other} ({p.distance_hu:.1f} HU apart)" for p in shared[:SHOWN])
        more = f"; and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise ValueError(
            f"{len(shared)} scans that {tested.root} validates or tests on are also pre-trained on in {seen.name}: "
            f"{pairs}{more}. Results on them would be worth nothing: name them in quarantine.csv of the store that is "
            "pre-trained on (columns case, reason), and run this again"
        )


def refuse_near_duplicates(store: Store, nearer_than_hu: float) -> None:
    """Raise ValueError if scans in different splits of a store are near: copies of one scan, or two scans of one
    patient under two names."""
    splits = store.splits
    trained = {*splits.pretrain, *splits.train}
    near = [
        pair
        for held_out, others in ((splits.test, trained | {*splits.validation}), (splits.validation, trained))
        for pair in near_duplicates(
            {case: store.fingerprint(case) for case in held_out},
            {case: store.fingerprint(case) for case in sorted(others)},
            nearer_than_hu=nearer_than_hu,
        )
    ]
    if near:
        pairs = "; ".join(f"{p.case} and {p.other}, {p.distance_hu:.1f} HU apart" for p in near[:SHOWN])
        raise ValueError(
            f"{len(near)} pairs of scans in different splits of {store.root} are nearer to each other than two "
            f"patients are (below {nearer_than_hu:g} HU): {pairs}. Test results would be worth nothing: give both one "
            "name under `patients` in dataset.json, or name one in quarantine.csv of the store (columns case, reason). "
            "If they are two patients, lower prepare.near_duplicate_hu"
        )
