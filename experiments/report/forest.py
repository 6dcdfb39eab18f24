"""Gains with their intervals, on average and for each structure: what the forest plot shows, and its figure for print.

Two intervals stand on each gain. That of patients is about the training runs that there are, on other patients; that of
runs and patients is about the methods, trained again, and is the one that the verdict reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.figures import GREY, INK, print_style
from experiments.report.palette import Look, looks
from experiments.studies.verdict import Contrast, ContrastResult, compared_with_all, primary_endpoint, shared_seeds
from pixelglobal.statistics.intervals import mean_interval
from pixelglobal.statistics.mrmc import MethodComparison
from pixelglobal.tables.averages import ScoreTable
from pixelglobal.tables.contrasts import AVERAGE

RESAMPLES = 4_000  # of the patients' bootstrap


@dataclass(frozen=True)
class Gain:
    """The gain of one method over another in DSC points; the ends of an interval that cannot be made are None."""

    cohort: str
    method: str
    baseline: str
    structure: str  # or Average
    points: float
    patients_low: float | None
    patients_high: float | None
    runs_low: float | None
    runs_high: float | None
    n_runs: int
    n_patients: int

    def to_dict(self) -> dict[str, Any]:
        """For the scripts of the page."""
        return asdict(self)


def gains_of(rows: pd.DataFrame, tested: Sequence[ContrastResult], cohort: str) -> list[Gain]:
    """The gains of the contrasts of a verdict, the average first; rows of one cohort and number of labelled patients.

    The average is that of the verdict, so that both say one thing. A contrast whose method has no rows is left out.
    """
    table = primary_endpoint(rows)
    of_methods: dict[tuple[Any, ...], dict[str, MethodComparison]] = {}  # contrasts share their computation
    gains = []
    for structure in (None, *table.structures):
        for contrast in (one.contrast for one in tested):
            if not {contrast.method, contrast.baseline} <= set(table.values):
                continue
            seeds = shared_seeds(table, contrast)
            key = (contrast.method, seeds, structure)
            if key not in of_methods:
                of_methods[key] = compared_with_all(table, *key)
            gains.append(_gain(table, contrast, seeds, structure, of_methods[key].get(contrast.baseline), cohort))
    return gains


def _gain(
    table: ScoreTable,
    contrast: Contrast,
    seeds: Sequence[int],
    structure: str | None,
    of_methods: MethodComparison | None,
    cohort: str,
) -> Gain:
    method, baseline = contrast.method, contrast.baseline
    runs = {name: list(seeds) or table.runs[name] for name in (method, baseline)}  # without shared ones, all of each
    kept = table.with_runs(runs)
    differences = kept.unit_means(method, structure) - kept.unit_means(baseline, structure)
    low, high = None, None
    if len(differences) > 1:
        low, high = mean_interval(differences, RESAMPLES, np.random.default_rng(0))
    runs_low, runs_high = (None, None) if of_methods is None else (of_methods.low, of_methods.high)
    n_runs = min(len(of_name) for of_name in runs.values())
    points = float(differences.mean())
    return Gain(cohort, method, baseline, structure or AVERAGE, points, low, high, runs_low, runs_high, n_runs,
                len(differences))  # fmt: skip


def draw_forest(gains: Sequence[Gain], methods: Mapping[str, Look], *, width_cm: float) -> Figure:
    """Cohorts as panels beside each other, structures below each other, one line for each contrast."""
    cohorts = list(dict.fromkeys(gain.cohort for gain in gains))
    structures = list(dict.fromkeys(gain.structure for gain in gains))
    contrasts = contrasts_of(gains)
    of_contrast = contrast_looks(contrasts, methods)
    step = 0.8 / len(contrasts)
    with print_style():
        height = 1.1 + max(0.16 * len(contrasts), 0.22) * len(structures) + 0.17 * len(contrasts)
        figure, axes = plt.subplots(1, len(cohorts), figsize=(width_cm / 2.54, height), sharey=True, squeeze=False,
                                    layout="constrained")  # fmt: skip
        for axis, cohort in zip(axes[0], cohorts, strict=True):
            axis.axvline(0, color=GREY, lw=0.8)
            for gain in (g for g in gains if g.cohort == cohort):
                place = contrasts.index((gain.method, gain.baseline))
                y = structures.index(gain.structure) + (place - (len(contrasts) - 1) / 2) * step
                _line(axis, gain, of_contrast[place], y)
            axis.set(yticks=range(len(structures)), yticklabels=structures, xlabel="gain (DSC points)")
            if len(cohorts) > 1:
                axis.set_title(cohort)
        axes[0][0].invert_yaxis()
        handles = [
            Line2D(
                [], [], color=look.color, marker=look.marker, ms=4, label=f"{methods[a].words} over {methods[b].words}"
            )
            for (a, b), look in zip(contrasts, of_contrast, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=1)
    return figure


def _over(method: Look, baseline: Look) -> str:
    return f"{method.words} over {baseline.words}"


def _line(axis: Any, gain: Gain, look: Look, y: float) -> None:
    if gain.runs_low is not None and gain.runs_high is not None:
        axis.plot([gain.runs_low, gain.runs_high], [y, y], color=look.color, lw=0.8)
    if gain.patients_low is not None and gain.patients_high is not None:
        axis.plot([gain.patients_low, gain.patients_high], [y, y], color=look.color, lw=2.4, solid_capstyle="butt")
    axis.plot(gain.points, y, look.marker, color=look.color, ms=4.5, mec=INK, mew=0.4)


def contrast_looks(contrasts: Sequence[tuple[str, str]], methods: Mapping[str, Look]) -> list[Look]:
    """A look for each contrast: that of its baseline or of its method where these differ, else one by its order."""
    for side in (0, 1) if len(contrasts) == 1 else (1, 0):
        names = [contrast[side] for contrast in contrasts]
        if len(set(names)) == len(names):
            return [methods[name] for name in names]
    return list(looks([f"{method} over {baseline}" for method, baseline in contrasts]).values())


def contrasts_of(gains: Sequence[Gain]) -> list[tuple[str, str]]:
    """The pairs of method and baseline, in their order."""
    return list(dict.fromkeys((gain.method, gain.baseline) for gain in gains))


def forest_words(gains: Sequence[Gain], methods: Mapping[str, Look]) -> str:
    """The averages as sentences, for readers who cannot see the figure."""
    said = []
    for gain in (g for g in gains if g.structure == AVERAGE):
        low, high = (gain.runs_low, gain.runs_high) if gain.runs_low is not None else (
            gain.patients_low, gain.patients_high)  # fmt: skip
        ends = "" if low is None or high is None else f" (95 % interval {low:+.2f} to {high:+.2f})"
        said.append(
            f"{gain.cohort}: {methods[gain.method].words} gains {gain.points:+.2f} DSC points over "
            f"{methods[gain.baseline].words}{ends}"
        )
    return ". ".join(said) + "."
