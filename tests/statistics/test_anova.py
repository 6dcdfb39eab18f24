"""The analysis of variance of methods, runs and patients, and the error of a difference that comes from it."""

from itertools import product

import numpy as np
import pytest

from pixelglobal.statistics.anova import MeanSquares, mean_squares, score_table, variance_components
from pixelglobal.statistics.contrast import difference_error
from tests.statistics.claims import TABLE, normal_table, rows_of


def slow_mean_squares(y, shared):
    """The textbook's sums, one score at a time."""
    M, R, P = y.shape

    def mean(**fixed):
        chosen = [
            y[m, r, p]
            for m, r, p in product(range(M), range(R), range(P))
            if all({"m": m, "r": r, "p": p}[axis] == at for axis, at in fixed.items())
        ]
        return sum(chosen) / len(chosen)

    ss = dict.fromkeys(("method", "run", "patient", "method_run", "method_patient", "run_patient", "rest"), 0.0)
    for m, r, p in product(range(M), range(R), range(P)):
        g, i, j, k = mean(), mean(m=m), mean(r=r), mean(p=p)
        ij, ik, jk = mean(m=m, r=r), mean(m=m, p=p), mean(r=r, p=p)
        ss["method"] += (i - g) ** 2
        ss["patient"] += (k - g) ** 2
        ss["method_patient"] += (ik - i - k + g) ** 2
        if shared:
            ss["run"] += (j - g) ** 2
            ss["method_run"] += (ij - i - j + g) ** 2
            ss["run_patient"] += (jk - j - k + g) ** 2
            ss["rest"] += (y[m, r, p] - ij - ik - jk + i + j + k - g) ** 2
        else:
            ss["method_run"] += (ij - i) ** 2
            ss["rest"] += (y[m, r, p] - ij - ik + i) ** 2
    nested = M - 1 if shared else M
    df = {"method": M - 1, "run": R - 1, "patient": P - 1, "method_run": nested * (R - 1)}
    df |= {"method_patient": (M - 1) * (P - 1), "run_patient": (R - 1) * (P - 1), "rest": nested * (R - 1) * (P - 1)}
    return {name: ss[name] / df[name] for name in ss if shared or name not in ("run", "run_patient")}


@pytest.mark.parametrize("shared", [True, False])
def test_mean_squares_are_the_textbooks_sums(shared):
    table = normal_table(0, 3, 4, 5)
    ms = mean_squares(table, shared_runs=shared)
    for name, value in slow_mean_squares(table, shared).items():
        assert getattr(ms, name) == pytest.approx(value), name


@pytest.mark.parametrize("shared", [True, False])
def test_mean_squares_keep_the_axes_of_rounds(shared):
    tables = np.stack([normal_table(seed) for seed in range(6)]).reshape(2, 3, 4, 4, 6)
    ms = mean_squares(tables, shared_runs=shared)
    alone = mean_squares(tables[1, 2], shared_runs=shared)
    assert ms.rest.shape == (2, 3)
    for name in ("method", "patient", "method_run", "method_patient", "rest"):
        assert getattr(ms, name)[1, 2] == pytest.approx(getattr(alone, name))


def test_balanced_rows_equal_the_crossed_mixed_model():
    """Standard error of a difference and variance components, as REML estimates them.

    statsmodels 0.14.6, with d the rows of TABLE in the columns y, m, r, p and `all` = 1:
        vc = {"run": "0+C(r)", "patient": "0+C(p)", "mr": "0+C(m):C(r)", "mp": "0+C(m):C(p)", "rp": "0+C(r):C(p)"}
        f = smf.mixedlm("y ~ C(m)", d, groups="all", vc_formula=vc, re_formula="0").fit(
            reml=True, method="powell", maxiter=100000, maxfun=1000000, xtol=1e-9, ftol=1e-14)
        f.bse["C(m)[T.1]"], f.vcomp, f.scale
    """
    ms = mean_squares(TABLE)
    variance, _ = difference_error(ms)
    assert np.sqrt(variance) == pytest.approx(1.440937, rel=1e-5)
    parts = variance_components(ms)
    assert parts.run == pytest.approx(14.78374998, rel=1e-5)
    assert parts.patient == pytest.approx(7.02847168, rel=1e-5)
    assert parts.method_run == pytest.approx(2.75908315, rel=1e-5)
    assert parts.method_patient == pytest.approx(1.53408270, rel=1e-5)
    assert parts.run_patient == pytest.approx(1.85836108, rel=1e-5)
    assert parts.rest == pytest.approx(0.83125012, rel=1e-5)


