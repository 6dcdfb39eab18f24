"""Which patient to contour next: one of whom a model is unsure and who is unlike all that are contoured already.

Every scan has an uncertainty, the mean over its most uncertain voxels, and features, the encoder's mean vector.
Patients are chosen one after the other, each time the one with the greatest product of its uncertainty and its distance
to the nearest patient that is contoured or chosen before it: greedy k-centre (Sener and Savarese 2018, core-set
selection, https://arxiv.org/abs/1708.00489), weighted by uncertainty. A product needs no weight between the two.

Shape letters: Z slices of a scan, S side of a square image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pixelglobal.data.store import Store
from pixelglobal.evaluation.loaded_model import load_model
from pixelglobal.evaluation.uncertainty_maps import uncertainty_of
from pixelglobal.training.cohort_statistics import describe, evenly_spaced

MOST_UNCERTAIN = 0.01  # of the voxels of a scan: where structures and their borders are


@dataclass(frozen=True)
class ScanSummary:
    """What is known of a scan without its labels, and the slice of which the model is least sure."""

    case: str
    patient: str
    uncertainty: float  # mean over the most uncertain hundredth of the voxels, in [0, 1]
    features: np.ndarray  # float64 [F], mean over slices and pixels of the encoder's last map
    slice_index: int
    image_hu: np.ndarray  # int16 [S, S]
    uncertainty_map: np.ndarray  # float32 [S, S]


def summaries(model: Path, store: Store, cases: Sequence[str], device: torch.device) -> Iterator[ScanSummary]:
    """Describe scans of a store by evenly spaced slices, one after the other.

    model: a fine-tuning, or a pre-training that has a head on pixels. Raises ValueError for any other.
    """
    loaded = load_model(model)
    encoder, scale = loaded.encoder.to(device), loaded.scale
    unsure_of = uncertainty_of(model, store.grid, device)
    rows = store.cases.set_index("case")
    for case in cases:
        images = store.read_case(case).image_hu
        facts = rows.loc[case]
        shape = int(facts["rows"]), int(facts["columns"])
        scan = describe(images.numpy(), store.spacing_mm(case), shape, store.grid, encoder, scale, device)
        chosen = evenly_spaced(len(images))
        maps = unsure_of(images[torch.from_numpy(chosen)])
        values = np.sort(maps.ravel())[-max(1, round(MOST_UNCERTAIN * maps.size)) :]
        worst = int(maps.sum((1, 2)).argmax())
        yield ScanSummary(
            case, str(facts["patient"]), float(values.mean()), scan.features, int(chosen[worst]),
            images[int(chosen[worst])].numpy(), maps[worst],
        )  # fmt: skip


def greedy_k_center(
    candidates: np.ndarray, centers: np.ndarray, weights: np.ndarray, count: int
) -> list[tuple[int, float]]:
    """Up to `count` candidates as (index, distance), each with the greatest weight x distance to the nearest centre.

    candidates [N, F], centers [M, F] and weights [N]; a chosen candidate is a centre for the next choice. Without any
    centre the first has the greatest weight, and its distance is infinite. Candidates on a centre come last.

    >>> greedy_k_center(np.array([[0.0], [5.0], [6.0]]), np.array([[1.0]]), np.ones(3), 3)
    [(2, 5.0), (0, 1.0), (1, 1.0)]
    """
    nearest = np.full(len(candidates), np.inf)
    for center in centers:
        nearest = np.minimum(nearest, np.linalg.norm(candidates - center, axis=1))
    left = set(range(len(candidates)))
    chosen: list[tuple[int, float]] = []
    while left and len(chosen) < count:
        gain = weights * np.where(np.isinf(nearest), 1.0, nearest)
        best = max(sorted(left), key=lambda i: (gain[i], weights[i]))
        chosen.append((best, float(nearest[best])))
        left.remove(best)
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[best], axis=1))
    return chosen


def ranked(candidates: Sequence[ScanSummary], contoured: Sequence[ScanSummary], count: int) -> pd.DataFrame:
    """The patients to contour next, one row each: rank, case, patient, uncertainty, distance, slice_index.

    distance: in standard deviations of the features over all of these scans, to the nearest patient that is contoured
    or ranks higher; infinite for the first where nobody is contoured. Of a patient with several scans one is named.
    """
    both = [*candidates, *contoured]
    features = np.stack([scan.features for scan in both])
    spread = features.std(0)
    known = spread > 0
    features = features[:, known] / (spread[known] * np.sqrt(max(1, known.sum())))
    weights = np.array([scan.uncertainty for scan in candidates])
    order = greedy_k_center(features[: len(candidates)], features[len(candidates) :], weights, len(candidates))
    rows: dict[str, dict[str, object]] = {}
    for index, distance in order:
        scan = candidates[index]
        if scan.patient not in rows and len(rows) < count:
            rows[scan.patient] = {
                "rank": len(rows) + 1, "case": scan.case, "patient": scan.patient,
                "uncertainty": round(scan.uncertainty, 4), "distance": round(distance, 4),
                "slice_index": scan.slice_index,
            }  # fmt: skip
    return pd.DataFrame(list(rows.values()))


def cases_to_choose_from(store: Store) -> tuple[list[str], list[str]]:
    """(scans of patients without any contour, contoured training scans) of a store; ValueError if there are none."""
    rows = store.cases.set_index("case")
    held_out = {*store.splits.validation, *store.splits.test}
    drawn = set(rows.loc[rows["labelled"].astype(bool) | rows.index.isin(held_out), "patient"])
    candidates = [case for case in store.splits.pretrain if rows.loc[case, "patient"] not in drawn]
    if not candidates:
        raise ValueError(
            f"{store.root} has no patient without labels outside of its validation and test splits, so there is none "
            "to suggest; prepare a folder that also holds scans without labels"
        )
    return candidates, list(store.splits.train)


def suggest(
    model: Path, store: Store, count: int, device: torch.device, progress: Callable[[int, int], None] | None = None
) -> tuple[pd.DataFrame, list[ScanSummary]]:
    """The next `count` patients of a store to contour, as `ranked` gives them, and the summaries of their scans.

    progress: called with scans done and scans in all.
    """
    candidates, contoured = cases_to_choose_from(store)
    described = []
    for done, scan in enumerate(summaries(model, store, [*candidates, *contoured], device), 1):
        described.append(scan)
        if progress:
            progress(done, len(candidates) + len(contoured))
    table = ranked(described[: len(candidates)], described[len(candidates) :], count)
    by_case = {scan.case: scan for scan in described}
    return table, [by_case[case] for case in table["case"]]
