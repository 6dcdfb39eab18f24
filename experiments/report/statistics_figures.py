"""Pictures of statistics: which methods a ranking can tell apart, and how often tests cry wolf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import GREY, INK, house_style, method_colors
from pixelglobal.statistics.ranking import Ranking

matplotlib.use("Agg")


WOLF, GOOD = "#d55e00", "#1a80bb"


def draw_ranks(ranking: Ranking, methods: Sequence[str]) -> Figure:
    """Critical-difference diagram (Demsar 2006): the best is left; a thick bar joins what cannot be told apart."""
    order = sorted(range(len(methods)), key=lambda i: ranking.mean_ranks[i])
    ranks = [ranking.mean_ranks[i] for i in order]
    colors, names = method_colors(methods), [methods[i] for i in order]
    with house_style():
        figure, axis = plt.subplots(figsize=(6.5, 1.0 + 0.28 * len(methods)), layout="constrained")
        axis.set(xlim=(0.8, len(methods) + 0.2), ylim=(-len(methods) - 0.5, 1.6), xlabel="mean rank (1 is best)")
        axis.spines["left"].set_visible(False)
        axis.set_yticks([])
        for i, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            depth = i - len(names)  # the best deepest: no line crosses a name
            axis.plot([rank, rank], [0.2, depth], color=GREY, lw=0.8)
            axis.plot(rank, 0.2, "o", color=colors[name])
            axis.text(rank + 0.04, depth, f"{name}  {rank:.2f}", va="center", color=INK)
        for first, last in _alike(ranks, ranking.critical_difference):
            axis.plot([ranks[first] - 0.03, ranks[last] + 0.03], [0.55 + 0.18 * first] * 2, color=INK, lw=2.5)
        figure.suptitle(
            f"Friedman p = {ranking.p_value:.3f}; critical difference {ranking.critical_difference:.2f} ranks, "
            f"{ranking.n_blocks} structures",
            fontsize=9,
        )
    return figure


def _alike(ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """The longest runs of sorted ranks whose ends differ by no more than the critical difference.

    >>> _alike([1.0, 1.5, 2.4, 3.6], 1.4)
    [(0, 2), (2, 3)]
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] <= critical_difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def draw_error_rates(by_patients: pd.DataFrame, by_runs: Mapping[str, float]) -> Figure:
    """False alarms at p < 0.05: left, by unit and intra-patient correlation; right, two trainings of one method.

    by_patients: rows of `bench_statistics`. by_runs: shares in % by the name of the way of testing.
    """
    with house_style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", gridspec_kw={"width_ratios": (3, 2)})
        normal = by_patients[by_patients["effects"] == "normal"]
        for count, own in normal.groupby("patients"):
            shade = {20: ":", 50: "--", 105: "-"}.get(int(str(count)), "-")
            axes[0].plot(own["ICC"], own["slice_alarms"], shade, color=WOLF, marker="o", label=f"slices of {count}")
            axes[0].plot(own["ICC"], own["patient_alarms"], shade, color=GOOD, marker="o", label=f"{count} patients")
        axes[0].set(xlabel="correlation of slices within a patient", ylabel="false alarms (%)", ylim=(0, 100))
        axes[0].set_title("no difference: is the unit the slice or the patient?", fontsize=9)
        axes[0].legend(fontsize=8, ncols=3, loc="upper left")
        names, values = list(by_runs), list(by_runs.values())
        bars = axes[1].barh(range(len(names)), values, color=[WOLF] * (len(names) - 1) + [GOOD], height=0.5)
        axes[1].bar_label(bars, fmt="%.0f %%", padding=3)
        axes[1].set(yticks=[], xlim=(0, 100), xlabel="false alarms (%)")
        for i, name in enumerate(names):
            axes[1].text(0, i - 0.42, name, fontsize=8)
        axes[1].set_title("the same method, trained again", fontsize=9)
        axes[0].axhline(5, color=GREY, lw=0.8)
        axes[1].axvline(5, color=GREY, lw=0.8)
    return figure
