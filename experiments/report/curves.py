"""Training curves: losses, gradient, collapse measures and validation Dice, with seeds as bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.figures import GREY, Curve, print_style
from experiments.report.palette import Look

POINTS = 160  # of a line in the page
Panels = Mapping[str, str]  # key of the log -> heading with its unit
PRETRAINING: Panels = {
    "loss": "loss (each method's own)",
    "loss_global": "global loss",
    "loss_pixel": "local loss, Eq. 6",
    "cross_entropy_pixel": "pixel cross-entropy (nats)",
    "uncertainty": "mean uncertainty U",
    "gradient_norm": "norm of the gradient",
    "information_pixel": "information of the pixel head",
    "information_global": "information of the global head",
}
FINETUNING: Panels = {"loss": "training loss", "validation_dice": "validation Dice", "learning_rate": "learning rate"}


def points_of(curve: Curve, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one quantity of a log; few enough for a page, each the mean of those it stands for."""
    lines = [(line["step"], line[key]) for line in curve.lines if _is_number(line.get(key))]
    if not lines:
        return np.empty(0), np.empty(0)
    steps, values = np.array(lines, float).T
    parts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])


def curves_data(curves: Sequence[Curve], panels: Panels) -> dict[str, Any]:
    """The lines of every panel that any training has logged; `best` is the step with the highest validation Dice."""
    made = []
    for key, heading in panels.items():
        lines = []
        for curve in curves:
            steps, values = points_of(curve, key)
            if len(steps):
                best = float(steps[values.argmax()]) if key == "validation_dice" else None
                lines.append({"method": curve.method, "seed": curve.seed, "steps": steps.round(1).tolist(),
                              "values": [float(f"{v:.5g}") for v in values], "best": best})  # fmt: skip
        if lines:
            made.append({"key": key, "heading": heading, "lines": lines})
    return {"panels": made}


def draw_curves(curves: Sequence[Curve], panels: Panels, looks: Mapping[str, Look], *, width_cm: float) -> Figure:
    """Small multiples that wrap; a method's line is the mean over its seeds, its band their range."""
    shown = {key: heading for key, heading in panels.items() if any(len(points_of(c, key)[0]) for c in curves)}
    columns = max(1, min(len(shown), round(width_cm / 5.8)))
    rows = max(1, math.ceil(len(shown) / columns))
    with print_style():
        figure, axes = plt.subplots(rows, columns, figsize=(width_cm / 2.54, 1.7 * rows + 0.5), layout="constrained",
                                    squeeze=False)  # fmt: skip
        methods = [method for method in looks if any(curve.method == method for curve in curves)]
        for axis in axes.flat[len(shown) :]:
            axis.axis("off")
        if not shown:
            axes[0][0].text(0.5, 0.5, "not logged", transform=axes[0][0].transAxes, ha="center", color=GREY)
        for axis, (key, heading) in zip(axes.flat, shown.items(), strict=False):
            for method in methods:
                _draw_method(axis, [points_of(c, key) for c in curves if c.method == method], looks[method])
            axis.set_title(heading)
            axis.set_xlabel("step")
            axis.grid(alpha=0.35, lw=0.5)
        handles = [Line2D([], [], color=looks[m].color, ls=looks[m].line_style, label=looks[m].words) for m in methods]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=max(1, round(width_cm / 6)))
    return figure


def _draw_method(axis: Any, lines: Sequence[tuple[np.ndarray, np.ndarray]], look: Look) -> None:
    lines = [(steps, values) for steps, values in lines if len(steps)]
    if not lines:
        return
    longest = max((steps for steps, _ in lines), key=len)
    table = np.array([np.interp(longest, steps, values, right=np.nan) for steps, values in lines])
    if len(longest) == 1:
        axis.plot(np.full(len(table), longest[0]), table[:, 0], look.marker, color=look.color, ms=3)
        return
    axis.fill_between(longest, np.nanmin(table, 0), np.nanmax(table, 0), color=look.color, alpha=0.18, lw=0)
    axis.plot(longest, np.nanmean(table, 0), color=look.color, ls=look.line_style)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
