"""What a table does not answer: margins and planning for the claim that the table makes, and published means."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pixelglobal.cli import main
from pixelglobal.statistics.margins import methods_with_margin
from pixelglobal.statistics.mrmc import compare_methods
from pixelglobal.tables.from_means import claims_from_means
from pixelglobal.tables.significance import further_answers, significance_tables

LUCK = {0: 0.06, 1: -0.05, 2: 0.04}


@pytest.fixture(scope="module")
def rows():
    """Runs of `full` gain or lose as a whole: sure over patients, nothing over runs."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"method": method, "seed": seed, "case": f"c{i}", "structure": "A",
         "dice": 0.6 + (LUCK[seed] if method == "full" else 0) + rng.normal(0, 0.01)}
        for method in ("random", "full") for seed in LUCK for i in range(12)
    )  # fmt: skip


def contrast_of(rows):
    names = {"methods": rows["method"].tolist(), "runs": rows["seed"].tolist(), "patients": rows["case"].tolist()}
    return compare_methods(100 * rows["dice"].to_numpy(), **names, reference="full")[0]


def p_not_worse(sentence):
    return float(re.search(r"p = ([\d.]+); nor", sentence)[1])


def test_a_margin_is_about_the_claim_of_the_table(rows):
    [methods] = further_answers(rows, reference="full", margin=1)
    [checkpoints] = further_answers(rows, reference="full", margin=1, claim="checkpoint")
    assert "3 runs and 12 patients, a claim about the methods" in methods
    assert "12 patients, a claim about these checkpoints" in checkpoints
    assert p_not_worse(methods) > 0.1
    assert p_not_worse(checkpoints) < 0.001
    contrast = contrast_of(rows)
    assert p_not_worse(methods) == pytest.approx(methods_with_margin(contrast, margin=1).p_not_worse, abs=5e-5)


def test_a_margin_of_methods_is_two_one_sided_tests(rows):
    contrast = contrast_of(rows)
    result = methods_with_margin(contrast, margin=2)
    error = (contrast.high - contrast.low) / 2 / stats.t.ppf(0.975, contrast.df)
    assert result.p_not_worse == pytest.approx(stats.t.sf((contrast.difference + 2) / error, contrast.df))
    assert result.p_not_better == pytest.approx(stats.t.cdf((contrast.difference - 2) / error, contrast.df))
    assert contrast.low < result.low < result.high < contrast.high
    with pytest.raises(ValueError, match="margin=0: name the largest loss"):
        methods_with_margin(contrast, margin=0)


def test_a_gain_asks_for_runs_of_methods_and_patients_of_checkpoints(rows):
    [methods] = further_answers(rows, reference="full", gain=5)
    [checkpoints] = further_answers(rows, reference="full", gain=5, claim="checkpoint")
    assert re.search(r"\d+ runs a method show a gain of 5 DSC points .* on 12 patients", methods)
    assert re.search(r"\d+ test patients show a gain of 5 DSC points", checkpoints)


def test_an_unreachable_gain_never_costs_the_tables(rows, tmp_path, monkeypatch, capsys):
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = ["significance", "--rows", tmp_path / "rows.csv", "--reference", "full", "--gain", "0.001"]
    monkeypatch.setattr(sys, "argv", ["pixelglobal", *map(str, words), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "full against random: even 500 runs" in printed
    assert (tmp_path / "out" / "table_1.md").is_file()


def test_rows_of_a_learning_curve_give_a_learning_table(rows):
    both = pd.concat([rows.assign(labelled_patients=n) for n in (4, 8)])
    [table] = significance_tables(both, reference="full", claim=None, test="sign_flip")
    assert list(table.frame.columns) == ["method", "metric", "4 patients", "8 patients"]


def test_published_means_tell_how_likely_a_false_claim_is(tmp_path):
    """Claims Reloaded, arXiv 2505.04720: t_{n-1} of sqrt(n) (a - b) / sd of the difference."""
    file = tmp_path / "means.csv"
    pd.DataFrame({"method": ["ours", "theirs"], "mean": [85.0, 84.0], "sd": [6.0, 6.0], "n": [50, 50]}).to_csv(file)
    [sentence] = claims_from_means(file, correlation=0.5)
    expected = stats.t.cdf(-np.sqrt(50) * 1 / 6, 49)
    assert sentence.startswith("ours is better than theirs (dice 85 against 84, 50 patients)")
    assert f"{expected:.1%} with a correlation of 0.5" in sentence
    [several] = claims_from_means(file)
    assert "with a correlation of 0," in several
    assert "with a correlation of 0.9;" in several
    with_distance = pd.read_csv(file).assign(metric="hausdorff")
    with_distance.to_csv(file)
    assert next(claims_from_means(file)).startswith("theirs is better than ours")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"method": ["a"], "mean": [1]}, r"means\.csv: the columns sd, n are missing"),
        (
            {"method": ["a"], "mean": ["x"], "sd": [1], "n": [5]},
            r"means\.csv, row 1: expected a name and three numbers",
        ),
        (
            {"method": ["a", "b"], "mean": 1, "sd": 1, "n": 5},
            r"means\.csv: reference='c' is not among the methods a, b",
        ),
    ],
)
def test_published_means_that_cannot_be_read(tmp_path, table, message):
    pd.DataFrame(table).to_csv(tmp_path / "means.csv", index=False)
    with pytest.raises(ValueError, match=message):
        list(claims_from_means(tmp_path / "means.csv", reference="c"))


def test_without_rows_the_command_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pixelglobal", "significance"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "needs --rows FILE and --reference METHOD, or --from-means FILE" in capsys.readouterr().out
