"""Held-out patients to rows: one for each (patient, slice, structure) and one for each (patient, structure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.volumes import read_labels, write_labels
from pixelglobal.evaluation.components import largest_components
from pixelglobal.evaluation.metrics import score_case
from pixelglobal.evaluation.predict import load_segmenter, predict_case
from pixelglobal.files import write_file


def evaluate(
    config: Config,
    store: Store,
    model: Path,
    out: Path,
    device: torch.device,
    *,
    cases: Sequence[str],
    columns: Mapping[str, str | int],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Predict every case, save it as NIfTI on its own grid, score it there, and write `out/rows.parquet`.

    columns: constants of every row, such as study, method and seed. Each row also says whether its structure
    was labelled for the model. The model must know the cohort's structures in the cohort's order, and none of the cases
    may have been among those it was trained on.
    """
    segmenter, scale, facts = load_segmenter(model, device)
    if facts["structures"] != list(store.structures):
        raise ValueError(
            f"{model} segments {facts['structures']}, but the cohort in {store.root} has {list(store.structures)}; "
            "evaluate on the cohort that the model was fine-tuned on"
        )
    refuse_leakage(store, cases, facts["cases_seen"], str(model))
    labelled = facts.get("structures_labelled", facts["structures"])  # models of 0.2.0 do not say
    rows: list[dict[str, object]] = []
    for done, case in enumerate(cases):
        labels = predict_case(segmenter, scale, store, case, config, device)
        if config.evaluate.largest_component:
            labels = largest_components(labels)
        scored = _score_and_save(labels, case, store, out / "predictions", config)
        rows += [{**columns, **row, "labelled": row["structure"] in labelled} for row in scored]
        if progress:
            progress(done + 1, len(cases))
    return write_file(out / "rows.parquet", lambda path: pd.DataFrame(rows).to_parquet(path, index=False))


def _score_and_save(
    labels: np.ndarray, case: str, store: Store, folder: Path, config: Config
) -> list[dict[str, object]]:
    """Rows of one case from predicted labels uint8 [Z, rows, columns], which are also saved on the scan's own grid."""
    reference, spacing_mm, affine = read_labels(store.label_path(case))
    write_labels(folder / f"{case}.nii.gz", labels, affine)
    constants = {
        "cohort": store.name,
        "case": case,
        "patient": store.cases.set_index("case").loc[case, "patient"],
        "spacing_z_mm": spacing_mm[0],
        "spacing_y_mm": spacing_mm[1],
        "spacing_x_mm": spacing_mm[2],
    }
    scored = score_case(
        labels,
        reference,
        spacing_mm,
        store.structures,
        tolerance_mm=config.evaluate.surface_tolerance_mm,
        contoured=store.contoured(case),
    )
    return [{**constants, **row} for row in scored]


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
        raise ValueError(
            f"{what} was trained on scans that it should now be tested on: {', '.join(leaked)}. "
            "Remove them from the training or pre-training split and train again"
        )
