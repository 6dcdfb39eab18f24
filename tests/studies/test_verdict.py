"""Verdicts: each state is reached from rows alone, says why, and how many more runs would decide it."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.report.contrast_table import contrast_table
from experiments.studies import STUDIES
from experiments.studies.verdict import Contrast, GainRule, compare_contrasts
from pixelglobal.statistics.dunnett import dunnett_p_value
from pixelglobal.statistics.mrmc import compare_methods
from pixelglobal.statistics.planning import SpreadOfMethods, contrast_power
from tests.support import rows_of, wave


def rows(gains, seeds=(0, 1, 2), spread=0.3):
    """Rows of 8 patients and 2 structures; gains: {method: DSC points over 60 %}, spread: of every score, in points."""
    rng = np.random.default_rng(0)

    def dice(gain):
        return lambda seed, patient, structure: 0.6 + wave(patient) + (gain + rng.normal(0, spread)) / 100

    return rows_of({method: dice(gain) for method, gain in gains.items()}, seeds=seeds, slices=0)


def comparison(gain, **more):
    return STUDIES["comparison"].verdict(rows({"random": 0, "full": gain}, **more))


def test_a_gain_that_is_shown_is_reproduced():
    verdict = comparison(5)
    assert verdict.state == "reproduced"
    assert re.fullmatch(
        r"Reproduced: full gains \+[45]\.\d\d DSC points over random \[\+\d\.\d\d, \+\d\.\d\d\] "
        r"\(corrected p < 0\.001; 3 runs, 8 patients\)",
        str(verdict),
    )


def test_a_gain_that_is_ruled_out_is_not_reproduced():
    verdict = comparison(0)
    assert verdict.state == "not reproduced"
    assert verdict.tested[0].comparison.high < 1
    assert verdict.reason.endswith("a gain of +1 or more is ruled out")
    assert comparison(-5).state == "not reproduced"


def test_what_is_neither_shown_nor_ruled_out_says_how_many_runs_it_needs():
    verdict = comparison(2, spread=5)
    assert verdict.state == "undecided"
    more = int(re.search(r"needs about (\d+) more run", verdict.reason)[1])
    [one] = verdict.tested
    parts = one.comparison.components
    spread = SpreadOfMethods(*map(np.asarray, (parts.method_run, parts.method_patient, parts.rest)))
    farther = max(one.comparison.difference, 1 - one.comparison.difference)  # of 0 and a gain of 1 point

    def power(runs):
        return float(contrast_power(spread, gain=farther, n_runs=runs, n_patients=8))

    assert power(3 + more) >= 0.8 > power(2 + more)


def test_the_primary_family_is_corrected_as_the_table_corrects_it():
    """Dunnett's p over the declared contrasts, which is smaller than Holm's largest."""
    three = rows({"random": 0, "gl": 0.2, "pgl": 0.4, "full": 0.7}, spread=1.5)
    declared = [Contrast("full", "random"), Contrast("full", "gl")]
    tested = compare_contrasts(three, [*declared, Contrast("full", "pgl", primary=False)])
    of_family = [one.comparison for one in tested[:2]]
    assert {one.analysis for one in of_family} == {"pooled"}
    t = [c.difference / ((c.high - c.low) / 2 / stats.t.ppf(0.975, c.df)) for c in of_family]
    assert [one.corrected_p for one in tested[:2]] == pytest.approx(dunnett_p_value(t, 2, of_family[0].df))
    assert tested[2].corrected_p == pytest.approx(tested[2].comparison.p_value)


def test_where_runs_cannot_decide_it_more_patients_are_asked_for():
    rows_of_odd_patients = rows({"random": 0, "full": 0.5})
    gains = np.where(rows_of_odd_patients["patient"].isin(["p0", "p1"]), 0.2, -0.05)
    rows_of_odd_patients["dice"] += np.where(rows_of_odd_patients["method"] == "full", gains, 0)
    verdict = STUDIES["comparison"].verdict(rows_of_odd_patients)
    assert verdict.state == "undecided"
    assert verdict.reason.endswith("needs more test patients, since no number of runs would decide it on these")


def test_fewer_than_three_runs_decide_nothing_however_large_the_gain():
    verdict = comparison(20, seeds=(0, 1))
    assert verdict.state == "undecided"
    assert "full against random has 2 runs with the same seeds" in verdict.reason
    assert "needs 1 more run of each. Claims about these checkpoints are in the table" in verdict.reason
    alone = STUDIES["comparison"].verdict(rows({"full": 0}))
    assert "full against random has 0 runs with the same seeds" in alone.reason
    assert "needs 3 more runs of each" in alone.reason


def test_runs_count_that_both_methods_have():
    few = rows({"random": 0, "full": 20})
    verdict = STUDIES["comparison"].verdict(few[(few["method"] == "full") | (few["seed"] < 2)])
    assert verdict.state == "undecided"
    assert "has 2 runs with the same seeds" in verdict.reason


def test_one_test_patient_decides_nothing():
    few = rows({"random": 0, "full": 20})
    verdict = STUDIES["comparison"].verdict(few[few["patient"] == "p0"])
    assert verdict.state == "undecided"
    assert "takes 2 test patients" in verdict.reason


def test_every_part_must_add_something():
    steps = {"go": 0, "gp": 5, "gpc": 10, "full": 15}
    assert STUDIES["ablation"].verdict(rows(steps)).state == "reproduced"
    verdict = STUDIES["ablation"].verdict(rows(steps | {"full": 10}))
    assert verdict.state == "not reproduced"
    assert verdict.reason.startswith("full gains ")  # what failed, alone
    assert "over gpc" in verdict.reason
    assert "gp gains" not in verdict.reason
    assert STUDIES["ablation"].verdict(rows({"go": 0, "gp": 5})).state == "undecided"
    # A part that is shown to add nothing decides it, whatever else was run.
    assert STUDIES["ablation"].verdict(rows({"go": 0, "gp": 0})).state == "not reproduced"


def test_only_primary_contrasts_decide_and_each_family_is_corrected_alone():
    methods = STUDIES["stabilizers"].methods
    verdict = STUDIES["stabilizers"].verdict(rows(dict.fromkeys(methods, 0) | {"gpc_printed": 5}))
    assert verdict.state == "reproduced"
    [primary] = [one for one in verdict.tested if one.contrast.primary]
    assert primary.corrected_p == pytest.approx(primary.comparison.p_value, rel=1e-6, abs=0)
    others = [one for one in verdict.tested if not one.contrast.primary]
    smallest = min(others, key=lambda one: one.comparison.p_value)
    assert len(others) == 7
    assert smallest.corrected_p == pytest.approx(min(1, 7 * smallest.comparison.p_value))


def test_the_numbers_are_those_of_the_multi_reader_analysis():
    table = rows({"random": 0, "gl": 1, "full": 2})
    [tested] = compare_contrasts(table, [Contrast("full", "random")])
    means = table.groupby(["method", "seed", "patient"])["dice"].mean().reset_index()
    expected = compare_methods(
        (means["dice"] * 100).to_numpy(),
        methods=means["method"].to_list(),
        runs=means["seed"].to_list(),
        patients=means["patient"].to_list(),
        reference="full",
    )
    [expected] = [result for result in expected if result.method_b == "random"]
    assert tested.comparison.difference == pytest.approx(expected.difference)
    assert tested.comparison.p_value == pytest.approx(expected.p_value)
    assert tested.comparison.analysis == "pooled"  # gl's runs inform the error, too


def test_few_labels_are_judged_at_the_fewest():
    gain, none = rows({"random": 0, "full": 5}), rows({"random": 0, "full": 0})
    assert STUDIES["low_data"].verdict(
        pd.concat([gain.assign(labelled_patients=2), none.assign(labelled_patients=20)])
    ).state == "reproduced"  # fmt: skip
    assert STUDIES["low_data"].verdict(
        pd.concat([gain.assign(labelled_patients=20), none.assign(labelled_patients=2)])
    ).state == "not reproduced"  # fmt: skip
    assert STUDIES["low_data"].criterion.endswith("Read at the smallest number of labelled patients.")


def test_absent_scores_are_refused_not_left_out():
    table = rows({"random": 0, "full": 5})
    lost = (table["method"] == "full") & (table["patient"] == "p3")
    with pytest.raises(ValueError, match=r"scores are absent .*method full, seed 0, case c3, structure A"):
        STUDIES["comparison"].verdict(table[~lost])


def test_the_criterion_says_the_rule_s_numbers():
    said = GainRule(smallest_gain_points=0.5, alpha=0.01).criterion([Contrast("a", "b"), Contrast("a", "c", False)])
    assert "a gain of a over b in average DSC" in said
    assert "p < 0.01" in said
    assert "below +0.5 DSC points" in said
    assert " c " not in said
    table = rows({"random": 0, "full": 0.3}, spread=0.1)
    contrasts = [Contrast("full", "random")]
    assert GainRule()(table, contrasts).state == "reproduced"
    assert GainRule(alpha=1e-6)(table, contrasts).state == "not reproduced"
    assert GainRule(alpha=1e-6, smallest_gain_points=0.1)(table, contrasts).state == "undecided"


def test_a_verdict_is_plain_values_and_a_table():
    verdict = STUDIES["comparison"].verdict(rows({"random": 0, "gl": 1, "full": 5}))
    values = json.loads(json.dumps(verdict.to_dict()))
    assert values["state"] == "reproduced"
    assert [c["baseline"] for c in values["contrasts"]] == ["random", "gl"]
    assert values["contrasts"][0]["gain_points"] == pytest.approx(5, abs=1)
    table = contrast_table(verdict, "What is tested")
    assert list(table.frame["over"]) == ["random (primary)", "gl"]
    assert all(p.endswith("*") for p in table.frame["corrected p"])
    untested = contrast_table(comparison(5, seeds=(0,)), "What is tested")
    assert untested.frame.iloc[0].to_list() == ["full", "random (primary)", "not tested", "", "", "1", "8"]
    assert untested.metric_card[-1].startswith("Not tested: the two methods share fewer than 3 training runs")
