"""Predictions from elsewhere: folders in, rows and nnU-Net's summary out, then tables; every wrong input is named."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pixelglobal.cli import main
from pixelglobal.cluster.map import map_on_ray
from pixelglobal.data.volumes import read_labels, write_labels
from pixelglobal.evaluation.metrics import dice, hausdorff_mm
from pixelglobal.evaluation.score import pairs_of, score_pair, score_pairs, structures_of
from pixelglobal.tables.read_rows import read_rows

AFFINE = np.diag([0.8, 0.8, 3.0, 1.0])
SPACING = (3.0, 0.8, 0.8)


@pytest.fixture
def folders(tmp_path):
    """Six cases of two structures; the predictions of `b` are worse, and miss B in case 0; case 5 has no B at all."""
    rng = np.random.default_rng(0)
    for name in ("references", "a", "b"):
        (tmp_path / name).mkdir()
    for case in range(6):
        labels = np.zeros((4, 20, 22), np.uint8)
        labels[1:3, 4:12, 4:12] = 1
        labels[1:3, 12:18, 14:20] = 2 if case != 5 else 0
        write_labels(tmp_path / "references" / f"c{case}.nii.gz", labels, AFFINE)
        for name, noise in (("a", 0.03), ("b", 0.2)):
            predicted = np.where(rng.random(labels.shape) < noise, 0, labels)
            if name == "b" and case == 0:
                predicted[predicted == 2] = 0
            write_labels(tmp_path / name / f"c{case}.nii.gz", predicted, AFFINE)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "A": 1, "B": 2}}))
    return tmp_path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["pixelglobal", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def score(monkeypatch, folders, method, *more):
    words = [
        "--predictions",
        folders / method,
        "--references",
        folders / "references",
        "--out",
        folders / "out" / method,
    ]
    return run(monkeypatch, "score", *words, "--method", method, *more)


def test_from_two_folders_to_a_significance_table(folders, monkeypatch, capsys):
    assert score(monkeypatch, folders, "a") == 0
    assert score(monkeypatch, folders, "b") == 0
    assert "B: mean DSC" in capsys.readouterr().out
    files = [folders / "out" / method / "rows.parquet" for method in "ab"]
    words = ["significance", "--rows", files[0], "--rows", files[1], "--reference", "a", "--gain", "2", "--margin", "1"]
    assert run(monkeypatch, *words, "--out", folders / "tables") == 0
    printed = capsys.readouterr().out
    assert "test patients show a gain of 2 DSC points" in " ".join(printed.split())
    assert "not worse by 1 or more: p = 0.0" in " ".join(printed.split())
    names = {p.name for p in (folders / "tables").iterdir()}
    assert names == {f"table_1.{end}" for end in ("md", "tex", "csv", "html", "comparisons.csv")}
    table = pd.read_csv(folders / "tables" / "table_1.comparisons.csv").set_index("structure")
    assert table.loc["B", "n_units"] == 5  # in the sixth neither has it
    assert (table["difference"] > 0).all()


def test_rows_and_summary_hold_the_metrics_of_the_masks(folders, monkeypatch):
    score(monkeypatch, folders, "b")
    rows = pd.read_parquet(folders / "out/b/rows.parquet").set_index(["case", "structure", "slice_index"])
    summary = json.loads((folders / "out/b/summary.json").read_text())
    for case in summary["metric_per_case"]:
        files = [Path(case[f"{kind}_file"]) for kind in ("prediction", "reference")]
        name = files[0].name.removesuffix(".nii.gz")
        predicted, reference = (read_labels(file)[0] for file in files)
        for label, structure in (("1", "A"), ("2", "B")):
            p, r = predicted == int(label), reference == int(label)
            found = case["metrics"][label]
            np.testing.assert_equal(found["Dice"], dice(p, r))
            np.testing.assert_equal(rows.loc[(name, structure, -1), "dice"], dice(p, r))
            expected = hausdorff_mm(p, r, SPACING)  # NIfTI keeps spacing as float32
            assert found["HD_mm"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
            counts = [int((p & r).sum()), int((p & ~r).sum()), int((~p & r).sum()), int((~p & ~r).sum())]
            assert [found[k] for k in ("TP", "FP", "FN", "TN")] == counts
    per_label = [np.nanmean([c["metrics"][k]["Dice"] for c in summary["metric_per_case"]]) for k in ("1", "2")]
    assert [summary["mean"][k]["Dice"] for k in ("1", "2")] == pytest.approx(per_label)
    assert summary["foreground_mean"]["Dice"] == pytest.approx(np.mean(per_label))


def test_an_empty_reference_is_absent_or_was_not_contoured(folders):
    pair = pairs_of(folders / "a", folders / "references")[5]
    predicted = np.zeros((4, 20, 22), np.uint8)
    predicted[0, 0, 0] = 2
    write_labels(pair.prediction, predicted, AFFINE)

    def last_row(empty_is_absent):
        return score_pair(pair, ["A", "B"], 3.0, empty_is_absent).rows[-1]

    assert (last_row(True)["dice"], last_row(True)["contoured"]) == (0.0, True)
    assert np.isnan(last_row(False)["dice"])
    assert last_row(False)["contoured"] is False


def test_several_scans_of_a_patient_folds_and_a_tolerance_for_each_structure(folders, monkeypatch, capsys):
    people = pd.DataFrame({"case": [f"c{i}" for i in range(6)], "patient": ["p0", "p0", "p1", "p1", "p2", "p2"]})
    people.to_csv(folders / "patients.csv", index=False)
    more = ["--patients", folders / "patients.csv", "--fold", "3", "--tolerance-mm", "A=1,B=2.5"]
    assert score(monkeypatch, folders, "b", *more) == 0
    rows = pd.read_parquet(folders / "out/b/rows.parquet")
    assert rows.groupby("patient")["case"].nunique().to_dict() == {"p0": 2, "p1": 2, "p2": 2}
    assert set(rows["fold"]) == {"3"}
    assert rows.groupby("structure")["surface_tolerance_mm"].unique().map(list).to_dict() == {"A": [1.0], "B": [2.5]}
    people.iloc[:4].to_csv(folders / "patients.csv", index=False)
    assert score(monkeypatch, folders, "b", *more) == 2
    assert "there is no patient for the cases c4, c5" in " ".join(capsys.readouterr().out.split())
    assert score(monkeypatch, folders, "b", "--tolerance-mm", "A=1") == 2
    assert "the tolerance of the surface Dice has no value for B" in " ".join(capsys.readouterr().out.split())
    assert score(monkeypatch, folders, "b", "--tolerance-mm", "thick") == 2
    assert "a tolerance of 'thick': expected a number of mm" in capsys.readouterr().err


@pytest.mark.cluster
def test_cases_on_ray_score_as_here(ray_on_two_cpus, folders):
    pairs = pairs_of(folders / "b", folders / "references")
    here, there = (list(score_pairs(pairs, ["A", "B"], map_pairs=how)) for how in (map, map_on_ray))
    by_case = {s.pair.case: s.rows for s in there}
    np.testing.assert_equal(by_case, {s.pair.case: s.rows for s in here})


def test_structures_come_from_a_list_or_a_description(folders, tmp_path):
    assert structures_of("Liver, Spleen", folders) == ("Liver", "Spleen")
    assert structures_of(None, folders / "references") == ("A", "B")
    assert structures_of(str(folders / "dataset.json"), tmp_path) == ("A", "B")
    (folders / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"no names for the labels: looked for .*references.dataset\.json"):
        structures_of(None, folders / "references")


def test_wrong_folders_and_files_are_named(folders, monkeypatch, capsys):
    assert score(monkeypatch, folders, "nowhere") == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().out
    (folders / "a" / "c3.nii.gz").unlink()
    assert score(monkeypatch, folders, "a") == 2
    assert "without a prediction: c3" in capsys.readouterr().out
    write_labels(folders / "b" / "c2.nii.gz", np.zeros((4, 20, 21), np.uint8), AFFINE)
    assert score(monkeypatch, folders, "b") == 2
    assert "expected the same grid" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"rows\.csv: there is no such file"):
        read_rows([folders / "rows.csv"])


def test_rows_of_four_columns_in_a_csv_are_enough(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    scores = {"ours": 0.8, "theirs": 0.7}
    rows = [(m, f"c{i}", "Liver", s + rng.normal(0, 0.02)) for m, s in scores.items() for i in range(12)]
    pd.DataFrame(rows, columns=["method", "case", "structure", "dice"]).to_csv(tmp_path / "rows.csv", index=False)
    words = ["significance", "--rows", tmp_path / "rows.csv", "--reference", "ours"]
    assert run(monkeypatch, *words) == 0
    assert "<0.001*" in capsys.readouterr().out
    assert run(monkeypatch, *words, "--unit", "both") == 2
    assert "there are no rows of slices" in capsys.readouterr().out


def test_two_cohorts_with_cases_of_the_same_name_stay_apart(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    gains = {"A": 0.1, "B": -0.1}
    rows = [
        (cohort, method, f"c{i}", "Liver", 0.7 + (gain if method == "ours" else 0) + rng.normal(0, 0.02))
        for cohort, gain in gains.items() for method in ("ours", "theirs") for i in range(12)
    ]  # fmt: skip
    pd.DataFrame(rows, columns=["cohort", "method", "case", "structure", "dice"]).to_csv(tmp_path / "r.csv")
    words = ["significance", "--rows", tmp_path / "r.csv", "--reference", "ours", "--margin", "1"]
    assert run(monkeypatch, *words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "<0.001*" in printed
    assert "<0.001†" in printed
    assert "A: ours against theirs: +" in printed
    assert "B: ours against theirs: -" in printed


def four_columns(tmp_path, name, **columns):
    rows = {"method": ["a", "b"], "case": ["007", "008"], "structure": "Liver", "dice": [0.5, 0.6], **columns}
    pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    return tmp_path / name


def test_files_that_say_different_things_are_completed_one_by_one(tmp_path):
    plain = four_columns(tmp_path, "plain.csv")
    full = four_columns(tmp_path, "full.csv", seed=[3, 4], patient=["P1", "P2"], contoured=["True", "false"])
    rows = read_rows([plain, full])
    assert rows["case"].tolist() == ["007", "008", "007", "008"]
    assert rows["patient"].tolist() == ["P1", "P2", "P1", "P2"]
    assert rows["seed"].tolist() == [0, 0, 3, 4]
    assert rows["contoured"].tolist() == [True, False, True, False]
    assert (rows["slice_index"] == -1).all()
    rows.to_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(read_rows([tmp_path / "rows.parquet"]), rows)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"dice": ["0.5", "n/k"]}, "row 2: dice is n/k; expected a number"),
        ({"dice": [0.5, 85.3]}, "row 2: dice is 85.3; expected 0 to 1, not percent"),
        ({"seed": [0, None]}, "row 2: seed is nan; expected a whole number in every row"),
        ({"contoured": ["yes", "no"]}, "row 1: contoured is yes; expected true or false"),
        ({"method": [None, "b"]}, "row 1: method is nan; expected a name"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_row_and_column(tmp_path, columns, message):
    with pytest.raises(ValueError, match="rows.csv, " + re.escape(message)):
        read_rows([four_columns(tmp_path, "rows.csv", **columns)])


def test_a_file_without_cohort_beside_one_with_is_refused(tmp_path):
    files = [four_columns(tmp_path, "a.csv", cohort="A"), four_columns(tmp_path, "b.csv")]
    with pytest.raises(ValueError, match=r"a\.csv names its cohort and .*b\.csv does not"):
        read_rows(files)
