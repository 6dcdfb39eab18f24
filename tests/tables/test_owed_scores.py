"""Scores that every method owes: what is absent is found, and treated alike for all."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.owed_scores import owed_scores
from pixelglobal.tables.rows import complete_rows
from tests.support import rows_of, wave

BETTER = {"random": lambda seed, i, s: 0.6 + wave(i), "full": lambda seed, i, s: 0.8 + wave(3 * i + seed)}
METHODS = ["random", "full"]


def average(table, method):
    frame = table.frame.assign(method=table.frame["method"].replace("", np.nan).ffill())
    return float(frame[(frame["method"] == method) & (frame["metric"] == "DSC (%)")]["Average"].iloc[0])


def without(rows, method, patients):
    return rows[(rows["method"] != method) | ~rows["patient"].isin(patients)]


def slices_of(rows):
    return owed_scores(complete_rows(rows), METHODS).slices


@pytest.mark.parametrize("unit", ["patient", "slice", "both"])
def test_absent_scans_are_refused_with_their_names(unit):
    rows = without(rows_of(BETTER), "full", ["p2", "p5"])
    with pytest.raises(
        ValueError, match=r"4 scores are absent .*\(full 4\): method full, seed 0, case c2, structure A"
    ):
        comparison_table(rows, reference="full", unit=unit)


@pytest.mark.parametrize("unit", ["patient", "slice"])
def test_leaving_out_scans_can_never_help(unit):
    """Half of the patients of a method are gone: counted as failures, its mean is half."""
    rows = rows_of({**BETTER, "full": lambda seed, i, s: 0.8})
    table = comparison_table(
        without(rows, "full", ["p0", "p1", "p2", "p3"]), reference="full", unit=unit, missing="zero"
    )
    assert average(table, "full") == pytest.approx(40)
    assert "Absent scores count as failures (DSC 0, infinite HD): full 8" in table.metric_card


@pytest.mark.parametrize("unit", ["patient", "slice"])
def test_patients_that_one_method_lacks_are_left_out_for_all(unit):
    rows = rows_of({"random": lambda seed, i, s: 0.3 if i < 3 else 0.7, "full": lambda seed, i, s: 0.8})
    worst = ["p0", "p1", "p2"]
    table = comparison_table(without(rows, "random", worst), reference="full", unit=unit, missing="drop-patient")
    expected = comparison_table(rows[~rows["patient"].isin(worst)], reference="full", unit=unit)
    assert average(table, "random") == average(expected, "random") == 70
    assert (table.comparisons["n_patients"] == 5).all()
    assert "Absent scores: random 6; for all methods these patients are left out: p0, p1, p2" in table.metric_card
    few = without(without(rows, "random", [f"p{i}" for i in range(1, 8)]), "full", ["p0"])
    with pytest.raises(ValueError, match="no patient would be left"):
        comparison_table(few, reference="full", unit=unit, missing="drop-patient")


@pytest.mark.parametrize("unit", ["patient", "slice"])
def test_a_run_whose_scores_are_all_unknown_is_not_perfect(unit):
    rows = rows_of(BETTER, seeds=(0, 1))
    crashed = (rows["method"] == "full") & (rows["seed"] == 1) & (rows["case"] == "c3")
    rows.loc[crashed, ["dice", "hausdorff_mm"]] = np.nan
    with pytest.raises(ValueError, match=r"2 scores are absent .*method full, seed 1, case c3"):
        comparison_table(rows, reference="full", unit=unit)


def test_a_file_that_was_cut_off_in_a_scan_is_noticed():
    """The scan has rows, but none of a slice in which another method shows the structure to be there."""
    rows = rows_of(BETTER, slices=4)
    gone = (rows["method"] == "full") & (rows["case"] == "c3") & (rows["slice_index"] == 2) & (rows["structure"] == "A")
    with pytest.raises(ValueError, match=r"1 scores are absent .*case c3, structure A"):
        comparison_table(rows[~gone], reference="full", unit="slice")
    zero = comparison_table(rows[~gone], reference="full", unit="slice", missing="zero")
    assert average(zero, "full") < average(comparison_table(rows, reference="full", unit="slice"), "full")


def test_seeds_that_are_folds_are_asked_for_as_folds():
    rows = rows_of(BETTER)
    rows["seed"] = rows["patient"].str[1:].astype(int) % 4
    with pytest.raises(ValueError, match="give them as column fold"):
        comparison_table(rows, reference="full")
    folds = rows.assign(fold=rows["seed"], seed=0)
    assert average(comparison_table(folds, reference="full"), "full") == average(
        comparison_table(rows_of(BETTER), reference="full"), "full"
    )


def test_a_false_alarm_does_not_drop_the_pair_in_which_the_other_was_right():
    rows = rows_of(BETTER)
    # A slice without the structure: the method `random` sees something there, `full` rightly nothing.
    ghost = rows[(rows["method"] == "random") & (rows["slice_index"] == 0) & (rows["structure"] == "A")].copy()
    ghost["slice_index"], ghost["dice"], ghost["hausdorff_mm"] = 7, 0.0, np.inf
    fixed = slices_of(pd.concat([rows, ghost]))
    there = fixed[(fixed["slice_index"] == 7) & (fixed["structure"] == "A")].set_index("method")["dice"]
    assert (there["full"] == 1).all()
    assert (there["random"] == 0).all()
    assert (fixed.groupby("method").size() == len(fixed) // 2).all()


def test_a_structure_that_a_patient_does_not_have_cannot_be_missed():
    """Both raise one false alarm, in different slices: each is right in the other's slice."""
    rows = rows_of(BETTER, slices=4).assign(n_reference=10)
    absent = (rows["patient"] == "p0") & (rows["structure"] == "A")
    ghosts = rows[absent & (((rows["method"] == "random") & (rows["slice_index"] == 1))
                            | ((rows["method"] == "full") & (rows["slice_index"] == 2)))]  # fmt: skip
    whole = rows[absent & (rows["slice_index"] == -1)]
    ghosts = pd.concat([ghosts, whole]).assign(dice=0.0, hausdorff_mm=np.inf, n_reference=0)
    fixed = slices_of(pd.concat([rows[~absent], ghosts]))
    scores = fixed[(fixed["patient"] == "p0") & (fixed["structure"] == "A")].set_index(["method", "slice_index"])[
        "dice"
    ]
    assert scores.to_dict() == {("random", 1): 0, ("random", 2): 1, ("full", 1): 1, ("full", 2): 0}


