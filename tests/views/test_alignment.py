"""Two views' maps are read at the same places: coordinate images through flips, scales and rotation; BYOL's loss."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from pixelglobal.views.alignment import (
    align_by_roi,
    align_by_sampling,
    aligned_loss,
    common_rectangle,
    direction_distance,
    grid_of,
    read_points,
    sees,
    spans_a_cell,
)
from pixelglobal.views.geometry import read_view, to_source, to_view, view_map

SIDE, CELLS, SOURCE = 64, 8, 96
CELL = SIDE // CELLS


def a_map(center, scale, degrees=0.0, across=False, down=False):
    """One view as a map [1, 2, 3]."""
    return view_map(
        torch.tensor([center], dtype=torch.float64),
        torch.tensor([scale], dtype=torch.float64),
        torch.tensor([math.radians(degrees)], dtype=torch.float64),
        torch.tensor([across]),
        torch.tensor([down]),
        SIDE,
    )


def coordinate_features(maps):
    """The map of an encoder that says where it looks: each cell holds the mean source (x, y) of its pixels."""
    line = torch.arange(SOURCE, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    view = read_view(torch.stack([x, y])[None], maps, SIDE)
    return F.avg_pool2d(view, CELL)


def not_at_the_border(maps, rectangle):
    """Cells whose reads lie between centres of feature cells, where the map need not be continued."""
    fine = to_view(maps, grid_of(rectangle, 2 * CELLS))
    between = ((fine >= CELL / 2) & (fine <= SIDE - CELL / 2)).all(-1).view(-1, 1, 2 * CELLS, 2 * CELLS)
    return F.max_pool2d((~between).double(), 2) == 0


def cells_apart(read_1, read_2, maps):
    """Distance of two coordinate maps in feature cells of a view."""
    return (read_1 - read_2).norm(dim=1) / (maps[0, :, 0].norm() * CELL)


VIEWS = [
    ((48.0, 48.0), 1.2, (False, False)),
    ((44.0, 52.0), 1.0, (True, False)),
    ((51.0, 45.0), 1.3, (False, True)),
    ((46.0, 47.0), 1.1, (True, True)),
]


@pytest.mark.parametrize(("first", "second"), list(product(VIEWS, VIEWS)))
def test_roi_alignment_shows_the_same_place_through_crops_scales_and_flips(first, second):
    maps_1, maps_2 = (a_map(c, s, 0.0, *flips) for c, s, flips in (first, second))
    rectangle = common_rectangle(maps_1, maps_2, SIDE, SOURCE, SOURCE)
    here, there = (align_by_roi(coordinate_features(m), m, rectangle, SIDE, CELLS) for m in (maps_1, maps_2))
    inner = (not_at_the_border(maps_1, rectangle) & not_at_the_border(maps_2, rectangle))[:, 0]
    assert inner.float().mean() > 0.2
    assert cells_apart(here, there, maps_1)[inner].max() < 0.05
    truth = grid_of(rectangle, CELLS).mT.view(1, 2, CELLS, CELLS)
    assert cells_apart(here, truth, maps_1)[inner].max() < 0.05  # upright as the slice is, too


@pytest.mark.parametrize("degrees", [(15.0, -10.0), (0.0, 14.0), (-7.0, 3.0)])
@pytest.mark.parametrize(("first", "second"), list(product(VIEWS[:2], VIEWS[2:])))
def test_alignment_by_sampling_shows_the_same_place_through_rotation_too(first, second, degrees):
    maps_1, maps_2 = (a_map(c, s, d, *f) for (c, s, f), d in zip((first, second), degrees, strict=True))
    rectangle = common_rectangle(maps_1, maps_2, SIDE, SOURCE, SOURCE)
    here, there = (align_by_sampling(coordinate_features(m), m, rectangle, SIDE, CELLS) for m in (maps_1, maps_2))
    inner = (not_at_the_border(maps_1, rectangle) & not_at_the_border(maps_2, rectangle))[:, 0]
    # What a rotated view shows beyond the slice is air, not a coordinate.
    inner &= not_in_the_air(maps_1, rectangle) & not_in_the_air(maps_2, rectangle)
    assert inner.float().mean() > 0.15
    assert cells_apart(here, there, maps_1)[inner].max() < 0.05


def not_in_the_air(maps, rectangle):
    """Cells whose reads use only feature cells that lie inside the slice."""
    line = torch.arange(SIDE, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    source = to_source(maps, torch.stack([x, y], -1).view(-1, 2))
    air = ((source < 1) | (source > SOURCE - 1)).any(-1).double().view(1, 1, SIDE, SIDE)
    return align_by_sampling(F.max_pool2d(air, CELL), maps, rectangle, SIDE, CELLS)[:, 0] == 0


def test_without_rotation_both_ways_of_aligning_agree():
    for c, s, flips in VIEWS:
        maps, other = a_map(c, s, 0.0, *flips), a_map((40.0, 50.0), 1.2)
        features = torch.randn(1, 3, CELLS, CELLS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rectangle = common_rectangle(maps, other, SIDE, SOURCE, SOURCE)
        torch.testing.assert_close(
            align_by_roi(features, maps, rectangle, SIDE, CELLS),
            align_by_sampling(features, maps, rectangle, SIDE, CELLS),
        )


def test_the_common_rectangle_by_hand():
    left, right = a_map((40.0, 48.0), 1.0), a_map((60.0, 50.0), 1.0)  # x 8..72 and 28..92, y 16..80 and 18..82
    assert common_rectangle(left, right, SIDE, SOURCE, SOURCE).tolist() == [[28.0, 18.0, 72.0, 80.0]]
    beyond = a_map((90.0, 50.0), 1.0)  # x 58..122, of which the slice has 96
    assert common_rectangle(right, beyond, SIDE, SOURCE, SOURCE).tolist() == [[58.0, 18.0, 92.0, 82.0]]
    assert common_rectangle(beyond, beyond, SIDE, SOURCE, SOURCE).tolist() == [[58.0, 18.0, 96.0, 82.0]]
    flipped = a_map((40.0, 48.0), 1.0, 0.0, True, True)
    assert torch.equal(
        common_rectangle(flipped, right, SIDE, SOURCE, SOURCE), common_rectangle(left, right, SIDE, SOURCE, SOURCE)
    )


def test_an_overlap_thinner_than_a_cell_is_named():
    maps = a_map((48.0, 48.0), 2.0)  # a cell of 8 pixels is 16 source pixels
    rectangle = torch.tensor([[0, 0, 16, 40], [0, 0, 15, 40], [10, 10, 5, 40]], dtype=torch.float64)
    assert spans_a_cell(maps.expand(3, -1, -1), rectangle, CELL).tolist() == [True, False, False]


def test_a_view_sees_what_it_shows():
    maps = a_map((40.0, 48.0), 1.0)
    points = torch.tensor([[[8.5, 16.5], [7.5, 20.0], [71.5, 79.5], [40.0, 81.0]]], dtype=torch.float64)
    assert sees(maps, points, SIDE).tolist() == [[True, False, True, False]]


def test_points_are_read_where_they_are():
    maps = a_map((48.0, 48.0), 1.1, 12.0, True)
    points = torch.tensor([[[40.0, 52.0], [55.0, 45.0]]], dtype=torch.float64)
    read = read_points(coordinate_features(maps), maps, points, SIDE)
    torch.testing.assert_close(read, points.mT, atol=1e-6, rtol=0)


def slow_direction(p, z):
    dot = sum(a * b for a, b in zip(p, z, strict=True))
    p_norm, z_norm = (math.sqrt(sum(a * a for a in v)) for v in (p, z))
    return sum((a / p_norm - b / z_norm) ** 2 for a, b in zip(p, z, strict=True)), 2 - 2 * dot / p_norm / z_norm


def test_aligned_loss_against_the_definition():
    g = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(3, 5, 2, 2, generator=g, dtype=torch.float64) for _ in range(2))
    counts = torch.tensor([[[1, 1], [0, 1]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.bool)
    images = []
    for n in range(3):
        cells = [
            slow_direction(prediction[n, :, i, j].tolist(), target[n, :, i, j].tolist())[0]
            for i, j in product(range(2), range(2))
            if counts[n, i, j]
        ]
        if cells:
            images.append(sum(cells) / len(cells))
    assert aligned_loss(prediction, target, counts).item() == pytest.approx(sum(images) / len(images), abs=1e-5)
    assert aligned_loss(prediction, target, torch.zeros_like(counts)).item() == 0


def test_the_distance_of_directions_is_lightly_s_cosine():
    loss = pytest.importorskip("lightly.loss", reason="lightly comes with the extra: pip install '.[bench]'")
    g = torch.Generator().manual_seed(1)
    p, z = (torch.randn(6, 9, generator=g) for _ in range(2))
    assert direction_distance(p, z).mean().item() == pytest.approx(
        2 + 2 * loss.NegativeCosineSimilarity()(p, z).item(), abs=1e-5
    )
