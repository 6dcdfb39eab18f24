"""The critical-difference diagram: which methods a ranking can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import GREY, INK, house_style, method_colors
from pixelglobal.statistics.ranking import Ranking

matplotlib.use("Agg")


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
