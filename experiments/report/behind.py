"""What is behind the numbers of a page: the scores of all patients and runs, each run's folder, settings and log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.runner.pipeline import Pipeline
from experiments.runner.run_list import flat_settings
from pixelglobal.training.runs import read_metrics

LOG_LINES = 8  # the last ones of each training


def rows_behind(rows: pd.DataFrame) -> dict[str, Any]:
    """The rows of whole scans by column, names as numbers into `names`, so that a page can hold them."""
    volumes = rows[(rows["slice_index"] == -1) & rows["contoured"].astype(bool)]
    columns: dict[str, Any] = {"names": {}}
    for name in ("method", "cohort", "case", "structure"):
        codes, values = pd.factorize(volumes[name])
        columns["names"][name], columns[name] = [str(v) for v in values], codes.tolist()
    columns["seed"] = volumes["seed"].astype(int).tolist()
    columns["dice"] = (volumes["dice"] * 100).round(2).tolist()
    for name, factor in (("hausdorff_mm", 1), ("hausdorff95_mm", 1), ("surface_dice", 100)):
        if name in volumes:
            values = volumes[name].to_numpy(float) * factor
            columns[name] = [round(float(v), 2) if np.isfinite(v) else None for v in values]
    if "labelled_patients" in volumes:
        columns["labelled"] = volumes["labelled_patients"].astype(int).tolist()
    return columns


def runs_behind(pipelines: Sequence[Pipeline]) -> list[dict[str, Any]]:
    """Each run: its folders, the settings in which it differs from the first run, and the end of its logs."""
    first = flat_settings(pipelines[0].run.config) if pipelines else {}
    records = []
    for pipeline in pipelines:
        own = flat_settings(pipeline.run.config)
        names = dict.fromkeys([*first, *own])
        differences = {n: [str(first.get(n, "")), str(own.get(n, ""))] for n in names if first.get(n) != own.get(n)}
        log = {}
        for stage in pipeline.stages:
            lines = read_metrics(stage.folder)[-LOG_LINES:]
            log[stage.kind] = [", ".join(f"{k}={v}" for k, v in line.items() if k != "time") for line in lines]
        records.append(
            {"run": pipeline.run.name, "method": pipeline.run.method, "seed": pipeline.run.config.seed,
             "cohort": pipeline.run.cohort, "labelled": pipeline.labelled_patients,
             "stages": {stage.kind: stage.name for stage in pipeline.stages}, "differences": differences, "log": log,
             "error": pipeline.error() if not pipeline.evaluate.is_complete else None}
        )  # fmt: skip
    return records
