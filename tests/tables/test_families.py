"""Families of tests: the average first, structures second, and nothing else earns a mark."""

import numpy as np
import pandas as pd
import pytest

from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.families import with_families
from tests.support import rows_of, wave

ROWS = [("a", "A", 0.02), ("a", "B", 0.5), ("a", "Average", 0.01),
        ("b", "A", 0.001), ("b", "B", 0.03), ("b", "Average", 0.04),
        ("c", "A", 0.0001), ("c", "B", 0.0001), ("c", "Average", 0.2)]  # fmt: skip


def family_tests(**columns):
    frame = pd.DataFrame(ROWS, columns=["method", "structure", "p_value"])
    return frame.assign(**{"asked_unit": "patient", "smallest_p": 0.0, **columns})


def corrected(frame, family):
    part = frame[frame["family"] == family]
    return part["corrected_p"].to_numpy(), correct_p_values(part["p_value"].to_numpy())


def test_each_family_is_corrected_within_itself():
    frame = with_families(family_tests(), ["a", "b", "c"])
    assert (frame["family"] == "primary").tolist() == (frame["structure"] == "Average").tolist()
    for family, size in (("primary", 3), ("structures", 6)):
        found, expected = corrected(frame, family)
        assert len(found) == size
        np.testing.assert_allclose(found, expected)


def test_units_are_families_of_their_own():
    both = pd.concat([family_tests(), family_tests(asked_unit="slice")], ignore_index=True)
    frame = with_families(both, ["a", "b", "c"])
    np.testing.assert_allclose(frame["corrected_p"][:9], with_families(family_tests(), ["a", "b", "c"])["corrected_p"])
    np.testing.assert_allclose(frame["corrected_p"][:9], frame["corrected_p"][9:])


def test_a_structure_has_no_mark_where_its_average_has_none():
    frame = with_families(family_tests(), ["a", "b", "c"]).set_index(["method", "structure"])
    assert frame.loc[("a", "Average"), "confirmed"]
    assert not frame.loc[("c", "Average"), "confirmed"]
    assert frame.loc[("c", "A"), "corrected_p"] < 0.05
    assert not frame.loc[("c", "A"), "confirmed"]
    assert not frame.loc[("c", "A"), "claimable"]
    assert frame.loc[("a", "A"), "claimable"]


def test_what_was_not_named_is_exploratory_and_costs_the_others_nothing():
    frame = with_families(family_tests(), ["a"]).set_index(["method", "structure"])
    assert frame.loc[("a", "Average"), "corrected_p"] == 0.01
    assert frame.loc["b", "family"].unique().tolist() == ["exploratory"]
    assert not frame.loc["b", "confirmed"].any()
    assert frame.loc[("b", "A"), "corrected_p"] == 0.001


def test_a_fixed_sequence_stops_at_the_first_without_a_mark():
    frame = with_families(family_tests(), ["b", "c", "a"], family="sequence")
    first = frame[frame["structure"] == "Average"].set_index("method")
    assert first["corrected_p"].to_dict() == {"b": 0.04, "c": 0.2, "a": 0.2}
    assert first["confirmed"].to_dict() == {"b": True, "c": False, "a": False}


def test_dunnett_is_taken_where_all_contrasts_are_primary():
    dunnett = family_tests(dunnett_p=0.012)
    frame = with_families(dunnett, ["a", "b", "c"])
    assert (frame.loc[frame["family"] == "primary", "corrected_p"] == 0.012).all()
    part = with_families(dunnett, ["a", "b"])
    assert part.loc[part["family"] == "primary", "corrected_p"].tolist() == [0.02, 0.04]


@pytest.mark.parametrize(("floor", "reached"), [(0.01, True), (0.03, False)])
def test_what_no_effect_could_reach_is_known(floor, reached):
    """Two averages at their floor, Holm: twice the floor must be below 0.05."""
    frame = with_families(family_tests(smallest_p=floor), ["a", "b"])
    assert (frame.loc[frame["family"] == "primary", "reachable"] == reached).all()
    structures = frame[frame["family"] == "structures"]
    assert (structures["reachable"] == (reached and 4 * floor < 0.05)).all()


BETTER = {"random": lambda seed, i, s: 0.6 + wave(i), "full": lambda seed, i, s: 0.8 + wave(3 * i + seed)}


def test_the_card_says_where_too_few_patients_can_earn_no_mark():
    rows = rows_of(BETTER)
    few = rows[rows["patient"] < "p6"]  # six patients: 2 / 2^6 for the average, twice that for two structures
    table = comparison_table(few, reference="full")
    tests = table.comparisons.set_index("structure")
    assert tests["corrected_p"].to_dict() == {"A": 4 / 64, "B": 4 / 64, "Average": 2 / 64}
    assert "can be below 0.05 for A (6 patients), B (6 patients)" in " ".join(table.metric_card)
    assert "However large" not in " ".join(comparison_table(rows, reference="full").metric_card)


def test_the_card_knows_the_patients_of_each_structure():
    rows = rows_of(BETTER)
    rare = (rows["structure"] == "B") & (rows["patient"] > "p4")
    table = comparison_table(rows[~rare], reference="full")
    assert "below 0.05 for B (5 patients)" in " ".join(table.metric_card)
    assert "8 patients (B 5)" in table.metric_card[0]


def test_many_structures_and_methods_can_still_earn_marks():
    """104 structures x 5 methods on 60 patients: the sampled floor leaves room for 416 comparisons."""
    frame = pd.DataFrame([(m, s, 1e-5) for m in "abcd" for s in [*map(str, range(104)), "Average"]],
                         columns=["method", "structure", "p_value"])  # fmt: skip
    frame = with_families(frame.assign(asked_unit="patient", smallest_p=1e-5), list("abcd"))
    assert frame["confirmed"].all()
    assert frame["reachable"].all()


def test_primary_and_family_reach_the_table():
    rows = rows_of({**BETTER, "gl": lambda seed, i, s: 0.7 + wave(5 * i)})
    table = comparison_table(rows, reference="full", primary=["gl"], family="sequence")
    assert "the average against gl (1 comparison, fixed sequence)" in " ".join(table.metric_card)
    lines = table.frame.assign(method=table.frame["method"].replace("", np.nan).ffill()).set_index(["method", "metric"])
    assert lines.loc[("random", "p"), "Average"].startswith("(")
    assert lines.loc[("gl", "p"), "Average"].endswith("*")
