"""Held-out patients to rows: one for each (patient, slice, structure) and one for each (patient, structure)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.volumes import read_labels, write_labels
from pixelglobal.evaluation.metrics import score_case
from pixelglobal.evaluation.predict import load_segmenter, predict_case


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

    columns: constants of every row, such as study, method and seed. The model must know the cohort's structures in
    the cohort's order, and none of the cases may have been among those it was trained on.
    """
    segmenter, scale, facts = load_segmenter(model, device)
    if facts["structures"] != list(store.structures):
        raise ValueError(
            f"{model} segments {facts['structures']}, but the cohort in {store.root} has {list(store.structures)}; "
            "evaluate on the cohort that the model was fine-tuned on"
        )
    refuse_leakage(store, cases, facts["cases_seen"], str(model))
    facts_of = store.cases.set_index("case")
    rows: list[dict[str, object]] = []
    for done, case in enumerate(cases):
        predicted = predict_case(segmenter, scale, store, case, config, device)
        reference, spacing_mm, affine = read_labels(store.label_path(case))
        folder = out / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        write_labels(folder / f"{case}.nii.gz", predicted, affine)
        patient, contoured = facts_of.loc[case, "patient"], store.contoured(case)
        constants = {
            **columns,
            "cohort": store.name,
            "case": case,
            "patient": patient,
            "spacing_z_mm": spacing_mm[0],
            "spacing_y_mm": spacing_mm[1],
            "spacing_x_mm": spacing_mm[2],
        }
        scored = score_case(
            predicted,
            reference,
            spacing_mm,
            store.structures,
            tolerance_mm=config.evaluate.surface_tolerance_mm,
            contoured=contoured,
        )
        rows += [{**constants, **row} for row in scored]
        if progress:
            progress(done + 1, len(cases))
    path = out / "rows.parquet"
    partial = path.with_name(f".rows.{os.getpid()}.partial")
    pd.DataFrame(rows).to_parquet(partial, index=False)
    partial.rename(path)
    return path


def refuse_leakage(store: Store, cases: Sequence[str], seen: Mapping[str, str], what: str) -> None:
    """Raise if any of the cases, by the content of its voxels, is among those a model has seen."""
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
