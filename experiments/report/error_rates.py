"""How often tests raise false alarms, by what they take as the unit: the figure of docs/explanation/significance.md."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.figures import GREY, house_style

TOO_OFTEN, AS_PROMISED = "#d55e00", "#1a80bb"


def draw_error_rates(by_patients: pd.DataFrame, by_runs: Mapping[str, float]) -> Figure:
    """False alarms at p < 0.05: left, by unit and intra-patient correlation; right, two trainings of one method.

    by_patients: rows of `bench_statistics`. by_runs: shares in % by the name of the way of testing.
    """
    with house_style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", gridspec_kw={"width_ratios": (3, 2)})
        normal = by_patients[by_patients["effects"] == "normal"]
        for count, rates in normal.groupby("patients"):
            shade = {20: ":", 50: "--", 105: "-"}.get(int(str(count)), "-")
            for unit, color, label in (
                ("slice_alarms", TOO_OFTEN, f"slices of {count}"),
                ("patient_alarms", AS_PROMISED, f"{count} patients"),
            ):
                axes[0].plot(rates["ICC"], rates[unit], shade, color=color, marker="o", label=label)
        axes[0].set(xlabel="correlation of slices within a patient", ylabel="false alarms (%)", ylim=(0, 100))
        axes[0].set_title("no difference: is the unit the slice or the patient?", fontsize=9)
        axes[0].legend(fontsize=8, ncols=3, loc="upper left")
        names, values = list(by_runs), list(by_runs.values())
        bars = axes[1].barh(range(len(names)), values, color=[TOO_OFTEN] * (len(names) - 1) + [AS_PROMISED], height=0.5)
        axes[1].bar_label(bars, fmt="%.0f %%", padding=3)
        axes[1].set(yticks=[], xlim=(0, 100), xlabel="false alarms (%)")
        for i, name in enumerate(names):
            axes[1].text(0, i - 0.42, name, fontsize=8)
        axes[1].set_title("the same method, trained again", fontsize=9)
        axes[0].axhline(5, color=GREY, lw=0.8)
        axes[1].axvline(5, color=GREY, lw=0.8)
    return figure
