"""The learning curve as a figure: DSC against the number of labelled patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import house_style, method_colors
from pixelglobal.statistics.intervals import mean_interval
from pixelglobal.tables.averages import patient_points
from pixelglobal.tables.learning_curve import points_of


def draw_learning_curve(rows: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Average DSC against the number of labelled patients: a line a method with the 95 % interval of its mean over
    test patients, and a dot for every run."""
    points, colors = points_of(rows), method_colors(methods)
    with house_style():
        figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
        for method in methods:
            counts = [n for n, table in points.items() if method in table.columns]
            means = [points[n][method].mean() for n in counts]
            ends = [mean_interval(points[n][method].to_numpy(), 2000, np.random.default_rng(0)) for n in counts]
            low, high = zip(*ends, strict=True)
            axis.fill_between(counts, low, high, color=colors[method], alpha=0.15, lw=0)
            axis.plot(counts, means, "-o", color=colors[method], label=method)
            for (count, _), run in rows[rows["method"] == method].groupby(["labelled_patients", "seed"]):
                axis.plot(
                    count, patient_points(run, [method])[method].mean(), ".", ms=4, color=colors[method], alpha=0.7
                )
        axis.set(xscale="log", xlabel="labelled patients", ylabel="average DSC (%)")
        axis.set_xticks(list(points), [str(n) for n in points])
        axis.minorticks_off()
        axis.grid(alpha=0.35, lw=0.5)
        axis.legend()
    return figure
