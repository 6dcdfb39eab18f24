"""Reading two views' feature maps at the same places of the slice, and PGL's and BYOL's loss on what was read.

Source: Xie et al. 2020, "PGL: Prior-guided local self-supervised learning for 3D medical image segmentation" (in two
dimensions here); Grill et al. 2020 (BYOL). A view is an affine map from its pixels to the slice, see `geometry`.

Shape letters: B images, C channels, h map rows, w map columns, Q points, D length of a vector.
`side` is that of a view in pixels, and a cell is one entry of a feature map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import roi_align

from pixelglobal.views.geometry import pixel_centers, to_view

SAMPLES = 2  # reads of a cell along each axis, their mean is its value


def common_rectangle(
    maps_1: Float[Tensor, "B 2 3"], maps_2: Float[Tensor, "B 2 3"], side: int, height: int, width: int
) -> Float[Tensor, "B 4"]:
    """The upright rectangle (x0, y0, x1, y1) of the slice, in source pixels, that both views reach into.

    Without rotation it is exactly what both views show. Where they share nothing, x1 <= x0 or y1 <= y0.
    """
    (low_1, high_1), (low_2, high_2) = _reach(maps_1, side), _reach(maps_2, side)
    low, high = torch.maximum(low_1, low_2), torch.minimum(high_1, high_2)
    x1, y1 = high[:, 0].clamp_max(width), high[:, 1].clamp_max(height)
    return torch.cat([low.clamp_min(0), torch.stack([x1, y1], -1)], -1)


def _reach(maps: Float[Tensor, "B 2 3"], side: int) -> tuple[Float[Tensor, "B 2"], Float[Tensor, "B 2"]]:
    """The least and the greatest source coordinates (x, y) of a view's corners."""
    edges = maps[:, :, :2] * side  # columns: along the rows and the columns of the view
    return maps[:, :, 2] + edges.clamp_max(0).sum(-1), maps[:, :, 2] + edges.clamp_min(0).sum(-1)


def spans_a_cell(
    maps: Float[Tensor, "B 2 3"], rectangle: Float[Tensor, "B 4"], cell_pixels: float
) -> Bool[Tensor, " B"]:
    """Whether a rectangle of the slice is at least one feature cell of a view wide and high.

    cell_pixels: the side of a feature cell, in pixels of the view.
    """
    scale: Tensor = maps[:, :, 0].norm(dim=-1, keepdim=True)  # source pixels per view pixel
    side_pixels = (rectangle[:, 2:] - rectangle[:, :2]) / scale
    return (side_pixels >= cell_pixels - 1e-6).all(-1)


def grid_of(rectangle: Float[Tensor, "B 4"], cells: int) -> Float[Tensor, "B {cells}*{cells} 2"]:
    """The centres of a regular grid over rectangles, row by row, in source pixels."""
    unit = pixel_centers(cells, rectangle) / cells
    return rectangle[:, None, :2] + unit * (rectangle[:, None, 2:] - rectangle[:, None, :2])


def sees(maps: Float[Tensor, "B 2 3"], points: Float[Tensor, "B Q 2"], side: int) -> Bool[Tensor, "B Q"]:
    """Whether source points lie inside a view."""
    at = to_view(maps, points)
    return ((at >= 0) & (at <= side)).all(-1)


def read_points(
    features: Float[Tensor, "B C h h"], maps: Float[Tensor, "B 2 3"], points: Float[Tensor, "B Q 2"], side: int
) -> Float[Tensor, "B C Q"]:
    """A view's feature map, read at source points by bilinear interpolation.

    Beyond the centres of the outermost cells the map is continued by their values.
    """
    grid = (2 * to_view(maps, points) / side - 1).to(features.dtype)
    read = F.grid_sample(features, grid.unsqueeze(2), mode="bilinear", padding_mode="border", align_corners=False)
    return read.squeeze(-1)


def align_by_sampling(
    features: Float[Tensor, "B C h h"],
    maps: Float[Tensor, "B 2 3"],
    rectangle: Float[Tensor, "B 4"],
    side: int,
    cells: int,
) -> Float[Tensor, "B C {cells} {cells}"]:
    """A view's feature map over a rectangle of the slice, upright as the slice is.

    Right for every affine view, rotated ones too.
    """
    fine = cells * SAMPLES
    read = read_points(features, maps, grid_of(rectangle, fine), side)
    return F.avg_pool2d(read.view(*read.shape[:2], fine, fine), SAMPLES)


def align_by_roi(
    features: Float[Tensor, "B C h h"],
    maps: Float[Tensor, "B 2 3"],
    rectangle: Float[Tensor, "B 4"],
    side: int,
    cells: int,
) -> Float[Tensor, "B C {cells} {cells}"]:
    """The same by ROI-align, as PGL does it, for views that are not rotated.

    ROI-align reads a mirrored box as if it were not, so flips are undone afterwards.
    """
    ends = to_view(maps, rectangle.view(-1, 2, 2))
    boxes = torch.cat([ends.amin(1), ends.amax(1)], -1).to(features.dtype)
    index = torch.arange(len(features), device=features.device, dtype=features.dtype)
    read = roi_align(
        features,
        torch.cat([index[:, None], boxes], -1),
        output_size=cells,
        spatial_scale=features.shape[-1] / side,
        sampling_ratio=SAMPLES,
        aligned=True,
    )
    across, down = (maps[:, 0, 0] < 0), (maps[:, 1, 1] < 0)
    read = torch.where(across[:, None, None, None], read.flip(-1), read)
    return torch.where(down[:, None, None, None], read.flip(-2), read)


def direction_distance(
    prediction: Float[Tensor, "*shape D"], target: Float[Tensor, "*shape D"]
) -> Float[Tensor, "*shape"]:
    """BYOL's squared distance between the directions of vectors: 2 - 2 cosine, in [0, 4]."""
    return 2 - 2 * F.cosine_similarity(prediction.float(), target.float(), dim=-1)


def aligned_loss(
    prediction: Float[Tensor, "B D h w"], target: Float[Tensor, "B D h w"], counts: Bool[Tensor, "B h w"]
) -> Float[Tensor, ""]:
    """PGL's loss in one direction: the mean over an image's cells, then over the images that have one.

    prediction, target: aligned maps; counts: the cells that both views see.
    """
    distance = direction_distance(prediction.movedim(1, -1), target.movedim(1, -1)) * counts
    cells_B = counts.sum((1, 2))
    return (distance.sum((1, 2)) / cells_B.clamp_min(1)).sum() / (cells_B > 0).sum().clamp_min(1)
