"""The paper's numbers: they add up where they should, the one that does not is flagged, and ours stand beside them."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.tables.paper import beside_paper, claims, paper_table, paper_value, tables

TABLES = ("1a", "1b", "1c", "2a", "2b", "2c")


@pytest.mark.parametrize("name", TABLES)
def test_every_average_is_the_mean_of_its_structures(name):
    table = paper_table(name)
    structures = table.drop(columns="Avg")
    assert not structures.isna().any().any()
    # The paper's values are rounded to 0.01, so a mean of them can be off by one unit in its last place.
    assert table["Avg"].to_numpy() == pytest.approx(structures.mean(axis=1).to_numpy(), abs=0.0101)


def test_the_tables_have_the_paper_s_shape():
    assert paper_table("1a").shape == (8, 3)
    assert list(paper_table("1c").columns) == ["BS", "CM", "MD", "LO", "RO", "LS", "RS", "LP", "RP", "Avg"]
    assert list(paper_table("2b").index) == [("Random", "DSC"), ("Random", "HD_mm"), ("Ours", "DSC"), ("Ours", "HD_mm")]
    assert sum(len(paper_table(t).columns) - 1 for t in ("1a", "1b", "1c")) == 16
    assert set(tables()["table"]) == set(TABLES)


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(ValueError, match=r"the paper has no table '3': choose one of 1a, 1b, 1c, 2a"):
        paper_table("3")


def test_one_cell_or_none():
    assert paper_value("KiTS", "Random", "DSC", "Avg") == 71.72
    assert paper_value("HeadNeck", "Ours", "DSC", "Avg") == 62.93
    assert paper_value("HeadNeck", "Ours", "DSC", "Avg", table="2") == 58.98
    assert paper_value("KiTS", "GL", "DSC", "Avg", table="2") is None
    assert paper_value("KiTS", "Ours", "DSC", "Liver") is None


@pytest.mark.parametrize("row", [r for r in claims().itertuples() if str(r.claim_id).startswith(("T1_", "T2_"))])
def test_relative_gains_recompute_from_the_tables(row):
    """All gains of the text follow from its tables, but for 7.24 %, which is a slip of one digit."""
    metric = "DSC" if "DSC" in row.claim_id else "HD_mm"
    random, ours = (paper_value(row.dataset, p, metric, "Avg", row.claim_id[1]) for p in ("Random", "Ours"))
    gain = 100 * abs(ours - random) / random
    assert gain == pytest.approx(float(row.recomputed), abs=0.001)
    agrees = abs(gain - float(row.stated)) < 0.01
    assert row.status == ("match" if agrees else "MISMATCH")
    assert agrees != (float(row.stated) == 7.24)


def rows_of(values, structures, missed=()):
    """values: {method: Dice}; two patients, one run; distances 10 mm, a missed structure is infinitely far."""
    return pd.DataFrame(
        {"method": method, "seed": 0, "case": p, "patient": p, "slice_index": -1, "structure": s, "contoured": True,
         "dice": 0.0 if (method, s) in missed else dice, "hausdorff_mm": np.inf if (method, s) in missed else 10.0,
         "diagonal_mm": 500.0}
        for method, dice in values.items() for p in ("a", "b") for s in structures
    )  # fmt: skip


def line(table, method, metric):
    frame = table.frame.assign(method=table.frame["method"].replace("", np.nan).ffill())
    return frame[(frame["method"] == method) & (frame["metric"] == metric)].iloc[0]


def test_our_values_stand_above_the_paper_s_with_the_difference():
    table = beside_paper(rows_of({"random": 0.7, "full": 0.8}, ["kidney", "tumor"]), cohort="KiTS19")
    assert table.title == "Beside the paper's Table 1, KiTS"
    assert line(table, "full", "DSC (%), this study")["tumor"] == "80.00"
    assert line(table, "full", "DSC (%), paper")["tumor"] == "72.57"
    assert line(table, "full", "DSC, difference")["tumor"] == "+7.43"
    assert line(table, "full", "DSC (%), paper")["Average"] == "82.43"
    assert line(table, "random", "HD, difference")["kidney"] == "-20.94"
    assert "full minus random: +10.00 points here, +10.71 in the paper: the same direction" in table.metric_card[0]
    assert "7794 test slices" in " ".join(table.metric_card)
    for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
        assert "72.57" in text


def test_a_loss_where_the_paper_gains_is_said():
    table = beside_paper(rows_of({"random": 0.8, "full": 0.7}, ["kidney", "tumor"]), cohort="KiTS")
    assert "-10.00 points here, +10.71 in the paper: not the direction of the paper's" in table.metric_card[0]


def test_a_miss_costs_the_diagonal_and_other_methods_have_no_line():
    rows = rows_of({"full": 0.8, "gpc": 0.9}, ["Left_Parotid", "Brainstem"], missed={("full", "Brainstem")})
    table = beside_paper(rows, cohort="Head-Neck")
    assert line(table, "full", "HD (mm), this study")["Brainstem"] == "500.00"
    assert set(table.frame["method"]) == {"full", ""}


def test_averages_are_over_the_shared_structures():
    table = beside_paper(rows_of({"full": 0.9}, ["Bladder", "Rectum", "Bowel"]), cohort="pelvic")
    assert list(table.frame.columns) == ["method", "metric", "Bladder", "Rectum", "Average"]
    assert line(table, "full", "DSC (%), paper")["Average"] == f"{(95.01 + 81.63) / 2:.2f}"
    assert "PRT, LF, RF" in " ".join(table.metric_card)


def test_table_2_carries_the_slip_of_the_text():
    rows = rows_of({"random": 0.5, "full": 0.6, "pgl": 0.6}, ["BS", "CM"])
    table = beside_paper(rows, cohort="HeadNeck", table="2")
    card = " ".join(table.metric_card)
    assert "7.24" in card
    assert "5.453" in card
    assert "pgl" not in set(table.frame["method"])
    assert "7.24" not in " ".join(beside_paper(rows, cohort="HeadNeck").metric_card)


def test_other_cohorts_have_no_paper():
    rows = rows_of({"full": 0.9}, ["Bladder"])
    assert beside_paper(rows, cohort="Phantom") is None
    assert beside_paper(rows, cohort="OpenKBP head-and-neck OAR") is None
    assert beside_paper(rows, cohort="KiTS") is None
    assert beside_paper(rows_of({"gpc": 0.9}, ["Bladder"]), cohort="Pelvic") is None
