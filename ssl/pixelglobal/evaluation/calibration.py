"""Whether probabilities mean what they say, and whether errors lie where a model is unsure.

Both are measured within the box around the reference and the predicted structures of a scan (Mehrtash et al. 2020,
https://doi.org/10.1109/TMI.2020.3006437): outside of it everything is background, certain and right, and would make any
model look calibrated.

Shape letters: Z slices of a scan, S side of a square image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from pixelglobal.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15
MOST_UNCERTAIN = 0.1  # share of the voxels that are deleted


@dataclass(frozen=True)
class Reliability:
    """Voxels in bins of equal width of the probability of their label: how many, and how many are right."""

    count: np.ndarray  # int64 [BINS]
    confidence_sum: np.ndarray  # float64 [BINS]
    right: np.ndarray  # int64 [BINS]

    @staticmethod
    def of(confidence: np.ndarray, right: np.ndarray) -> Reliability:
        """From the probabilities of the predicted labels and whether each is right, of any equal shapes.

        >>> r = Reliability.of(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, False]))
        >>> round(r.expected_calibration_error, 6)  # 0.4 too sure of two voxels, 0.1 of the two others
        0.25
        """
        values = confidence.ravel().astype(np.float64)
        bins = np.minimum((values * BINS).astype(int), BINS - 1)
        return Reliability(
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, values, BINS),
            np.bincount(bins[right.ravel()], minlength=BINS),
        )

    def __add__(self, other: Reliability) -> Reliability:
        """The voxels of both."""
        sums = (a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        return Reliability(*sums)

    @property
    def expected_calibration_error(self) -> float:
        """The mean over voxels of |probability - share that is right| of their bin; NaN without voxels."""
        n = self.count.sum()
        return float(np.abs(self.confidence_sum - self.right).sum() / n) if n else float("nan")


def write_reliability(path: Path, reliability: Reliability) -> Path:
    """Write bins as CSV: range of the probability, voxels, the sum of their probabilities, how many are right."""
    edges = np.arange(BINS + 1) / BINS
    frame = pd.DataFrame({"probability_from": edges[:-1], "probability_to": edges[1:], **vars(reliability)})
    return write_file(path, frame.to_csv(index=False))


def read_reliability(path: Path) -> Reliability:
    """Bins that `write_reliability` has written."""
    frame = pd.read_csv(path)
    return Reliability(*(frame[name].to_numpy() for name in Reliability.__dataclass_fields__))


def error_covered(uncertainty: np.ndarray, wrong: np.ndarray) -> float:
    """The share of all wrong voxels that is among the most uncertain tenth; 0.1 for an uncertainty that knows nothing.

    Voxels of equal uncertainty are taken in part, so that order never decides. NaN where nothing is wrong.

    >>> error_covered(np.arange(20.0), np.arange(20) >= 17)  # the two most uncertain of 20; three are wrong
    0.6666666666666666
    """
    values, errors = uncertainty.ravel().astype(np.float64), wrong.ravel()
    n_wrong, n = np.count_nonzero(errors), round(MOST_UNCERTAIN * errors.size)
    if not n_wrong or not n:
        return float("nan")
    limit = np.partition(values, -n)[-n]
    above, at = values > limit, values == limit
    part = (n - np.count_nonzero(above)) / np.count_nonzero(at)
    return float((np.count_nonzero(errors & above) + part * np.count_nonzero(errors & at)) / n_wrong)


def box_of(predicted: np.ndarray, reference: np.ndarray) -> tuple[slice, ...] | None:
    """The box [Z, S, S] around every structure of both; None if neither has any."""
    boxes = find_objects(((predicted > 0) | (reference > 0)).astype(np.uint8))
    return boxes[0] if boxes else None


def calibration_of(
    predicted: np.ndarray, reference: np.ndarray, confidence: np.ndarray, uncertainty: np.ndarray, known: np.ndarray
) -> tuple[dict[str, float], Reliability]:
    """The measures of one scan, and its bins, from stored slices [Z, S, S].

    confidence: the probability of each predicted label; uncertainty: of the dropout passes; known: where the label is
    known, that is everywhere but in what was predicted as a structure that nobody contoured.
    """
    box = box_of(predicted, reference)
    if box is None:
        nothing = Reliability.of(np.zeros(0), np.zeros(0, bool))
        return {"expected_calibration_error": float("nan")}, nothing
    inside = known[box]
    wrong = (predicted[box] != reference[box])[inside]
    sure, unsure = confidence[box][inside], uncertainty[box][inside]
    reliability = Reliability.of(sure, ~wrong)
    measures = {
        "expected_calibration_error": reliability.expected_calibration_error,
        "voxel_accuracy": float(1 - wrong.mean()) if wrong.size else float("nan"),
        "mean_confidence": float(sure.mean(dtype=np.float64)) if wrong.size else float("nan"),
        "error_in_least_confident_tenth": error_covered(1 - sure.astype(np.float64), wrong),
        "error_in_most_uncertain_tenth": error_covered(unsure, wrong),
    }
    return measures, reliability


def reliability_figure(reliability: Reliability) -> Figure:
    """The share of right voxels over the probability of their label; on the diagonal, they are equal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = figure.subplots()
    filled = reliability.count > 0
    count = reliability.count[filled]
    x, y = reliability.confidence_sum[filled] / count, reliability.right[filled] / count
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    axis.plot(x, y, color="#0072B2", linewidth=1.5)
    axis.scatter(x, y, s=10 + 90 * count / count.max() if len(count) else None, color="#0072B2")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability of the label", ylabel="share that is right")
    error = reliability.expected_calibration_error
    axis.set_title(f"Expected calibration error {100 * error:.1f} %", fontsize=10)
    return figure
