"""The libraries people know agree where their definitions are ours; needs the extra: pip install '.[bench]'."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from pixelglobal.evaluation.metrics import dice, hausdorff_mm

monai = pytest.importorskip("monai.metrics", reason="monai comes with the extra: pip install '.[bench]'")
surface_distance = pytest.importorskip("surface_distance", reason="comes with the extra: pip install '.[bench]'")

flat = st_np.arrays(bool, (9, 11), elements=st.booleans())
deep = st_np.arrays(bool, (3, 5, 6), elements=st.booleans())


def by_monai(a, b, spacing, percentile):
    pair = (torch.from_numpy(mask)[None, None] for mask in (a, b))
    return float(
        monai.compute_hausdorff_distance(*pair, include_background=True, percentile=percentile, spacing=list(spacing))
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("percentile", [None, 95])
@given(flat, flat)
@settings(max_examples=60, deadline=None)
def test_distances_are_monai_s(percentile, a, b):
    if a.any() and b.any():
        ours = hausdorff_mm(a, b, (3.0, 0.5), percentile or 100)
        assert ours == pytest.approx(by_monai(a, b, (3.0, 0.5), percentile), rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(deep, deep)
@settings(max_examples=40, deadline=None)
def test_distances_in_three_dimensions_are_monai_s(a, b):
    if a.any() and b.any():
        spacing = (3.0, 0.5, 0.7)
        assert hausdorff_mm(a, b, spacing, 95) == pytest.approx(by_monai(a, b, spacing, 95), rel=1e-5)


@given(flat, flat)
@settings(max_examples=60, deadline=None)
def test_dice_is_that_of_surface_distance(a, b):
    if a.any() or b.any():  # version 0.1 fails on two empty masks with today's NumPy
        np.testing.assert_equal(dice(a, b), float(surface_distance.compute_dice_coefficient(a, b)))


def test_distances_of_smooth_organs_are_near_those_of_surface_distance():
    """Its surface runs between pixels and is weighted by area: on a smooth organ that is less than a pixel apart."""
    y, x = np.mgrid[:64, :64]
    a = (y - 30) ** 2 + (x - 30) ** 2 <= 15**2
    b = (y - 32) ** 2 / 0.8 + (x - 31) ** 2 <= 15**2
    theirs = surface_distance.compute_robust_hausdorff(surface_distance.compute_surface_distances(a, b, (1.0, 1.0)), 95)
    assert hausdorff_mm(a, b, (1.0, 1.0), 95) == pytest.approx(theirs, abs=1.0)
