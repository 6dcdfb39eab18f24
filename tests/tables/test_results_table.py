"""The compact table: its numbers are those of the other tables, bold is never a miss, copies have every number."""

import io

import numpy as np
import pandas as pd
import pytest

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.results_table import results_table
from tests.support import rows_of, wave


@pytest.fixture(scope="module")
def rows():
    scores = {
        "random": lambda seed, i, s: 0.60 + wave(i) + 0.001 * seed,
        "full": lambda seed, i, s: 0.66 + wave(i + 3) + 0.002 * seed,
    }
    return rows_of(scores, seeds=(0, 1, 2))


def test_a_cell_has_the_mean_gain_and_p_of_the_other_table(rows):
    table = results_table(rows, reference="full")
    frame = comparison_table(rows, reference="full").frame.set_index(["metric"])
    cell = table.cells["random"]["Average"]
    assert table.columns == ("Average", "A", "B")
    assert f"{cell.mean:.2f}" == frame.loc["DSC (%)", "Average"].iloc[0]
    assert cell.gain == frame.loc["full gains", "Average"]
    assert cell.p == frame.loc["p", "Average"]
    assert table.cells["full"]["Average"].gain == ""


def test_the_spread_is_over_patients_of_their_means_over_runs(rows):
    means = rows[(rows["method"] == "random") & (rows["slice_index"] == -1)].groupby("patient")["dice"].mean() * 100
    assert results_table(rows, reference="full").cells["random"]["A"].sd == pytest.approx(means.std())


def test_bold_is_never_a_miss():
    """The smallest distance holds a missed structure, so nothing is bold; a column of missed structures has no best."""
    rows = rows_of({"random": lambda seed, i, s: 0.0 if s == "B" else 0.5 + wave(i),
                    "full": lambda seed, i, s: 0.0 if s == "B" or i == 0 else 0.9 + wave(i)})  # fmt: skip
    rows["diagonal_mm"] = 5.0  # a miss costs less than some distance
    distances = results_table(rows, reference="full", metric="hausdorff")
    assert distances.cells["full"]["A"].failed == "1 missed"
    assert not distances.cells["full"]["A"].best
    assert not any(cells["B"].best for cells in results_table(rows, reference="full").cells.values())
    assert results_table(rows, reference="full").cells["full"]["A"].best


def test_copies_have_every_number(rows):
    table = results_table(rows, reference="full", words={"random": "Random_50 %", "full": "Ours"})
    tidy = pd.read_csv(io.StringIO(table.to_csv()))
    assert len(tidy) == 2 * 3
    line = tidy[(tidy["method"] == "random") & (tidy["structure"] == "Average")].iloc[0]
    assert np.isclose(line["mean"], table.cells["random"]["Average"].mean)
    assert {"sd", "difference", "low", "high", "p_value", "corrected_p", "n_runs", "n_patients"} <= set(tidy.columns)
    latex = table.to_latex()
    assert r"\usepackage{booktabs,siunitx" in latex
    assert r"\label{tab:results-dice}" in latex
    assert r"Random\_50 \% & \num{" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    assert "| Ours | **" in table.to_markdown()
