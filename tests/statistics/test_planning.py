"""Plans of runs and patients: the power that they promise is the power that the analysis has."""

import numpy as np
import pytest
from scipy import stats

from experiments.bench.method_claims import Layout
from pixelglobal.statistics.contrast import contrast_of
from pixelglobal.statistics.planning import SpreadOfMethods, contrast_power, required_patients, required_runs
from tests.statistics.claims import rows_of

TRUTH = SpreadOfMethods(np.array(0.9**2), np.array(0.5**2), np.array(2.3**2))
LAYOUT = Layout("as the committed rows")


def pilot(seed, n_methods=4, n_runs=5, n_patients=24):
    return rows_of(LAYOUT.draw(np.random.default_rng(seed), 1, n_methods, n_runs, n_patients)[0])


@pytest.mark.parametrize(
    ("n_runs", "n_patients", "n_methods", "shared"),
    [(3, 24, 2, True), (5, 24, 2, True), (5, 8, 4, True), (7, 24, 2, True), (5, 24, 2, False)],
)
def test_power_is_that_of_the_simulated_analysis(n_runs, n_patients, n_methods, shared):
    layout = Layout("any", run=1.5 if shared else 0.0, shared_runs=shared)
    tables = layout.draw(np.random.default_rng(0), 4000, n_methods, n_runs, n_patients)
    variance_of_all = contrast_of(tables, 0, 1, shared_runs=shared, pooled=False)
    if n_methods > 2:
        variance_of_all = contrast_of(tables[:, :n_methods], 0, 1, shared_runs=shared, pooled=True)
    low, _ = variance_of_all.interval()
    asked = {"n_runs": n_runs, "n_patients": n_patients, "n_methods": n_methods, "shared_runs": shared}
    assert float(contrast_power(TRUTH, gain=2.0, **asked)) == pytest.approx((low + 2 > 0).mean(), abs=0.03)


def test_power_by_hand():
    """Runs alone: 5 runs with sd 1 are a paired t of sd sqrt(2); one test of two needs the 1.25 % tail."""
    runs_only = SpreadOfMethods(np.array(1.0), np.array(0.0), np.array(0.0))
    distance = 2.0 / np.sqrt(2 / 5)
    power = stats.nct.sf(stats.t.isf(0.025, 4), 4, distance)
    assert float(contrast_power(runs_only, gain=2.0, n_runs=5, n_patients=10)) == pytest.approx(power)
    assert float(contrast_power(runs_only, gain=-2.0, n_runs=5, n_patients=99)) == pytest.approx(power)
    corrected = stats.nct.sf(stats.t.isf(0.0125, 4), 4, distance)
    two = contrast_power(runs_only, gain=2.0, n_runs=5, n_patients=10, n_contrasts=2)
    assert float(two) == pytest.approx(corrected)
    assert float(contrast_power(runs_only, gain=2000.0, n_runs=5, n_patients=10)) == 1.0


def test_few_patients_cost_degrees_of_freedom():
    """Patients alone: 8 on whom methods differ with sd 1 in every one of many runs are a paired t with 7 of them."""
    patients_only = SpreadOfMethods(np.array(0.0), np.array(1.0), np.array(0.0))
    expected = stats.nct.sf(stats.t.isf(0.025, 7), 7, 1.5 / np.sqrt(2 / 8))
    assert float(contrast_power(patients_only, gain=1.5, n_runs=50, n_patients=8)) == pytest.approx(expected)


def test_no_spread_at_all_shows_every_gain():
    nothing = SpreadOfMethods(np.array(0.0), np.array(0.0), np.array(0.0))
    assert float(contrast_power(nothing, gain=0.1, n_runs=3, n_patients=2)) == 1.0


