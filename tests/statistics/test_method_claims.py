"""Error rates of claims about methods, by simulation, and the rivals that they are compared with."""

import numpy as np
import pytest
from scipy import stats

from experiments.bench.method_claims import LAYOUTS, UNSHARED, Layout, paired_t, simulate, simulate_folds, welch, wins


def test_rates_of_a_short_simulation():
    rows = simulate(LAYOUTS[:1], [5], [24], rounds=1000)
    rate = {row["analysis"]: row for row in rows}
    for name in ("MRMC, pair", "MRMC, pooled over 4", "paired t by seed"):
        assert 2.5 < rate[name]["false_alarms"] < 7.5, name
        assert 92.5 < rate[name]["coverage"] < 97.5, name
    assert rate["MRMC, pair"]["power_2"] > 58
    assert rate["MRMC, pooled over 4"]["power_2"] > 74
    assert 2.5 < rate["MRMC, pooled over 4"]["family_alarms"] < 7.5
    assert rate["Welch over run means"]["false_alarms"] < 1.5
    assert rate["patients, seeds averaged"]["false_alarms"] > 20


def test_simulation_is_connected_to_its_seed():
    rates = [simulate(LAYOUTS[:1], [3], [8], rounds=300, rivals=False, seed=seed) for seed in (0, 0, 1)]
    assert rates[0] == rates[1] != rates[2]


def test_rivals_are_what_they_are_called():
    table = Layout("any").draw(np.random.default_rng(0), 3, 2, 5, 6)
    a, b = table[:, 0], table[:, 1]
    x, y = a[1].mean(-1), b[1].mean(-1)
    for interval, expected in (
        (paired_t(a, b), stats.ttest_rel(x, y).confidence_interval()),
        (welch(a, b), stats.ttest_ind(x, y, equal_var=False).confidence_interval()),
    ):
        assert (interval[0][1], interval[1][1]) == pytest.approx(tuple(expected))
    always = np.arange(5.0)[None, :, None] + np.zeros((1, 5, 2))
    assert wins(always + 1, always).tolist() == wins(always, always + 1).tolist() == [True]
    assert not wins(np.where([[[1], [0], [1], [0], [1]]], always + 1, always - 1), always).any()


# What the analysis does not reach, with the bounds that it keeps; everything else must lie within the goals. The runs
# of one erratic method cannot be told from bad luck when there are few: at 3 to 5 runs a test of spreads finds a factor
# of 2.5 in 18 to 42 % of the tables, and a stricter one costs the power that pooling is for. Where organs are lost by
# lottery, the t of a pair is careful, and the paired t by seed is as well.
NOT_REACHED = {
    ("one method's runs spread 2.5 x", "MRMC, pooled over 4"): (6.5, 12.0),
    ("organ lottery", "MRMC, pair"): (2.5, 6.5),
}


@pytest.mark.slow
def test_goals_of_the_error_rates():
    """False alarms 3.5 to 6.5 %, coverage 93 to 97 %, in every layout, with the error that `pooled=None` takes.

    Two standard errors of the simulation are granted. Power at +2 points with 5 runs: 62 % (pair), 78 % (pooled).
    """
    rounds = 8000
    missed = []
    for row in simulate(LAYOUTS, rounds=rounds, rivals=False):
        if "pooled" in row["analysis"] and row["runs"] >= 6:
            continue
        low, high = NOT_REACHED.get((row["layout"], row["analysis"]), (3.5, 6.5))
        granted = 2 * 100 * np.sqrt(0.05 * 0.95 / rounds)
        alarms, holds = row["false_alarms"], row["coverage"]
        if not (low - granted <= alarms <= high + granted and 99.5 - high - granted <= holds <= 100.5 - low + granted):
            missed.append(row)
        if (row["layout"], row["runs"], row["patients"]) == (LAYOUTS[0].name, 5, 24):
            assert row["power_2"] >= (78 if "pooled" in row["analysis"] else 62)
            assert "pooled" not in row["analysis"] or row["family_alarms"] < 6.5
    assert not missed


@pytest.mark.slow
def test_unshared_seeds_hold_their_level():
    for row in simulate([UNSHARED], rounds=8000, rivals=False):
        assert 3.5 < row["false_alarms"] < 6.5, row


@pytest.mark.slow
def test_folds_hold_their_level_unless_training_patients_matter_much():
    rates = {
        (row["layout"], row["runs"], row["analysis"]): row["false_alarms"]
        for row in simulate_folds([5], training=[0.0, 0.3, 0.9], rounds=8000)
    }
    for runs in (1, 3):
        assert rates["5 folds, training patients 0", runs, "corrected t over folds"] < 3
        assert rates["5 folds, training patients 0.3", runs, "corrected t over folds"] < 5
        assert rates["5 folds, training patients 0", runs, "patients as units"] > 15
    assert rates["5 folds, training patients 0.9", 3, "corrected t over folds"] > 10  # a limit that the docstring tells


@pytest.mark.slow
def test_one_erratic_method_is_refused_more_often_than_not_at_ten_runs():
    [_, pooled] = simulate(LAYOUTS[4:5], [10], [24], rounds=2000, rivals=False)
    assert pooled["refused"] > 60
    assert 3.5 < pooled["bystanders"] < 6.5
