"""Scores and significance for anybody's predictions: folders of NIfTI in, rows and tables out; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.config.tolerance import Tolerance
from pixelglobal.data.cohorts import case_name
from pixelglobal.data.layouts.description import label_names
from pixelglobal.data.volumes import read_labels, read_labels_on_grid
from pixelglobal.evaluation.metrics import score_case
from pixelglobal.files import write_json


@dataclass(frozen=True)
class Pair:
    """The two files of one case."""

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Scored:
    """The rows of one case, and how many voxels its volume has."""

    pair: Pair
    rows: list[dict[str, object]]
    n_voxels: int


def pairs_of(predictions: Path, references: Path) -> list[Pair]:
    """Files of equal names in two folders; every reference needs its prediction, else ValueError names what lacks."""
    predicted, drawn = _files(predictions), _files(references)
    missing = sorted(drawn.keys() - predicted.keys())
    if missing or not drawn:
        raise ValueError(
            f"{predictions} has {len(predicted)} NIfTI files and {references} has {len(drawn)}; without a prediction: "
            f"{', '.join(missing[:5]) or 'nothing, there are no references'}. Every reference needs a prediction of "
            "the same file name: a case that is left out cannot be counted as missed"
        )
    return [Pair(case, predicted[case], drawn[case]) for case in drawn]


def structures_of(named: str | None, references: Path) -> tuple[str, ...]:
    """Names in the order of label values: given as `A,B,C` or a dataset.json, or found in one beside the references."""
    if named is not None and not named.endswith(".json"):
        return tuple(name.strip() for name in named.split(","))
    files = [Path(named)] if named else [references / "dataset.json", references.parent / "dataset.json"]
    for file in files:
        if file.is_file():
            return label_names(file)
    raise ValueError(
        f"no names for the labels: looked for {', '.join(map(str, files))}. Give --structures Liver,Spleen,... in the "
        "order of the label values 1, 2, ..., or the path of a dataset.json"
    )


def patients_of(file: Path, cases: Sequence[str]) -> dict[str, str]:
    """Which patient each case is of, from a CSV with the columns case and patient; ValueError if one is not there."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; expected a CSV with the columns case and patient")
    table = pd.read_csv(file, dtype=str)
    if not {"case", "patient"} <= set(table.columns):
        raise ValueError(f"{file}: the columns are {', '.join(table.columns)}; expected case and patient")
    patient_of = dict(zip(table["case"], table["patient"], strict=True))
    if lacking := [case for case in cases if not isinstance(patient_of.get(case), str)]:
        raise ValueError(f"{file}: there is no patient for the cases {', '.join(lacking[:5])}; expected one for each")
    return patient_of


def score_pair(pair: Pair, structures: Sequence[str], tolerance_mm: Tolerance, empty_is_absent: bool) -> Scored:
    """Read one case and score it.

    empty_is_absent: a structure without a voxel in the reference is not there, and whatever was predicted is wrong;
    if False it was not contoured, and nothing can be said about it.
    """
    reference, spacing_mm, affine = read_labels(pair.reference)
    predicted = read_labels_on_grid(pair.prediction, pair.reference, reference.shape, affine, len(structures))
    contoured = [empty_is_absent or bool((reference == i + 1).any()) for i in range(len(structures))]
    rows = score_case(predicted, reference, spacing_mm, structures, tolerance_mm=tolerance_mm, contoured=contoured)
    return Scored(pair, rows, reference.size)


def score_pairs(
    pairs: Sequence[Pair],
    structures: Sequence[str],
    *,
    tolerance_mm: Tolerance = 3.0,
    empty_is_absent: bool = True,
    map_pairs: Callable[..., Iterable[Scored]] = map,
) -> Iterator[Scored]:
    """Score every case; `map_pairs` spreads the work, in any order.

    Two paths travel to each task, which reads its own files: no volume is copied between processes.
    """

    def work(pair: Pair) -> Scored:
        return score_pair(pair, structures, tolerance_mm, empty_is_absent)

    yield from map_pairs(work, pairs)


def rows_of_scores(
    scored: Sequence[Scored],
    *,
    method: str,
    seed: int,
    cohort: str,
    patients: Mapping[str, str] | None = None,
    fold: str | None = None,
) -> pd.DataFrame:
    """Rows as the studies write them, in the order of cases.

    patients: the patient of each case, who may have several; without it a case is taken for a patient. fold: of a
    cross-validation, in which the model was trained on the other folds.
    """
    constants = {"method": method, "seed": seed, "cohort": cohort} | ({} if fold is None else {"fold": fold})
    patient_of = {} if patients is None else patients
    rows = [
        {**constants, "case": s.pair.case, "patient": patient_of.get(s.pair.case, s.pair.case), **row}
        for s in sorted(scored, key=lambda s: s.pair.case)
        for row in s.rows
    ]
    return pd.DataFrame(rows)


def nnunet_summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """nnU-Net's summary.json: counts of voxels and Dice of every case and label, NaN where a label is nowhere.

    Our distances stand beside them; an infinite one (a missed structure) makes its mean infinite.
    """
    cases = []
    for s in sorted(scored, key=lambda s: s.pair.case):
        metrics = {}
        for label, row in enumerate((r for r in s.rows if r["slice_index"] == -1), 1):
            n_pred, n_ref, both = (int(row[f"n_{k}"]) for k in ("predicted", "reference", "intersection"))  # type: ignore[call-overload]
            either = n_pred + n_ref - both
            metrics[str(label)] = {
                "Dice": row["dice"],
                "IoU": both / either if either and row["contoured"] else float("nan"),
                "TP": both, "FP": n_pred - both, "FN": n_ref - both, "TN": s.n_voxels - either,
                "n_pred": n_pred, "n_ref": n_ref,
                "HD_mm": row["hausdorff_mm"], "HD95_mm": row["hausdorff95_mm"], "surface_dice": row["surface_dice"],
            }  # fmt: skip
        cases.append(
            {
                "metrics": metrics,
                "prediction_file": str(s.pair.prediction),
                "reference_file": str(s.pair.reference),
            }
        )
    labels = list(cases[0]["metrics"])
    mean = {label: _mean([case["metrics"][label] for case in cases]) for label in labels}  # type: ignore[index]
    return {"foreground_mean": _mean(list(mean.values())), "mean": mean, "metric_per_case": cases}


def save_summary(scored: Sequence[Scored], path: Path) -> None:
    """Write summary.json."""
    write_json(path, nnunet_summary(scored))


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; expected one with a NIfTI file of labels for each case")
    named = [(case_name(path), path) for path in sorted(folder.iterdir())]
    return {name: path for name, path in named if name}


def _mean(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of each entry over the records in which it is defined."""
    means = {}
    for key in records[0]:
        known = [record[key] for record in records if not np.isnan(record[key])]
        means[key] = float(np.mean(known)) if known else float("nan")
    return means
