"""Tables: the paper's shape, stars only where they are earned, and no method helped by what it missed."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.paper import claims, paper_value, tables
from pixelglobal.tables.rows import fixed_slices
from tests.support import rows_of, wave

BETTER = {"random": lambda seed, i, s: 0.6 + wave(i), "full": lambda seed, i, s: 0.8 + wave(3 * i + seed)}


def cell(table, method, metric, column):
    frame = table.frame.assign(method=table.frame["method"].replace("", np.nan).ffill())
    return frame[(frame["method"] == method) & (frame["metric"] == metric)][column].item()


def test_the_shape_and_the_means():
    table = comparison_table(rows_of(BETTER), reference="full")
    assert list(table.frame.columns) == ["method", "metric", "A", "B", "Average"]
    assert [m for m in table.frame["method"] if m] == ["random", "full"]
    assert list(table.frame["metric"]) == ["DSC (%)", "HD (mm)", "p, patients", "p, slices", "DSC (%)", "HD (mm)"]
    expected = 100 * np.mean([0.8 + wave(3 * i) for i in range(8)])
    assert float(cell(table, "full", "DSC (%)", "Average")) == pytest.approx(expected, abs=0.005)


def test_a_star_is_a_gain_and_a_dagger_a_loss():
    better = comparison_table(rows_of(BETTER), reference="full")
    worse = comparison_table(rows_of(BETTER), reference="random")
    equal = comparison_table(rows_of({**BETTER, "full": BETTER["random"]}), reference="full")
    assert cell(better, "random", "p, patients", "A").endswith("*")
    assert cell(worse, "full", "p, patients", "A").endswith("†")
    assert cell(equal, "random", "p, patients", "A") == "1.000"


def test_the_correction_is_over_the_whole_table():
    table = comparison_table(rows_of(BETTER), reference="full", unit="patient")
    assert (table.comparisons["p_value"] == 2 / 2**8).all()  # all 8 patients gain: the least that 8 can give
    np.testing.assert_allclose(table.comparisons["corrected_p"], 3 * 2 / 2**8)


def test_a_missed_structure_counts_as_the_diagonal_and_is_counted():
    missing = {**BETTER, "full": lambda seed, i, s: 0.0 if (i == 3 and s == "A") else 0.8}
    table = comparison_table(rows_of(missing), reference="full")
    text = cell(table, "full", "HD (mm)", "A")
    assert text == f"{(7 * 2.0 + 500) / 8:.2f} (1 missed)"
    assert any("1 missed" in line for line in table.metric_card)


def test_a_false_alarm_does_not_drop_the_pair_in_which_the_other_was_right():
    rows = rows_of(BETTER)
    # A slice without the structure: the method `random` sees something there, `full` rightly nothing.
    ghost = rows[(rows["method"] == "random") & (rows["slice_index"] == 0) & (rows["structure"] == "A")].copy()
    ghost["slice_index"], ghost["dice"], ghost["hausdorff_mm"] = 7, 0.0, np.inf
    fixed = fixed_slices(pd.concat([rows, ghost]), ["random", "full"])
    there = fixed[(fixed["slice_index"] == 7) & (fixed["structure"] == "A")].set_index("method")["dice"]
    assert (there["full"] == 1).all()
    assert (there["random"] == 0).all()
    assert (fixed.groupby("method").size() == len(fixed) // 2).all()


def test_who_misses_a_structure_altogether_has_no_merit_where_another_sees_a_ghost():
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.0 if s == "A" else 0.8})
    ghost = rows[(rows["method"] == "random") & (rows["slice_index"] == 0) & (rows["structure"] == "A")]
    ghosts = [ghost.assign(slice_index=k, dice=0.0, hausdorff_mm=np.inf) for k in range(7, 30)]
    table = comparison_table(pd.concat([rows, *ghosts]), reference="full", unit="slice")
    assert float(cell(table, "full", "DSC (%)", "A")) == 0
    assert cell(table, "random", "p", "A").endswith("†")
    assert "nan" not in table.to_csv()


def test_where_the_units_disagree_the_cell_says_so():
    """Three patients of very many slices: the slices are sure of what three patients cannot show."""
    rows = rows_of(BETTER, slices=40)
    rows = rows[rows["patient"].isin(["p0", "p1", "p2"])]
    table = comparison_table(rows, reference="full")
    assert cell(table, "random", "p, patients", "A") == "0.750"
    assert cell(table, "random", "p, slices", "A") == "<0.001* ≠"
    assert any("'≠'" in line for line in table.metric_card)
    assert r"$\neq$" in table.to_latex()


def test_rows_from_elsewhere_need_only_four_columns():
    rows = rows_of(BETTER)
    rows = rows[rows["slice_index"] == -1][["method", "case", "structure", "dice"]]
    table = comparison_table(rows, reference="full", unit="patient")
    assert cell(table, "random", "p", "A").endswith("*")
    assert cell(table, "full", "HD (mm)", "A") == "n/a"


def test_what_was_not_contoured_is_in_no_number():
    rows = rows_of(BETTER)
    hidden = (rows["patient"] == "p0") & (rows["structure"] == "A")
    rows.loc[hidden, ["dice", "hausdorff_mm", "contoured"]] = [0.0, np.inf, False]
    table = comparison_table(rows, reference="full", unit="patient")
    assert float(cell(table, "full", "DSC (%)", "A")) > 78
    assert table.comparisons.set_index("structure").loc["A", "n_units"] == 7


def test_a_structure_of_one_patient_is_shown_but_not_tested():
    rows = rows_of(BETTER)
    lonely = (rows["structure"] == "B") & (rows["patient"] != "p2")
    rows.loc[lonely, "contoured"] = False
    table = comparison_table(rows, reference="full")
    assert cell(table, "random", "p, patients", "B") == cell(table, "random", "p, slices", "B") == "not tested"
    assert float(cell(table, "full", "DSC (%)", "B")) == pytest.approx(80 + 100 * wave(6), abs=0.005)
    nobody = rows.assign(contoured=rows["contoured"] & (rows["structure"] == "A"), structure=rows["structure"])
    assert list(comparison_table(nobody, reference="full").frame.columns) == ["method", "metric", "A", "Average"]


def test_claims_about_methods_need_three_runs():
    two, three = rows_of(BETTER, seeds=(0, 1)), rows_of(BETTER, seeds=(0, 1, 2))
    with pytest.raises(ValueError, match="a claim about methods needs at least 3 runs"):
        comparison_table(two, reference="full", claim="method")
    table = comparison_table(three, reference="full", claim="method", unit="patient")
    assert set(table.comparisons["unit"]) == {"run"}
    assert "claim is about the methods" in table.caption


def test_rows_that_cannot_be_right():
    rows = rows_of(BETTER)
    with pytest.raises(ValueError, match="reference='ours' is not among the methods full, random"):
        comparison_table(rows, reference="ours")
    with pytest.raises(ValueError, match="lack the columns dice"):
        comparison_table(rows.drop(columns="dice"), reference="full")
    with pytest.raises(ValueError, match="16 rows stand twice, the first: method=random"):
        comparison_table(pd.concat([rows, rows[:16]]), reference="full")


def test_every_printed_form_holds_the_numbers_and_escapes_names():
    rows = rows_of(BETTER)
    rows["structure"] = rows["structure"].replace("A", "A_<b>&%")
    table = comparison_table(rows, reference="full")
    value = cell(table, "full", "DSC (%)", "Average")
    for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
        assert value in text
    assert "A_&lt;b&gt;&amp;%" in table.to_html()
    assert r"A\_$<$b$>$\&\%" in table.to_latex()
    assert r"\toprule" in table.to_latex()


def test_the_paper_s_averages_follow_from_its_structures():
    t = tables()
    t = t[t["metric"].isin(["DSC", "HD_mm"])]
    for _, group in t.groupby(["table", "dataset", "pretrain", "metric"]):
        values = group.set_index("structure")["value"]
        assert values["Avg"] == pytest.approx(values.drop("Avg").mean(), abs=0.0051)


def test_the_paper_s_own_slip_is_on_record():
    wrong = claims()[claims()["status"] == "MISMATCH"]
    assert (wrong["stated"].astype(str) == "7.24").any()
    assert paper_value("KiTS", "Ours", "DSC", "Tumor") == 72.57
    assert paper_value("KiTS", "Ours", "DSC", "Liver") is None


def test_the_mark_of_an_average_never_contradicts_the_printed_average():
    """Structure B stands in 2 of 12 patients: the mean over patients gains, the mean over structures loses."""
    lines = []
    for i in range(12):
        for s in ("A", "B") if i < 2 else ("A",):
            for method, dice in (("random", 0.7), ("full", 0.73 + wave(i) / 4 if s == "A" else 0.66)):
                lines.append({"method": method, "case": f"c{i}", "patient": f"p{i}", "seed": 0, "slice_index": -1,
                              "structure": s, "dice": dice, "hausdorff_mm": 1.0})  # fmt: skip
    table = comparison_table(pd.DataFrame(lines), reference="full", unit="patient")
    average = table.comparisons.set_index("structure").loc["Average"]
    assert average["difference"] > 0
    assert average["corrected_p"] < 0.05
    assert float(cell(table, "full", "DSC (%)", "Average")) < float(cell(table, "random", "DSC (%)", "Average"))
    assert cell(table, "random", "p", "Average")[-1].isdigit()
    assert cell(table, "random", "p", "A").endswith("*")


def test_the_card_says_where_too_few_patients_can_earn_no_mark():
    rows = rows_of(BETTER)
    few = rows[rows["patient"] < "p6"]  # six patients, three comparisons: 3 x 2 / 2^6
    table = comparison_table(few, reference="full", unit="patient")
    assert "no corrected p over patients can be below 0.094" in " ".join(table.metric_card)
    assert table.comparisons["corrected_p"].min() == pytest.approx(6 / 2**6)
    assert "no corrected p" not in " ".join(comparison_table(rows, reference="full").metric_card)


def test_a_structure_that_a_patient_does_not_have_cannot_be_missed():
    """Both raise one false alarm, in different slices: each is right in the other's slice."""
    rows = rows_of(BETTER, slices=4).assign(n_reference=10)
    absent = (rows["patient"] == "p0") & (rows["structure"] == "A")
    ghosts = rows[absent & (((rows["method"] == "random") & (rows["slice_index"] == 1))
                            | ((rows["method"] == "full") & (rows["slice_index"] == 2)))]  # fmt: skip
    ghosts = ghosts.assign(dice=0.0, hausdorff_mm=np.inf, n_reference=0)
    fixed = fixed_slices(pd.concat([rows[~absent], ghosts]), ["random", "full"])
    own = fixed[(fixed["patient"] == "p0") & (fixed["structure"] == "A")].set_index(["method", "slice_index"])["dice"]
    assert own.to_dict() == {("random", 1): 0, ("random", 2): 1, ("full", 1): 1, ("full", 2): 0}
