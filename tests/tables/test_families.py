"""Families of tests: corrected together, method by method and structure by structure, never each on its own."""

import pandas as pd
import pytest

from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.tables.contrasts import AVERAGE
from pixelglobal.tables.families import with_families

STRUCTURES = ("Liver", "Kidney")


def frame_of(p_values):
    """p_values: {method: {structure: p}}; every test could have reached any p."""
    rows = [
        {"method": method, "structure": structure, "asked_unit": "patient", "p_value": p, "smallest_p": 0.0}
        for method, of_method in p_values.items()
        for structure, p in of_method.items()
    ]
    return pd.DataFrame(rows)


def corrected(tests, structure):
    return tests.loc[tests["structure"] == structure].set_index("method")["corrected_p"].to_dict()


@pytest.mark.parametrize("correction", ["holm", "bh", "none"])
def test_the_averages_of_all_methods_are_one_family(correction):
    p = {"random": 0.01, "simclr": 0.03, "byol": 0.04}
    tests = with_families(frame_of({m: {AVERAGE: q} for m, q in p.items()}), list(p), correction=correction)
    assert list(corrected(tests, AVERAGE).values()) == pytest.approx(correct_p_values(list(p.values()), correction))
    marked = {"holm": ["random"], "bh": ["random", "simclr", "byol"], "none": ["random", "simclr", "byol"]}[correction]
    assert tests.loc[tests["confirmed"], "method"].tolist() == marked


def test_the_structures_of_all_methods_are_one_family_behind_their_averages():
    p = {
        "random": {AVERAGE: 0.001, "Liver": 0.012, "Kidney": 0.02},
        "simclr": {AVERAGE: 0.4, "Liver": 0.0001, "Kidney": 0.9},
    }
    tests = with_families(frame_of(p), list(p))
    second = [p[m][s] for m in p for s in STRUCTURES]
    both = tests[tests["structure"] != AVERAGE]
    assert both["corrected_p"].tolist() == pytest.approx(correct_p_values(second))
    # 0.012 is the second smallest of four, 0.02 the third: 0.036 and 0.04. Alone, random's would be 0.024 and 0.024.
    assert both.loc[both["method"] == "random", "corrected_p"].tolist() == pytest.approx([0.036, 0.04])
    assert both.loc[both["confirmed"], ["method", "structure"]].to_numpy().tolist() == [
        ["random", "Liver"],
        ["random", "Kidney"],
    ]  # simclr's liver has the smallest p of all, but its average carries no mark
