"""Metrics: answers worked out by hand, a brute-force twin, and the laws a distance must keep."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from pixelglobal.data.volumes import UNKNOWN_LABEL
from pixelglobal.evaluation.metrics import contour_points, dice, hausdorff_mm, score_case, surface_dice

SPACING = (3.0, 0.5)


def dot(*place, shape=(8, 9)):
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


masks = st_np.arrays(bool, (7, 8), elements=st.booleans())
volumes = st_np.arrays(bool, (3, 4, 5), elements=st.booleans())


def slow_distances(a, b, spacing):
    """From the definition: contour by face neighbours, outside is background, nearest by looking at all."""

    def contour(mask):
        points = []
        for place in np.ndindex(mask.shape):
            if not mask[place]:
                continue
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    there = list(place)
                    there[axis] += step
                    if not 0 <= there[axis] < mask.shape[axis] or not mask[tuple(there)]:
                        points.append(tuple(p * s for p, s in zip(place, spacing, strict=True)))
        return sorted(set(points))

    one, two = contour(a), contour(b)
    return [[min(math.dist(p, q) for q in y) for p in x] for x, y in ((one, two), (two, one))]


def test_units_and_axes():
    assert hausdorff_mm(dot(1, 1), dot(1, 4), SPACING) == 1.5
    assert hausdorff_mm(dot(1, 1), dot(4, 1), SPACING) == 9.0
    assert hausdorff_mm(dot(1, 1), dot(4, 7), SPACING) == pytest.approx(math.hypot(9, 3))


def test_a_square_has_no_contour_inside():
    square = np.zeros((5, 5), bool)
    square[1:4, 1:4] = True
    assert len(contour_points(square)) == 8
    assert len(contour_points(np.ones((4, 4), bool))) == 12  # outside the image is background
    assert len(contour_points(np.ones((3, 3, 3), bool))) == 26


def test_the_policy_for_empty_masks():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(hausdorff_mm(empty, empty, (1, 1)))
    assert math.isnan(surface_dice(empty, empty, (1, 1), 1))
    for a, b in ((empty, full), (full, empty)):
        assert dice(a, b) == 0
        assert surface_dice(a, b, (1, 1), 99) == 0
        assert hausdorff_mm(a, b, (1, 1)) == hausdorff_mm(a, b, (1, 1), 95) == math.inf


@given(masks, masks)
@settings(max_examples=150, deadline=None)
def test_against_the_brute_force_twin(a, b):
    if not a.any() or not b.any():
        return
    there, back = slow_distances(a, b, SPACING)
    assert hausdorff_mm(a, b, SPACING) == pytest.approx(max(*there, *back))
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert hausdorff_mm(a, b, SPACING, 95) == pytest.approx(expected)
    near = sum(d <= 1.0 for d in there + back) / len(there + back)
    assert surface_dice(a, b, SPACING, 1.0) == pytest.approx(near)


@given(volumes, volumes)
@settings(max_examples=60, deadline=None)
def test_three_dimensions_against_the_twin(a, b):
    if a.any() and b.any():
        there, back = slow_distances(a, b, (3.0, 0.5, 2.0))
        assert hausdorff_mm(a, b, (3.0, 0.5, 2.0)) == pytest.approx(max(*there, *back))


@given(masks, masks, st.floats(0.1, 10), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_laws(a, b, factor, down, right):
    moved = [np.pad(m, ((down, 3 - down), (right, 3 - right))) for m in (a, b)]
    base = np.pad(a, ((0, 3), (0, 3))), np.pad(b, ((0, 3), (0, 3)))
    for metric in (dice, lambda x, y: hausdorff_mm(x, y, SPACING), lambda x, y: surface_dice(x, y, SPACING, 1.0)):
        np.testing.assert_allclose(metric(a, b), metric(b, a))  # symmetry; NaN equals NaN here
        np.testing.assert_allclose(metric(*base), metric(*moved))  # translation
    whole, part = hausdorff_mm(a, b, SPACING), hausdorff_mm(a, b, SPACING, 95)
    assert math.isnan(whole) or part <= whole
    scaled = hausdorff_mm(a, b, tuple(s * factor for s in SPACING))
    np.testing.assert_allclose(scaled, whole * factor, rtol=1e-9)
    if a.any():
        assert dice(a, a) == surface_dice(a, a, SPACING, 0.0) == 1
        assert hausdorff_mm(a, a, SPACING) == 0


def test_a_case_has_rows_for_slices_with_something_and_one_for_the_volume():
    reference, predicted = np.zeros((4, 6, 6), np.uint8), np.zeros((4, 6, 6), np.uint8)
    reference[1, 2:4, 2:4], predicted[1, 2:4, 2:5], predicted[2, 0, 0] = 1, 1, 1
    reference[0, 5, 5] = 2
    rows = score_case(predicted, reference, (3, 1, 1), ["A", "B", "C"], contoured=[True, True, False])
    table = {(r["structure"], r["slice_index"]): r for r in rows}
    assert set(table) == {("A", 1), ("A", 2), ("B", 0), ("A", -1), ("B", -1), ("C", -1)}
    assert table["A", 1]["dice"] == pytest.approx(2 * 4 / 10)
    assert table["A", 1]["hausdorff_mm"] == 1
    assert table["A", 2]["dice"] == 0
    assert table["A", 2]["hausdorff_mm"] == math.inf
    assert table["A", -1]["dice"] == pytest.approx(2 * 4 / 11)
    assert table["B", -1]["hausdorff_mm"] == math.inf
    assert table["C", -1]["contoured"] is False
    assert math.isnan(table["C", -1]["dice"])
    assert table["A", -1]["diagonal_mm"] == pytest.approx(math.sqrt(12**2 + 6**2 + 6**2))


def test_what_is_predicted_where_nothing_is_known_counts_for_nothing():
    reference = np.zeros((2, 8, 8), np.uint8)
    reference[:, 1:4, 1:4], reference[:, 5:, :] = 1, UNKNOWN_LABEL
    predicted = np.where(reference == UNKNOWN_LABEL, 1, reference).astype(np.uint8)
    [*_, whole] = score_case(predicted, reference, (3.0, 1.0, 1.0), ["Liver"])
    assert (whole["dice"], whole["hausdorff_mm"], whole["n_predicted"]) == (1.0, 0.0, 18)
    predicted[:, 4, :] = 1
    assert score_case(predicted, reference, (3.0, 1.0, 1.0), ["Liver"])[-1]["dice"] < 1


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"\(2, 2\) and reference \(3, 3\) must have one shape"):
        dice(np.ones((2, 2), bool), np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="masks must be boolean, not uint8"):
        dice(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8))
    with pytest.raises(ValueError, match="has 3 values for a 2-dimensional mask"):
        hausdorff_mm(dot(1, 1), dot(1, 1), (1, 1, 1))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_case_scores_as_its_whole_masks_do(seed):
    """Scoring crops to each structure; the answers are those of the uncropped masks."""
    rng = np.random.default_rng(seed)
    reference, predicted = (rng.integers(0, 4, (4, 9, 8)) * (rng.random((4, 9, 8)) < 0.15) for _ in range(2))
    spacing = (3.0, 0.5, 0.7)
    for row in score_case(predicted, reference, spacing, ["A", "B", "C"], tolerance_mm=1.0):
        label, index = "ABC".index(row["structure"]) + 1, row["slice_index"]
        a, b = (v == label for v in ((predicted, reference) if index < 0 else (predicted[index], reference[index])))
        mm = spacing if index < 0 else spacing[1:]
        for name, value in (
            ("dice", dice(a, b)),
            ("hausdorff_mm", hausdorff_mm(a, b, mm)),
            ("hausdorff95_mm", hausdorff_mm(a, b, mm, 95)),
            ("surface_dice", surface_dice(a, b, mm, 1.0)),
        ):
            np.testing.assert_equal(row[name], value)
        assert row["diagonal_mm"] == pytest.approx(math.dist(np.multiply(a.shape, mm), np.zeros(a.ndim)))


@given(masks, masks)
@settings(max_examples=50, deadline=None)
def test_the_tree_and_all_pairs_agree(a, b):
    import pixelglobal.evaluation.metrics as module

    one = hausdorff_mm(a, b, SPACING, 95)
    limit, module.ALL_PAIRS_UP_TO = module.ALL_PAIRS_UP_TO, 0
    try:
        np.testing.assert_allclose(hausdorff_mm(a, b, SPACING, 95), one, rtol=1e-12)
    finally:
        module.ALL_PAIRS_UP_TO = limit