def test_a_large_pilot_gives_the_number_of_the_true_variances():
    """With the true variances: 7 shared runs at +2 points (77.7 % with 6), 19 or 20 at +1, 5 with 4 methods pooled."""
    rows = pilot(0, 40, 40, 24)
    plan = required_runs(**rows, gain=2.0)
    assert (plan.needed, plan.high, plan.assured) == (7, 7, 7)
    assert plan.low >= 6
    assert required_runs(**rows, gain=1.0).needed in (19, 20, 21)
    assert required_runs(**rows, gain=2.0, n_methods=4).needed == 5
    assert required_runs(**rows, gain=2.0, shared_runs=False).needed > 10


def test_needed_is_the_smallest_number_with_the_power():
    rows = pilot(1)
    for plan_power in (0.5, 0.8, 0.9):
        n = required_runs(**rows, gain=1.5, power=plan_power).needed
        again = required_runs(**rows, gain=1.5, power=plan_power, largest=n)
        assert again.needed == n
        if n > 3:
            with pytest.raises(ValueError, match=f"even {n - 1} runs on 24 patients give a power of"):
                required_runs(**rows, gain=1.5, power=plan_power, largest=n - 1)


def test_the_assured_number_keeps_the_promise_that_the_needed_one_breaks():
    """Pilots of 2 methods with 3 runs; the power is judged with the true variances."""
    needed, assured = [], []
    for seed in range(40):
        plan = required_runs(**pilot(seed, 2, 3), gain=2.0)
        needed.append(contrast_power(TRUTH, gain=2.0, n_runs=plan.needed, n_patients=24))
        assured.append(contrast_power(TRUTH, gain=2.0, n_runs=plan.assured or 500, n_patients=24))
    assert np.mean(needed) < 0.75
    assert 0.8 < np.mean(assured) < 0.92


def test_the_interval_holds_the_number_of_the_true_variances():
    plans = [required_runs(**pilot(seed, 3, 4), gain=2.0) for seed in range(40)]
    held = [plan.low <= 7 <= (plan.high or np.inf) for plan in plans]
    assert np.mean(held) > 0.9
    assert all(plan.low <= plan.needed <= (plan.high or np.inf) for plan in plans)


def test_a_larger_pilot_is_surer():
    small, large = required_runs(**pilot(2, 2, 4), gain=2.0), required_runs(**pilot(2, 8, 10), gain=2.0)
    assert (small.high or np.inf) - small.low > 2 * ((large.high or np.inf) - large.low)


def test_what_is_not_known_is_none():
    plan = required_runs(**pilot(1, 2, 3), gain=2.0, largest=12)
    assert plan.high is None
    assert plan.assured is None or plan.assured <= 12


def test_patients_cannot_make_up_for_few_runs():
    rows = pilot(0)
    with pytest.raises(
        ValueError, match=r"even 5000 patients with 3 runs give a power of \d+% instead of 80%; add runs"
    ):
        required_patients(**rows, gain=2.0, n_runs=3)
    enough = required_patients(**rows, gain=2.0, n_runs=12)
    assert enough.needed < 24
    assert required_patients(**rows, gain=2.0, n_runs=8).needed > enough.needed
    assert required_runs(**rows, gain=2.0, n_patients=enough.needed).needed <= 12
    few, many = (required_runs(**rows, gain=2.0, n_patients=n).needed for n in (12, 400))
    assert few > required_runs(**rows, gain=2.0).needed > many


def test_the_seed_is_connected():
    a, b, c = (required_runs(**pilot(0, 2, 3), gain=2.0, seed=seed) for seed in (0, 0, 1))
    assert a == b
    assert a.expected_power != c.expected_power


@pytest.mark.parametrize("gain", [0.0, np.nan])
def test_a_gain_of_nothing(gain):
    with pytest.raises(ValueError, match="gain="):
        required_runs(**pilot(0), gain=gain)


def test_a_pilot_of_one_run():
    with pytest.raises(ValueError, match="at least 2 of each"):
        required_runs(**pilot(0, 2, 1), gain=1.0)
