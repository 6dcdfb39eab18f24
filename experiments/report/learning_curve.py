"""The learning curve as a figure: DSC against the number of labelled patients."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import house_style, method_colors
from pixelglobal.tables.learning_curve import points_of


def draw_learning_curve(rows: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Average DSC against the number of labelled patients: a line a method, a dot for every training run."""
    curve, colors = points_of(rows), method_colors(methods)
    with house_style():
        figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
        for method in methods:
            runs = {n: table.run_means(method) for n, (table, _) in curve.items() if method in table.values}
            axis.plot(list(runs), [means.mean() for means in runs.values()], "-o", color=colors[method], label=method)
            for count, means in runs.items():
                axis.plot([count] * len(means), means, ".", ms=4, color=colors[method], alpha=0.7)
        axis.set(xscale="log", xlabel="labelled patients", ylabel="average DSC (%)")
        axis.set_xticks(list(curve), [str(n) for n in curve])
        axis.minorticks_off()
        axis.grid(alpha=0.35, lw=0.5)
        axis.legend()
    return figure
