"""Dunnett's adjustment against its published table, the multivariate t and SciPy on raw samples."""

import numpy as np
import pytest
from scipy import stats

from pixelglobal.statistics.dunnett import dunnett_critical_value, dunnett_p_value


@pytest.mark.parametrize(
    ("n_contrasts", "df", "published"),
    [(2, 5, 3.03), (3, 5, 3.29), (4, 5, 3.48), (2, 10, 2.57), (4, 10, 2.89), (3, 20, 2.54), (3, np.inf, 2.35)],
)
def test_critical_values_of_dunnetts_table(n_contrasts, df, published):
    """Two-sided 5 % points of Dunnett, Biometrics 20, 1964."""
    assert dunnett_critical_value(n_contrasts, df) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize(("n_contrasts", "df"), [(2, 2), (3, 4), (3, 12.5), (4, 30)])
def test_dunnett_is_the_multivariate_t(n_contrasts, df):
    shape = np.full((n_contrasts, n_contrasts), 0.5) + 0.5 * np.eye(n_contrasts)
    t = stats.multivariate_t(np.zeros(n_contrasts), shape, df=df)
    for limit in (1.0, 2.5):
        edge = np.full(n_contrasts, limit)
        inside = t.cdf(edge, lower_limit=-edge, maxpts=300_000, random_state=0)
        assert float(dunnett_p_value(limit, n_contrasts, df)) == pytest.approx(1 - inside, abs=1e-4)


def test_dunnett_is_scipys_on_raw_samples():
    x = np.random.default_rng(0).normal([[0.0], [1.0], [0.5], [0.2]], size=(4, 7))
    expected = stats.dunnett(*x[1:], control=x[0], rng=np.random.default_rng(0))
    np.testing.assert_allclose(dunnett_p_value(expected.statistic, 3, 24), expected.pvalue, atol=2e-4)


def test_dunnett_lies_between_the_raw_p_and_bonferroni():
    t, df = np.array([0.5, 2.0, 4.0]), np.array([3.0, 8.0, 200.0])
    raw, adjusted = 2 * stats.t.sf(t, df), dunnett_p_value(t, 5, df)
    assert (raw < adjusted).all()
    assert (adjusted < np.minimum(5 * raw, 1)).all()
    np.testing.assert_allclose(dunnett_p_value(t, 1, df), raw)
    assert float(dunnett_p_value(dunnett_critical_value(5, 8.0), 5, 8.0)) == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(ValueError, match="at least 1 contrast"):
        dunnett_p_value(2.0, 0, 5)