def test_only_a_row_that_says_so_is_right_where_the_reference_is_empty():
    """One method raises a false alarm there; the other is right if its row says that it found nothing, else absent."""
    rows = rows_of(BETTER, slices=0).assign(n_reference=10, n_predicted=10)
    there = (rows["patient"] == "p0") & (rows["structure"] == "A")
    full = there & (rows["method"] == "full")
    rows.loc[there, ["n_reference", "dice", "hausdorff_mm"]] = [0, 0.0, np.inf]
    rows.loc[full, ["n_predicted", "dice", "hausdorff_mm"]] = [0, np.nan, np.nan]
    volumes = owed_scores(complete_rows(rows), METHODS, with_slices=False).volumes
    scores = volumes[(volumes["patient"] == "p0") & (volumes["structure"] == "A")].set_index("method")
    assert scores["dice"].to_dict() == {"random": 0.0, "full": 1.0}
    assert scores.loc["full", "hausdorff_mm"] == 0
    with pytest.raises(ValueError, match=r"1 scores are absent .*method full, seed 0, case c0, structure A"):
        owed_scores(complete_rows(rows[~full]), METHODS, with_slices=False)


def test_what_nobody_has_is_not_applicable():
    rows = rows_of(BETTER)
    rows.loc[(rows["patient"] == "p0") & (rows["structure"] == "A"), ["dice", "hausdorff_mm"]] = np.nan
    owed = owed_scores(complete_rows(rows), METHODS)
    assert owed.not_applicable == 1
    assert len(owed.volumes) == 2 * (16 - 1)
    assert not len(owed.absent)
