"""Tables: the paper's shape, stars only where they are earned, and no method helped by what it missed."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.statistics.false_claims import probability_of_false_claim
from pixelglobal.statistics.mrmc import compare_methods
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.paper import claims, paper_value, tables
from tests.support import rows_of, wave

BETTER = {"random": lambda seed, i, s: 0.6 + wave(i), "full": lambda seed, i, s: 0.8 + wave(3 * i + seed)}


def cell(table, method, metric, column):
    frame = table.frame.assign(method=table.frame["method"].replace("", np.nan).ffill())
    return frame[(frame["method"] == method) & (frame["metric"] == metric)][column].item()


def test_the_shape_and_the_means():
    table = comparison_table(rows_of(BETTER), reference="full", unit="both")
    assert list(table.frame.columns) == ["method", "metric", "A", "B", "Average"]
    assert [m for m in table.frame["method"] if m] == ["random", "full"]
    lines = ["DSC (%)", "HD (mm)", "full gains, patients", "p, patients", "full gains, slices", "p, slices"]
    assert list(table.frame["metric"]) == [*lines, "DSC (%)", "HD (mm)"]
    expected = 100 * np.mean([0.8 + wave(3 * i) for i in range(8)])
    assert float(cell(table, "full", "DSC (%)", "Average")) == pytest.approx(expected, abs=0.005)


def test_a_star_is_a_gain_and_a_dagger_a_loss():
    better = comparison_table(rows_of(BETTER), reference="full")
    worse = comparison_table(rows_of(BETTER), reference="random")
    equal = comparison_table(rows_of({**BETTER, "full": BETTER["random"]}), reference="full")
    assert cell(better, "random", "p", "A").endswith("*")
    assert cell(worse, "full", "p", "A").endswith("†")
    assert cell(equal, "random", "p", "Average") == "1.000"
    assert cell(equal, "random", "p", "A") == "(1.000)"


def test_every_gain_has_its_interval_beside_its_p():
    table = comparison_table(rows_of(BETTER), reference="full")
    tests = table.comparisons.set_index("structure")
    for structure in ("A", "B", "Average"):
        test = tests.loc[structure]
        assert test["low"] < test["difference"] < test["high"]
        printed = f"{test['difference']:+.2f} [{test['low']:+.2f}, {test['high']:+.2f}]"
        assert cell(table, "random", "full gains", structure) == printed
        for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
            assert printed in text


def test_a_missed_structure_counts_as_the_diagonal_and_is_counted():
    missing = {**BETTER, "full": lambda seed, i, s: 0.0 if (i == 3 and s == "A") else 0.8}
    table = comparison_table(rows_of(missing), reference="full")
    assert cell(table, "full", "HD (mm)", "A") == f"{(7 * 2.0 + 500) / 8:.2f} (1 missed)"
    assert any("full: 1 missed" in line for line in table.metric_card)
    both = comparison_table(rows_of({**missing, "random": missing["full"]}), reference="full")
    assert cell(both, "full", "HD (mm)", "A").endswith("(1 infinite)")  # no row says whether the reference has it


def test_a_miss_without_a_penalty_leaves_no_mean_distance():
    """Four misses and no diagonal: a mean over the others would be the best of all."""
    missing = {**BETTER, "full": lambda seed, i, s: 0.0 if i < 4 and s == "A" else 0.8}
    rows = rows_of(missing).assign(n_reference=10).drop(columns="diagonal_mm")
    table = comparison_table(rows, reference="full")
    assert cell(table, "full", "HD (mm)", "A") == "n/a (4 missed)"
    assert cell(table, "full", "HD (mm)", "Average") == "n/a (4 missed)"
    assert cell(table, "full", "HD (mm)", "B") == "2.00"
    assert not {(row, column) for row, column in table.best if column == "A" and row == len(table.frame) - 1}
    partly = rows_of(missing).assign(n_reference=10)
    partly.loc[(partly["patient"] == "p0"), "diagonal_mm"] = np.nan
    assert cell(comparison_table(partly, reference="full"), "full", "HD (mm)", "A") == "n/a (4 missed)"


def test_a_false_alarm_is_called_one():
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.0 if i == 3 and s == "A" else 0.8}).assign(n_reference=10)
    nothing = (rows["patient"] == "p3") & (rows["structure"] == "A")
    rows.loc[nothing, "n_reference"] = 0
    rows["n_predicted"] = np.where(nothing & (rows["method"] == "random"), 0, 10)
    rows.loc[nothing & (rows["method"] == "random"), ["dice", "hausdorff_mm"]] = np.nan
    table = comparison_table(rows, reference="full")
    assert cell(table, "full", "HD (mm)", "A").endswith("(1 false alarm)")
    right = [0.6 + wave(i) for i in range(8) if i != 3] + [1.0]
    assert float(cell(table, "random", "DSC (%)", "A")) == pytest.approx(100 * np.mean(right), abs=0.005)


def test_who_misses_a_structure_altogether_has_no_merit_where_another_sees_a_ghost():
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.0 if s == "A" else 0.8})
    ghost = rows[(rows["method"] == "random") & (rows["slice_index"] == 0) & (rows["structure"] == "A")]
    ghosts = [ghost.assign(slice_index=k, dice=0.0, hausdorff_mm=np.inf) for k in range(7, 30)]
    table = comparison_table(pd.concat([rows, *ghosts]), reference="full", unit="slice")
    assert float(cell(table, "full", "DSC (%)", "A")) == 0
    assert cell(table, "random", "p", "A").endswith("†")
    assert "nan" not in table.to_csv()


def test_what_was_not_contoured_is_in_no_number():
    rows = rows_of(BETTER)
    hidden = (rows["patient"] == "p0") & (rows["structure"] == "A")
    rows.loc[hidden, ["dice", "hausdorff_mm", "contoured"]] = [0.0, np.inf, False]
    table = comparison_table(rows, reference="full", unit="patient")
    assert float(cell(table, "full", "DSC (%)", "A")) > 78
    assert table.comparisons.set_index("structure").loc["A", "n_units"] == 7


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


def test_where_the_units_disagree_the_cell_says_so():
    """Three patients of very many slices: the slices are sure of what three patients cannot show."""
    rows = rows_of(BETTER, slices=40)
    rows = rows[rows["patient"].isin(["p0", "p1", "p2"])]
    table = comparison_table(rows, reference="full", unit="both")
    assert cell(table, "random", "p, patients", "Average") == "0.250"
    assert cell(table, "random", "p, slices", "Average") == "<0.001* ≠"
    assert any("'≠'" in line for line in table.metric_card)
    assert r"$\neq$" in table.to_latex()


def test_rows_from_elsewhere_need_only_four_columns():
    rows = rows_of(BETTER)
    rows = rows[rows["slice_index"] == -1][["method", "case", "structure", "dice"]]
    table = comparison_table(rows, reference="full")
    assert cell(table, "random", "p", "A").endswith("*")
    assert cell(table, "full", "HD (mm)", "A") == "n/a"


def test_a_structure_of_one_patient_is_shown_but_not_tested():
    rows = rows_of(BETTER)
    lonely = (rows["structure"] == "B") & (rows["patient"] != "p2")
    rows.loc[lonely, "contoured"] = False
    table = comparison_table(rows, reference="full", unit="both")
    assert cell(table, "random", "p, patients", "B") == cell(table, "random", "p, slices", "B") == "not tested"
    assert float(cell(table, "full", "DSC (%)", "B")) == pytest.approx(80 + 100 * wave(6), abs=0.005)
    nobody = rows.assign(contoured=rows["contoured"] & (rows["structure"] == "A"), structure=rows["structure"])
    assert list(comparison_table(nobody, reference="full").frame.columns) == ["method", "metric", "A", "Average"]


def test_the_average_is_printed_and_tested_as_one_number():
    """Structure B stands in 2 of 12 patients: the mean over patients gains, the mean over structures loses."""
    lines = []
    for i in range(12):
        for s in ("A", "B") if i < 2 else ("A",):
            for method, dice in (("random", 0.7), ("full", 0.73 + wave(i) / 4 if s == "A" else 0.62)):
                lines.append({"method": method, "case": f"c{i}", "patient": f"p{i}", "seed": 0, "slice_index": -1,
                              "structure": s, "dice": dice, "hausdorff_mm": 1.0})  # fmt: skip
    table = comparison_table(pd.DataFrame(lines), reference="full")
    average = table.comparisons.set_index("structure").loc["Average"]
    printed = [float(cell(table, m, "DSC (%)", "Average")) for m in ("full", "random")]
    assert average["difference"] == pytest.approx(printed[0] - printed[1], abs=0.011)
    assert average["difference"] < 0
    assert cell(table, "random", "full gains", "A").startswith("+")


def test_rows_that_cannot_be_right():
    rows = rows_of(BETTER)
    with pytest.raises(ValueError, match="reference='ours' is not among the methods full, random"):
        comparison_table(rows, reference="ours")
    with pytest.raises(ValueError, match="the columns dice are missing"):
        comparison_table(rows.drop(columns="dice"), reference="full")
    with pytest.raises(ValueError, match="16 rows stand twice, the first: method=random"):
        comparison_table(pd.concat([rows, rows[:16]]), reference="full")
    with pytest.raises(ValueError, match="methods=ours: there are no rows of them"):
        comparison_table(rows, reference="full", methods=["ours", "full"])
    with pytest.raises(ValueError, match="no rows of whole volumes"):
        comparison_table(rows[rows["slice_index"] >= 0], reference="full")
    with pytest.raises(ValueError, match="several numbers of labelled_patients"):
        comparison_table(rows.assign(labelled_patients=rows["seed"] + (rows["case"] == "c0")), reference="full")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claim": "methods"}, "claim='methods': expected checkpoint or method"),
        ({"unit": "case"}, "unit='case': expected patient, slice or both"),
        ({"metric": "iou"}, "metric='iou': expected dice, hausdorff, hausdorff95, surface_dice"),
        ({"missing": "ignore"}, "missing='ignore': expected refuse, zero or drop-patient"),
        ({"primary": ["full"]}, "primary=full: expected methods that full is compared with, random"),
        ({"family": "all"}, "family='all': expected holm or sequence"),
        ({"unit": "slice", "claim": "method"}, "slices are units of a claim about checkpoints only"),
    ],
)
def test_options_that_do_not_exist(options, message):
    with pytest.raises(ValueError, match=message):
        comparison_table(rows_of(BETTER), reference="full", **options)


def test_claims_about_methods_are_made_from_three_runs_on():
    two, three = rows_of(BETTER, seeds=(0, 1)), rows_of(BETTER, seeds=(0, 1, 2))
    with pytest.raises(ValueError, match="a claim about methods needs at least 3 runs"):
        comparison_table(two, reference="full", claim="method")
    assert set(comparison_table(two, reference="full").comparisons["unit"]) == {"patient"}
    table = comparison_table(three, reference="full")
    assert set(table.comparisons["unit"]) == {"run"}
    assert "claim is about the methods" in table.caption
    assert "3 training runs a method" in table.metric_card[0]
    checkpoints = comparison_table(three, reference="full", claim="checkpoint")
    assert "claim is about these checkpoints" in checkpoints.caption
    assert set(checkpoints.comparisons["unit"]) == {"patient"}


def test_a_claim_about_methods_is_the_multi_reader_analysis_of_the_printed_average():
    rng = np.random.default_rng(0)
    noise = {m: rng.normal(0, 0.02, (3, 8)) for m in ("random", "full")}
    rows = rows_of({m: lambda seed, i, s, m=m: 0.7 + noise[m][seed, i] for m in noise}, seeds=(0, 1, 2))
    [average] = comparison_table(rows, reference="full").comparisons.query("structure == 'Average'").to_dict("records")
    [expected] = compare_methods(
        np.concatenate([100 * (0.7 + noise[m]).ravel() for m in noise]),
        methods=np.repeat(list(noise), 24), runs=np.tile(np.repeat([0, 1, 2], 8), 2),
        patients=np.tile(np.arange(8), 6), reference="full",
    )  # fmt: skip
    assert (average["p_value"], average["low"], average["high"]) == pytest.approx(
        (expected.p_value, expected.low, expected.high)
    )


def test_runs_that_not_all_methods_have_are_left_out_of_test_and_mean():
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.8 + 0.1 * (seed > 2) + wave(3 * i + seed)}, seeds=range(5))
    rows = rows[(rows["method"] == "full") | (rows["seed"] < 3)]
    table = comparison_table(rows, reference="full")
    assert "Runs that not all methods share are left out: 2 of full" in table.metric_card
    assert float(cell(table, "full", "DSC (%)", "Average")) < 81
    assert (
        "training runs: random 3, full 5" in comparison_table(rows, reference="full", claim="checkpoint").metric_card[0]
    )


def test_folds_are_a_layout_of_their_own():
    rng = np.random.default_rng(1)
    rows = rows_of(
        {m: lambda seed, i, s, g=g: 0.7 + g + 0.01 * rng.normal() for m, g in (("random", 0), ("full", 0.1))}
    )
    rows["fold"] = rows["patient"].str[1:].astype(int) % 4
    table = comparison_table(rows, reference="full")
    assert set(table.comparisons["test"]) == {"mrmc folds"}
    assert "Nadeau and Bengio" in " ".join(table.metric_card)


@pytest.mark.parametrize(
    ("metric", "column", "better"),
    [("hausdorff", "hausdorff_mm", 4.0), ("hausdorff95", "hausdorff95_mm", 3.0), ("surface_dice", "surface_dice", 0.9)],
)
def test_any_metric_of_the_rows_is_printed_and_tested(metric, column, better):
    rows = rows_of(BETTER)
    worse = better - 0.3 if metric == "surface_dice" else better + 2
    jitter = rows["patient"].str[1:].astype(int) * 0.001
    rows[column] = np.where(rows["method"] == "full", better, worse) + jitter
    table = comparison_table(rows, reference="full", metric=metric)
    assert list(table.frame["metric"])[1:3] == ["full gains", "p"]
    assert cell(table, "random", "full gains", "A").startswith("+30.00" if metric == "surface_dice" else "+2.00")
    assert cell(table, "random", "p", "Average").endswith("*")
    assert {row for row, _ in table.best} == {len(table.frame) - 1}


def test_a_smaller_distance_is_a_gain_of_methods_too():
    rng = np.random.default_rng(0)
    rows = rows_of(BETTER, seeds=(0, 1, 2))
    rows["hausdorff95_mm"] = np.where(rows["method"] == "full", 3.0, 6.0) + 0.1 * rng.random(len(rows))
    table = comparison_table(rows, reference="full", metric="hausdorff95")
    assert set(table.comparisons["unit"]) == {"run"}
    assert (table.comparisons["difference"] > 2.8).all()
    assert cell(table, "random", "p", "Average").endswith("*")


def test_how_likely_a_better_is_false_is_said_for_each_claim():
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.6 + 0.01 * (s == "B") + wave(5 * i + seed)}, seeds=(0, 1, 2))
    for claim, share in (("method", "half of the uncorrected p"), ("checkpoint", "n patients")):
        table = comparison_table(rows, reference="full", claim=claim)
        [average] = table.comparisons.query("structure == 'Average'").to_dict("records")
        if claim == "method":
            assert average["false_claim"] == average["p_value"] / 2
        else:
            full, random = ([np.mean(v) for _, v in rows[(rows["method"] == m) & (rows["slice_index"] == -1)]
                             .groupby("patient")["dice"]] for m in ("full", "random"))  # fmt: skip
            assert average["false_claim"] == pytest.approx(probability_of_false_claim(full, random))
        [line] = [line for line in table.metric_card if "is false" in line]
        assert share in line
        assert f"full over random {100 * average['false_claim']:.1f} %" in line or "below 0.1 %" in line


def test_runs_of_other_seeds_are_compared_as_unshared():
    """Each method's luck with a seed is its own; taking them for pairs would find a gain where runs only vary."""
    luck = {("random", 0): 0.0, ("random", 1): 0.04, ("random", 2): 0.08, ("full", 3): 0.02, ("full", 4): 0.06,
            ("full", 5): 0.10}  # fmt: skip
    rows = pd.DataFrame(
        {"method": method, "seed": seed, "case": f"c{i}", "structure": "A", "dice": 0.6 + gain + 0.001 * (i % 3)}
        for (method, seed), gain in luck.items() for i in range(8)
    )  # fmt: skip
    table = comparison_table(rows, reference="full")
    assert (table.comparisons["n_runs"] == 3).all()
    assert (table.comparisons["p_value"] > 0.3).all()


