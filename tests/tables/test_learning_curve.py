"""The learning curve: one claim for the whole table, and all numbers of labelled patients are one family of tests."""

import numpy as np
import pandas as pd
import pytest

from experiments.report.learning_curve import draw_learning_curve, learning_points
from experiments.report.palette import looks
from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.statistics.paired import compare_paired
from pixelglobal.tables.comparison import comparison_table
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


def test_points_are_the_average_of_the_tables(rows):
    curve = points_of(rows)
    assert list(curve) == [4, 8, 40]
    table, _ = curve[4]
    assert table.contributions("random", None).shape == (2, 12)
    assert table.contributions("random", None).mean(0)[3] == pytest.approx(100 * (0.5 + 0.03 + 0.05 + 0.01))
    one = rows[rows["labelled_patients"] == 4]
    printed = comparison_table(one, reference="full").frame
    assert learning_table(rows, reference="full", title="T").frame["4 patients"][0] == printed["Average"][0]


def test_gains_and_their_family(rows):
    table = learning_table(rows, reference="full", title="T")
    assert list(table.frame.columns) == ["method", "metric", "4 patients", "8 patients", "40 patients"]
    assert list(table.frame["metric"]) == ["DSC (%)", "full gains", "p", "DSC (%)"]
    by_hand = []
    for points, _ in points_of(rows).values():
        full, random = (points.contributions(method, None).mean(0) for method in ("full", "random"))
        by_hand.append(compare_paired(full, random, points.patients))
    corrected = correct_p_values([test.p_value for test in by_hand], "holm")
    for test, p, column in zip(by_hand, corrected, table.frame.columns[2:], strict=True):
        assert table.frame[column][1] == f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"
        star = "*" if p < 0.05 and test.difference > 0 else "†" if p < 0.05 else ""
        assert table.frame[column][2] == ("<0.001" if p < 0.001 else f"{p:.3f}") + star
    assert table.frame["4 patients"][2].endswith("*")
    assert "correction over the 3 comparisons" in " ".join(table.metric_card)
    assert "2 training runs" in table.metric_card[0]


def test_with_three_runs_the_claim_is_about_methods():
    """Each run gains or loses as a whole: sure over patients, nothing over runs."""
    rng = np.random.default_rng(0)
    luck = {0: 0.1, 1: -0.08, 2: 0.07}
    lines = [
        {"method": method, "seed": seed, "case": f"c{i}", "structure": "A", "labelled_patients": count,
         "dice": 0.6 + (luck[seed] if method == "full" else 0) + rng.normal(0, 0.01)}
        for count in (4, 8) for method in ("random", "full") for seed in luck for i in range(12)
    ]  # fmt: skip
    rows = pd.DataFrame(lines)
    table = learning_table(rows, reference="full", title="T")
    assert "claim is about the methods" in table.caption
    assert (table.comparisons["p_value"] > 0.3).all()
    assert not table.comparisons["confirmed"].any()
    checkpoints = learning_table(rows, reference="full", title="T", claim="checkpoint")
    assert checkpoints.comparisons["confirmed"].all()
    two = learning_table(rows[(rows["labelled_patients"] == 4) | (rows["seed"] < 2)], reference="full", title="T")
    assert "claim is about these checkpoints" in two.caption


def test_absent_scores_of_one_number_are_refused(rows):
    gone = (rows["method"] == "full") & (rows["labelled_patients"] == 8) & (rows["patient"] == "p3")
    with pytest.raises(ValueError, match=r"4 scores are absent .*case c3"):
        learning_table(rows[~gone], reference="full", title="T")
    zero = learning_table(rows[~gone], reference="full", title="T", missing="zero")
    assert "full 4" in " ".join(zero.metric_card)


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
    points = learning_points(rows, ["random", "full"])
    axis = draw_learning_curve(points, looks(["random", "full"]), width_cm=8.5).axes[0]
    lines = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert [line.get_label() for line in lines] == ["Random initialisation", "Pixel-global (ours)"]
    assert np.allclose(lines[0].get_xdata(), [4, 8, 40], rtol=0.05)  # dodged
    dots = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in dots) == 2 * 3 * 2  # methods, numbers, runs
