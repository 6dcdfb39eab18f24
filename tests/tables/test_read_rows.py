"""Rows from files: every error names its file, and files complete each other."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.tables.read_rows import read_rows
from pixelglobal.tables.rows import complete_rows


def four_columns(folder, name="rows.csv", **columns):
    rows = {"method": ["a", "b"], "case": ["007", "008"], "structure": "Liver", "dice": [0.5, 0.6], **columns}
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"method": "a", "case": "007"}, r"rows\.csv: 1 rows stand twice, the first: method=a, seed=0, case=007"),
        (
            {"method": ["a", "b"], "case": "1", "patient": ["P", "Q"]},
            r"rows\.csv: patient is said to be P and Q for case=1",
        ),
        (
            {"case": "1", "contoured": ["true", "false"]},
            r"rows\.csv: contoured is said to be True and False for case=1",
        ),
        ({"case": "1", "n_reference": [10, 11]}, r"rows\.csv: n_reference is said to be 10 and 11 for case=1"),
        ({"hausdorff_mm": [1.0, -2.0]}, r"rows\.csv, row 2: hausdorff_mm is -2.0; expected 0 or more"),
        ({"surface_dice": [0.5, 60.0]}, r"rows\.csv, row 2: surface_dice is 60.0; expected 0 to 1, not percent"),
        ({"seed": [0, np.inf]}, r"rows\.csv, row 2: seed is inf; expected a whole number"),
        ({"structure": ["Liver", "   "]}, r"rows\.csv, row 2: structure is    ; expected a name in every row"),
        ({"fold": ["1", None]}, r"rows\.csv, row 2: fold is nan; expected a name in every row"),
    ],
)
def test_what_cannot_be_right_is_named_with_its_file(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        read_rows([four_columns(tmp_path, **columns)])


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(ValueError, match=r"rows\.csv: cannot be read as CSV"):
        read_rows([tmp_path / "rows.csv"])
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"rows\.xlsx: cannot be read as Parquet \(the ending is not \.csv\)"):
        read_rows([tmp_path / "rows.xlsx"])
    (tmp_path / "head.csv").write_text("method,case,structure,dice\n")
    with pytest.raises(ValueError, match=r"head\.csv: there is no row"):
        read_rows([tmp_path / "head.csv"])


def test_rows_that_two_files_share_are_named_with_both(tmp_path):
    files = [four_columns(tmp_path, name) for name in ("one.csv", "two.csv")]
    with pytest.raises(ValueError, match=r"one\.csv and .*two\.csv: 2 rows stand twice"):
        read_rows(files)


def test_percent_is_asked_and_never_guessed(tmp_path):
    file = four_columns(tmp_path, dice=[50.0, 0.6], surface_dice=[70.0, 80.0])
    rows = read_rows([file], percent=True)
    assert rows["dice"].tolist() == [0.5, 0.006]
    assert rows["surface_dice"].tolist() == [0.7, 0.8]
    with pytest.raises(ValueError, match=r"dice is 50\.0; expected 0 to 1, not percent unless you say so"):
        read_rows([file])
    with pytest.raises(ValueError, match=r"dice is 120\.0; expected 0 to 100"):
        read_rows([four_columns(tmp_path, dice=[120.0, 1.0])], percent=True)


def test_completing_twice_changes_nothing(tmp_path):
    rows = read_rows([four_columns(tmp_path, contoured=["1", "0"], fold=[0, 1])])
    pd.testing.assert_frame_equal(complete_rows(rows), rows)


def test_cohorts_may_have_cases_of_the_same_name(tmp_path):
    rows = read_rows([four_columns(tmp_path, method="a", case="1", cohort=["X", "Y"], patient=["P", "Q"])])
    assert rows["patient"].tolist() == ["P", "Q"]