def test_a_metric_that_the_rows_lack_is_not_tested():
    rows = rows_of(BETTER)
    with pytest.raises(ValueError, match="the rows have no surface_dice"):
        comparison_table(rows, reference="full", metric="surface_dice")


def test_surface_dice_of_several_tolerances_is_no_one_metric():
    rows = rows_of(BETTER).assign(surface_dice=0.5)
    rows["surface_tolerance_mm"] = np.where(rows["structure"] == "A", 2.0, 3.0)
    table = comparison_table(rows, reference="full", metric="surface_dice")
    assert "within a tolerance of the other (A 2, B 3 mm)" in " ".join(table.metric_card)
    rows.loc[rows["method"] == "full", "surface_tolerance_mm"] = 5.0
    with pytest.raises(ValueError, match=r"the surface Dice of A was computed with tolerances of 2\.0, 5\.0 mm"):
        comparison_table(rows, reference="full", metric="surface_dice")


def test_structures_called_like_columns_are_still_structures():
    rows = rows_of(BETTER, structures=("Average", "method"))
    table = comparison_table(rows, reference="full")
    assert list(table.frame.columns) == ["method", "metric", "Average (structure)", "method (structure)", "Average"]
    assert set(table.comparisons["structure"]) == {"Average (structure)", "method (structure)", "Average"}


def test_a_table_of_exploratory_contrasts_alone_claims_no_better_method():
    table = comparison_table(rows_of(BETTER), reference="full", primary=[])
    assert not any("Probability that 'better'" in line for line in table.metric_card)
    assert "(" in cell(table, "random", "p", "Average")
