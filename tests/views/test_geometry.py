"""Matched pixels show the same anatomy: through crops, zooms, rotations and both flips."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelglobal.views.geometry import read_view, to_source, to_view, twin_table, view_map

SIDE, SIZE = 24, 40


def one_map(cx=SIZE / 2, cy=SIZE / 2, scale=1.0, degrees=0.0, horizontal=False, vertical=False, side=SIDE):
    return view_map(
        torch.tensor([[cx, cy]], dtype=torch.float64),
        torch.tensor([scale], dtype=torch.float64),
        torch.tensor([math.radians(degrees)], dtype=torch.float64),
        torch.tensor([horizontal]),
        torch.tensor([vertical]),
        side,
    )


a_map = st.builds(
    one_map,
    cx=st.floats(12, 28),
    cy=st.floats(12, 28),
    scale=st.floats(0.7, 1.5),
    degrees=st.floats(-180, 180),
    horizontal=st.booleans(),
    vertical=st.booleans(),
)


def slow_table(map_1, map_2, side, height, width):
    """The dictionary as the paper describes it: follow each pixel of view 1 into the slice, then into view 2."""
    table = []
    (a, b, tx), (c, d, ty) = map_1[0].tolist()
    (e, f, ux), (g, h, uy) = map_2[0].tolist()
    determinant = e * h - f * g
    for row in range(side):
        for column in range(side):
            x, y = column + 0.5, row + 0.5
            sx, sy = a * x + b * y + tx, c * x + d * y + ty
            dx, dy = sx - ux, sy - uy
            x2, y2 = (h * dx - f * dy) / determinant, (-g * dx + e * dy) / determinant
            i, j = math.floor(x2 + 1e-6), math.floor(y2 + 1e-6)
            known = 0 <= sx < width and 0 <= sy < height and 0 <= i < side and 0 <= j < side
            table.append(j * side + i if known else -1)
    return table


@given(a_map, a_map)
@settings(max_examples=60, deadline=None)
def test_the_closed_form_equals_the_slow_loop(map_1, map_2):
    assert twin_table(map_1, map_2, SIDE, SIZE, SIZE)[0].tolist() == slow_table(map_1, map_2, SIDE, SIZE, SIZE)


@pytest.mark.parametrize(("height", "width"), [(30, 52), (52, 30)])
@given(map_1=a_map, map_2=a_map)
@settings(max_examples=20, deadline=None)
def test_a_slice_need_not_be_square(map_1, map_2, height, width):
    table = twin_table(map_1, map_2, SIDE, height, width)[0].tolist()
    assert table == slow_table(map_1, map_2, SIDE, height, width)


@given(a_map, a_map)
@settings(max_examples=60, deadline=None)
def test_twins_carry_the_same_source_address_to_half_a_pixel(map_1, map_2):
    """A slice in which every pixel holds its own address, read by both views: twins hold the same address."""
    line = torch.arange(SIZE, dtype=torch.float64) + 0.5
    ruler = torch.stack(torch.meshgrid(line, line, indexing="ij")).flip(0)[None]  # channels x, y
    inside = torch.ones(1, 1, SIZE, SIZE, dtype=torch.float64)
    read = [read_view(torch.cat([ruler, inside], 1), m, SIDE).flatten(2)[0] for m in (map_1, map_2)]
    table = twin_table(map_1, map_2, SIDE, SIZE, SIZE)[0]
    matched = (table >= 0).nonzero().squeeze(1)
    here, there = read[0][:, matched], read[1][:, table[matched]]
    whole = (here[2] > 0.999) & (there[2] > 0.999)  # away from the border, where air is mixed in
    pixel_of_view_2 = map_2[0, :, :2].abs().sum(1)  # how far half a pixel of view 2 reaches in the slice, per axis
    assert ((here[:2] - there[:2]).abs() <= 0.5 * pixel_of_view_2[:, None] + 1e-4)[:, whole].all()


def test_equal_views_are_their_own_twins():
    m = one_map(scale=1.2, degrees=7, cx=19)
    table = twin_table(m, m, SIDE, 100, 100)
    inside = table[0] >= 0
    assert inside.float().mean() > 0.95
    assert (table[0][inside] == torch.arange(SIDE * SIDE)[inside]).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"horizontal": True}, lambda i: i.flip(1)),
        ({"vertical": True}, lambda i: i.flip(0)),
        ({"degrees": 180.0}, lambda i: i.flip(0, 1)),
        # The camera of view 2 is turned by +90 degrees, so what view 1 shows at (row, column) it shows turned back.
        ({"degrees": 90.0}, lambda i: torch.rot90(i, -1)),
    ],
)
def test_flips_and_quarter_turns_are_exact(change, expected):
    index = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    table = twin_table(one_map(), one_map(**change), SIDE, SIZE, SIZE).view(SIDE, SIDE)
    assert (table == expected(index)).all()


def test_disjoint_crops_have_no_twins():
    table = twin_table(one_map(cx=12, cy=12), one_map(cx=60, cy=12), SIDE, 80, 80)
    assert (table == -1).all()


def test_padding_has_no_twins():
    """A view that looks past the border of the slice sees air there, which is not anatomy."""
    m = one_map(cx=0)
    table = twin_table(m, m, SIDE, SIZE, SIZE).view(SIDE, SIDE)
    assert (table[:, : SIDE // 2] == -1).all()
    assert (table[:, SIDE // 2 :] >= 0).all()


@given(a_map)
@settings(max_examples=30, deadline=None)
def test_view_and_source_coordinates_invert_each_other(m):
    points = torch.rand(1, 50, 2, dtype=torch.float64) * SIDE
    torch.testing.assert_close(to_view(m, to_source(m, points)), points, atol=1e-9, rtol=0)


def test_an_unmoved_view_is_the_slice_itself():
    image = torch.randn(1, 1, SIZE, SIZE, dtype=torch.float64)
    torch.testing.assert_close(read_view(image, one_map(side=SIZE), SIZE), image)
