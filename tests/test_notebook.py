"""The notebook of the tutorial runs from top to bottom, as a new user would run it."""

import ast
import json

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.support import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "tutorial" / "first-model.ipynb").read_text())


def cells(kind):
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def shown_by(source, variables):
    """Run a cell, and return what a notebook shows below it: the value of its last line."""
    *before, last = ast.parse(source).body
    exec(compile(ast.Module([*before, *([] if isinstance(last, ast.Expr) else [last])], []), "cell", "exec"), variables)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), variables) if isinstance(last, ast.Expr) else None


def test_the_notebook_can_be_read_in_ten_minutes_and_keeps_no_outputs():
    assert len(" ".join(cells("markdown")).split()) < 600
    assert sum(len(source.splitlines()) for source in cells("code")) < 60
    assert not any(cell.get("outputs") for cell in NOTEBOOK["cells"])


@pytest.mark.slow
def test_the_cells_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    variables = {}
    shown = [shown_by(source, variables) for source in cells("code")]
    assert sum(isinstance(value, Figure) for value in shown) == 1
    assert variables["labels"].shape == variables["uncertainty"].shape
    assert isinstance(variables["rows"], pd.DataFrame)
    assert variables["certificate"].difference <= 1e-5
