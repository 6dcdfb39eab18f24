"""Held-out patients to rows: one for each (patient, slice, structure) and one for each (patient, structure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pixelglobal.config.schema import Config
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.store import Store
from pixelglobal.data.volumes import UNKNOWN_LABEL, write_labels
from pixelglobal.evaluation.calibration import Reliability, calibration_of, reliability_figure, write_reliability
from pixelglobal.evaluation.components import largest_components
from pixelglobal.evaluation.ensemble import Ensemble, Segmentation
from pixelglobal.evaluation.labelled_scans import LabelledScan, LabelledScans, scans_of_folder, scans_of_store
from pixelglobal.evaluation.metrics import score_case
from pixelglobal.files import write_file

Progress = Callable[[int, int], None]


def evaluate(
    config: Config,
    store: Store,
    model: Path,
    out: Path,
    device: torch.device,
    *,
    cases: Sequence[str],
    columns: Mapping[str, str | int],
    progress: Progress | None = None,
) -> Path:
    """Predict every case, save it as NIfTI on its own grid, score it there, and write `out/rows.parquet`.

    columns: constants of every row, such as study, method and seed. Each row also says whether its structure was
    labelled for the model; structures that the model does not know are left out. Calibration is in
    `out/calibration.csv`, one row for each scan, and over all scans in `out/reliability.csv` and `out/reliability.png`.
    Raises ValueError if the model knows none of the store's structures, if it was trained on slices that were made
    otherwise, and if one of the cases was among those it was trained on.
    """
    ensemble = Ensemble([model], device, grid=store.grid)
    if ensemble.grid != store.grid:
        raise ValueError(
            f"{model} takes slices of {ensemble.grid.facts()}, but {store.root} has {store.grid.facts()}; prepare the "
            "cohort with the settings of the model, or evaluate the folder of its scans in place of the store"
        )
    refuse_leakage(store, cases, ensemble.facts["cases_seen"], str(model))
    return _evaluate(config, scans_of_store(store, cases), ensemble, out, columns, progress)


def evaluate_folder(
    config: Config,
    folder: Path,
    model: Path,
    out: Path,
    device: torch.device,
    *,
    columns: Mapping[str, str | int],
    progress: Progress | None = None,
) -> Path:
    """As `evaluate`, for every labelled scan of a folder in any layout, such as an external test set."""
    ensemble = Ensemble([model], device)
    cohort = read_cohort(folder, config.prepare)
    ensemble.require_fits(cohort, folder)
    scans = scans_of_folder(folder, cohort, ensemble.grid, config)
    return _evaluate(config, scans, ensemble, out, columns, progress)


def _evaluate(
    config: Config,
    scans: LabelledScans,
    ensemble: Ensemble,
    out: Path,
    columns: Mapping[str, str | int],
    progress: Progress | None,
) -> Path:
    number_of = _numbers(scans, ensemble)
    labelled = ensemble.facts.get("structures_labelled", ensemble.structures)  # models of 0.2.0 do not say
    seen = {sha: case for case, sha in ensemble.facts["cases_seen"].items()}
    rows: list[dict[str, object]] = []
    measured, bins = [], []
    for done, case in enumerate(scans.cases):
        scan = scans.read(case)
        if scan.sha256 in seen:
            raise ValueError(_leaked(str(ensemble.sources[0]), [f"{case} (seen as {seen[scan.sha256]})"]))
        segmentation = ensemble.segment(scan.images_hu, uncertainty=True)
        stored = number_of[segmentation.labels]
        scored = _score_and_save(scan, stored, scans, ensemble, out, config)
        rows += [{**columns, **row, "labelled": row["structure"] in labelled} for row in scored]
        measures, reliability = _calibration(scan, stored, segmentation, number_of)
        measured.append({**columns, "cohort": scans.name, "case": case, "patient": scan.patient, **measures})
        bins.append(reliability)
        if progress:
            progress(done + 1, len(scans.cases))
    write_file(out / "calibration.csv", pd.DataFrame(measured).to_csv(index=False))
    if bins:
        together = reduce(add, bins)
        write_reliability(out / "reliability.csv", together)
        figure = reliability_figure(together)
        write_file(out / "reliability.png", lambda path: figure.savefig(path, dpi=150))
    return write_file(out / "rows.parquet", lambda path: pd.DataFrame(rows).to_parquet(path, index=False))


def _numbers(scans: LabelledScans, ensemble: Ensemble) -> np.ndarray:
    """The label in these scans of each label of the model, uint8 [L]; 0 for a structure that they do not have."""
    known = [name for name in ensemble.structures if name in scans.structures]
    if not known:
        raise ValueError(
            f"{ensemble.sources[0]} segments {list(ensemble.structures)}, but {scans.source} has "
            f"{list(scans.structures)}; expected at least one structure of the same name"
        )
    numbers = [scans.structures.index(name) + 1 if name in known else 0 for name in ensemble.structures]
    return np.array([0, *numbers], np.uint8)


def _score_and_save(
    scan: LabelledScan, stored: np.ndarray, scans: LabelledScans, ensemble: Ensemble, out: Path, config: Config
) -> list[dict[str, object]]:
    """Rows of one scan from predicted labels uint8 [Z, S, S], which are also saved on the scan's own grid."""
    rows, columns = scan.labels.shape[1:]
    labels = ensemble.grid.paste_back(stored, (rows, columns), scan.spacing_mm, 0)
    if config.evaluate.largest_component:
        labels = largest_components(labels)
    write_labels(out / "predictions" / f"{scan.case}.nii.gz", labels, scan.affine)
    constants = {
        "cohort": scans.name,
        "case": scan.case,
        "patient": scan.patient,
        "spacing_z_mm": scan.spacing_mm[0],
        "spacing_y_mm": scan.spacing_mm[1],
        "spacing_x_mm": scan.spacing_mm[2],
    }
    scored = score_case(
        labels,
        scan.labels,
        scan.spacing_mm,
        scans.structures,
        tolerance_mm=config.evaluate.surface_tolerance_mm,
        contoured=scan.contoured,
    )
    return [{**constants, **row} for row in scored if row["structure"] in ensemble.structures]


def _calibration(
    scan: LabelledScan, stored: np.ndarray, segmentation: Segmentation, number_of: np.ndarray
) -> tuple[dict[str, float], Reliability]:
    """Measures and bins of one scan. What the model does not know is background to it."""
    assert segmentation.uncertainty is not None
    reference = np.where(np.isin(scan.stored_labels, number_of), scan.stored_labels, 0)
    known = np.array([True, *scan.contoured])[stored] & (scan.stored_labels != UNKNOWN_LABEL)
    return calibration_of(stored, reference, segmentation.confidence, segmentation.uncertainty, known)


def refuse_leakage(store: Store, cases: Sequence[str], seen: Mapping[str, str], what: str) -> None:
    """Raise ValueError if any of the cases, by the content of its voxels, is among those that a model has seen.

    seen: the SHA-256 of a scan's voxels by its case, as in model.json; what: the name of the model in the message.
    """
    names, wanted = {sha: case for case, sha in seen.items()}, set(cases)
    leaked = [
        f"{case} (seen as {names[sha]})"
        for case, sha in zip(store.cases["case"], store.cases["sha256"], strict=True)
        if case in wanted and sha in names
    ]
    if leaked:
        raise ValueError(_leaked(what, leaked))


def _leaked(what: str, leaked: Sequence[str]) -> str:
    return (
        f"{what} was trained on scans that it should now be tested on: {', '.join(leaked)}. "
        "Remove them from the training or pre-training split and train again"
    )
