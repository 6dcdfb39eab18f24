"""Claims about methods: which error is taken, what must not matter, refused rows, cross-validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.bench.method_claims import LAYOUTS, Layout
from pixelglobal.statistics.anova import mean_squares, score_table, variance_components
from pixelglobal.statistics.contrast import contrast_of, difference_error, unequal_spreads
from pixelglobal.statistics.dunnett import dunnett_p_value
from pixelglobal.statistics.mrmc import compare_methods
from tests.statistics.claims import TABLE, normal_table, rows_of


def test_pair_without_interaction_of_patients_is_the_paired_t_by_seed():
    table = normal_table(1, 2, 6, 5)
    table[1] -= (table[1] - table[0]).mean(0) - (table[1] - table[0]).mean()  # the same gain on every patient
    [c] = compare_methods(**rows_of(table))
    by_seed = stats.ttest_rel(table[0].mean(-1), table[1].mean(-1))
    assert c.p_value == pytest.approx(by_seed.pvalue)
    assert (c.low, c.high) == pytest.approx(by_seed.confidence_interval())
    assert (c.analysis, c.n_runs, c.n_patients, c.df) == ("pair", 6, 5, pytest.approx(5))


def test_unshared_pair_without_interaction_of_patients_is_students_t_over_runs():
    table = normal_table(1, 2, 6, 5)
    table[1] -= (table[1] - table[0]).mean(0) - (table[1] - table[0]).mean()
    [c] = compare_methods(**rows_of(table), shared_runs=False)
    over_runs = stats.ttest_ind(table[0].mean(-1), table[1].mean(-1))
    assert c.p_value == pytest.approx(over_runs.pvalue)
    assert c.df == pytest.approx(10)


def test_numbers_of_the_contrast_belong_together():
    for c in compare_methods(**rows_of(TABLE), reference="b"):
        error = (c.high - c.low) / 2 / stats.t.ppf(0.975, c.df)
        assert c.difference == pytest.approx((c.low + c.high) / 2)
        assert c.p_value == pytest.approx(2 * stats.t.sf(abs(c.difference) / error, c.df))
        if c.analysis == "pooled":
            variance, df = difference_error(mean_squares(TABLE))
            assert (error**2, c.df) == (pytest.approx(variance), pytest.approx(df))
            assert c.p_adjusted == pytest.approx(float(dunnett_p_value(c.difference / error, 2, c.df)))
        assert c.difference == pytest.approx(TABLE[1].mean() - TABLE["abc".index(c.method_b)].mean())


def test_which_error_is_taken():
    few, many = normal_table(2, 4, 5, 6), normal_table(3, 4, 6, 6)
    assert min(unequal_spreads(few)) > 0.1 < min(unequal_spreads(many))
    told = lambda table, **asked: {(c.analysis, c.adjustment) for c in compare_methods(**rows_of(table), **asked)}  # noqa: E731
    assert told(few) == {("pooled", "holm")}
    assert told(few, reference="a") == {("pooled", "dunnett")}
    assert told(few, reference="a", pooled=False) == {("pair", "holm")}
    assert told(many, reference="a") == {("pair", "holm")}
    assert told(many, reference="a", pooled=True) == {("pooled", "dunnett")}
    assert told(few[:2], pooled=True) == {("pair", "holm")}
    assert [(c.method_a, c.method_b) for c in compare_methods(**rows_of(few[:3]))] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]


def test_a_pooled_error_is_refused_where_one_method_spreads_more():
    table = normal_table(5, 4, 5, 6)
    table[2] += np.array([30.0, -30, 0, 20, -20])[:, None]
    results = compare_methods(**rows_of(table), reference="a")
    assert {c.analysis for c in results} == {"pair"}
    assert all("runs of c spread more" in c.note for c in results)
    assert results == [
        *compare_methods(**rows_of(table), reference="a", pooled=True),
    ]
    alone = compare_methods(**rows_of(table), reference="a", pooled=False)
    assert [(c.low, c.p_value) for c in alone] == [(c.low, c.p_value) for c in results]
    assert {c.note for c in alone} == {""}


@pytest.mark.parametrize("shared", [True, False])
def test_the_check_of_spreads_raises_false_alarms_as_often_as_it_says(shared):
    table = Layout("equal", shared_runs=shared).draw(np.random.default_rng(0), 4000, 4, 5, 6)
    p = unequal_spreads(table, shared_runs=shared)
    assert 0.085 < (p.min(-1) < 0.1).mean() < 0.105  # Bonferroni's bound is nearly reached
    assert (p[:, 1] < 0.1).mean() == pytest.approx(0.025, abs=0.0075)


def test_components_are_those_of_the_error():
    table = normal_table(2, 4, 5, 6)
    for c in compare_methods(**rows_of(table), pooled=False, reference="b"):
        pair = table[[1, "abcd".index(c.method_b)]]
        assert c.components == variance_components(mean_squares(pair))
    assert {c.components for c in compare_methods(**rows_of(table))} == {variance_components(mean_squares(table))}


def test_holm_over_the_contrasts():
    results = compare_methods(**rows_of(normal_table(7, 4, 7, 5)))
    p = sorted(c.p_value for c in results)
    adjusted = sorted(c.p_adjusted for c in results)
    assert adjusted[0] == pytest.approx(min(1, 6 * p[0]))
    assert all(c.p_adjusted >= c.p_value for c in results)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["plain", "unshared"]), st.floats(0.1, 50), st.floats(-100, 100))
def test_what_must_not_matter(seed, layout, factor, shift):
    rng = np.random.default_rng(seed)
    table = normal_table(seed, 3, 4, 5)
    shared = layout == "plain"
    rows = rows_of(table)
    before = compare_methods(**rows, shared_runs=shared, reference="a")
    order = rng.permutation(table.size)
    shuffled = {name: [column[i] for i in order] for name, column in rows.items()}
    after = {c.method_b: c for c in compare_methods(**shuffled, shared_runs=shared, reference="a")}
    levels = shift * (rng.normal(size=(1, 4, 1)) if shared else 1.0) + shift * rng.normal(size=(1, 1, 5))
    moved = compare_methods(**(rows | {"scores": (factor * table + levels).ravel()}), shared_runs=shared, reference="a")
    for b, m in zip(before, moved, strict=True):
        a = after[b.method_b]
        assert (a.difference, a.low, a.high, a.p_value, a.df) == pytest.approx(
            (b.difference, b.low, b.high, b.p_value, b.df)
        )
        assert (m.p_value, m.df) == pytest.approx((b.p_value, b.df), rel=1e-5)
        assert (m.difference, m.low) == pytest.approx((factor * b.difference, factor * b.low), rel=1e-5, abs=1e-6)


def test_swapping_the_methods_turns_the_sign():
    rows = rows_of(TABLE[:2])
    [ab], [ba] = compare_methods(**rows, reference="a"), compare_methods(**rows, reference="b")
    assert (ba.difference, ba.low, ba.high, ba.p_value) == pytest.approx(
        (-ab.difference, -ab.high, -ab.low, ab.p_value)
    )


def test_equal_and_constant_scores():
    same = np.broadcast_to(normal_table(0, 1, 4, 5), (3, 4, 5)).copy()
    for c in compare_methods(**rows_of(same)):
        assert (c.difference, c.low, c.high, c.p_value, c.p_adjusted) == (0, 0, 0, 1, 1)
    same[1] += 1e-14  # rounding
    assert {c.p_value for c in compare_methods(**rows_of(same))} == {1.0}
    same[1] += 0.1
    c = compare_methods(**rows_of(same), reference="b")[0]
    assert (c.p_value, c.low) == (0, pytest.approx(0.1))


def test_contrasts_of_many_tables_are_those_of_one():
    tables = LAYOUTS[4].draw(np.random.default_rng(0), 20, 4, 4, 6)
    many = contrast_of(tables, 0, 2, pooled=True)
    assert 0 < many.pooled.sum() < 20
    for i, table in enumerate(tables):
        one = compare_methods(**rows_of(table), pooled=True, reference="a")[1]
        assert one.p_value == pytest.approx(float(many.p_value()[i]))
        assert one.analysis == ("pooled" if many.pooled[i] else "pair")


def without(rows, keep):
    return {name: [x for x, kept in zip(column, keep, strict=True) if kept] for name, column in rows.items()}


def test_missing_combinations_are_named():
    rows = rows_of(TABLE)
    keep = [not (m == "b" and p == "p3") for m, p in zip(rows["methods"], rows["patients"], strict=True)]
    with pytest.raises(ValueError, match=r"4 combinations are missing: method b, run 0, patient p3; method b, run 1"):
        compare_methods(**without(rows, keep))


def test_rows_that_stand_twice_are_named():
    rows = rows_of(TABLE)
    twice = {name: [*column, column[7]] for name, column in rows.items()}
    with pytest.raises(ValueError, match="1 combinations stand twice: method a, run 1, patient p2"):
        compare_methods(**twice)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_named(bad):
    rows = rows_of(TABLE)
    rows["scores"] = [bad if i == 6 else x for i, x in enumerate(rows["scores"])]
    with pytest.raises(ValueError, match="not finite: method a, run 1, patient p1"):
        compare_methods(**rows)


def test_rows_without_a_name_are_named():
    rows = rows_of(TABLE)
    rows["patients"] = [None if i == 6 else x for i, x in enumerate(rows["patients"])]
    with pytest.raises(ValueError, match="no name of method, run or patient: method a, run 1, patient None"):
        compare_methods(**rows)


def test_unequal_lengths():
    rows = rows_of(TABLE)
    with pytest.raises(ValueError, match=r"scores of shape \(60,\).*lengths 60, 59, 60"):
        compare_methods(**(rows | {"runs": rows["runs"][:-1]}))


def test_too_few_of_anything():
    with pytest.raises(
        ValueError, match=r"2 training runs a method.*add seeds, or make a claim about these checkpoints"
    ):
        compare_methods(**rows_of(TABLE[:, :2]))
    with pytest.raises(ValueError, match="1 patients"):
        compare_methods(**rows_of(TABLE[:, :, :1]))
    with pytest.raises(ValueError, match="1 methods"):
        compare_methods(**rows_of(TABLE[:1]))
    with pytest.raises(ValueError, match="'z' is not among the methods a, b, c"):
        compare_methods(**rows_of(TABLE), reference="z")


def test_unequal_numbers_of_unshared_runs():
    rows = rows_of(TABLE)
    keep = [not (m == "b" and r == 3) for m, r in zip(rows["methods"], rows["runs"], strict=True)]
    with pytest.raises(ValueError, match=r"unequal numbers of runs \(a: 4, b: 3, c: 4\)"):
        compare_methods(**without(rows, keep), shared_runs=False)


def test_names_of_unshared_runs_do_not_matter():
    rows = rows_of(TABLE)
    named = rows | {"runs": [f"{m}{r}" for m, r in zip(rows["methods"], rows["runs"], strict=True)]}
    assert compare_methods(**rows, shared_runs=False) == compare_methods(**named, shared_runs=False)
    with pytest.raises(ValueError, match="shared_runs=False"):
        compare_methods(**named)


def fold_rows(n_runs=2):
    rows = rows_of(normal_table(4, 2, n_runs, 12))
    return rows | {"folds": [int(p[1:]) % 4 for p in rows["patients"]]}


def test_folds_are_the_corrected_t_of_nadeau_and_bengio():
    rows = fold_rows()
    [c] = compare_methods(**rows)
    table, _, _ = score_table(rows["scores"], rows["methods"], rows["runs"], rows["patients"])
    d = [(table[0] - table[1])[:, f::4].mean() for f in range(4)]
    error = np.sqrt(np.var(d, ddof=1) * (1 / 4 + 3 / 9))  # 3 patients test what 9 trained
    assert c.p_value == pytest.approx(2 * stats.t.sf(abs(np.mean(d)) / error, 3))
    assert (c.analysis, c.df, c.n_runs, c.n_patients, c.components) == ("folds", 3, 2, 12, None)


def test_one_run_of_a_cross_validation_is_enough():
    assert compare_methods(**fold_rows(1))[0].n_runs == 1


def test_folds_named_as_runs_are_recognised():
    rows = fold_rows(1)
    with pytest.raises(ValueError, match=r"missing.*every patient has one run only.*folds="):
        compare_methods(**(rows | {"runs": rows["folds"], "folds": None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: {"folds": [0] * 6 + rows["folds"][6:]}, "patient p1 is tested in folds 0 and 1"),
        (lambda rows: {"folds": rows["folds"][1:]}, "47 folds of 48 rows"),
        (lambda rows: {"folds": [f % 2 for f in rows["folds"]]}, "2 folds"),
        (lambda rows: {"folds": [3 if int(p[1:]) < 3 else int(p[1:]) % 4 for p in rows["patients"]]}, "of 2 to 6"),
        (lambda rows: {"pooled": True}, "allow neither"),
        (lambda rows: {"shared_runs": False}, "allow neither"),
    ],
)  # fmt: skip
def test_refused_folds(change, message):
    rows = fold_rows()
    with pytest.raises(ValueError, match=message):
        compare_methods(**(rows | change(rows)))
