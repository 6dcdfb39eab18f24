"""Means of rows: over patients and runs, then over structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pixelglobal.tables.rows import checked


def paired_means(rows: pd.DataFrame, method_a: str, method_b: str) -> np.ndarray:
    """Mean difference a - b of each patient in DSC points, over seeds and then structures, of volumes both scored."""
    points = patient_points(rows, [method_a, method_b])
    return (points[method_a] - points[method_b]).to_numpy()


def patient_points(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mean DSC in %, patients x methods, over seeds and then structures, of whole volumes that all methods scored."""
    rows = checked(rows, methods[0])
    volumes = rows[(rows["slice_index"] == -1) & rows["method"].isin(methods)].dropna(subset=["dice"])
    table = volumes.groupby(["patient", "structure", "method"])["dice"].mean().unstack("method").dropna() * 100
    return table.groupby("patient").mean()[list(methods)]


def mean_points(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mean DSC in % of whole volumes, structures x methods; only structures of which every method has a score."""
    volumes = checked(rows, methods[0])
    volumes = volumes[volumes["slice_index"] == -1]
    means = volumes.groupby(["structure", "method"])["dice"].mean().unstack("method") * 100
    return means.reindex(columns=list(methods)).dropna()


def _mean_of_known(values: Sequence[float]) -> float:
    """Mean over structures that have a value; NaN if none has."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def mean_dice(scores: pd.DataFrame) -> float:
    """Mean DSC in %, over patients (or slices) and seeds; undefined values are left out."""
    return float(scores["dice"].mean() * 100)


def mean_hausdorff_mm(scores: pd.DataFrame) -> tuple[float, int]:
    """Mean distance with a miss costing the image's diagonal, and the number of misses."""
    missed = np.isinf(scores["hausdorff_mm"])
    worst = scores["diagonal_mm"] if "diagonal_mm" in scores.columns else np.nan
    return float(scores["hausdorff_mm"].where(~missed, worst).mean()), int(missed.sum())
