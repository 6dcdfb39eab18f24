"""The learning curve: patients are the units, and all numbers of labelled patients are one family of tests."""

import numpy as np
import pandas as pd
import pytest

from experiments.report.learning_curve import draw_learning_curve
from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.paired import compare_paired
from pixelglobal.tables.learning_curve import learning_table, points_of

pytestmark = pytest.mark.usefixtures("figures_closed")
GAINS = {4: 0.08, 8: 0.02, 40: 0.0}


@pytest.fixture(scope="module")
def rows():
    """12 patients, two structures, two runs; full gains GAINS on the mean over patients."""
    chance = np.random.default_rng(0)
    lines = []
    for count, gain in GAINS.items():
        for patient in range(12):
            own = gain + chance.normal(0, 0.03)
            for structure in ("A", "B"):
                for seed in (0, 1):
                    level = 0.5 + 0.01 * patient + (0.1 if structure == "A" else 0) + 0.02 * seed
                    for method, dice in (("random", level), ("full", level + own)):
                        lines.append({"method": method, "seed": seed, "case": f"c{patient}", "patient": f"p{patient}",
                                      "structure": structure, "slice_index": -1, "contoured": True, "dice": dice,
                                      "hausdorff_mm": 5.0, "labelled_patients": count})  # fmt: skip
    return pd.DataFrame(lines)


def test_points_are_means_over_runs_and_structures_of_each_patient(rows):
    points = points_of(rows)
    assert list(points) == [4, 8, 40]
    assert points[4].loc["p3", "random"] == pytest.approx(100 * (0.5 + 0.03 + 0.05 + 0.01))
    assert points[4].shape == (12, 2)


def test_gains_and_their_family(rows):
    table = learning_table(rows, reference="full", title="T")
    assert list(table.frame.columns) == ["method", "metric", "4 patients", "8 patients", "40 patients"]
    assert list(table.frame["metric"]) == ["DSC (%)", "full gains", "p, patients", "DSC (%)"]
    by_hand = []
    for points in points_of(rows).values():
        by_hand.append(compare_paired(points["full"], points["random"], points.index))
    corrected = correct_p_values([test.p_value for test in by_hand], "holm")
    for test, p, column in zip(by_hand, corrected, table.frame.columns[2:], strict=True):
        assert table.frame[column][1] == f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"
        star = "*" if p < 0.05 and test.difference > 0 else "†" if p < 0.05 else ""
        assert table.frame[column][2] == ("<0.001" if p < 0.001 else f"{p:.3f}") + star
    assert table.frame["4 patients"][2].endswith("*")
    assert "correction over the 3 comparisons" in " ".join(table.metric_card)
    assert "2 training runs" in table.metric_card[0]


def test_a_number_that_one_method_lacks_is_left_empty(rows):
    part = rows[(rows["method"] == "full") | (rows["labelled_patients"] == 4)]
    table = learning_table(part, reference="full", title="T")
    assert list(table.frame["8 patients"]) == ["", "", "", table.frame["8 patients"][3]]
    assert len(table.comparisons) == 1


def test_one_test_patient_is_shown_and_not_tested(rows):
    table = learning_table(rows[rows["patient"] == "p0"], reference="full", title="T")
    assert list(table.frame["metric"]) == ["DSC (%)", "DSC (%)"]
    assert not len(table.comparisons)


def test_the_figure_shows_a_line_a_method_and_every_run(rows):
    axis = draw_learning_curve(rows, ["random", "full"]).axes[0]
    lines = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert [line.get_label() for line in lines] == ["random", "full"]
    assert list(lines[0].get_xdata()) == [4, 8, 40]
    assert sum(len(line.get_xdata()) == 1 for line in axis.lines) == 2 * 3 * 2  # methods, numbers, runs
    assert len(axis.collections) == 2  # an interval a method
