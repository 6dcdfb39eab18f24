"""How often ways of claiming that a method is better are wrong, and how often they see a gain: table and figure of
docs/explanation/significance.md, from the simulated rates of `python -m experiments bench method-claims`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.report.error_rates import AS_PROMISED, TOO_OFTEN
from experiments.report.figures import GREY, house_style

RATES = Path(__file__).resolve().parents[1] / "results" / "2026-11-28_bench_method_claims.json"
COMMITTED = "as the committed rows"  # the layout with the variances of the real runs
UNSHARED = "seeds not shared"
PATIENTS, RUNS = 24, (3, 5, 10)
ANALYSES = {  # as in the rates -> in the documents
    "MRMC, pooled over 4": "**MRMC, error of 4 methods**",
    "MRMC, pair": "**MRMC, error of the two methods**",
    "Welch over run means": "Welch's t over run means",
    "paired t by seed": "paired t over seeds",
    "bootstrap of runs and patients": "bootstrap of runs and patients (rliable)",
    "P(A > B)": "P(A > B) over seeds (Bouthillier et al. 2021)",
    "patients, seeds averaged": "patients, seeds averaged (a claim about checkpoints)",
}
FIRST_TWO = 2  # of these, the analyses of this project


def method_claims_table() -> str:
    """False alarms and power by analysis and number of runs, as Markdown."""
    rates = _rates()
    head = ["false alarms / gains of 2 points that are seen, %", *(f"{n} runs" for n in RUNS), "most false alarms"]
    lines = [head, ["---"] * len(head)]
    for analysis, words in ANALYSES.items():
        of_analysis = rates[rates["analysis"] == analysis]
        worst = of_analysis.loc[of_analysis["false_alarms"].idxmax()]
        most = f"{worst['false_alarms']:.0f} ({worst['layout']}, {worst['runs']} runs)"
        lines.append([words, *_cells(of_analysis, COMMITTED), most])
        if len(lines) == 3:
            lines.append([f"{words}, {UNSHARED}", *_cells(of_analysis, UNSHARED), ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(of_analysis: pd.DataFrame, layout: str) -> list[str]:
    rates = of_analysis[of_analysis["layout"] == layout].set_index("runs")
    return [f"{rates.loc[n, 'false_alarms']:.0f} / {rates.loc[n, 'power_2']:.0f}" for n in RUNS]


def draw_method_claims() -> Figure:
    """Left, false alarms in every layout and number of runs; right, how often a gain of 2 points is seen."""
    rates = _rates()
    names = [words.replace("*", "").split(" (")[0] for words in ANALYSES.values()]
    with house_style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
        for place, analysis in enumerate(ANALYSES):
            color = AS_PROMISED if place < FIRST_TWO else TOO_OFTEN
            of_analysis = rates[rates["analysis"] == analysis]
            axes[0].plot(of_analysis["false_alarms"], [place] * len(of_analysis), "o", color=color, alpha=0.45, ms=5)
            committed = of_analysis[of_analysis["layout"] == COMMITTED].set_index("runs")
            for count in RUNS:
                seen = committed.loc[count, "power_2"]
                axes[1].plot(seen, place, "o", color=color, ms=13, alpha=0.25 + 0.07 * count)
                axes[1].annotate(str(count), (seen, place), ha="center", va="center", fontsize=7)
        axes[0].axvline(5, color=GREY, lw=0.8)
        axes[0].set(yticks=range(len(names)), yticklabels=names, xlabel="claims without a difference (%)", xlim=(0, 65))
        axes[0].invert_yaxis()
        axes[0].tick_params(axis="y", labelsize=8)
        axes[0].set_title("six ways in which runs and patients vary", fontsize=9)
        axes[1].set(xlabel="true gains of 2 points that are claimed (%)", xlim=(0, 104))
        axes[1].set_title("with 3, 5 and 10 runs that vary as the real ones", fontsize=9)
    return figure


def _rates() -> pd.DataFrame:
    """The simulated rates with 24 patients, without those of cross-validations."""
    rates = pd.DataFrame(json.loads(RATES.read_text())["rows"])
    return rates[(rates["patients"] == PATIENTS) & rates["runs"].isin(RUNS)]
