"""The learning curve: DSC against the number of labelled patients, with intervals over training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

from experiments.report.figures import print_style
from experiments.report.palette import Look
from pixelglobal.tables.learning_curve import points_of

DODGE = 0.025  # of the logarithm of the count, between methods


def learning_points(rows: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """One record for each method and number of labelled patients: the runs' averages, their mean and its 95 % interval.

    The interval is the t interval over training runs, None below 3 of them.
    """
    points = []
    for method in methods:
        for count, (table, _) in points_of(rows).items():
            if method not in table.values:
                continue
            means = table.run_means(method)
            low = high = None
            if len(means) >= 3:
                half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
                low, high = float(means.mean() - half), float(means.mean() + half)
            runs = [{"seed": int(s), "value": float(v)} for s, v in zip(table.runs[method], means, strict=True)]
            points.append({"method": method, "patients": int(count), "mean": float(means.mean()), "low": low,
                           "high": high, "runs": runs})  # fmt: skip
    return points


def draw_learning_curve(points: Sequence[Mapping[str, Any]], looks: Mapping[str, Look], *, width_cm: float) -> Figure:
    """A line for each method with its intervals; numbers are training runs, by their seed."""
    methods = [method for method in looks if any(point["method"] == method for point in points)]
    counts = sorted({point["patients"] for point in points})
    with print_style():
        figure, axis = plt.subplots(figsize=(width_cm / 2.54, 2.7), layout="constrained")
        for place, method in enumerate(methods):
            look, own = looks[method], [point for point in points if point["method"] == method]
            shift = np.exp((place - (len(methods) - 1) / 2) * 2 * DODGE)
            x = [point["patients"] * shift for point in own]
            axis.plot(x, [p["mean"] for p in own], color=look.color, ls=look.line_style, marker=look.marker, ms=4,
                      label=look.words)  # fmt: skip
            for at, point in zip(x, own, strict=True):
                if point["low"] is not None:
                    axis.plot([at, at], [point["low"], point["high"]], color=look.color, lw=0.8)
                for run in point["runs"]:
                    axis.plot(at, run["value"], ls="", marker=f"${run['seed']}$", ms=4, color=look.color, mew=0.2)
        axis.set(xscale="log", xlabel="labelled patients", ylabel="average DSC (%)")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.grid(alpha=0.35, lw=0.5)
        axis.legend()
    return figure


def learning_words(points: Sequence[Mapping[str, Any]], looks: Mapping[str, Look]) -> str:
    """The means as a sentence, for readers who cannot see the figure."""
    parts = [f"{looks[p['method']].words} with {p['patients']} labelled patients {p['mean']:.1f} %" for p in points]
    return f"Average DSC: {', '.join(parts)}."
