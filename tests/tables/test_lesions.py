"""The table of lesions: ratios of sums, with intervals over patients."""

import pandas as pd
import pytest

from pixelglobal.tables.lesions import lesion_table
from pixelglobal.tables.significance import significance_tables


@pytest.fixture
def rows():
    """Six patients with two lesions each; `full` finds all, `random` finds one and sees one that is not there."""
    return pd.DataFrame(
        {"method": method, "case": f"c{i}", "structure": "Tumour", "dice": 0.5 + 0.01 * i, "n_lesions": 2,
         "n_findings": 2, "n_lesions_found": found, "lesion_dice": 0.7}
        for method, found in (("random", 1), ("full", 2)) for i in range(6)
    )  # fmt: skip


def test_found_false_and_drawn(rows):
    table = lesion_table(rows, title="T")
    lines = table.frame.set_index("method")
    assert lines.loc["full", "sensitivity (%)"] == "100.00 [100.00, 100.00]"
    assert lines.loc["random", "sensitivity (%)"] == "50.00 [50.00, 50.00]"
    assert lines.loc["random", "false findings a scan"] == "1.00 [1.00, 1.00]"
    assert lines.loc["full", "DSC of found (%)"] == "70.00 [70.00, 70.00]"
    assert table.metric_card[0] == "6 patients, 6 scans, 12 lesions"


def test_patients_and_not_lesions_are_drawn_again(rows):
    rows.loc[(rows["case"] == "c0") & (rows["method"] == "random"), ["n_lesions_found", "lesion_dice"]] = [0, None]
    rows.loc[(rows["case"] == "c1") & (rows["method"] == "random"), "n_lesions_found"] = 2
    cell = lesion_table(rows, title="T").frame.set_index("method").loc["random", "sensitivity (%)"]
    low, high = (float(end) for end in cell.split("[")[1].rstrip("]").split(", "))
    assert cell.startswith("50.00 [")
    assert low < 40
    assert high > 60
    one = rows[rows["case"] == "c1"].assign(n_lesions_found=0, lesion_dice=None)
    assert lesion_table(one, title="T").frame["sensitivity (%)"].tolist() == ["0.00", "0.00"]
    assert lesion_table(one, title="T").frame["DSC of found (%)"].tolist() == ["n/a", "n/a"]


def test_it_stands_below_the_comparison_where_lesions_are_counted(rows):
    assert [t.title for t in significance_tables(rows, reference="full")] == ["Significance", "Significance, lesions"]
    assert lesion_table(rows.drop(columns="n_lesions"), title="T") is None
    assert len(significance_tables(rows.drop(columns="n_lesions"), reference="full")) == 1