def test_unshared_rows_equal_the_mixed_model_with_runs_in_methods():
    """As above with vc = {"patient": "0+C(p)", "mr": "0+C(m):C(r)", "mp": "0+C(m):C(p)"}."""
    ms = mean_squares(TABLE, shared_runs=False)
    variance, _ = difference_error(ms)
    assert np.sqrt(variance) == pytest.approx(3.077040, rel=1e-5)
    parts = variance_components(ms)
    assert parts.patient == pytest.approx(7.49306192, rel=1e-5)
    assert parts.method_run == pytest.approx(17.54283229, rel=1e-5)
    assert parts.method_patient == pytest.approx(1.06949301, rel=1e-5)
    assert parts.rest == pytest.approx(2.68961118, rel=1e-5)
    assert parts.run is parts.run_patient is None


def test_a_component_is_never_negative():
    """Scores of nothing but noise give estimates on both sides of 0."""
    rng = np.random.default_rng(8)
    parts = [variance_components(mean_squares(rng.normal(size=(3, 4, 5)))) for _ in range(20)]
    for name in ("run", "patient", "method_run", "method_patient", "run_patient"):
        values = [getattr(part, name) for part in parts]
        assert min(values) == 0.0, name
        assert max(values) > 0.0, name


def test_van_dykes_readers():
    """The 2 modalities x 5 readers x 114 patients of Van Dyke et al. 1993, the field's worked example.

    Published (R packages RJafroc and MRMCaov): MS(T) .004796171, MS(T:R) .0005510306, Cov2 .0003440748, Cov3
    .0002390284 give F 4.456319 and, by Hillis, 15.25967 degrees of freedom. Ours charge the patients' term as well.
    """
    n_readers, n_patients, ms_readers = 5, 114, 0.0005510306
    patients = n_readers * (0.0003440748 - 0.0002390284)
    nothing = np.array(np.nan)
    ms = MeanSquares(
        method=np.array(0.004796171), run=nothing, patient=nothing, run_patient=nothing,
        method_run=np.array(ms_readers), method_patient=np.array(patients), rest=np.array(0.0),
        n_methods=2, n_runs=n_readers, n_patients=n_patients, shared_runs=True,
    )  # fmt: skip
    variance, df = difference_error(ms)
    denominator = variance * n_readers * n_patients / 2
    assert 0.004796171 / denominator == pytest.approx(4.456319, rel=1e-6)
    hillis = denominator**2 / (ms_readers**2 / 4)
    assert hillis == pytest.approx(15.25967, rel=1e-6)
    assert df == pytest.approx(1 / (1 / hillis + patients**2 / 113 / denominator**2))


def test_degrees_of_freedom_are_hillis_where_patients_do_not_interact():
    table = normal_table(3)
    ms = mean_squares(table)
    flat = mean_squares(table - (table.mean(1, keepdims=True) - table.mean((1, 2), keepdims=True)))
    assert flat.method_patient == pytest.approx(0, abs=1e-20)
    assert difference_error(flat)[1] == pytest.approx(9)
    assert ms.df_method_run == 9


def test_a_spread_of_runs_below_the_rest_does_not_raise_the_degrees_of_freedom():
    base = {"run": np.array(1.0), "patient": np.array(1.0), "run_patient": np.array(1.0), "method": np.array(1.0)}
    sizes = {"n_methods": 2, "n_runs": 3, "n_patients": 8, "shared_runs": True}
    lucky = MeanSquares(method_run=np.array(0.1), method_patient=np.array(6.0), rest=np.array(5.0), **base, **sizes)
    variance, df = difference_error(lucky)
    assert variance == pytest.approx(2 / 24 * 1.1)
    assert df == pytest.approx(6**2 / (5**2 / 2 + 1 / 7))  # not 1.1^2 / (0.1^2 / 2 + 1 / 7) = 8.2


def test_score_table_finds_each_score():
    table, methods, patients = score_table(**rows_of(TABLE))
    np.testing.assert_array_equal(table, TABLE)
    assert (methods, patients) == (["a", "b", "c"], ["p0", "p1", "p2", "p3", "p4"])
