"""The models of a study by name: every seed of a method, from the folder that `python -m experiments` wrote."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def models_of_study(out: Path, study: str, method: str) -> list[Path]:
    """The model folders of all finished runs of a method in a study, by seed.

    Raises ValueError if the folder holds no studies, if there is no such run, or if the runs are of several cohorts.
    """
    table = out / "runs.parquet"
    if not table.is_file():
        raise ValueError(
            f"{out} holds no finished study: runs.parquet is missing; expected the --out folder of a study"
        )
    runs = pd.read_parquet(table)
    chosen = runs[(runs["study"] == study) & (runs["method"] == method)].sort_values("seed")
    if chosen.empty:
        known = sorted({f"{name} {way}" for name, way in zip(runs["study"], runs["method"], strict=True)})
        raise ValueError(f"{out} has no finished run of {study} {method}; it has: {', '.join(known)}")
    parts = chosen[["cohort", "part"]].drop_duplicates()
    if len(parts) > 1:
        raise ValueError(
            f"{study} {method} in {out} was run on {len(parts)} sets of patients, whose models cannot be averaged; "
            "give the models one by one with --model"
        )
    return [out / "stages" / name / "model" for name in chosen["finetune"]]
