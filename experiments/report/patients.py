"""Every test patient in every training run, as dots that are joined between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import GREY, print_style
from experiments.report.palette import Look
from experiments.studies.verdict import primary_endpoint
from pixelglobal.tables.contrasts import AVERAGE


def patient_dots(rows: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """One record for each method, seed and patient: mean DSC (%) and mean HD (mm) over the patient's structures.

    Structures that no labelled patient of the run showed are left out, as in tables. A distance is None where a
    structure was missed. rows: of one cohort and number of labelled patients.
    """
    volumes = rows[(rows["slice_index"] == -1) & rows["contoured"].astype(bool) & rows["method"].isin(methods)]
    volumes = volumes[volumes["labelled"] != False] if "labelled" in volumes else volumes  # noqa: E712  # NaN: unknown
    columns = ["dice", *(["hausdorff_mm"] if "hausdorff_mm" in volumes else [])]
    each = volumes.groupby(["method", "seed", "patient"], sort=False)
    means, cases = each[columns].mean(), each["case"].first() if "case" in volumes else None
    records = []
    for key, values in means.iterrows():
        method, seed, patient = key
        distance = values.get("hausdorff_mm", np.nan)
        records.append(
            {"method": str(method), "seed": int(seed), "patient": str(patient),
             "case": str(patient if cases is None else cases[key]), "dice": round(100 * float(values["dice"]), 2),
             "hd": round(float(distance), 1) if np.isfinite(distance) else None}
        )  # fmt: skip
    return records


def averages(rows: pd.DataFrame, methods: Sequence[str]) -> dict[str, float]:
    """The average DSC (%) of each method as tables print it."""
    table = primary_endpoint(rows)
    return {method: table.mean(method, None) for method in methods}


def draw_patients(rows: pd.DataFrame, looks: Mapping[str, Look], *, width_cm: float) -> Figure:
    """Methods below each other; a dot is the mean DSC of one patient in one run, a bar the average of the tables.

    Lines join a patient's means over runs. Runs of a method lie below each other in the order of their seeds.
    """
    methods = [method for method in looks if (rows["method"] == method).any()]
    dots = pd.DataFrame(patient_dots(rows, methods))
    means = dots.groupby(["method", "patient"])["dice"].mean().unstack("method")[methods]
    average = averages(rows, methods)
    with print_style():
        figure, axis = plt.subplots(figsize=(width_cm / 2.54, 0.7 + 0.42 * len(methods)), layout="constrained")
        for values in means.to_numpy():
            axis.plot(values, range(len(methods)), color=GREY, lw=0.5, alpha=0.5, zorder=1)
        for i, method in enumerate(methods):
            of_method = dots[dots["method"] == method]
            seeds = sorted(of_method["seed"].unique())
            for k, seed in enumerate(seeds):
                x = of_method.loc[of_method["seed"] == seed, "dice"].to_numpy()
                y = np.full(len(x), i + _shift(k, len(seeds)))
                axis.scatter(x, y, s=9, color=looks[method].color, marker=looks[method].marker, alpha=0.75, lw=0)
            axis.vlines(average[method], i - 0.36, i + 0.36, color=looks[method].color, lw=1.8, zorder=3)
            axis.annotate(f"{average[method]:.1f}", (average[method], i - 0.38), ha="center", va="bottom", fontsize=8)
        names = [looks[method].words for method in methods]
        axis.set(yticks=range(len(methods)), yticklabels=names, xlabel=f"mean DSC of a patient (%), n = {len(means)}")
        axis.set_ylim(len(methods) - 0.4, -0.75)
        axis.grid(axis="x", alpha=0.35, lw=0.5)
    return figure


def patients_data(rows: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, Any]:
    """What the page draws of it."""
    methods = [method for method in looks if (rows["method"] == method).any()]
    return {"methods": methods, "dots": patient_dots(rows, methods), "averages": averages(rows, methods)}


def patients_words(rows: pd.DataFrame, looks: Mapping[str, Look]) -> str:
    """The averages and how many patients there are, for readers who cannot see the figure."""
    methods = [method for method in looks if (rows["method"] == method).any()]
    said = ", ".join(f"{looks[m].words} {value:.1f} %" for m, value in averages(rows, methods).items())
    return f"{AVERAGE} DSC over {rows['patient'].nunique()} test patients: {said}."


def _shift(k: int, count: int) -> float:
    return 0.5 * (k - (count - 1) / 2) / max(1, count)
