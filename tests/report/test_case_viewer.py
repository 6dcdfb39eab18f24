"""The case viewer's data: outlines are exact, the rule finds what it says, and nine methods fit into 3 MB."""

import re

import numpy as np
import pytest

from experiments.report.case_viewer import choose_cases, svg_path
from tests.support import rows_of


def filled(path, shape):
    """The mask inside SVG paths by the even-odd rule, read at the centres of pixels."""
    from matplotlib.path import Path

    inside = np.zeros(shape, int)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.column_stack([2 * x.ravel() + 1, 2 * y.ravel() + 1])
    for part in path.split("M")[1:]:
        start, *moves = re.findall(r"-?\d+ -?\d+", part)
        corners = np.cumsum([np.array(list(map(int, pair.split()))) for pair in (start, *moves)], axis=0)
        inside += Path(corners).contains_points(centres).reshape(shape)
    return inside % 2 == 1


def test_an_outline_has_exactly_the_pixels_of_its_mask():
    rng = np.random.default_rng(0)
    for _ in range(20):
        coarse = rng.random((6, 8)) < 0.5
        mask = np.kron(coarse, np.ones((3, 3), bool)).astype(bool)
        mask[0] = True  # touches the edge of the picture
        assert (filled(svg_path(mask), mask.shape) == mask).all()
    assert svg_path(np.zeros((4, 4), bool)) == ""


def test_the_rule_finds_the_worst_the_median_the_best_and_every_miss():
    dice = {"random": lambda seed, i, s: 0.5, "full": lambda seed, i, s: 0.5 + 0.01 * (i - 3)}
    rows = rows_of(dice, seeds=(0, 1), slices=0)
    rows["case"] = "c" + rows["patient"].str[1:]
    missed = (rows["case"] == "c1") & (rows["structure"] == "B") & (rows["seed"] == 1)  # by both methods
    rows.loc[missed, "dice"] = 0.0
    choices, rule = choose_cases(rows, "full", "random")
    assert {choice.case: choice.why for choice in choices} == {
        "c0": "worst gain", "c3": "median gain", "c7": "best gain", "c1": "B missed in 2 runs"}  # fmt: skip
    assert "the worst, the median and the best case" in rule
    assert choices[0].gain == pytest.approx(-3.0)
