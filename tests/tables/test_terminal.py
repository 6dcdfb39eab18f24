"""Tables in a terminal: at every usual width each word is there in full, and no line is wider than the terminal."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.table import Table
from pixelglobal.tables.terminal import for_terminal
from tests.support import rows_of, wave


@pytest.fixture(scope="module")
def table():
    structures = ("LeftParotidGland", "RightParotidGland", "Brainstem", "Mandible", "Larynx")
    scores = {
        method: lambda seed, i, s, gain=gain: 0.0 if (i == 3 and s == "Larynx") else 0.6 + gain + wave(i + gain)
        for method, gain in (("random", 0.0), ("gl", 0.05), ("pgl", 0.1), ("full", 0.2))
    }
    return comparison_table(rows_of(scores, structures=structures), reference="full")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_cut_off(table, width):
    console = Console(width=width, record=True, force_terminal=False)
    console.print(for_terminal(table, width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "…" not in text
    words = {word for row in table.frame.to_numpy() for cell in row for word in str(cell).split()}
    assert [word for word in words | set(table.frame.columns[2:]) if word not in text] == []


def test_a_wide_terminal_has_the_shape_of_the_paper(table):
    console = Console(width=200, record=True, force_terminal=False)
    console.print(for_terminal(table, 200))
    lines = console.export_text().splitlines()
    header = next(line for line in lines if "metric" in line)
    places = [header.index(name) for name in ("LeftParotidGland", "Brainstem", "Larynx", "Average")]
    assert np.all(np.diff(places) > 0)


def test_a_narrow_table_that_is_not_of_structures_keeps_its_cells_in_one_line():
    columns = ["method", "over", "gain", "95 % interval", "corrected p", "runs", "patients"]
    line = ["full_matched", "random (primary)", "+1.81", "-1.53 to +5.15", "0.183", "12 from 4 pre-trainings", "24"]
    table = Table("What is tested", "", (), pd.DataFrame([line], columns=columns), pd.DataFrame(), frozenset())
    console = Console(width=60, record=True, force_terminal=False)
    console.print(for_terminal(table, 60))
    lines = [one.split() for one in console.export_text().splitlines() if one.strip()]
    assert ["95", "%", "interval", "-1.53", "to", "+5.15"] in lines
    assert ["over", "random", "(primary)"] in lines
    assert not any("structure" in one for one in lines)
