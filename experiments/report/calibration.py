"""Whether each method's probabilities mean what they say, and whether its errors are where it is unsure.

Read from what every evaluation measures (`pixelglobal.evaluation.calibration`); runs of older versions have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

from experiments.report.figures import SINGLE_CM, house_style
from experiments.report.page import Picture
from experiments.report.palette import Look
from experiments.runner.pipeline import Pipeline
from pixelglobal.evaluation.calibration import BINS, MOST_UNCERTAIN, Reliability, read_reliability
from pixelglobal.tables.table import Table

MEASURES = {
    "expected_calibration_error": "calibration error",
    "overconfidence": "probability minus accuracy",
    "error_in_most_uncertain_tenth": "error in the most uncertain tenth",
    "error_in_least_confident_tenth": "error in the least confident tenth",
}
CARD = (
    "Test patients, within the box around the reference and the predicted structures of each; in per cent, mean over "
    "patients and runs, in brackets the 95 % t interval over runs, from 3 runs on",
    f"Calibration error: the expected one, over {BINS} bins of the probability of the predicted label; 0 is best",
    f"Error in a tenth: the share of all wrong voxels that is among the {MOST_UNCERTAIN:.0%} of voxels of which the "
    "model is least sure, by dropout passes or by its probability; 10 % would be chance",
)


def calibration_tables(pipelines: Sequence[Pipeline], title: str) -> list[Table]:
    """One table of the finished runs of a cohort; none if no run has measured it."""
    measured = [
        pd.read_csv(path).assign(method=pipeline.run.method, seed=pipeline.run.config.seed)
        for pipeline in pipelines
        if (path := pipeline.rows.with_name("calibration.csv")).is_file()
    ]
    if not measured:
        return []
    scans = pd.concat(measured, ignore_index=True)
    if "voxel_accuracy" not in scans:  # nothing was found or contoured anywhere
        return []
    scans["overconfidence"] = scans["mean_confidence"] - scans["voxel_accuracy"]
    patients = scans.groupby(["method", "seed", "patient"], sort=False)[list(MEASURES)].mean()
    runs = 100 * patients.groupby(["method", "seed"], sort=False).mean()
    lines = []
    for method, of_method in runs.groupby("method", sort=False):
        cells = {words: _cell(of_method[name].dropna().to_numpy(float)) for name, words in MEASURES.items()}
        lines.append({"method": method, "runs": str(len(of_method)), **cells})
    caption = "Calibration of the fine-tuned networks. A method may segment as well as another and be less calibrated."
    return [Table(title, caption, CARD, pd.DataFrame(lines), runs.reset_index(), frozenset())]


def calibration_pictures(pipelines: Sequence[Pipeline], methods: Mapping[str, Look]) -> list[Picture]:
    """The reliability of each method over all its runs in one figure; none if no run has measured it."""
    of_method: dict[str, list[Reliability]] = {}
    for pipeline in pipelines:
        if (path := pipeline.rows.with_name("reliability.csv")).is_file():
            of_method.setdefault(pipeline.run.method, []).append(read_reliability(path))
    if not of_method:
        return []
    together = {method: reduce(add, parts) for method, parts in of_method.items()}
    with house_style():
        figure, axis = plt.subplots(figsize=(SINGLE_CM / 2.54 + 0.9, SINGLE_CM / 2.54 + 0.4), layout="constrained")
        axis.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
        for method, look in methods.items():
            if method in together:
                filled = together[method].count > 0
                n = together[method].count[filled]
                x, y = together[method].confidence_sum[filled] / n, together[method].right[filled] / n
                axis.plot(x, y, color=look.color, ls=look.line_style, marker=look.marker, ms=4, lw=1, label=look.words)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the label", ylabel="share that is right")
        axis.legend(fontsize=7)
    caption = (
        "Reliability: among voxels whose label has some probability, the share that is right, over all runs of each "
        "method. Below the dashed line a method is surer than it should be."
    )
    errors = {m: r.expected_calibration_error for m, r in together.items()}
    alt = "Calibration error: " + ", ".join(f"{methods[m].words} {100 * e:.1f} %" for m, e in errors.items()) + "."
    return [Picture("calibration", "Calibration", caption, figure, alt)]


def _cell(values: np.ndarray) -> str:
    if not len(values):
        return "unknown"
    if len(values) < 3:
        return f"{values.mean():.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.1f} ({values.mean() - half:.1f} to {values.mean() + half:.1f})"
